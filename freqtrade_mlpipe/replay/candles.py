"""Candle files of a freqtrade data directory, read in slices."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from freqtrade.data.history.datahandlers.idatahandler import get_datahandlerclass
from freqtrade.enums import CandleType, TradingMode
from freqtrade.exchange import timeframe_to_msecs
from numpy.typing import NDArray

from freqtrade_mlpipe.exceptions import DataError
from freqtrade_mlpipe.replay.resample import resample

FILE_FORMATS = ("feather", "parquet", "json", "jsongz")
OHLCV = ("open", "high", "low", "close", "volume")
RESAMPLED_TYPES = ("spot", "futures", "mark", "index")
_KEPT_IN_MEMORY = 16
_DAY_MS = 86_400_000


class SeriesKey(NamedTuple):
    """One candle file: which pair, timeframe and freqtrade candle type it holds."""

    pair: str
    timeframe: str
    candle_type: str


@dataclass(frozen=True)
class Candles:
    """Consecutive rows of one series.

    Attributes
    ----------
    open_ms : ndarray of shape (n,), int64
        Opening times in milliseconds since the epoch, UTC, ascending and unique.
    values : ndarray of shape (n, 5) or (n, 1), float64
        Open, high, low, close, volume; for funding rates the rate alone. Without NaN: such rows
        are dropped on reading.
    """

    open_ms: NDArray[np.int64]
    values: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.open_ms)

    def window(
        self, start_ms: int | None, end_ms: int | None, limit: int | None = None
    ) -> "Candles":
        """Return rows with ``start_ms <= open_ms <= end_ms``.

        `limit` keeps the first ones, or without a start the last ones, as Binance does.
        """
        first = 0 if start_ms is None else int(np.searchsorted(self.open_ms, start_ms, "left"))
        stop = len(self) if end_ms is None else int(np.searchsorted(self.open_ms, end_ms, "right"))
        if limit is not None and start_ms is None:
            first = max(first, stop - limit)
        elif limit is not None:
            stop = min(stop, first + limit)
        return Candles(self.open_ms[first:stop], self.values[first:stop])


class CandleStore:
    """The candle files below one freqtrade data directory (spot in it, futures in ``futures/``).

    Files are read through freqtrade's data handlers, kept for a while, and read again when they
    change.

    Parameters
    ----------
    directory : Path
        A freqtrade data directory, as ``download-data`` writes it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory)
        self._kept: OrderedDict[tuple[Hashable, ...], Candles] = OrderedDict()

    @cached_property
    def series(self) -> dict[SeriesKey, Path]:
        """Every recorded series and its file, as found when first asked."""
        found: dict[SeriesKey, Path] = {}
        for file_format in FILE_FORMATS:
            handler = get_datahandlerclass(file_format)
            for mode in (TradingMode.SPOT, TradingMode.FUTURES):
                if mode == TradingMode.FUTURES and not (self.directory / "futures").is_dir():
                    continue
                for pair, timeframe, kind in handler.ohlcv_get_available_data(self.directory, mode):
                    if (kind == CandleType.SPOT) != (mode == TradingMode.SPOT):
                        continue
                    path = handler._pair_data_filename(self.directory, pair, timeframe, kind)
                    found.setdefault(SeriesKey(pair, timeframe, str(kind.value)), path)
        return found

    def require_candles(self) -> None:
        """Raise `DataError` if the directory holds no candle file at all."""
        if not self.directory.is_dir():
            found = "the directory does not exist"
        elif not self.series:
            found = "there are none"
        else:
            return
        raise DataError(
            f"The replay exchange serves candle files from {self.directory}, but {found}. Point "
            "--datadir, or exchange.replay_source in the configuration, at a freqtrade data "
            'directory such as "user_data/data/binance", or put candle files such as '
            "BTC_USDT-1h.feather there."
        )

    def pairs(self, candle_type: str) -> list[str]:
        """Pairs with recorded candles of a type, sorted."""
        return sorted({key.pair for key in self.series if key.candle_type == candle_type})

    def timeframes(self, pair: str, candle_type: str) -> list[str]:
        """Recorded timeframes of a pair, shortest first."""
        found = {
            k.timeframe for k in self.series if k.pair == pair and k.candle_type == candle_type
        }
        return sorted(found, key=timeframe_to_msecs)

    def read(self, pair: str, timeframe: str, candle_type: str) -> Candles:
        """Return all candles of a series, resampled if only a shorter timeframe was recorded.

        Raises
        ------
        DataError
            Nothing suitable was recorded; the message names what was.
        """
        key = SeriesKey(pair, timeframe, candle_type)
        if key in self.series:
            return self._read_file(key)
        recorded = self.timeframes(pair, candle_type)
        if candle_type in RESAMPLED_TYPES:
            for source in reversed(recorded):
                if _makes_up(source, timeframe):
                    return self._resampled(key, source)
        raise DataError(
            f"No recorded {timeframe} {candle_type} candles for {pair} in {self.directory}; "
            f"recorded timeframes: {', '.join(recorded) or 'none'}."
        )

    def _read_file(self, key: SeriesKey) -> Candles:
        return self._keep(self._state(key), lambda: _load(self.series[key], self.directory, key))

    def _resampled(self, key: SeriesKey, source: str) -> Candles:
        finer = key._replace(timeframe=source)

        def make() -> Candles:
            candles = self._read_file(finer)
            return Candles(*resample(candles.open_ms, candles.values, source, key.timeframe))

        return self._keep((*self._state(finer), key.timeframe), make)

    def _state(self, key: SeriesKey) -> tuple[Hashable, ...]:
        """Return what changes when the series' file does."""
        path = self.series[key]
        try:
            state = path.stat()
        except FileNotFoundError as error:
            raise DataError(
                f"The candle file {path} was removed while the replay exchange served it."
            ) from error
        return path, state.st_mtime_ns, state.st_size

    def _keep(self, state: tuple[Hashable, ...], make: Callable[[], Candles]) -> Candles:
        if state not in self._kept:
            self._kept[state] = make()
            while len(self._kept) > _KEPT_IN_MEMORY:
                self._kept.popitem(last=False)
        self._kept.move_to_end(state)
        return self._kept[state]


def _makes_up(source: str, target: str) -> bool:
    """Return whether whole `source` candles make up each `target` candle, months included."""
    source_ms: int = timeframe_to_msecs(source)
    target_ms: int = timeframe_to_msecs(target)
    return source_ms < target_ms and min(target_ms, _DAY_MS) % source_ms == 0


def _load(path: Path, directory: Path, key: SeriesKey) -> Candles:
    suffix = "jsongz" if path.name.endswith(".json.gz") else path.suffix[1:]
    handler: Any = get_datahandlerclass(suffix)(directory)
    frame: pd.DataFrame = handler.ohlcv_load(
        key.pair,
        key.timeframe,
        candle_type=CandleType.from_string(key.candle_type),
        fill_missing=False,
        drop_incomplete=False,
        warn_no_data=False,
    )
    columns = list(OHLCV)
    if key.candle_type == "funding_rate":
        # Funding files hold `funding_rate` since freqtrade 2026, `open` before.
        columns = ["funding_rate" if "funding_rate" in frame.columns else "open"]
    frame = frame.dropna(subset=columns)
    dates = pd.DatetimeIndex(frame["date"]).as_unit("ms")
    return Candles(dates.asi8.astype(np.int64), frame[columns].to_numpy(np.float64))
