"""Correlations among float32 columns, quick enough to prune 200 of them over 100,000 rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Block = NDArray[np.float32]
FloatArray = NDArray[np.float64]


def rank_columns(values: Block) -> Block:
    """Average ranks of each column, centred, so that Pearson of the ranks is Spearman."""
    from scipy.stats import rankdata

    ranks = rankdata(values, axis=0)
    return np.asarray(ranks - (len(values) + 1) / 2, dtype=np.float32)


def standardise(values: Block) -> Block:
    """Columns with mean 0 and root mean square 1; constant columns become 0.

    Means in float64: a float32 sum over many rows would move a column with a large mean.
    """
    mean = values.mean(axis=0, dtype=np.float64)
    centred = np.asarray(values - mean.astype(np.float32))
    size = np.sqrt(np.einsum("ij,ij->j", centred, centred, dtype=np.float64) / max(len(values), 1))
    size[size == 0] = np.inf
    return np.asarray(centred / size.astype(np.float32))


def correlation_matrix(values: Block) -> FloatArray:
    """Pearson correlations of the columns, shape (k, k); 0 for a constant column."""
    unit = standardise(values)
    product = (unit.T @ unit) / np.float32(max(len(values), 1))
    return np.clip(product.astype(np.float64), -1.0, 1.0)


def relevance(values: Block, y: FloatArray, method: str) -> FloatArray:
    """Absolute correlation of each column (already ranks for Spearman) with y, shape (k,)."""
    target = y.astype(np.float32)[:, None]
    if method == "spearman":
        target = rank_columns(target)
    unit, goal = standardise(values), standardise(target)
    return np.abs((unit.T @ goal)[:, 0].astype(np.float64) / max(len(values), 1))
