"""Checks on candles before anything is computed from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from freqtrade_mlpipe.exceptions import DataError

PRICES = ("open", "high", "low", "close")
COLUMNS = (*PRICES, "volume")
PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
"""Steps of pandas' units of time in a second."""
_UTC = ("UTC", "Etc/UTC", "UTC+00:00", "+00:00", "tzutc()")


@dataclass(frozen=True, slots=True)
class GapSummary:
    """Missing candles of one pair.

    Attributes
    ----------
    n_missing : int
        Candles that the timeframe promises between first and last date and that are not there.
    n_gaps : int
        Places where at least one is missing.
    largest : int
        Candles missing in the largest gap.
    largest_after : Timestamp or None
        Open time (UTC) of the candle before the largest gap; None without gaps.
    """

    n_missing: int
    n_gaps: int
    largest: int
    largest_after: pd.Timestamp | None


def validate_candles(df: pd.DataFrame, *, pair: str = "") -> pd.DataFrame:
    """The candles with a `date` column, after checking that features and labels can be computed
    from them.

    Parameters
    ----------
    df : DataFrame
        open, high, low, close, volume and either a `date` column or a DatetimeIndex: UTC,
        ascending, unique.
    pair : str
        Named in error messages.

    Returns
    -------
    DataFrame
        `df` itself if it has a `date` column, else a shallow copy with one; the index is unchanged.

    Raises
    ------
    DataError
        Missing or non-numeric columns, no rows, dates that are naive, unsorted or duplicated,
        prices that are NaN, infinite or not positive, negative or non-finite volume, high below
        low. Gaps are allowed: see `summarise_gaps`.
    """
    owner = f"{pair}: " if pair else ""
    missing = [name for name in COLUMNS if name not in df.columns]
    if missing:
        found = ", ".join(map(str, df.columns)) or "no columns"
        raise DataError(f"{owner}candles lack {', '.join(missing)}; found {found}.")
    if df.columns.has_duplicates:
        raise DataError(f"{owner}candles have duplicate column names; keep one of each.")
    if not len(df):
        raise DataError(f"{owner}no candles. Download data or widen the timerange.")
    dated = _with_date(df, owner)
    _check_dates(dated, owner)
    arrays = {name: column_array(df, name) for name in COLUMNS}
    for name, array in arrays.items():
        kind = array.dtype
        if not isinstance(kind, np.dtype) or kind.kind not in "fiu":
            raise DataError(f"{owner}column {name} is {kind}, not numeric. Convert it to float64.")
    values = {name: np.asarray(array, dtype=np.float64) for name, array in arrays.items()}
    if not _are_sound(**values):
        _refuse(values, dated["date"], owner)
    return dated


def column_array(df: pd.DataFrame, name: str) -> Any:
    """The array of a column: NumPy's, or pandas' for what NumPy has no type for. Do not write into it.

    To take a column out as a Series costs as much as TA-Lib on a thousand candles; pandas has only a private way
    around that.

    Raises
    ------
    KeyError
        Without such a column.
    """
    quick: Callable[[Any], Any] | None = getattr(df, "_get_column_array", None)
    if quick is not None:
        return quick(df.columns.get_loc(name))
    series = df[name]
    return series.to_numpy() if isinstance(series.dtype, np.dtype) else series.array


def column_values(df: pd.DataFrame, name: str) -> NDArray[np.float64]:
    """A column of numbers as float64; do not write into it."""
    return np.asarray(column_array(df, name), dtype=np.float64)


def _with_date(df: pd.DataFrame, owner: str) -> pd.DataFrame:
    if "date" in df.columns:
        return df
    if isinstance(df.index, pd.DatetimeIndex):
        return df.assign(date=df.index)
    raise DataError(
        f"{owner}candles have neither a date column nor a DatetimeIndex; found an index of "
        f"{type(df.index).__name__}. Candles are named by their open time in UTC."
    )


