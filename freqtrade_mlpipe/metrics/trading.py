"""What a rule would have earned, net of fees, on out-of-sample rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def strategy_returns(
    dates: pd.DatetimeIndex,
    pairs: ArrayLike | None,
    enter_mask: ArrayLike,
    forward_return: ArrayLike,
    round_trip_cost: float,
    horizon_candles: int,
    *,
    exit_dates: pd.DatetimeIndex | None = None,
    candle: pd.Timedelta | None = None,
) -> pd.Series[float]:
    """Net return of the portfolio in each candle when entries follow a signal.

    A pair that is flat at a signalled row enters and holds until the trade's exit; signals in
    between are not traded, so no return is counted twice. The whole net return is booked at the
    exit candle: spread over the holding time it would smooth the series and inflate its Sharpe
    ratio.

    Parameters
    ----------
    dates : DatetimeIndex, shape (n,)
        Date of each out-of-sample row; any row order.
    pairs : array-like of shape (n,), optional
        Pair of each row; capital is split equally over them. None: one pair.
    enter_mask : array-like of bool, shape (n,)
        Rows that signal an entry.
    forward_return : array-like of shape (n,)
        Gross return of a trade on the row's signal; a row where it is NaN is not entered.
    round_trip_cost : float
        Fees of entry and exit as a fraction of the stake.
    horizon_candles : int
        Holding time, where `exit_dates` are not given.
    exit_dates : DatetimeIndex, shape (n,), optional
        Date of the candle at whose close the trade ends (`Labels.known_at`, for barriers).
    candle : Timedelta, optional
        Length of a candle; None: the smallest distance between dates.

    Returns
    -------
    Series of float64
        One value for each candle from the first to the last date (fraction of capital, not
        compounded), 0 when flat. Trades that end later are booked at the last date.

    Raises
    ------
    ValueError
        For no rows, unequal lengths, or exits that do not follow their entry.

    Examples
    --------
    >>> dates = pd.date_range("2024-01-01", periods=5, freq="1h", tz="UTC")
    >>> signal, gain = [True, True, True, False, False], [0.02, 0.5, 0.04, 0.0, 0.0]
    >>> strategy_returns(dates, None, signal, gain, 0.01, horizon_candles=2).tolist()
    [0.0, 0.0, 0.01, 0.0, 0.03]
    """
    index = pd.DatetimeIndex(dates)
    enter, gross = np.asarray(enter_mask, dtype=np.bool_), np.asarray(forward_return, dtype=float)
    codes, n_pairs = _pair_codes(pairs, len(index))
    if not len(index) or not len(index) == len(enter) == len(gross) == len(codes):
        raise ValueError(
            "dates, pairs, enter_mask and forward_return must be of one length > 0, found "
            f"{len(index)}, {len(codes)}, {len(enter)} and {len(gross)}."
        )
    start = _nanoseconds(index)
    step = _candle(start, candle)
    end = start + horizon_candles * step if exit_dates is None else _nanoseconds(exit_dates)
    tradable = enter & np.isfinite(gross)
    if len(end) != len(start) or (end[tradable] <= start[tradable]).any():
        raise ValueError("Every trade must end after its own candle, at a known date.")

    first = int(start.min())
    booked = np.zeros((int(start.max()) - first) // step + 1)
    trades = _taken(start, end, codes, tradable)
    slots = np.minimum((end[trades] - first) // step, len(booked) - 1)
    np.add.at(booked, slots, (gross[trades] - round_trip_cost) / n_pairs)
    grid = pd.DatetimeIndex((first + np.arange(len(booked)) * step).view("M8[ns]"), tz="UTC")
    return pd.Series(booked, index=grid.tz_convert(index.tz), name="return")


def trades_taken(
    dates: pd.DatetimeIndex,
    pairs: ArrayLike,
    enter_mask: ArrayLike,
    exit_dates: pd.DatetimeIndex,
) -> Ints:
    """Positions of the rows on which `strategy_returns` enters: signalled while their pair is flat.

    Parameters
    ----------
    dates, exit_dates : DatetimeIndex, shape (n,)
        Of each row, and of the candle at whose close its trade ends.
    pairs : array-like of shape (n,)
    enter_mask : array-like of bool, shape (n,)

    Examples
    --------
    >>> dates = pd.date_range("2024-01-01", periods=4, freq="1h", tz="UTC")
    >>> trades_taken(dates, ["A"] * 4, [True] * 4, dates + pd.Timedelta("2h")).tolist()
    [0, 2]
    """
    codes, _ = _pair_codes(pairs, len(dates))
    enter = np.asarray(enter_mask, dtype=np.bool_)
    return _taken(_nanoseconds(dates), _nanoseconds(exit_dates), codes, enter)


def expected_profit(
    enter_mask: ArrayLike, forward_return: ArrayLike, round_trip_cost: float
) -> float:
    """Mean net return of a trade on each signalled row, as a fraction; 0.0 without any.

    Parameters
    ----------
    enter_mask : array-like of bool, shape (n,)
    forward_return : array-like of shape (n,)
        Gross; rows where it is NaN are left out.
    round_trip_cost : float
        Fees of entry and exit as a fraction of the stake.

    Examples
    --------
    >>> expected_profit([True, False, True], [0.03, 0.5, 0.01], 0.0025)
    0.0175
    """
    gross = np.asarray(forward_return, dtype=np.float64)
    chosen = gross[np.asarray(enter_mask, dtype=np.bool_) & np.isfinite(gross)]
    return float(chosen.mean() - round_trip_cost) if len(chosen) else 0.0


def _taken(start: Ints, end: Ints, codes: Ints, enter: NDArray[np.bool_]) -> Ints:
    """Positions of the trades taken, pair by pair in order of time."""
    taken = []
    for code in range(int(codes.max(initial=-1)) + 1):
        rows = np.flatnonzero(enter & (codes == code))
        rows = rows[np.argsort(start[rows], kind="stable")]
        taken.append(rows[_while_flat(start[rows], end[rows])])
    return np.concatenate(taken) if taken else np.empty(0, dtype=np.int64)


def _while_flat(start: Ints, end: Ints) -> Ints:
    """Positions of the trades taken when no trade may begin before the last one's exit candle."""
    following = np.searchsorted(start, end, side="left").tolist()
    taken, position = [], 0
    while position < len(following):
        taken.append(position)
        position = following[position]
    return np.asarray(taken, dtype=np.int64)


def _pair_codes(pairs: ArrayLike | None, n: int) -> tuple[Ints, int]:
    if pairs is None:
        return np.zeros(n, dtype=np.int64), 1
    codes, unique = pd.factorize(np.asarray(pairs))
    return codes.astype(np.int64), len(unique)


def _candle(start: Ints, candle: pd.Timedelta | None) -> int:
    if candle is not None:
        return int(candle.as_unit("ns").value)
    unique = np.unique(start)
    return int(np.diff(unique).min()) if len(unique) > 1 else 1


def _nanoseconds(times: pd.DatetimeIndex) -> Ints:
    return np.asarray(pd.DatetimeIndex(times).as_unit("ns").asi8, dtype=np.int64)
