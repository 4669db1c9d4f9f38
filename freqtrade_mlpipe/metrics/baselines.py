"""Forecasts that need no model: what a trained one must beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def last_known_outcome(
    y: ArrayLike,
    dates: pd.DatetimeIndex,
    known_at: pd.DatetimeIndex,
    pairs: ArrayLike | None = None,
) -> Floats:
    """For each row the outcome of the latest row of its pair that is known at this row's close.

    Parameters
    ----------
    y : array-like of shape (n,)
        Class, e.g. 0 or 1; NaN unknown.
    dates, known_at : DatetimeIndex, shape (n,)
        Date of the row, and of the candle at whose close its label is known (NaT unknown).
    pairs : array-like of shape (n,), optional
        Pair of each row; None: one pair.

    Returns
    -------
    ndarray of float64, shape (n,)
        NaN where no outcome is known yet.
    """
    outcome = np.asarray(y, dtype=np.float64)
    date, known = (np.asarray(times.as_unit("ns").asi8) for times in (dates, known_at))
    codes = (
        np.zeros(len(outcome), np.int64) if pairs is None else pd.factorize(np.asarray(pairs))[0]
    )
    last = np.full(len(outcome), np.nan)
    for code in np.unique(codes):
        rows = np.flatnonzero(codes == code)
        source = rows[np.isfinite(outcome[rows]) & (known[rows] != pd.NaT.value)]
        source = source[np.argsort(date[source], kind="stable")]
        by_known = np.argsort(known[source], kind="stable")
        latest = np.maximum.accumulate(by_known) if len(by_known) else by_known
        n_known = np.searchsorted(known[source][by_known], date[rows], side="right")
        has = n_known > 0
        last[rows[has]] = outcome[source[latest[n_known[has] - 1]]]
    return last


def baseline_log_losses(
    y_train: ArrayLike,
    y_test: ArrayLike,
    last_train: ArrayLike | None = None,
    last_test: ArrayLike | None = None,
    classes: Sequence[float] = (0.0, 1.0),
) -> dict[str, Floats]:
    """Log-loss of each test row under forecasts learned from training outcomes alone.

    Parameters
    ----------
    y_train, y_test : array-like of shape (n_train,), (n_test,)
        Of the `classes`.
    last_train, last_test : array-like of the same shapes, optional
        `last_known_outcome` of those rows.
    classes : sequence of float, default (0, 1)
        Ascending labels.

    Returns
    -------
    dict of str to ndarray of shape (n_test,)
        ``class_prior``: the training frequencies of the classes. ``last_value`` (where the last
        outcomes are given): the training frequencies after the same last outcome; the prior where
        there is none. Frequencies are Laplace-smoothed.
    """
    target = np.asarray(y_train, dtype=np.float64)
    column = np.searchsorted(classes, np.asarray(y_test, dtype=np.float64))
    prior = _frequencies(target, classes)
    losses = {"class_prior": -np.log(prior[column])}
    if last_train is not None and last_test is not None:
        seen, now = np.asarray(last_train), np.asarray(last_test)
        forecast = prior[column]
        for value in classes:
            rows = now == value
            forecast[rows] = _frequencies(target[seen == value], classes)[column[rows]]
        losses["last_value"] = -np.log(forecast)
    return losses


def _frequencies(y: Floats, classes: Sequence[float]) -> Floats:
    counts = np.array([(y == value).sum() for value in classes], dtype=np.float64)
    return np.asarray((counts + 1.0) / (len(y) + len(classes)))
