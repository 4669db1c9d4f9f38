"""The validation gates: a report of named checks, each with value, threshold, verdict and sentence.

A gate that lacks its evidence, or meets NaN, fails. Adding a gate is one function and its line in
`GATES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from freqtrade_mlpipe.config import GateConfig, Task
from freqtrade_mlpipe.metrics import deflated_sharpe_ratio
from freqtrade_mlpipe.registry.evidence import (
    BASELINES_OF,
    BacktestSummary,
    Comparison,
    Evidence,
    Finding,
)
from freqtrade_mlpipe.registry.report import CHAMPION_GATE, Check, GateReport

__all__ = [
    "GATES",
    "METRIC_GATES",
    "BacktestSummary",
    "Comparison",
    "Evidence",
    "Finding",
    "Gate",
    "run_gates",
]

_LOWER_IS_BETTER = ("log_loss", "brier", "calibration_error", "drawdown")


Gate = Callable[[Evidence, GateConfig], Sequence[Check]]
"""A gate gives its checks; none when the configuration switches it off."""


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


def metric_minima(evidence: Evidence, config: GateConfig) -> Sequence[Check]:
    """Each configured out-of-sample metric reaches its minimum."""
    return [
        _metric_minimum(name, evidence.metrics.get(name), limit)
        for name, limit in sorted(config.min_metrics.items())
    ]


def _metric_minimum(name: str, value: float | None, limit: float) -> Check:
    if any(part in name for part in _LOWER_IS_BETTER):
        why = f"{name} is better when lower, so a minimum says nothing; take it out of min_metrics."
        return Check(f"min {name}", value, limit, False, why)
    return _at_least(f"min {name}", name, value, limit)


def baselines(evidence: Evidence, config: GateConfig) -> Sequence[Check]:
    """Out-of-sample loss (log-loss, of a regression squared error) is better than each baseline's, beyond chance."""
    limit = config.max_baseline_p_value
    if limit is None:
        return ()
    return [
        _baseline(name, title, evidence.baselines.get(name), limit, evidence.task)
        for name, title in BASELINES_OF[evidence.task].items()
    ]


def _baseline(name: str, title: str, found: Comparison | None, limit: float, task: Task) -> Check:
    gate = f"beats {name}"
    if found is None or not all(
        map(math.isfinite, (found.model_loss, found.baseline_loss, found.p_value))
    ):
        return _missing(gate, f"the comparison with the {title} baseline", limit)
    passed = found.p_value <= limit and found.model_loss < found.baseline_loss
    loss, digits = ("squared error", ".4g") if task == "regression" else ("log-loss", ".4f")
    return Check(
        gate,
        found.p_value,
        limit,
        passed,
        f"Out-of-sample {loss} {found.model_loss:{digits}} {'beats' if passed else 'does not beat'} "
        f"the {title} baseline {found.baseline_loss:{digits}} (block bootstrap p = {found.p_value:.3g}, "
        f"limit {limit:g}).",
    )


def deflated_sharpe(evidence: Evidence, config: GateConfig) -> Sequence[Check]:
    """The out-of-sample returns are better than the luckiest of as many skill-less trials."""
    limit = config.min_deflated_sharpe
    if limit is None:
        return ()
    gate = "deflated Sharpe"
    moments, variance = evidence.oos_returns, evidence.trial_sharpe_variance
    if moments is None or moments.n_obs < 2:
        return [_missing(gate, "the out-of-sample returns", limit)]
    if not evidence.n_trials or (evidence.n_trials > 1 and not math.isfinite(variance)):
        return [_missing(gate, "the Sharpe ratios of the trials", limit)]
    try:
        value = deflated_sharpe_ratio(
            moments.sharpe,
            moments.n_obs,
            moments.skew,
            moments.kurtosis,
            evidence.n_trials,
            variance,
        )
    except ValueError:  # moments that no returns have
        value = math.nan
    if math.isnan(value):
        return [_missing(gate, "a finite Sharpe ratio of the out-of-sample returns", limit)]
    passed = value >= limit
    return [
        Check(
            gate,
            value,
            limit,
            passed,
            f"The out-of-sample Sharpe ratio is {'' if passed else 'not '}beyond what the best of "
            f"{evidence.n_trials} trials shows by luck: probability {value:.3f}, at least "
            f"{limit:g} wanted.",
        )
    ]


def untouched_window(evidence: Evidence, config: GateConfig) -> Sequence[Check]:
    """The backtest's window begins after everything the model has seen."""
    gate = "untouched window"
    seen = evidence.trained_until
    start = evidence.backtest.start if evidence.backtest else None
    if seen is None or start is None:
        return [_missing(gate, "the window of the backtest or the end of training", None)]
    passed = start > seen
    return [
        Check(
            gate,
            None,
            None,
            passed,
            f"The backtest starts {start:%Y-%m-%d %H:%M}, "
            f"{'after' if passed else 'not after'} the last candle training saw "
            f"({seen:%Y-%m-%d %H:%M} UTC).",
        )
    ]


def window_reuse(evidence: Evidence, config: GateConfig) -> Sequence[Check]:
    """The final window has not chosen among too many versions."""
    limit, uses = config.max_window_uses, evidence.window_uses
    if limit is None:
        return ()
    if uses is None:
        return [_missing("window reuse", "how often the final window was used", limit)]
    text = f"The final window, or a part of it, judged {uses} times, at most {limit} allowed."
    return [Check("window reuse", uses, limit, uses <= limit, text)]


