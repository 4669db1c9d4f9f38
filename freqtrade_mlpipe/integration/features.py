"""The features of a strategy: the catalogue's and its own, from freqtrade's candles."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd
from freqtrade.data.dataprovider import DataProvider
from freqtrade.exceptions import StrategyError
from freqtrade.strategy import IStrategy

from freqtrade_mlpipe.exceptions import ConfigError
from freqtrade_mlpipe.features import FeatureEngineer, FrameKey, Frames

USER_FEATURE_PREFIX = "%-"


@dataclass(frozen=True)
class StrategyFeatures:
    """Candles of a pair → its features: the same call in training, in a backtest and in the bot.

    Attributes
    ----------
    strategy : whose `mlpipe_features` adds columns that start with ``%-``.
    engineer : computes the catalogue's.
    """

    strategy: IStrategy
    engineer: FeatureEngineer

    @property
    def startup_candles(self) -> int:
        """Candles, of each frame's own timeframe, before the first row that is complete."""
        return max(int(self.strategy.startup_candle_count), self.engineer.startup_candles)

    def frame_keys(self, pairs: Iterable[str]) -> list[FrameKey]:
        """Pair and timeframe of the frames that features of `pairs` need besides each pair's own candles."""
        return self.engineer.frame_keys(pairs)

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
            parts.append(self._called("mlpipe_features", own, dataframe, pair))
        return parts

    def _called(
        self, name: str, method: Callable[..., Any], dataframe: pd.DataFrame, pair: str
    ) -> pd.DataFrame:
        try:
            return _own_columns(method(dataframe.copy(), {"pair": pair}), len(dataframe))
        except Exception as error:
            raise StrategyError(
                f"{pair}: {name} of {type(self.strategy).__name__} failed: {type(error).__name__}: {error}"
            ) from error


def frames_of(dp: DataProvider) -> Frames:
    """freqtrade's candles: live ones in a bot, else those of the data directory."""
    return Frames(lambda pair, timeframe: dp.get_pair_dataframe(pair, timeframe))


def _own_columns(frame: Any, n_candles: int) -> pd.DataFrame:
    """The user's features as float32, infinities as NaN."""
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"it must return the dataframe, found {type(frame).__name__}")
    if len(frame) != n_candles:
        raise ValueError(f"it must keep every row, found {len(frame)} rows for {n_candles} candles")
    columns = [name for name in frame.columns if str(name).startswith(USER_FEATURE_PREFIX)]
    own = frame[columns].astype("float32")
    return own.where(own.abs() != float("inf"))
