"""Which candle of a slower timeframe, or of another pair, a base candle sees: by FreqAI's rule."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from freqtrade_mlpipe.exceptions import ConfigError

Positions = NDArray[np.int64]

_NS_PER_MINUTE = 60_000_000_000
_UNIT_MINUTES = {"m": 1, "h": 60, "d": 1440, "w": 10_080, "M": 43_200, "y": 525_600}


def join_rows(opens: Positions, closes: Positions) -> Positions:
    """For each base candle the row of the joined candles that it sees, -1 for none.

    FreqAI's rule: the one that closes with it, else the one that the candle before saw. Before the
    first match it is the last one closed.
    """
    last_closed = np.searchsorted(closes, opens, side="right") - 1
    matches = (last_closed >= 0) & (closes[last_closed] == opens)
    rows = np.maximum.accumulate(np.where(matches, last_closed, -1))
    return np.where(rows < 0, last_closed, rows)


def seen_from(dates: pd.Series, timeframe: str, base: str) -> Positions:
    """Open time (ns) of the base candle that closes together with each candle of `timeframe`."""
    opens = nanoseconds(dates)
    if timeframe == base:
        return opens
    if timeframe == "1M":
        opens = nanoseconds(dates + pd.offsets.MonthBegin(1))
        return opens - minutes(base) * _NS_PER_MINUTE
    return opens + (minutes(timeframe) - minutes(base)) * _NS_PER_MINUTE


def minutes(timeframe: str) -> int:
    """Length of a candle; months and years as ccxt counts them."""
    found = re.fullmatch(r"([1-9]\d*)([mhdwMy])", timeframe)
    if found is None:
        raise ConfigError(f"{timeframe!r} is no timeframe: use one such as 5m, 1h or 1d.")
    return int(found[1]) * _UNIT_MINUTES[found[2]]


def nanoseconds(dates: pd.Series) -> Positions:
    return np.asarray(pd.DatetimeIndex(dates).as_unit("ns").asi8)
