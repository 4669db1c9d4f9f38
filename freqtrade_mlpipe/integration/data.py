"""Candles through freqtrade's own loader, checked before anything is learned from them."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ccxt
import numpy as np
import pandas as pd
from freqtrade.configuration import TimeRange
from freqtrade.data.history import get_datahandler, load_pair_history
from freqtrade.enums import CandleType
from freqtrade.exchange import timeframe_to_seconds

from freqtrade_mlpipe.exceptions import ConfigError, DataError, MLPipeError
from freqtrade_mlpipe.features import FrameKey, validate_candles

logger = logging.getLogger(__name__)

MAX_GAP_FRACTION = 0.05
"""A pair with more missing candles than this share of its span is refused: its indicators would be fiction."""

_PAIR_NAME = re.compile(r"[^\s/()\[\]{}|*+?^$\\]+/[^\s/()\[\]{}|*+?^$\\]+")


@dataclass(frozen=True)
class CandleSource:
    """Where the candles of a run come from: freqtrade's data directory, timeframe and candle type."""

    datadir: Path
    timeframe: str
    candle_type: CandleType
    data_format: str = "feather"

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> CandleSource:
        """Read the source from a prepared freqtrade configuration.

        Raises
        ------
        ConfigError
            When no timeframe is known, it is none, or the data directory does not exist.
        """
        timeframe = config.get("timeframe")
        if not timeframe:
            raise ConfigError(
                "No timeframe: set it in the strategy, in config.json, or with --timeframe 1h."
            )
        check_timeframe(str(timeframe))
        datadir = Path(config["datadir"])
        if not datadir.is_dir():
            raise ConfigError(
                f"No data directory {datadir}: run `freqtrade download-data` or pass --datadir."
            )
        return cls(
            datadir=datadir,
            timeframe=str(timeframe),
            candle_type=config.get("candle_type_def") or CandleType.SPOT,
            data_format=config.get("dataformat_ohlcv") or "feather",
        )

    @property
    def candle(self) -> pd.Timedelta:
        """Length of a candle."""
        return pd.Timedelta(seconds=timeframe_to_seconds(self.timeframe))


def whitelist(config: Mapping[str, Any]) -> list[str]:
    """The pairs to train on: `--pairs`, else the exchange's `pair_whitelist`.

    Raises
    ------
    ConfigError
        When none is given, or one is a pattern.
    """
    pairs = list(config.get("pairs") or config.get("exchange", {}).get("pair_whitelist") or [])
    if not pairs:
        raise ConfigError(
            "No pairs: pass --pairs BTC/USDT ETH/USDT or set exchange.pair_whitelist in config.json."
        )
    patterns = [pair for pair in pairs if not _PAIR_NAME.fullmatch(pair)]
    if patterns:
        raise ConfigError(f"Training needs full pair names, found {', '.join(patterns)}.")
    return sorted(set(pairs))


def load_candles(
    source: CandleSource, pairs: Iterable[str], timerange: TimeRange | None, *, startup_candles: int
) -> dict[str, pd.DataFrame]:
    """Candles of each pair over the timerange and `startup_candles` before it, gaps filled as freqtrade fills them.

    Returns
    -------
    dict of pair to DataFrame with date (UTC, open time), open, high, low, close, volume; sorted, without NaN.

    Raises
    ------
    DataError
        For a pair without candles in the range, or candles that are not finite, unsorted, duplicated or full of gaps.
        All pairs are looked at before the first error is raised, so that one message names every problem.
    """
    frames: dict[str, pd.DataFrame] = {}
    problems: list[str] = []
    for pair in pairs:
        try:
            frames[pair] = _load_pair(source, pair, timerange, startup_candles)
        except MLPipeError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n".join(problems))
    return frames


def load_frames(
    source: CandleSource,
    keys: Iterable[FrameKey],
    timerange: TimeRange | None,
    *,
    startup_candles: int,
    known: Mapping[str, pd.DataFrame],
) -> dict[FrameKey, pd.DataFrame]:
    """Candles by pair and timeframe, as `load_candles`; `known` ones of the source's own timeframe are not read again.

    Raises
    ------
    DataError
        As `load_candles`.
    """
    frames: dict[FrameKey, pd.DataFrame] = {}
    wanted: dict[str, list[str]] = {}
    for pair, timeframe in keys:
        if timeframe == source.timeframe and pair in known:
            frames[pair, timeframe] = known[pair]
        else:
            wanted.setdefault(timeframe, []).append(pair)
    problems: list[str] = []
    for timeframe, pairs in sorted(wanted.items()):
        try:
            found = load_candles(
                replace(source, timeframe=timeframe),
                pairs,
                timerange,
                startup_candles=startup_candles,
            )
        except DataError as error:
            problems.append(str(error))
            continue
        frames |= {(pair, timeframe): frame for pair, frame in found.items()}
    if problems:
        raise DataError("\n".join(problems))
    return frames


