"""What the exchange shows at a moment: the recording as it is, or the live clock's endless market."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from freqtrade.exchange import timeframe_to_msecs

from freqtrade_mlpipe.config import ReplayConfig
from freqtrade_mlpipe.exceptions import DataError
from freqtrade_mlpipe.replay.candles import RESAMPLED_TYPES, Candles, CandleStore
from freqtrade_mlpipe.replay.markets import Market
from freqtrade_mlpipe.replay.tape import (
    DAY_MS,
    HOUR_MS,
    WEEK_MS,
    Floats,
    Ints,
    Tape,
    make_tape,
)

logger = logging.getLogger(__name__)

Clock = Callable[[], int]
"""Returns the current time in milliseconds since the epoch, UTC."""
_MONDAY_MS = 4 * DAY_MS
_FUNDING_HOURS = (1, 2, 4, 8)
_FEWEST_MINUTES = 100
"""Live minutes that a recording must last at the chosen speed."""


@dataclass(frozen=True)
class Window:
    """Rows with ``start_ms <= open time <= end_ms``: the first `limit`, without a start the last."""

    start_ms: int | None
    end_ms: int | None
    limit: int

    def of(self, candles: Candles) -> Candles:
        """Return the rows of this window."""
        return candles.window(self.start_ms, self.end_ms, self.limit)


@dataclass(frozen=True)
class Quote:
    """The last price, and the mean volume of an hour."""

    price: float
    hourly_volume: float


class Feed(Protocol):
    """Candles, funding rates and quotes of markets."""

    def candles(self, market: Market, interval: str, candle_type: str, window: Window) -> Candles:
        """Return candles of one of freqtrade's candle types; `DataError` if there are none."""

    def funding_rates(self, market: Market, window: Window) -> Candles:
        """Return funding rates; `DataError` if none are recorded."""

    def trades(self, market: Market, window: Window) -> Candles:
        """Return one-second candles, each standing for a trade; `DataError` if there are none."""

    def last_day(self, market: Market) -> tuple[Candles, int] | None:
        """Return the last 24 hours and a candle's length in ms; None without candles."""

    def quote(self, market: Market) -> Quote | None:
        """Return what the market trades at; None without candles."""


@dataclass(frozen=True)
class RecordedFeed:
    """The recording as it is: time stands still at its end."""

    store: CandleStore

    def candles(self, market: Market, interval: str, candle_type: str, window: Window) -> Candles:
        """Return recorded candles, resampled if only a shorter timeframe was recorded."""
        return window.of(self.store.read(market.pair, interval, candle_type))

    def funding_rates(self, market: Market, window: Window) -> Candles:
        """Return recorded rates."""
        return window.of(_recorded_rates(self.store, market))

    def trades(self, market: Market, window: Window) -> Candles:
        """Refuse: candle files hold no trades."""
        raise DataError(
            f"No trades are recorded for {market.pair}: only the live clock makes some."
        )

    def last_day(self, market: Market) -> tuple[Candles, int] | None:
        """Return the last recorded 24 hours and a candle's length in ms."""
        recorded = self.store.timeframes(market.pair, market.candle_type)
        if not recorded:
            return None
        up_to_hourly = [name for name in recorded if timeframe_to_msecs(name) <= HOUR_MS]
        timeframe = (up_to_hourly or recorded[:1])[-1]
        candles = self.store.read(market.pair, timeframe, market.candle_type)
        length = timeframe_to_msecs(timeframe)
        if len(candles) == 0:
            return None
        end = int(candles.open_ms[-1]) + length
        return candles.window(end - max(DAY_MS, length), None), length

    def quote(self, market: Market) -> Quote | None:
        """Return the last recorded close."""
        day = self.last_day(market)
        if day is None:
            return None
        candles, length = day
        hours = len(candles) * length / HOUR_MS
        return Quote(float(candles.values[-1, 3]), float(candles.values[:, 4].sum()) / hours)


