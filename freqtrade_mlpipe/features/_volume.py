"""Volume rows. All are window sums: volume bursts by orders of magnitude, and an average that never
forgets would keep a burst alive. A window without volume gives the neutral value."""

from __future__ import annotations

import numpy as np

from freqtrade_mlpipe.features._price import close_location
from freqtrade_mlpipe.features._windows import (
    FloatArray,
    contrast,
    lag,
    ratio,
    rolling_correlation,
    rolling_max,
    rolling_mean,
    rolling_rank,
    rolling_sum,
    rolling_variance,
    rolling_weighted,
    slope_weights,
)
from freqtrade_mlpipe.features.indicator import (
    HLC,
    Candles,
    Indicator,
    Input,
    changes,
    log_returns,
    spread,
    true_range,
    typical_price,
    within,
)

HLCV: tuple[Input, ...] = (*HLC, "volume")

_ROUNDING = 1e-12
"""Means of high, low and close that differ by less than this share are equal but for rounding."""


def volume_sum(c: Candles, n: int) -> FloatArray:
    """Volume of n candles."""
    return rolling_sum(c.volume, n)


def volume_change(c: Candles, n: int) -> FloatArray:
    """Contrast of the volume with that n candles ago, -1 to 1."""
    return contrast(c.volume, lag(c.volume, n))


def signed_volume(c: Candles) -> FloatArray:
    """Volume with the sign of the close's change."""
    return np.sign(c.shared(changes)) * c.volume


def _share(c: Candles, part: FloatArray, n: int, neutral: float = 0.0) -> FloatArray:
    return ratio(rolling_sum(part, n), c.shared(volume_sum, n), neutral)


def _volume_ratio(c: Candles, n: int) -> FloatArray:
    return ratio(c.volume * n, c.shared(volume_sum, n), 1.0)


def volume_variance(c: Candles, n: int) -> FloatArray:
    """Population variance of the volume."""
    return rolling_variance(c.volume, n)


def _volume_z_score(c: Candles, n: int) -> FloatArray:
    deviation = np.sqrt(c.shared(volume_variance, n))
    return ratio(c.volume - c.shared(volume_sum, n) / n, deviation, 0.0)


def _volume_variation(c: Candles, n: int) -> FloatArray:
    return ratio(np.sqrt(c.shared(volume_variance, n)) * n, c.shared(volume_sum, n), 0.0)


def _volume_trend(c: Candles, n: int, m: int) -> FloatArray:
    return ratio(c.shared(volume_sum, n) * m, c.shared(volume_sum, m) * n, 1.0)


def _volume_slope(c: Candles, n: int) -> FloatArray:
    slope = rolling_weighted(c.volume, slope_weights(n))
    return ratio(slope * n, c.shared(volume_sum, n), 0.0)


def _volume_rank(c: Candles, n: int) -> FloatArray:
    return rolling_rank(c.volume, n)


def _volume_concentration(c: Candles, n: int) -> FloatArray:
    return ratio(rolling_max(c.volume, n), c.shared(volume_sum, n), 1.0 / n)


def _vwap_distance(c: Candles, n: int) -> FloatArray:
    traded = rolling_sum(c.shared(typical_price) * c.volume, n)
    return ratio(c.close * c.shared(volume_sum, n), traded, 1.0) - 1.0


def _obv_slope(c: Candles, n: int) -> FloatArray:
    return _share(c, c.shared(signed_volume), n)


def _mfi(c: Candles, n: int) -> FloatArray:
    price = c.shared(typical_price)
    flow = price * c.volume
    step = price / lag(price, 1) - 1.0
    rising = rolling_sum(np.where(step > _ROUNDING, flow, 0.0), n)
    falling = rolling_sum(np.where(step < -_ROUNDING, flow, 0.0), n)
    return 50.0 + 50.0 * contrast(rising, falling)


def _cmf(c: Candles, n: int) -> FloatArray:
    return _share(c, close_location(c) * c.volume, n)


def _chaikin_oscillator(c: Candles, n: int, m: int) -> FloatArray:
    flow = close_location(c) * c.volume
    return _share(c, flow, n) - _share(c, flow, m)


def _force_index(c: Candles, n: int) -> FloatArray:
    return _share(c, c.shared(log_returns) * c.volume, n)


def _ease_of_movement(c: Candles, n: int, m: int) -> FloatArray:
    middle = c.high + c.low
    move = (middle / lag(middle, 1) - 1.0) * (c.shared(spread) / c.close)
    return ratio(rolling_sum(move, n) * c.shared(volume_sum, m), m * c.shared(volume_sum, n), 0.0)


def _up_volume(c: Candles, n: int) -> FloatArray:
    return _share(c, np.where(c.close > c.open, c.volume, 0.0), n, 0.5)


def _return_volume_correlation(c: Candles, n: int) -> FloatArray:
    return rolling_correlation(c.shared(log_returns), c.shared(volume_change, 1), n)


def _range_volume_correlation(c: Candles, n: int) -> FloatArray:
    return rolling_correlation(c.shared(true_range) / c.close, c.volume, n)


def _return_on_volume(c: Candles, n: int, side: float) -> FloatArray:
    step = side * (c.volume - lag(c.volume, 1))
    return rolling_sum(np.where(step > 0, c.shared(log_returns), 0.0), n)


def _negative_volume_return(c: Candles, n: int) -> FloatArray:
    return _return_on_volume(c, n, -1.0)


def _positive_volume_return(c: Candles, n: int) -> FloatArray:
    return _return_on_volume(c, n, 1.0)


