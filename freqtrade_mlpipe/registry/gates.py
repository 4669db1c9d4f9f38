"""The validation gates: a report of named checks, each with value, threshold, verdict and sentence.

A gate that lacks its evidence, or meets NaN, fails. Adding a gate is one function in `model_gates` or
`backtest_gates`, and its line in `GATES`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from freqtrade_mlpipe.config import GateConfig
from freqtrade_mlpipe.registry.backtest_gates import (
    backtest_sharpe,
    backtest_trades,
    champion,
    drawdown,
    market_excess,
    profit_factor,
    untouched_window,
    window_reuse,
)
from freqtrade_mlpipe.registry.evidence import Evidence
from freqtrade_mlpipe.registry.model_gates import (
    baselines,
    calibration,
    causality,
    deflated_sharpe,
    feature_drift,
    metric_minima,
    self_test,
)
from freqtrade_mlpipe.registry.report import Check, GateReport

Gate = Callable[[Evidence, GateConfig], Sequence[Check]]
"""A gate gives its checks; none when the configuration switches it off."""

METRIC_GATES: tuple[Gate, ...] = (
    metric_minima,
    backtest_sharpe,
    backtest_trades,
    profit_factor,
    drawdown,
)
"""Gates that need figures only."""

GATES: tuple[Gate, ...] = (
    metric_minima,
    baselines,
    deflated_sharpe,
    calibration,
    untouched_window,
    window_reuse,
    backtest_sharpe,
    backtest_trades,
    profit_factor,
    drawdown,
    market_excess,
    champion,
    feature_drift,
    self_test,
    causality,
)
"""Every gate, in the order of the report."""


def run_gates(
    evidence: Evidence,
    config: GateConfig,
    now: datetime,
    *,
    digest: str = "",
    gates: Sequence[Gate] | None = None,
) -> GateReport:
    """The report of all gates, or of those given.

    Parameters
    ----------
    now
        The current time, time zone aware.
    digest
        Digest of the bundle that is judged; promotion asks for it.
    """
    window = None
    if evidence.backtest and evidence.backtest.start and evidence.backtest.end:
        window = (evidence.backtest.start, evidence.backtest.end)
    return GateReport(
        checks=tuple(check for gate in gates or GATES for check in gate(evidence, config)),
        digest=digest,
        created_at=now,
        expires_at=now + timedelta(hours=config.max_report_age_hours),
        window=window,
        window_uses=evidence.window_uses,
        champion=evidence.champion_version,
    )
