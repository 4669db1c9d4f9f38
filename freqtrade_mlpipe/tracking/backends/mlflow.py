"""Runs in MLflow: a SQLite file beside the registry's, or a server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freqtrade_mlpipe.exceptions import TrackingError
from freqtrade_mlpipe.mlflow_store import experiment_id, open_store
from freqtrade_mlpipe.tracking.backends import (
    BackendSettings,
    Batch,
    RunRecord,
    RunStart,
    Status,
    TrackingBackend,
)
from freqtrade_mlpipe.tracking.secrets import redact

if TYPE_CHECKING:
    from mlflow import MlflowClient

KEY_TAG = "mlpipe.run_key"
_PARENT_TAG = "mlflow.parentRunId"

# MLflow's own limits (mlflow.utils.validation).
_KEY_LENGTH = 250
_PARAM_LENGTH = 6000
_TAG_LENGTH = 8000
_PARAMS_PER_BATCH = 100
_METRICS_PER_BATCH = 800
_LARGEST_STEP = 2**31 - 1


class MlflowBackend:
    """Writes in batches through `MlflowClient`; MLflow's global state is left alone."""

    def __init__(self, settings: BackendSettings) -> None:
        self._settings = settings
        self._client: MlflowClient | None = None
        self._experiment_id: str | None = None
        self._run_id = ""

    @property
    def client(self) -> MlflowClient:
        if self._client is None:
            self._client = open_store(self._settings.tracking_uri, self._settings.directory)
        return self._client

    @property
    def is_local(self) -> bool:
        return (self._settings.tracking_uri or "sqlite:").startswith("sqlite:")

    def connect(self) -> None:
        if self.is_local or str(self._settings.tracking_uri).startswith("http"):
            _ = self.client
        else:
            import mlflow  # noqa: F401

    @property
    def _experiment(self) -> str:
        if self._experiment_id is None:
            settings = self._settings
            self._experiment_id = experiment_id(self.client, settings.project, settings.directory)
        return self._experiment_id

    def start_run(self, start: RunStart) -> str:
        self._run_id = self._open(start)
        return self._run_id

    def resume_run(self, run_id: str) -> None:
        self._run_id = run_id

    def _open(self, start: RunStart) -> str:
        if self._settings.resending and (found := self._find(start.key)):
            return found
        parent = {_PARENT_TAG: start.parent} if start.parent else {}
        tags = {KEY_TAG: start.key, **parent, **start.tags}
        run = self.client.create_run(
            self._experiment, run_name=start.name, tags=_shortened(tags, _TAG_LENGTH)
        )
        return str(run.info.run_id)

    def _find(self, key: str) -> str | None:
        found = self.client.search_runs([self._experiment], f"tags.`{KEY_TAG}` = '{key}'")
        return str(found[0].info.run_id) if found else None

    def log_batch(self, batch: Batch) -> None:
        self._write(self._run_id, batch)

    def _write(self, run_id: str, batch: Batch) -> None:
        from mlflow.entities import Metric, Param, RunTag

        params = iter([Param(*p) for p in _shortened(batch.params, _PARAM_LENGTH).items()])
        tags = iter([RunTag(*t) for t in _shortened(batch.tags, _TAG_LENGTH).items()])
        metrics = iter(
            [
                Metric(
                    m.key[:_KEY_LENGTH], m.value, m.timestamp_ms, min(m.step or 0, _LARGEST_STEP)
                )
                for m in batch.metrics
            ]
        )
        for chunk in _chunks(params, tags, metrics):
            self.client.log_batch(
                run_id, params=chunk[0], tags=chunk[1], metrics=chunk[2], synchronous=True
            )

    def log_files(self, source: Path, folder: str) -> None:
        if source.is_dir():
            self.client.log_artifacts(self._run_id, str(source), folder or None)
        else:
            self.client.log_artifact(self._run_id, str(source), folder or None)

    def log_child(self, start: RunStart, batch: Batch) -> None:
        child = self._open(replace(start, parent=self._run_id))
        self._write(child, batch)
        self.client.set_terminated(child)

    def finish_run(self, status: Status | None) -> None:
        if status is not None:
            self.client.set_terminated(self._run_id, status=status)

    def fetch_runs(self, run_ids: Sequence[str]) -> list[RunRecord]:
        return [self._fetch(run_id) for run_id in run_ids]

    def _fetch(self, run_id: str) -> RunRecord:
        from mlflow.exceptions import MlflowException

        try:
            run = self._get(run_id)
        except MlflowException as error:
            raise TrackingError(
                f"No run {run_id!r} in the MLflow store of {self._settings.directory}: "
                f"{redact(str(error))}"
            ) from error
        return RunRecord(
            run_id=run_id,
            name=run.info.run_name or "",
            status=run.info.status,
            params=dict(run.data.params),
            metrics=dict(run.data.metrics),
            tags=dict(run.data.tags),
        )

    def _get(self, run_id: str) -> Any:
        """The run of this id, or of this key: a run that was sent late is known by its key."""
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_run(run_id)
        except MlflowException:
            found = self._find(run_id)
            if found is None:
                raise
            return self.client.get_run(found)


def open_backend(settings: BackendSettings) -> TrackingBackend:
    return MlflowBackend(settings)


def _shortened(values: Mapping[str, str], limit: int) -> dict[str, str]:
    return {
        key[:_KEY_LENGTH]: value if len(value) <= limit else f"{value[: limit - 1]}…"
        for key, value in values.items()
    }


def _chunks(
    params: Iterator[Any], tags: Iterator[Any], metrics: Iterator[Any]
) -> Iterator[tuple[list[Any], list[Any], list[Any]]]:
    while True:
        chunk = (
            list(islice(params, _PARAMS_PER_BATCH)),
            list(islice(tags, _PARAMS_PER_BATCH)),
            list(islice(metrics, _METRICS_PER_BATCH)),
        )
        if not any(chunk):
            return
        yield chunk
