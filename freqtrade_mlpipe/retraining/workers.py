"""Who evaluates the epochs: this process, or several on this machine, one thread each."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from freqtrade_mlpipe.exceptions import ConfigError, MissingExtraError
from freqtrade_mlpipe.retraining.epochs import Epoch
from freqtrade_mlpipe.retraining.spaces import Params
from freqtrade_mlpipe.tuning import n_cores

Evaluate = Callable[[int, Params], Epoch]
_WATCH_SECONDS = 1.0
_CONNECT_SECONDS, _RETRIES = 10, 3
_LIBRARIES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_ONE_THREAD = {**dict.fromkeys(_LIBRARIES, "1"), "OMP_WAIT_POLICY": "passive"}


@dataclass(frozen=True)
class Inline:
    """This process, one epoch after the other."""

    evaluate: Evaluate

    def submit(self, number: int, params: Params) -> Future[Epoch]:
        """The epoch, evaluated."""
        future: Future[Epoch] = Future()
        future.set_result(self.evaluate(number, params))
        return future


@dataclass(frozen=True)
class Remote:
    """Whatever runs ``function(job, number, params)`` elsewhere: processes of a pool, or a cluster's.

    `function` is found by its name there, and `job` says which rehearsal is meant; both are pickled.
    """

    executor: Executor
    function: Callable[[Any, int, Params], Epoch]
    job: Any

    def submit(self, number: int, params: Params) -> Future[Epoch]:
        """The epoch, some time later."""
        return self.executor.submit(self.function, self.job, number, params)


@contextmanager
def processes(n: int) -> Iterator[Executor]:
    """A pool of `n` processes that never outlives this one: not after an error, Ctrl-C, or kill -9."""
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(_ONE_THREAD)  # read when a library is first loaded, so by the new processes
    pool = ProcessPoolExecutor(
        n,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_join_in,
        initargs=(os.getpid(),),
    )
    try:
        yield pool
        pool.shutdown()
    except BaseException:
        _end(pool)
        raise
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextmanager
def cluster(address: str) -> Iterator[Executor]:
    """The workers of a Dask cluster; what a killed one was at goes to another.

    Parameters
    ----------
    address : of the scheduler, ``tcp://host:8786`` or ``tls://…``.

    Raises
    ------
    MissingExtraError
        Without Dask.
    ConfigError
        When no scheduler answers there, or it wants certificates.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise MissingExtraError("dask.distributed", "dask") from error
    try:
        client = Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
    except TypeError as error:  # of tls://, when no file of Dask's configuration names certificates
        raise ConfigError(
            f"{address} wants certificates: let DASK_CONFIG name the file that says where they are ({error})."
        ) from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"No Dask scheduler answers at {address}: {error}.") from error
    with client:
        yield client.get_executor(pure=False, retries=_RETRIES)


def n_workers(asked: int) -> int:
    """Processes that freqtrade's `-j` asks for: -1 all cores, -2 all but one.

    Examples
    --------
    >>> n_workers(3), n_workers(-1) >= 1
    (3, True)
    """
    return asked if asked > 0 else max(1, n_cores() + 1 + asked)


def _end(pool: ProcessPoolExecutor) -> None:
    """What is begun is not waited for: it will be repeated."""
    workers = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for worker in workers:
        worker.kill()


def _join_in(parent: int) -> None:
    """Ctrl-C in a terminal reaches every process of the group; the one that asked for the work decides."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()


def _leave_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os._exit(1)
