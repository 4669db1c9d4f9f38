"""Purged k-fold and its combinatorial form: training on both sides of each test block."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
import pandas as pd

from freqtrade_mlpipe.splits.fold import (
    NO_EMBARGO,
    Bools,
    Fold,
    Period,
    Rows,
    check_folds,
    length,
)


@dataclass(frozen=True)
class CombinatorialPurgedKFold:
    """Every choice of `n_test_folds` test blocks among `n_folds` blocks of equal length.

    Each block of a choice is purged and embargoed on its own. Test sets of different folds overlap:
    a row is tested in `n_paths` of them. `test_start` and `test_end` of a fold enclose its blocks.

    Parameters
    ----------
    n_folds, n_test_folds : int
        Blocks, and how many of them a fold tests.
    embargo : Timedelta, default 0
        Gap after each test block, counted from the last known label of the block.

    Notes
    -----
    López de Prado (2018), chapter 12.

    Examples
    --------
    >>> dates = pd.date_range("2024-01-01", periods=12, freq="1h", tz="UTC")
    >>> folds = CombinatorialPurgedKFold(4, 2).split(dates, known_at=dates + pd.Timedelta("1h"))
    >>> len(folds), folds[1].test.tolist(), folds[1].train.tolist()
    (6, [0, 1, 2, 6, 7, 8], [4, 10, 11])
    """

    n_folds: int
    n_test_folds: int = 2
    embargo: pd.Timedelta = NO_EMBARGO

    def __post_init__(self) -> None:
        check_folds(self.n_folds, self.embargo, at_least=2)
        if not 1 <= self.n_test_folds < self.n_folds:
            raise ValueError(
                f"n_test_folds must be at least 1 and less than n_folds={self.n_folds}, "
                f"found {self.n_test_folds}."
            )

    @property
    def n_paths(self) -> int:
        """Complete out-of-sample paths that the folds join to; tests of each row."""
        return comb(self.n_folds - 1, self.n_test_folds - 1)

    def split(self, dates: pd.DatetimeIndex, known_at: pd.DatetimeIndex) -> list[Fold]:
        """Folds ordered by their test blocks.

        Parameters
        ----------
        dates, known_at : DatetimeIndex, shape (n,)
            Date of each row, and of the candle at whose close its label is known; any row order.

        Raises
        ------
        TrainingError
            When a fold would have no training or no test rows.
        """
        rows = Rows.of(dates, known_at)
        blocks = rows.periods(self.n_folds, skip=0.0)
        tested = [rows.inside(block) for block in blocks]
        allowed = [_clear_of(rows, block, length(self.embargo)) for block in blocks]
        folds = []
        for number, chosen in enumerate(combinations(range(self.n_folds), self.n_test_folds), 1):
            test = np.logical_or.reduce([tested[block] for block in chosen])
            train = np.logical_and.reduce([allowed[block] for block in chosen])
            span = Period(blocks[chosen[0]].start, blocks[chosen[-1]].stop)
            folds.append(rows.fold(train, test, span, number))
        return folds


@dataclass(frozen=True)
class PurgedKFold:
    """Each of `n_folds` blocks of equal length is tested once, training on both sides of it.

    Parameters
    ----------
    n_folds : int
        Number of blocks.
    embargo : Timedelta, default 0
        Gap after the test block, counted from the last known label of the block.
    """

    n_folds: int
    embargo: pd.Timedelta = NO_EMBARGO

    def __post_init__(self) -> None:
        check_folds(self.n_folds, self.embargo, at_least=2)

    def split(self, dates: pd.DatetimeIndex, known_at: pd.DatetimeIndex) -> list[Fold]:
        """Folds in chronological order; the test sets are disjoint and cover every row.

        Parameters
        ----------
        dates, known_at : DatetimeIndex, shape (n,)
            Date of each row, and of the candle at whose close its label is known; any row order.

        Raises
        ------
        TrainingError
            When a fold would have no training or no test rows.
        """
        return CombinatorialPurgedKFold(self.n_folds, 1, self.embargo).split(dates, known_at)


def _clear_of(rows: Rows, block: Period, embargo: int) -> Bools:
    """Rows whose labels end before the block, or begin after its last label and the embargo."""
    last_known = int(rows.known[rows.inside(block)].max())
    before: Bools = rows.known < block.start
    return before | (rows.date > last_known + embargo)
