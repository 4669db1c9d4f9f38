"""The columns of one candle frame, computed into a float32 block."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from freqtrade_mlpipe.features.indicator import Candles, FeatureColumn

Block = NDArray[np.float32]


def fill_block(df: pd.DataFrame, columns: Sequence[FeatureColumn], block: Block) -> None:
    """Write the columns' values on valid candles into `block`, shape (n_candles, n_columns), column-major.

    A column's warm-up rows are NaN, every other value is finite.
    """
    candles = Candles(df)
    group = None
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for position, column in enumerate(columns):
            if column.indicator.group != group:
                candles.forget()
                group = column.indicator.group
            target = block[:, position]
            if column.warmup >= len(df):
                target[:] = np.nan
                continue
            target[:] = column.compute(candles)
            target[: column.warmup] = np.nan
            _bound(target[column.warmup :])


def compute_block(df: pd.DataFrame, columns: Sequence[FeatureColumn]) -> Block:
    """A new block of the columns' values, shape (n_candles, n_columns), as `fill_block`."""
    block = np.empty((len(df), len(columns)), dtype=np.float32, order="F")
    fill_block(df, columns, block)
    return block


def shift_block(source: Block, n: int, target: Block) -> None:
    """Write the rows of `source` as they were `n` rows ago into `target`; the first `n` rows are NaN."""
    target[:n] = np.nan
    target[n:] = source[: max(len(source) - n, 0)]


def _bound(values: NDArray[np.float32]) -> None:
    """Replace, in place, what float32 cannot hold by the largest number that it can."""
    if not np.isfinite(np.add.reduce(values)):
        limit = np.finfo(np.float32).max
        np.clip(values, -limit, limit, out=values)
