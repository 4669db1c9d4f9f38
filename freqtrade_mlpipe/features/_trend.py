"""Trend rows: distances to averages, crossovers, directional movement, regression, Ichimoku."""

from __future__ import annotations

import numpy as np

from freqtrade_mlpipe.features import _talib as talib
from freqtrade_mlpipe.features._momentum import ema
from freqtrade_mlpipe.features._price import highest, lowest
from freqtrade_mlpipe.features._volatility import mean_range
from freqtrade_mlpipe.features._windows import (
    FloatArray,
    adaptive_average,
    lag,
    ratio,
    rolling_max,
    rolling_mean,
    rolling_moments,
    rolling_sum,
    rolling_weighted,
    slope_weights,
    zero_if_nan,
)
from freqtrade_mlpipe.features.indicator import (
    HLC,
    Candles,
    Indicator,
    changes,
    ema_memory,
    log_close,
    log_returns,
    true_range,
    wilder_memory,
    within,
)

_PSAR_MEMORY = 450
"""The stop's memory depends on the data: two runs meet at a common reversal. Of 12,000 starts on real candles half had
met after 25 candles, 99.9 % after 206 and the last after 223, the late ones a tenth as often every 45 candles."""

_ROUNDING = 1e-12
"""Prices that differ by less than this share are equal but for rounding."""


def sma(c: Candles, n: int) -> FloatArray:
    """Simple moving average of the close."""
    return rolling_mean(c.close, n)


def middle(c: Candles, n: int) -> FloatArray:
    """Mean of the highest high and the lowest low."""
    return 0.5 * (c.shared(highest, n) + c.shared(lowest, n))


def motionless(c: Candles, n: int) -> FloatArray:
    """1 where the true range has been 0 for n candles, else 0."""
    return (rolling_max(c.shared(true_range), n) <= 0).astype(np.float64)


def _from(c: Candles, average: FloatArray) -> FloatArray:
    return c.close / average - 1.0


def _sma_distance(c: Candles, n: int) -> FloatArray:
    return _from(c, c.shared(sma, n))


def _ema_distance(c: Candles, n: int) -> FloatArray:
    return _from(c, c.shared(ema, n))


def _dema_distance(c: Candles, n: int) -> FloatArray:
    return _from(c, talib.DEMA(c.close, n))


def _tema_distance(c: Candles, n: int) -> FloatArray:
    return _from(c, talib.TEMA(c.close, n))


