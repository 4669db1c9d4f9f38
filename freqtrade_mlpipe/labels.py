"""Labels of one pair: what is predicted, when it is known, its weight and forward return.

A row is named by `date`, the candle's open time. Its features end with that candle's close; a trade
on them is entered at the next candle's open. Labels count rows, not time: fill gaps first
(freqtrade does when it loads candles).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from freqtrade_mlpipe.config import LabelConfig
from freqtrade_mlpipe.exceptions import DataError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PRICES = ("open", "high", "low", "close")


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels of one pair; every series is on the index of the candles they were made from.

    Attributes
    ----------
    y : Series of float64
        1.0 or 0.0; NaN where the future is missing (never 0).
    known_at : Series of datetime64[ns, UTC]
        `date` of the candle at whose close the label is known; NaT where `y` is NaN. A row may
        train a model that predicts from date T on iff ``known_at < T``.
    weight : Series of float64
        Average uniqueness of each label (López de Prado 2018, ch. 4), scaled to mean 1 over
        labelled rows; NaN where `y` is NaN.
    forward_return : Series of float64
        Gross return (fraction, before fees) of a long trade entered at the next candle's open and
        left at the close of the last candle of the horizon, or at the barrier that was touched
        first. NaN where unknown.
    round_trip_cost : float
        Both fees of the trade as a fraction of the stake.
    """

    y: pd.Series[float]
    known_at: pd.Series[pd.Timestamp]
    weight: pd.Series[float]
    forward_return: pd.Series[float]
    round_trip_cost: float

    def table(self) -> pd.DataFrame:
        """The four series as columns y, known_at, weight, forward_return."""
        series = {"y": self.y, "known_at": self.known_at, "weight": self.weight}
        return pd.DataFrame({**series, "forward_return": self.forward_return})


@dataclass(frozen=True)
class _Prices:
    open: Floats
    high: Floats
    low: Floats
    close: Floats

    def __len__(self) -> int:
        return len(self.close)


@dataclass(frozen=True)
class _Outcome:
    """Per row: y, forward return, and the row at whose close both are known (-1: never)."""

    y: Floats
    forward_return: Floats
    end: Ints


def make_labels(df: pd.DataFrame, config: LabelConfig | None = None) -> Labels:
    """Labels of one pair's candles.

    Parameters
    ----------
    df : DataFrame
        Candles: columns open, high, low, close and `date` (UTC, tz-aware, ascending, unique), or
        the dates as a DatetimeIndex.
    config : LabelConfig, optional
        Kind of label, horizon, fee and barriers.

    Returns
    -------
    Labels
        ``direction``: close[t+h] > close[t]. ``threshold``: forward return > `min_return`.
        ``triple_barrier``: 1 if the profit barrier is touched before the stop, 0 if the stop is;
        when time runs out first, forward return > `min_return`. A candle that touches both barriers
        counts as a stop. `min_return` is both fees unless set.

    Raises
    ------
    DataError
        For missing columns, dates that are not UTC, ascending and unique, or prices that are not
        finite and > 0.

    Notes
    -----
    Barriers are measured from the entry (open[t+1]); `atr` multiplies the ATR known at t, `percent`
    the entry price. A stop that the market jumps over is left at that candle's open, the worse
    price.

    Examples
    --------
    >>> dates = pd.date_range("2024-01-01", periods=4, freq="1h", tz="UTC")
    >>> price = [100.0, 101.0, 103.0, 102.0]
    >>> df = pd.DataFrame({"date": dates, **dict.fromkeys(PRICES, price)})
    >>> make_labels(df, LabelConfig(kind="direction", horizon_candles=1)).y.tolist()
    [1.0, 1.0, 0.0, nan]
    """
    config = config or LabelConfig()
    dates = _dates(df)
    prices = _prices(df)
    outcome = _KINDS[config.kind](prices, config)

    known = outcome.end >= 0
    known_at = np.full(len(prices), pd.NaT.value, dtype=np.int64)
    known_at[known] = dates.as_unit("ns").asi8[outcome.end[known]]
    return Labels(
        y=pd.Series(outcome.y, index=df.index, name="y"),
        known_at=pd.Series(
            pd.DatetimeIndex(known_at.view("M8[ns]"), tz="UTC"), index=df.index, name="known_at"
        ),
        weight=pd.Series(average_uniqueness(outcome.end), index=df.index, name="weight"),
        forward_return=pd.Series(outcome.forward_return, index=df.index, name="forward_return"),
        round_trip_cost=2.0 * config.fee,
    )


