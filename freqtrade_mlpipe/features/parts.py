"""What a feature frame is put together from: own candles, informative candles, ranks among pairs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from freqtrade_mlpipe.config import FeatureConfig, timeframe_length
from freqtrade_mlpipe.exceptions import ConfigError
from freqtrade_mlpipe.features._block import Block
from freqtrade_mlpipe.features.candles import open_seconds
from freqtrade_mlpipe.features.catalogue import named_columns, select_columns
from freqtrade_mlpipe.features.columns import shift_block
from freqtrade_mlpipe.features.frames import FrameKey, Frames
from freqtrade_mlpipe.features.indicator import FeatureColumn

_SHIFTED = "_shift-"


class Part(Protocol):
    """Some neighbouring columns of a feature frame."""

    @property
    def names(self) -> list[str]:
        """Column names, in order; they depend on the configuration only."""

    @property
    def startup(self) -> int:
        """Candles, of the part's own timeframe, before every column has a value."""

    def keys(self, pair: str) -> list[FrameKey]:
        """Frames that the part needs besides the pair's own candles."""

    def fill(self, df: pd.DataFrame, pair: str, frames: Frames, target: Block) -> None:
        """Write the columns for the last rows of the valid candles `df` of `pair` into `target`."""


def make_parts(
    config: FeatureConfig, timeframe: str | None, pairs: tuple[str, ...]
) -> tuple[OwnFeatures, tuple[Part, ...]]:
    """The pair's own features, and the other parts that a configuration asks for.

    Raises
    ------
    ConfigError
        For unknown feature names, an informative timeframe shorter than `timeframe`, or informative features or ranks
        without a `timeframe`.
    """
    own = OwnFeatures(select_columns(config), config.include_shifted_candles)
    if not (config.informative_timeframes or config.informative_pairs or config.rank_features):
        return own, ()
    if timeframe is None:
        raise ConfigError(
            "FeatureEngineer: informative features and ranks need the candles' own timeframe, as in "
            'FeatureEngineer(config, timeframe="1h").'
        )
    parts: list[Part] = []
    longer = _longer_timeframes(config, timeframe)
    columns = _without_time(named_columns(config, "informative_features"))
    for source in (None, *config.informative_pairs):
        for length in longer if source is None else (timeframe, *longer):
            parts.append(
                InformativeFeatures(
                    columns, config.include_shifted_candles, timeframe, source, length
                )
            )
    if config.rank_features:
        parts.append(Ranks(_without_time(named_columns(config, "rank_features")), timeframe, pairs))
    return own, tuple(parts)


def _longer_timeframes(config: FeatureConfig, timeframe: str) -> list[str]:
    own = timeframe_length(timeframe)
    found = [name for name in config.informative_timeframes if timeframe_length(name) != own]
    shorter = [name for name in found if timeframe_length(name) < own]
    if shorter:
        raise ConfigError(
            f"FeatureConfig.informative_timeframes: {', '.join(shorter)} is shorter than the candles' {timeframe}; "
            "use longer ones, or train on the shorter timeframe."
        )
    return found


def _without_time(columns: tuple[FeatureColumn, ...]) -> tuple[FeatureColumn, ...]:
    """A longer or another pair's candle tells no other time of day."""
    return tuple(column for column in columns if column.indicator.group != "time")


@dataclass(frozen=True)
class OwnFeatures:
    """The catalogue on the pair's own candles, and all but the time features once more for each shift."""

    columns: tuple[FeatureColumn, ...]
    n_shifts: int

    @property
    def names(self) -> list[str]:
        return [name for name, _, _ in self._layout()]

    @property
    def startup(self) -> int:
        return max((column.warmup for column in self.columns), default=0) + self.n_shifts

    def keys(self, pair: str) -> list[FrameKey]:
        return []

    def fill(self, df: pd.DataFrame, pair: str, frames: Frames, target: Block) -> None:
        unshifted = target[:, : len(self.columns)]
        recent = unshifted
        if self.n_shifts and len(target) < len(df):
            n_rows = min(len(target) + self.n_shifts, len(df))
            recent = np.empty((n_rows, len(self.columns)), dtype=np.float32, order="F")
        frames.fill(pair, df, self.columns, recent)
        if recent is not unshifted:
            unshifted[:] = recent[-len(target) :]
        if not self.n_shifts:
            return
        for position, (_, source, shift) in enumerate(self._layout()):
            if shift:
                shift_block(recent[:, source], shift, target[:, position])

    def _layout(self) -> Iterator[tuple[str, int, int]]:
        return _shifted_layout(self.columns, self.n_shifts)


def _shifted_layout(
    columns: tuple[FeatureColumn, ...], n_shifts: int
) -> Iterator[tuple[str, int, int]]:
    """Name, position of the unshifted column, and shift, of each column."""
    for position, column in enumerate(columns):
        yield column.name, position, 0
    for shift in range(1, n_shifts + 1):
        for position, column in enumerate(columns):
            if column.indicator.group != "time":
                yield f"{column.name}{_SHIFTED}{shift}", position, shift