def _effort_result(c: Candles, n: int) -> FloatArray:
    span = c.shared(true_range)
    result = ratio(span, rolling_mean(span, n), 0.0)
    return contrast(ratio(c.volume * n, c.shared(volume_sum, n), 0.0), result)


def _zero_volume_share(c: Candles, n: int) -> FloatArray:
    return rolling_mean((c.volume == 0).astype(np.float64), n)


# fmt: off
ROWS: tuple[Indicator, ...] = (
    Indicator("volume_change", "volume", ("volume",), ((1,), ("short",)), volume_change, within(1),
              "Volume against n candles ago, -1 to 1; 0 equal or both without volume.",
              "(v[t] - v[t-n]) / (v[t] + v[t-n]), tanh of half the log ratio"),
    Indicator("volume_ratio", "volume", ("volume",), (("medium",), ("long",)), _volume_ratio, within(),
              "Volume over its mean; 1 without volume.", "v / mean(v)"),
    Indicator("volume_z_score", "volume", ("volume",), (("long",),), _volume_z_score, within(),
              "Volume's distance from its mean in population standard deviations; 0 if constant.", "(v - mean) / std"),
    Indicator("volume_variation", "volume", ("volume",), (("long",),), _volume_variation, within(),
              "Coefficient of variation of volume; 0 without volume.", "std(v) / mean(v)"),
    Indicator("volume_trend", "volume", ("volume",), (("short", "long"),), _volume_trend, lambda n, m: max(n, m) - 1,
              "Mean volume of n candles over that of m; 1 without volume.", "mean_n(v) / mean_m(v)"),
    Indicator("volume_slope", "volume", ("volume",), (("long",),), _volume_slope, within(),
              "Regression slope of volume a candle, in mean volumes; 0 without volume.",
              "least-squares slope / mean"),
    Indicator("volume_rank", "volume", ("volume",), (("long",),), _volume_rank, within(),
              "Share of the n - 1 candles before with less volume, ties half; 0 to 1.", "percentile rank"),
    Indicator("volume_concentration", "volume", ("volume",), (("long",),), _volume_concentration, within(),
              "Share of the busiest candle in the window's volume; 1/n without volume.", "max(v) / sum(v)"),
    Indicator("vwap_distance", "volume", HLCV, (("medium",), ("long",)), _vwap_distance, within(),
              "Close against the volume-weighted average typical price; 0 without volume.",
              "close / (sum(tp * v) / sum(v)) - 1"),
    Indicator("obv_slope", "volume", ("close", "volume"), (("medium",), ("long",)), _obv_slope, within(1),
              "Change of on-balance volume as a share of the volume, -1 to 1; 0 without volume.",
              "Granville (1963), over a window"),
    Indicator("mfi", "volume", HLCV, (("medium",),), _mfi, within(1), "Money flow index, 0 to 100; 50 without flow.",
              "Quong & Soudack (1989); as TA-Lib MFI"),
    Indicator("cmf", "volume", HLCV, ((20,),), _cmf, within(),
              "Chaikin money flow: the A/D line's change a unit of volume, -1 to 1; 0 without volume.", "Marc Chaikin"),
    Indicator("chaikin_oscillator", "volume", HLCV, ((3, 10),), _chaikin_oscillator, lambda n, m: max(n, m) - 1,
              "Recent money flow less the earlier, with windows in place of EMAs; -2 to 2.",
              "Marc Chaikin's A/D oscillator, windowed"),
    Indicator("force_index", "volume", ("close", "volume"), (("medium",),), _force_index, within(1),
              "Volume-weighted mean log return; 0 without volume.", "Elder (1993), a unit of volume"),
    Indicator("ease_of_movement", "volume", HLCV, (("medium", "long"),), _ease_of_movement,
              lambda n, m: max(n + 1, m) - 1,
              "Move of the middle times range for each mean volume; 0 without volume.",
              "Richard Arms, relative to price and mean volume"),
    Indicator("up_volume", "volume", ("open", "close", "volume"), (("medium",), ("long",)), _up_volume, within(),
              "Share of volume in candles that closed above their open; 0.5 without volume.",
              "sum(v[close > open]) / sum(v)"),
    Indicator("return_volume_correlation", "volume", ("close", "volume"), (("long",),), _return_volume_correlation,
              lambda n: n, "Correlation of log return and volume change, -1 to 1; 0 if constant.", "Karpoff (1987)"),
    Indicator("range_volume_correlation", "volume", HLCV, (("long",),), _range_volume_correlation, lambda n: n,
              "Correlation of true range and volume, -1 to 1; 0 if constant.", "Karpoff (1987)"),
    Indicator("negative_volume_return", "volume", ("close", "volume"), (("long",),), _negative_volume_return,
              within(1), "Log return earned in candles of falling volume.",
              "negative volume index, Dysart; Fosback (1976), over a window"),
    Indicator("positive_volume_return", "volume", ("close", "volume"), (("long",),), _positive_volume_return,
              within(1), "Log return earned in candles of rising volume.",
              "positive volume index, Dysart; Fosback (1976), over a window"),
    Indicator("effort_result", "volume", HLCV, (("medium",),), _effort_result, within(1),
              "Relative volume against relative true range, -1 to 1; 0 balanced or both zero.",
              "Wyckoff's effort versus result"),
    Indicator("zero_volume_share", "volume", ("volume",), (("long",),), _zero_volume_share, within(),
              "Share of candles without a trade.", "mean(v == 0)"),
)
# fmt: on
