"""Work on several threads whose results come back in order, so that nothing depends on timing."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def n_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], n_threads: int
) -> Generator[Result, None, None]:
    """Yield `function` of each item in order, at most `n_threads` at work, and no more than there are cores.

    Closing the generator (or an exception) drops what has not begun and waits for what has.
    """
    n_threads = min(n_threads, n_cores())
    if n_threads == 1:
        yield from map(function, items)
        return
    remaining = iter(items)
    ahead: deque[Future[Result]] = deque()
    executor = ThreadPoolExecutor(n_threads, thread_name_prefix="mlpipe-fit")
    try:
        for item in remaining:
            ahead.append(executor.submit(function, item))
            if len(ahead) == n_threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        for future in ahead:
            future.cancel()
        wait(ahead)
        executor.shutdown()
