"""Nothing is kept: for those who want no tracking, without an `if` at every call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from uuid import uuid4

from freqtrade_mlpipe.exceptions import TrackingError
from freqtrade_mlpipe.tracking.backends import (
    BackendSettings,
    Batch,
    RunRecord,
    Status,
    TrackingBackend,
)


class NoneBackend:
    """Accepts everything, keeps nothing, touches no file."""

    def start_run(self, name: str | None, tags: Mapping[str, str]) -> str:
        return uuid4().hex

    def log_batch(self, batch: Batch) -> None:
        pass

    def log_files(self, source: Path, folder: str) -> None:
        pass

    def finish_run(self, status: Status) -> None:
        pass

    def fetch_runs(self, run_ids: Sequence[str]) -> list[RunRecord]:
        raise TrackingError(
            "No runs to compare: tracking is off (backend 'none'). "
            "Set tracking.backend to 'mlflow'."
        )


def open_backend(settings: BackendSettings) -> TrackingBackend:
    return NoneBackend()
