"""Tables behind the charts that a run keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

MAX_ROWS = 400


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

    pairs = _both_classes(y_true, y_proba, "A ROC curve")
    false_positive, true_positive, threshold = roc_curve(pairs[:, 0], pairs[:, 1])
    keep = _thinned(len(threshold))
    table = pd.DataFrame(
        {
            "threshold": threshold[keep],
            "false_positive_rate": false_positive[keep],
            "true_positive_rate": true_positive[keep],
        }
    )
    return table, float(auc(false_positive, true_positive))


def pr_table(y_true: Any, y_proba: Any) -> tuple[pd.DataFrame, float]:
    """The precision-recall curve and the average precision; arguments and errors as `roc_table`.

    Returns
    -------
    (DataFrame, float)
        Columns `threshold` (NaN in the last row: nothing is predicted), `precision`, `recall`, at most `MAX_ROWS` rows.
    """
    from sklearn.metrics import average_precision_score, precision_recall_curve

    pairs = _both_classes(y_true, y_proba, "A precision-recall curve")
    precision, recall, threshold = precision_recall_curve(pairs[:, 0], pairs[:, 1])
    keep = _thinned(len(precision))
    table = pd.DataFrame(
        {
            "threshold": np.append(threshold, np.nan)[keep],
            "precision": precision[keep],
            "recall": recall[keep],
        }
    )
    return table, float(average_precision_score(pairs[:, 0], pairs[:, 1]))


def calibration_table(y_true: Any, y_proba: Any, n_bins: int = 10) -> pd.DataFrame:
    """Predicted and observed frequency of class 1, by bins of (nearly) equal size.

    Returns
    -------
    DataFrame
        Columns `predicted` and `observed` (means over the bin's rows), `n_rows`; ordered by `predicted`.

    Raises
    ------
    ValueError
        No row without NaN.
    """
    pairs = _paired(y_true, _class_one(y_proba))
    if not len(pairs):
        raise ValueError("A calibration curve needs rows that are not NaN.")
    ordered = pairs[np.argsort(pairs[:, 1], kind="stable")]
    bins = np.array_split(ordered, min(n_bins, len(ordered)))
    return pd.DataFrame(
        {
            "predicted": [part[:, 1].mean() for part in bins],
            "observed": [part[:, 0].mean() for part in bins],
            "n_rows": [len(part) for part in bins],
        }
    )


def stability_table(importances: pd.DataFrame) -> pd.DataFrame:
    """Mean, standard deviation and range of each feature's importance over folds, most important first.

    Parameters
    ----------
    importances
        Index: features; a column a fold.

    Returns
    -------
    DataFrame
        Columns `feature`, `mean`, `std` (NaN with one fold), `min`, `max`, `mean_rank` (1: most important),
        `n_folds_used`, then the folds.
    """
    described = pd.DataFrame(
        {
            "mean": importances.mean(axis=1),
            "std": importances.std(axis=1),
            "min": importances.min(axis=1),
            "max": importances.max(axis=1),
            "mean_rank": importances.rank(ascending=False).mean(axis=1),
            "n_folds_used": (importances > 0).sum(axis=1),
        }
    )
    table = pd.concat([described, importances], axis=1).sort_values(
        "mean", ascending=False, kind="stable"
    )
    return table.rename_axis("feature").reset_index()


def _class_one(y_proba: Any) -> NDArray[np.float64]:
    proba = np.asarray(y_proba, dtype=float)
    return proba[:, 1] if proba.ndim == 2 else proba


def _both_classes(y_true: Any, y_proba: Any, what: str) -> NDArray[np.float64]:
    pairs = _paired(y_true, _class_one(y_proba))
    if len(np.unique(pairs[:, 0])) < 2:
        raise ValueError(f"{what} needs both classes among the rows that are not NaN.")
    return pairs


def _thinned(n: int) -> NDArray[np.int64]:
    """Positions of at most `MAX_ROWS` of `n` rows, spread evenly, both ends among them."""
    return np.unique(np.linspace(0, n - 1, MAX_ROWS).round().astype(np.int64))


def _paired(left: Any, right: Any) -> NDArray[np.float64]:
    """Two columns of the same length, rows with NaN left out."""
    first, second = np.asarray(left, dtype=float).ravel(), np.asarray(right, dtype=float).ravel()
    if first.shape != second.shape:
        raise ValueError(f"Lengths differ: {first.size} true values, {second.size} predictions.")
    known = ~(np.isnan(first) | np.isnan(second))
    return np.column_stack([first[known], second[known]])
