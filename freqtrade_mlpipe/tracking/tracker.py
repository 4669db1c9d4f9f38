"""The experiment tracker: what a training says about itself, whatever keeps it."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

import pandas as pd

from freqtrade_mlpipe.exceptions import TrackingError
from freqtrade_mlpipe.run_owner import REASON_TAG, owner_tags
from freqtrade_mlpipe.tracking import charts
from freqtrade_mlpipe.tracking.backends import (
    BackendName,
    BackendSettings,
    Batch,
    MetricPoint,
    RunStart,
    Status,
    open_backend,
)
from freqtrade_mlpipe.tracking.channel import RunChannel
from freqtrade_mlpipe.tracking.comparison import comparison_table
from freqtrade_mlpipe.tracking.environment import git_revision, package_versions
from freqtrade_mlpipe.tracking.flatten import flatten, numbers, plain
from freqtrade_mlpipe.tracking.run import ActiveRun, recording
from freqtrade_mlpipe.tracking.secrets import hidden, read_environment, redact

if TYPE_CHECKING:
    from freqtrade_mlpipe.registry.comparison import Contender

logger = logging.getLogger(__name__)

_UNSAFE_IN_METRIC = re.compile(r"[^\w\-. /]")
_LONG_PARAM = 500


class ExperimentTracker:
    """Records runs: configuration, data, metrics, curves, trials, models and backtests.

    Once a run is open, nothing here raises, and nothing waits: a thread sends what is said, `finish` waits for it a few
    seconds at most. What the store has not taken by then is said once in a warning and kept in `directory/spool`, from
    where `freqtrade-mlpipe sync` sends it. Credentials are left out of everything.

    Parameters
    ----------
    project
        The experiment (MLflow) or project (wandb) that runs belong to.
    backend
        `mlflow`, `wandb` (extra `wandb`; offline unless `WANDB_MODE` says otherwise) or `none`.
    tracking_uri
        Of MLflow; None means SQLite at `directory/mlflow.db`, the registry's own file.
    directory
        Where runs and artifacts are kept.

    Raises
    ------
    ValueError
        There is no such backend.
    MissingExtraError
        The backend's library is not installed.

    Examples
    --------
    >>> tracker = ExperimentTracker(backend="none")
    >>> with tracker.start_run(name="first", config={"seed": 1}):
    ...     tracker.log_metrics({"f1": 0.61}, prefix="validation/")
    """

    def __init__(
        self,
        project: str = "freqtrade_mlpipe",
        backend: BackendName = "mlflow",
        *,
        tracking_uri: str | None = None,
        directory: Path | str = Path("user_data/mlpipe"),
    ) -> None:
        self.project = project
        self.backend = backend
        self.directory = Path(directory).absolute()
        self._settings = BackendSettings(project, self.directory, tracking_uri)
        self._backend = open_backend(backend, self._settings)
        self._channel: RunChannel | None = None
        self._run_id: ActiveRun | None = None
        self._params: dict[str, str] = {}

    @property
    def run_id(self) -> str | None:
        """The id of the open run; None if there is none."""
        return self._run_id

    @property
    def mlflow_run_id(self) -> str | None:
        """The id by which MLflow knows the open run; None where the run is not in MLflow (yet)."""
        if self._channel is None or self.backend != "mlflow":
            return None
        return self._channel.store_run_id

    # --- a run's life --------------------------------------------------------------------------

    def start_run(
        self,
        name: str | None = None,
        config: Any = None,
        tags: Mapping[str, str] | None = None,
        *,
        data_hash: str | None = None,
        parent: str | None = None,
    ) -> ActiveRun:
        """Open a run and return its id, which is also a context manager.

        Package versions and the git revision of the working directory are recorded too.

        Parameters
        ----------
        name
            What people call it; the store invents one if None.
        config
            A mapping, dataclass or pydantic model: see `log_config`.
        data_hash
            Content hash of the candles trained on.
        parent
            Id of the run that this one is a part of.

        Raises
        ------
        TrackingError
            A run is open already, or the store cannot be used as configured. A store that is merely
            out of reach is only warned about.
        """
        if self.backend == "none":
            return self._open_nowhere()
        revision = git_revision()
        described = {
            **owner_tags(),
            **({"mlflow.source.git.commit": revision} if revision else {}),
            **_text(tags or {}),
        }
        self._open(lambda channel: channel.start(RunStart(channel.key, name, described, parent)))
        versions = {f"version.{k}": v for k, v in package_versions().items()}
        context = {"git_revision": revision, "data_hash": data_hash}
        self.log_params({**versions, **{k: v for k, v in context.items() if v}})
        if config is not None:
            self.log_config(config)
        return self._active

    def resume_run(self, run_id: str) -> ActiveRun:
        """Add to a run that exists; it keeps the status it has.

        Raises
        ------
        TrackingError
            A run is open already.
        """
        if self.backend == "none":
            return self._open_nowhere(run_id)
        self._open(lambda channel: channel.resume(run_id))
        return self._active

    def _open_nowhere(self, run_id: str | None = None) -> ActiveRun:
        self._refuse_second()
        self._run_id = ActiveRun(run_id or uuid4().hex)
        self._run_id._tracker = self
        return self._run_id

    def _refuse_second(self) -> None:
        if self._run_id is not None:
            raise TrackingError(f"Run {self._run_id} is still open: finish() it first.")

    def _open(self, opening: Callable[[RunChannel], str]) -> None:
        self._refuse_second()
        self._params = {}
        read_environment()
        # One of its own: the thread of an earlier run may still be sending, and a backend writes to one run.
        backend = open_backend(self.backend, self._settings)
        channel = RunChannel(backend, self.backend, self.project, self.directory)
        self._run_id = ActiveRun(opening(channel))
        self._channel = channel
        self._run_id._tracker = self

    @property
    def _active(self) -> ActiveRun:
        if self._run_id is None:
            raise TrackingError("No run is open. Call start_run() first.")
        return self._run_id

    def flush(self) -> None:
        """Let what was said so far reach the store now rather than within a second."""
        if self._channel is not None:
            self._channel.flush()

    def finish(self, status: Status = "FINISHED", *, reason: str = "") -> None:
        """Close the run; without one, nothing happens.

        Parameters
        ----------
        reason
            Why it did not end well; kept as the tag `mlpipe.reason`.
        """
        if self._run_id is None:
            return
        if reason:
            self.set_tags({REASON_TAG: reason})
        channel, self._channel, self._run_id = self._channel, None, None
        if channel is not None:
            channel.finish(status)

    # --- what a run holds ----------------------------------------------------------------------

    @recording
    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record parameters; nested mappings become dotted names. A parameter cannot change.

        Values too long for a table cell are cut there and kept whole in `params/<name>.txt`.
        """
        new = {}
        for key, value in flatten(params).items():
            if key not in self._params:
                new[key] = value
            elif self._params[key] != value:
                logger.warning("Parameter %s stays %r: not %r.", key, self._params[key], value)
        self._params |= new
        shown = {k: v if len(v) <= _LONG_PARAM else f"{v[:_LONG_PARAM]}…" for k, v in new.items()}
        self._log(Batch(params=shown))
        for key in (k for k, v in new.items() if len(v) > _LONG_PARAM):
            self._log_text(
                f"params/{_UNSAFE_IN_METRIC.sub('_', key)[:100].replace('/', '_')}.txt", new[key]
            )

    @recording
    def log_config(self, config: Any) -> None:
        """Record a configuration: each setting as a parameter, the whole as `config.json`.

        Values that look like credentials are left out.
        """
        values = plain(config)
        self.log_params(values if isinstance(values, Mapping) else {"config": values})
        self._log_json("config.json", values)

    @recording
    def log_metrics(
        self, metrics: Mapping[str, Any], step: int | None = None, prefix: str = ""
    ) -> None:
        """Record numbers in one write; entries that are not numbers are left out.

        Parameters
        ----------
        step
            Position in a series (fold, trial); None for a value of the whole run.
        prefix
            Put before every name, for instance `oos/`.
        """
        self._log(Batch(metrics=_points(metrics, step, prefix)))

    @recording
    def log_feature_importance(self, importance: Mapping[str, float] | pd.Series) -> None:
        """Record importances by feature name as `feature_importance.csv`, largest first."""
        series = pd.Series(dict(importance), dtype="float64", name="importance")
        table = series.sort_values(ascending=False).rename_axis("feature").reset_index()
        self._log_table("feature_importance.csv", table)

    @recording
    def log_confusion_matrix(self, y_true: Any, y_pred: Any) -> None:
        """Record counts by true and predicted class as `confusion_matrix.csv`; NaN left out."""
        self._log_table("confusion_matrix.csv", charts.confusion_table(y_true, y_pred))

    @recording
    def log_roc_curve(self, y_true: Any, y_proba: Any, metric: str = "roc_auc") -> None:
        """Record `roc_curve.csv` and the area under it.

        Parameters
        ----------
        y_true
            Shape (n,), 1 and 0; rows with NaN are left out.
        y_proba
            Probability of class 1, shape (n,), or of both classes, shape (n, 2).
        metric
            Name of the area.
        """
        table, area = charts.roc_table(y_true, y_proba)
        self._log(Batch(metrics=_points({metric: area}, None, "")))
        self._log_table("roc_curve.csv", table)

    @recording
    def log_pr_curve(self, y_true: Any, y_proba: Any) -> None:
        """Record `pr_curve.csv` and the metric `average_precision`; arguments as `log_roc_curve`."""
        table, average = charts.pr_table(y_true, y_proba)
        self._log(Batch(metrics=_points({"average_precision": average}, None, "")))
        self._log_table("pr_curve.csv", table)

    @recording
    def log_calibration_curve(self, y_true: Any, y_proba: Any) -> None:
        """Record `calibration_curve.csv`: predicted and observed frequency in ten bins of equal size."""
        self._log_table("calibration_curve.csv", charts.calibration_table(y_true, y_proba))

    @recording
    def log_importance_stability(self, importances: pd.DataFrame) -> None:
        """Record how importances differ between folds as `feature_importance_folds.csv`.

        Parameters
        ----------
        importances
            Index: features; a column a fold.
        """
        self._log_table("feature_importance_folds.csv", charts.stability_table(importances))

    @recording
    def log_fold_run(
        self,
        name: str,
        params: Mapping[str, Any],
        metrics: Mapping[str, Any],
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        """Record a finished run below the open one, such as a fold of the final fit."""
        start = RunStart(uuid4().hex, name, {**owner_tags(), **_text(tags or {})})
        batch = Batch(params=flatten(params), metrics=_points(metrics, None, ""))
        self._sending().log_child(start, batch)

    @recording
    def log_json(self, name: str, value: Any) -> None:
        """Record anything as the JSON file `name`; values that look like credentials are left out."""
        self._log_json(name, plain(value))

    @recording
    def log_table(self, name: str, table: pd.DataFrame) -> None:
        """Record a table as the CSV file `name`, without its index."""
        self._log_table(name, table)

    @recording
    def log_report(self, path: Path | str) -> None:
        """Copy a report page to `report`, where the MLflow UI shows it."""
        self._sending().log_files(_existing(path), "report")

    @recording
    def log_trials(
        self,
        trials: Sequence[Mapping[str, Any]],
        direction: Literal["maximize", "minimize"] = "maximize",
    ) -> None:
        """Record all trials of a search: `trials.csv`, and values and best so far as series.

        Parameters
        ----------
        trials
            One mapping a trial: number, value, state, seconds, params.
        """
        points: list[MetricPoint] = []
        best: float | None = None
        better = max if direction == "maximize" else min
        for position, trial in enumerate(trials):
            step = int(trial.get("number", position))
            points += _points(numbers(trial) | {"number": None}, step, "trial/")
            value = numbers(trial).get("value")
            if value is not None and value == value:
                best = value if best is None else better(best, value)
                points += _points({"best_value": best}, step, "trial/")
        self._log(Batch(metrics=points))
        self._log_table("trials.csv", pd.DataFrame([flatten(trial) for trial in trials]))

    @recording
    def log_backtest_results(self, results: Mapping[str, Any]) -> None:
        """Record freqtrade's result: its numbers as `backtest/…`, all of it as JSON."""
        self._log(Batch(metrics=_points(results, None, "backtest/")))
        self._log_json("backtest_results.json", plain(results))

    @recording
    def log_model(self, path: Path | str) -> None:
        """Copy a bundle (a directory) or a model file to `model`, as it is: no flavor."""
        self._sending().log_files(_existing(path), "model")

    @recording
    def log_artifact(self, path: Path | str, folder: str = "") -> None:
        """Copy a file, or the content of a directory, into `folder` of the run."""
        self._sending().log_files(_existing(path), folder)

    @recording
    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags, which may change, unlike parameters."""
        self._log(Batch(tags=_text(tags)))

    # --- reading back --------------------------------------------------------------------------

    def compare_experiments(self, run_ids: Sequence[str]) -> pd.DataFrame:
        """Runs side by side, one row each, and whether each differs from the first by more than noise.

        The verdict is a paired block bootstrap of the difference of losses on the candles that both predicted out of
        sample, see `freqtrade_mlpipe.registry.comparison`. The registry keeps those predictions, with the version that
        a run of `mlflow` registered; of other runs the verdict says that there are none.

        Returns
        -------
        DataFrame
            Index `run_id` in the order asked for; columns `name`, `status`, `verdict` (a sentence; empty for the
            first), then `params.…` (text), `metrics.…` (float64) and, of those with a 95 % block-bootstrap interval,
            `low.…` and `high.…`, sorted; NaN where a run has no such entry.

        Raises
        ------
        TrackingError
            A run is unknown, or the backend keeps nothing that can be read back.
        """
        records = self._backend.fetch_runs([str(run_id) for run_id in run_ids])
        return comparison_table(records, self._contenders([record.run_id for record in records]))

    def _contenders(self, run_ids: Sequence[str]) -> list[Contender]:
        from freqtrade_mlpipe.registry import ModelRegistry
        from freqtrade_mlpipe.registry.comparison import Contender

        found = {run_id: Contender(label=f"run {run_id[:8]}") for run_id in run_ids}
        if self.backend == "mlflow" and len(found) > 1:
            registry = ModelRegistry(self._settings.tracking_uri, self.directory)
            for run_id in found:
                for version in registry.get_versions_of_run(run_id)[:1]:
                    found[run_id] = registry.as_contender(version)
        return [found[run_id] for run_id in run_ids]

    # --- the way there ------------------------------------------------------------------------

    def _sending(self) -> RunChannel:
        if self._channel is None:
            raise TrackingError("No run is open. Call start_run() first.")
        return self._channel

    def _log(self, batch: Batch) -> None:
        self._sending().log_batch(batch)

    def _log_text(self, name: str, text: str) -> None:
        self._sending().log_text(name, text)

    def _log_json(self, name: str, value: Any) -> None:
        self._log_text(name, json.dumps(value, indent=2, sort_keys=False))

    def _log_table(self, name: str, table: pd.DataFrame) -> None:
        self._log_text(name, table.to_csv(index=False))


def _points(metrics: Mapping[str, Any], step: int | None, prefix: str) -> list[MetricPoint]:
    now = int(time.time() * 1000)
    return [
        MetricPoint(_UNSAFE_IN_METRIC.sub("_", f"{prefix}{key}"), value, step, now)
        for key, value in numbers(metrics).items()
    ]


def _text(tags: Mapping[str, Any]) -> dict[str, str]:
    return {str(key): hidden(str(key), redact(str(value))) for key, value in tags.items()}


def _existing(path: Path | str) -> Path:
    found = Path(path)
    if not found.exists():
        raise FileNotFoundError(f"{found} does not exist.")
    return found
