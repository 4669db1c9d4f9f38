"""Statistics rows: shape and memory of returns, liquidity and order flow from candles."""

from __future__ import annotations

import functools
import math

import numpy as np

from freqtrade_mlpipe.features._volatility import log_range, squared_returns, volatility
from freqtrade_mlpipe.features._volume import signed_volume, volume_sum
from freqtrade_mlpipe.features._windows import (
    FloatArray,
    contrast,
    lag,
    look_up,
    ratio,
    rolling_correlation,
    rolling_covariance,
    rolling_max,
    rolling_mean,
    rolling_moments,
    rolling_sum,
    rolling_variance,
    rolling_weighted,
    zero_if_nan,
)
from freqtrade_mlpipe.features.indicator import (
    HLC,
    Candles,
    Indicator,
    changes,
    log_close,
    log_returns,
    within,
)

_CORWIN_SCHULTZ = 3.0 - 2.0 * math.sqrt(2.0)
_LOGISTIC_TO_NORMAL = 0.851
"""2 * Phi(z) - 1 is tanh(0.851 * z) to within 0.01."""


def mean_return(c: Candles, n: int) -> FloatArray:
    """Mean one-candle log return."""
    return rolling_mean(c.shared(log_returns), n)


def absolute_returns(c: Candles) -> FloatArray:
    """Size of the one-candle log return."""
    return np.abs(c.shared(log_returns))


def _skewness(c: Candles, n: int) -> FloatArray:
    mean, deviation = c.shared(mean_return, n), c.shared(volatility, n)
    square = rolling_mean(c.shared(squared_returns), n)
    cube = rolling_mean(c.shared(squared_returns) * c.shared(log_returns), n)
    third = cube - 3.0 * mean * square + 2.0 * mean * mean * mean
    return ratio(third, deviation * deviation * deviation, 0.0)


def _kurtosis(c: Candles, n: int) -> FloatArray:
    mean, square = c.shared(mean_return, n), c.shared(squared_returns)
    m2 = rolling_mean(square, n)
    m3 = rolling_mean(square * c.shared(log_returns), n)
    m4 = rolling_mean(square * square, n)
    mean2 = mean * mean
    fourth = m4 - 4.0 * mean * m3 + 6.0 * mean2 * m2 - 3.0 * mean2 * mean2
    variance = c.shared(volatility, n) ** 2
    return ratio(fourth, variance * variance, 3.0) - 3.0


def _autocorrelation(c: Candles, step: int, n: int) -> FloatArray:
    returns = c.shared(log_returns)
    return rolling_correlation(returns, lag(returns, step), n)


def _absolute_autocorrelation(c: Candles, step: int, n: int) -> FloatArray:
    size = c.shared(absolute_returns)
    return rolling_correlation(size, lag(size, step), n)


def _leverage_correlation(c: Candles, n: int) -> FloatArray:
    return rolling_correlation(lag(c.shared(log_returns), 1), c.shared(absolute_returns), n)


def _variance_ratio(c: Candles, q: int, n: int) -> FloatArray:
    long = zero_if_nan(rolling_sum(c.shared(log_returns), q))
    deviation = c.shared(volatility, n)
    return ratio(rolling_variance(long, n), q * deviation * deviation, 1.0)


def _hurst(c: Candles, n: int) -> FloatArray:
    price = c.shared(log_close)
    square = [rolling_mean((price - lag(price, k)) ** 2, n) for k in (1, 2, 4, 8)]
    floor = 1e-6 * functools.reduce(np.maximum, square)
    one, two, four, eight = (np.maximum(part, floor) for part in square)
    x, y = ratio(eight, one, 8.0), ratio(four, two, 2.0)
    return np.log2(np.sqrt(x * y) * x) / 10.0


def _frac_diff(c: Candles, percent: int, n: int) -> FloatArray:
    d = percent / 100.0
    steps = np.arange(1, n)
    weights = np.concatenate([[1.0], np.cumprod((steps - 1 - d) / steps)])
    return rolling_weighted(c.shared(log_returns), np.cumsum(weights))


def _mean_reversion(c: Candles, n: int) -> FloatArray:
    variance = rolling_moments(c.shared(log_close), n)[1]
    before = lag(variance, 1)
    step = c.shared(volatility, n)
    return ratio(0.5 * (variance - before - step * step), before, 0.0)


def _return_to_risk(c: Candles, n: int) -> FloatArray:
    return ratio(c.shared(mean_return, n), c.shared(volatility, n), 0.0)