def _check_dates(df: pd.DataFrame, owner: str) -> None:
    array = column_array(df, "date")
    kind = array.dtype
    if not isinstance(kind, pd.DatetimeTZDtype):
        if pd.api.types.is_datetime64_dtype(kind):
            raise DataError(
                f"{owner}dates have no time zone. Say which: df['date'].dt.tz_localize('UTC')."
            )
        raise DataError(
            f"{owner}date is {kind}, not a UTC datetime. "
            "Convert it: pd.to_datetime(df['date'], utc=True)."
        )
    if str(kind.tz) not in _UTC:
        raise DataError(f"{owner}dates are in {kind.tz}, not UTC. Use .dt.tz_convert('UTC').")
    stamps = array.asi8
    # NaT is the smallest number: nowhere but in the first row is it later than what it follows.
    if stamps[0] != pd.NaT.value and (stamps[1:] > stamps[:-1]).all():
        return
    date = df["date"]
    if date.isna().any():
        raise DataError(
            f"{owner}{int(date.isna().sum())} dates are missing (NaT). Drop these rows."
        )
    steps = np.diff(stamps)
    same = np.flatnonzero(steps == 0)
    back = np.flatnonzero(steps < 0)
    if len(back):
        raise DataError(
            f"{owner}dates are not ascending at {len(back)} places, first "
            f"{date.iloc[back[0] + 1]} after {date.iloc[back[0]]}. Sort by date."
        )
    if len(same):
        raise DataError(
            f"{owner}{len(same)} dates are duplicated, first {date.iloc[same[0]]}. "
            "Drop duplicates by date."
        )


def open_seconds(dates: pd.Series) -> NDArray[np.int64]:
    """Open times of candles in seconds since 1970 (UTC), shape (n,)."""
    array: Any = dates.array  # an index would take as long to make as a feature
    return np.asarray(array.asi8 // PER_SECOND[array.unit])


def _nanoseconds(date: pd.Series) -> NDArray[np.int64]:
    return np.asarray(pd.DatetimeIndex(date).as_unit("ns").asi8)


def _refuse(values: dict[str, NDArray[np.float64]], date: pd.Series, owner: str) -> None:
    def refuse(bad: NDArray[np.bool_], what: str, advice: str) -> None:
        if bad.any():
            first = date.iloc[int(np.argmax(bad))]
            raise DataError(f"{owner}{int(bad.sum())} {what}, first at {first}. {advice}")

    for name, column in values.items():
        refuse(
            ~np.isfinite(column),
            f"candles have NaN or infinite {name}",
            "Drop them or download them again.",
        )
    for name in PRICES:
        refuse(
            values[name] <= 0,
            f"candles have a {name} of zero or less",
            "Drop them or download them again.",
        )
    refuse(values["volume"] < 0, "candles have negative volume", "Download them again.")
    refuse(values["high"] < values["low"], "candles have high below low", "Download them again.")


def summarise_gaps(df: pd.DataFrame, timeframe_minutes: float) -> GapSummary:
    """How many candles are missing from validated candles, and where most are.

    Parameters
    ----------
    df : DataFrame
        Candles with a `date` column or DatetimeIndex, ascending.
    timeframe_minutes : float
        Candle length in minutes.

    Examples
    --------
    >>> date = pd.to_datetime(["2024-01-01 00:00", "2024-01-01 03:00"], utc=True)
    >>> summarise_gaps(pd.DataFrame({"date": date}), 60).n_missing
    2
    """
    if timeframe_minutes <= 0:
        raise ValueError(f"timeframe_minutes must be positive, found {timeframe_minutes}.")
    date = df["date"] if "date" in df.columns else df.index.to_series()
    steps = np.diff(_nanoseconds(date))
    absent = np.maximum(np.rint(steps / (timeframe_minutes * 60e9)).astype(np.int64) - 1, 0)
    if not absent.any():
        return GapSummary(0, 0, 0, None)
    place = int(np.argmax(absent))
    return GapSummary(
        int(absent.sum()), int((absent > 0).sum()), int(absent[place]), date.iloc[place]
    )


def _are_sound(
    open: NDArray[np.float64],
    high: NDArray[np.float64],
    low: NDArray[np.float64],
    close: NDArray[np.float64],
    volume: NDArray[np.float64],
) -> bool:
    """Whether there is nothing to refuse, in as few passes as can be; NaN fails every comparison."""
    return bool(
        (high >= low).all()
        and low.min() > 0
        and high.max() < np.inf
        and all(values.min() > 0 and values.max() < np.inf for values in (open, close))
        and volume.min() >= 0
        and volume.max() < np.inf
    )
