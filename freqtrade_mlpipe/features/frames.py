"""The candle frames that features may look at besides the pair's own: other pairs, longer timeframes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta

import pandas as pd

from freqtrade_mlpipe.config import timeframe_length
from freqtrade_mlpipe.exceptions import DataError
from freqtrade_mlpipe.features.block import Block, compute_block
from freqtrade_mlpipe.features.candles import validate_candles
from freqtrade_mlpipe.features.indicator import FeatureColumn

FrameKey = tuple[str, str]
"""Pair and timeframe."""


class Frames:
    """Candles by pair and timeframe, and what has been computed from them.

    Frames do not change: what is remembered holds as long as the object.

    Parameters
    ----------
    lookup : callable
        `lookup(pair, timeframe)` → candles: date (UTC, open time), open, high, low, close, volume; None or no rows
        where there are none.

    Examples
    --------
    >>> Frames.of({}).candles("BTC/USDT", "4h")
    Traceback (most recent call last):
    freqtrade_mlpipe.exceptions.DataError: BTC/USDT: no 4h candles, which a feature needs. Download them.
    """

    def __init__(self, lookup: Callable[[str, str], pd.DataFrame | None]) -> None:
        self._lookup = lookup
        self._candles: dict[FrameKey, pd.DataFrame] = {}
        self._blocks: dict[tuple[str, str, tuple[FeatureColumn, ...]], Block] = {}

    @classmethod
    def of(cls, frames: Mapping[FrameKey, pd.DataFrame]) -> Frames:
        """Frames that are all at hand."""
        return cls(lambda pair, timeframe: frames.get((pair, timeframe)))

    def candles(self, pair: str, timeframe: str) -> pd.DataFrame:
        """Validated candles of one pair and timeframe.

        Raises
        ------
        DataError
            When there are none, or they are invalid.
        """
        key = (pair, timeframe)
        if key not in self._candles:
            found = self._lookup(pair, timeframe)
            if found is None or found.empty:
                raise DataError(
                    f"{pair}: no {timeframe} candles, which a feature needs. Download them."
                )
            self._candles[key] = validate_candles(found, pair=f"{pair} {timeframe}")
        return self._candles[key]

    @property
    def used(self) -> list[FrameKey]:
        """Pair and timeframe of the frames that were asked for so far."""
        return sorted(self._candles)

    def block(self, pair: str, timeframe: str, columns: tuple[FeatureColumn, ...]) -> Block:
        """The columns on `candles(pair, timeframe)`, float32 of shape (n_candles, n_columns); do not write into it."""
        key = (pair, timeframe, columns)
        if key not in self._blocks:
            self._blocks[key] = compute_block(self.candles(pair, timeframe), columns)
        return self._blocks[key]

    def until(self, moment: pd.Timestamp) -> Frames:
        """The candles that had closed by `moment` (UTC)."""

        def early(pair: str, timeframe: str) -> pd.DataFrame:
            return closed_by(self.candles(pair, timeframe), timeframe_length(timeframe), moment)

        return Frames(early)


def closed_by(candles: pd.DataFrame, length: timedelta, moment: pd.Timestamp) -> pd.DataFrame:
    """The candles of `length` that had closed by `moment` (UTC)."""
    return candles[candles["date"] + length <= moment]


NO_FRAMES = Frames.of({})
"""For features of the pair's own candles only."""
