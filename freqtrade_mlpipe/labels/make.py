"""Labels of one pair: what is predicted, when it is known, its weight and forward return.

A row is named by `date`, the candle's open time. Its features end with that candle's close; a trade
on them is entered at the next candle's open. Labels count rows, not time: fill gaps first
(freqtrade does when it loads candles).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from freqtrade_mlpipe.config import LabelConfig
from freqtrade_mlpipe.labels.candles import Floats, Prices, dates_of, prices_of
from freqtrade_mlpipe.labels.outcomes import KINDS, Ints
from freqtrade_mlpipe.labels.weights import average_uniqueness, return_attribution


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels of one pair; every series is on the index of the candles they were made from.

    Attributes
    ----------
    y : Series of float64
        1.0 or 0.0, with three classes also -1.0; a log return for ``forward_return``. NaN where the
        future is missing (never 0).
    known_at : Series of datetime64[ns, UTC]
        `date` of the candle at whose close the label is known; NaT where `y` is NaN. A row may
        train a model that predicts from date T on iff ``known_at < T``.
    weight : Series of float64
        By `LabelConfig.weighting`: average uniqueness of each label, in (0, 1]; or the absolute log
        return that belongs to it alone; or 1 (López de Prado 2018, ch. 4). Whoever fits a model
        scales the weights of its training rows; NaN where `y` is NaN.
    forward_return : Series of float64
        Gross return (fraction, before fees) of a long trade entered at the next candle's open and
        left at the close of the last candle of the horizon, or at the barrier that was touched
        first. NaN where unknown.
    round_trip_cost : float
        Both fees of the trade as a fraction of the stake. `forward_return` less this is what a market
        order at the next open earns, but for the product of return and fees (a fee is paid on the
        value at its own time).
    short_return : Series of float64 or None
        With three classes: the same as `forward_return` for a short trade, a fraction of its stake.
    """

    y: pd.Series[float]
    known_at: pd.Series[pd.Timestamp]
    weight: pd.Series[float]
    forward_return: pd.Series[float]
    round_trip_cost: float
    short_return: pd.Series[float] | None = None

    def table(self) -> pd.DataFrame:
        """The series as columns y, known_at, weight, forward_return and, with three classes, short_return."""
        series = {"y": self.y, "known_at": self.known_at, "weight": self.weight}
        shorts = {} if self.short_return is None else {"short_return": self.short_return}
        return pd.DataFrame({**series, "forward_return": self.forward_return, **shorts})


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
        counts as a stop. `min_return` is both fees unless set. ``forward_return``: log(close[t+h] /
        open[t+1]), the log return of the trade, net of nothing.

        With `classes` 3: ``direction`` and ``threshold`` 1 where that return exceeds `min_return`, -1
        where it is below minus `min_return`, else 0. ``triple_barrier``: a long and a short trade run,
        each with its own profit barrier and stop; 1 if the long one pays (in the sense above), -1 if
        the short one does, the first where both do, 0 where none does or both in one candle. Both
        returns are known when the later trade ends.

    Raises
    ------
    DataError
        For missing columns, dates that are not UTC, ascending and unique, or prices that are not
        finite and > 0.

    Notes
    -----
    Triple barriers: López de Prado (2018), section 3.4. They are measured from the entry (open[t+1]);
    `atr` multiplies the ATR known at t, `percent` the entry price. A stop that the market jumps over
    is left at that candle's open, the worse price.

    Examples
    --------
    >>> dates = pd.date_range("2024-01-01", periods=4, freq="1h", tz="UTC")
    >>> price = [100.0, 101.0, 103.0, 102.0]
    >>> df = pd.DataFrame({"date": dates, **dict.fromkeys(("open", "high", "low", "close"), price)})
    >>> make_labels(df, LabelConfig(kind="direction", horizon_candles=1)).y.tolist()
    [1.0, 1.0, 0.0, nan]
    """
    config = config or LabelConfig()
    dates = dates_of(df)
    prices = prices_of(df)
    outcome = KINDS[config.kind](prices, config)
    weight = _WEIGHTINGS[config.weighting](outcome.end, prices)

    known = outcome.end >= 0
    known_at = np.full(len(prices), pd.NaT.value, dtype=np.int64)
    known_at[known] = dates.as_unit("ns").asi8[outcome.end[known]]
    return Labels(
        y=pd.Series(outcome.y, index=df.index, name="y"),
        known_at=pd.Series(
            pd.DatetimeIndex(known_at.view("M8[ns]"), tz="UTC"), index=df.index, name="known_at"
        ),
        weight=pd.Series(weight, index=df.index, name="weight"),
        forward_return=pd.Series(outcome.forward_return, index=df.index, name="forward_return"),
        round_trip_cost=2.0 * config.fee,
        short_return=None
        if outcome.short_return is None
        else pd.Series(outcome.short_return, index=df.index, name="short_return"),
    )


_WEIGHTINGS: Mapping[str, Callable[[Ints, Prices], Floats]] = {
    "uniqueness": lambda end, prices: average_uniqueness(end),
    "return": lambda end, prices: return_attribution(end, prices.close),
    "none": lambda end, prices: np.where(end >= 0, 1.0, np.nan),
}
