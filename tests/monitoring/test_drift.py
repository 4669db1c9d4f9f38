"""Calibrated checks: quiet on unchanged markets, loud on planted changes, silent where nothing can be said."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks.drift import SHIFTS, Setting, repetition, wilson
from freqtrade_mlpipe.config import ConfigError, LabelConfig, MonitoringConfig
from freqtrade_mlpipe.monitoring.calibration import Plan, draw_months, window_sums
from freqtrade_mlpipe.monitoring.checks import CHECKS, Reading
from freqtrade_mlpipe.monitoring.families import Observed, changes_of
from freqtrade_mlpipe.monitoring.looks import Look, alarm_after, assess
from freqtrade_mlpipe.monitoring.outcomes import live_outcomes, outcomes
from freqtrade_mlpipe.monitoring.reference import KEY, read_reference
from freqtrade_mlpipe.monitoring.windows import Bins, Directions, moved
from freqtrade_mlpipe.registry.baseline import drift_baseline
from tests.monitoring.markets import CANDLE, CONFIG, LABELS, SMALL, market

PLAN = Plan(240, 24, 0.05)


def test_stability_index_and_distance_agree_with_their_definitions():
    rng = np.random.default_rng(0)
    before, after = rng.normal(size=5_000), rng.normal(0.4, 1.3, size=3_000)
    bins = Bins.from_baseline(drift_baseline(pd.DataFrame({"a": before})), ["a"])
    unit = np.zeros(len(after), dtype=np.int64)
    now = bins.counts(bins.codes(after[:, None]), unit, 1)[0]
    index, distance = moved(now, bins.reference)
    p, q = (
        np.histogram(v, np.r_[-np.inf, bins.edges[0], np.inf])[0] / len(v) for v in (after, before)
    )
    assert index[0] == pytest.approx(float(((p - q) * np.log(p / q)).sum()), rel=0.02)
    exact = stats.ks_2samp(before, after).statistic
    assert 0.8 * exact < distance[0] <= exact + 1e-9


def test_missing_values_are_a_bin_of_their_own():
    bins = Bins.from_baseline(drift_baseline(pd.DataFrame({"a": [1.0, 2, 3, 4, np.nan]})), ["a"])
    assert bins.reference[0, -1] == pytest.approx(1)
    codes = bins.codes(np.array([[np.nan], [2.0]]))
    assert codes[0, 0] == bins.n_bins - 1 != codes[1, 0]


def test_columns_keep_their_bins_when_the_file_sorts_them():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"z": rng.normal(size=500), "a": rng.normal(9, 1, size=500)})
    stored = json.loads(json.dumps(drift_baseline(frame), sort_keys=True))
    bins = Bins.from_baseline(stored, ["z", "a"])
    assert bins.edges[0].max() < 5 < bins.edges[1].min()


def test_directions_measure_the_mahalanobis_length():
    rng = np.random.default_rng(0)
    covariance = np.array([[1.0, 0.8, 0.1], [0.8, 1.0, 0.0], [0.1, 0.0, 1.0]])
    scores = rng.multivariate_normal(np.zeros(3), covariance, size=200_000)
    z = rng.normal(size=(50, 3))
    found = Directions.from_dict(json.loads(json.dumps(Directions.of(scores).to_dict()))).length(z)
    exact = np.einsum("ni,ij,nj->n", z, np.linalg.inv(np.cov(scores.T)), z) / 3
    np.testing.assert_allclose(found, exact, rtol=1e-3)


def test_changes_end_at_gaps_and_at_other_pairs():
    hours = pd.to_timedelta([0, 1, 3, 4], unit="h")
    dates = pd.DatetimeIndex(pd.Timestamp("2026-01-01", tz="UTC") + hours)
    X = np.array([[1.0], [3.0], [6.0], [10.0]], dtype=np.float32)
    found = changes_of(X, np.array(["A", "A", "A", "B"]), dates, CANDLE)[:, 0]
    np.testing.assert_array_equal(found, [np.nan, 2.0, np.nan, np.nan])


def test_windows_of_drawn_months_are_sums_of_their_units():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(60, 3))
    units = draw_months(60, PLAN, 5, rng)
    assert units.shape == (5, PLAN.looks + PLAN.units_per_window - 1)
    sums = window_sums(table, units, PLAN).reshape(5, PLAN.looks, 3)
    np.testing.assert_allclose(sums[3, 7], table[units[3, 7:17]].sum(axis=0))
    steps = np.diff(units, axis=1)
    assert 0.9 < (np.isin(steps, (1, -59))).mean() < 1.0, "blocks of about twenty units"


def test_reading_the_reference_back_gives_the_same_limits():
    reference, _ = market(0, 10)
    assert set(reference.families) == {"features", "predictions", "outcomes"}
    for levels in reference.levels.values():
        assert all(np.isfinite(level.limits.scale).all() for level in levels)
        assert all(factor >= 1 for level in levels for factor in level.limits.factor)


def test_bundle_of_an_older_release_says_that_it_does_not_know():
    assert read_reference(drift_baseline(pd.DataFrame({"a": [1.0, 2.0]}))) is None
    assert read_reference(None) is None
    found = assess(
        None, _observed(market(0, 100)[1]), config=CONFIG, labels=LABELS, candle=CANDLE,
        latency_ms=np.ones(100), trained_until=None,
    )  # fmt: skip
    states = {r.check: r.state for r in found.looks[-1].readings}
    assert {states[check.name] for check in CHECKS} == {"off"}
    assert not found.alarm


def test_damaged_reference_is_an_error():
    with pytest.raises((KeyError, ValueError)):
        read_reference({"n_rows": 1, "features": {}, KEY: {"format": 99}})


def _observed(rows, start: int = SMALL.n_training) -> Observed:
    n = rows.proba.shape[1]
    dates = pd.date_range("2024-01-01", periods=n, freq="1h", tz="UTC") + start * CANDLE
    answers = outcomes(
        "binary", rows.y[0], rows.proba[0], rows.proba[0] > 0.55, rows.gross[0], round_trip_cost=0.002
    )  # fmt: skip
    return Observed(
        np.array(["P0"] * n), dates, rows.X[0].astype(np.float32), rows.proba[0], answers
    )


def _assess(reference, observed: Observed, **changed):
    return assess(
        reference, observed, config=MonitoringConfig(**changed), labels=LABELS, candle=CANDLE,
        latency_ms=np.ones(len(observed)), trained_until=observed.date[0],
    )  # fmt: skip


def test_nothing_is_said_before_enough_rows_are_there():
    reference, after = market(0, 150)
    found = _assess(reference, _observed(after))
    assert {r.state for r in found.looks[-1].readings if r.family == "features"} == {"waiting"}
    assert found.sentence == "Too few predictions yet."


def test_planted_change_names_the_features_that_moved():
    reference, after = market(1, 600)
    X = after.X.copy()
    X[:, 250:, [2, 5]] *= 3.0
    found = _assess(reference, _observed(replace(after, X=X)))
    assert found.alarm == {"features"}
    bad = [r for r in found.looks[-1].readings if r.state == "bad"]
    assert any("f2" in r.sentence and "f5" in r.sentence for r in bad)
    assert found.since is not None
    assert found.since <= found.looks[0].at + 240 * CANDLE + 300 * CANDLE


def test_flipped_labels_alarm_the_outcomes_only():
    reference, after = market(2, 600)
    y = after.y.copy()
    y[:, 250:] = 1 - y[:, 250:]
    found = _assess(reference, _observed(replace(after, y=y)))
    assert found.alarm - {"adwin"} == {"outcomes"}


def test_limits_for_fewer_pairs_are_used_when_fewer_are_there():
    reference, _ = market(0, 10)
    assert [level.n_pairs for level in reference.levels["features"]] == [1]


def _looks(pattern: str) -> list[Look]:
    start = pd.Timestamp("2026-01-01", tz="UTC")
    states = {"b": "bad", ".": "ok", "w": "waiting"}
    return [
        Look(
            start + k * pd.Timedelta(days=1),
            (Reading("loss", "outcomes", states[mark], 1.0, 1.0, 240, ""),),
        )  # type: ignore[arg-type]
        for k, mark in enumerate(pattern)
    ]


@pytest.mark.parametrize(
    ("pattern", "alarm", "since"),
    [
        ("b", False, None), ("bb", True, 1), ("b.b", False, None), ("bb..", True, 1), ("bb...", False, None),
        ("bb..b", True, 1), ("bb...bb", True, 6), ("", False, None), ("bwb", False, None),
    ],
)  # fmt: skip
def test_alarm_needs_bad_windows_in_a_row_and_ends_after_good_ones(pattern, alarm, since):
    families, when = alarm_after(_looks(pattern), MonitoringConfig(bad_windows=2, good_windows=3))
    assert families == (frozenset({"outcomes"}) if alarm else frozenset())
    assert when == (None if since is None else _looks(pattern)[since].at)


def test_stale_and_slow_models_are_bad_only_beyond_their_limits():
    reference, after = market(0, 300)
    observed = _observed(after)
    found = assess(
        reference, observed, config=MonitoringConfig(max_age_days=5, max_latency_ms=2), labels=LABELS, candle=CANDLE,
        latency_ms=np.full(300, 3.0), trained_until=observed.date[0],
    )  # fmt: skip
    assert found.alarm == {"age", "latency"}
    assert not _assess(reference, observed).alarm & {"age", "latency"}


def test_outcomes_wait_for_their_labels():
    dates = pd.date_range("2026-01-01", periods=50, freq="1h", tz="UTC")
    price = 100 + np.arange(50.0)
    frame = pd.DataFrame({"date": dates, **dict.fromkeys(("open", "high", "low", "close"), price)})
    rows = pd.DataFrame(
        {
            "pair": "A",
            "date": dates,
            "proba": 0.7,
            "value": np.nan,
            "proba_short": np.nan,
            "signal": 1,
        }
    )
    found = live_outcomes(rows, {"A": frame}, LabelConfig(kind="direction", horizon_candles=10, fee=0.001))  # fmt: skip
    assert found["loss"].notna().sum() == 40
    assert found["loss"].iloc[0] == pytest.approx(-np.log(0.7))
    assert found["hit"].iloc[0] == 1.0
    assert found["realised"].iloc[0] == pytest.approx(110 / 101 - 1 - 0.002)
    assert live_outcomes(rows, {}, LabelConfig())["loss"].isna().all()


def test_window_must_hold_whole_steps():
    with pytest.raises(ConfigError, match="multiple of step_candles"):
        MonitoringConfig(window_candles=250, step_candles=24)


@pytest.mark.slow
def test_alarms_are_rare_without_a_change_and_sure_with_one():
    setting = Setting(n_features=12)
    found = [repetition(setting, MonitoringConfig(), seed) for seed in range(12)]
    false = sum(one["no change"] for one in found)
    assert wilson(false, len(found))[0] < 0.05
    for shift in SHIFTS:
        if ("all features" in shift.name and "0.5" not in shift.name) or "errors" in shift.name:
            assert sum(one[shift.name] for one in found) >= 11, shift.name


def test_half_a_year_of_training_makes_no_false_alarms():
    """Directions fitted to the very windows that limits come from made every second month of new ones an alarm."""
    setting = Setting(n_training=3_600)
    found = [repetition(setting, CONFIG, seed, shifts=())["no change"] for seed in range(6)]
    assert sum(found) <= 1
