"""From candles to a block of features."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from freqtrade_mlpipe.config import FeatureConfig
from freqtrade_mlpipe.exceptions import ConfigError
from freqtrade_mlpipe.features._block import sufficient_candles
from freqtrade_mlpipe.features.frames import NO_FRAMES, FrameKey, Frames
from freqtrade_mlpipe.features.indicator import FeatureColumn
from freqtrade_mlpipe.features.parts import make_parts


class FeatureEngineer:
    """Computes the configured features of one pair. It learns nothing from data and keeps no state
    between calls.

    Parameters
    ----------
    config : FeatureConfig, optional
        Groups, periods and names; the default is the whole catalogue on the pair's own candles.
    timeframe : str, optional
        Of the candles, e.g. 1h; needed for informative features and ranks.
    pairs : iterable of str
        The whitelist: who is compared in ranks.

    Raises
    ------
    ConfigError
        If the configuration names an unknown feature, or features need a `timeframe` and there is none.

    Examples
    --------
    >>> FeatureEngineer(FeatureConfig(include=("rsi", "return_1"))).get_feature_names()
    ['return_1', 'rsi_7', 'rsi_14']
    >>> config = FeatureConfig(include=("rsi_14",), informative_pairs=("BTC/USDT",), informative_features=("return_1",))
    >>> FeatureEngineer(config, timeframe="1h").get_feature_names()
    ['rsi_14', 'return_1_BTC/USDT_1h']
    """

    def __init__(
        self,
        config: FeatureConfig | None = None,
        *,
        timeframe: str | None = None,
        pairs: Iterable[str] = (),
    ) -> None:
        self.config = config if config is not None else FeatureConfig()
        self._own, others = make_parts(self.config, timeframe, tuple(sorted(set(pairs))))
        self._parts = (self._own, *others)
        self._widths = [len(part.names) for part in self._parts]
        self._labels = pd.Index([name for part in self._parts for name in part.names])

    @property
    def columns(self) -> tuple[FeatureColumn, ...]:
        """The features of the pair's own candles with their catalogue rows, periods and warm-ups."""
        return self._own.columns

    @property
    def startup_candles(self) -> int:
        """Candles, of each frame's own timeframe, before the first row in which every feature has a value.

        From there on a value computed on a window equals the one computed on a long history to 1e-6
        relative.
        """
        return max(part.startup for part in self._parts)

    def frame_keys(self, pairs: Iterable[str]) -> list[FrameKey]:
        """Pair and timeframe of the frames that features of `pairs` need besides each pair's own candles."""
        return sorted({key for pair in pairs for part in self._parts for key in part.keys(pair)})

    def get_feature_names(self) -> list[str]:
        """Names of the columns of `transform`, in order; they depend on the configuration only."""
        return list(self._labels)

    def transform(
        self, df: pd.DataFrame, *, pair: str = "", frames: Frames = NO_FRAMES
    ) -> pd.DataFrame:
        """Features of each candle, from candles closed by its close.

        Parameters
        ----------
        df : DataFrame
            Candles of one pair, see `validate_candles`.
        pair : str
            Whose they are; named in error messages.
        frames : Frames
            Where the frames of `frame_keys([pair])` are found.

        Returns
        -------
        DataFrame of shape (n_candles, n_features)
            float32, on the index of `df`. Warm-up rows of the pair's own features are NaN, every other value of
            theirs is finite. An informative feature or rank is NaN where its candles do not reach.

        Raises
        ------
        ConfigError
            When the configuration leaves no feature.
        DataError
            For invalid or missing candles, or no more of the pair's own than their warm-up.
        """
        checked = sufficient_candles(df, self.columns, pair=pair)
        block = self._block(checked, len(checked), pair, frames)
        return pd.DataFrame(block, index=df.index, columns=self._labels.copy(), copy=False)

    def advance(self, candles: Iterable[tuple[str, pd.DataFrame]], frames: Frames) -> None:
        """Called before `newest` is, for one pair after the other: many together take less time.

        Parameters
        ----------
        candles : iterable of (str, DataFrame)
            Pairs and their candles. What is wrong with them, `newest` will say.
        """
        if self.columns:
            frames.advance(candles, self.columns)

    def newest(
        self, df: pd.DataFrame, n: int, *, pair: str = "", frames: Frames = NO_FRAMES
    ) -> NDArray[np.float32]:
        """The last `n` rows of `transform`, shape (n, n_features), the same bits.

        With `LiveFrames` only what is new is computed.

        Raises
        ------
        ConfigError, DataError
            As `transform`.
        """
        return self._block(frames.check(df, self.columns, pair=pair), n, pair, frames)

    def _block(
        self, checked: pd.DataFrame, n: int, pair: str, frames: Frames
    ) -> NDArray[np.float32]:
        if not len(self._labels):
            raise ConfigError(
                "FeatureConfig: no feature is left. Switch on a group (include_price_features …), or exclude less."
            )
        block = np.empty((n, len(self._labels)), dtype=np.float32, order="F")
        first = 0
        for part, width in zip(self._parts, self._widths, strict=True):
            beyond = first + width
            part.fill(checked, pair, frames, block[:, first:beyond])
            first = beyond
        return block