def average_uniqueness(end: Ints) -> Floats:
    """Average uniqueness of labels that may overlap, scaled to mean 1.

    Parameters
    ----------
    end : ndarray of int, shape (n,)
        Row at whose close the label of each row is known; negative where it is not.

    Returns
    -------
    ndarray of float64, shape (n,)
        The mean over the candles t+1 … end[t] of one over the number of labels that span the
        candle; NaN where unknown.

    Notes
    -----
    López de Prado (2018), Advances in Financial Machine Learning, section 4.3 and 4.4.
    """
    n = len(end)
    weight = np.full(n, np.nan)
    rows = np.flatnonzero(end >= 0)
    if not len(rows):
        return weight
    last = end[rows]
    steps = np.zeros(n + 1, dtype=np.int64)
    np.add.at(steps, rows + 1, 1)
    np.add.at(steps, last + 1, -1)
    concurrent = np.cumsum(steps[:n])
    share = np.zeros(n + 1)
    np.cumsum(1.0 / np.maximum(concurrent, 1), out=share[1:])
    unique = (share[last + 1] - share[rows + 1]) / (last - rows)
    weight[rows] = unique / unique.mean()
    return weight


def _direction(prices: _Prices, config: LabelConfig) -> _Outcome:
    trade = _hold(prices, config.horizon_candles)
    n_known = int((trade.end >= 0).sum())
    y = np.full(len(prices), np.nan)
    y[:n_known] = prices.close[config.horizon_candles :] > prices.close[:n_known]
    return _Outcome(y, trade.forward_return, trade.end)


def _threshold(prices: _Prices, config: LabelConfig) -> _Outcome:
    trade = _hold(prices, config.horizon_candles)
    y = np.where(trade.end >= 0, trade.forward_return > _min_return(config), np.nan)
    return _Outcome(y, trade.forward_return, trade.end)


def _hold(prices: _Prices, horizon: int) -> _Outcome:
    """The trade open[t+1] → close[t+horizon]."""
    n = len(prices)
    n_known = max(n - horizon, 0)
    gross = np.full(n, np.nan)
    gross[:n_known] = prices.close[horizon:] / prices.open[1 : n_known + 1] - 1.0
    end = np.full(n, -1, dtype=np.int64)
    end[:n_known] = np.arange(n_known) + horizon
    return _Outcome(np.full(n, np.nan), gross, end)


def _triple_barrier(prices: _Prices, config: LabelConfig) -> _Outcome:
    n = len(prices)
    entry = np.full(n, np.nan)
    entry[:-1] = prices.open[1:]
    unit = _barrier_unit(prices, entry, config)
    profit, stop = entry + config.take_profit * unit, entry - config.stop_loss * unit
    y, exit_price = np.full(n, np.nan), np.full(n, np.nan)
    end = np.full(n, -1, dtype=np.int64)

    waiting = np.flatnonzero(np.isfinite(profit))
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
    return _Outcome(y, gross, end)


def _barrier_unit(prices: _Prices, entry: Floats, config: LabelConfig) -> Floats:
    if config.barrier_unit == "percent":
        return entry / 100.0
    import talib

    if len(prices) <= config.barrier_atr_period:
        return np.full(len(prices), np.nan)
    atr = talib.ATR(prices.high, prices.low, prices.close, timeperiod=config.barrier_atr_period)
    return np.asarray(atr, dtype=np.float64)


def _min_return(config: LabelConfig) -> float:
    return 2.0 * config.fee if config.min_return is None else config.min_return


_KINDS: dict[str, Callable[[_Prices, LabelConfig], _Outcome]] = {
    "direction": _direction,
    "threshold": _threshold,
    "triple_barrier": _triple_barrier,
}


def _dates(df: pd.DataFrame) -> pd.DatetimeIndex:
    found = df["date"] if "date" in df.columns else df.index
    if not isinstance(found.dtype, pd.DatetimeTZDtype):
        raise DataError(
            "labels: the candles need a 'date' column (or a DatetimeIndex) of UTC times, "
            f"found dtype {found.dtype}. Use pd.to_datetime(..., utc=True)."
        )
    dates = pd.DatetimeIndex(found).tz_convert("UTC")
    if dates.hasnans or not dates.is_monotonic_increasing or not dates.is_unique:
        raise DataError(
            "labels: dates must be ascending and unique without NaT. "
            "Sort by date and drop duplicates first."
        )
    return dates


def _prices(df: pd.DataFrame) -> _Prices:
    missing = [column for column in PRICES if column not in df.columns]
    if missing:
        raise DataError(
            f"labels: columns {missing} are missing, found {list(map(str, df.columns))}."
        )
    try:
        columns = {name: df[name].to_numpy(dtype=np.float64, na_value=np.nan) for name in PRICES}
    except (TypeError, ValueError) as error:
        raise DataError(f"labels: the prices must be numbers: {error}") from error
    for name, values in columns.items():
        bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
        if len(bad):
            raise DataError(
                f"labels: '{name}' must be finite and > 0, found {values[bad[0]]} at row {bad[0]} "
                f"({len(bad)} such rows). Repair the candles first."
            )
    return _Prices(**columns)
