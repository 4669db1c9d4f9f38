"""A recording played as an endless market: one price path, from which everything live is derived.

The recording is detrended in logarithms, so that its end meets its beginning, and repeated for ever
in both directions. Within a recorded candle the path runs from the open through the nearer extreme
and the farther one to the close. Candles of any length, the unfinished one, quotes and trades are
all read off this path, so they always agree; a moment's price depends on nothing but the moment.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from freqtrade_mlpipe.exceptions import DataError
from freqtrade_mlpipe.replay.candles import Candles

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
WEEK_MS = 7 * DAY_MS
SHORTEST_ROWS = 100
_STEPS = 60
"""Straight pieces of the path in a recorded candle."""
_JITTER = 0.1
"""How far the path strays from its straight legs, as a share of the candle's range."""
_LONGEST_GAP_MS = DAY_MS
_ROWS_AT_ONCE = 2_000_000
_VOLUME_DECIMALS = 8

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Tape:
    """The price path of one pair; times are tape times, milliseconds since the recording's start.

    Attributes
    ----------
    start_ms : int
        When the recording starts, milliseconds since the epoch, UTC.
    row_ms : int
        Length of a recorded candle.
    ohlc : ndarray of shape (n, 4), float64
        Detrended open, high, low and close on the grid of `decimals`; positive, without gaps.
    volume_before : ndarray of shape (n + 1,), float64
        Volume traded from the start of the recording to each candle's open, and to the end.
    decimals : int
        Decimals of a price.
    seed : int
        Draws the path's small turns.
    """

    start_ms: int
    row_ms: int
    ohlc: Floats
    volume_before: Floats
    decimals: int
    seed: int = 0

    def __len__(self) -> int:
        return len(self.ohlc)

    @property
    def length_ms(self) -> int:
        """After this time the recording repeats."""
        return len(self) * self.row_ms

    @property
    def hourly_volume(self) -> float:
        """Mean volume of a recorded hour."""
        return float(self.volume_before[-1]) * HOUR_MS / self.length_ms

    def price(self, at_ms: int) -> float:
        """Return the price at one moment."""
        row, inside = divmod(at_ms, self.row_ms)
        return float(self._at(np.array([row]), np.array([inside]))[0])

    def candles(self, edges_ms: Ints) -> Floats:
        """Return the candles between consecutive moments.

        Parameters
        ----------
        edges_ms : ndarray of shape (n + 1,), int64
            Ascending tape times; an empty span gives a candle of its moment's price, no volume.

        Returns
        -------
        ndarray of shape (n, 5), float64
            Open, high, low, close, volume. A span of whole recorded candles gives exactly their
            open, highest high, lowest low, close and sum of volume.
        """
        begin, end = edges_ms[:-1], edges_ms[1:]
        first, inside_first = np.divmod(begin, self.row_ms)
        last, inside_last = np.divmod(end, self.row_ms)
        # The end of a candle is its close, not the next one's open.
        ends_row = (inside_last == 0) & (end > begin)
        last, inside_last = last - ends_row, np.where(ends_row, self.row_ms, inside_last)
        opened, closed = self._at(first, inside_first), self._at(last, inside_last)
        row_ms = np.full_like(first, self.row_ms)
        within = first == last
        head = self._extremes(first, inside_first, np.where(within, inside_last, row_ms))
        tail = self._extremes(last, np.where(within, inside_first, 0), inside_last)
        between = self._whole_rows(first + 1, last)
        ends = np.stack((opened, closed))
        high = np.maximum.reduce((*ends, head[0], tail[0], between[0]))
        low = np.minimum.reduce((*ends, head[1], tail[1], between[1]))
        return np.column_stack((opened, high, low, closed, self._volume(begin, end)))

    def _at(self, row: Ints, inside: Ints) -> Floats:
        """Prices at moments within rows; both ends of a row are its own open and close."""
        values = self.ohlc[row % len(self)]
        prices = np.where(inside == 0, values[:, 0], values[:, 3])
        partly = (inside > 0) & (inside < self.row_ms)
        if partly.any():
            path = self._path(row[partly])
            at = inside[partly] * (_STEPS / self.row_ms)
            knot = at.astype(np.int64)
            rows = np.arange(len(path))
            before, after = path[rows, knot], path[rows, knot + 1]
            between = before + (after - before) * (at - knot)
            prices[partly] = np.round(between, self.decimals)
        return prices

    def _extremes(self, row: Ints, begin: Ints, end: Ints) -> tuple[Floats, Floats]:
        """Highest and lowest knot of the path from `begin` to `end` within each row."""
        values = self.ohlc[row % len(self)]
        high, low = values[:, 1].copy(), values[:, 2].copy()
        partly = (begin > 0) | (end < self.row_ms)
        if partly.any():
            path = self._path(row[partly])
            at = np.arange(_STEPS + 1) * (self.row_ms / _STEPS)
            inside = (at >= begin[partly, None]) & (at <= end[partly, None])
            high[partly] = np.where(inside, path, -np.inf).max(axis=1)
            low[partly] = np.where(inside, path, np.inf).min(axis=1)
        return high, low

    def _whole_rows(self, first: Ints, stop: Ints) -> tuple[Floats, Floats]:
        """Highest high and lowest low of rows ``first <= row < stop``; infinite where none is."""
        high, low = np.full(len(first), -np.inf), np.full(len(first), np.inf)
        counts = np.minimum(stop - first, len(self))
        some = np.flatnonzero(counts > 0)
        for part in _portions(some, counts[some]):
            n = counts[part]
            starts = np.concatenate(([0], np.cumsum(n)[:-1]))
            offsets = np.arange(n.sum()) - np.repeat(starts, n)
            rows = (np.repeat(first[part], n) + offsets) % len(self)
            high[part] = np.maximum.reduceat(self.ohlc[rows, 1], starts)
            low[part] = np.minimum.reduceat(self.ohlc[rows, 2], starts)
        return high, low

    def _volume(self, begin: Ints, end: Ints) -> Floats:
        turns, before = np.divmod(np.stack((begin, end)), self.length_ms)
        row, inside = np.divmod(before, self.row_ms)
        of_row = self.volume_before[row + 1] - self.volume_before[row]
        traded = self.volume_before[row] + of_row * (inside / self.row_ms)
        total = (turns[1] - turns[0]) * self.volume_before[-1] + traded[1] - traded[0]
        rounded: Floats = np.round(np.maximum(total, 0), _VOLUME_DECIMALS)
        return rounded

    def _path(self, row: Ints) -> Floats:
        """Prices at the `_STEPS` + 1 knots of each row, shape (n, `_STEPS` + 1)."""
        row = row % len(self)
        opened, high, low, close = self.ohlc[row].T
        high_first = high - opened <= opened - low
        extreme1, extreme2 = np.where(high_first, (high, low), (low, high))
        drawn = _uniform(self.seed, row, _STEPS + 1)
        turn1 = (10 + 10 * drawn[:, 0]).round().astype(np.int64)[:, None]
        turn2 = (35 + 10 * drawn[:, -1]).round().astype(np.int64)[:, None]
        knots = np.arange(_STEPS + 1)[None, :]
        o, e1, e2, c = (values[:, None] for values in (opened, extreme1, extreme2, close))
        legs = np.where(
            knots <= turn1,
            o + (e1 - o) * knots / turn1,
            np.where(
                knots <= turn2,
                e1 + (e2 - e1) * (knots - turn1) / (turn2 - turn1),
                e2 + (c - e2) * (knots - turn2) / (_STEPS - turn2),
            ),
        )
        fixed = (knots == 0) | (knots == turn1) | (knots == turn2) | (knots == _STEPS)
        stray = np.where(fixed, 0.0, (2 * drawn - 1) * _JITTER * (high - low)[:, None])
        path: Floats = np.clip(legs + stray, low[:, None], high[:, None])
        return path.round(self.decimals)


