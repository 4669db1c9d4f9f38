"""Price rows: returns, position in the range, candle shape."""

from __future__ import annotations

import numpy as np

from freqtrade_mlpipe.features._windows import (
    FloatArray,
    lag,
    ratio,
    rolling_max,
    rolling_mean,
    rolling_min,
    rolling_moments,
    run_length,
)
from freqtrade_mlpipe.features.indicator import (
    HLC,
    OHLC,
    Candles,
    Indicator,
    changes,
    spread,
    true_range,
    within,
)


def highest(c: Candles, n: int) -> FloatArray:
    """Highest high of n candles."""
    return rolling_max(c.high, n)


def lowest(c: Candles, n: int) -> FloatArray:
    """Lowest low of n candles."""
    return rolling_min(c.low, n)


def close_location(c: Candles) -> FloatArray:
    """Where the close lies in its candle, -1 (low) to 1 (high), 0 without range."""
    return ratio(2.0 * c.close - c.high - c.low, c.shared(spread), 0.0)


def body_fraction(c: Candles) -> FloatArray:
    """(close - open) / (high - low), 0 without range."""
    return ratio(c.close - c.open, c.shared(spread), 0.0)


def _return(c: Candles, n: int) -> FloatArray:
    return c.close / lag(c.close, n) - 1.0


def _log_return(c: Candles, n: int) -> FloatArray:
    return np.log(c.close / lag(c.close, n))


def _acceleration(c: Candles, n: int) -> FloatArray:
    middle = lag(c.close, n)
    return np.log((c.close / middle) / (middle / lag(c.close, 2 * n)))


def _gap(c: Candles) -> FloatArray:
    return c.open / lag(c.close, 1) - 1.0


def _intraday_return(c: Candles) -> FloatArray:
    return c.close / c.open - 1.0


def _upper_shadow(c: Candles) -> FloatArray:
    return ratio(c.high - np.maximum(c.open, c.close), c.shared(spread), 0.0)


def _lower_shadow(c: Candles) -> FloatArray:
    return ratio(np.minimum(c.open, c.close) - c.low, c.shared(spread), 0.0)


def _candle_range(c: Candles) -> FloatArray:
    return c.shared(spread) / c.close


def _true_range(c: Candles) -> FloatArray:
    return c.shared(true_range) / c.close


def _range_overlap(c: Candles) -> FloatArray:
    high, low = lag(c.high, 1), lag(c.low, 1)
    common = np.minimum(c.high, high) - np.maximum(c.low, low)
    return ratio(common, np.maximum(c.high, high) - np.minimum(c.low, low), 0.0)


def _range_position(c: Candles, n: int) -> FloatArray:
    high, low = c.shared(highest, n), c.shared(lowest, n)
    return ratio(c.close - low, high - low, 0.5)


def _range_width(c: Candles, n: int) -> FloatArray:
    return (c.shared(highest, n) - c.shared(lowest, n)) / c.close


def _high_distance(c: Candles, n: int) -> FloatArray:
    return c.close / c.shared(highest, n) - 1.0


def _low_distance(c: Candles, n: int) -> FloatArray:
    return c.close / c.shared(lowest, n) - 1.0


def _z_score(c: Candles, n: int) -> FloatArray:
    mean, variance = rolling_moments(c.close, n)
    return ratio(c.close - mean, np.sqrt(variance), 0.0)


def _up_share(c: Candles, n: int) -> FloatArray:
    return rolling_mean((c.shared(changes) > 0).astype(np.float64), n)


def _streak(c: Candles, n: int) -> FloatArray:
    direction = np.sign(c.shared(changes))
    return direction * run_length(direction, n) / n


# fmt: off
ROWS: tuple[Indicator, ...] = (
    Indicator("return", "price", ("close",), ((1,), ("short",), ("medium",), ("long",)), _return, within(1),
              "Simple return over n candles; 0 unchanged.", "close[t] / close[t-n] - 1"),
    Indicator("log_return", "price", ("close",), ((1,), (3,), (24,)), _log_return, within(1),
              "Log return over n candles; 0 unchanged.", "ln(close[t] / close[t-n])"),
    Indicator("acceleration", "price", ("close",), (("short",), ("medium",)), _acceleration, lambda n: 2 * n,
              "Log return over n candles less that of the n before.", "r(t, n) - r(t-n, n)"),
    Indicator("gap", "price", ("open", "close"), ((),), _gap, within(2), "Open against the previous close.",
              "open[t] / close[t-1] - 1"),
    Indicator("intraday_return", "price", ("open", "close"), ((),), _intraday_return, within(),
              "Return within the candle.", "close / open - 1"),
    Indicator("body_fraction", "price", OHLC, ((),), body_fraction, within(),
              "Signed body's share of the candle's range (balance of power); 0 without range.",
              "Igor Livshin, Stocks & Commodities 8/2001; TA-Lib BOP"),
    Indicator("upper_shadow", "price", OHLC, ((),), _upper_shadow, within(),
              "Upper shadow's share of the range, 0 to 1; 0 without range.",
              "(high - max(open, close)) / (high - low)"),
    Indicator("lower_shadow", "price", OHLC, ((),), _lower_shadow, within(),
              "Lower shadow's share of the range, 0 to 1; 0 without range.", "(min(open, close) - low) / (high - low)"),
    Indicator("close_location", "price", HLC, ((),), close_location, within(),
              "Close's place in the candle, -1 low to 1 high; 0 without range.", "Marc Chaikin's close location value"),
    Indicator("candle_range", "price", HLC, ((),), _candle_range, within(), "Candle's range as a share of the close.",
              "(high - low) / close"),
    Indicator("true_range", "price", HLC, ((),), _true_range, within(2), "True range as a share of the close.",
              "Wilder (1978)"),
    Indicator("range_overlap", "price", ("high", "low"), ((),), _range_overlap, within(2),
              "Overlap of this and the previous candle's ranges, 1 identical, negative a gap; 0 if flat.",
              "intersection / union of [low, high]"),
    Indicator("range_position", "price", HLC, (("short",), ("long",)), _range_position, within(),
              "Close's place between lowest low and highest high, 0 to 1; 0.5 if flat.",
              "(close - min low) / (max high - min low)"),
    Indicator("range_width", "price", HLC, (("long",),), _range_width, within(),
              "Width of the Donchian channel as a share of the close.", "(max high - min low) / close"),
    Indicator("high_distance", "price", ("high", "close"), (("long",),), _high_distance, within(),
              "Close below the highest high, ≤ 0.", "close / max high - 1"),
    Indicator("low_distance", "price", ("low", "close"), (("long",),), _low_distance, within(),
              "Close above the lowest low, ≥ 0.", "close / min low - 1"),
    Indicator("z_score", "price", ("close",), (("long",),), _z_score, within(),
              "Close's distance from its mean in population standard deviations; 0 if flat.", "(close - mean) / std"),
    Indicator("up_share", "price", ("close",), (("long",),), _up_share, within(1),
              "Share of candles that closed higher (psychological line).", "mean(close[t] > close[t-1])"),
    Indicator("streak", "price", ("close",), (("medium",),), _streak, within(1),
              "Signed number of closes in a row in one direction, capped at n, over n; 0 unchanged.",
              "Connors & Alvarez (2009), streak, bounded"),
)
# fmt: on
