"""When each row of X is: its index read as dates and pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from freqtrade_mlpipe.exceptions import TrainingError

_EPOCH = pd.Timestamp(0, tz="UTC")
_DEFAULT_CANDLE = pd.Timedelta("1h")


@dataclass(frozen=True, eq=False)
class Clock:
    """Dates (UTC, nanoseconds) and pair of each row, and the length of a candle."""

    dates: pd.DatetimeIndex
    pairs: NDArray[np.object_]
    candle: pd.Timedelta


def clock_of(
    index: pd.Index, candle: pd.Timedelta | None, starts_after: pd.Timestamp | None
) -> Clock:
    """Read an index: (pair, date), date, or anything else for consecutive candles.

    Parameters
    ----------
    candle
        None: the median distance between dates; 1 hour without dates.
    starts_after
        For rows without dates, the candle before the first; None: the first is 1970-01-01.

    Raises
    ------
    TrainingError
        For dates without a time zone, or a numeric index that is not ascending.
    """
    if candle is not None and candle <= pd.Timedelta(0):
        raise TrainingError(f"candle must be a positive length of time, found {candle}.")
    if isinstance(index, pd.MultiIndex):
        if index.nlevels != 2 or not isinstance(index.levels[1], pd.DatetimeIndex):
            raise TrainingError("A MultiIndex of X must have the levels (pair, date).")
        dates = _utc(pd.DatetimeIndex(index.get_level_values(1)))
        pairs = np.asarray(index.get_level_values(0).astype(str), dtype=object)
    else:
        pairs = np.full(len(index), "", dtype=object)
        if isinstance(index, pd.DatetimeIndex):
            dates = _utc(index)
        else:
            return _counted(index, pairs, candle or _DEFAULT_CANDLE, starts_after)
    if candle is None:
        unique = np.unique(dates.asi8)
        if len(unique) > 1:
            candle = pd.Timedelta(int(np.median(np.diff(unique))), unit="ns")
    return Clock(dates, pairs, candle or _DEFAULT_CANDLE)


def _counted(
    index: pd.Index,
    pairs: NDArray[np.object_],
    candle: pd.Timedelta,
    starts_after: pd.Timestamp | None,
) -> Clock:
    """Rows without dates: consecutive candles from 1970 on."""
    if pd.api.types.is_numeric_dtype(index.dtype) and not (
        index.is_monotonic_increasing and index.is_unique
    ):
        raise TrainingError(
            "The rows of X are not in order: its index is unsorted or has duplicates. Rows must be "
            "consecutive candles; a shuffled split cannot be trained on."
        )
    first = _EPOCH if starts_after is None else starts_after + candle
    steps = np.arange(len(index)) * candle.as_unit("ns").value
    return Clock(pd.DatetimeIndex(first.as_unit("ns") + pd.to_timedelta(steps)), pairs, candle)


def _utc(dates: pd.DatetimeIndex) -> pd.DatetimeIndex:
    if dates.tz is None:
        raise TrainingError("The dates of X have no time zone: use UTC (tz_localize('UTC')).")
    if dates.hasnans:
        raise TrainingError("The dates of X have missing values.")
    return dates.tz_convert("UTC").as_unit("ns")


def time_order(clock: Clock, index: pd.Index) -> NDArray[np.int64]:
    """Row positions ordered by date, then pair.

    Raises
    ------
    TrainingError
        When the dates of a pair do not ascend.
    """
    codes, _ = pd.factorize(clock.pairs, sort=True)
    stamps = clock.dates.asi8
    by_pair = np.argsort(codes, kind="stable")
    same = np.diff(codes[by_pair]) == 0
    step = np.diff(stamps[by_pair])
    wrong = np.flatnonzero(same & (step <= 0))
    if len(wrong):
        found = index[by_pair[wrong[0] + 1]]
        what = "duplicate" if step[wrong[0]] == 0 else "not in order of time"
        raise TrainingError(f"{len(wrong)} rows of X are {what}, the first at {found}.")
    return np.lexsort((codes, stamps))
