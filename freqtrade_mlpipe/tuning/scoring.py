"""Thresholds and scores of one fold, and the Sharpe ratio of a trial."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from freqtrade_mlpipe.member import Thresholds
from freqtrade_mlpipe.metrics import (
    choose_threshold,
    classification_scores,
    expected_profit,
    sharpe_ratio,
    strategy_returns,
)
from freqtrade_mlpipe.tuning.data import Floats, Ints, TrainingData

NEEDS_RETURNS = frozenset({"expected_profit", "sharpe"})
"""Metrics that cannot be computed without forward returns."""


@dataclass(frozen=True, eq=False)
class FoldOutcome:
    """Out-of-sample probabilities of one fold and their score by each metric."""

    rows: Ints
    proba: Floats
    enter: NDArray[np.bool_]
    scores: Mapping[str, float]


def choose_thresholds(
    proba: Floats,
    y: Floats,
    forward_return: Floats | None,
    *,
    round_trip_cost: float,
    horizon_candles: int,
) -> Thresholds:
    """Where to enter and leave, from calibrated probabilities of rows the model has not seen.

    With forward returns by profit net of fees (`metrics.choose_threshold`), otherwise where F1 of
    class 1 is largest; then everything below the entry leaves.
    """
    if forward_return is None:
        enter = _best_f1(proba, y)
        return Thresholds(enter=enter, exit=float(np.nextafter(enter, -np.inf)))
    choice = choose_threshold(
        proba,
        forward_return - round_trip_cost,
        round_trip_cost=round_trip_cost,
        horizon_candles=horizon_candles,
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


def score(
    metric: str, data: TrainingData, rows: Ints, proba: Floats, enter: NDArray[np.bool_]
) -> float:
    """Score of out-of-sample probabilities and decisions on some rows, each counted once."""
    if metric in NEEDS_RETURNS:
        returns = data.returns_of(rows)
        if returns is None:
            raise ValueError(f"{metric} needs forward returns.")
        if metric == "expected_profit":
            return expected_profit(enter, returns, data.round_trip_cost)
        return sharpe_ratio(portfolio_returns(data, rows, enter))
    if metric in ("log_loss", "brier", "roc_auc"):
        return classification_scores(data.y[rows], proba)[metric]
    return classification_scores(data.y[rows], enter.astype(np.float64))[metric]


def portfolio_returns(data: TrainingData, rows: Ints, enter: NDArray[np.bool_]) -> Floats:
    """Net return of each candle when entries follow the signal; a trade ends when its label does."""
    returns = data.returns_of(rows)
    if returns is None:
        raise ValueError("Portfolio returns need forward returns.")
    dates = data.dates[rows]
    known = data.known_at[rows].asi8
    ends = np.maximum(known, dates.asi8 + data.candle.as_unit("ns").value)
    booked = strategy_returns(
        dates,
        data.pairs[rows],
        enter,
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
    enter = np.concatenate([outcome.enter for outcome in outcomes])
    unique, first = np.unique(rows, return_index=True)
    return sharpe_ratio(portfolio_returns(data, unique, enter[first]))
