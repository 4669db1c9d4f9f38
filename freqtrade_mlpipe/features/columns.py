"""The columns of one candle frame, computed into a float32 block."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from freqtrade_mlpipe.features._block import Block, write_column
from freqtrade_mlpipe.features._program import compile_program
from freqtrade_mlpipe.features.indicator import Candles, FeatureColumn


def fill_block(df: pd.DataFrame, columns: tuple[FeatureColumn, ...], block: Block) -> None:
    """Write the columns' values on valid candles into `block`, shape (n_candles, n_columns), column-major.

    A column's warm-up rows are NaN, every other value is finite.
    """
    if not columns:
        return
    candles = Candles(df)
    with np.errstate(all="ignore"):
        if len(df) <= max(column.warmup for column in columns):
            _fill_one_by_one(candles, columns, range(len(columns)), block)
            return
        program = compile_program(columns)
        program.fill(candles, block)
        _fill_one_by_one(candles, columns, program.untraced, block)


def compute_block(df: pd.DataFrame, columns: tuple[FeatureColumn, ...]) -> Block:
    """A new block of the columns' values, shape (n_candles, n_columns), as `fill_block`."""
    block = np.empty((len(df), len(columns)), dtype=np.float32, order="F")
    fill_block(df, columns, block)
    return block


def shift_block(source: Block, n: int, target: Block) -> None:
    """Write the rows of `source` as they were `n` rows ago into `target`; the first `n` rows are NaN."""
    target[:n] = np.nan
    target[n:] = source[: max(len(source) - n, 0)]


def _fill_one_by_one(
    candles: Candles, columns: tuple[FeatureColumn, ...], places: Iterable[int], block: Block
) -> None:
    """Columns that have no program, or of a frame too short for some: those stay without a value."""
    for place in places:
        column = columns[place]
        if column.warmup < len(candles):
            write_column(block[:, place], column.compute(candles), column.warmup)
        else:
            block[:, place] = np.nan
