"""What an epoch is judged by: one of the trainer's metrics, or anything else that gives a loss."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from freqtrade_mlpipe.config import MLPipeConfig, OptimizationMetric, direction_of
from freqtrade_mlpipe.exceptions import ConfigError
from freqtrade_mlpipe.metrics import sharpe_ratio, trades_taken
from freqtrade_mlpipe.retraining.epochs import MAX_LOSS, Judgement
from freqtrade_mlpipe.retraining.rehearsal import Rehearsed
from freqtrade_mlpipe.tuning import portfolio_returns, traded_returns
from freqtrade_mlpipe.tuning.scoring import score

OF_MONEY = ("sharpe", "expected_profit")
"""Metrics that mean the same under every label."""


class Objective(Protocol):
    """Judges the out-of-sample answers of a configuration."""

    @property
    def name(self) -> str:
        """What the user asked for."""

    def judge(self, rehearsed: Rehearsed) -> Judgement:
        """The loss, and figures of the trades."""


@dataclass(frozen=True)
class MetricObjective:
    """The mean of a metric over the folds, as the trainer's search has it; fewer trades than `min_trades` are bad.

    The figures of its trades are of equal stakes, each held until its label ends.
    """

    metric: OptimizationMetric
    min_trades: int

    @property
    def name(self) -> str:
        """The metric."""
        return self.metric

    def check(self, config: MLPipeConfig, spaces: tuple[str, ...]) -> None:
        """Refuse a metric that could not tell epochs apart.

        Raises
        ------
        ConfigError
            For a metric of another task, or one that depends on the labels where they are searched.
        """
        asked = {"optimization_metric": self.metric, "optimization_metrics": ()}
        config.model.model_copy(update={**asked, "optimize_hyperparams": True}).check_task(
            config.labels.task
        )
        if "labels" in spaces and self.metric not in OF_MONEY:
            raise ConfigError(
                f"{self.metric} of different labels cannot be compared: leave `labels` out of --spaces, or judge by "
                f"--metric {' or '.join(OF_MONEY)}, or by a --hyperopt-loss such as SharpeHyperOptLossDaily."
            )

    def judge(self, rehearsed: Rehearsed) -> Judgement:
        """The loss, and figures of the trades."""
        data, scores = rehearsed.data, []
        for answer in rehearsed.answers:
            rows = answer.fold.test
            scores.append(score(self.metric, data, rows, answer.proba, answer.position))
        found = float(np.mean(scores))
        figures, sharpe = trade_figures(rehearsed), sharpe_per_candle(rehearsed)
        if not math.isfinite(found):
            return Judgement(MAX_LOSS, sharpe, figures, f"{self.metric} is not defined")
        if figures["total_trades"] < self.min_trades:
            return Judgement(MAX_LOSS, sharpe, figures)
        loss = -found if direction_of(self.metric) == "maximize" else found
        return Judgement(loss, sharpe, figures)


def sharpe_per_candle(rehearsed: Rehearsed) -> float:
    """Sharpe ratio per candle of the out-of-sample trades, net of fees; NaN where there are no returns."""
    if rehearsed.data.forward_return is None:
        return math.nan
    return sharpe_ratio(portfolio_returns(rehearsed.data, rehearsed.rows, rehearsed.position))


def trade_figures(rehearsed: Rehearsed) -> dict[str, Any]:
    """Figures of the trades that signals lead to, named as freqtrade names them.

    Profits are counted in stakes, all equal; the drawdown is that of the sum of the pairs' net returns, a fraction of
    the capital that is split over the pairs.
    """
    data, rows, position = rehearsed.data, rehearsed.rows, rehearsed.position
    dates, ends = data.dates[rows], data.known_at[rows]
    ends = pd.DatetimeIndex(np.maximum(ends.asi8, (dates + data.candle).asi8), tz="UTC")
    gross = traded_returns(data, rows, position)
    taken = trades_taken(dates, data.pairs[rows], (position != 0) & np.isfinite(gross), ends)
    net = gross[taken] - data.round_trip_cost
    held = pd.Timedelta((ends[taken] - dates[taken]).mean()) if len(taken) else pd.Timedelta(0)
    short = position[taken] == -1
    account = np.cumsum(portfolio_returns(data, rows, position))
    drawdown = float((np.maximum.accumulate(np.maximum(account, 0)) - account).max())
    return {
        "stake_currency": "stakes",
        "total_trades": len(taken),
        "trade_count_long": int((~short).sum()),
        "trade_count_short": int(short.sum()),
        "wins": int((net > 0).sum()),
        "draws": int((net == 0).sum()),
        "losses": int((net < 0).sum()),
        "profit_mean": float(net.mean()) if len(net) else 0.0,
        "profit_median": float(np.median(net)) if len(net) else 0.0,
        "profit_total": float(net.sum()),
        "profit_total_abs": float(net.sum()),
        "holding_avg": str(held.floor("s").to_pytimedelta()),
        "holding_avg_s": held.total_seconds(),
        "max_drawdown_abs": drawdown,
        "max_drawdown_account": drawdown,
    }
