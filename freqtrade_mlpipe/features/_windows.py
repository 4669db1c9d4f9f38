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

from freqtrade_mlpipe.features import _kernels as kernels
from freqtrade_mlpipe.features import _talib as talib
from freqtrade_mlpipe.features._trace import FloatArray as FloatArray
from freqtrade_mlpipe.features._trace import IntArray as IntArray
from freqtrade_mlpipe.features._trace import Traced, elementwise

State = tuple[FloatArray, ...]

_RELATIVE_ZERO = 1e-12
"""A variance below this share of the mean square is rounding noise and counts as zero."""


def _fold(state: State, width: int, merge: Callable[[State, int, State, int], State]) -> State:
    """Merge `state` over every window of `width` rows; the first `width - 1` rows are NaN.

    `merge(older, n_older, newer, n_newer)` joins two neighbouring windows.
    """
    n_rows = 0 if isinstance(state[0], Traced) else len(state[0])
    block, size = state, 1
    total: State | None = None
    covered = 0
    remaining = width
    while True:
        if remaining & 1:
            if total is None:
                total, covered = block, size
            else:
                total = merge(*_neighbours(block, size, total, covered))
                covered += size
        remaining >>= 1
        if not remaining:
            return tuple(_pad(part, width - 1, n_rows) for part in total or block)
        block = merge(*_neighbours(block, size, block, size))
        size *= 2


def _neighbours(
    older: State, n_older: int, newer: State, n_newer: int
) -> tuple[State, int, State, int]:
    """Arguments of `merge`: the windows `older`, moved to where each window `newer` begins."""
    if isinstance(newer[0], Traced):
        return tuple(part.lag(n_newer) for part in older), n_older, newer, n_newer
    n_rows = max(len(newer[0]) - n_older, 0)
    before = tuple(part[:n_rows] for part in older)
    return before, n_older, tuple(part[n_older:] for part in newer), n_newer


def _pad(values: FloatArray, n_missing: int, n_rows: int) -> FloatArray:
    """The values of the last windows as `n_rows` rows, `n_missing` of them NaN in front."""
    if isinstance(values, Traced):
        return values.missing(n_missing)
    padded = np.empty(n_rows)
    padded[:n_missing] = np.nan
    padded[n_missing:] = values
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
    return _fold((values,), width, _add)[0]


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
    if width == 1:
        return values.copy(), values * 0.0
    mean, squares = _fold((values,), width, _merge_moments)
    squares /= width
    return mean, squares


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
    return talib.MAX(values, width) if width > 1 else values.copy()


def rolling_min(values: FloatArray, width: int) -> FloatArray:
    """Smallest of the last `width` values; the first `width - 1` rows are NaN."""
    return talib.MIN(values, width) if width > 1 else values.copy()


def rolling_drawdown(values: FloatArray, width: int) -> FloatArray:
    """Largest fall from an earlier to a later value among the last `width`, ≥ 0; the first `width -
    1` rows are NaN."""
    return _fold((values, values, values * 0.0), width, _merge_drawdowns)[2]


def rolling_rank(values: FloatArray, width: int) -> FloatArray:
    """Share of the `width - 1` values before that are below the current one, in [0, 1].

    Ties count half; values within 1e-9 of each other tie, lest rounding decide. The first
    `width - 1` rows are NaN.
    """
    return kernels.RANK(values, width)


def run_length(values: FloatArray, longest: int) -> FloatArray:
    """How many candles in a row have had the current value, at most `longest`."""
    return kernels.RUN_LENGTH(values, longest)


def look_up(position: IntArray, table: FloatArray) -> FloatArray:
    """table[position]."""
    return kernels.LOOK_UP(position, table)


def adaptive_average(values: FloatArray, weight: FloatArray, width: int) -> FloatArray:
    """Average with a weight of its own at every step, started `width` candles ago from the value
    there.

    x[t] = x[t-1] + weight[t] * (values[t] - x[t-1]) for the last `width` candles. A recursion with
    a data-dependent weight has no bounded memory; restarted at each row it has. The first `width`
    rows are NaN.
    """
    keep, gain = _fold((1.0 - weight, weight * values), width, _compose)
    return _missing(keep * lag(values, width) + gain, width)


def _missing(values: FloatArray, n: int) -> FloatArray:
    if isinstance(values, Traced):
        return values.missing(n)
    values[:n] = np.nan
    return values


def rolling_weighted(values: FloatArray, weights: FloatArray) -> FloatArray:
    """Sum of weights[k] * values[t - k]; the first `len(weights) - 1` rows are NaN."""
    return kernels.WEIGHTED(values, np.ascontiguousarray(weights[::-1]))


def slope_weights(width: int) -> FloatArray:
    """Weights of `rolling_weighted` that give the least-squares slope a candle of the last `width` values."""
    ages = np.arange(width)
    return np.asarray((0.5 * (width - 1) - ages) * (12.0 / (width * (width * width - 1.0))))


def lag(values: FloatArray, n: int) -> FloatArray:
    """The value `n` candles ago; the first `n` rows repeat the first value (they belong to the
    warm-up)."""
    if isinstance(values, Traced):
        return values.lag(n)
    shifted = np.empty_like(values)
    shifted[n:] = values[: max(len(values) - n, 0)]
    shifted[:n] = values[0]
    return shifted


@elementwise
def ratio(numerator: FloatArray, denominator: FloatArray, neutral: float) -> FloatArray:
    """numerator / denominator, and `neutral` where the denominator is not positive; callers silence NumPy."""
    quotient = numerator / denominator
    np.copyto(quotient, neutral, where=~(denominator > 0))
    return quotient


@elementwise
def zero_if_nan(values: FloatArray) -> FloatArray:
    """The values, 0 where they are NaN."""
    return np.where(values == values, values, 0.0)


def contrast(a: FloatArray, b: FloatArray) -> FloatArray:
    """(a - b) / (a + b) of two non-negative arrays, in [-1, 1]; 0 where both are 0.

    The hyperbolic tangent of half the log ratio: a change that stays finite when a candle has no
    volume.
    """
    return ratio(a - b, a + b, 0.0)
