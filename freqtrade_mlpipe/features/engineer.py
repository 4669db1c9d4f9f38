"""From candles to a block of features."""

from __future__ import annotations

import numpy as np
import pandas as pd

from freqtrade_mlpipe.config import FeatureConfig
from freqtrade_mlpipe.features._block import sufficient_candles, write_column
from freqtrade_mlpipe.features._program import compile_program
from freqtrade_mlpipe.features.catalogue import select_columns
from freqtrade_mlpipe.features.indicator import Candles, FeatureColumn


class FeatureEngineer:
    """Computes the configured features of one pair. It learns nothing from data and keeps no state
    between calls.

    Parameters
    ----------
    config : FeatureConfig, optional
        Groups, periods and names; the default is the whole catalogue.

    Raises
    ------
    ConfigError
        If `include` or `exclude` name an unknown feature, or nothing is left.

    Examples
    --------
    >>> FeatureEngineer(FeatureConfig(include=("rsi", "return_1"))).get_feature_names()
    ['return_1', 'rsi_7', 'rsi_14']
    """

    def __init__(self, config: FeatureConfig | None = None) -> None:
        self.config = config if config is not None else FeatureConfig()
        self._columns = select_columns(self.config)

    @property
    def columns(self) -> tuple[FeatureColumn, ...]:
        """The selected features with their catalogue rows, periods and warm-ups."""
        return self._columns

    @property
    def startup_candles(self) -> int:
        """Candles before the first row in which every feature has a value.

        From there on a value computed on a window equals the one computed on a long history to 1e-6
        relative.
        """
        return max(column.warmup for column in self._columns)

    def get_feature_names(self) -> list[str]:
        """Names of the columns of `transform`, in order; they depend on the configuration only."""
        return [column.name for column in self._columns]

    def transform(self, df: pd.DataFrame, *, pair: str = "") -> pd.DataFrame:
        """Features of each candle, from that candle and earlier ones.

        Parameters
        ----------
        df : DataFrame
            Candles of one pair, see `validate_candles`.
        pair : str
            Named in error messages.

        Returns
        -------
        DataFrame of shape (n_candles, n_features)
            float32, on the index of `df`. A feature's warm-up rows are NaN; every other value is
            finite.

        Raises
        ------
        DataError
            For invalid candles, or no more of them than `startup_candles`.
        """
        checked = sufficient_candles(df, self._columns, pair=pair)
        candles = Candles(checked)
        block = np.empty((len(checked), len(self._columns)), dtype=np.float32, order="F")
        program = compile_program(self._columns)
        with np.errstate(all="ignore"):
            program.fill(candles, block)
            for place in program.untraced:
                column = self._columns[place]
                write_column(block[:, place], column.compute(candles), column.warmup)
        return pd.DataFrame(block, index=df.index, columns=self.get_feature_names(), copy=False)
