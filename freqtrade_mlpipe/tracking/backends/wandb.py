"""Runs in Weights & Biases: offline, or online where somebody has logged in; `WANDB_MODE` overrules both."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from freqtrade_mlpipe.exceptions import MissingExtraError, TrackingError
from freqtrade_mlpipe.tracking.backends import (
    BackendSettings,
    Batch,
    RunRecord,
    RunStart,
    Status,
    TrackingBackend,
)

_SERVER = "https://api.wandb.ai"
_STATUS = {"finished": "FINISHED", "failed": "FAILED", "crashed": "KILLED", "running": "RUNNING"}


class WandbBackend:
    """Writes to `directory/wandb`; nothing leaves the machine before `wandb sync` unless online."""

    def __init__(self, settings: BackendSettings) -> None:
        self._settings = settings
        self._run: Any = None

    @property
    def mode(self) -> str:
        return os.environ.get("WANDB_MODE") or ("online" if _is_logged_in() else "offline")

    @property
    def is_local(self) -> bool:
        return self.mode == "offline"

    def connect(self) -> None:
        # Before the import: wandb reads them once.
        directory = self._settings.directory
        directory.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        os.environ.setdefault("WANDB_DATA_DIR", str(directory / "wandb-data"))
        os.environ.setdefault("WANDB_CACHE_DIR", str(directory / "wandb-cache"))
        import wandb  # noqa: F401

    def start_run(self, start: RunStart) -> str:
        tags = {**start.tags, **({"parent": start.parent} if start.parent else {})}
        # The same id again is the same run: nothing is doubled when a journal is sent twice.
        return self._init(start.key, name=start.name, config={"tags": tags})

    def resume_run(self, run_id: str) -> None:
        self._init(run_id)

    def _init(self, run_id: str, **described: Any) -> str:
        import wandb

        self._run = wandb.init(
            project=self._settings.project,
            id=run_id,
            resume="allow" if self.mode == "online" else None,
            dir=str(self._settings.directory),
            mode=cast(Any, self.mode),
            reinit="create_new",
            settings=wandb.Settings(
                disable_git=True,
                disable_code=True,
                console="off",
                silent=True,
                init_timeout=5,
                x_disable_stats=True,
                x_disable_meta=True,
            ),
            **described,
        )
        self._run.define_metric("*", step_metric="step")
        return str(self._run.id)

    def log_batch(self, batch: Batch) -> None:
        if batch.params or batch.tags:
            # Tags of wandb are bare words of up to 64 characters: ours have values, so config.
            changes: dict[str, Any] = dict(batch.params)
            if batch.tags:
                changes["tags"] = {**self._run.config.get("tags", {}), **batch.tags}
            self._run.config.update(changes, allow_val_change=True)
        steps: dict[int, dict[str, float]] = {}
        for point in batch.metrics:
            if point.step is None:
                self._run.summary[point.key] = point.value
            else:
                steps.setdefault(point.step, {})[point.key] = point.value
        for step, values in sorted(steps.items()):
            self._run.log({**values, "step": step})

    def log_files(self, source: Path, folder: str) -> None:
        root = Path(self._run.dir)
        target = root / folder
        target.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copy2(source, target)
        for file in target.rglob("*") if source.is_dir() else [target / source.name]:
            if file.is_file():
                self._run.save(str(file), base_path=str(root), policy="now")

    def log_child(self, start: RunStart, batch: Batch) -> None:
        """wandb has no runs below runs, and another run takes it a second: kept as entries of the open one."""
        label = start.name or start.key
        self._run.config.update(
            {label: {**batch.params, "tags": dict(start.tags)}}, allow_val_change=True
        )
        for point in batch.metrics:
            self._run.summary[f"{label}/{point.key}"] = point.value

    def finish_run(self, status: Status | None) -> None:
        if self._run is not None:
            run, self._run = self._run, None
            if status is not None:
                run.summary["status"] = status
            run.finish(exit_code=0 if status in (None, "FINISHED") else 1)

    def fetch_runs(self, run_ids: Sequence[str]) -> list[RunRecord]:
        if self.mode != "online":
            raise TrackingError(
                "wandb reads runs back from its server only, and these are offline: run "
                f"'wandb sync' on the folders in {self._settings.directory / 'wandb'} and set "
                "WANDB_MODE=online, or use the mlflow backend."
            )
        import wandb

        api = wandb.Api()
        return [self._fetch(api, run_id) for run_id in run_ids]

    def _fetch(self, api: Any, run_id: str) -> RunRecord:
        path = run_id if "/" in run_id else f"{self._settings.project}/{run_id}"
        try:
            run = api.run(path)
        except Exception as error:
            raise TrackingError(f"No run {path!r} on the wandb server: {error}") from error
        config = dict(run.config)
        tags = config.pop("tags", {})
        summary = {k: v for k, v in dict(run.summary).items() if not k.startswith("_")}
        return RunRecord(
            run_id=run_id,
            name=run.name,
            status=str(summary.pop("status", _STATUS.get(run.state, run.state))),
            params={key: str(value) for key, value in config.items()},
            metrics={k: float(v) for k, v in summary.items() if isinstance(v, int | float)},
            tags=tags,
        )


def open_backend(settings: BackendSettings) -> TrackingBackend:
    """The backend.

    Raises
    ------
    MissingExtraError
        wandb is not installed.
    """
    if find_spec("wandb") is None:
        raise MissingExtraError("wandb", "wandb")
    return WandbBackend(settings)


def _is_logged_in() -> bool:
    """Whether there is a key for the server, where `wandb login` puts it."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    server = urlsplit(os.environ.get("WANDB_BASE_URL") or _SERVER).hostname
    try:
        return bool(server and netrc(os.environ.get("NETRC")).authenticators(server))
    except (OSError, NetrcParseError):
        return False
