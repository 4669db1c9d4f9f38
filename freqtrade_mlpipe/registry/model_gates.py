"""Gates on the model itself: its scores out of sample, its probabilities, its features and its bundle."""

from __future__ import annotations

import math
from collections.abc import Sequence

from freqtrade_mlpipe.config import GateConfig, Task
from freqtrade_mlpipe.metrics import deflated_sharpe_ratio
from freqtrade_mlpipe.registry.evidence import BASELINES_OF, Comparison, Evidence
from freqtrade_mlpipe.registry.limits import at_least, finding, maximum, missing
from freqtrade_mlpipe.registry.report import Check

_LOWER_IS_BETTER = ("log_loss", "brier", "calibration_error", "drawdown")


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
    return at_least(f"min {name}", name, value, limit)


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
        return missing(gate, f"the comparison with the {title} baseline", limit)
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
        return [missing(gate, "the out-of-sample returns", limit)]
    if not evidence.n_trials or (evidence.n_trials > 1 and not math.isfinite(variance)):
        return [missing(gate, "the Sharpe ratios of the trials", limit)]
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
        return [missing(gate, "a finite Sharpe ratio of the out-of-sample returns", limit)]
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


def calibration(evidence: Evidence, config: GateConfig) -> Sequence[Check]:
    """The probabilities mean what they say; a regression has none."""
    if evidence.task == "regression":
        return ()
    return maximum(
        "calibration error",
        "Expected calibration error out of sample",
        evidence.calibration_error,
        config.max_calibration_error,
    )


def feature_drift(evidence: Evidence, config: GateConfig) -> Sequence[Check]:
    """No feature's distribution moved too far since training."""
    return maximum(
        "feature drift",
        "Largest population stability index of a feature",
        evidence.max_drift,
        config.max_feature_drift,
    )


def self_test(evidence: Evidence, config: GateConfig) -> Sequence[Check]:
    """The stored bundle reproduces its features and probabilities."""
    return [finding("self-test", "the bundle's self-test", evidence.self_test)]


def causality(evidence: Evidence, config: GateConfig) -> Sequence[Check]:
    """No feature changes when later candles are taken away."""
    return [finding("causality", "the causality audit of the features", evidence.causality)]
