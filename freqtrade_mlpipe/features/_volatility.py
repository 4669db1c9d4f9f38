"""Volatility rows: widths, estimators from open, high, low and close, and how volatility itself
moves."""

from __future__ import annotations

import math

import numpy as np

from freqtrade_mlpipe.features import _talib as talib
from freqtrade_mlpipe.features._price import highest, lowest
from freqtrade_mlpipe.features._windows import (
    FloatArray,
    contrast,
    lag,
    ratio,
    rolling_drawdown,
    rolling_max,
    rolling_mean,
    rolling_moments,
    rolling_rank,
    rolling_sum,
    rolling_variance,
    zero_if_nan,
)
from freqtrade_mlpipe.features.indicator import (
    HLC,
    OHLC,
    Candles,
    Indicator,
    changes,
    ema_memory,
    log_close,
    log_returns,
    spread,
    true_range,
    wilder_memory,
    within,
)


def mean_range(c: Candles, n: int) -> FloatArray:
    """Mean true range, in price units."""
    return rolling_mean(c.shared(true_range), n)


def volatility(c: Candles, n: int) -> FloatArray:
    """Population standard deviation of one-candle log returns."""
    return np.sqrt(rolling_variance(c.shared(log_returns), n))


def squared_returns(c: Candles) -> FloatArray:
    """Squared one-candle log returns."""
    returns = c.shared(log_returns)
    return returns * returns


def log_range(c: Candles) -> FloatArray:
    """ln(high / low)."""
    return np.log(c.high / c.low)


def price_mean(c: Candles, n: int) -> FloatArray:
    """Mean close."""
    return rolling_moments(c.close, n)[0]


def price_deviation(c: Candles, n: int) -> FloatArray:
    """Population standard deviation of the close, in price units."""
    return np.sqrt(rolling_moments(c.close, n)[1])


def _atr(c: Candles, n: int) -> FloatArray:
    return talib.ATR(c.high, c.low, c.close, n) / c.close


def _true_range_ratio(c: Candles, n: int) -> FloatArray:
    return ratio(c.shared(true_range), c.shared(mean_range, n), 1.0)


def _range_trend(c: Candles, n: int, m: int) -> FloatArray:
    return ratio(c.shared(mean_range, n), c.shared(mean_range, m), 1.0)


def _bollinger_width(c: Candles, n: int) -> FloatArray:
    return 4.0 * c.shared(price_deviation, n) / c.shared(price_mean, n)


def _bollinger_position(c: Candles, n: int) -> FloatArray:
    deviation = c.shared(price_deviation, n)
    return 0.5 + ratio(c.close - c.shared(price_mean, n), 4.0 * deviation, 0.0)


def _keltner_width(c: Candles, n: int, m: int) -> FloatArray:
    return 4.0 * c.shared(mean_range, m) / talib.EMA(c.close, n)


def _keltner_position(c: Candles, n: int, m: int) -> FloatArray:
    away = c.close - talib.EMA(c.close, n)
    return 0.5 + ratio(away, 4.0 * c.shared(mean_range, m), 0.0)


def _squeeze(c: Candles, n: int) -> FloatArray:
    return ratio(c.shared(price_deviation, n), c.shared(mean_range, n), 1.0)


def _parkinson(c: Candles, n: int) -> FloatArray:
    span = c.shared(log_range)
    return np.sqrt(rolling_mean(span * span, n) / (4.0 * math.log(2.0)))


def _garman_klass(c: Candles, n: int) -> FloatArray:
    span, body = c.shared(log_range), np.log(c.close / c.open)
    term = 0.5 * span * span - (2.0 * math.log(2.0) - 1.0) * body * body
    return np.sqrt(np.maximum(rolling_mean(term, n), 0.0))


def rogers_satchell_variance(c: Candles, n: int) -> FloatArray:
    """Rogers and Satchell's drift-free variance of one candle."""
    up, down = np.log(c.high / c.open), np.log(c.low / c.open)
    body = np.log(c.close / c.open)
    return np.maximum(rolling_mean(up * (up - body) + down * (down - body), n), 0.0)


def _rogers_satchell(c: Candles, n: int) -> FloatArray:
    return np.sqrt(c.shared(rogers_satchell_variance, n))


def _yang_zhang(c: Candles, n: int) -> FloatArray:
    unbiased = n / (n - 1.0)
    k = 0.34 / (1.34 + (n + 1.0) / (n - 1.0))
    overnight = rolling_variance(np.log(c.open / lag(c.close, 1)), n) * unbiased
    body = rolling_variance(np.log(c.close / c.open), n) * unbiased
    return np.sqrt(overnight + k * body + (1.0 - k) * c.shared(rogers_satchell_variance, n))


