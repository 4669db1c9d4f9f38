"""Members: the final fit of a training slice with chosen parameters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from freqtrade_mlpipe.config import ModelConfig
from freqtrade_mlpipe.member import Member
from freqtrade_mlpipe.models import MODELS, Parameters
from freqtrade_mlpipe.splits import Fold
from freqtrade_mlpipe.tuning import (
    Fitted,
    Ints,
    Progress,
    Recipe,
    TrainingData,
    TuningResult,
    fit_whole,
    in_order,
    prepare_slice,
)


def fit_member(
    data: TrainingData,
    rows: Ints,
    recipe: Recipe,
    params: Parameters,
    *,
    valid_from: pd.Timestamp,
    valid_to: pd.Timestamp | None,
) -> Member:
    """Fit on training rows that are all known before `valid_from`.

    Estimators that stop early are fitted twice: on the first 75 % of the rows, stopped on the next
    10 %, then with that number of trees on those 85 %. The last 15 % are kept for the calibration
    and the thresholds; the model itself does not learn from them, so that its probabilities there
    are out of sample.
    """
    spec = MODELS[recipe.model.model_type]
    columns = None
    if spec.stops_early:
        stopped = prepare_slice(data, rows, recipe)
        model = stopped.fit_model(params)
        params = {**params, **spec.kept_rounds(model)}
        if recipe.model.feature_selection:
            columns = stopped.preprocessor.kept_columns
    prepared = prepare_slice(data, rows, recipe, early_stopping=False, columns=columns)
    return _member(prepared.fit(params), data, rows, recipe, (valid_from, valid_to))


def fit_whole_member(
    data: TrainingData,
    rows: Ints,
    recipe: Recipe,
    params: Parameters,
    *,
    valid_from: pd.Timestamp,
    valid_to: pd.Timestamp | None,
) -> Member:
    """Fit once on all rows, with as many trees as `params` say: see `tuning.fit_whole`."""
    fitted = fit_whole(data, rows, recipe, params)
    return _member(fitted, data, rows, recipe, (valid_from, valid_to))


def _member(
    fitted: Fitted,
    data: TrainingData,
    rows: Ints,
    recipe: Recipe,
    span: tuple[pd.Timestamp, pd.Timestamp | None],
) -> Member:
    return Member(
        model_type=recipe.model.model_type,
        model=fitted.model,
        preprocessor=fitted.preprocessor,
        calibrator=fitted.calibrator,
        thresholds=fitted.thresholds,
        train_start=data.dates[rows.min()],
        train_end=data.known_at[rows[data.known_at.asi8[rows].argmax()]],
        valid_from=span[0],
        valid_to=span[1],
        n_train_rows=len(rows),
    )


def production_rows(data: TrainingData, config: ModelConfig) -> Ints:
    """Rows of the production member: all, or the latest window as long as those of the walk-forward members."""
    if config.train_window_candles is None:
        return np.arange(len(data))
    known_until = data.known_at.max() + data.candle
    window = config.train_window_candles * data.candle
    return np.flatnonzero(data.dates >= known_until - window)


def fit_members(
    data: TrainingData,
    folds: Sequence[Fold],
    recipe: Recipe,
    tuned: TuningResult,
    valid_from: pd.Timestamp,
    on_progress: Progress | None,
) -> tuple[Member, ...]:
    """Walk-forward members, each until the next one's span, and last the production member."""
    spans: list[tuple[Ints, Parameters, pd.Timestamp, pd.Timestamp | None]] = [
        (production_rows(data, recipe.model), tuned.best_params, valid_from, None)
    ]
    walk_params = tuned.walk_params or (tuned.best_params,) * len(folds)
    spans += [
        (fold.train, params, fold.test_start, fold.test_end or valid_from)
        for fold, params in zip(folds, walk_params, strict=True)
    ]

    def fit(span: tuple[Ints, Parameters, pd.Timestamp, pd.Timestamp | None]) -> Member:
        rows, params, start, end = span
        return fit_member(data, rows, recipe, params, valid_from=start, valid_to=end)

    fitted = []
    for member in in_order(fit, spans, min(recipe.model.n_jobs, len(spans))):
        fitted.append(member)
        if on_progress is not None:
            on_progress("fitting members", len(fitted), len(spans))
    return (*fitted[1:], fitted[0])