def _return_z_score(c: Candles, n: int) -> FloatArray:
    return ratio(c.shared(log_returns) - c.shared(mean_return, n), c.shared(volatility, n), 0.0)


def _max_return_share(c: Candles, n: int) -> FloatArray:
    size = c.shared(absolute_returns)
    return ratio(rolling_max(size, n), rolling_sum(size, n), 1.0 / n)


def _zero_return_share(c: Candles, n: int) -> FloatArray:
    return rolling_mean((c.shared(changes) == 0).astype(np.float64), n)


def _sign_change_share(c: Candles, n: int) -> FloatArray:
    direction = np.sign(c.shared(changes))
    return rolling_mean((direction * lag(direction, 1) < 0).astype(np.float64), n)


def _permutation_entropy(c: Candles, n: int) -> FloatArray:
    now, one, two = c.close, lag(c.close, 1), lag(c.close, 2)
    pattern = 4 * (two <= one) + 2 * (one <= now) + (two <= now)
    count = np.arange(1, n + 1)
    table = np.concatenate([[0.0], -count / n * np.log(count / n) / np.log(6.0)])
    parts = []
    for kind in (0, 2, 3, 4, 5, 7):
        seen = zero_if_nan(rolling_sum((pattern == kind).astype(np.float64), n))
        parts.append(look_up(seen.astype(np.int64), table))
    return functools.reduce(np.add, parts)


def _amihud(c: Candles, n: int, m: int) -> FloatArray:
    size, money = c.shared(absolute_returns), c.volume * c.close
    now = ratio(rolling_sum(size, n), rolling_sum(money, n), 0.0)
    return contrast(now, ratio(rolling_sum(size, m), rolling_sum(money, m), 0.0))


def _corwin_schultz(c: Candles, n: int) -> FloatArray:
    span = c.shared(log_range)
    square = span * span
    beta = square + lag(square, 1)
    high, low = np.maximum(c.high, lag(c.high, 1)), np.minimum(c.low, lag(c.low, 1))
    gamma = np.log(high / low)
    alpha = (math.sqrt(2.0) - 1.0) * np.sqrt(beta) / _CORWIN_SCHULTZ
    alpha -= gamma / math.sqrt(_CORWIN_SCHULTZ)
    return rolling_mean(2.0 * np.tanh(0.5 * np.maximum(alpha, 0.0)), n)


def _roll_spread(c: Candles, n: int) -> FloatArray:
    returns = c.shared(log_returns)
    covariance = rolling_covariance(returns, lag(returns, 1), n)
    return 2.0 * np.sqrt(np.maximum(-covariance, 0.0))


def _abdi_ranaldo(c: Candles, n: int) -> FloatArray:
    middle = 0.5 * np.log(c.high * c.low)
    close, before = lag(np.log(c.close), 1), lag(middle, 1)
    product = rolling_mean((close - before) * (close - middle), n)
    return 2.0 * np.sqrt(np.maximum(product, 0.0))


def _kyle_lambda(c: Candles, n: int) -> FloatArray:
    flow = c.shared(signed_volume)
    impact = rolling_sum(c.shared(absolute_returns) * c.volume, n) * c.shared(volume_sum, n)
    return ratio(impact, n * rolling_sum(flow * flow, n), 0.0)


def bulk_flow(c: Candles, n: int) -> FloatArray:
    """Bought less sold volume, classified by the size of the return."""
    z = ratio(c.shared(log_returns), c.shared(volatility, n), 0.0)
    return c.volume * np.tanh(_LOGISTIC_TO_NORMAL * z)


def _bulk_imbalance(c: Candles, n: int, m: int) -> FloatArray:
    return ratio(rolling_sum(c.shared(bulk_flow, m), n), c.shared(volume_sum, n), 0.0)


def _vpin(c: Candles, n: int) -> FloatArray:
    return ratio(rolling_sum(np.abs(c.shared(bulk_flow, n)), n), c.shared(volume_sum, n), 0.0)