def _ewma_volatility(c: Candles, n: int) -> FloatArray:
    mean = talib.EMA(c.shared(squared_returns), n)
    return np.sqrt(np.maximum(mean, 0.0))


def _volatility_ratio(c: Candles, n: int, m: int) -> FloatArray:
    return ratio(c.shared(volatility, n), c.shared(volatility, m), 1.0)


def _volatility_of_volatility(c: Candles, n: int, m: int) -> FloatArray:
    values = zero_if_nan(c.shared(volatility, n))
    return ratio(np.sqrt(rolling_variance(values, m)), rolling_mean(values, m), 0.0)


def _volatility_rank(c: Candles, n: int, m: int) -> FloatArray:
    return rolling_rank(c.shared(volatility, n), m)


def _range_to_close(c: Candles, n: int) -> FloatArray:
    return ratio(_parkinson(c, n), c.shared(volatility, n), 1.0)


def _downside_deviation(c: Candles, n: int) -> FloatArray:
    loss = np.minimum(c.shared(log_returns), 0.0)
    return np.sqrt(rolling_mean(loss * loss, n))


def _downside_share(c: Candles, n: int) -> FloatArray:
    square = c.shared(squared_returns)
    losses = np.where(c.shared(log_returns) < 0, square, 0.0)
    return ratio(rolling_sum(losses, n), rolling_sum(square, n), 0.5)


def _jump_share(c: Candles, n: int) -> FloatArray:
    size = np.abs(c.shared(log_returns))
    bipower = (0.5 * np.pi) * rolling_sum(size * lag(size, 1), n)
    return 1.0 - ratio(bipower, rolling_sum(c.shared(squared_returns), n), 1.0)


def _ulcer_index(c: Candles, n: int) -> FloatArray:
    fall = zero_if_nan(c.close / rolling_max(c.close, n) - 1.0)
    return np.sqrt(rolling_mean(fall * fall, n))


def _max_drawdown(c: Candles, n: int) -> FloatArray:
    return -np.expm1(-rolling_drawdown(c.shared(log_close), n))


def _mass_index(c: Candles, smooth: int, n: int) -> FloatArray:
    single = talib.EMA(c.shared(spread), smooth)
    swelling = ratio(single, talib.EMA(single, smooth), 1.0)
    np.copyto(swelling, 1.0, where=rolling_max(c.shared(spread), 5 * smooth) == 0)
    return rolling_sum(swelling, n)


def _chaikin_volatility(c: Candles, n: int) -> FloatArray:
    span = rolling_mean(c.shared(spread), n)
    return contrast(span, lag(span, n))


def _choppiness(c: Candles, n: int) -> FloatArray:
    width = c.shared(highest, n) - c.shared(lowest, n)
    path = ratio(n * c.shared(mean_range, n), width, math.sqrt(n))
    return np.log(path) * (100.0 / math.log(n))


def _relative_volatility(c: Candles, n: int, m: int) -> FloatArray:
    deviation = zero_if_nan(c.shared(price_deviation, m))
    step = c.shared(changes)
    rising = rolling_sum(np.where(step > 0, deviation, 0.0), n)
    return 50.0 + 50.0 * contrast(rising, rolling_sum(np.where(step < 0, deviation, 0.0), n))


