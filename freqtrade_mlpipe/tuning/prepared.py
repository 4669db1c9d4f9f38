"""One training slice made ready: preprocessed once, fitted with as many parameter sets as needed."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from freqtrade_mlpipe.config import CLASSES, FeatureConfig, ModelConfig, Task
from freqtrade_mlpipe.exceptions import TrainingError
from freqtrade_mlpipe.features import Preprocessor
from freqtrade_mlpipe.models import MODELS, FitData, FittedModel
from freqtrade_mlpipe.splits import Fold, slices_of
from freqtrade_mlpipe.tuning.data import Floats, Ints, TrainingData, take_rows
from freqtrade_mlpipe.tuning.decision import (
    AnyCalibrator,
    AnyThresholds,
    DecisionSlice,
    plain_decision,
    seen_classes,
)
from freqtrade_mlpipe.tuning.selection import select_columns

logger = logging.getLogger(__name__)

_SCORING = 2
"""Raised when the same trial gets other scores than before: searches in a storage are then begun anew."""

SHARES = ((0.75, 0.10, 0.15), (0.65, 0.15, 0.20), (0.55, 0.20, 0.25), (0.45, 0.25, 0.30))
"""Shares of a training slice that are fitted, stop the fit and calibrate, in order of time. The first ones under which
every part has both classes: a quiet month at the end of little data must not forbid training."""

Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Recipe:
    """How slices are prepared and fitted: the same for every fold and every trial."""

    model: ModelConfig
    features: FeatureConfig

    def study_name(self, data_hash: str) -> str:
        """A name that changes with the data and with every setting that changes a trial's score.

        The budget (`n_trials`, `timeout_seconds`, `n_jobs`) does not: more trials go on with the same study.
        """
        budget = {"n_trials", "timeout_seconds", "n_jobs"}
        settings = [
            self.model.model_dump(mode="json", exclude=budget),
            self.features.model_dump(mode="json"),
            repr(MODELS[self.model.model_type].space),
            data_hash,
            _SCORING,
        ]
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        return f"{self.model.model_type}-{digest[:32]}"


@dataclass(frozen=True, eq=False)
class Fitted:
    """What was learned on one training slice."""

    model: FittedModel
    preprocessor: Preprocessor
    calibrator: AnyCalibrator
    thresholds: AnyThresholds

    def predict_proba(self, matrix: Matrix) -> Floats:
        """Calibrated probabilities of preprocessed rows, as `Member.predict_proba`."""
        return self.calibrator.apply(self.model.predict_proba(matrix))


@dataclass(frozen=True, eq=False)
class PreparedSlice:
    """A training slice cut into fit, stop and calibration rows.

    Only the fit rows are seen by the preprocessing; the selection of features also uses the stop
    rows, to choose the number of trees of the ranking model. One `PreparedSlice` must not be fitted
    from two threads at once.
    """

    recipe: Recipe
    preprocessor: Preprocessor
    fit_data: FitData
    X_calibrate: Matrix
    decision: DecisionSlice

    def fit_model(self, params: Mapping[str, Any]) -> FittedModel:
        """Fit the bare model, without calibration."""
        return _fit(self.fit_data, params, self.recipe.model)

    def fit(self, params: Mapping[str, Any]) -> Fitted:
        """Fit, calibrate and choose thresholds."""
        model = self.fit_model(params)
        raw = model.predict_proba(self.X_calibrate)
        calibrator, thresholds = self.decision.decide(raw, self.recipe.model)
        return Fitted(model, self.preprocessor, calibrator, thresholds)


def prepare_slice(
    data: TrainingData,
    rows: Ints,
    recipe: Recipe,
    *,
    early_stopping: bool = True,
    columns: Sequence[str] | None = None,
) -> PreparedSlice:
    """Cut training rows by time, purge between the parts, and preprocess each.

    Parameters
    ----------
    data, rows
        All rows, and the positions of those that may be learned from.
    recipe
        Configuration.
    early_stopping
        False: the stop rows join the fit rows, for fits with a known number of trees.
    columns
        Use these columns, selected before; None: all, or those that the selection keeps.

    Raises
    ------
    TrainingError
        When a part is empty, or holds one class only under all `SHARES`.
    """
    fit, stop, calibrate = _parts(data, rows, recipe, early_stopping)
    used = list(data.X.columns if columns is None else columns)
    preprocessor, fit_data = _matrices(data, fit, stop, used, recipe)
    if columns is None and recipe.model.feature_selection:
        used = select_columns(
            preprocessor.kept_columns,
            fit_data,
            recipe.model,
            lambda ranked: _fit(ranked, recipe.model.parameters, recipe.model),
            block=_block(data, fit),
        )
        preprocessor, fit_data = _matrices(data, fit, stop, used, recipe)
    return PreparedSlice(
        recipe=recipe,
        preprocessor=preprocessor,
        fit_data=fit_data,
        X_calibrate=preprocessor.transform(take_rows(data.X, calibrate)),
        decision=DecisionSlice(
            y=data.y[calibrate],
            weight=data.weight[calibrate],
            returns=data.returns_of(calibrate),
            shorts=data.shorts_of(calibrate),
            round_trip_cost=data.round_trip_cost,
            horizon_candles=data.horizon_candles,
            class_weights=_class_weights(data.y[fit], data.task, recipe.model),
            label_scale=_label_scale(data, fit),
            seen=seen_classes(fit_data.y),
            task=data.task,
        ),
    )


@dataclass(frozen=True, eq=False)
class PreparedFold:
    """A fold ready for fits: its prepared training slice, and its preprocessed test rows."""

    fold: Fold
    prepared: PreparedSlice
    X_test: Matrix


def prepare_fold(data: TrainingData, recipe: Recipe, fold: Fold) -> PreparedFold:
    """Prepare a fold; raises what `prepare_slice` does."""
    prepared = prepare_slice(data, fold.train, recipe)
    return PreparedFold(
        fold, prepared, prepared.preprocessor.transform(take_rows(data.X, fold.test))
    )


def fit_whole(data: TrainingData, rows: Ints, recipe: Recipe, params: Mapping[str, Any]) -> Fitted:
    """One fit on all rows: no early stopping, no calibration, and thresholds in the middle (`plain_decision`)."""
    preprocessor, fit_data = _matrices(data, rows, None, list(data.X.columns), recipe)
    calibrator, thresholds = plain_decision(data.task, _label_scale(data, rows))
    return Fitted(_fit(fit_data, params, recipe.model), preprocessor, calibrator, thresholds)


def check_slice(data: TrainingData, rows: Ints, recipe: Recipe) -> None:
    """Raise the `TrainingError` that `prepare_slice` would, without its work; log if parts had to be widened."""
    parts = _parts(data, rows, recipe, True)
    share = len(parts[-1]) / len(rows)
    if share > SHARES[0][-1] + 0.01:
        logger.warning(
            "Labels up to %s have long stretches of one class: %.0f %% of those rows instead of %.0f %% calibrate.",
            data.dates[rows[-1]],
            100 * share,
            100 * SHARES[0][-1],
        )


def slice_shares(model_type: str, *, early_stopping: bool = True) -> tuple[tuple[float, ...], ...]:
    """`SHARES` for an estimator: one that does not stop early is fitted on what would have stopped it, too."""
    if early_stopping and MODELS[model_type].stops_early:
        return SHARES
    return tuple((fit + stop, calibrate) for fit, stop, calibrate in SHARES)


def _parts(
    data: TrainingData, rows: Ints, recipe: Recipe, early_stopping: bool
) -> tuple[Ints, Ints | None, Ints]:
    every = slice_shares(recipe.model.model_type, early_stopping=early_stopping)
    with_stop = every is SHARES
    names = ("fit", "early-stopping", "calibration") if with_stop else ("fit", "calibration")
    problems = []
    date, known = (times[rows] for times in data.nanoseconds)
    for shares in every:
        found = slices_of(date, known, shares)
        parts = [rows[part] for part in found]
        problem = _one_class(data, names, parts)
        if problem is None:
            return parts[0], parts[1] if with_stop else None, parts[-1]
        problems.append(problem)
    raise TrainingError(
        f"{problems[0]}, and no wider slices have both classes everywhere. Use more candles, fewer folds or a "
        "label whose classes are closer to balance."
    )


def _one_class(data: TrainingData, names: Sequence[str], parts: Sequence[Ints]) -> str | None:
    """What is wrong with the first part that has one class only."""
    for name, part in zip(names, parts, strict=True):
        found = np.unique(data.y[part])
        if len(found) < 2:
            what = "label" if data.task == "regression" else "class"
            return (
                f"The {name} slice from {data.dates[part[0]]} to {data.dates[part[-1]]} has only "
                f"{what} {found[0]:g} in its {len(part)} rows"
            )
    return None


def _matrices(
    data: TrainingData, fit: Ints, stop: Ints | None, columns: list[str], recipe: Recipe
) -> tuple[Preprocessor, FitData]:
    X = data.X if len(columns) == data.X.shape[1] else data.X[columns]
    X_fit = take_rows(X, fit)
    preprocessor = Preprocessor.fit(X_fit, recipe.features, data.y[fit])
    odds = _class_weights(data.y[fit], data.task, recipe.model)
    scale = _label_scale(data, fit)
    return preprocessor, FitData(
        X=preprocessor.transform(X_fit),
        y=data.y[fit] / scale,
        weight=_row_weights(data, fit, recipe.model) * odds[_class_of(data, fit)],
        X_stop=None if stop is None else preprocessor.transform(take_rows(X, stop)),
        y_stop=None if stop is None else data.y[stop] / scale,
        monotone=_monotone(preprocessor, recipe.model),
        weight_stop=None
        if stop is None
        else _row_weights(data, stop, recipe.model) * odds[_class_of(data, stop)],
        task=data.task,
    )


def _row_weights(data: TrainingData, rows: Ints, config: ModelConfig) -> Floats:
    """Weights of some rows, decayed from the last of them backwards, with mean 1.

    The decay is the exponential form of López de Prado (2018), section 4.7; it is taken within the slice, so that it
    depends on nothing later.
    """
    weight = data.weight[rows]
    if config.weight_half_life_candles is not None:
        dates = data.dates[rows]
        age = np.asarray((dates.max() - dates) / data.candle, dtype=np.float64)
        weight = weight * np.exp2(-age / config.weight_half_life_candles)
    total = float(weight.sum())
    if total <= 0:
        raise TrainingError(
            f"All {len(rows)} rows from {data.dates[rows[0]]} to {data.dates[rows[-1]]} have weight 0. "
            "Give other weights, or use more candles."
        )
    return np.asarray(weight * (len(weight) / total), dtype=np.float64)


def _class_weights(y: Floats, task: Task, config: ModelConfig) -> Floats:
    """Weight of each class in ascending order; "balanced" gives those that occur the same say."""
    classes = CLASSES if task == "three_class" else (0.0, 1.0)
    if config.class_weight == "none" or task == "regression":
        return np.ones(len(classes))
    share = np.array([float((y == value).mean()) for value in classes])
    even = 1.0 / np.count_nonzero(share)
    return np.where(share > 0, even / np.where(share > 0, share, 1.0), 1.0)


def _class_of(data: TrainingData, rows: Ints) -> Ints:
    """Number of each row's class, counted from 0; values are all of one."""
    if data.task == "regression":
        return np.zeros(len(rows), dtype=np.int64)
    first = CLASSES[0] if data.task == "three_class" else 0.0
    return (data.y[rows] - first).astype(np.int64)


def _label_scale(data: TrainingData, rows: Ints) -> float:
    """What labels are divided by for the fit: returns are so small that estimators take their gains for rounding."""
    return float(data.y[rows].std()) if data.task == "regression" else 1.0


def _block(data: TrainingData, rows: Ints) -> int:
    """Rows of five label horizons: overlapping labels and slow features are dependent for one and more."""
    rows_per_date = len(rows) / len(data.dates[rows].unique())
    return max(1, round(5 * data.horizon_candles * rows_per_date))


def _monotone(preprocessor: Preprocessor, config: ModelConfig) -> tuple[int, ...] | None:
    """Constraint of each kept column; scaling does not turn a column round."""
    if not config.monotone:
        return None
    return tuple(config.monotone.get(name, 0) for name in preprocessor.kept_columns)


def _fit(fit_data: FitData, params: Mapping[str, Any], config: ModelConfig) -> FittedModel:
    return MODELS[config.model_type].fit(
        params,
        fit_data,
        seed=config.random_state,
        early_stopping_rounds=config.early_stopping_rounds,
    )
