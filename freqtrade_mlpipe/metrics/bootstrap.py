"""Inference on dependent rows: the stationary bootstrap over blocks of dates.

Rows of several pairs that share a date are drawn together, so dependence across pairs is kept as
well as dependence in time.

References
----------
Politis & Romano (1994), The Stationary Bootstrap, JASA 89. Politis & White (2004), Automatic
Block-Length Selection for the Dependent Bootstrap, with the correction of Patton, Politis & White
(2009).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BLOCK_HORIZONS = 5
"""Mean block length of the bootstrap, in label horizons: overlapping labels make losses dependent for one and more."""

CHUNK = 2_000_000


def block_bootstrap_p_value(
    loss_model: ArrayLike,
    loss_baseline: ArrayLike,
    block: float | None = None,
    seed: int = 0,
    *,
    dates: pd.DatetimeIndex | None = None,
    n_resamples: int = 2000,
) -> float:
    """One-sided p-value of "the model's mean loss is not lower than the baseline's".

    Parameters
    ----------
    loss_model, loss_baseline : array-like of shape (n,)
        Losses of the same rows, in chronological order unless `dates` are given.
    block : float, optional
        Mean block length in dates. Overlapping labels of horizon h make losses dependent for h
        candles and more: give several times h. None: `automatic_block_length` of the loss
        differences.
    seed : int, default 0
    dates : DatetimeIndex, shape (n,), optional
        Date of each row; rows of one date are resampled together. None: every row is its own date.
    n_resamples : int, default 2000
        The smallest p-value possible is ``1 / (n_resamples + 1)``.

    Returns
    -------
    float
        In (0, 1]. 1 when there is no difference at all.

    Raises
    ------
    ValueError
        For NaN, unequal lengths or fewer than two dates.
    """
    gain = np.asarray(loss_baseline, dtype=np.float64) - np.asarray(loss_model, dtype=np.float64)
    total, count = _by_date(gain, dates)
    observed = float(total.sum() / count.sum())
    if not np.any(total):
        return 1.0
    length = automatic_block_length(total / count) if block is None else block
    means = _resampled_means(total, count, length, n_resamples, np.random.default_rng(seed))
    return float((1 + (means - observed >= observed).sum()) / (n_resamples + 1))


def block_bootstrap_means(
    values: ArrayLike,
    block: float,
    seed: int = 0,
    *,
    dates: pd.DatetimeIndex | None = None,
    n_resamples: int = 2000,
) -> Floats:
    """Means of resampled values, shape (n_resamples,): much faster than an interval of any statistic.

    Parameters
    ----------
    values : array-like of shape (n,)
        In chronological order unless `dates` are given.
    block : float
        Mean block length in dates.
    dates : DatetimeIndex, shape (n,), optional
        Date of each value; values of one date are resampled together.

    Raises
    ------
    ValueError
        For NaN, unequal lengths or fewer than two dates.
    """
    total, count = _by_date(np.asarray(values, dtype=np.float64), dates)
    length = min(block, float(len(total)))
    return _resampled_means(total, count, length, n_resamples, np.random.default_rng(seed))


def block_bootstrap_interval(
    statistic: Callable[[Ints], float],
    dates: pd.DatetimeIndex,
    block: float,
    seed: int = 0,
    *,
    confidence: float = 0.95,
    n_resamples: int = 500,
) -> tuple[float, float]:
    """Percentile interval of a statistic of rows.

    Parameters
    ----------
    statistic : callable
        Takes row positions (with repeats) and gives a float; NaN values are left out.
    dates : DatetimeIndex, shape (n,)
        Date of each row; rows of one date are resampled together.
    block : float
        Mean block length in dates.
    seed : int, default 0
    confidence : float, default 0.95
    n_resamples : int, default 500

    Returns
    -------
    tuple of float
        Low and high; NaN when the statistic was never defined.

    Examples
    --------
    >>> dates = pd.date_range("2024-01-01", periods=200, freq="1h", tz="UTC")
    >>> x = np.random.default_rng(0).normal(size=200)
    >>> low, high = block_bootstrap_interval(lambda rows: x[rows].mean(), dates, block=5)
    >>> low < 0 < high
    True
    """
    codes, n_dates = _date_codes(dates)
    order = np.argsort(codes, kind="stable")
    count = np.bincount(codes, minlength=n_dates)
    first = np.cumsum(count) - count
    rng = np.random.default_rng(seed)
    values = []
    for starts, lengths in _blocks(n_dates, block, n_resamples, rng):
        for start, length in zip(starts, lengths, strict=True):
            drawn = _ranges(start, length) % n_dates
            values.append(float(statistic(order[_ranges(first[drawn], count[drawn])])))
    defined = np.asarray(values)[np.isfinite(values)]
    if not len(defined):
        return float("nan"), float("nan")
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(defined, [tail, 1.0 - tail])
    return float(low), float(high)


def automatic_block_length(values: ArrayLike) -> float:
    """Mean block length that suits the autocorrelation of a series, for the stationary bootstrap.

    Parameters
    ----------
    values : array-like of shape (n,)
        In chronological order, without NaN.

    Returns
    -------
    float
        At least 1, at most ``min(3 * sqrt(n), n / 3)``.
    """
    x = np.asarray(values, dtype=np.float64)
    n = len(x)
    longest = float(max(1.0, min(3.0 * np.sqrt(n), n / 3.0)))
    x = x - x.mean()
    if n < 10 or not x.any():
        return 1.0
    run = max(5, int(np.ceil(np.sqrt(np.log10(n)))))
    n_lags = min(int(np.ceil(np.sqrt(n))) + run, n - 1)
    covariance = np.array(
        [(x[lag:] * x[: n - lag]).mean() * (n - lag) / n for lag in range(n_lags + 1)]
    )
    small = np.abs(covariance[1:] / covariance[0]) < 2.0 * np.sqrt(np.log10(n) / n)
    quiet = [lag for lag in range(len(small) - run + 1) if small[lag : lag + run].all()]
    if quiet:
        cut = max(quiet[0], 1)
    else:
        loud = np.flatnonzero(~small)
        cut = int(loud[-1]) + 1 if len(loud) else 1
    lags = np.arange(-min(2 * cut, n_lags), min(2 * cut, n_lags) + 1)
    window = np.clip(2.0 * (1.0 - np.abs(lags) / (2.0 * cut)), 0.0, 1.0)
    spectrum = float((window * covariance[np.abs(lags)]).sum())
    slope = float((window * np.abs(lags) * covariance[np.abs(lags)]).sum())
    if spectrum <= 0:
        return longest
    return float(np.clip(np.cbrt(n * (slope / spectrum) ** 2), 1.0, longest))


def _by_date(values: Floats, dates: pd.DatetimeIndex | None) -> tuple[Floats, Floats]:
    """Sum and number of the values of each date, in chronological order."""
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError("Losses must be of shape (n,) and finite.")
    if dates is None:
        total, count = values, np.ones(len(values), dtype=np.float64)
    else:
        codes, n_dates = _date_codes(dates)
        if len(codes) != len(values):
            raise ValueError(f"Found {len(values)} losses for {len(codes)} dates.")
        total = np.bincount(codes, weights=values, minlength=n_dates).astype(np.float64)
        count = np.bincount(codes, minlength=n_dates).astype(np.float64)
    if len(total) < 2:
        raise ValueError(f"A bootstrap needs at least two dates, found {len(total)}.")
    return total, count


def _date_codes(dates: pd.DatetimeIndex) -> tuple[Ints, int]:
    unique, codes = np.unique(dates.as_unit("ns").asi8, return_inverse=True)
    return codes.astype(np.int64), len(unique)


def _resampled_means(
    total: Floats, count: Floats, block: float, n_resamples: int, rng: np.random.Generator
) -> Floats:
    """Means of resamples from prefix sums of the circular series: no index is ever drawn out."""
    n = len(total)
    sums = np.r_[0.0, np.cumsum(np.tile(total, 2))]
    counts = None if (count == 1).all() else np.r_[0.0, np.cumsum(np.tile(count, 2))]
    means = []
    for starts, lengths in _blocks(n, block, n_resamples, rng):
        stops = starts + lengths
        weight = n if counts is None else (counts[stops] - counts[starts]).sum(axis=1)
        means.append((sums[stops] - sums[starts]).sum(axis=1) / weight)
    return np.concatenate(means)


def _blocks(
    n: int, block: float, n_resamples: int, rng: np.random.Generator
) -> Iterator[tuple[Ints, Ints]]:
    """Chunks of (starts, lengths), each (n_chunk, n_blocks): every row's lengths sum to n."""
    if not block >= 1:
        raise ValueError(f"block must be at least 1 date, found {block}.")
    expected = n / block
    n_blocks = min(n, int(np.ceil(expected + 8.0 * np.sqrt(expected) + 16.0)))
    size = max(1, CHUNK // n_blocks)
    for done in range(0, n_resamples, size):
        shape = (min(size, n_resamples - done), n_blocks)
        ends = np.minimum(np.cumsum(np.minimum(rng.geometric(1.0 / block, shape), n), axis=1), n)
        # So many blocks fall short once in about 10^15 resamples; the last one then runs on.
        ends[:, -1] = n
        yield rng.integers(0, n, shape), np.diff(ends, axis=1, prepend=0)


def _ranges(starts: Ints, lengths: Ints) -> Ints:
    """The integers start … start + length - 1 of each pair, one after the other."""
    ends = np.cumsum(lengths)
    return np.asarray(np.arange(ends[-1]) + np.repeat(starts - (ends - lengths), lengths))
