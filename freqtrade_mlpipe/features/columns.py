"""The columns of one candle frame, computed into a float32 block."""

from __future__ import annotations

import numpy as np
import pandas as pd

from freqtrade_mlpipe.features._block import Block, bound, write_column
from freqtrade_mlpipe.features._program import compile_program
from freqtrade_mlpipe.features.indicator import Candles, FeatureColumn


def fill_block(df: pd.DataFrame, columns: tuple[FeatureColumn, ...], block: Block) -> None:
    """Write the columns' values on valid candles into `block`, shape (n_candles, n_columns), column-major.

    A column's warm-up rows are NaN, every other value is finite.
    """
    candles, program = Candles(df), compile_program(columns)
    with np.errstate(all="ignore"):
        program.fill(candles, block)
        for place in program.untraced:
            column, target = columns[place], block[:, place]
            if column.warmup >= len(df):
                target[:] = np.nan
            else:
                write_column(target, column.compute(candles), column.warmup)
                bound(target)


def compute_block(df: pd.DataFrame, columns: tuple[FeatureColumn, ...]) -> Block:
    """A new block of the columns' values, shape (n_candles, n_columns), as `fill_block`."""
    block = np.empty((len(df), len(columns)), dtype=np.float32, order="F")
    fill_block(df, columns, block)
    return block


def shift_block(source: Block, n: int, target: Block) -> None:
    """Write the last rows of `source` as they were `n` rows ago into `target`; NaN where there were none."""
    first = len(source) - len(target) - n
    missing = min(max(-first, 0), len(target))
    target[:missing] = np.nan
    target[missing:] = source[first + missing : len(source) - n]
