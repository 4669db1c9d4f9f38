"""The way to the store that never raises once a run is open."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import uuid4

from freqtrade_mlpipe.exceptions import TrackingError
from freqtrade_mlpipe.tracking.backends import Batch, Status, TrackingBackend
from freqtrade_mlpipe.tracking.spool import Spool

logger = logging.getLogger(__name__)


class SafeChannel:
    """Hands a run's operations to a backend until it fails, and to the spool from then on.

    One failure is warned about; later operations do not try the store again, so that a dead server
    costs one timeout and not one an operation. Only `finish_run` tries once more.
    """

    def __init__(self, backend: TrackingBackend, directory: Path) -> None:
        self.backend = backend
        self._directory = directory
        self._spool: Spool | None = None

    def start_run(self, name: str | None, tags: Mapping[str, str]) -> str:
        """Open a run and return its id, one of our own if the store is out of reach.

        Raises
        ------
        TrackingError
            The store cannot be used as configured.
        """
        self._spool = None
        try:
            return self.backend.start_run(name, tags)
        except TrackingError:
            raise
        except Exception as error:  # noqa: BLE001 - tracking must never fail a training
            run_id = uuid4().hex
            self._give_up(run_id, error).write("start_run", {"name": name, "tags": dict(tags)})
            return run_id

    def log_batch(self, run_id: str, batch: Batch) -> None:
        """Write parameters, metrics and tags; an empty batch costs nothing."""
        if not (batch.params or batch.metrics or batch.tags):
            return
        spool = self._attempt(run_id, lambda: self.backend.log_batch(batch))
        if spool is not None:
            spool.write("log_batch", _plain(batch))

    def log_files(self, run_id: str, source: Path, folder: str) -> None:
        """Copy a file or the content of a directory."""
        spool = self._attempt(run_id, lambda: self.backend.log_files(source, folder))
        if spool is not None:
            spool.keep(source, folder)

    def finish_run(self, run_id: str, status: Status) -> None:
        """Close the run, even if the store failed before."""
        failed, self._spool = self._spool, None
        spool = self._attempt(run_id, lambda: self.backend.finish_run(status), quiet=bool(failed))
        if failed or spool:
            (failed or spool or Spool(self._directory, run_id)).write(
                "finish_run", {"status": status}
            )

    def _attempt(
        self, run_id: str, operation: Callable[[], None], *, quiet: bool = False
    ) -> Spool | None:
        """Try it; where it goes instead if the store fails, or has failed before."""
        if self._spool is not None:
            return self._spool
        try:
            operation()
        except Exception as error:  # noqa: BLE001 - tracking must never fail a training
            return self._give_up(run_id, error, quiet=quiet)
        return None

    def _give_up(self, run_id: str, error: Exception, *, quiet: bool = False) -> Spool:
        self._spool = Spool(self._directory, run_id)
        if not quiet:
            logger.warning(
                "The experiment store failed (%s: %s). The rest of run %s is kept in %s; "
                "the training goes on.",
                type(error).__name__,
                str(error).splitlines()[0] if str(error) else "no message",
                run_id,
                self._spool.path,
            )
        return self._spool


def _plain(batch: Batch) -> dict[str, Any]:
    return {**asdict(batch), "metrics": [point._asdict() for point in batch.metrics]}