# fmt: off
ROWS: tuple[Indicator, ...] = (
    Indicator("skewness", "statistics", ("close",), (("long",),), _skewness, within(1),
              "Skewness of log returns; 0 if flat.", "third standardised moment, population"),
    Indicator("kurtosis", "statistics", ("close",), (("long",),), _kurtosis, within(1),
              "Excess kurtosis of log returns; 0 if flat.", "fourth standardised moment - 3, population"),
    Indicator("autocorrelation", "statistics", ("close",), ((1, "long"), (5, "long")), _autocorrelation,
              lambda step, n: step + n, "Correlation of log returns with those k candles before; 0 if flat.",
              "Pearson"),
    Indicator("absolute_autocorrelation", "statistics", ("close",), ((1, "long"),), _absolute_autocorrelation,
              lambda step, n: step + n,
              "Clustering of volatility: correlation of absolute returns with those before; 0 if flat.",
              "Ding, Granger & Engle (1993)"),
    Indicator("leverage_correlation", "statistics", ("close",), (("long",),), _leverage_correlation, within(2),
              "Correlation of the return before with the size of this one; 0 if flat.",
              "Black (1976), leverage effect"),
    Indicator("variance_ratio", "statistics", ("close",), ((5, "long"),), _variance_ratio, lambda q, n: q + n,
              "Variance of q-candle returns over q one-candle variances: above 1 trending; 1 if flat.",
              "Lo & MacKinlay (1988)"),
    Indicator("hurst", "statistics", ("close",), (("long",),), _hurst, within(8),
              "Exponent of deviation against horizon over 1, 2, 4, 8 candles: above 0.5 trending; 0.5 if flat.",
              "generalised Hurst exponent, q = 2; Di Matteo (2007)"),
    Indicator("frac_diff", "statistics", ("close",), ((40, "long"),), _frac_diff, lambda percent, n: n,
              "Fractional difference of order 0.4 of the log close, relative to n candles ago.",
              "Hosking (1981); Lopez de Prado (2018), fixed window"),
    Indicator("mean_reversion", "statistics", ("close",), (("long",),), _mean_reversion, within(1),
              "Regression of the log close's step on its level: below 0 reverting; 0 if flat.",
              "Dickey & Fuller (1979), coefficient"),
    Indicator("return_to_risk", "statistics", ("close",), (("medium",), ("long",)), _return_to_risk, within(1),
              "Mean over deviation of log returns; 0 if flat.", "Sharpe ratio a candle"),
    Indicator("return_z_score", "statistics", ("close",), (("long",),), _return_z_score, within(1),
              "Last return in standard deviations from the mean; 0 if flat.", "(r - mean) / std"),
    Indicator("max_return_share", "statistics", ("close",), (("long",),), _max_return_share, within(1),
              "Share of the largest move in the path length; 1/n if flat.", "max|r| / sum|r|"),
    Indicator("zero_return_share", "statistics", ("close",), (("long",),), _zero_return_share, within(1),
              "Share of candles that closed unchanged.", "Lesmond, Ogden & Trzcinka (1999)"),
    Indicator("sign_change_share", "statistics", ("close",), (("long",),), _sign_change_share, within(2),
              "Share of candles whose change has the opposite sign of the one before.", "runs"),
    Indicator("permutation_entropy", "statistics", ("close",), (("long",),), _permutation_entropy, within(2),
              "Entropy of the order patterns of three closes, 0 regular to 1 random.", "Bandt & Pompe (2002)"),
    Indicator("amihud", "statistics", ("close", "volume"), (("short", "long"),), _amihud, lambda n, m: max(n, m),
              "Illiquidity (move a unit of money) of n against m candles, -1 to 1; 0 without volume.",
              "Amihud (2002), ratio of sums, as a contrast"),
    Indicator("corwin_schultz", "statistics", ("high", "low"), (("medium",),), _corwin_schultz, within(1),
              "Mean bid-ask spread from highs and lows, negative ones as 0.", "Corwin & Schultz (2012)"),
    Indicator("roll_spread", "statistics", ("close",), (("long",),), _roll_spread, within(2),
              "Bid-ask spread from the return's autocovariance, 0 where positive.", "Roll (1984)"),
    Indicator("abdi_ranaldo", "statistics", HLC, (("long",),), _abdi_ranaldo, within(1),
              "Bid-ask spread from close, high and low, 0 where negative.", "Abdi & Ranaldo (2017)"),
    Indicator("kyle_lambda", "statistics", ("close", "volume"), (("long",),), _kyle_lambda, within(1),
              "Log return for each mean volume of signed flow; 0 without volume.", "Kyle (1985); Hasbrouck (2009)"),
    Indicator("bulk_imbalance", "statistics", ("close", "volume"), (("medium", "long"),), _bulk_imbalance,
              lambda n, m: n + m - 1,
              "Bought less sold share of volume, classified in bulk, -1 to 1; 0 without volume.",
              "Easley, Lopez de Prado & O'Hara (2012)"),
    Indicator("vpin", "statistics", ("close", "volume"), (("long",),), _vpin, lambda n: 2 * n - 1,
              "One-sided share of volume, 0 to 1; 0 without volume.",
              "Easley, Lopez de Prado & O'Hara (2012), a bucket a candle"),
)
# fmt: on
