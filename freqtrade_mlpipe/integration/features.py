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

from freqtrade_mlpipe.config import ExpansionConfig
from freqtrade_mlpipe.exceptions import ConfigError
from freqtrade_mlpipe.features import FeatureEngineer, FrameKey, Frames, LiveFrames
from freqtrade_mlpipe.features.expansion import expand_features

USER_FEATURE_PREFIX = "%-"

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
        parts = [
            part.set_axis(dataframe.index)
            for part in self._parts(dataframe, pair, frames)
            if len(part.columns)
        ]
        if not parts:
            raise ConfigError(
                "FeatureConfig: no feature is left, and the strategy adds none of its own. Switch on a group "
                "(include_price_features …)."
            )
        return parts[0] if len(parts) == 1 else pd.concat(parts, axis=1)

    def _parts(self, dataframe: pd.DataFrame, pair: str, frames: Frames) -> list[pd.DataFrame]:
        parts = []
        if self.engineer.get_feature_names():
            parts.append(self.engineer.transform(dataframe, pair=pair, frames=frames))
        own = getattr(self.strategy, "mlpipe_features", None)
        if own is not None:
            parts.append(self._own(own, dataframe, pair))
        if self.expansion is not None:
            expanded = expand_features(
                self.strategy,
                dataframe,
                pair=pair,
                timeframe=str(self.strategy.timeframe),
                config=self.expansion,
                candles=frames.candles,
            )
            parts.append(_usable(expanded))
        return parts

    def _own(self, method: Callable[..., Any], dataframe: pd.DataFrame, pair: str) -> pd.DataFrame:
        try:
            return _own_columns(method(dataframe.copy(), {"pair": pair}), len(dataframe))
        except Exception as error:
            raise StrategyError(
                f"{pair}: mlpipe_features of {type(self.strategy).__name__} failed: "
                f"{type(error).__name__}: {error}"
            ) from error


def frames_of(dp: DataProvider, *, live: bool) -> Frames:
    """freqtrade's candles: those that a bot has fetched, or those of the data directory."""
    kind = LiveFrames if live else Frames
    return kind(lambda pair, timeframe: dp.get_pair_dataframe(pair, timeframe))


def _own_columns(frame: Any, n_candles: int) -> pd.DataFrame:
    """The user's features, usable."""
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"it must return the dataframe, found {type(frame).__name__}")
    if len(frame) != n_candles:
        raise ValueError(f"it must keep every row, found {len(frame)} rows for {n_candles} candles")
    columns = [name for name in frame.columns if str(name).startswith(USER_FEATURE_PREFIX)]
    return _usable(frame[columns])


def _usable(features: pd.DataFrame) -> pd.DataFrame:
    """float32, infinities as NaN; one column at a time, because the block may be most of the memory there is."""
    block = np.empty(features.shape, dtype=np.float32, order="F")
    with np.errstate(over="ignore"):
        for position in range(features.shape[1]):
            target = block[:, position]
            target[:] = features.iloc[:, position].to_numpy(dtype=np.float64, na_value=np.nan)
            target[np.isinf(target)] = np.nan
    return pd.DataFrame(block, index=features.index, columns=features.columns, copy=False)
