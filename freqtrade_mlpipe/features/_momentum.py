"""Momentum rows: oscillators."""

from __future__ import annotations

import functools

import numpy as np

from freqtrade_mlpipe.features import _talib as talib
from freqtrade_mlpipe.features._price import body_fraction, highest, lowest
from freqtrade_mlpipe.features._windows import (
    FloatArray,
    contrast,
    lag,
    ratio,
    rolling_max,
    rolling_mean,
    rolling_min,
    rolling_rank,
    rolling_sum,
)
from freqtrade_mlpipe.features.indicator import (
    HLC,
    OHLC,
    Candles,
    Indicator,
    changes,
    ema_memory,
    log_returns,
    spread,
    true_range,
    wilder_memory,
    within,
)


def ema(c: Candles, n: int) -> FloatArray:
    """Exponential moving average of the close."""
    return talib.EMA(c.close, n)


def still(c: Candles, n: int) -> FloatArray:
    """1 where the close has not changed for n candles, else 0.

    A quotient of two averages with memory decays to 0 / 0 on a flat market; the neutral value takes
    over here.
    """
    largest = rolling_max(np.abs(c.shared(changes)), n)
    return (largest <= 0).astype(np.float64)


def _neutral_if_still(c: Candles, values: FloatArray, n: int, neutral: float) -> FloatArray:
    np.copyto(values, neutral, where=c.shared(still, n) > 0)
    return values


def rsi(c: Candles, n: int) -> FloatArray:
    """Relative strength index, 0 to 100, 50 after 3n candles without a change."""
    return _neutral_if_still(c, talib.RSI(c.close, n), 3 * n, 50.0)


def _rsi_change(c: Candles, n: int) -> FloatArray:
    values = c.shared(rsi, n)
    return values - lag(values, n)


def _macd_line(c: Candles, fast: int, slow: int) -> FloatArray:
    return c.shared(ema, fast) - c.shared(ema, slow)


def macd_signal_line(c: Candles, fast: int, slow: int, signal: int) -> FloatArray:
    """EMA of the MACD line, in price units."""
    return talib.EMA(_macd_line(c, fast, slow), signal)


def _macd(c: Candles, fast: int, slow: int) -> FloatArray:
    return _macd_line(c, fast, slow) / c.close


def _macd_signal(c: Candles, fast: int, slow: int, signal: int) -> FloatArray:
    return c.shared(macd_signal_line, fast, slow, signal) / c.close


def _macd_histogram(c: Candles, fast: int, slow: int, signal: int) -> FloatArray:
    gap = _macd_line(c, fast, slow) - c.shared(macd_signal_line, fast, slow, signal)
    return gap / c.close


def fast_k(c: Candles, n: int) -> FloatArray:
    """Close's place in the range of n candles, 0 to 100; 50 if flat."""
    high, low = c.shared(highest, n), c.shared(lowest, n)
    return ratio(100.0 * (c.close - low), high - low, 50.0)


def slow_k(c: Candles, n: int, smooth: int) -> FloatArray:
    """Mean of `fast_k`."""
    return rolling_mean(c.shared(fast_k, n), smooth)


def _stochastic_d(c: Candles, n: int, smooth: int, signal: int) -> FloatArray:
    return rolling_mean(c.shared(slow_k, n, smooth), signal)


def stochastic_rsi(c: Candles, n: int, smooth: int) -> FloatArray:
    """Stochastic of the RSI over its own period, smoothed; 50 if the RSI is flat."""
    values = c.shared(rsi, n)
    low = rolling_min(values, n)
    width = rolling_max(values, n) - low
    np.copyto(width, 0.0, where=width < 1e-6)
    return rolling_mean(ratio(100.0 * (values - low), width, 50.0), smooth)


def _stochastic_rsi_d(c: Candles, n: int, smooth: int, signal: int) -> FloatArray:
    return rolling_mean(c.shared(stochastic_rsi, n, smooth), signal)


