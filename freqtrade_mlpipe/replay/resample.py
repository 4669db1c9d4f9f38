"""A longer timeframe made from a shorter one."""

import numpy as np
import pandas as pd
from freqtrade.exchange import (
    timeframe_to_msecs,
    timeframe_to_next_date,
    timeframe_to_resample_freq,
)
from numpy.typing import NDArray

_AGGREGATION = {0: "first", 1: "max", 2: "min", 3: "last", 4: "sum"}


def resample(
    open_ms: NDArray[np.int64], values: NDArray[np.float64], source: str, target: str
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the candles of timeframe `target` that the `source` candles cover from open to close.

    Parameters
    ----------
    open_ms : ndarray of shape (n,), int64
        Opening times in milliseconds, UTC, ascending.
    values : ndarray of shape (n, 5), float64
        Open, high, low, close, volume.
    source, target : str
        freqtrade timeframes; `target` is a multiple of `source`.

    Returns
    -------
    tuple of ndarray
        Opening times and values. A first or last candle that the source only partly covers is left
        out, and so is a span without any source candle.
    """
    if len(open_ms) == 0:
        return open_ms, values
    index = pd.DatetimeIndex(pd.to_datetime(open_ms, unit="ms", utc=True))
    frame = pd.DataFrame(values, index=index)
    groups = frame.resample(
        timeframe_to_resample_freq(target), label="left", closed="left", origin="epoch"
    )
    coarse = groups.agg(_AGGREGATION).dropna(subset=[0])
    known_from = index[0]
    known_to = index[-1] + pd.Timedelta(milliseconds=timeframe_to_msecs(source))
    # The instant after an opening time belongs to that candle, so the next date is its close.
    last_close = timeframe_to_next_date(
        target, (coarse.index[-1] + pd.Timedelta(milliseconds=1)).to_pydatetime()
    )
    if coarse.index[0] < known_from:
        coarse = coarse.iloc[1:]
    if len(coarse) and pd.Timestamp(last_close) > known_to:
        coarse = coarse.iloc[:-1]
    opened = pd.DatetimeIndex(coarse.index).as_unit("ms")
    return opened.asi8.astype(np.int64), coarse.to_numpy(np.float64)