@dataclass
class LiveFeed:
    """The recording played over the clock's time, `speed` recorded milliseconds in each.

    A candle of the live market holds `speed` times its length of recorded time: at speed 60 a
    one-minute candle is a recorded hour. Recordings are read when first asked for, and kept: a file
    that changes or breaks later changes nothing.
    """

    store: CandleStore
    settings: ReplayConfig
    clock: Clock
    _tapes: dict[str, Tape] = field(default_factory=dict)
    _rates: dict[str, Candles] = field(default_factory=dict)

    def tape(self, market: Market) -> Tape:
        """Return the market's price path.

        Raises
        ------
        DataError
            Nothing usable is recorded, or the speed is too high for what is.
        """
        if market.pair not in self._tapes:
            self._tapes[market.pair] = self._load(market)
        return self._tapes[market.pair]

    def _load(self, market: Market) -> Tape:
        recorded = self.store.timeframes(market.pair, market.candle_type)
        timeframe = self.settings.replay_timeframe or next((t for t in recorded if t != "1M"), "")
        if not timeframe:
            raise DataError(f"No candles are recorded for {market.pair} in {self.store.directory}.")
        candles = self.store.read(market.pair, timeframe, market.candle_type)
        decimals = -int(market.tick_size.as_tuple().exponent)
        tape = make_tape(
            candles, timeframe_to_msecs(timeframe), decimals, f"{market.pair} {timeframe}"
        )
        fastest = tape.length_ms // (_FEWEST_MINUTES * 60_000)
        if self.settings.replay_speed > fastest:
            raise DataError(
                f"Speed {self.settings.replay_speed} would play all of {market.pair} {timeframe} in less than "
                f"{_FEWEST_MINUTES} minutes. Set at most {fastest}, or download more candles."
            )
        logger.info(
            "Playing %d %s candles of %s over and over, one live minute for %s recorded ones.",
            len(tape), timeframe, market.pair, self.settings.replay_speed,
        )  # fmt: skip
        return tape

    def candles(self, market: Market, interval: str, candle_type: str, window: Window) -> Candles:
        """Return live candles, the unfinished one included.

        Mark and index prices are the traded price, without volume.
        """
        if candle_type not in RESAMPLED_TYPES:
            raise DataError(f"{candle_type} candles are not played by the live clock.")
        tape, now = self.tape(market), self.clock()
        edges = _edges(interval, window, now)
        values = tape.candles(self._tape_times(tape, np.minimum(edges, now)))
        if candle_type in ("mark", "index"):
            values[:, 4] = 0.0
        return Candles(edges[:-1], values)

    def trades(self, market: Market, window: Window) -> Candles:
        """Return candles of a second, up to the last whole one: one trade is made of each."""
        tape, now = self.tape(market), self.clock()
        edges = _edges("1s", window, now // 1000 * 1000 - 1)
        return Candles(edges[:-1], tape.candles(self._tape_times(tape, edges)))

    def funding_rates(self, market: Market, window: Window) -> Candles:
        """Return the rates paid at full hours: the sum of what fell due in the recorded time between.

        At normal speed these are the recorded rates, when they were recorded. A faster clock pays
        more often, but not more often than hourly, as no exchange does.
        """
        if market.pair not in self._rates:
            self._rates[market.pair] = _recorded_rates(self.store, market)
        tape, rates = self.tape(market), self._rates[market.pair]
        if len(rates) < 2:
            return Candles(np.empty(0, np.int64), np.empty((0, 1)))
        recorded_hours = float(np.median(np.diff(rates.open_ms))) / HOUR_MS
        hours = next(
            (h for h in _FUNDING_HOURS if h * self.settings.replay_speed >= recorded_hours), 8
        )
        edges = _edges(f"{hours}h", window, self.clock())
        due = self._tape_times(tape, np.concatenate((edges[:1] - hours * HOUR_MS, edges[:-1])))
        # Exchanges stamp rates some milliseconds late.
        at_ms = np.round(rates.open_ms / 60_000).astype(np.int64) * 60_000 - tape.start_ms
        paid = _cyclic_sum(at_ms, rates.values[:, 0], tape.length_ms)
        return Candles(edges[:-1], np.round(np.diff(paid(due)), 10)[:, None])

    def last_day(self, market: Market) -> tuple[Candles, int] | None:
        """Return the last 24 hours as one candle."""
        if not self.store.timeframes(market.pair, market.candle_type):
            return None
        tape, now = self.tape(market), self.clock()
        edges = np.array([now - DAY_MS, now])
        return Candles(edges[:1], tape.candles(self._tape_times(tape, edges))), DAY_MS

    def quote(self, market: Market) -> Quote | None:
        """Return the price at this moment."""
        if not self.store.timeframes(market.pair, market.candle_type):
            return None
        tape = self.tape(market)
        now = int(self._tape_times(tape, np.array([self.clock()]))[0])
        return Quote(tape.price(now), tape.hourly_volume * self.settings.replay_speed)

    def _tape_times(self, tape: Tape, at_ms: Ints) -> Ints:
        return at_ms * self.settings.replay_speed - tape.start_ms


def _recorded_rates(store: CandleStore, market: Market) -> Candles:
    # The timeframe in the file's name is freqtrade's fetching interval, not the rates'.
    recorded = store.timeframes(market.pair, "funding_rate") or ["1h"]
    return store.read(market.pair, recorded[0], "funding_rate")


def _cyclic_sum(at_ms: Ints, values: Floats, length_ms: int) -> Callable[[Ints], Floats]:
    """Return a function: the sum of values due up to a time, when they fall due again every `length_ms`."""
    inside = (at_ms >= 0) & (at_ms < length_ms)
    times, sums = at_ms[inside], np.concatenate(([0.0], np.cumsum(values[inside])))

    def due(until_ms: Ints) -> Floats:
        turns, rest = np.divmod(until_ms, length_ms)
        return np.asarray(turns * sums[-1] + sums[np.searchsorted(times, rest, side="right")])

    return due


def _edges(interval: str, window: Window, now_ms: int) -> Ints:
    """Return opening times of the window's candles up to now, and the end of the last one."""
    last = _number(interval, now_ms if window.end_ms is None else min(window.end_ms, now_ms))
    if window.start_ms is None:
        first = max(last - window.limit + 1, 0)
    else:
        first = _number(interval, window.start_ms)
        first += int(_opening_ms(interval, np.array([first]))[0] < window.start_ms)
    stop = max(min(last + 1, first + window.limit), first)
    return _opening_ms(interval, np.arange(first, stop + 1, dtype=np.int64))


def _number(interval: str, at_ms: int) -> int:
    """Return the number of the candle that holds a moment, counted from the epoch."""
    if interval == "1M":
        return int(np.datetime64(at_ms, "ms").astype("datetime64[M]").astype(np.int64))
    length, shift = _grid(interval)
    return (at_ms - shift) // length


def _opening_ms(interval: str, number: Ints) -> Ints:
    if interval == "1M":
        return number.astype("datetime64[M]").astype("datetime64[ms]").astype(np.int64)
    length, shift = _grid(interval)
    return number * length + shift


def _grid(interval: str) -> tuple[int, int]:
    length: int = timeframe_to_msecs(interval)
    return length, _MONDAY_MS if length % WEEK_MS == 0 else 0
