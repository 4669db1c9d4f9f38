"""Tables behind the charts that a run keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

MAX_ROWS = 1000


def confusion_table(y_true: Any, y_pred: Any) -> pd.DataFrame:
    """Counts by true class (rows, column `true`) and predicted class (columns `predicted_…`).

    Rows where either is NaN are left out.
    """
    pairs = _paired(y_true, y_pred)
    classes = np.unique(pairs)
    counts = {
        f"predicted_{predicted:g}": [
            int(((pairs[:, 0] == true) & (pairs[:, 1] == predicted)).sum()) for true in classes
        ]
        for predicted in classes
    }
    return pd.DataFrame({"true": classes, **counts})


def roc_table(y_true: Any, y_proba: Any) -> tuple[pd.DataFrame, float]:
    """The ROC curve and the area under it.

    Parameters
    ----------
    y_true
        Shape (n,), 1 and 0.
    y_proba
        Probability of class 1, shape (n,), or of both classes, shape (n, 2).

    Returns
    -------
    (DataFrame, float)
        Columns `threshold`, `false_positive_rate`, `true_positive_rate`, at most `MAX_ROWS` rows
        (thinned evenly, ends kept); the area of the whole curve.

    Raises
    ------
    ValueError
        After leaving out NaN only one class is there.
    """
    from sklearn.metrics import auc, roc_curve

    proba = np.asarray(y_proba, dtype=float)
    pairs = _paired(y_true, proba[:, 1] if proba.ndim == 2 else proba)
    if len(np.unique(pairs[:, 0])) < 2:
        raise ValueError("A ROC curve needs both classes among the rows that are not NaN.")
    false_positive, true_positive, threshold = roc_curve(pairs[:, 0], pairs[:, 1])
    keep = np.unique(np.linspace(0, len(threshold) - 1, MAX_ROWS).round().astype(int))
    table = pd.DataFrame(
        {
            "threshold": threshold[keep],
            "false_positive_rate": false_positive[keep],
            "true_positive_rate": true_positive[keep],
        }
    )
    return table, float(auc(false_positive, true_positive))


def _paired(left: Any, right: Any) -> NDArray[np.float64]:
    """Two columns of the same length, rows with NaN left out."""
    first, second = np.asarray(left, dtype=float).ravel(), np.asarray(right, dtype=float).ravel()
    if first.shape != second.shape:
        raise ValueError(f"Lengths differ: {first.size} true values, {second.size} predictions.")
    known = ~(np.isnan(first) | np.isnan(second))
    return np.column_stack([first[known], second[known]])
