"""The features of a live candle frame, which slides on by one candle at a time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from freqtrade_mlpipe.features._block import Block
from freqtrade_mlpipe.features.candles import COLUMNS, PER_SECOND, column_array
from freqtrade_mlpipe.features.indicator import FeatureColumn
from freqtrade_mlpipe.features.stream import Candle, FeatureStream, update_together

_MOST_NEW = 30
"""With more new candles than these a new window is quicker."""


class LiveBlock:
    """The features of one pair's candle frame, computed only where candles are new.

    Give it the bot's current frame: normally that of the last call with one more candle, and perhaps
    some fewer at the front. If it is anything else (first call, gap, revised candle, other pair) the
    whole frame is computed anew. The result equals, bit for bit, `FeatureEngineer.transform` on all
    candles since that last happened.

    It is for one pair and one thread. A pickle or copy of it starts anew.

    Parameters
    ----------
    columns : tuple of FeatureColumn
        See `FeatureEngineer.columns`.

    Attributes
    ----------
    n_opened : int
        How often a whole frame was computed.
    n_needed : int
        Fewest candles that a frame may have.
    """

    def __init__(self, columns: tuple[FeatureColumn, ...]) -> None:
        self.columns = columns
        self.n_opened = 0
        self._n_followed = 0
        self.n_needed = max(column.warmup for column in columns) + 1
        self._stream = FeatureStream(columns)
        self._held: _Held | None = None

    def block(self, df: pd.DataFrame, *, pair: str = "") -> Block:
        """Features of each candle of the frame.

        Parameters
        ----------
        df : DataFrame
            Candles of one pair, see `validate_candles`; more than the longest warm-up.
        pair : str
            Named in error messages.

        Returns
        -------
        array of shape (n_candles, n_columns), float32
            Read-only; later calls leave it alone. Rows in a feature's warm-up after the last
            opening are NaN, all others finite.

        Raises
        ------
        DataError
            For invalid candles, or too few.
        """
        news = self.news(df)
        block = None if news is None else self.follow(news)
        return self._opened(df, pair) if block is None else block

    def news(self, df: pd.DataFrame) -> News | None:
        """What is new in a frame; None if it does not simply go on where the last one ended."""
        frame = _read(df) if len(df) >= self.n_needed else None
        if frame is None or self._held is None:
            return None
        n_known = self._held.n_known(frame)
        if n_known < 2 or len(frame.dates) - n_known > _MOST_NEW:
            return None
        if self._stream.recomputed and self._n_followed >= len(frame.dates):
            # These columns are computed on all candles since the opening: they must not become too many.
            return None
        dates = frame.dates[n_known - 2 :].tolist()
        if len({after - before for before, after in pairwise(dates)}) > 1:
            return None
        return News(frame, n_known)

    def follow(self, news: News) -> Block | None:
        """`block` of the frame whose news these are; None if a new candle is invalid. Each may be followed once."""
        (block,) = follow_together([(self, news)])
        return block

    def _release(self) -> _Held:
        """What is held, for one that goes on with it; unless that gives it back, the next frame is opened anew."""
        held, self._held = self._held, None
        assert held is not None
        return held

    def _go_on(self, held: _Held, news: News, rows: Sequence[Block]) -> Block:
        held.append(news, rows)
        self._held = held
        self._n_followed += len(rows)
        return held.last(len(news.frame.dates))

    def _opened(self, df: pd.DataFrame, pair: str) -> Block:
        self._held = None
        block = self._stream.open(df, pair=pair)
        self.n_opened += 1
        self._n_followed = 0
        frame = _read(df)
        if frame is not None:
            self._held = _Held(frame, block)
        return _Held.read_only(block)

    def __getstate__(self) -> dict[str, Any]:
        """The columns: it starts anew."""
        return {"columns": self.columns}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["columns"])  # type: ignore[misc]


class _Frame(NamedTuple):
    """Dates (integers) and numbers of a candle frame, as they are in it."""

    dtypes: tuple[object, ...]
    columns: tuple[NDArray[Any], ...]
    per_second: int

    @property
    def dates(self) -> NDArray[np.int64]:
        return self.columns[0]


class News(NamedTuple):
    """A frame, and how many of its candles are known."""

    frame: _Frame
    n_known: int

    def candles(self) -> list[Candle]:
        """Those that are not."""
        dates, *columns = (column[self.n_known :].tolist() for column in self.frame.columns)
        return list(zip((date // self.frame.per_second for date in dates), *columns, strict=True))


def follow_together(found: Sequence[tuple[LiveBlock, News]]) -> list[Block | None]:
    """`LiveBlock.follow` of many blocks of the same columns; many take less time together."""
    held, new = [live._release() for live, _ in found], [news.candles() for _, news in found]
    rows: list[list[Block]] = [[] for _ in found]
    for turn in range(max(map(len, new), default=0)):
        places = [place for place, known in enumerate(rows) if len(known) == turn < len(new[place])]
        streams = [found[place][0]._stream for place in places]
        updated = update_together(streams, [new[place][turn] for place in places])
        for place, row in zip(places, updated, strict=True):
            if row is not None:
                rows[place].append(row)
    return [
        live._go_on(before, news, known) if len(known) == len(candles) else None
        for (live, news), before, known, candles in zip(found, held, rows, new, strict=True)
    ]


def _read(df: pd.DataFrame) -> _Frame | None:
    """None if there is anything wrong with the frame that opening a stream will explain."""
    names = df.columns
    if names.has_duplicates:
        return None
    try:
        columns = [column_array(df, name) for name in COLUMNS]
        date: Any = column_array(df, "date") if "date" in names else df.index
    except KeyError:
        return None
    if not isinstance(date.dtype, pd.DatetimeTZDtype):
        return None
    if not all(isinstance(column, np.ndarray) for column in columns):
        return None
    dtypes = (date.dtype, *(column.dtype for column in columns))
    return _Frame(dtypes, (date.asi8, *columns), PER_SECOND[date.dtype.unit])


class _Held:
    """The candles of the last frame, and their features, with room for more."""

    def __init__(self, frame: _Frame, block: Block) -> None:
        self._dtypes = frame.dtypes
        # As bytes: they are compared several times as fast as numbers, and without a copy.
        self._columns = [bytearray(column.tobytes()) for column in frame.columns]
        self._block = block
        self._n = len(block)

    def n_known(self, frame: _Frame) -> int:
        """How many candles the frame has in common with these; 0 unless they are its first and these' last."""
        if frame.dtypes != self._dtypes:
            return 0
        dates = np.frombuffer(self._columns[0], dtype=np.int64)
        start = int(dates.searchsorted(frame.dates[0]))
        n_known = self._n - start
        if n_known > len(frame.dates):
            return 0
        for held, column in zip(self._columns, frame.columns, strict=True):
            known = np.ascontiguousarray(column[:n_known])
            if not held.startswith(known, start * column.itemsize):  # type: ignore[arg-type]
                return 0
        return n_known

    def append(self, news: News, rows: Sequence[Block]) -> None:
        """The candles that are new, and their features."""
        frame, n_known = news
        if len(rows) > len(self._block) - self._n:
            self._move(n_known)
        for held, column in zip(self._columns, frame.columns, strict=True):
            held += column[n_known:].tobytes()
        for row in rows:
            self._block[self._n] = row
            self._n += 1

    def _move(self, n_kept: int) -> None:
        """Keep the last `n_kept` candles, their features in a new block with room."""
        kept = self._block[self._n - n_kept : self._n]
        for column in self._columns:
            del column[: len(column) // self._n * (self._n - n_kept)]
        # Row by row, unlike other blocks: a new candle is a row, and each of its columns would be on another page.
        size = n_kept + max(n_kept // 4, _MOST_NEW)
        self._block = np.empty((size, kept.shape[1]), dtype=np.float32)
        self._block[:n_kept] = kept
        self._n = n_kept

    def last(self, n: int) -> Block:
        """Features of the last n candles."""
        return self.read_only(self._block[self._n - n : self._n])

    @staticmethod
    def read_only(block: Block) -> Block:
        """A view that can't be written to."""
        view = block.view()
        view.flags.writeable = False
        return view
