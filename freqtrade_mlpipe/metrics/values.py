"""Scores of predicted returns."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def value_scores(y: ArrayLike, value: ArrayLike) -> dict[str, float]:
    """Scores of predicted values.

    Parameters
    ----------
    y, value : array-like of shape (n,)

    Returns
    -------
    dict of str to float
        rmse, mae, squared_error (mean); r2, against the mean of `y` (NaN where `y` never varies); spearman, the rank
        correlation or information coefficient (0 where `value` never varies, NaN where `y` never does).

    Raises
    ------
    ValueError
        For no rows, unequal lengths or NaN.

    Examples
    --------
    >>> scores = value_scores([0.0, 1.0, 2.0], [0.0, 1.0, 3.0])
    >>> scores["mae"], scores["r2"], scores["spearman"]
    (0.3333333333333333, 0.5, 1.0)
    """
    truth, found = np.asarray(y, dtype=np.float64), np.asarray(value, dtype=np.float64)
    if not (truth.ndim == 1 and truth.shape == found.shape and len(truth)):
        raise ValueError(
            f"y and value must have one shape (n,) with n > 0, found {truth.shape} and {found.shape}."
        )
    if not (np.isfinite(truth).all() and np.isfinite(found).all()):
        raise ValueError("y and value must be finite. Drop unlabelled rows first.")
    squares = (truth - found) ** 2
    spread = float(((truth - truth.mean()) ** 2).sum())
    return {
        "rmse": float(np.sqrt(squares.mean())),
        "mae": float(np.abs(truth - found).mean()),
        "squared_error": float(squares.mean()),
        "r2": 1.0 - float(squares.sum()) / spread if spread > 0 else float("nan"),
        "spearman": _spearman(truth, found),
    }


def _spearman(a: Floats, b: Floats) -> float:
    from scipy.stats import rankdata

    ranks = [rankdata(values) for values in (a, b)]
    if np.ptp(ranks[0]) == 0:
        return float("nan")
    if np.ptp(ranks[1]) == 0:
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])
