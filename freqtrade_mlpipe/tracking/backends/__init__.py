"""What a tracking backend must do, and the table of those there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, cast

Status = Literal["FINISHED", "FAILED", "KILLED"]
BackendName = Literal["mlflow", "wandb", "none"]


class MetricPoint(NamedTuple):
    """One value of one metric; `step` None for a value that stands for the whole run."""

    key: str
    value: float
    step: int | None
    timestamp_ms: int


@dataclass(frozen=True)
class Batch:
    """Everything that goes to the store in one write."""

    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Sequence[MetricPoint] = ()
    tags: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether there is anything in it."""
        return bool(self.params or self.metrics or self.tags)

    def __add__(self, later: Batch) -> Batch:
        """Both in one; of a tag or parameter in both, the later one."""
        return Batch(
            {**self.params, **later.params},
            (*self.metrics, *later.metrics),
            {**self.tags, **later.tags},
        )


@dataclass(frozen=True)
class RunStart:
    """A run to be opened.

    Attributes
    ----------
    key
        Ours and unique. Opening the same key twice must not make two runs where `BackendSettings.resending`.
    name
        What people call it; the store invents one if None.
    parent
        Id of the run that this one is a part of.
    """

    key: str
    name: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    parent: str | None = None


@dataclass(frozen=True)
class BackendSettings:
    """Where a backend keeps its runs.

    Attributes
    ----------
    resending
        What is written may be there already, from an attempt that was interrupted.
    """

    project: str
    directory: Path
    tracking_uri: str | None = None
    resending: bool = False


@dataclass(frozen=True)
class RunRecord:
    """A run as read back: the last value of each metric, parameters and tags as text."""

    run_id: str
    name: str
    status: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]


class TrackingBackend(Protocol):
    """One run at a time, written to one store. Any method may raise: the tracker copes.

    Methods are called from one thread at a time, not always the same.
    """

    @property
    def is_local(self) -> bool:
        """Whether it writes files on this machine and talks to no server."""

    def connect(self) -> None:
        """Load the library and open local files: what takes time, but waits for nobody else."""

    def start_run(self, start: RunStart) -> str:
        """Open a run and return its id."""

    def resume_run(self, run_id: str) -> None:
        """Write to a run that exists. Its status is left alone until `finish_run`."""

    def log_batch(self, batch: Batch) -> None:
        """Write parameters, metrics and tags, in as few round trips as the store allows."""

    def log_files(self, source: Path, folder: str) -> None:
        """Copy a file into `folder` of the run ("" is its root), or the content of a directory."""

    def log_child(self, start: RunStart, batch: Batch) -> None:
        """Write a finished run below the open one; `start.parent` is ignored."""

    def finish_run(self, status: Status | None) -> None:
        """Close the run; None: as it is, what was written is complete."""

    def fetch_runs(self, run_ids: Sequence[str]) -> list[RunRecord]:
        """Read runs back, in the order asked for.

        Raises
        ------
        TrackingError
            One is unknown, or the backend cannot read runs back.
        """


_MODULES: dict[str, str] = {
    "mlflow": "freqtrade_mlpipe.tracking.backends.mlflow",
    "wandb": "freqtrade_mlpipe.tracking.backends.wandb",
    "none": "freqtrade_mlpipe.tracking.backends.none",
}


def open_backend(name: str, settings: BackendSettings) -> TrackingBackend:
    """The backend called `name`; only its module, and with it its library, is imported.

    Raises
    ------
    ValueError
        There is no such backend.
    MissingExtraError
        Its library is not installed.
    """
    if name not in _MODULES:
        raise ValueError(f"backend: {name!r} is not one of {', '.join(_MODULES)}.")
    return cast(TrackingBackend, import_module(_MODULES[name]).open_backend(settings))