def _roc(c: Candles, n: int) -> FloatArray:
    return talib.ROC(c.close, n)


def _cci(c: Candles, n: int) -> FloatArray:
    values = talib.CCI(c.high, c.low, c.close, n)
    flat = c.shared(highest, n) == c.shared(lowest, n)
    np.copyto(values, 0.0, where=flat)
    return values


def _williams_r(c: Candles, n: int) -> FloatArray:
    high = c.shared(highest, n)
    return ratio(-100.0 * (high - c.close), high - c.shared(lowest, n), -50.0)


def _ultimate_oscillator(c: Candles, short: int, medium: int, long: int) -> FloatArray:
    pressure = c.close - np.minimum(c.low, lag(c.close, 1))
    parts = [
        weight * ratio(rolling_sum(pressure, n), rolling_sum(c.shared(true_range), n), 0.5)
        for weight, n in ((4.0, short), (2.0, medium), (1.0, long))
    ]
    return functools.reduce(np.add, parts) * (100.0 / 7.0)


def _double_ema(values: FloatArray, slow: int, fast: int) -> FloatArray:
    return talib.EMA(talib.EMA(values, slow), fast)


def _tsi(c: Candles, slow: int, fast: int) -> FloatArray:
    step = c.shared(changes)
    net = _double_ema(step, slow, fast)
    values = 100.0 * ratio(net, _double_ema(np.abs(step), slow, fast), 0.0)
    return _neutral_if_still(c, values, 3 * slow, 0.0)


def _cmo(c: Candles, n: int) -> FloatArray:
    step = c.shared(changes)
    rising = rolling_sum(np.maximum(step, 0.0), n)
    return 100.0 * contrast(rising, rolling_sum(np.maximum(-step, 0.0), n))


def _intraday_momentum(c: Candles, n: int) -> FloatArray:
    body = c.close - c.open
    rising = rolling_sum(np.maximum(body, 0.0), n)
    return 50.0 + 50.0 * contrast(rising, rolling_sum(np.maximum(-body, 0.0), n))


def _momentum_atr(c: Candles, n: int) -> FloatArray:
    mean_range = rolling_mean(c.shared(true_range), n)
    return ratio(c.close - lag(c.close, n), mean_range, 0.0)


def _awesome_oscillator(c: Candles, fast: int, slow: int) -> FloatArray:
    middle = 0.5 * (c.high + c.low)
    return (rolling_mean(middle, fast) - rolling_mean(middle, slow)) / c.close


def _trix(c: Candles, n: int) -> FloatArray:
    return talib.TRIX(c.close, n)


def _balance_of_power(c: Candles, n: int) -> FloatArray:
    return rolling_mean(body_fraction(c), n)


def _symmetric(values: FloatArray) -> FloatArray:
    return values + 2.0 * lag(values, 1) + 2.0 * lag(values, 2) + lag(values, 3)


def _relative_vigor(c: Candles, n: int) -> FloatArray:
    body = rolling_sum(_symmetric(c.close - c.open), n)
    return ratio(body, rolling_sum(_symmetric(c.shared(spread)), n), 0.0)


def _coppock(c: Candles, long: int, short: int, smooth: int) -> FloatArray:
    roc = c.close / lag(c.close, long) + c.close / lag(c.close, short) - 2.0
    return talib.WMA(roc, smooth) * 100.0


_KST = ((1.0, 10, 10), (2.0, 15, 10), (3.0, 20, 10), (4.0, 30, 15))


def _know_sure_thing(c: Candles) -> FloatArray:
    parts = [
        weight * rolling_mean(c.close / lag(c.close, n) - 1.0, smooth) for weight, n, smooth in _KST
    ]
    return 100.0 * functools.reduce(np.add, parts)


