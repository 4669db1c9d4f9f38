"""Rolling reductions whose value depends on nothing but the candles inside the window.

Running sums (`sum += new - old`, `cumsum` differences, TA-Lib's `STDDEV`) carry rounding errors of
the whole history along, which leaves noise where a window is flat and makes a value depend on where
the frame starts. Here windows are put together from blocks of 1, 2, 4, 8 … candles (binary
decomposition of the width): O(rows * log(width)), the same additions in the same order wherever the
frame starts, hence bit-identical on any prefix or suffix that holds the window.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import talib
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
State = tuple[FloatArray, ...]

_RELATIVE_ZERO = 1e-12
"""A variance below this share of the mean square is rounding noise and counts as zero."""
_RANK_TIE = 1e-9


def _fold(
    state: State, width: int, merge: Callable[[State, int, State, int], State], n_rows: int
) -> State:
    """Merge `state` over every window of `width` rows; row k of the result belongs to row k + width
    - 1.

    `merge(older, n_older, newer, n_newer)` joins two neighbouring windows.
    """
    block, size = state, 1
    total: State | None = None
    covered = 0
    remaining = width
    while True:
        if remaining & 1:
            if total is None:
                total, covered = block, size
            else:
                rows = n_rows - covered - size + 1
                older = tuple(part[:rows] for part in block)
                newer = tuple(part[size : size + rows] for part in total)
                total = merge(older, size, newer, covered)
                covered += size
        remaining >>= 1
        if not remaining:
            return total if total is not None else block
        rows = n_rows - 2 * size + 1
        older = tuple(part[:rows] for part in block)
        newer = tuple(part[size : size + rows] for part in block)
        block = merge(older, size, newer, size)
        size *= 2


def _pad(values: FloatArray, n_rows: int) -> FloatArray:
    padded = np.empty(n_rows)
    padded[: n_rows - len(values)] = np.nan
    padded[n_rows - len(values) :] = values
    return padded


def _add(older: State, _n: int, newer: State, _m: int) -> State:
    return (older[0] + newer[0],)


def _merge_moments(older: State, n_older: int, newer: State, n_newer: int) -> State:
    total = n_older + n_newer
    step = newer[0] - older[0]
    mean = older[0] + step * (n_newer / total)
    step *= step
    step *= n_older * n_newer / total
    if len(older) > 1:
        step += older[1]
    if len(newer) > 1:
        step += newer[1]
    return mean, step


def _merge_drawdowns(older: State, _n: int, newer: State, _m: int) -> State:
    highest = np.maximum(older[0], newer[0])
    lowest = np.minimum(older[1], newer[1])
    fall = np.maximum(older[2], newer[2])
    np.maximum(fall, older[0] - newer[1], out=fall)
    return highest, lowest, fall


def _compose(older: State, _n: int, newer: State, _m: int) -> State:
    return older[0] * newer[0], newer[0] * older[1] + newer[1]


def rolling_sum(values: FloatArray, width: int) -> FloatArray:
    """Sum of the last `width` values, shape (n,); the first `width - 1` rows are NaN."""
    if len(values) < width:
        return np.full(len(values), np.nan)
    return _pad(_fold((values,), width, _add, len(values))[0], len(values))


def rolling_mean(values: FloatArray, width: int) -> FloatArray:
    """Mean of the last `width` values, shape (n,); the first `width - 1` rows are NaN."""
    total = rolling_sum(values, width)
    total /= width
    return total


def rolling_moments(values: FloatArray, width: int) -> tuple[FloatArray, FloatArray]:
    """Mean and population variance of the last `width` values, without cancellation.

    Blocks are merged by Chan, Golub and LeVeque (1979), so that a price of 60,000 with a deviation
    of 0.1 keeps all digits. A flat window has variance 0 exactly. The first `width - 1` rows are
    NaN.
    """
    if len(values) < width:
        empty = np.full(len(values), np.nan)
        return empty, empty.copy()
    if width == 1:
        return values.copy(), np.zeros(len(values))
    mean, squares = _fold((values,), width, _merge_moments, len(values))
    squares /= width
    return _pad(mean, len(values)), _pad(squares, len(values))


def rolling_variance(values: FloatArray, width: int) -> FloatArray:
    """Population variance of the last `width` values that scatter around zero (returns) or are
    nowhere near constant.

    From two window sums: quicker than `rolling_moments`. Rounding noise is set to 0. The first
    `width - 1` rows are NaN.
    """
    return _variance(rolling_mean(values * values, width), rolling_mean(values, width))


def _variance(square: FloatArray, mean: FloatArray) -> FloatArray:
    variance = square - mean * mean
    np.copyto(variance, 0.0, where=variance < _RELATIVE_ZERO * square)
    return variance


def rolling_covariance(x: FloatArray, y: FloatArray, width: int) -> FloatArray:
    """Population covariance of the last `width` pairs; the first `width - 1` rows are NaN."""
    return rolling_mean(x * y, width) - rolling_mean(x, width) * rolling_mean(y, width)


def rolling_correlation(x: FloatArray, y: FloatArray, width: int) -> FloatArray:
    """Pearson correlation of the last `width` pairs, 0 where either is constant; the first `width -
    1` rows are NaN."""
    mean_x, mean_y = rolling_mean(x, width), rolling_mean(y, width)
    scale = np.sqrt(
        _variance(rolling_mean(x * x, width), mean_x)
        * _variance(rolling_mean(y * y, width), mean_y)
    )
    covariance = rolling_mean(x * y, width) - mean_x * mean_y
    return np.clip(ratio(covariance, scale, 0.0), -1.0, 1.0)


def rolling_max(values: FloatArray, width: int) -> FloatArray:
    """Largest of the last `width` values; the first `width - 1` rows are NaN."""
    return np.asarray(talib.MAX(values, width)) if width > 1 else values.copy()


def rolling_min(values: FloatArray, width: int) -> FloatArray:
    """Smallest of the last `width` values; the first `width - 1` rows are NaN."""
    return np.asarray(talib.MIN(values, width)) if width > 1 else values.copy()


def rolling_drawdown(values: FloatArray, width: int) -> FloatArray:
    """Largest fall from an earlier to a later value among the last `width`, ≥ 0; the first `width -
    1` rows are NaN."""
    if len(values) < width:
        return np.full(len(values), np.nan)
    start = (values, values, np.zeros(len(values)))
    return _pad(_fold(start, width, _merge_drawdowns, len(values))[2], len(values))


def rolling_rank(values: FloatArray, width: int) -> FloatArray:
    """Share of the `width - 1` values before that are below the current one, in [0, 1].

    Ties count half; values within 1e-9 of each other tie, lest rounding decide. The first
    `width - 1` rows are NaN.
    """
    n_rows = len(values)
    if n_rows < width:
        return np.full(n_rows, np.nan)
    current = values[width - 1 :]
    margin = _RANK_TIE * np.abs(current)
    low, high = current - margin, current + margin
    score = np.zeros(len(current), dtype=np.int16)
    for age in range(1, width):
        before = values[width - 1 - age : n_rows - age]
        score += before < low
        score += before <= high
    return _pad(score / (2.0 * (width - 1)), n_rows)


def adaptive_average(values: FloatArray, weight: FloatArray, width: int) -> FloatArray:
    """Average with a weight of its own at every step, started `width` candles ago from the value
    there.

    x[t] = x[t-1] + weight[t] * (values[t] - x[t-1]) for the last `width` candles. A recursion with
    a data-dependent weight has no bounded memory; restarted at each row it has. The first `width`
    rows are NaN.
    """
    n_rows = len(values)
    if n_rows <= width:
        return np.full(n_rows, np.nan)
    keep, gain = _fold((1.0 - weight, weight * values), width, _compose, n_rows)
    return _pad(keep[1:] * values[: n_rows - width] + gain[1:], n_rows)


def rolling_weighted(values: FloatArray, weights: FloatArray) -> FloatArray:
    """Sum of weights[k] * values[t - k]; the first `len(weights) - 1` rows are NaN."""
    if len(values) < len(weights):
        return np.full(len(values), np.nan)
    return _pad(np.convolve(values, weights, mode="valid"), len(values))


def slope_weights(width: int) -> FloatArray:
    """Weights of `rolling_weighted` that give the least-squares slope a candle of the last `width` values."""
    ages = np.arange(width)
    return np.asarray((0.5 * (width - 1) - ages) * (12.0 / (width * (width * width - 1.0))))


def lag(values: FloatArray, n: int) -> FloatArray:
    """The value `n` candles ago; the first `n` rows repeat the first value (they belong to the
    warm-up)."""
    shifted = np.empty_like(values)
    shifted[n:] = values[: max(len(values) - n, 0)]
    shifted[:n] = values[0]
    return shifted


def ratio(numerator: FloatArray, denominator: FloatArray, neutral: float) -> FloatArray:
    """numerator / denominator, and `neutral` where the denominator is not positive."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        quotient = numerator / denominator
    np.copyto(quotient, neutral, where=~(denominator > 0))
    return quotient


def contrast(a: FloatArray, b: FloatArray) -> FloatArray:
    """(a - b) / (a + b) of two non-negative arrays, in [-1, 1]; 0 where both are 0.

    The hyperbolic tangent of half the log ratio: a change that stays finite when a candle has no
    volume.
    """
    return ratio(a - b, a + b, 0.0)
