"""What became of the trade behind each row, by kind of label."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from freqtrade_mlpipe.config import LabelConfig
from freqtrade_mlpipe.labels.candles import Floats, Prices
from freqtrade_mlpipe.labels.weights import NEVER, OPEN

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Outcome:
    """Per row: y, forward return, and the row at whose close both are known (OPEN, NEVER: not yet, never)."""

    y: Floats
    forward_return: Floats
    end: Ints
    short_return: Floats | None = None


def _direction(prices: Prices, config: LabelConfig) -> Outcome:
    trade = _hold(prices, config.horizon_candles)
    now = prices.close[: int((trade.end >= 0).sum())]
    later = prices.close[config.horizon_candles :]
    y = np.full(len(prices), np.nan)
    if config.classes == 2:
        y[: len(now)] = later > now
        return replace(trade, y=y)
    y[: len(now)] = _side(later / now - 1.0, config)
    return replace(trade, y=y, short_return=-trade.forward_return)


def _threshold(prices: Prices, config: LabelConfig) -> Outcome:
    trade = _hold(prices, config.horizon_candles)
    gross, known = trade.forward_return, trade.end >= 0
    if config.classes == 2:
        return replace(trade, y=np.where(known, gross > _min_return(config), np.nan))
    return replace(trade, y=np.where(known, _side(gross, config), np.nan), short_return=-gross)


def _forward_return(prices: Prices, config: LabelConfig) -> Outcome:
    trade = _hold(prices, config.horizon_candles)
    return replace(trade, y=np.log1p(trade.forward_return))


def _side(change: Floats, config: LabelConfig) -> Floats:
    """1 where the price rises by more than the minimum return, -1 where it falls by more, else 0."""
    least = _min_return(config)
    return (change > least).astype(np.float64) - (change < -least)


def held_return(opened: Floats, closed: Floats, horizon: int) -> Floats:
    """Gross return of the trade open[t+1] → close[t+horizon] of each row, shape (n,); NaN where it is not over yet."""
    n_known = max(len(closed) - horizon, 0)
    gross = np.full(len(closed), np.nan)
    gross[:n_known] = closed[horizon:] / opened[1 : n_known + 1] - 1.0
    return gross


def _hold(prices: Prices, horizon: int) -> Outcome:
    """The trade open[t+1] → close[t+horizon]."""
    n = len(prices)
    n_known = max(n - horizon, 0)
    gross = held_return(prices.open, prices.close, horizon)
    end = np.full(n, OPEN, dtype=np.int64)
    end[:n_known] = np.arange(n_known) + horizon
    return Outcome(np.full(n, np.nan), gross, end)


def _triple_barrier(prices: Prices, config: LabelConfig) -> Outcome:
    long = _between_barriers(prices, config)
    if config.classes == 2:
        return long
    short = _between_barriers(prices, config, short=True)
    pays, falls = long.y == 1, short.y == 1
    y = np.where(pays & ~(falls & (short.end <= long.end)), 1.0, 0.0)
    y[falls & ~(pays & (long.end <= short.end))] = -1.0
    first, last = np.minimum(long.end, short.end), np.maximum(long.end, short.end)
    known = first >= 0
    return Outcome(
        y=np.where(known, y, np.nan),
        forward_return=np.where(known, long.forward_return, np.nan),
        end=np.where(known, last, first),
        short_return=np.where(known, short.forward_return, np.nan),
    )


def _between_barriers(prices: Prices, config: LabelConfig, *, short: bool = False) -> Outcome:
    """One trade a row, long or short, until its profit barrier, its stop or its time; y: whether it pays."""
    n = len(prices)
    entry = np.full(n, np.nan)
    entry[:-1] = prices.open[1:]
    # A short is a long of the mirrored market: its low is minus the high, and so on.
    sign = -1.0 if short else 1.0
    low, high = (-prices.high, -prices.low) if short else (prices.low, prices.high)
    unit = _barrier_unit(prices, entry, config)
    profit = sign * entry + config.take_profit * unit
    stop = sign * entry - config.stop_loss * unit
    y, exit_price = np.full(n, np.nan), np.full(n, np.nan)
    end = np.where(np.isfinite(profit), OPEN, NEVER)

    waiting = np.flatnonzero(end == OPEN)
    for step in range(1, config.horizon_candles + 1):
        waiting = waiting[waiting + step < n]
        now = waiting + step
        stopped = low[now] <= stop[waiting]
        won = ~stopped & (high[now] >= profit[waiting])
        touched = stopped | won
        rows = waiting[touched]
        y[rows], end[rows] = won[touched], rows + step
        jumped = np.minimum(stop[rows], sign * prices.open[rows + step])
        exit_price[rows] = sign * np.where(won[touched], profit[rows], jumped)
        waiting = waiting[~touched]

    end[waiting] = waiting + config.horizon_candles
    exit_price[waiting] = prices.close[end[waiting]]
    gross = sign * (exit_price / entry - 1.0)
    y[waiting] = gross[waiting] > _min_return(config)
    return Outcome(y, gross, end)


def _barrier_unit(prices: Prices, entry: Floats, config: LabelConfig) -> Floats:
    if config.barrier_unit == "percent":
        return entry / 100.0
    import talib

    if len(prices) <= config.barrier_atr_period:
        return np.full(len(prices), np.nan)
    atr = talib.ATR(prices.high, prices.low, prices.close, timeperiod=config.barrier_atr_period)
    return np.asarray(atr, dtype=np.float64)


def _min_return(config: LabelConfig) -> float:
    return 2.0 * config.fee if config.min_return is None else config.min_return


KINDS: Mapping[str, Callable[[Prices, LabelConfig], Outcome]] = {
    "direction": _direction,
    "threshold": _threshold,
    "triple_barrier": _triple_barrier,
    "forward_return": _forward_return,
}
