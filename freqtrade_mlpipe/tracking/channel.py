"""The way to the store, which neither raises nor makes anyone wait once a run is open.

A thread sends; the training only appends to a journal on disk. What is said within a second goes in one write. At the
end the training waits for the thread, never longer than `PATIENCE_SECONDS` in all, and what has not arrived by then
stays in the journal.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

from freqtrade_mlpipe.exceptions import TrackingError
from freqtrade_mlpipe.tracking.backends import Batch, RunStart, Status, TrackingBackend
from freqtrade_mlpipe.tracking.secrets import redact
from freqtrade_mlpipe.tracking.spool import Journal, batch_to_plain

logger = logging.getLogger(__name__)

PATIENCE_SECONDS, LOCAL_PATIENCE_SECONDS = 2.0, 15.0
"""All the waiting there is in a run: for a server; for files, which are slow only where everything is."""
LINGER_SECONDS = 1.0

Send = Callable[[], None]


class RunChannel:
    """One run on its way to one backend.

    Parameters
    ----------
    backend, name, project
        Where it goes.
    directory
        Below which the journal is kept.
    """

    def __init__(self, backend: TrackingBackend, name: str, project: str, directory: Path) -> None:
        self._backend, self._name, self._project = backend, name, project
        self._directory = directory
        self._patience = self._given = (
            LOCAL_PATIENCE_SECONDS if backend.is_local else PATIENCE_SECONDS
        )
        self._changed = threading.Condition()
        self._waiting: list[Batch | Send] = []
        self._part = 0
        self._part_noted = False
        self._hurry = self._busy = self._closed = False
        self._opening = True
        self._error: Exception | None = None
        self._told = False
        self.key = uuid4().hex
        self.store_run_id: str | None = None
        self._journal = Journal(directory, self.key)
        self._reopened = False

    # --- opening and closing -------------------------------------------------------------------

    def start(self, start: RunStart) -> str:
        """Open a run and return its id; our own key if the store does not answer in time.

        Raises
        ------
        TrackingError
            The store cannot be used as configured.
        """

        def send() -> None:
            self.store_run_id = self._backend.start_run(start)

        self.key = start.key
        self._begin(start, None, send)
        if isinstance(self._error, TrackingError):
            self._journal.remove()
            raise self._error
        return self.store_run_id or self.key

    def resume(self, run_id: str) -> str:
        """Add to a run that exists; its id."""
        self.store_run_id = run_id
        self._reopened = True
        self._begin(RunStart(self.key), run_id, lambda: self._backend.resume_run(run_id))
        return run_id

    def _begin(self, start: RunStart, run_id: str | None, send: Send) -> None:
        self._journal = Journal(self._directory, start.key)
        try:
            self._journal.open(self._name, self._project, start, run_id)
        except OSError as error:
            raise TrackingError(
                f"Experiments cannot be kept in {self._directory}: {error}. Make the folder writable, or set "
                "tracking.backend to 'none'."
            ) from error
        try:
            self._backend.connect()
        except TrackingError:
            self._journal.remove()
            raise
        except Exception as error:  # noqa: BLE001 - tracking must never fail a training
            logger.debug("The thread will meet it again and tell: %r", error)
        self._waiting.append(send)
        threading.Thread(target=self._work, name="mlpipe-tracking", daemon=True).start()
        self.flush()
        self._opening = False

    def finish(self, status: Status) -> None:
        """Close the run and wait for the rest to be sent; leave what is not in the journal."""
        final = None if self._reopened else status
        self._note("finish", status=final)
        with self._changed:
            self._waiting.append(lambda: self._backend.finish_run(final))
            self._closed = True
        self.flush()
        if self._error is None and (self._busy or self._waiting):
            self._tell(f"no answer within {self._given:g} s")

    # --- what is said --------------------------------------------------------------------------

    def log_batch(self, batch: Batch) -> None:
        """Write parameters, metrics and tags; an empty batch costs nothing."""
        if batch:
            self._note("batch", **batch_to_plain(batch))
            self._add(batch)

    def log_child(self, start: RunStart, batch: Batch) -> None:
        """Write a finished run below this one."""
        self._note("child", key=start.key, name=start.name, tags=dict(start.tags),
                   batch=batch_to_plain(batch))  # fmt: skip
        self._add(lambda: self._backend.log_child(start, batch))

    def log_files(self, source: Path, folder: str) -> None:
        """Copy a file, or the content of a directory, into `folder` of the run."""
        with self._changed:
            self._journal.keep(str(self._part), source, folder)
            self._note_part()

    def log_text(self, name: str, text: str) -> None:
        """Write a file `name` (a path below the run's root)."""
        with self._changed:
            self._journal.keep_text(str(self._part), text, name)
            self._note_part()

    def _note_part(self) -> None:
        """The files of one part are sent together: the first one announces it."""
        if not self._part_noted:
            part = str(self._part)
            self._note("files", part=part)
            folder = self._journal.files / part
            self._waiting.append(lambda: self._backend.log_files(folder, ""))
            self._part_noted = True
            self._changed.notify_all()

    def _note(self, operation: str, **payload: Any) -> None:
        """Write it to the journal; where the disk is full it can still be sent."""
        try:
            self._journal.write(operation, **payload)
        except OSError as error:
            logger.debug("%s is not in the journal: %s", operation, error)

    def _add(self, what: Batch | Send) -> None:
        with self._changed:
            self._waiting.append(what)
            self._changed.notify_all()

    def flush(self) -> None:
        """Send what has been said, and wait for it as long as patience lasts."""
        started = time.monotonic()
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: self._error is not None or not (self._busy or self._waiting),
                timeout=max(0.0, self._patience),
            )
            self._hurry = False
        self._patience -= time.monotonic() - started

    # --- the thread ----------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                self._changed.wait_for(lambda: self._hurry or self._closed, timeout=LINGER_SECONDS)
                taken, self._waiting = self._waiting, []
                last, self._busy = self._closed, True
                self._part, self._part_noted = self._part + 1, False
            try:
                self._send(taken)
                if last:
                    self._journal.remove()
            except Exception as error:  # noqa: BLE001 - tracking must never fail a training
                self._stop(error)
                return
            with self._changed:
                self._busy = False
                self._changed.notify_all()
            if last:
                return

    def _send(self, taken: list[Batch | Send]) -> None:
        """In the order in which it was said, except that neighbouring batches are one write."""
        batch = Batch()
        for what in taken:
            if isinstance(what, Batch):
                batch = batch + what
        for what in taken:
            if isinstance(what, Batch):
                if batch:
                    self._backend.log_batch(batch)
                    batch = Batch()
            else:
                what()

    def _stop(self, error: Exception) -> None:
        if not (self._opening and isinstance(error, TrackingError)):  # else `start` raises it
            self._tell(f"{type(error).__name__}: {redact(str(error)).partition(chr(10))[0]}")
        with self._changed:  # after the warning: who waits for this may end the process
            self._error = error
            self._changed.notify_all()

    def _tell(self, reason: str) -> None:
        if not self._told:
            self._told = True
            logger.warning(
                "The experiment store failed (%s). Run %s is kept in %s; the training goes on. "
                "`freqtrade-mlpipe sync` sends it later.",
                reason, self.store_run_id or self.key, self._journal.path,
            )  # fmt: skip
