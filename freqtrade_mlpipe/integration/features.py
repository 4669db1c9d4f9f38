"""The features of a strategy: the catalogue's and its own, from freqtrade's candles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from freqtrade.data.dataprovider import DataProvider
from freqtrade.exceptions import StrategyError
from freqtrade.strategy import IStrategy
from numpy.typing import NDArray

from freqtrade_mlpipe.config import ExpansionConfig
from freqtrade_mlpipe.exceptions import ConfigError
from freqtrade_mlpipe.features import FeatureEngineer, FrameKey, Frames, LiveFrames
from freqtrade_mlpipe.features.expansion import expand_features

USER_FEATURE_PREFIX = "%-"
_COPY_ON_WRITE = int(pd.__version__.partition(".")[0]) >= 3
"""With it a shallow copy is as safe from changes as a deep one."""

_FREQAI_METHODS = (
    "feature_engineering_expand_all",
    "feature_engineering_expand_basic",
    "feature_engineering_standard",
)


@dataclass(frozen=True)
class StrategyFeatures:
    """Candles of a pair → its features: the same call in training, in a backtest and in the bot.

    Attributes
    ----------
    strategy : whose `mlpipe_features`, and FreqAI methods, add columns that start with ``%-``.
    engineer : computes the catalogue's.
    """

    strategy: IStrategy
    engineer: FeatureEngineer

    @cached_property
    def expansion(self) -> ExpansionConfig | None:
        """How the strategy's FreqAI methods are run; None where it has none, or there is no configuration of them."""
        own = type(self.strategy)
        if all(getattr(own, name) is getattr(IStrategy, name) for name in _FREQAI_METHODS):
            return None
        return ExpansionConfig.from_freqtrade(self.strategy.config)

    @property
    def startup_candles(self) -> int:
        """Candles, of each frame's own timeframe, before the first row that is complete."""
        return max(int(self.strategy.startup_candle_count), self.engineer.startup_candles)

    def frame_keys(self, pairs: Sequence[str]) -> list[FrameKey]:
        """Pair and timeframe of the frames that features of `pairs` need besides each pair's own candles."""
        keys = set(self.engineer.frame_keys(pairs))
        if self.expansion is not None:
            own = str(self.strategy.timeframe)
            timeframes = {own, *self.expansion.include_timeframes}
            for pair in pairs:
                sources = {pair, *self.expansion.include_corr_pairlist}
                keys |= set(product(sources, timeframes)) - {(pair, own)}
        return sorted(keys)

    def __call__(self, dataframe: pd.DataFrame, pair: str, frames: Frames) -> pd.DataFrame:
        """float32, one row a candle on the index of `dataframe`; NaN during warm-up.

        Raises
        ------
        ConfigError
            When there is no feature at all.
        DataError
            When the candles are unusable or fewer than the warm-up.
        StrategyError
            When a method of the strategy fails, or does not give one row of numbers a candle.
        """
        parts = [part.set_axis(dataframe.index) for part in self._parts(dataframe, pair, frames)]
        if not parts:
            raise _no_feature()
        return parts[0] if len(parts) == 1 else pd.concat(parts, axis=1)

    def newest(
        self, dataframe: pd.DataFrame, n: int, pair: str, frames: Frames
    ) -> tuple[tuple[str, ...], NDArray[np.float32]]:
        """Names of the features, and the last `n` rows of a call, shape (n, n_features), the same bits.

        The catalogue's are computed for these rows only, where `frames` are live; the strategy's methods run on
        the whole frame.

        Raises
        ------
        ConfigError, DataError, StrategyError
            As a call.
        """
        names, blocks = self._catalogue, []
        if names:
            blocks.append(self.engineer.newest(dataframe, n, pair=pair, frames=frames))
        for part in self._own_parts(dataframe, pair, frames):
            names += tuple(map(str, part.columns))
            blocks.append(part.to_numpy()[len(part) - n :])
        if not blocks:
            raise _no_feature()
        return names, blocks[0] if len(blocks) == 1 else np.concatenate(blocks, axis=1)

    @cached_property
    def _catalogue(self) -> tuple[str, ...]:
        return tuple(self.engineer.get_feature_names())

    def _parts(self, dataframe: pd.DataFrame, pair: str, frames: Frames) -> list[pd.DataFrame]:
        parts = []
        if self._catalogue:
            parts.append(self.engineer.transform(dataframe, pair=pair, frames=frames))
        return parts + self._own_parts(dataframe, pair, frames)

    def _own_parts(self, dataframe: pd.DataFrame, pair: str, frames: Frames) -> list[pd.DataFrame]:
        parts = []
        own = getattr(self.strategy, "mlpipe_features", None)
        if own is not None and not _adds_nothing(own):
            parts += self._own(own, dataframe, pair)
        if self.expansion is not None:
            expanded = expand_features(
                self.strategy,
                dataframe,
                pair=pair,
                timeframe=str(self.strategy.timeframe),
                config=self.expansion,
                candles=frames.candles,
            )
            parts += _usable(expanded, list(expanded.columns))
        return parts

    def _own(
        self, method: Callable[..., Any], dataframe: pd.DataFrame, pair: str
    ) -> list[pd.DataFrame]:
        try:
            copy = dataframe.copy(deep=not _COPY_ON_WRITE)
            return _own_columns(method(copy, {"pair": pair}), len(dataframe))
        except Exception as error:
            raise StrategyError(
                f"{pair}: mlpipe_features of {type(self.strategy).__name__} failed: "
                f"{type(error).__name__}: {error}"
            ) from error


def frames_of(dp: DataProvider, *, live: bool) -> Frames:
    """freqtrade's candles: those that a bot has fetched, or those of the data directory."""
    kind = LiveFrames if live else Frames
    return kind(lambda pair, timeframe: dp.get_pair_dataframe(pair, timeframe))


def _adds_nothing(method: Callable[..., Any]) -> bool:
    """Whether it is the mixin's, which a strategy did not override: then no copy of the candles need be made."""
    from freqtrade_mlpipe.integration.strategy import MLPipeMixin

    return getattr(method, "__func__", None) is MLPipeMixin.mlpipe_features


def _no_feature() -> ConfigError:
    return ConfigError(
        "FeatureConfig: no feature is left, and the strategy adds none of its own. Switch on a group "
        "(include_price_features …)."
    )


def _own_columns(frame: Any, n_candles: int) -> list[pd.DataFrame]:
    """The user's features, usable."""
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"it must return the dataframe, found {type(frame).__name__}")
    if len(frame) != n_candles:
        raise ValueError(f"it must keep every row, found {len(frame)} rows for {n_candles} candles")
    columns = [name for name in frame.columns if str(name).startswith(USER_FEATURE_PREFIX)]
    return _usable(frame, columns)


def _usable(frame: pd.DataFrame, columns: Sequence[str]) -> list[pd.DataFrame]:
    """float32, infinities as NaN, in one frame; none without columns.

    One column at a time, because the block may be most of the memory there is.
    """
    if not columns:
        return []
    block = np.empty((len(frame), len(columns)), dtype=np.float32, order="F")
    with np.errstate(over="ignore"):
        for position, name in enumerate(columns):
            target = block[:, position]
            target[:] = frame[name].to_numpy(dtype=np.float64, na_value=np.nan)
            target[np.isinf(target)] = np.nan
    return [pd.DataFrame(block, index=frame.index, columns=pd.Index(columns), copy=False)]
