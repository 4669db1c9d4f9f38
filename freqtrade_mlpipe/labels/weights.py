"""How much each label says that the others do not: weights of labels that overlap.

A weight uses only candles up to the one at whose close its label is known, and is not scaled by what the rest of the
history holds: more candles never change it. Whoever fits a model scales the weights of its training rows.

References
----------
López de Prado (2018), Advances in Financial Machine Learning, chapter 4.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

OPEN, NEVER = -1, -2
"""In place of a label's last row: it has begun, and the candles end before it is known; it never begins."""


def average_uniqueness(end: Ints) -> Floats:
    """Average uniqueness of labels that may overlap.

    Parameters
    ----------
    end : ndarray of int, shape (n,)
        Row at whose close the label of each row is known; `OPEN` where the candles end before (the label overlaps
        those that are known all the same), `NEVER` where there is no label.

    Returns
    -------
    ndarray of float64, shape (n,)
        In (0, 1]: the mean over the candles t+1 … end[t] of one over the number of labels that span the candle; NaN
        where unknown.

    Notes
    -----
    López de Prado (2018), sections 4.3 and 4.4.

    Examples
    --------
    >>> average_uniqueness(np.array([1, 3, 3, OPEN])).tolist()
    [1.0, 0.75, 0.5, nan]
    """
    share = 1.0 / np.maximum(concurrency(end), 1)
    mean = _sum_over_span(share, end) / np.maximum(end - np.arange(len(end)), 1)
    return np.asarray(mean, dtype=np.float64)


def return_attribution(end: Ints, close: Floats) -> Floats:
    """Size of the return that belongs to each label alone.

    Parameters
    ----------
    end : ndarray of int, shape (n,)
        As for `average_uniqueness`.
    close : ndarray of float64, shape (n,)

    Returns
    -------
    ndarray of float64, shape (n,)
        Absolute sum over the candles t+1 … end[t] of the log return from the candle before, divided by the number of
        labels that span the candle; NaN where unknown.

    Notes
    -----
    López de Prado (2018), section 4.6.
    """
    step = np.zeros(len(close))
    step[1:] = np.diff(np.log(close))
    return np.abs(_sum_over_span(step / np.maximum(concurrency(end), 1), end))


def concurrency(end: Ints) -> Ints:
    """Number of labels that span each candle, shape (n,); a label spans the candles after its row up to its last."""
    n = len(end)
    rows = np.flatnonzero(end != NEVER)
    last = np.where(end[rows] == OPEN, n - 1, end[rows])
    steps = np.zeros(n + 1, dtype=np.int64)
    np.add.at(steps, rows + 1, 1)
    np.add.at(steps, last + 1, -1)
    return np.cumsum(steps[:n])


def _sum_over_span(values: Floats, end: Ints) -> Floats:
    """Sum over the candles of each known label; NaN for the others."""
    total = np.zeros(len(values) + 1)
    np.cumsum(values, out=total[1:])
    rows = np.flatnonzero(end >= 0)
    sums = np.full(len(values), np.nan)
    sums[rows] = total[end[rows] + 1] - total[rows + 1]
    return sums
