"""What `transform` and the stream have in common: which candles suffice, and how a column enters the float32 block."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from freqtrade_mlpipe.exceptions import DataError
from freqtrade_mlpipe.features._windows import FloatArray
from freqtrade_mlpipe.features.candles import validate_candles
from freqtrade_mlpipe.features.indicator import FeatureColumn

Block = NDArray[np.float32]
_LIMIT = np.finfo(np.float32).max


def sufficient_candles(
    df: pd.DataFrame, columns: tuple[FeatureColumn, ...], *, pair: str = ""
) -> pd.DataFrame:
    """The candles with a `date` column, if they are valid and more than the longest warm-up of `columns`.

    Raises
    ------
    DataError
        See `validate_candles`; or too few candles, with the number needed.
    """
    checked = validate_candles(df, pair=pair)
    if not columns:
        return checked
    slowest = max(columns, key=lambda column: column.warmup)
    needed = slowest.warmup + 1
    if len(checked) < needed:
        raise DataError(
            f"{pair + ': ' if pair else ''}{len(checked)} candles are too few: at least "
            f"{needed} are needed, for {slowest.name}. Download more history, or exclude slow "
            "features or shorten the periods."
        )
    return checked


def write_column(target: Block, values: FloatArray, warmup: int, offset: int = 0) -> None:
    """Write a feature's values, of which the first is row `offset`'s, into its column; NaN in the warm-up."""
    target[:warmup] = np.nan
    target[warmup:] = values[warmup - offset :]


def bound(values: Block) -> None:
    """Replace, in place, what float32 cannot hold by the largest number that it can; NaN stays."""
    if np.fmax.reduce(values, axis=None) > _LIMIT or np.fmin.reduce(values, axis=None) < -_LIMIT:
        np.clip(values, -_LIMIT, _LIMIT, out=values)
