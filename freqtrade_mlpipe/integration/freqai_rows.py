"""What a training window of FreqAI holds, and which of its rows are learned from and judged on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from freqtrade_mlpipe.config import FreqaiConfig
from freqtrade_mlpipe.exceptions import TrainingError
from freqtrade_mlpipe.integration.freqai_outliers import OutlierGuard
from freqtrade_mlpipe.integration.freqai_settings import judged_share
from freqtrade_mlpipe.integration.freqai_targets import Target
from freqtrade_mlpipe.splits import tail_slices
from freqtrade_mlpipe.tuning import Recipe, row_totals, take_rows

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Plan:
    """How every window of a run is trained.

    Attributes
    ----------
    freqai : FreqAI's block of the configuration.
    candle : length of a candle.
    """

    recipe: Recipe
    settings: FreqaiConfig
    freqai: Mapping[str, Any]
    candle: pd.Timedelta


@dataclass(frozen=True, eq=False)
class WindowRows:
    """What a window may learn from.

    Attributes
    ----------
    features : float32, index: open time of the candles (UTC), ascending.
    labels : the target columns, on the same index; missing where unknown at the end of the window.
    targets : what they are.
    horizon_candles : how far they look ahead.
    span : first candle the window's model may predict, and the first one it may not (None: without end).
    forward : `trade_returns` of the rows, shape (n,).
    """

    features: pd.DataFrame
    labels: pd.DataFrame
    targets: tuple[Target, ...]
    horizon_candles: int
    span: tuple[pd.Timestamp, pd.Timestamp | None]
    forward: Floats | None = None


@dataclass(frozen=True, eq=False)
class Judged:
    """The newest purged rows of a window, on which models are compared; none was trained on them.

    Attributes
    ----------
    features : of shape (n, n_features), index: dates (UTC).
    labels : number of each row by target, see `Target.numbers`.
    """

    features: pd.DataFrame
    labels: Mapping[str, Floats]


def judged_rows(rows: WindowRows, plan: Plan, guard: OutlierGuard | None) -> Judged:
    """The rows that a window's model was judged on, given its outlier checks.

    Raises
    ------
    TrainingError
        As `train_window`.
    """
    split = split_rows(rows, plan)
    return split.judged(split.kept_by(guard)[1])


@dataclass(frozen=True, eq=False)
class Split:
    """Complete rows, and which of them are learned from and judged on."""

    features: pd.DataFrame
    labels: pd.DataFrame
    numbers: Mapping[str, Floats]
    known_at: pd.DatetimeIndex
    train: Ints
    judge: Ints
    forward: Floats | None

    def kept_by(self, guard: OutlierGuard | None) -> tuple[Ints, Ints]:
        """Those of `train` and `judge` that are no outliers."""
        if guard is None:
            return self.train, self.judge
        kept = guard.keeps(self.features.to_numpy(np.float64))
        return self.train[kept[self.train]], self.judge[kept[self.judge]]

    def judged(self, judge: Ints) -> Judged:
        return Judged(
            take_rows(self.features, judge), {name: y[judge] for name, y in self.numbers.items()}
        )


def split_rows(rows: WindowRows, plan: Plan) -> Split:
    numbers = {target.name: target.numbers(rows.labels[target.name]) for target in rows.targets}
    complete = _complete(rows, numbers)
    features, labels = take_rows(rows.features, complete), rows.labels.iloc[complete]
    dates = pd.DatetimeIndex(features.index)
    known_at = dates + rows.horizon_candles * plan.candle
    share = judged_share(plan.freqai, len(features))
    train, judge = np.arange(len(features)), np.empty(0, dtype=np.int64)
    if share > 0:
        train, judge = tail_slices(dates, known_at, (1 - share, share))
    numbers = {name: found[complete] for name, found in numbers.items()}
    forward = None if rows.forward is None else rows.forward[complete]
    return Split(features, labels, numbers, known_at, train, judge, forward)


def guard_of(split: Split, plan: Plan) -> OutlierGuard | None:
    parameters = plan.freqai["feature_parameters"]
    if not (parameters.get("use_SVM_to_remove_outliers") or parameters.get("DI_threshold")):
        return None
    learned = split.features.iloc[split.train].to_numpy(np.float64)
    return OutlierGuard.fit(learned, parameters, seed=plan.recipe.model.random_state)


def _complete(rows: WindowRows, numbers: Mapping[str, Floats]) -> Ints:
    """Positions of rows with all features and targets."""
    whole = np.isfinite(row_totals(rows.features))
    for labels in numbers.values():
        whole &= ~np.isnan(labels)
    found = np.flatnonzero(whole)
    if not len(found):
        counts = rows.features.notna().sum()
        raise TrainingError(
            f"None of {len(whole)} rows has all features and targets; the feature with the fewest values is "
            f"{counts.idxmin()} with {counts.min()}. Download candles from before the training window, or mend it."
        )
    return found