# fmt: off
ROWS: tuple[Indicator, ...] = (
    Indicator("atr", "volatility", HLC, (("short",), ("medium",)), _atr, wilder_memory,
              "Wilder's average true range as a share of the close.", "Wilder (1978); TA-Lib NATR"),
    Indicator("true_range_ratio", "volatility", HLC, (("medium",),), _true_range_ratio, within(1),
              "True range over its mean; 1 if flat.", "TR / mean(TR)"),
    Indicator("range_trend", "volatility", HLC, (("short", "long"),), _range_trend, lambda n, m: max(n, m),
              "Mean true range of n candles over that of m; 1 if flat.", "mean_n(TR) / mean_m(TR)"),
    Indicator("bollinger_width", "volatility", ("close",), ((20,),), _bollinger_width, within(),
              "Width of the Bollinger bands (two deviations) as a share of their middle.", "John Bollinger"),
    Indicator("bollinger_position", "volatility", ("close",), ((20,),), _bollinger_position, within(),
              "%B: 0 lower, 1 upper band; 0.5 if flat.", "John Bollinger"),
    Indicator("keltner_width", "volatility", HLC, ((20, 10),), _keltner_width, lambda n, m: ema_memory(n) + m,
              "Width of the Keltner channel (two mean true ranges) as a share of its middle.",
              "Linda Raschke's form, mean in place of Wilder's average"),
    Indicator("keltner_position", "volatility", HLC, ((20, 10),), _keltner_position,
              lambda n, m: ema_memory(n) + 5 * n + m, "0 lower, 1 upper Keltner line; 0.5 if flat.",
              "Linda Raschke's form, mean in place of Wilder's average"),
    Indicator("squeeze", "volatility", HLC, ((20,),), _squeeze, within(1), "Bollinger over Keltner width; 1 if flat.",
              "John Carter (2005), squeeze"),
    Indicator("volatility", "volatility", ("close",), (("short",), ("medium",), ("long",)), volatility, within(1),
              "Standard deviation of log returns a candle, not annualised.", "historical volatility"),
    Indicator("parkinson", "volatility", ("high", "low"), (("medium",),), _parkinson, within(),
              "Volatility a candle from highs and lows.", "Parkinson (1980)"),
    Indicator("garman_klass", "volatility", OHLC, (("medium",),), _garman_klass, within(),
              "Volatility a candle from open, high, low and close.", "Garman & Klass (1980)"),
    Indicator("rogers_satchell", "volatility", OHLC, (("medium",),), _rogers_satchell, within(),
              "Volatility a candle, free of drift.", "Rogers & Satchell (1991)"),
    Indicator("yang_zhang", "volatility", OHLC, (("medium",),), _yang_zhang, within(1),
              "Volatility a candle, free of drift, gaps included.", "Yang & Zhang (2000)"),
    Indicator("ewma_volatility", "volatility", ("close",), ((32,),), _ewma_volatility,
              lambda n: ema_memory(n) + 2 * n, "Exponentially weighted volatility a candle, about lambda 0.94.",
              "RiskMetrics (1996)"),
    Indicator("volatility_ratio", "volatility", ("close",), (("short", "long"),), _volatility_ratio,
              lambda n, m: max(n, m), "Volatility over n candles over that of m; 1 if flat.", "std_n(r) / std_m(r)"),
    Indicator("volatility_of_volatility", "volatility", ("close",), (("medium", "long"),), _volatility_of_volatility,
              within(1), "Coefficient of variation of the n-candle volatility over m candles; 0 if flat.",
              "std_m(vol_n) / mean_m(vol_n)"),
    Indicator("volatility_rank", "volatility", ("close",), (("medium", "long"),), _volatility_rank, within(1),
              "Share of the m - 1 volatilities before that are lower, ties half; 0 to 1.", "percentile rank"),
    Indicator("range_to_close", "volatility", HLC, (("long",),), _range_to_close, within(1),
              "Parkinson over close-to-close volatility, high where moves are undone; 1 if flat.",
              "Parkinson (1980) / std(r)"),
    Indicator("downside_deviation", "volatility", ("close",), (("long",),), _downside_deviation, within(1),
              "Root mean square of negative log returns.", "Sortino & van der Meer (1991)"),
    Indicator("downside_share", "volatility", ("close",), (("long",),), _downside_share, within(1),
              "Negative returns' share of the realised variance; 0.5 if flat.",
              "Barndorff-Nielsen, Kinnebrock & Shephard (2010)"),
    Indicator("jump_share", "volatility", ("close",), (("long",),), _jump_share, within(2),
              "Share of realised variance that bipower variation does not see; 0 if flat.",
              "Barndorff-Nielsen & Shephard (2004)"),
    Indicator("ulcer_index", "volatility", ("close",), (("medium",),), _ulcer_index, lambda n: 2 * n - 2,
              "Root mean square fall from the n-candle high.", "Peter Martin (1987)"),
    Indicator("max_drawdown", "volatility", ("close",), (("long",),), _max_drawdown, within(),
              "Largest fall within the window, 0 to 1.", "1 - min(later close / earlier close)"),
    Indicator("mass_index", "volatility", ("high", "low"), ((9, 25),), _mass_index,
              lambda smooth, n: ema_memory(smooth, 2) + 7 * smooth + n,
              "Sum of EMA(range) / EMA(EMA(range)); n if flat.", "Donald Dorsey (1992)"),
    Indicator("chaikin_volatility", "volatility", ("high", "low"), ((10,),), _chaikin_volatility, lambda n: 2 * n - 1,
              "Mean range against that of n candles ago, -1 to 1; 0 if flat.", "Marc Chaikin, as a contrast of means"),
    Indicator("choppiness", "volatility", HLC, (("medium",),), _choppiness, within(1),
              "100 sideways, 0 straight; 50 if flat.", "E.W. Dreiss, choppiness index"),
    Indicator("relative_volatility", "volatility", ("close",), (("medium", 10),), _relative_volatility, within(),
              "Share of deviation in rising candles, 0 to 100; 50 if flat.", "Donald Dorsey (1993), with window sums"),
)
# fmt: on