def _detrended_price(c: Candles, n: int) -> FloatArray:
    return (lag(c.close, n // 2 + 1) - rolling_mean(c.close, n)) / c.close


def _bull_power(c: Candles, n: int) -> FloatArray:
    return (c.high - c.shared(ema, n)) / c.close


def _bear_power(c: Candles, n: int) -> FloatArray:
    return (c.low - c.shared(ema, n)) / c.close


def _return_rank(c: Candles, n: int) -> FloatArray:
    return rolling_rank(c.shared(log_returns), n)


def _qstick(c: Candles, n: int) -> FloatArray:
    return rolling_mean(c.close - c.open, n) / c.close


def _stochastic_momentum(c: Candles, n: int, smooth: int) -> FloatArray:
    high, low = c.shared(highest, n), c.shared(lowest, n)
    width = rolling_sum(high - low, smooth)
    place = rolling_sum(c.close - 0.5 * (high + low), smooth)
    return ratio(200.0 * place, width, 0.0)


# fmt: off
ROWS: tuple[Indicator, ...] = (
    Indicator("rsi", "momentum", ("close",), (("short",), ("medium",)), rsi, lambda n: wilder_memory(n) + 3 * n,
              "Relative strength index, 0 to 100; 50 after 3n candles without a change.", "Wilder (1978); TA-Lib RSI"),
    Indicator("rsi_change", "momentum", ("close",), (("medium",),), _rsi_change, lambda n: wilder_memory(n) + 4 * n,
              "RSI less that of n candles ago, in points.", "RSI[t] - RSI[t-n]"),
    Indicator("macd", "momentum", ("close",), ((12, 26),), _macd, lambda fast, slow: ema_memory(slow),
              "EMA of the fast less that of the slow period, as a share of the close.", "Gerald Appel; TA-Lib EMA"),
    Indicator("macd_signal", "momentum", ("close",), ((12, 26, 9),), _macd_signal,
              lambda fast, slow, signal: ema_memory(slow) + ema_memory(signal),
              "EMA of the MACD line as a share of the close.", "Gerald Appel"),
    Indicator("macd_histogram", "momentum", ("close",), ((12, 26, 9),), _macd_histogram,
              lambda fast, slow, signal: ema_memory(slow) + ema_memory(signal),
              "MACD line less its signal as a share of the close.", "Thomas Aspray (1986)"),
    Indicator("stochastic_k", "momentum", HLC, (("medium", 3),), slow_k, within(), "Slow %K, 0 to 100; 50 if flat.",
              "George Lane; TA-Lib STOCH"),
    Indicator("stochastic_d", "momentum", HLC, (("medium", 3, 3),), _stochastic_d,
              lambda n, smooth, signal: n + smooth + signal - 3, "Slow %D, 0 to 100; 50 if flat.",
              "George Lane; TA-Lib STOCH"),
    Indicator("stochastic_rsi_k", "momentum", ("close",), (("medium", 3),), stochastic_rsi,
              lambda n, smooth: wilder_memory(n) + 4 * n + smooth,
              "Stochastic of the RSI, smoothed, 0 to 100; 50 if flat.", "Chande & Kroll (1994)"),
    Indicator("stochastic_rsi_d", "momentum", ("close",), (("medium", 3, 3),), _stochastic_rsi_d,
              lambda n, smooth, signal: wilder_memory(n) + 4 * n + smooth + signal,
              "Mean of stochastic_rsi_k, 0 to 100; 50 if flat.", "Chande & Kroll (1994)"),
    Indicator("roc", "momentum", ("close",), ((10,), (20,)), _roc, within(1), "Rate of change in percent.",
              "TA-Lib ROC"),
    Indicator("cci", "momentum", HLC, ((20,),), _cci, within(), "Commodity channel index; 0 if flat.",
              "Donald Lambert (1980); TA-Lib CCI"),
    Indicator("williams_r", "momentum", HLC, (("medium",),), _williams_r, within(),
              "Williams %R, -100 to 0; -50 if flat.", "Larry Williams (1973); TA-Lib WILLR"),
    Indicator("ultimate_oscillator", "momentum", HLC, ((7, 14, 28),), _ultimate_oscillator,
              lambda *periods: max(periods), "Buying pressure over three horizons, 0 to 100; 50 if flat.",
              "Larry Williams (1985); TA-Lib ULTOSC"),
    Indicator("tsi", "momentum", ("close",), ((25, 13),), _tsi,
              lambda slow, fast: ema_memory(slow) + ema_memory(fast) + 3 * slow,
              "True strength index, -100 to 100; 0 after three slow periods without a change.", "William Blau (1991)"),
    Indicator("cmo", "momentum", ("close",), (("medium",),), _cmo, within(1),
              "Chande momentum oscillator from window sums, -100 to 100; 0 if flat.", "Chande & Kroll (1994)"),
    Indicator("intraday_momentum", "momentum", ("open", "close"), (("medium",),), _intraday_momentum, within(),
              "Share of rising bodies in all bodies, 0 to 100; 50 if flat.", "Tushar Chande, intraday momentum index"),
    Indicator("momentum_atr", "momentum", HLC, (("medium",),), _momentum_atr, within(1),
              "Close's change over n candles in mean true ranges; 0 if flat.", "momentum / mean(TR)"),
    Indicator("awesome_oscillator", "momentum", HLC, ((5, 34),), _awesome_oscillator,
              lambda fast, slow: max(fast, slow) - 1,
              "Mean middle price of 5 less that of 34 candles, as a share of the close.", "Bill Williams (1995)"),
    Indicator("trix", "momentum", ("close",), (("medium",),), _trix, lambda n: ema_memory(n, 3) + 1,
              "One-candle change of the triple EMA in percent.", "Jack Hutson (1983); TA-Lib TRIX"),
    Indicator("balance_of_power", "momentum", OHLC, (("medium",),), _balance_of_power, within(),
              "Mean of body_fraction, -1 to 1.", "Igor Livshin (2001), smoothed"),
    Indicator("relative_vigor", "momentum", OHLC, ((10,),), _relative_vigor, within(3),
              "Bodies over ranges, both symmetrically weighted, -1 to 1; 0 if flat.", "John Ehlers (2002)"),
    Indicator("coppock", "momentum", ("close",), ((14, 11, 10),), _coppock,
              lambda long, short, smooth: max(long, short) + smooth - 1,
              "Weighted mean of two rates of change, in percent.", "E.S.C. Coppock (1962)"),
    Indicator("know_sure_thing", "momentum", ("close",), ((),), _know_sure_thing,
              lambda: max(n + smooth - 1 for _, n, smooth in _KST),
              "Weighted sum of four smoothed rates of change, in percent.", "Martin Pring (1992)"),
    Indicator("detrended_price", "momentum", ("close",), ((20,),), _detrended_price, within(),
              "Close of n/2 + 1 candles ago less the mean, as a share of the close.",
              "detrended price oscillator, without centring"),
    Indicator("bull_power", "momentum", ("high", "close"), ((13,),), _bull_power, ema_memory,
              "High less the EMA as a share of the close.", "Elder (1993)"),
    Indicator("bear_power", "momentum", ("low", "close"), ((13,),), _bear_power, ema_memory,
              "Low less the EMA as a share of the close.", "Elder (1993)"),
    Indicator("return_rank", "momentum", ("close",), (("long",),), _return_rank, within(1),
              "Share of the n - 1 returns before that are smaller, ties half; 0 to 1.",
              "percentile rank, after Connors RSI"),
    Indicator("qstick", "momentum", ("open", "close"), (("medium",),), _qstick, within(),
              "Mean body as a share of the close.", "Tushar Chande, Qstick"),
    Indicator("stochastic_momentum", "momentum", HLC, (("medium", 3),), _stochastic_momentum, within(),
              "Close's distance from the range's middle, summed, over the range, -100 to 100; 0 if flat.",
              "William Blau (1993), with window sums"),
)
# fmt: on
