"""Mean and deviation of recent predictions, FreqAI's `fit_live_predictions_candles`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd


def recent_statistics(
    predictions: pd.DataFrame, names: Sequence[str], n: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Mean and standard deviation (ddof 0) of each numeric column over its last `n` rows, without missing ones.

    0 and 0 for columns of words, as FreqAI has it; NaN where nothing is there.
    """
    means, deviations = {}, {}
    for name in names:
        values = predictions.get(name)
        if values is None or not pd.api.types.is_numeric_dtype(values.dtype):
            means[name] = deviations[name] = 0.0
            continue
        last = values.tail(n).to_numpy(dtype=np.float64, na_value=np.nan)
        last = last[np.isfinite(last)]
        means[name] = float(last.mean()) if len(last) else np.nan
        deviations[name] = float(last.std()) if len(last) else np.nan
    return means, deviations


def rolling_statistics(predictions: pd.DataFrame, names: Sequence[str], n: int) -> pd.DataFrame:
    """The predictions with `<name>_mean` and `<name>_std` of the `n` rows before each row.

    The first `n` rows keep what they have. The row itself does not count: a bot fits before it predicts.
    """
    filled = predictions.copy()
    late = np.arange(len(predictions)) >= n
    for name in names:
        if not pd.api.types.is_numeric_dtype(predictions[name].dtype):
            continue
        window = predictions[name].astype(np.float64).rolling(n, min_periods=1)
        for what, values in (("mean", window.mean()), ("std", window.std(ddof=0))):
            column = f"{name}_{what}"
            before = filled.get(column, np.nan)
            filled[column] = np.where(late, values.shift(), before)
    return filled
