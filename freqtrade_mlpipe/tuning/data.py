"""The rows that a model is trained on, already checked and in time order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from freqtrade_mlpipe.config import Task
from freqtrade_mlpipe.splits.fold import nanoseconds

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def take_rows(X: pd.DataFrame, rows: Ints) -> pd.DataFrame:
    """The rows at these positions; consecutive ones are a view."""
    if len(rows) and (np.diff(rows) == 1).all():
        return X.iloc[rows[0] : rows[-1] + 1]
    return X.iloc[rows]


def row_totals(X: pd.DataFrame) -> Floats:
    """Sum of each row, shape (n,): finite where all features are, for no sum of float32 overflows float64.

    NaN where a feature is, or infinities of both signs are.
    """
    return np.asarray(X.to_numpy().sum(axis=1, dtype=np.float64))


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Labelled rows ordered by date, then pair.

    Attributes
    ----------
    X : DataFrame of float32, shape (n, n_features)
        Finite.
    y : ndarray of shape (n,)
        0.0 or 1.0; for the task "three_class" of `config.CLASSES`; for "regression" a log return.
    weight : ndarray of shape (n,)
        Non-negative sample weights, used to fit; scores count every row once.
    dates, known_at : DatetimeIndex of shape (n,), UTC
        Open time of each row's candle, and of the candle at whose close its label is known.
    pairs : ndarray of shape (n,)
        Pair of each row.
    candle : Timedelta
        Length of one candle.
    horizon_candles : int
        Candles until a label is known, typically.
    forward_return : ndarray of shape (n,) or None
        Gross return of a trade entered on the row's signal.
    round_trip_cost : float
        Fees of such a trade, as a fraction of the stake.
    task : {"binary", "three_class", "regression"}
    short_return : ndarray of shape (n,) or None
        Gross return of a short trade; None: the opposite of `forward_return`.
    """

    X: pd.DataFrame
    y: Floats
    weight: Floats
    dates: pd.DatetimeIndex
    known_at: pd.DatetimeIndex
    pairs: NDArray[np.object_]
    candle: pd.Timedelta
    horizon_candles: int
    forward_return: Floats | None = None
    round_trip_cost: float = 0.0
    task: Task = "binary"
    short_return: Floats | None = None

    @cached_property
    def nanoseconds(self) -> tuple[Ints, Ints]:
        """`dates` and `known_at` in nanoseconds since the epoch, each of shape (n,)."""
        return nanoseconds(self.dates), nanoseconds(self.known_at)

    def __len__(self) -> int:
        return len(self.y)

    def returns_of(self, rows: Ints) -> Floats | None:
        """Forward returns of the rows, if there are any."""
        return None if self.forward_return is None else self.forward_return[rows]

    def shorts_of(self, rows: Ints) -> Floats | None:
        """Returns of short trades on the rows, if there are any returns."""
        if self.short_return is not None:
            return self.short_return[rows]
        return None if self.forward_return is None else -self.forward_return[rows]

    def take(self, rows: Ints) -> TrainingData:
        """The same with some of the rows, in the order given."""
        return replace(
            self,
            X=take_rows(self.X, rows),
            y=self.y[rows],
            weight=self.weight[rows],
            dates=self.dates[rows],
            known_at=self.known_at[rows],
            pairs=self.pairs[rows],
            forward_return=self.returns_of(rows),
            short_return=None if self.short_return is None else self.short_return[rows],
        )
