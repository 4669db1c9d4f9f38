"""Nothing is kept: for those who want no tracking, without an `if` at every call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from freqtrade_mlpipe.exceptions import TrackingError
from freqtrade_mlpipe.tracking.backends import (
    BackendSettings,
    Batch,
    RunRecord,
    RunStart,
    Status,
    TrackingBackend,
)


class NoneBackend:
    """Accepts everything, keeps nothing, touches no file."""

    @property
    def is_local(self) -> bool:
        return True

    def connect(self) -> None:
        pass

    def start_run(self, start: RunStart) -> str:
        return start.key

    def resume_run(self, run_id: str) -> None:
        pass

    def log_batch(self, batch: Batch) -> None:
        pass

    def log_files(self, source: Path, folder: str) -> None:
        pass

    def log_child(self, start: RunStart, batch: Batch) -> None:
        pass

    def finish_run(self, status: Status | None) -> None:
        pass

    def fetch_runs(self, run_ids: Sequence[str]) -> list[RunRecord]:
        raise TrackingError(
            "No runs to compare: tracking is off (backend 'none'). "
            "Set tracking.backend to 'mlflow'."
        )


def open_backend(settings: BackendSettings) -> TrackingBackend:
    return NoneBackend()
