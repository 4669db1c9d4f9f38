"""Thresholds and scores of one fold, and the Sharpe ratio of a trial."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from freqtrade_mlpipe.config import CLASSES, Task
from freqtrade_mlpipe.member import SideThresholds, Signs, Thresholds
from freqtrade_mlpipe.metrics import (
    choose_threshold,
    classification_scores,
    expected_profit,
    sharpe_ratio,
    strategy_returns,
    three_class_scores,
    value_scores,
)
from freqtrade_mlpipe.tuning.data import Floats, Ints, TrainingData

NEEDS_RETURNS = frozenset({"expected_profit", "sharpe"})
"""Metrics that cannot be computed without forward returns."""


@dataclass(frozen=True, eq=False)
class FoldOutcome:
    """Out-of-sample probabilities and trades (1 long, -1 short, 0 none) of one fold, and their score by each metric."""

    rows: Ints
    proba: Floats
    position: Signs
    scores: Mapping[str, float]


@dataclass(frozen=True)
class _Limits:
    n_errors: float
    max_fraction: float


def choose_thresholds(
    proba: Floats,
    y: Floats,
    forward_return: Floats | None,
    *,
    round_trip_cost: float,
    horizon_candles: int,
    short_return: Floats | None = None,
    task: Task = "binary",
    n_errors: float = 1.0,
    max_fraction: float = 0.5,
) -> Thresholds | SideThresholds:
    """Where to enter and leave, from calibrated probabilities of rows the model has not seen.

    With forward returns by profit net of fees (`metrics.choose_threshold`), otherwise where F1 of
    class 1 is largest; then everything below the entry leaves. Of three classes (probabilities of
    shape (n, 3)) each side has its own threshold, chosen in the same way by its own returns. Of a
    regression `proba` holds predicted returns, and forward returns are needed. `n_errors` and
    `max_fraction` are those of `metrics.choose_threshold`; without returns they are not used.
    """
    limits = _Limits(n_errors, max_fraction)
    if task != "three_class":
        return _thresholds(proba, y, forward_return, round_trip_cost, horizon_candles, task, limits)
    long, short = (
        _thresholds(
            proba[:, CLASSES.index(side)],
            (y == side).astype(np.float64),
            gross,
            round_trip_cost,
            horizon_candles,
            task,
            limits,
        )
        for side, gross in ((1.0, forward_return), (-1.0, short_return))
    )
    return SideThresholds(long.enter, short.enter)


def _thresholds(
    proba: Floats,
    y: Floats,
    forward_return: Floats | None,
    round_trip_cost: float,
    horizon_candles: int,
    task: Task,
    limits: _Limits,
) -> Thresholds:
    if forward_return is None:
        enter = _best_f1(proba, y)
        return Thresholds(enter=enter, exit=float(np.nextafter(enter, -np.inf)))
    choice = choose_threshold(
        proba,
        forward_return - round_trip_cost,
        round_trip_cost=round_trip_cost,
        horizon_candles=horizon_candles,
        logit=task != "regression",
        n_errors=limits.n_errors,
        max_fraction=limits.max_fraction,
    )
    return Thresholds(enter=choice.enter, exit=choice.exit)


def _best_f1(proba: Floats, y: Floats) -> float:
    """Threshold half-way between the last row selected and the first one not."""
    order = np.argsort(-proba, kind="stable")
    p, hits = proba[order], np.cumsum(y[order])
    ends = np.flatnonzero(np.r_[p[1:] != p[:-1], True])
    f1 = 2 * hits[ends] / (ends + 1 + hits[-1])
    last = int(ends[int(np.argmax(f1))])
    if last + 1 == len(p):
        return float(p[last])
    middle = float(0.5 * (p[last] + p[last + 1]))
    return middle if middle > p[last + 1] else float(p[last])


def score(metric: str, data: TrainingData, rows: Ints, proba: Floats, position: Signs) -> float:
    """Score of out-of-sample probabilities and trades on some rows, each counted once."""
    if metric == "expected_profit":
        return expected_profit(
            position != 0, traded_returns(data, rows, position), data.round_trip_cost
        )
    if metric == "sharpe":
        return sharpe_ratio(portfolio_returns(data, rows, position))
    if data.task == "regression":
        return value_scores(data.y[rows], proba)[metric]
    if data.task == "three_class":
        return three_class_scores(data.y[rows], proba, position)[metric]
    if metric in ("log_loss", "brier", "roc_auc"):
        return classification_scores(data.y[rows], proba)[metric]
    return classification_scores(data.y[rows], position.astype(np.float64))[metric]


def traded_returns(data: TrainingData, rows: Ints, position: Signs) -> Floats:
    """Gross return of the trade on each row: a short one where `position` is -1, else a long one."""
    longs, shorts = data.returns_of(rows), data.shorts_of(rows)
    if longs is None or shorts is None:
        raise ValueError("Returns of trades need forward returns.")
    return np.where(position == -1, shorts, longs)


def portfolio_returns(data: TrainingData, rows: Ints, position: Signs) -> Floats:
    """Net return of each candle when trades follow the signal; a trade ends when its label does."""
    returns = traded_returns(data, rows, position)
    dates = data.dates[rows]
    known = data.known_at[rows].asi8
    ends = np.maximum(known, dates.asi8 + data.candle.as_unit("ns").value)
    booked = strategy_returns(
        dates,
        data.pairs[rows],
        position != 0,
        returns,
        data.round_trip_cost,
        data.horizon_candles,
        exit_dates=pd.DatetimeIndex(ends, tz="UTC"),
        candle=data.candle,
    )
    return np.asarray(booked, dtype=np.float64)


def pooled_sharpe(data: TrainingData, outcomes: Sequence[FoldOutcome]) -> float:
    """Sharpe ratio per candle of a trial's out-of-sample trades; NaN without forward returns.

    A row tested in several folds counts in the first.
    """
    if data.forward_return is None:
        return math.nan
    rows = np.concatenate([outcome.rows for outcome in outcomes])
    position = np.concatenate([outcome.position for outcome in outcomes])
    unique, first = np.unique(rows, return_index=True)
    return sharpe_ratio(portfolio_returns(data, unique, position[first]))
