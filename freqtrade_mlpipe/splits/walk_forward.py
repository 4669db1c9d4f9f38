"""Purged walk-forward: train on the past, test on what follows."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from freqtrade_mlpipe.splits.fold import NO_EMBARGO, Fold, Rows, check_folds, length


@dataclass(frozen=True)
class PurgedWalkForward:
    """Train on the past, test on the period that follows, step forward.

    Parameters
    ----------
    n_folds : int
        Test periods of equal length that fill the time after the first training period.
    embargo : Timedelta, default 0
        Gap, beyond the purge, between the last known training label and the test period: the time
        that training takes.
    min_train_fraction : float, default 0.3
        Share of the time span before the first test period.
    max_train : Timedelta, optional
        Longest training window (sliding), ending where the embargo begins; None: expanding.

    Examples
    --------
    >>> dates = pd.date_range("2024-01-01", periods=10, freq="1h", tz="UTC")
    >>> splitter = PurgedWalkForward(2, min_train_fraction=0.4)
    >>> folds = splitter.split(dates, known_at=dates + pd.Timedelta("2h"))
    >>> [(fold.train.tolist(), fold.test.tolist()) for fold in folds]
    [([0, 1], [4, 5, 6]), ([0, 1, 2, 3, 4], [7, 8, 9])]
    """

    n_folds: int
    embargo: pd.Timedelta = NO_EMBARGO
    min_train_fraction: float = 0.3
    max_train: pd.Timedelta | None = None

    def __post_init__(self) -> None:
        check_folds(self.n_folds, self.embargo, at_least=1)
        if not 0 < self.min_train_fraction < 1:
            raise ValueError(
                f"min_train_fraction must be between 0 and 1, found {self.min_train_fraction}."
            )
        if self.max_train is not None and self.max_train <= pd.Timedelta(0):
            raise ValueError(f"max_train must be positive, found {self.max_train}.")

    def split(self, dates: pd.DatetimeIndex, known_at: pd.DatetimeIndex) -> list[Fold]:
        """Folds in chronological order; the test sets are disjoint and adjacent.

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
        folds = []
        periods = rows.periods(self.n_folds, skip=self.min_train_fraction)
        for number, period in enumerate(periods, 1):
            deadline = period.start - length(self.embargo)
            train = rows.known < deadline
            if self.max_train is not None:
                train &= rows.date >= deadline - length(self.max_train)
            folds.append(rows.fold(train, rows.inside(period), period, number))
        return folds
