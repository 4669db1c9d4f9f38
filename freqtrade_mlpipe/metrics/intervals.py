"""Scores with intervals, and the difference of two models with its interval, on dependent rows.

References
----------
DeLong, DeLong & Clarke-Pearson (1988), Comparing the Areas under Two or More Correlated Receiver
Operating Characteristic Curves, Biometrics 44: the placement values behind the interval of an area.
Politis & Romano (1994), The Stationary Bootstrap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from freqtrade_mlpipe.metrics.bootstrap import block_bootstrap_means
from freqtrade_mlpipe.metrics.scores import log_losses

Floats = NDArray[np.float64]

MIN_STRETCHES = 8
"""No interval from fewer blocks than this; up to some twenty it is still rather too narrow."""


@dataclass(frozen=True)
class Estimate:
    """A score and the interval around it; `low` and `high` NaN where the rows are too few for one."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """How much lower one model's mean loss is than another's on the same rows.

    Attributes
    ----------
    mean
        Mean loss of the first less that of the second; negative: the first is better.
    low, high
        Interval of it.
    p_value
        Two-sided, of "there is no difference", in (0, 1].
    n_rows, n_stretches
        Rows, and about how many independent stretches of dates they amount to (dates / block).
    """

    mean: float
    low: float
    high: float
    p_value: float
    n_rows: int
    n_stretches: float


def score_intervals(
    y: ArrayLike,
    proba: ArrayLike,
    dates: pd.DatetimeIndex,
    block: float,
    *,
    group: ArrayLike | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    n_resamples: int = 1000,
) -> dict[str, Estimate]:
    """Log-loss, Brier score and ROC AUC with block-bootstrap percentile intervals.

    Each score is a mean over rows, so that a resample costs a few sums. For the area these are DeLong's
    placement values: the area's linearisation, close for more than some hundred rows.

    Parameters
    ----------
    y : array-like of shape (n,)
        1 or 0, no NaN.
    proba : array-like of shape (n,)
        Probability of class 1, no NaN.
    dates : DatetimeIndex, shape (n,)
        Rows of one date are resampled together.
    block : float
        Mean block length in dates: several times the label's horizon.
    group : array-like of shape (n,), optional
        Rows are ranked within groups only (walk-forward folds); the area is the mean of the groups'
        weighted by rows. Groups with one class do not count. None: one group.

    Returns
    -------
    dict of str to Estimate
        `roc_auc` is absent where no group has both classes.
    """
    y, proba = np.asarray(y, dtype=np.float64), np.asarray(proba, dtype=np.float64)
    groups = np.zeros(len(y)) if group is None else np.asarray(group)
    rows: dict[str, tuple[Floats, pd.DatetimeIndex]] = {
        "log_loss": (log_losses(y, proba), dates),
        "brier": ((proba - y) ** 2, dates),
    }
    area = _area_terms(y, proba, groups)
    ranked = np.isfinite(area)
    if ranked.any():
        rows["roc_auc"] = (area[ranked], dates[ranked])
    tail = (1 - confidence) / 2
    found = {}
    for name, (values, of) in rows.items():
        low = high = float("nan")
        if of.nunique() >= MIN_STRETCHES * block:
            means = block_bootstrap_means(values, block, seed, dates=of, n_resamples=n_resamples)
            low, high = (float(q) for q in np.quantile(means, [tail, 1 - tail]))
        found[name] = Estimate(float(values.mean()), low, high)
    return found


def paired_difference(
    first: ArrayLike,
    second: ArrayLike,
    dates: pd.DatetimeIndex,
    block: float,
    *,
    confidence: float = 0.95,
    seed: int = 0,
    n_resamples: int = 5000,
) -> Difference:
    """The mean difference of two models' losses on the same rows, resampled in pairs and blocks.

    Parameters
    ----------
    first, second : array-like of shape (n,)
        Losses of the same rows, no NaN.
    dates : DatetimeIndex, shape (n,)
        Rows of one date are resampled together.
    block : float
        Mean block length in dates: several times the label's horizon.

    Examples
    --------
    >>> dates = pd.date_range("2024-01-01", periods=500, freq="1h", tz="UTC")
    >>> losses = np.random.default_rng(0).random(500)
    >>> better = paired_difference(losses - 0.01, losses, dates, block=5)
    >>> round(better.mean, 4), better.high < 0
    (-0.01, True)
    """
    gap = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    mean = float(gap.mean())
    tail = (1 - confidence) / 2
    means = block_bootstrap_means(gap, block, seed, dates=dates, n_resamples=n_resamples)
    low, high = (float(q) for q in np.quantile(means, [tail, 1 - tail]))
    further = int((np.abs(means - mean) >= abs(mean)).sum())
    return Difference(
        mean=mean,
        low=low,
        high=high,
        p_value=(1 + further) / (1 + n_resamples) if gap.any() else 1.0,
        n_rows=len(gap),
        n_stretches=dates.nunique() / block,
    )


def _area_terms(y: Floats, proba: Floats, groups: NDArray[np.generic]) -> Floats:
    """A value a row whose mean is the area under the ROC curve; NaN in groups of one class."""
    terms = np.full(len(y), np.nan)
    for name in np.unique(groups):
        rows = np.flatnonzero(groups == name)
        hit = y[rows] > 0.5
        if 0 < hit.sum() < len(rows):
            terms[rows] = _placements(hit, proba[rows])
    return terms


def _placements(hit: NDArray[np.bool_], proba: Floats) -> Floats:
    positives, negatives = np.sort(proba[hit]), np.sort(proba[~hit])
    below = np.searchsorted(negatives, proba, "left") + np.searchsorted(negatives, proba, "right")
    above = np.searchsorted(positives, proba, "left") + np.searchsorted(positives, proba, "right")
    place = np.where(hit, below / (2 * len(negatives)), 1 - above / (2 * len(positives)))
    area = place[hit].mean()
    share = np.where(hit, hit.mean(), 1 - hit.mean())
    return np.asarray(area + (place - area) / share)
