"""Quantiles of many columns at once: each column is sorted once, in single precision."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Block = NDArray[np.float32]
Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


def sort_in_place(columns: Block) -> Counts:
    """Sort each column in ascending order, NaN last; its number of values that are not NaN, shape (k,).

    Parameters
    ----------
    columns : array of shape (k, n)
        The columns one after the other; they are overwritten.
    """
    columns.sort(axis=1)
    last = columns[:, -1:] if columns.shape[1] else columns
    if not np.isnan(last).any():
        return np.full(len(columns), columns.shape[1], dtype=np.int64)
    return np.asarray(np.count_nonzero(~np.isnan(columns), axis=1), dtype=np.int64)


def quantiles_of_sorted(columns: Block, counts: Counts, shares: ArrayLike) -> Floats:
    """Linearly interpolated quantiles of columns that `sort_in_place` sorted, shape (k, n_shares).

    The bits of ``np.quantile(column[~np.isnan(column)].astype(float), shares)``. A column without values gives NaN.

    Examples
    --------
    >>> columns = np.array([[3, 1, 2, np.nan]], dtype=np.float32)
    >>> counts = sort_in_place(columns)
    >>> quantiles_of_sorted(columns, counts, [0.25, 0.5]).tolist()
    [[1.5, 2.0]]
    """
    wanted = np.asarray(shares, dtype=np.float64)
    if not columns.shape[1]:
        return np.full((len(columns), len(wanted)), np.nan)
    place = np.maximum(counts - 1, 0)[:, None] * wanted
    before = np.floor(place).astype(np.int64)
    after = np.minimum(before + 1, np.maximum(counts - 1, 0)[:, None])
    low = np.take_along_axis(columns, before, axis=1).astype(np.float64)
    high = np.take_along_axis(columns, after, axis=1).astype(np.float64)
    way, step = place - before, high - low
    # From the nearer end, as numpy does.
    found: Floats = np.where(way >= 0.5, high - step * (1 - way), low + step * way)
    found[counts == 0] = np.nan
    return found
