"""Probability of backtest overfitting by combinatorially symmetric cross-validation."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

MAX_BLOCKS = 20


def probability_of_backtest_overfitting(matrix: ArrayLike, n_blocks: int = 16) -> float:
    """Share of splits in which the best configuration in sample is at or below the median outside.

    Parameters
    ----------
    matrix : array-like of shape (n_periods, n_configurations)
        Returns of each configuration in each period, in chronological order.
    n_blocks : int, default 16
        Even number of blocks of consecutive periods, at most 20; every half of them is in sample
        once.

    Returns
    -------
    float
        In [0, 1]; about 0.5 where selection is worthless.

    Raises
    ------
    ValueError
        For NaN, fewer than two configurations, an odd number of blocks, or fewer than two periods a
        block.

    Notes
    -----
    Bailey, Borwein, López de Prado & Zhu (2017), The Probability of Backtest Overfitting.
    Performance is the Sharpe ratio, 0 for a configuration that never varies. Equal performances
    share their mean rank.
    """
    returns = np.asarray(matrix, dtype=np.float64)
    _check(returns, n_blocks)
    bounds = np.linspace(0, len(returns), n_blocks + 1).astype(np.int64)
    sums = np.add.reduceat(returns, bounds[:-1], axis=0)
    squares = np.add.reduceat(returns**2, bounds[:-1], axis=0)
    sizes = np.diff(bounds).astype(np.float64)

    halves = np.array(list(combinations(range(n_blocks), n_blocks // 2)))
    inside = np.zeros((len(halves), n_blocks))
    np.put_along_axis(inside, halves, 1.0, axis=1)
    n_bad, n_rows = 0, max(1, 4_000_000 // returns.shape[1])
    for first in range(0, len(inside), n_rows):
        part = inside[first : first + n_rows]
        best = _sharpes(part, sums, squares, sizes).argmax(axis=1)
        outside = _sharpes(1.0 - part, sums, squares, sizes)
        chosen = np.take_along_axis(outside, best[:, None], axis=1)
        rank = (outside < chosen).sum(axis=1) + 0.5 * ((outside == chosen).sum(axis=1) + 1)
        n_bad += int((rank <= (returns.shape[1] + 1) / 2).sum())
    return n_bad / len(inside)


def _sharpes(chosen: Floats, sums: Floats, squares: Floats, sizes: Floats) -> Floats:
    """Sharpe ratios (n_splits, n_configurations) over the chosen blocks."""
    n = (chosen @ sizes)[:, None]
    mean = chosen @ sums / n
    variance = chosen @ squares / n - mean**2
    flat = variance <= 1e-14 * (mean**2 + variance)
    return np.where(flat, 0.0, mean / np.sqrt(np.where(flat, 1.0, variance)))


def _check(returns: Floats, n_blocks: int) -> None:
    if returns.ndim != 2 or returns.shape[1] < 2:
        raise ValueError(
            f"matrix must be (n_periods, n_configurations ≥ 2), found shape {returns.shape}."
        )
    if not np.isfinite(returns).all():
        raise ValueError("matrix must not hold NaN or infinity: give 0 where a strategy is flat.")
    if n_blocks % 2 or not 2 <= n_blocks <= MAX_BLOCKS:
        raise ValueError(f"n_blocks must be even and 2 to {MAX_BLOCKS}, found {n_blocks}.")
    if len(returns) < 2 * n_blocks:
        raise ValueError(
            f"{n_blocks} blocks need at least {2 * n_blocks} periods, found {len(returns)}."
        )
