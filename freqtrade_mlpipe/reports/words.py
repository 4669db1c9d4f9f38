"""What the figures of a version say, in sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping

from freqtrade_mlpipe.config import Task
from freqtrade_mlpipe.metrics import LOSS_METRICS
from freqtrade_mlpipe.registry import ModelStatus, ModelVersion
from freqtrade_mlpipe.registry.facts import BacktestFacts, TrainingFacts
from freqtrade_mlpipe.reports.blocks import day, moved, number, percent
from freqtrade_mlpipe.reports.data import BASELINES
from freqtrade_mlpipe.trainer import BASELINE_METRICS


def verdict_of(
    version: ModelVersion, training: TrainingFacts | None, backtest: BacktestFacts | None
) -> list[str]:
    """What was decided and why, how good the predictions are, and what the backtest earned."""
    task = training.task if training else "binary"
    found = [_decision(version), _skill(version.metrics, task), _earned(backtest)]
    if training is None:
        found.append("Nothing was kept of its training, so most of this page is empty.")
    return [sentence for sentence in found if sentence]


def _decision(version: ModelVersion) -> str:
    name, report = f"Version {version.version}", version.report
    if report is None and version.status == ModelStatus.PRODUCTION:
        return f"{name} is in production though no gate was run on it: it was promoted by force."
    if report is None:
        return f"{name} has not been validated: nothing is known of it but what training measured."
    n = len(report.checks)
    if report.passed:
        what = "is in production" if version.status == ModelStatus.PRODUCTION else "may serve"
        return (
            f"{name} passed all {n} gates and {what}. That says it beat honest baselines on candles it had never "
            "seen, not that it will earn money."
        )
    forced = (
        " It is in production all the same, promoted by force."
        if version.status == ModelStatus.PRODUCTION
        else ""
    )
    reasons = " ".join(check.sentence for check in report.failures)
    return f"{name} was refused by {len(report.failures)} of {n} gates.{forced} {reasons}"


def _skill(metrics: Mapping[str, float], task: Task) -> str:
    name, rule = BASELINES[task]
    words = LOSS_METRICS[task].replace("_", "-" if task != "regression" else " ")
    loss = metrics.get(LOSS_METRICS[task], math.nan)
    base = metrics.get(BASELINE_METRICS[name], math.nan)
    if not (math.isfinite(loss) and math.isfinite(base) and base > 0):
        return ""
    gain = (base - loss) / base
    chance = metrics.get(f"p_value_{name}", math.nan)
    text = (
        f"Out of sample its {words} is {number(loss)} where always saying {rule} scores "
        f"{number(base)}: {percent(abs(gain))} {'better' if gain >= 0 else 'worse'}"
    )
    if gain >= 0 and math.isfinite(chance):
        return f"{text} (block bootstrap, p = {chance:.2g})."
    return f"{text}."


def _earned(backtest: BacktestFacts | None) -> str:
    if backtest is None:
        return ""
    profit = backtest.summary.get("profit_total")
    market, trades = backtest.summary.get("market_change"), backtest.summary.get("n_trades")
    if not isinstance(profit, float | int):
        return ""
    text = f"On the final window, {day(backtest.start)} to {day(backtest.end)}, "
    if not trades:
        return f"{text}freqtrade's backtest made no trade."
    text += f"freqtrade's backtest {moved(float(profit))} in {number(trades)} trades, net of fees"
    if isinstance(market, float | int):
        text += f"; buying and holding the same pairs {moved(float(market))}"
    return f"{text}."