def _zlema_distance(c: Candles, n: int) -> FloatArray:
    return _from(c, talib.EMA(2.0 * c.close - lag(c.close, (n - 1) // 2), n))


def _hull_distance(c: Candles, n: int) -> FloatArray:
    sharp = 2.0 * talib.WMA(c.close, n // 2) - talib.WMA(c.close, n)
    return _from(c, talib.WMA(sharp, round(np.sqrt(n))))


def efficiency(c: Candles, n: int) -> FloatArray:
    """Kaufman's efficiency ratio with the sign of the move, -1 to 1; 0 if flat."""
    path = rolling_sum(np.abs(c.shared(changes)), n)
    return ratio(c.close - lag(c.close, n), path, 0.0)


def _kama_distance(c: Candles, n: int, window: int) -> FloatArray:
    fast, slow = 2.0 / 3.0, 2.0 / 31.0
    weight = np.abs(zero_if_nan(c.shared(efficiency, n))) * (fast - slow) + slow
    return _from(c, adaptive_average(c.close, weight * weight, window))


def _sma_cross(c: Candles, n: int, m: int) -> FloatArray:
    return c.shared(sma, n) / c.shared(sma, m) - 1.0


def _ema_cross(c: Candles, n: int, m: int) -> FloatArray:
    return c.shared(ema, n) / c.shared(ema, m) - 1.0


def _ema_slope(c: Candles, n: int, m: int) -> FloatArray:
    average = c.shared(ema, n)
    return average / lag(average, m) - 1.0


def _above_sma_share(c: Candles, n: int, m: int) -> FloatArray:
    above = c.close > c.shared(sma, n) * (1.0 + _ROUNDING)
    return rolling_mean(above.astype(np.float64), m)


def wilder(values: FloatArray, n: int) -> FloatArray:
    """Wilder's smoothing: an EMA whose weight is 1 / n."""
    return talib.EMA(values, 2 * n - 1)


def _directional_index(c: Candles, move: FloatArray, other: FloatArray, n: int) -> FloatArray:
    """Smoothed moves that exceed the other side's over the smoothed true range; equal moves count for neither.

    Equal to rounding, that is: on a price grid they are frequent, and which is larger in floating point is chance.
    """
    larger = (move > 0) & (move - other > _ROUNDING * c.close)
    reach = wilder(c.shared(true_range), n)
    values = ratio(100.0 * wilder(np.where(larger, move, 0.0), n), reach, 0.0)
    np.copyto(values, 0.0, where=c.shared(motionless, 3 * n) > 0)
    return values


def plus_di(c: Candles, n: int) -> FloatArray:
    """+DI, 0 to 100; 0 after 3n candles without movement."""
    return _directional_index(c, c.high - lag(c.high, 1), lag(c.low, 1) - c.low, n)


def minus_di(c: Candles, n: int) -> FloatArray:
    """-DI, 0 to 100; 0 after 3n candles without movement."""
    return _directional_index(c, lag(c.low, 1) - c.low, c.high - lag(c.high, 1), n)


def _di_balance(c: Candles, n: int) -> FloatArray:
    plus, minus = c.shared(plus_di, n), c.shared(minus_di, n)
    return ratio(plus - minus, plus + minus, 0.0)


def _adx(c: Candles, n: int) -> FloatArray:
    return wilder(100.0 * np.abs(_di_balance(c, n)), n)


def _aroon_up(c: Candles, n: int) -> FloatArray:
    return talib.AROON(c.high, c.low, n)[1]


def _aroon_down(c: Candles, n: int) -> FloatArray:
    return talib.AROON(c.high, c.low, n)[0]


def _aroon_oscillator(c: Candles, n: int) -> FloatArray:
    return talib.AROONOSC(c.high, c.low, n)


def _psar_distance(c: Candles) -> FloatArray:
    return _from(c, talib.SAR(c.high, c.low, 0.02, 0.2))


def regression_slope(c: Candles, n: int) -> FloatArray:
    """Least-squares slope of the log close, a candle, as a weighted sum of returns: the price level cancels."""
    return rolling_weighted(c.shared(log_returns), np.cumsum(slope_weights(n))[:-1])


def _linreg_r2(c: Candles, n: int) -> FloatArray:
    slope = c.shared(regression_slope, n)
    explained = slope * slope * ((n * n - 1.0) / 12.0)
    variance = rolling_moments(c.shared(log_close), n)[1]
    return np.clip(ratio(explained, variance, 0.0), 0.0, 1.0)


def _linreg_distance(c: Candles, n: int) -> FloatArray:
    above_mean = np.arange(n - 1, 0, -1) / n
    above_line = above_mean - np.cumsum(slope_weights(n))[:-1] * (0.5 * (n - 1))
    return rolling_weighted(c.shared(log_returns), above_line)


def _ichimoku_conversion(c: Candles, n: int) -> FloatArray:
    return _from(c, c.shared(middle, n))


def _ichimoku_cross(c: Candles, n: int, m: int) -> FloatArray:
    return (c.shared(middle, n) - c.shared(middle, m)) / c.close


def _span_a(c: Candles, n: int, m: int) -> FloatArray:
    return 0.5 * (c.shared(middle, n) + c.shared(middle, m))


def _ichimoku_span_a(c: Candles, n: int, m: int) -> FloatArray:
    return _from(c, _span_a(c, n, m))


def _ichimoku_cloud(c: Candles, n: int, m: int, k: int) -> FloatArray:
    return (_span_a(c, n, m) - c.shared(middle, k)) / c.close


def _vortex_plus(c: Candles, n: int) -> FloatArray:
    reach = rolling_sum(np.abs(c.high - lag(c.low, 1)), n)
    return ratio(reach, n * c.shared(mean_range, n), 1.0)


def _vortex_minus(c: Candles, n: int) -> FloatArray:
    reach = rolling_sum(np.abs(c.low - lag(c.high, 1)), n)
    return ratio(reach, n * c.shared(mean_range, n), 1.0)


def _chandelier_long(c: Candles, n: int) -> FloatArray:
    stop = c.shared(highest, n) - 3.0 * c.shared(mean_range, n)
    return (c.close - stop) / c.close


def _chandelier_short(c: Candles, n: int) -> FloatArray:
    stop = c.shared(lowest, n) + 3.0 * c.shared(mean_range, n)
    return (c.close - stop) / c.close


def _swing_balance(c: Candles, n: int) -> FloatArray:
    step = np.sign(c.high - lag(c.high, 1)) + np.sign(c.low - lag(c.low, 1))
    return rolling_mean(0.5 * step, n)


# fmt: off
ROWS: tuple[Indicator, ...] = (
    Indicator("sma_distance", "trend", ("close",), (("short",), ("medium",), ("long",)), _sma_distance, within(),
              "Close against its simple moving average.", "close / SMA - 1; TA-Lib SMA"),
    Indicator("ema_distance", "trend", ("close",), (("short",), ("medium",), ("long",)), _ema_distance, ema_memory,
              "Close against its exponential moving average.", "close / EMA - 1; TA-Lib EMA"),
    Indicator("dema_distance", "trend", ("close",), (("medium",),), _dema_distance, lambda n: ema_memory(n, 2),
              "Close against its double exponential moving average.", "Patrick Mulloy (1994); TA-Lib DEMA"),
    Indicator("tema_distance", "trend", ("close",), (("medium",),), _tema_distance, lambda n: ema_memory(n, 3),
              "Close against its triple exponential moving average.", "Patrick Mulloy (1994); TA-Lib TEMA"),
    Indicator("zlema_distance", "trend", ("close",), (("medium",),), _zlema_distance, lambda n: ema_memory(n) + n,
              "Close against its zero-lag exponential moving average.", "Ehlers & Way (2010)"),
    Indicator("hull_distance", "trend", ("close",), ((16,),), _hull_distance, lambda n: n + round(n**0.5),
              "Close against its Hull moving average.", "Alan Hull (2005)"),
    Indicator("kama_distance", "trend", ("close",), ((10, 100),), _kama_distance, lambda n, window: n + window,
              "Close against Kaufman's adaptive average, started m candles ago from the close there.",
              "Kaufman (1995), with bounded memory"),
    Indicator("sma_cross", "trend", ("close",), (("short", "long"),), _sma_cross, lambda n, m: max(n, m) - 1,
              "Fast against slow simple moving average.", "SMA_n / SMA_m - 1"),
    Indicator("ema_cross", "trend", ("close",), (("short", "medium"), ("medium", "long")), _ema_cross,
              lambda n, m: ema_memory(max(n, m)), "Fast against slow exponential moving average.", "EMA_n / EMA_m - 1"),
    Indicator("ema_slope", "trend", ("close",), (("long", "short"),), _ema_slope, lambda n, m: ema_memory(n) + m,
              "EMA's relative change over m candles.", "EMA[t] / EMA[t-m] - 1"),
    Indicator("above_sma_share", "trend", ("close",), (("long", "medium"),), _above_sma_share, within(),
              "Share of the last m candles that closed above their n-candle average.", "mean(close > SMA)"),
    Indicator("plus_di", "trend", HLC, (("medium",),), plus_di, lambda n: wilder_memory(n) + 3 * n,
              "+DI, 0 to 100; 0 after 3n candles without movement.", "Wilder (1978); as TA-Lib PLUS_DI"),
    Indicator("minus_di", "trend", HLC, (("medium",),), minus_di, lambda n: wilder_memory(n) + 3 * n,
              "-DI, 0 to 100; 0 after 3n candles without movement.", "Wilder (1978); as TA-Lib MINUS_DI"),
    Indicator("di_balance", "trend", HLC, (("medium",),), _di_balance, lambda n: wilder_memory(n) + 3 * n,
              "(+DI - -DI) / (+DI + -DI), -1 to 1; 0 without movement.", "Wilder (1978), signed DX"),
    Indicator("adx", "trend", HLC, (("medium",),), _adx, lambda n: wilder_memory(n, 2) + 3 * n,
              "Average directional index, 0 to 100; 0 without movement.", "Wilder (1978); as TA-Lib ADX"),
    Indicator("aroon_up", "trend", ("high", "low"), ((25,),), _aroon_up, within(1),
              "100 when the high of n candles is now, 0 when n ago.", "Tushar Chande (1995); TA-Lib AROON"),
    Indicator("aroon_down", "trend", ("high", "low"), ((25,),), _aroon_down, within(1),
              "100 when the low of n candles is now, 0 when n ago.", "Tushar Chande (1995); TA-Lib AROON"),
    Indicator("aroon_oscillator", "trend", ("high", "low"), ((25,),), _aroon_oscillator, within(1),
              "Aroon up less down, -100 to 100; 0 if flat.", "Tushar Chande (1995); TA-Lib AROONOSC"),
    Indicator("psar_distance", "trend", HLC, ((),), _psar_distance, lambda: _PSAR_MEMORY,
              "Close against the parabolic stop, positive in a rising trend.", "Wilder (1978); TA-Lib SAR"),
    Indicator("linreg_slope", "trend", ("close",), (("medium",), ("long",)), regression_slope, within(),
              "Regression slope of the log close a candle.", "ordinary least squares; as TA-Lib LINEARREG_SLOPE"),
    Indicator("linreg_r2", "trend", ("close",), (("medium",), ("long",)), _linreg_r2, within(),
              "Share of the log close's variance that a line explains, 0 to 1; 0 if flat.",
              "squared correlation with time"),
    Indicator("linreg_distance", "trend", ("close",), (("long",),), _linreg_distance, within(),
              "Log close less the regression line's end.", "Chande's forecast oscillator, in logs"),
    Indicator("ichimoku_conversion", "trend", HLC, ((9,),), _ichimoku_conversion, within(),
              "Close against the conversion line (tenkan-sen).", "Goichi Hosoda"),
    Indicator("ichimoku_base", "trend", HLC, ((26,),), _ichimoku_conversion, within(),
              "Close against the base line (kijun-sen).", "Goichi Hosoda"),
    Indicator("ichimoku_cross", "trend", HLC, ((9, 26),), _ichimoku_cross, lambda n, m: max(n, m) - 1,
              "Conversion less base line as a share of the close.", "Goichi Hosoda"),
    Indicator("ichimoku_span_a", "trend", HLC, ((9, 26),), _ichimoku_span_a, lambda n, m: max(n, m) - 1,
              "Close against leading span A, not shifted forward.", "Goichi Hosoda"),
    Indicator("ichimoku_span_b", "trend", HLC, ((52,),), _ichimoku_conversion, within(),
              "Close against leading span B, not shifted forward.", "Goichi Hosoda"),
    Indicator("ichimoku_cloud", "trend", HLC, ((9, 26, 52),), _ichimoku_cloud, lambda n, m, k: max(n, m, k) - 1,
              "Span A less span B as a share of the close, not shifted forward.", "Goichi Hosoda"),
    Indicator("vortex_plus", "trend", HLC, (("medium",),), _vortex_plus, within(1),
              "Upward reach over true range; 1 if flat.", "Botes & Siepman (2010)"),
    Indicator("vortex_minus", "trend", HLC, (("medium",),), _vortex_minus, within(1),
              "Downward reach over true range; 1 if flat.", "Botes & Siepman (2010)"),
    Indicator("efficiency", "trend", ("close",), (("medium",), ("long",)), efficiency, within(1),
              "Net move over path length, -1 to 1; 0 if flat.", "Kaufman (1995), signed"),
    Indicator("chandelier_long", "trend", HLC, ((22,),), _chandelier_long, within(1),
              "Close above the stop three mean ranges under the high, as a share of the close.",
              "Chuck LeBeau, mean in place of Wilder's average"),
    Indicator("chandelier_short", "trend", HLC, ((22,),), _chandelier_short, within(1),
              "Close above the stop three mean ranges over the low, as a share of the close.",
              "Chuck LeBeau, mean in place of Wilder's average"),
    Indicator("swing_balance", "trend", ("high", "low"), (("medium",),), _swing_balance, within(1),
              "Higher highs and lows less lower ones, -1 to 1.", "mean of signs"),
)
# fmt: on