def store_candles(source: CandleSource, candles: Mapping[str, pd.DataFrame]) -> None:
    """Write candles as freqtrade's data files."""
    handler = get_datahandler(source.datadir, source.data_format)
    source.datadir.mkdir(parents=True, exist_ok=True)
    for pair, frame in candles.items():
        handler.ohlcv_store(pair, source.timeframe, frame, source.candle_type)


def content_hash(
    candles: Mapping[str, pd.DataFrame], frames: Mapping[FrameKey, pd.DataFrame] | None = None
) -> str:
    """SHA-256 over pairs, dates (ns UTC) and OHLCV values, whatever the order of the mappings.

    `frames` are further candles, by pair and timeframe.
    """
    digest = hashlib.sha256()
    for pair in sorted(candles):
        digest.update(pair.encode())
        _digest_candles(digest, candles[pair])
    for pair, timeframe in sorted(frames or {}):
        digest.update(f"{pair} {timeframe}".encode())
        _digest_candles(digest, (frames or {})[pair, timeframe])
    return digest.hexdigest()


def _digest_candles(digest: hashlib._Hash, frame: pd.DataFrame) -> None:
    digest.update(frame["date"].dt.as_unit("ns").astype("int64").to_numpy().tobytes())
    digest.update(frame[["open", "high", "low", "close", "volume"]].to_numpy(np.float64).tobytes())


def _load_pair(
    source: CandleSource, pair: str, timerange: TimeRange | None, startup_candles: int
) -> pd.DataFrame:
    _check_raw(source, pair, timerange, startup_candles)
    frame = load_pair_history(
        pair=pair,
        timeframe=source.timeframe,
        datadir=source.datadir,
        timerange=timerange,
        startup_candles=startup_candles,
        data_format=source.data_format,
        candle_type=source.candle_type,
    )
    if frame.empty:
        raise DataError(f"{pair}: no candles left in the timerange.")
    candles: pd.DataFrame = frame.reset_index(drop=True)
    return candles


def check_timeframe(timeframe: str) -> None:
    """Refuse what freqtrade does not know as a timeframe.

    Raises
    ------
    ConfigError
        It names the timeframe.
    """
    try:
        seconds = timeframe_to_seconds(timeframe)
    except (ccxt.BaseError, ValueError):
        seconds = 0
    if seconds <= 0:
        raise ConfigError(f"{timeframe!r} is no timeframe: use one such as 5m, 1h or 1d.")


def _check_raw(
    source: CandleSource, pair: str, timerange: TimeRange | None, startup_candles: int
) -> None:
    """Look at the file as it is: freqtrade's loader sorts, merges and fills before anyone sees it."""
    handler = get_datahandler(source.datadir, source.data_format)
    # https://github.com/freqtrade/freqtrade/blob/2026.9/freqtrade/data/history/datahandlers/idatahandler.py
    raw = handler._ohlcv_load(pair, source.timeframe, None, source.candle_type)
    if raw.empty:
        raise DataError(_no_candles(source, pair))
    first, last = raw["date"].min(), raw["date"].max()
    if not _inside(raw["date"], timerange, pd.Timedelta(0)).any():
        raise DataError(
            f"{pair}: no {source.timeframe} candles in the timerange; the file has "
            f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC. Change --timerange or download more data."
        )
    warm_up = startup_candles * source.candle
    frame = validate_candles(raw[_inside(raw["date"], timerange, warm_up)], pair=pair)
    expected = int((frame["date"].iloc[-1] - frame["date"].iloc[0]) / source.candle) + 1
    missing = expected - len(frame)
    if missing > MAX_GAP_FRACTION * expected:
        raise DataError(
            f"{pair}: {missing} of {expected} {source.timeframe} candles are missing ({missing / expected:.1%}); at "
            f"most {MAX_GAP_FRACTION:.0%} can be filled. Download the gaps again or choose another timerange."
        )
    if missing:
        logger.warning(
            "%s: %d of %d candles are missing and filled without volume, as freqtrade does.",
            pair, missing, expected,
        )  # fmt: skip


def _inside(dates: pd.Series, timerange: TimeRange | None, warm_up: pd.Timedelta) -> pd.Series:
    inside = pd.Series(True, index=dates.index)
    if timerange is None:
        return inside
    if timerange.starttype == "date":
        inside &= dates >= pd.Timestamp(timerange.startts, unit="s", tz="UTC") - warm_up
    if timerange.stoptype == "date":
        inside &= dates <= pd.Timestamp(timerange.stopts, unit="s", tz="UTC")
    return inside


def _no_candles(source: CandleSource, pair: str) -> str:
    handler = get_datahandler(source.datadir, source.data_format)
    available = handler.ohlcv_get_available_data(
        source.datadir, "futures" if source.candle_type is CandleType.FUTURES else "spot"
    )
    pairs = sorted({name for name, frame, _ in available if frame == source.timeframe})
    there = f"There are {source.timeframe} candles of: {', '.join(pairs[:12])}." if pairs else ""
    return (
        f"{pair}: no {source.timeframe} candles in {source.datadir}. {there} Fetch them with `freqtrade download-data "
        f"--pairs {pair} --timeframes {source.timeframe}` or pass another --datadir."
    )
