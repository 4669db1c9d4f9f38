"""Chronological slices of a training set: fit, early stopping, calibration."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from freqtrade_mlpipe.exceptions import TrainingError
from freqtrade_mlpipe.splits.fold import NO_EMBARGO, Ints, Rows, length


def tail_slices(
    dates: pd.DatetimeIndex,
    known_at: pd.DatetimeIndex,
    fractions: Sequence[float],
    embargo: pd.Timedelta = NO_EMBARGO,
) -> tuple[Ints, ...]:
    """Chronological slices of the rows, purged against each other.

    Parameters
    ----------
    dates, known_at : DatetimeIndex, shape (n,)
        Date of each row, and of the candle at whose close its label is known; any row order.
    fractions : sequence of float
        Share of the rows in each slice, before the purge; they sum to 1.
    embargo : Timedelta, default 0
        Gap beyond the purge before each later slice.

    Returns
    -------
    tuple of ndarray of int
        Ascending row positions. The labels of a slice are known before the first date of the next;
        the last slice is whole.

    Raises
    ------
    TrainingError
        When a slice would be empty.

    Examples
    --------
    >>> dates = pd.date_range("2024-01-01", periods=8, freq="1h", tz="UTC")
    >>> fit, calibrate = tail_slices(dates, dates + pd.Timedelta("1h"), (0.5, 0.5))
    >>> fit.tolist(), calibrate.tolist()
    ([0, 1, 2], [4, 5, 6, 7])
    """
    rows = Rows.of(dates, known_at)
    return slices_of(rows.date, rows.known, fractions, embargo)


def slices_of(
    date: Ints, known: Ints, fractions: Sequence[float], embargo: pd.Timedelta = NO_EMBARGO
) -> tuple[Ints, ...]:
    """As `tail_slices`, of rows that were checked before; times in nanoseconds since the epoch, shape (n,)."""
    shares = np.asarray(fractions, dtype=np.float64)
    if not len(shares) or (shares <= 0).any() or not math.isclose(shares.sum(), 1.0, rel_tol=1e-5):
        raise ValueError(f"fractions must be positive and sum to 1, found {tuple(fractions)}.")
    ordered = np.sort(date)
    # The slack keeps rounding of a sum such as 0.7 + 0.1 from cutting one row early.
    cuts = np.floor(np.cumsum(shares)[:-1] * len(ordered) + 1e-9).astype(np.int64)
    starts = [int(ordered[0]), *(int(ordered[cut]) for cut in cuts)]
    stops: list[int | None] = [*starts[1:], None]
    slices = []
    for number, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        mask = date >= start
        if stop is not None:
            mask &= (date < stop) & (known < stop - length(embargo))
        if not mask.any():
            raise TrainingError(
                f"Slice {number + 1} of {len(shares)} ({shares[number]:.0%} of {len(ordered)} rows)"
                " has no rows left after the purge of overlapping labels. Use more candles or a "
                "shorter label horizon."
            )
        slices.append(np.flatnonzero(mask))
    return tuple(slices)
