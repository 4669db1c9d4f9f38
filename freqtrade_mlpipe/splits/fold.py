"""One split, and the arithmetic on row times that every splitter shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from freqtrade_mlpipe.exceptions import TrainingError

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

NO_EMBARGO = pd.Timedelta(0)


@dataclass(frozen=True, eq=False)
class Fold:
    """Row positions of one split and the times they cover, in the time zone of the dates (UTC).

    Attributes
    ----------
    train, test : ndarray of int
        Row positions, ascending.
    train_start : Timestamp
        Date of the first training row.
    train_end : Timestamp
        Latest candle that training has seen: the largest `known_at` of its rows (inclusive).
    test_start : Timestamp
        Date of the first test row.
    test_end : Timestamp or None
        Start of the next period (exclusive); None where the data ends.
    """

    train: Ints
    test: Ints
    train_start: pd.Timestamp
    train_end: pd.Timestamp
    test_start: pd.Timestamp
    test_end: pd.Timestamp | None

    def settled(self, known_at: pd.DatetimeIndex) -> Bools:
        """Which test rows' labels are known before the next period begins: what may be learned from this fold by then.

        Parameters
        ----------
        known_at : DatetimeIndex, shape (n,)
            Of all rows, as the splitter was given them.
        """
        if self.test_end is None:
            return np.ones(len(self.test), dtype=np.bool_)
        return np.asarray(known_at[self.test] < self.test_end)


class Splitter(Protocol):
    """Anything that cuts rows into folds by time."""

    @property
    def n_folds(self) -> int:
        """Number of test periods."""
        ...

    def split(self, dates: pd.DatetimeIndex, known_at: pd.DatetimeIndex) -> list[Fold]:
        """Folds in chronological order of their first test date.

        Parameters
        ----------
        dates, known_at : DatetimeIndex, shape (n,)
            Date of each row, and of the candle at whose close its label is known.
        """
        ...


@dataclass(frozen=True)
class Period:
    """A test period in nanoseconds since the epoch: [start, stop), open where stop is None."""

    start: int
    stop: int | None


@dataclass(frozen=True, eq=False)
class Rows:
    """Dates of rows and of the candles that complete their labels, as int64 nanoseconds."""

    date: Ints
    known: Ints
    index: pd.DatetimeIndex

    @classmethod
    def of(cls, dates: pd.DatetimeIndex, known_at: pd.DatetimeIndex) -> Rows:
        """Checked rows.

        Raises
        ------
        TrainingError
            For no rows, rows without a known label, or labels known before their own date.
        """
        dates, known_at = _as_index(dates), _as_index(known_at)
        if len(dates) != len(known_at):
            raise ValueError(
                f"dates and known_at must be of one length, found {len(dates)} and {len(known_at)}."
            )
        if not len(dates):
            raise TrainingError("There are no labelled rows to split. Use more candles.")
        unknown = np.asarray(dates.isna()) | np.asarray(known_at.isna())
        if unknown.any():
            raise TrainingError(
                f"{int(unknown.sum())} of {len(dates)} rows have no date or no known label. "
                "Drop unlabelled rows before splitting."
            )
        date, known = nanoseconds(dates), nanoseconds(known_at)
        if (known < date).any():
            raise TrainingError(
                f"{int((known < date).sum())} labels are known before the date of their own row. "
                "known_at is the date of the candle at whose close the label is known."
            )
        return cls(date, known, dates)

    def periods(self, n_periods: int, *, skip: float) -> list[Period]:
        """`n_periods` periods of equal length after the share `skip` of the time span.

        Starts are moved to the first date at or after them.
        """
        unique = np.unique(self.date)
        if len(unique) <= n_periods:
            raise TrainingError(
                f"{n_periods} test periods need more than {n_periods} different dates, "
                f"found {len(unique)}. Use more candles or fewer folds."
            )
        candle = int(np.diff(unique).min())
        span = int(unique[-1] - unique[0]) + candle
        shares = skip + (1.0 - skip) * np.arange(n_periods) / n_periods
        # A millionth of a candle of slack: 0.4 + 0.6 / 3 must not round up past a candle.
        position = np.searchsorted(unique - unique[0], shares * span - 1e-6 * candle)
        if (np.diff(position) == 0).any() or position[-1] == len(unique):
            raise TrainingError(
                f"At least one of {n_periods} test periods has no rows: {len(unique)} dates from "
                f"{self.index.min()} to {self.index.max()} are too few or leave gaps. Use more "
                "candles or fewer folds, or fill the gaps."
            )
        starts = [int(unique[k]) for k in position]
        stops: list[int | None] = [*starts[1:], None]
        return [Period(start, stop) for start, stop in zip(starts, stops, strict=True)]

    def inside(self, period: Period) -> Bools:
        """Rows whose date lies in the period."""
        mask: Bools = self.date >= period.start
        return mask if period.stop is None else mask & (self.date < period.stop)

    def fold(self, train: Bools, test: Bools, span: Period, number: int) -> Fold:
        """The fold of two row masks; `number` names it in errors."""
        for name, mask in (("training", train), ("test", test)):
            if not mask.any():
                raise TrainingError(
                    f"Fold {number} has no {name} rows after the purge of overlapping labels and "
                    f"the embargo ({len(self.date)} rows from {self.index.min()} to "
                    f"{self.index.max()}). Use more candles, fewer folds, a shorter label horizon, "
                    "a smaller embargo or a longer training window."
                )
        return Fold(
            train=np.flatnonzero(train),
            test=np.flatnonzero(test),
            train_start=self._time(int(self.date[train].min())),
            train_end=self._time(int(self.known[train].max())),
            test_start=self._time(int(self.date[test].min())),
            test_end=None if span.stop is None else self._time(span.stop),
        )

    def _time(self, value: int) -> pd.Timestamp:
        stamp = pd.Timestamp(value, unit="ns", tz="UTC")
        return stamp.tz_convert(self.index.tz)


def _as_index(times: Any) -> pd.DatetimeIndex:
    # The constructor reads an index anew, which takes longer than all that is done with it here.
    return times if isinstance(times, pd.DatetimeIndex) else pd.DatetimeIndex(times)


def nanoseconds(times: pd.DatetimeIndex) -> Ints:
    """Nanoseconds since the epoch, whatever unit pandas keeps the times in."""
    return np.asarray(times.as_unit("ns").asi8, dtype=np.int64)


def length(span: pd.Timedelta) -> int:
    """A length of time in nanoseconds."""
    return int(pd.Timedelta(span).as_unit("ns").value)


def check_folds(n_folds: int, embargo: pd.Timedelta, *, at_least: int) -> None:
    """Raise ValueError for too few folds or a negative embargo."""
    if n_folds < at_least:
        raise ValueError(f"n_folds must be at least {at_least}, found {n_folds}.")
    if embargo < pd.Timedelta(0):
        raise ValueError(f"embargo must not be negative, found {embargo}.")
