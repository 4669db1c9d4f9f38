"""From the configuration to a splitter."""

from __future__ import annotations

import pandas as pd

from freqtrade_mlpipe.config import ModelConfig
from freqtrade_mlpipe.splits.fold import Splitter
from freqtrade_mlpipe.splits.kfold import CombinatorialPurgedKFold, PurgedKFold
from freqtrade_mlpipe.splits.walk_forward import PurgedWalkForward


def make_splitter(config: ModelConfig, candle: pd.Timedelta) -> Splitter:
    """The splitter that `cv_method` names, with its embargo in candles turned into time.

    Parameters
    ----------
    config : ModelConfig
        `cv_method` timeseries, purged_kfold or cpcv (two test blocks a fold); `cv_folds`;
        `embargo_candles`; for timeseries `train_window_candles`.
    candle : Timedelta
        Length of one candle.

    Examples
    --------
    >>> make_splitter(ModelConfig(cv_folds=4, embargo_candles=2), pd.Timedelta("1h")).n_folds
    4
    """
    if candle <= pd.Timedelta(0):
        raise ValueError(f"candle must be a positive length of time, found {candle}.")
    embargo = config.embargo_candles * candle
    if config.cv_method == "timeseries":
        return walk_forward(config, candle)
    if config.cv_method == "purged_kfold":
        return PurgedKFold(config.cv_folds, embargo=embargo)
    n_test_folds = min(2, config.cv_folds - 1)
    return CombinatorialPurgedKFold(config.cv_folds, n_test_folds, embargo=embargo)


def walk_forward(config: ModelConfig, candle: pd.Timedelta) -> PurgedWalkForward:
    """The walk-forward of the configuration, whatever its `cv_method`: expanding, or with its window sliding."""
    window = config.train_window_candles
    return PurgedWalkForward(
        config.cv_folds,
        embargo=config.embargo_candles * candle,
        max_train=None if window is None else window * candle,
    )
