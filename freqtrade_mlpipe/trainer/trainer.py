"""The trainer: checks, folds, search, members, evaluation."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from freqtrade_mlpipe.config import FeatureConfig, ModelConfig, Task
from freqtrade_mlpipe.exceptions import ConfigError, SearchInterrupted, TrainingError
from freqtrade_mlpipe.models import MODELS
from freqtrade_mlpipe.splits import Fold, make_splitter, walk_forward
from freqtrade_mlpipe.trainer.inputs import Extras, Inputs, check_inputs
from freqtrade_mlpipe.trainer.members import fit_members, production_rows
from freqtrade_mlpipe.trainer.report import TrainedModel
from freqtrade_mlpipe.trainer.summary import make_report, validation_scores
from freqtrade_mlpipe.tuning import (
    NEEDS_RETURNS,
    Progress,
    Recipe,
    TrainingData,
    TuningResult,
    check_slice,
    tune,
)


class ModelTrainer:
    """Train, tune, calibrate and judge one estimator.

    Parameters
    ----------
    config : ModelConfig, optional
        Estimator, search and cross-validation.
    features : FeatureConfig, optional
        Its scaling and correlation settings are fitted inside every training slice.

    Examples
    --------
    >>> rng = np.random.default_rng(7)
    >>> dates = pd.date_range("2024-01-01", periods=2000, freq="1h", tz="UTC")
    >>> X = pd.DataFrame(rng.normal(size=(2000, 3)), columns=["a", "b", "c"], index=dates)
    >>> y = (X["a"] + rng.normal(size=2000) > 0).astype(float)
    >>> trainer = ModelTrainer(ModelConfig(optimize_hyperparams=False, embargo_candles=1))
    >>> model, metrics = trainer.train(X, y, known_at=dates + pd.Timedelta("1h"))
    >>> metrics["roc_auc"] > 0.75, model.report.feature_importance.index[0]
    (True, 'a')
    """

    def __init__(
        self, config: ModelConfig | None = None, features: FeatureConfig | None = None
    ) -> None:
        self.config = config or ModelConfig()
        self.features = features or FeatureConfig()

    def train(
        self,
        X: pd.DataFrame | ArrayLike,
        y: ArrayLike,
        X_val: pd.DataFrame | ArrayLike | None = None,
        y_val: ArrayLike | None = None,
        *,
        known_at: Any = None,
        weight: ArrayLike | None = None,
        forward_return: ArrayLike | None = None,
        short_return: ArrayLike | None = None,
        round_trip_cost: float = 0.0,
        horizon_candles: int | None = None,
        candle: pd.Timedelta | None = None,
        valid_from: pd.Timestamp | None = None,
        task: Task = "binary",
        storage: str | Path | None = None,
        on_progress: Progress | None = None,
    ) -> tuple[TrainedModel, dict[str, float]]:
        """The trained model and its out-of-sample metrics.

        Hyperparameters are searched on the folds of `cv_method`. The out-of-sample predictions, the
        metrics and the members that may speak for the past always come from a purged walk-forward,
        each candle predicted by a model trained strictly before it, with parameters that only folds
        before it spoke for (the first with the defaults): the search does not flatter them. The
        production member takes the parameters that are best over all folds.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n, n_features)
            Features. Index (pair, date UTC) or date (UTC), ascending; any other index: rows are
            consecutive candles. Rows with NaN are left out and counted.
        y : array-like of shape (n,)
            0 or 1; for the task "three_class" -1 (short), 0 (flat) or 1 (long); for "regression" log returns.
            NaN: unknown, left out.
        X_val, y_val : optional
            A later, held-out period, judged by the production member: metrics with ``val_``. Rows
            of X whose label reaches into it are left out.
        known_at : array-like of datetime of shape (n,), optional
            Candle at whose close each label is known. None: `horizon_candles`, else
            `embargo_candles`, after the row, with a warning.
        weight : array-like of shape (n,), optional
            Sample weights for fitting, scaled to mean 1 in each training slice; scores count every row once.
        forward_return : array-like of shape (n,), optional
            Gross return (fraction) of a trade entered on the row's signal. Thresholds are then
            chosen by profit net of `round_trip_cost`, otherwise by F1.
        short_return : array-like of shape (n,), optional
            The same for a short trade; None: the opposite of `forward_return`.
        round_trip_cost : float, default 0
            Both fees of a trade, as a fraction of the stake.
        horizon_candles : int, optional
            Candles a trade lasts; None: as `known_at` says.
        candle : Timedelta, optional
            Length of a candle; None: the median distance between dates (1 hour without dates).
        valid_from : Timestamp, optional
            First candle the production member may speak for, later than all `known_at`; None: the
            first one possible.
        task : {"binary", "three_class", "regression"}
            What the labels are: `LabelConfig.task`.
        storage : str or Path, optional
            Where the search is kept, so that the same call goes on after an interruption: a folder
            (one journal a search), a journal file, or an Optuna URL.
        on_progress : callable, optional
            Called as ``(stage, done, total)``.

        Returns
        -------
        model : TrainedModel
        metrics : dict of str to float
            Pooled over the out-of-sample rows, all finite: accuracy, precision, recall, f1, mcc,
            roc_auc, log_loss, brier, expected_calibration_error, positive_rate, entry_rate, with
            forward returns expected_profit, sharpe (annualised), sharpe_per_candle;
            baseline_log_loss, baseline_last_value_log_loss, importance_stability,
            selection_stability (1: the same features in every fold, 0: chance), n_rows, n_oos_rows,
            n_features, n_features_used, n_trials, n_dropped_nan, tuning_score; ``val_*`` with
            `X_val`. Of three classes as `metrics.three_class_scores` defines them, the decisions
            being the trades. Of a regression those of `metrics.value_scores`, with
            baseline_mean_squared_error and baseline_zero_squared_error, and those of the trades;
            forward returns default to those of `y`.

        Raises
        ------
        TrainingError
            Before any training: for input that cannot be learned from (the message says why).
        ConfigError
            For parameters that the estimator does not have, settings that do not suit the task, or
            constraints on columns that X does not have.
        SearchInterrupted
            On Ctrl-C with a `storage`, which keeps the trials done.
        """
        recipe = Recipe(self.config, self.features)
        MODELS[self.config.model_type].check_parameters(self.config.parameters)
        self.config.check_task(task)
        self._require_returns(forward_return, task)
        extras = Extras(
            known_at=known_at,
            weight=weight,
            forward_return=forward_return,
            round_trip_cost=round_trip_cost,
            candle=candle,
            horizon_candles=horizon_candles,
            task=task,
            short_return=short_return,
        )
        inputs = self._inputs(X, y, extras)
        self._require_columns(inputs.data.X.columns)
        held_out = self._held_out(X_val, y_val, inputs, extras)
        if held_out is not None:
            inputs = replace(inputs, data=_known_before(inputs.data, held_out.dates[0]))
        start = _valid_from(inputs.data, valid_from)
        folds, walk = self._folds(inputs.data, recipe)

        tuned = self._tuned(inputs, (folds, walk), recipe, storage, on_progress)
        try:
            members = fit_members(inputs.data, walk, recipe, tuned, start, on_progress)
        except KeyboardInterrupt:
            if storage is None or not tuned.trials:
                raise
            raise SearchInterrupted(len(tuned.trials), len(tuned.trials)) from None
        report = make_report(inputs, walk, members, tuned)
        if held_out is not None:
            report.metrics.update(validation_scores(members[-1], held_out))
        model = TrainedModel(members, tuple(inputs.data.X.columns), report)
        return model, dict(report.metrics)

    def _require_returns(self, forward_return: ArrayLike | None, task: Task) -> None:
        needy = [metric for metric in self.config.metrics if metric in NEEDS_RETURNS]
        if needy and forward_return is None and task != "regression":
            raise TrainingError(
                f"optimization_metric '{needy[0]}' needs forward_return: give it, or choose another."
            )

    def _require_columns(self, names: pd.Index) -> None:
        for name in self.config.monotone:
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
                hint = f"Did you mean '{near[0]}'?" if near else f"There are {len(names)} others."
                raise ConfigError(f"model.monotone: X has no column '{name}'. {hint}")

    def _inputs(self, X: Any, y: ArrayLike, extras: Extras) -> Inputs:
        return check_inputs(X, y, extras, label_candles=self.config.embargo_candles)

    def _held_out(
        self, X_val: Any, y_val: ArrayLike | None, inputs: Inputs, extras: Extras
    ) -> TrainingData | None:
        if X_val is None and y_val is None:
            return None
        if X_val is None or y_val is None:
            raise TrainingError("X_val and y_val belong together: give both or none.")
        data = inputs.data
        try:
            found = check_inputs(
                X_val,
                y_val,
                Extras(candle=data.candle, horizon_candles=data.horizon_candles, task=data.task),
                label_candles=data.horizon_candles,
                starts_after=inputs.last_date,
            ).data
        except TrainingError as error:
            raise TrainingError(f"X_val, y_val: {error}") from error
        if set(found.X.columns) != set(data.X.columns):
            raise TrainingError(
                "X_val must have the columns of X; different are: "
                f"{', '.join(sorted(set(found.X.columns) ^ set(data.X.columns))[:8])}."
            )
        if found.dates[0] <= data.dates[-1]:
            raise TrainingError(
                f"X_val begins at {found.dates[0]}, within X, which ends at {data.dates[-1]}: it "
                "must be a later period."
            )
        return found

    def _folds(self, data: TrainingData, recipe: Recipe) -> tuple[list[Fold], list[Fold]]:
        """Folds of the search and of the walk-forward; raises if any cannot be trained on."""
        config = self.config
        walk = walk_forward(config, data.candle).split(data.dates, data.known_at)
        folds = walk
        if config.optimize_hyperparams and config.cv_method != "timeseries":
            folds = make_splitter(config, data.candle).split(data.dates, data.known_at)
        for fold in folds if folds is walk else [*folds, *walk]:
            check_slice(data, fold.train, recipe)
            _check_test(data, fold, config)
        check_slice(data, production_rows(data, config), recipe)
        return folds, walk

    def _tuned(
        self,
        inputs: Inputs,
        folds_and_walk: tuple[Sequence[Fold], Sequence[Fold]],
        recipe: Recipe,
        storage: str | Path | None,
        on_progress: Progress | None,
    ) -> TuningResult:
        config = self.config
        if not config.optimize_hyperparams:
            params = {**MODELS[config.model_type].defaults, **config.parameters}
            return TuningResult(params, float("nan"), ())
        folds, walk = folds_and_walk
        return tune(
            inputs.data,
            folds,
            recipe,
            walk=None if folds is walk else walk,
            storage=storage,
            study_name=recipe.study_name(_identity(inputs)),
            on_progress=on_progress,
        )


def _identity(inputs: Inputs) -> str:
    """The rows of a search: what was given, and what of it is used and how."""
    data = inputs.data
    used = (len(data), data.candle, data.horizon_candles, data.round_trip_cost, data.task)
    return " ".join(map(str, (inputs.data_hash, *used)))


def _known_before(data: TrainingData, moment: pd.Timestamp) -> TrainingData:
    rows = np.flatnonzero(data.known_at < moment)
    if len(rows) == len(data):
        return data
    if not len(rows):
        raise TrainingError(f"No label of X is known before X_val begins ({moment}).")
    return data.take(rows)


def _valid_from(data: TrainingData, valid_from: pd.Timestamp | None) -> pd.Timestamp:
    last_known = data.known_at.max()
    if valid_from is None:
        return last_known + data.candle
    if valid_from.tz is None:
        raise TrainingError(f"valid_from must be in UTC, found {valid_from} without a time zone.")
    if valid_from <= last_known:
        raise TrainingError(
            f"valid_from is {valid_from}, but labels are known up to {last_known}: the model would "
            "speak for candles it has seen. Leave those rows out or give a later valid_from."
        )
    return valid_from.tz_convert("UTC")


def _check_test(data: TrainingData, fold: Fold, config: ModelConfig) -> None:
    if not config.optimize_hyperparams:
        return
    settled = fold.test[fold.settled(data.known_at)]
    if not len(settled):
        raise TrainingError(
            f"No label of the test rows from {fold.test_start} is known before {fold.test_end}, when the next ones "
            "begin: the search has nothing to go by. Use fewer folds, more candles or a shorter label horizon."
        )
    if "roc_auc" in config.metrics and len(np.unique(data.y[settled])) < 2:
        raise TrainingError(
            f"The test rows from {fold.test_start} have one class only, roc_auc is not defined "
            "there. Use fewer folds or another optimization_metric."
        )
