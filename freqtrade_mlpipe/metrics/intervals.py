"""Scores with intervals, and the difference of two models with its interval, on dependent rows.

References
----------
DeLong, DeLong & Clarke-Pearson (1988), Comparing the Areas under Two or More Correlated Receiver
Operating Characteristic Curves, Biometrics 44: the placement values behind the interval of an area.
Politis & Romano (1994), The Stationary Bootstrap.
Van der Vaart (1998), Asymptotic Statistics, chapter 12: the projection behind that of a rank correlation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from freqtrade_mlpipe.config import CLASSES
from freqtrade_mlpipe.metrics.bootstrap import block_bootstrap_means
from freqtrade_mlpipe.metrics.classes import class_log_losses
from freqtrade_mlpipe.metrics.scores import log_losses

Floats = NDArray[np.float64]
Dated = tuple[Floats, pd.DatetimeIndex]
"""A value a row, and the row's date."""

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
        1 or 0, of three classes -1, 0 or 1, no NaN.
    proba : array-like of shape (n,) or (n, 3)
        Probability of class 1, or of each of `config.CLASSES`, no NaN. Brier score and area are then those of
        `three_class_scores`: a sum over the classes, and the mean of each against the rest.
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
    if proba.ndim == 1:
        losses, hits, scores = log_losses(y, proba), y[:, None], proba[:, None]
    else:
        losses, hits, scores = class_log_losses(y, proba), y[:, None] == CLASSES, proba
    rows = {"log_loss": (losses, dates), "brier": (((scores - hits) ** 2).sum(axis=1), dates)}
    area = _mean_area_terms(hits > 0.5, scores, groups)
    ranked = np.isfinite(area)
    if ranked.any():
        rows["roc_auc"] = (area[ranked], dates[ranked])
    return _estimates(rows, block, confidence, seed, n_resamples)


def value_intervals(
    y: ArrayLike,
    value: ArrayLike,
    dates: pd.DatetimeIndex,
    block: float,
    *,
    group: ArrayLike | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    n_resamples: int = 1000,
) -> dict[str, Estimate]:
    """Squared error, its root, absolute error and rank correlation with block-bootstrap intervals.

    The rank correlation is the mean over rows of the product of standardised ranks. The interval takes the ranks as
    given, which is close for correlations as weak as those of returns (below 0.3).

    Parameters
    ----------
    y, value : array-like of shape (n,)
        Returns, true and predicted, no NaN.
    dates, block, group
        As of `score_intervals`; rows are ranked within groups, and groups in which `y` never varies do not count.

    Returns
    -------
    dict of str to Estimate
        `spearman` is absent where `y` never varies in any group.
    """
    y, value = np.asarray(y, dtype=np.float64), np.asarray(value, dtype=np.float64)
    groups = np.zeros(len(y)) if group is None else np.asarray(group)
    rows = {"squared_error": ((y - value) ** 2, dates), "mae": (np.abs(y - value), dates)}
    products = _rank_products(y, value, groups)
    ranked = np.isfinite(products)
    if ranked.any():
        rows["spearman"] = (products[ranked], dates[ranked])
    found = _estimates(rows, block, confidence, seed, n_resamples)
    square = found["squared_error"]
    found["rmse"] = Estimate(*np.sqrt([square.value, square.low, square.high]).tolist())
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
        n_stretches=(len(gap) if dates.is_unique else dates.nunique()) / block,
    )


def _estimates(
    rows: Mapping[str, Dated], block: float, confidence: float, seed: int, n_resamples: int
) -> dict[str, Estimate]:
    """The mean of each score's rows; its interval NaN where the dates make too few blocks."""
    tail = (1 - confidence) / 2
    found = {}
    for name, (values, of) in rows.items():
        low = high = float("nan")
        if of.nunique() >= MIN_STRETCHES * block:
            means = block_bootstrap_means(values, block, seed, dates=of, n_resamples=n_resamples)
            low, high = (float(q) for q in np.quantile(means, [tail, 1 - tail]))
        found[name] = Estimate(float(values.mean()), low, high)
    return found


def _mean_area_terms(
    hits: NDArray[np.bool_], scores: Floats, groups: NDArray[np.generic]
) -> Floats:
    """A value a row whose mean is the area under the ROC curve, of several classes the mean of theirs.

    Classes, a column each, that do not divide a group do not count in it; NaN in groups that none divides.
    """
    terms = np.full(len(hits), np.nan)
    for name in np.unique(groups):
        rows = np.flatnonzero(groups == name)
        divides = np.flatnonzero(
            (hits[rows].sum(axis=0) > 0) & (hits[rows].sum(axis=0) < len(rows))
        )
        if len(divides):
            terms[rows] = np.mean(
                [_placements(hits[rows, k], scores[rows, k]) for k in divides], axis=0
            )
    return terms


def _rank_products(y: Floats, value: Floats, groups: NDArray[np.generic]) -> Floats:
    """A value a row whose mean is Spearman's correlation; 0 where `value` never varies, NaN where `y` never does."""
    from scipy.stats import rankdata

    terms = np.full(len(y), np.nan)
    for name in np.unique(groups):
        rows = np.flatnonzero(groups == name)
        truth, found = (rankdata(values[rows]) for values in (y, value))
        if np.ptp(truth):
            spread = truth.std() * (found.std() or 1.0)
            terms[rows] = (truth - truth.mean()) * (found - found.mean()) / spread
    return terms


def _placements(hit: NDArray[np.bool_], proba: Floats) -> Floats:
    positives, negatives = np.sort(proba[hit]), np.sort(proba[~hit])
    below = np.searchsorted(negatives, proba, "left") + np.searchsorted(negatives, proba, "right")
    above = np.searchsorted(positives, proba, "left") + np.searchsorted(positives, proba, "right")
    place = np.where(hit, below / (2 * len(negatives)), 1 - above / (2 * len(positives)))
    area = place[hit].mean()
    share = np.where(hit, hit.mean(), 1 - hit.mean())
    return np.asarray(area + (place - area) / share)
