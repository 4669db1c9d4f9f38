"""The thread in which a bot's models ask the registry."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from freqtrade_mlpipe.integration.poll import ModelPoll

_STOP_SECONDS = 2.0


class Polling:
    """Lets polls ask one after the other, again and again; one that is new asks at once.

    Parameters
    ----------
    poll_seconds
        Between two rounds of all.
    """

    def __init__(self, poll_seconds: float) -> None:
        self._poll_seconds = poll_seconds
        self._polls: tuple[ModelPoll, ...] = ()
        self._changed = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def follow(self, polls: Sequence[ModelPoll]) -> None:
        """Ask for these from now on, and for no others."""
        self._polls = tuple(polls)
        self._changed.set()

    def start(self, patience_seconds: float) -> None:
        """Start the thread and wait until each has asked once; not for more, if one takes longer than so long."""
        self._thread = threading.Thread(target=self._run, name="mlpipe-poll", daemon=True)
        self._thread.start()
        for poll in self._polls:
            if not poll.wait(patience_seconds):
                return

    def stop(self) -> None:
        """End the thread; one that waits for an answer of the registry ends as soon as it has it."""
        self._stopped.set()
        self._changed.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._ask(self._polls)
            again = time.monotonic() + self._poll_seconds
            while not self._stopped.is_set() and (left := again - time.monotonic()) > 0:
                if self._changed.wait(left):
                    self._changed.clear()
                    self._ask([poll for poll in self._polls if not poll.is_asked])

    def _ask(self, polls: Sequence[ModelPoll]) -> None:
        for poll in polls:
            if not self._stopped.is_set():
                poll.round()
