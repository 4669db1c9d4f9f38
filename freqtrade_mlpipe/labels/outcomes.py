"""What became of the trade behind each row, by kind of label."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

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


def _direction(prices: Prices, config: LabelConfig) -> Outcome:
    trade = _hold(prices, config.horizon_candles)
    n_known = int((trade.end >= 0).sum())
    y = np.full(len(prices), np.nan)
    y[:n_known] = prices.close[config.horizon_candles :] > prices.close[:n_known]
    return Outcome(y, trade.forward_return, trade.end)


def _threshold(prices: Prices, config: LabelConfig) -> Outcome:
    trade = _hold(prices, config.horizon_candles)
    y = np.where(trade.end >= 0, trade.forward_return > _min_return(config), np.nan)
    return Outcome(y, trade.forward_return, trade.end)


def _hold(prices: Prices, horizon: int) -> Outcome:
    """The trade open[t+1] → close[t+horizon]."""
    n = len(prices)
    n_known = max(n - horizon, 0)
    gross = np.full(n, np.nan)
    gross[:n_known] = prices.close[horizon:] / prices.open[1 : n_known + 1] - 1.0
    end = np.full(n, OPEN, dtype=np.int64)
    end[:n_known] = np.arange(n_known) + horizon
    return Outcome(np.full(n, np.nan), gross, end)


def _triple_barrier(prices: Prices, config: LabelConfig) -> Outcome:
    n = len(prices)
    entry = np.full(n, np.nan)
    entry[:-1] = prices.open[1:]
    unit = _barrier_unit(prices, entry, config)
    profit, stop = entry + config.take_profit * unit, entry - config.stop_loss * unit
    y, exit_price = np.full(n, np.nan), np.full(n, np.nan)
    end = np.where(np.isfinite(profit), OPEN, NEVER)

    waiting = np.flatnonzero(end == OPEN)
    for step in range(1, config.horizon_candles + 1):
        waiting = waiting[waiting + step < n]
        now = waiting + step
        stopped = prices.low[now] <= stop[waiting]
        won = ~stopped & (prices.high[now] >= profit[waiting])
        touched = stopped | won
        rows = waiting[touched]
        y[rows], end[rows] = won[touched], rows + step
        exit_price[rows] = np.where(
            won[touched], profit[rows], np.minimum(stop[rows], prices.open[rows + step])
        )
        waiting = waiting[~touched]

    end[waiting] = waiting + config.horizon_candles
    exit_price[waiting] = prices.close[end[waiting]]
    gross = exit_price / entry - 1.0
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
}