def backtest_sharpe(evidence: Evidence, config: GateConfig) -> Sequence[Check]:
    """The backtest's Sharpe ratio reaches its minimum."""
    value = evidence.backtest.sharpe if evidence.backtest else None
    return _minimum("backtest Sharpe", "Backtest Sharpe ratio", value, config.min_backtest_sharpe)


def backtest_trades(evidence: Evidence, config: GateConfig) -> Sequence[Check]:
    """The backtest made enough trades to say anything."""
    found = evidence.backtest
    value = float(found.n_trades) if found and found.n_trades >= 0 else None
    return _minimum("backtest trades", "Backtest trades", value, config.min_backtest_trades)


def profit_factor(evidence: Evidence, config: GateConfig) -> Sequence[Check]:
    """The backtest's profit factor reaches its minimum."""
    value = evidence.backtest.profit_factor if evidence.backtest else None
    return _minimum("profit factor", "Backtest profit factor", value, config.min_profit_factor)


def drawdown(evidence: Evidence, config: GateConfig) -> Sequence[Check]:
    """The backtest's drawdown stays within its limit."""
    value = evidence.backtest.max_drawdown if evidence.backtest else None
    return _maximum("max drawdown", "Largest drawdown", value, config.max_drawdown)


def market_excess(evidence: Evidence, config: GateConfig) -> Sequence[Check]:
    """The backtest's profit exceeds the market's change by the margin wanted."""
    found = evidence.backtest
    value = found.profit_total - found.market_change if found else None
    return _minimum("vs market", "Profit beyond the market's", value, config.min_market_excess)


def champion(evidence: Evidence, config: GateConfig) -> Sequence[Check]:
    """The backtest's Sharpe ratio is not worse than the production version's on the same window."""
    gate, rival, own = CHAMPION_GATE, evidence.champion, evidence.backtest
    if config.champion_tolerance is None:
        return ()
    if rival is None and evidence.champion_version is not None:
        return [
            _missing(
                gate, f"the backtest of the champion, version {evidence.champion_version}", None
            )
        ]
    if rival is None:
        return [Check(gate, None, None, True, "Nothing is in production: no champion to beat.")]
    limit = rival.sharpe - config.champion_tolerance
    if own is None or not math.isfinite(own.sharpe) or not math.isfinite(rival.sharpe):
        return [_missing(gate, "a finite Sharpe ratio of both backtests", limit)]
    if own.start is None or (own.start, own.end) != (rival.start, rival.end):
        return [_missing(gate, "the champion's backtest on the same window", limit)]
    passed = own.sharpe >= limit
    return [
        Check(
            gate,
            own.sharpe,
            limit,
            passed,
            f"Backtest Sharpe ratio {own.sharpe:.3g} against the champion's {rival.sharpe:.3g} on "
            f"the same window, at least {limit:.3g} wanted.",
        )
    ]


def calibration(evidence: Evidence, config: GateConfig) -> Sequence[Check]:
    """The probabilities mean what they say; a regression has none."""
    if evidence.task == "regression":
        return ()
    return _maximum(
        "calibration error",
        "Expected calibration error out of sample",
        evidence.calibration_error,
        config.max_calibration_error,
    )


def feature_drift(evidence: Evidence, config: GateConfig) -> Sequence[Check]:
    """No feature's distribution moved too far since training."""
    return _maximum(
        "feature drift",
        "Largest population stability index of a feature",
        evidence.max_drift,
        config.max_feature_drift,
    )


def self_test(evidence: Evidence, config: GateConfig) -> Sequence[Check]:
    """The stored bundle reproduces its features and probabilities."""
    return [_finding("self-test", "the bundle's self-test", evidence.self_test)]


def causality(evidence: Evidence, config: GateConfig) -> Sequence[Check]:
    """No feature changes when later candles are taken away."""
    return [_finding("causality", "the causality audit of the features", evidence.causality)]


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


def _minimum(gate: str, what: str, value: float | None, limit: float | None) -> Sequence[Check]:
    return () if limit is None else [_at_least(gate, what, value, limit)]


def _maximum(gate: str, what: str, value: float | None, limit: float | None) -> Sequence[Check]:
    if limit is None:
        return ()
    if value is None or math.isnan(value):
        return [_missing(gate, what, limit)]
    text = f"{what} {value:.4g}, at most {limit:g} allowed."
    return [Check(gate, value, limit, value <= limit, text)]


def _at_least(gate: str, what: str, value: float | None, limit: float) -> Check:
    if value is None or math.isnan(value):
        return _missing(gate, what, limit)
    text = f"{what} {value:.4g}, at least {limit:g} wanted."
    return Check(gate, value, float(limit), value >= limit, text)


def _missing(gate: str, what: str, limit: float | None) -> Check:
    return Check(gate, None, limit, False, f"Not measured: {what}; that fails.")


def _finding(gate: str, what: str, found: Finding | None) -> Check:
    if found is None:
        return _missing(gate, what, None)
    return Check(gate, None, None, found.passed, found.sentence)
