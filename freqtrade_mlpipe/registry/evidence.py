"""What the gates look at."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from freqtrade_mlpipe.config import Task
from freqtrade_mlpipe.metrics import ReturnMoments

_OF_CLASSES = {"class_prior": "class-prior", "last_value": "last-value"}
BASELINES_OF: Mapping[Task, Mapping[str, str]] = {
    "binary": _OF_CLASSES,
    "three_class": _OF_CLASSES,
    "regression": {"mean": "training-mean", "zero": "zero-return"},
}
"""Baselines that a model must beat, and their names in sentences."""


@dataclass(frozen=True)
class BacktestSummary:
    """A freqtrade backtest over one window.

    Attributes
    ----------
    sharpe, sortino, calmar
        Annual, as freqtrade reports them.
    n_trades
        Closed trades.
    max_drawdown
        Largest relative drawdown of the account, a fraction.
    profit_factor
        Gross profit over gross loss.
    profit_total
        Profit over the starting balance, a fraction.
    market_change
        Mean change of the pairs' prices over the window, a fraction.
    start, end
        First and last candle (UTC).
    """

    sharpe: float
    n_trades: int
    max_drawdown: float
    profit_factor: float
    profit_total: float = math.nan
    market_change: float = math.nan
    start: datetime | None = None
    end: datetime | None = None
    sortino: float = math.nan
    calmar: float = math.nan


@dataclass(frozen=True)
class Comparison:
    """Out-of-sample loss of the model and of a baseline, and how likely chance explains the difference.

    Log-loss of probabilities, squared error of a regression.

    `p_value` is one-sided, from a block bootstrap of the loss differences.
    """

    model_loss: float
    baseline_loss: float
    p_value: float


@dataclass(frozen=True)
class Finding:
    """The outcome of an examination that has no figure: whether it passed, and what it found."""

    passed: bool
    sentence: str


@dataclass(frozen=True)
class Evidence:
    """Everything the gates look at. What is None or missing was not measured, and fails its gate.

    Attributes
    ----------
    task
        What the model was trained for; it decides which baselines count, and that a regression has
        no probabilities to calibrate.
    metrics
        Out-of-sample metrics by name.
    baselines
        Comparisons by baseline, those of `BASELINES_OF` the task.
    oos_returns
        Moments of the signals' net-of-fee returns over the out-of-sample periods (0 when flat).
    n_trials
        Every trial that was tried for this model, failed ones too.
    trial_sharpe_variance
        Variance of the trials' Sharpe ratios per period; NaN: not known.
    backtest
        freqtrade's backtest over the final window.
    champion
        The production version's backtest over the same window.
    champion_version
        Its number; None: nothing is in production.
    trained_until
        The last candle the candidate has seen (UTC).
    calibration_error
        Expected calibration error out of sample.
    self_test
        Whether the stored bundle reproduces its features and probabilities.
    causality
        Whether no feature looks ahead.
    max_drift
        Largest population stability index of a feature, training against now.
    window_uses
        How often versions of this model were judged on the backtest's window or a part of it,
        this time included.
    """

    task: Task = "binary"
    metrics: Mapping[str, float] = field(default_factory=dict)
    baselines: Mapping[str, Comparison] = field(default_factory=dict)
    oos_returns: ReturnMoments | None = None
    n_trials: int | None = None
    trial_sharpe_variance: float = math.nan
    backtest: BacktestSummary | None = None
    champion: BacktestSummary | None = None
    champion_version: str | None = None
    trained_until: datetime | None = None
    calibration_error: float | None = None
    self_test: Finding | None = None
    causality: Finding | None = None
    max_drift: float | None = None
    window_uses: int | None = None


def evidence_from_metrics(metrics: Mapping[str, float]) -> Evidence:
    """Evidence for users who measured for themselves.

    A backtest is read from `backtest_sharpe`, `backtest_trades`, `backtest_max_drawdown`,
    `backtest_profit_factor`, `backtest_profit_total` and `backtest_market_change`.
    """

    def figure(name: str) -> float:
        return float(metrics.get(f"backtest_{name}", math.nan))

    backtest = BacktestSummary(
        sharpe=figure("sharpe"),
        n_trades=int(figure("trades")) if math.isfinite(figure("trades")) else -1,
        max_drawdown=figure("max_drawdown"),
        profit_factor=figure("profit_factor"),
        profit_total=figure("profit_total"),
        market_change=figure("market_change"),
    )
    return Evidence(metrics=metrics, backtest=backtest)