def make_tape(candles: Candles, row_ms: int, decimals: int, name: str) -> Tape:
    """Return the endless market made of a recording's last stretch without a long gap.

    Rows with a price that is not positive count as missing. Up to a day of missing candles is
    played as flat candles without volume; before a longer gap nothing is played. Of what remains
    the last whole weeks (whole days, if there is no week) are used, so that at normal speed hours
    and weekdays fall where they were recorded.

    Parameters
    ----------
    candles : Candles
        Open, high, low, close, volume of one pair.
    row_ms : int
        Length of a candle.
    decimals : int
        Decimals of a price.
    name : str
        The pair's name, for messages and for drawing the path's small turns.

    Raises
    ------
    DataError
        Times that are not ascending, or fewer than `SHORTEST_ROWS` candles in the last stretch.
    """
    open_ms, values = _usable(candles, name)
    late = np.flatnonzero(np.diff(open_ms) > _LONGEST_GAP_MS + row_ms)
    begin = late[-1] + 1 if len(late) else 0
    rows = (open_ms[begin:] - open_ms[begin]) // row_ms
    filled = _fill_gaps(rows, values[begin:])
    unit = next((u for u in (WEEK_MS, DAY_MS) if len(filled) * row_ms >= u and u % row_ms == 0), 0)
    kept = len(filled) - len(filled) % (unit // row_ms) if unit else len(filled)
    if kept < SHORTEST_ROWS:
        raise DataError(
            f"{name}: only {kept} recorded candles without a gap of more than a day; the live clock needs "
            f"{SHORTEST_ROWS}. Download more, or play another timeframe."
        )
    end_ms = int(open_ms[begin]) + len(filled) * row_ms
    filled = filled[-kept:]
    traded = np.concatenate(([0.0], np.cumsum(np.maximum(filled[:, 4], 0))))
    return Tape(
        end_ms - kept * row_ms,
        row_ms,
        _detrend(filled[:, :4], decimals),
        traded,
        decimals,
        zlib.crc32(name.encode()),
    )


def _usable(candles: Candles, name: str) -> tuple[Ints, Floats]:
    good = np.isfinite(candles.values).all(axis=1) & (candles.values[:, :4] > 0).all(axis=1)
    open_ms, values = candles.open_ms[good], candles.values[good]
    if len(open_ms) == 0:
        raise DataError(f"{name}: the recording holds no candle with positive prices.")
    if (np.diff(open_ms) <= 0).any():
        raise DataError(
            f"{name}: the recording's times are not ascending. Delete the file and download it again."
        )
    return open_ms, values


def _fill_gaps(rows: Ints, values: Floats) -> Floats:
    """Values for each row from the first to the last; missing ones flat at the last close."""
    present = np.searchsorted(rows, np.arange(rows[-1] + 1), side="right") - 1
    filled: Floats = values[present].copy()
    missing = np.ones(len(filled), dtype=bool)
    missing[rows] = False
    filled[missing, :4] = values[present[missing], 3][:, None]
    filled[missing, 4] = 0.0
    return filled


def _detrend(ohlc: Floats, decimals: int) -> Floats:
    """Candles whose last close is the first open, at the level of the last close."""
    n = len(ohlc)
    drift = np.log(ohlc[-1, 3] / ohlc[0, 0])
    at = np.arange(n)[:, None] + np.array([0.0, 0.5, 0.5, 1.0])
    level: Floats = np.round(ohlc * np.exp(drift * (1 - at / n)), decimals)
    level = np.maximum(level, 10.0**-decimals)
    level[:, 1], level[:, 2] = level.max(axis=1), level.min(axis=1)
    return level


def _portions(items: Ints, sizes: Ints) -> Iterator[Ints]:
    """Consecutive items with up to `_ROWS_AT_ONCE` rows together (a larger item goes alone)."""
    portion = np.cumsum(sizes) // _ROWS_AT_ONCE
    for number in np.unique(portion):
        yield items[portion == number]


def _uniform(seed: int, row: Ints, columns: int) -> Floats:
    """Numbers in [0, 1) for each row and column, the same in every process: SplitMix64.

    Steele, Lea and Flood, Fast splittable pseudorandom number generators, OOPSLA 2014.
    """
    counter: Any = row.astype(np.uint64)[:, None] * np.uint64(columns)
    counter = counter + np.arange(columns, dtype=np.uint64) + (np.uint64(seed) << np.uint64(32))
    mixed = (counter + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed = mixed ^ (mixed >> np.uint64(31))
    drawn: Floats = (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return drawn