@dataclass(frozen=True)
class InformativeFeatures:
    """Catalogue columns on other candles, each row with the last of them that had closed by then.

    Attributes
    ----------
    columns, n_shifts
        As of `OwnFeatures`; shifts are in candles of `timeframe`.
    base : str
        Timeframe of the rows.
    source : str or None
        Pair whose candles are looked at; None: the row's own pair.
    timeframe : str
        Timeframe of the candles that are looked at.
    """

    columns: tuple[FeatureColumn, ...]
    n_shifts: int
    base: str
    source: str | None
    timeframe: str

    @property
    def names(self) -> list[str]:
        suffix = f"_{self.timeframe}" if self.source is None else f"_{self.source}_{self.timeframe}"
        return [name + suffix for name, _, _ in _shifted_layout(self.columns, self.n_shifts)]

    @property
    def startup(self) -> int:
        return max((column.warmup for column in self.columns), default=0) + self.n_shifts + 1

    def keys(self, pair: str) -> list[FrameKey]:
        source = self.source or pair
        return [] if (source, self.timeframe) == (pair, self.base) else [(source, self.timeframe)]

    def fill(self, df: pd.DataFrame, pair: str, frames: Frames, target: Block) -> None:
        """As `Part.fill`. NaN where the candle that should have closed last is missing or still warming up."""
        if self.keys(pair):
            source = self.source or pair
            other = frames.candles(source, self.timeframe)
            block = frames.block(source, self.timeframe, self.columns)
        else:
            other, block = df, frames.own(pair, df, self.columns)
        dates = df["date"].iloc[len(df) - len(target) :]
        row = last_closed(dates, _seconds(self.base), other["date"], _seconds(self.timeframe))
        for position, (_, source_column, shift) in enumerate(
            _shifted_layout(self.columns, self.n_shifts)
        ):
            taken = np.take(block[:, source_column], row - shift, mode="clip")
            taken[(row < 0) | (row < shift)] = np.nan
            target[:, position] = taken


def last_closed(
    dates: pd.Series, length: int, other_dates: pd.Series, other_length: int
) -> NDArray[np.int64]:
    """Position, for each candle, of the other candle that closed last by its close.

    Parameters
    ----------
    dates, other_dates : Series of shape (n,), (m,)
        Open times (UTC), ascending.
    length, other_length : int
        Lengths of a candle in seconds.

    Returns
    -------
    ndarray of shape (n,)
        -1 where none had closed, or a later one should have closed and is missing.
    """
    close = open_seconds(dates) + length
    other_close = open_seconds(other_dates) + other_length
    row = np.searchsorted(other_close, close, side="right") - 1
    stale = close - other_close[np.maximum(row, 0)] >= other_length
    return np.where(stale, -1, row)


@dataclass(frozen=True)
class Ranks:
    """Where the pair stands among all pairs at that candle, for each column.

    The share of the other pairs with a value whose value is lower, ties half: 0 lowest, 1 highest; NaN where the pair
    has no value, or no other pair has one.

    Attributes
    ----------
    columns : what is ranked.
    timeframe : of the rows and of all pairs' candles.
    pairs : who is compared; the row's own pair always counts.
    """

    columns: tuple[FeatureColumn, ...]
    timeframe: str
    pairs: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        return [f"rank_{column.name}" for column in self.columns]

    @property
    def startup(self) -> int:
        return max(column.warmup for column in self.columns)

    def keys(self, pair: str) -> list[FrameKey]:
        return [(other, self.timeframe) for other in self.pairs if other != pair]

    def fill(self, df: pd.DataFrame, pair: str, frames: Frames, target: Block) -> None:
        first = len(df) - len(target)
        own, dates = frames.own(pair, df, self.columns)[first:], df["date"].iloc[first:]
        lower = np.zeros(own.shape, dtype=np.float32, order="F")
        compared = np.zeros_like(lower)
        for key in self.keys(pair):
            other = self._aligned(dates, key, frames)
            lower += (other < own) + np.float32(0.5) * (other == own)
            compared += ~np.isnan(other)
        with np.errstate(invalid="ignore"):
            np.divide(lower, compared, out=target)
        target[np.isnan(own)] = np.nan

    def _aligned(self, dates: pd.Series, key: FrameKey, frames: Frames) -> Block:
        """The other pair's values at the same dates; NaN where it has no candle."""
        stamps, others = open_seconds(dates), open_seconds(frames.candles(*key)["date"])
        row = np.searchsorted(others, stamps)
        found = others[np.minimum(row, len(others) - 1)] == stamps
        block = frames.block(*key, self.columns)
        aligned = block[np.minimum(row, len(others) - 1)]
        aligned[~found] = np.nan
        return aligned


def _seconds(timeframe: str) -> int:
    return int(timeframe_length(timeframe).total_seconds())
