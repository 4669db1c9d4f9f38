"""The gates: what passes, what fails, and that missing evidence never passes."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from freqtrade_mlpipe.config import GateConfig
from freqtrade_mlpipe.metrics import ReturnMoments, return_moments
from freqtrade_mlpipe.registry import (
    BacktestSummary,
    Check,
    Comparison,
    Evidence,
    Finding,
    GateReport,
    run_gates,
)
from tests.registry.conftest import NOW

START, END = datetime(2025, 10, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
EVERY_GATE = GateConfig(min_metrics={"f1": 0.5}, min_market_excess=0.0, max_feature_drift=0.25)


def backtest(**changes: Any) -> BacktestSummary:
    values: dict[str, Any] = {
        "sharpe": 1.5,
        "n_trades": 80,
        "max_drawdown": 0.1,
        "profit_factor": 1.4,
        "profit_total": 0.2,
        "market_change": 0.1,
        "start": START,
        "end": END,
    }
    return BacktestSummary(**{**values, **changes})


def returns(mean: float) -> ReturnMoments:
    return return_moments(np.random.default_rng(0).normal(mean, 0.01, 2000))


def good() -> Evidence:
    return Evidence(
        metrics={"f1": 0.61},
        baselines={
            "class_prior": Comparison(0.684, 0.693, 0.002),
            "last_value": Comparison(0.684, 0.692, 0.004),
        },
        oos_returns=returns(mean=0.002),
        n_trials=20,
        trial_sharpe_variance=0.02**2,
        backtest=backtest(),
        champion=backtest(sharpe=1.2),
        champion_version="3",
        trained_until=START - timedelta(hours=1),
        calibration_error=0.02,
        self_test=Finding(True, "The bundle reproduces 400 rows."),
        causality=Finding(True, "No feature looks ahead."),
        max_drift=0.1,
    )


def failures(evidence: Evidence, config: GateConfig = EVERY_GATE) -> list[str]:
    return [check.name for check in run_gates(evidence, config, NOW).failures]


def test_good_evidence_passes_every_gate() -> None:
    report = run_gates(good(), EVERY_GATE, NOW, digest="d")
    assert report.passed, [check.sentence for check in report.failures]
    assert len({check.name for check in report.checks}) == len(report.checks) == 15
    assert (report.champion, report.window, report.digest) == ("3", (START, END), "d")


def test_no_evidence_fails_every_gate_but_the_missing_champion() -> None:
    report = run_gates(Evidence(), EVERY_GATE, NOW)
    assert [check.name for check in report.checks if check.passed] == ["vs champion"]
    assert all("Not measured" in check.sentence for check in report.failures)


def test_report_without_checks_does_not_pass() -> None:
    assert not GateReport((), "d", NOW, NOW + timedelta(hours=1)).passed


@pytest.mark.parametrize(
    ("changes", "gate"),
    [
        ({"metrics": {"f1": 0.49}}, "min f1"),
        ({"metrics": {}}, "min f1"),
        ({"metrics": {"f1": math.nan}}, "min f1"),
        ({"calibration_error": 0.11}, "calibration error"),
        ({"calibration_error": math.nan}, "calibration error"),
        ({"trained_until": START}, "untouched window"),
        ({"champion": None}, "vs champion"),
        ({"champion": backtest(sharpe=1.6)}, "vs champion"),
        ({"champion": backtest(sharpe=math.nan)}, "vs champion"),
        ({"champion": backtest(sharpe=1.0, end=END - timedelta(days=1))}, "vs champion"),
        ({"max_drift": 0.3}, "feature drift"),
        ({"max_drift": None}, "feature drift"),
        ({"self_test": Finding(False, "Member 0 differs.")}, "self-test"),
        ({"self_test": None}, "self-test"),
        ({"causality": Finding(False, "rsi looks ahead.")}, "causality"),
        ({"causality": None}, "causality"),
        ({"oos_returns": returns(mean=0.0)}, "deflated Sharpe"),
        ({"oos_returns": None}, "deflated Sharpe"),
        ({"oos_returns": return_moments([0.1])}, "deflated Sharpe"),
        ({"oos_returns": return_moments([0.1, math.nan, 0.2])}, "deflated Sharpe"),
        ({"oos_returns": return_moments(np.zeros(500))}, "deflated Sharpe"),
        ({"oos_returns": ReturnMoments(2000, 0.2, 3.0, 1.0)}, "deflated Sharpe"),
        ({"n_trials": None}, "deflated Sharpe"),
        ({"n_trials": 0}, "deflated Sharpe"),
        ({"trial_sharpe_variance": math.nan}, "deflated Sharpe"),
        ({"trial_sharpe_variance": -1.0}, "deflated Sharpe"),
    ],
)
def test_single_fault_fails_its_gate_alone(changes: dict[str, Any], gate: str) -> None:
    assert failures(replace(good(), **changes)) == [gate]


@pytest.mark.parametrize(
    ("changes", "gate"),
    [
        ({"n_trades": 19}, "backtest trades"),
        ({"profit_factor": 0.99}, "profit factor"),
        ({"profit_factor": math.nan}, "profit factor"),
        ({"max_drawdown": 0.36}, "max drawdown"),
        ({"max_drawdown": math.nan}, "max drawdown"),
        ({"profit_total": 0.05}, "vs market"),
        ({"market_change": math.nan}, "vs market"),
        ({"start": START - timedelta(days=1)}, "untouched window"),
    ],
)
def test_backtest_fault_fails_its_gate(changes: dict[str, Any], gate: str) -> None:
    rival = backtest(sharpe=1.0, start=changes.get("start", START))
    assert failures(replace(good(), backtest=backtest(**changes), champion=rival)) == [gate]


@pytest.mark.parametrize("sharpe", [0.4, math.nan, -math.inf])
def test_poor_backtest_sharpe_fails(sharpe: float) -> None:
    assert "backtest Sharpe" in failures(replace(good(), backtest=backtest(sharpe=sharpe)))


@pytest.mark.parametrize(
    "found",
    [
        Comparison(0.684, 0.693, 0.011),
        Comparison(0.694, 0.693, 0.001),
        Comparison(math.nan, 0.693, 0.001),
        Comparison(0.684, 0.693, math.nan),
    ],
)
@pytest.mark.parametrize("name", ["class_prior", "last_value"])
def test_each_baseline_must_be_beaten(name: str, found: Comparison) -> None:
    evidence = replace(good(), baselines={**good().baselines, name: found})
    assert failures(evidence) == [f"beats {name}"]


def test_more_trials_are_harder_to_believe() -> None:
    values = []
    for n in (2, 20, 2000):
        report = run_gates(replace(good(), n_trials=n), EVERY_GATE, NOW)
        values.append(next(c.value for c in report.checks if c.name == "deflated Sharpe"))
    assert values == sorted(values, reverse=True)
    assert values[0] is not None
    assert values[-1] is not None
    assert values[0] > values[-1]


def test_sentence_is_for_humans() -> None:
    sentences = [check.sentence for check in run_gates(good(), EVERY_GATE, NOW).checks]
    assert (
        "Out-of-sample log-loss 0.6840 beats the class-prior baseline 0.6930 "
        "(block bootstrap p = 0.002, limit 0.01)." in sentences
    )


def test_gate_switched_off_is_not_in_the_report() -> None:
    names = [
        "max_baseline_p_value",
        "min_deflated_sharpe",
        "min_backtest_sharpe",
        "min_backtest_trades",
        "min_profit_factor",
        "max_drawdown",
        "max_calibration_error",
        "champion_tolerance",
    ]
    off = GateConfig(**dict.fromkeys(names))
    kept = {check.name for check in run_gates(good(), off, NOW).checks}
    assert kept == {"untouched window", "self-test", "causality"}


def test_tolerance_lets_a_slightly_worse_challenger_pass() -> None:
    evidence = replace(good(), champion=backtest(sharpe=1.6))
    assert failures(evidence, GateConfig(champion_tolerance=0.2)) == []


def test_minimum_of_a_loss_is_refused() -> None:
    evidence = replace(good(), metrics={"log_loss": 0.9})
    assert failures(evidence, GateConfig(min_metrics={"log_loss": 0.5})) == ["min log_loss"]


def test_report_survives_json() -> None:
    report = run_gates(good(), EVERY_GATE, NOW, digest="d")
    assert GateReport.from_dict(json.loads(json.dumps(report.to_dict(), allow_nan=False))) == report
    odd = replace(report, checks=(Check("x", math.inf, None, True, "x"),), window=None)
    assert GateReport.from_dict(json.loads(json.dumps(odd.to_dict(), allow_nan=False))) == odd


def test_verdict_is_that_of_the_checks_not_of_an_edited_field() -> None:
    values = run_gates(Evidence(), EVERY_GATE, NOW).to_dict()
    assert not GateReport.from_dict({**values, "passed": True}).passed


def test_report_expires() -> None:
    report = run_gates(good(), GateConfig(max_report_age_hours=2), NOW)
    assert report.is_valid(NOW + timedelta(hours=1, minutes=59))
    assert not report.is_valid(NOW + timedelta(hours=2))


def of_returns(**changes: Any) -> Evidence:
    """Good evidence of a regression: squared errors, no probabilities."""
    losses = {"mean": Comparison(1.1e-4, 1.2e-4, 0.002), "zero": Comparison(1.1e-4, 1.21e-4, 0.001)}
    values = {"task": "regression", "baselines": losses, "calibration_error": None, **changes}
    return replace(good(), **values)


def test_regression_is_judged_by_squared_errors_and_not_by_calibration() -> None:
    report = run_gates(of_returns(), EVERY_GATE, NOW)
    assert report.passed
    names = [check.name for check in report.checks]
    assert {"beats mean", "beats zero"} <= set(names)
    assert not {"beats class_prior", "beats last_value", "calibration error"} & set(names)


@pytest.mark.parametrize("name", ["mean", "zero"])
def test_regression_fails_closed_on_each_baseline(name: str) -> None:
    found = of_returns().baselines
    for worse in (
        {other: loss for other, loss in found.items() if other != name},
        {**found, name: Comparison(1.1e-4, 1.2e-4, math.nan)},
        {**found, name: Comparison(1.2e-4, 1.1e-4, 0.001)},
        {**found, name: Comparison(1.1e-4, 1.2e-4, 0.2)},
    ):
        assert failures(of_returns(baselines=worse)) == [f"beats {name}"]


def test_comparisons_of_another_task_do_not_count() -> None:
    assert failures(of_returns(baselines=good().baselines)) == ["beats mean", "beats zero"]
    assert failures(replace(good(), baselines=of_returns().baselines)) == [
        "beats class_prior",
        "beats last_value",
    ]
