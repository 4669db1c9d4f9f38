"""The candle frames that features may look at besides the pair's own: other pairs, longer timeframes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta

import numpy as np
import pandas as pd

from freqtrade_mlpipe.config import timeframe_length
from freqtrade_mlpipe.exceptions import DataError
from freqtrade_mlpipe.features._block import Block, sufficient_candles
from freqtrade_mlpipe.features.candles import validate_candles
from freqtrade_mlpipe.features.columns import compute_block, fill_block
from freqtrade_mlpipe.features.indicator import FeatureColumn
from freqtrade_mlpipe.features.live import LiveBlock, News, follow_together

FrameKey = tuple[str, str]
"""Pair and timeframe."""

_Place = tuple[str, str, int]
"""Pair, timeframe, and which selection of columns: by identity, see `LiveFrames`."""
_OWN = "own"
_NOTHING = (None, np.empty((0, 0), dtype=np.float32))
_MOST_FOLLOWED = 200
"""Followed frames while nobody says how many are needed: at about 1 MB each they must not pile up."""


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

    def refresh(self) -> None:
        """Called before the features of a pair are computed: what does not change has nothing to do."""

    @property
    def used(self) -> list[FrameKey]:
        """Pair and timeframe of the frames that were asked for so far."""
        return sorted(self._candles)

    def fill(
        self, pair: str, df: pd.DataFrame, columns: tuple[FeatureColumn, ...], target: Block
    ) -> None:
        """Write the columns for the last of `pair`'s own valid candles into `target`, as `fill_block`."""
        if len(target) == len(df):
            fill_block(df, columns, target)
        else:
            target[:] = self.own(pair, df, columns)[len(df) - len(target) :]

    def own(self, pair: str, df: pd.DataFrame, columns: tuple[FeatureColumn, ...]) -> Block:
        """The columns for valid candles of `pair`'s own timeframe; do not write into it."""
        return compute_block(df, columns)

    def advance(
        self, candles: Iterable[tuple[str, pd.DataFrame]], columns: tuple[FeatureColumn, ...]
    ) -> None:
        """Called before `own` is, for one pair after the other: those that can be computed together."""

    def check(
        self, df: pd.DataFrame, columns: tuple[FeatureColumn, ...], *, pair: str
    ) -> pd.DataFrame:
        """The candles with a `date` column, as `sufficient_candles`."""
        return sufficient_candles(df, columns, pair=pair)

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


class LiveFrames(Frames):
    """Candles that move on, as a bot sees them: columns are computed where candles are new.

    Parameters
    ----------
    lookup : callable
        As of `Frames`; asked again after each `refresh`.
    """

    def __init__(self, lookup: Callable[[str, str], pd.DataFrame | None]) -> None:
        super().__init__(lookup)
        self._live: OrderedDict[_Place, LiveBlock] = OrderedDict()
        self._most = _MOST_FOLLOWED
        self._ahead: dict[_Place, tuple[pd.DataFrame, Block]] = {}

    def need(self, n_frames: int) -> None:
        """How many frames are followed at the same time; more are forgotten, the one not asked for longest first."""
        self._most = max(n_frames, _MOST_FOLLOWED)

    def refresh(self) -> None:
        """Look candles up anew from now on."""
        self._candles.clear()
        self._blocks.clear()
        self._ahead.clear()

    def fill(
        self, pair: str, df: pd.DataFrame, columns: tuple[FeatureColumn, ...], target: Block
    ) -> None:
        """As `Frames.fill`."""
        target[:] = self.own(pair, df, columns)[len(df) - len(target) :]

    def own(self, pair: str, df: pd.DataFrame, columns: tuple[FeatureColumn, ...]) -> Block:
        """As `Frames.own`."""
        frame, block = self._ahead.get((pair, _OWN, id(columns)), _NOTHING)
        return block if frame is df else self._follow((pair, _OWN, columns), df)

    def advance(
        self, candles: Iterable[tuple[str, pd.DataFrame]], columns: tuple[FeatureColumn, ...]
    ) -> None:
        """As `Frames.advance`: what is new of frames that are followed, until the next `refresh`.

        Frames that can't be followed are left to `own`.
        """
        found: dict[_Place, tuple[pd.DataFrame, LiveBlock, News]] = {}
        for pair, df in candles:
            place = (pair, _OWN, id(columns))
            live = self._live.get(place)
            news = None if live is None else live.news(df)
            if live is not None and news is not None:
                found[place] = df, live, news
        blocks = follow_together([(live, news) for _, live, news in found.values()])
        for (place, (df, _, _)), block in zip(found.items(), blocks, strict=True):
            if block is not None:
                self._ahead[place] = df, block
                self._live.move_to_end(place)

    def check(
        self, df: pd.DataFrame, columns: tuple[FeatureColumn, ...], *, pair: str
    ) -> pd.DataFrame:
        """As `Frames.check`; candles that are followed are looked at one by one, when they are new."""
        if (pair, _OWN, id(columns)) in self._live:
            return df
        return super().check(df, columns, pair=pair)

    def block(self, pair: str, timeframe: str, columns: tuple[FeatureColumn, ...]) -> Block:
        """As `Frames.block`."""
        return self._follow((pair, timeframe, columns), self.candles(pair, timeframe))

    def _follow(self, key: tuple[str, str, tuple[FeatureColumn, ...]], df: pd.DataFrame) -> Block:
        pair, timeframe, columns = key
        # By identity: to compare or hash selections costs as much as a candle. A `LiveBlock` keeps its selection alive.
        place = (pair, timeframe, id(columns))
        live = self._live.pop(place, None)
        if live is None or len(df) < live.n_needed:
            if len(df) <= max((column.warmup for column in columns), default=len(df)):
                return compute_block(df, columns)
            live = LiveBlock(columns)
        block = live.block(df, pair=pair)
        self._live[place] = live  # only now: what has failed starts anew
        if len(self._live) > self._most:
            self._live.popitem(last=False)
        return block


def closed_by(candles: pd.DataFrame, length: timedelta, moment: pd.Timestamp) -> pd.DataFrame:
    """The candles of `length` that had closed by `moment` (UTC)."""
    return candles[candles["date"] + length <= moment]


NO_FRAMES = Frames.of({})
"""For features of the pair's own candles only."""
