"""The candles that labels are made from, checked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from freqtrade_mlpipe.exceptions import DataError

Floats = NDArray[np.float64]

PRICES = ("open", "high", "low", "close")


@dataclass(frozen=True)
class Prices:
    """Finite positive prices of consecutive candles, each of shape (n,)."""

    open: Floats
    high: Floats
    low: Floats
    close: Floats

    def __len__(self) -> int:
        return len(self.close)


def dates_of(df: pd.DataFrame) -> pd.DatetimeIndex:
    """Open time of each candle (UTC).

    Raises
    ------
    DataError
        For dates that are not UTC, ascending and unique.
    """
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


def prices_of(df: pd.DataFrame) -> Prices:
    """The prices.

    Raises
    ------
    DataError
        For missing columns, or prices that are not finite and > 0.
    """
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
    return Prices(**columns)
