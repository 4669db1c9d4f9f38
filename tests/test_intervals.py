"""Scores with intervals and paired differences, against scikit-learn, DeLong's variance and simulations."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import (
    brier_score_loss,
    log_loss,
    mean_absolute_error,
    mean_squared_error,
    roc_auc_score,
    root_mean_squared_error,
)

from freqtrade_mlpipe.metrics import (
    paired_difference,
    score_intervals,
    three_class_scores,
    value_intervals,
)
from freqtrade_mlpipe.metrics.intervals import MIN_STRETCHES


def hours(n: int) -> pd.DatetimeIndex:
    return pd.date_range("2024-01-01", periods=n, freq="1h", tz="UTC")


def sample(n: int, seed: int, digits: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    proba = np.clip(np.round(rng.random(n), digits), 0.01, 0.99)
    return (rng.random(n) < proba).astype(float), proba


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1, 2, 6]))
def test_values_are_scikit_learns_ties_included(seed: int, digits: int) -> None:
    y, proba = sample(400, seed, digits)
    found = score_intervals(y, proba, hours(400), block=5, n_resamples=50)
    assert found["roc_auc"].value == pytest.approx(roc_auc_score(y, proba))
    assert found["log_loss"].value == pytest.approx(log_loss(y, proba))
    assert found["brier"].value == pytest.approx(brier_score_loss(y, proba))
    for estimate in found.values():
        assert estimate.low <= estimate.value <= estimate.high


def test_the_area_of_groups_is_the_mean_of_theirs_weighted_by_rows() -> None:
    y, proba = sample(900, 3)
    group = np.repeat([0, 1, 2], [100, 300, 500])
    y[group == 1] = 1.0  # one class: does not count
    found = score_intervals(y, proba, hours(900), block=5, group=group)["roc_auc"]
    areas = [roc_auc_score(y[group == k], proba[group == k]) for k in (0, 2)]
    assert found.value == pytest.approx((100 * areas[0] + 500 * areas[1]) / 600)


def test_one_class_has_no_area() -> None:
    found = score_intervals(np.ones(50), np.full(50, 0.6), hours(50), block=2)
    assert set(found) == {"log_loss", "brier"}


def test_too_few_blocks_have_a_value_and_no_interval() -> None:
    n = MIN_STRETCHES * 10
    y, proba = sample(n, 1)
    long = score_intervals(y, proba, hours(n), block=10)["roc_auc"]
    short = score_intervals(y[:-1], proba[:-1], hours(n - 1), block=10)["roc_auc"]
    assert np.isfinite([long.low, long.high]).all()
    assert np.isfinite(short.value)
    assert np.isnan([short.low, short.high]).all()


def test_the_interval_of_independent_rows_is_delongs() -> None:
    n = 4000
    y, proba = sample(n, 7)
    found = score_intervals(y, proba, hours(n), block=1, n_resamples=4000)["roc_auc"]
    positive, negative = proba[y == 1], proba[y == 0]
    wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    variance = wins.mean(axis=1).var(ddof=1) / len(positive)
    variance += wins.mean(axis=0).var(ddof=1) / len(negative)
    half = 1.959964 * np.sqrt(variance)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.08)


def dependent(n: int, length: int, rng: np.random.Generator) -> np.ndarray:
    """Noise with the dependence of overlapping labels: a moving mean over `length` rows."""
    return np.convolve(rng.normal(size=n + length - 1), np.ones(length) / np.sqrt(length), "valid")


def test_intervals_of_dependent_rows_hold_where_independent_ones_would_not() -> None:
    rng = np.random.default_rng(0)
    n, length, runs = 3000, 12, 150
    held = {"blocks": 0, "rows": 0}
    for seed in range(runs):
        gap = dependent(n, length, rng)
        for name, block in (("blocks", 5 * length), ("rows", 1)):
            found = paired_difference(gap, np.zeros(n), hours(n), block, seed=seed, n_resamples=300)
            held[name] += found.low <= 0 <= found.high
    assert held["blocks"] / runs > 0.87
    assert held["rows"] / runs < 0.6


def test_a_true_difference_is_found_and_has_its_sign() -> None:
    rng = np.random.default_rng(1)
    base = np.abs(dependent(5000, 12, rng))
    noise = 0.2 * dependent(5000, 12, rng)
    found = paired_difference(base - 0.05 + noise, base, hours(5000), block=60)
    assert found.high < 0
    assert found.p_value < 0.01
    back = paired_difference(base, base - 0.05 + noise, hours(5000), block=60)
    assert back.mean == pytest.approx(-found.mean)


def test_no_difference_at_all_is_no_evidence() -> None:
    found = paired_difference(np.ones(300), np.ones(300), hours(300), block=5)
    assert (found.mean, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_pairs_of_one_date_count_as_one_draw() -> None:
    rng = np.random.default_rng(2)
    gap = rng.normal(size=400)
    once = paired_difference(gap, np.zeros(400), hours(400), block=4, n_resamples=2000)
    ten = paired_difference(
        np.repeat(gap, 10), np.zeros(4000), hours(400).repeat(10), block=4, n_resamples=2000
    )
    assert (ten.low, ten.high) == pytest.approx((once.low, once.high))
    assert ten.n_stretches == once.n_stretches == 100


def three_classes(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    proba = random.dirichlet([2, 3, 2], n)
    y = (random.random((n, 1)) > proba.cumsum(axis=1)).sum(axis=1) - 1.0
    return y, proba


def test_values_of_three_classes_are_those_of_the_scores_and_of_scikit_learn() -> None:
    y, proba = three_classes(500, 0)
    found = score_intervals(y, proba, hours(500), block=5)
    expected = three_class_scores(y, proba, y)
    for name, estimate in found.items():
        assert estimate.value == pytest.approx(expected[name])
        assert estimate.low < estimate.value < estimate.high
    area = roc_auc_score(y, proba, multi_class="ovr", average="macro", labels=[-1, 0, 1])
    assert found["roc_auc"].value == pytest.approx(area)


def test_a_class_that_is_absent_has_no_area_of_its_own() -> None:
    y, proba = three_classes(400, 1)
    kept = y != 0
    y, proba = y[kept], proba[kept]
    found = score_intervals(y, proba, hours(len(y)), block=5)["roc_auc"].value
    areas = [roc_auc_score(y == side, proba[:, column]) for side, column in ((-1, 0), (1, 2))]
    assert found == pytest.approx(np.mean(areas))


def returns(n: int, seed: int, weight: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    value = 0.01 * random.normal(size=n)
    return weight * value + 0.01 * random.normal(size=n), value


def test_values_of_returns_are_those_of_scikit_learn_and_scipy() -> None:
    y, value = returns(600, 0)
    value = value.round(3)  # with ties
    found = value_intervals(y, value, hours(600), block=5)
    assert set(found) == {"squared_error", "rmse", "mae", "spearman"}
    assert found["squared_error"].value == pytest.approx(mean_squared_error(y, value))
    assert found["rmse"].value == pytest.approx(root_mean_squared_error(y, value))
    assert found["mae"].value == pytest.approx(mean_absolute_error(y, value))
    assert found["spearman"].value == pytest.approx(spearmanr(y, value).statistic)
    assert all(estimate.low < estimate.value < estimate.high for estimate in found.values())


def test_returns_are_ranked_within_groups() -> None:
    y, value = returns(900, 1)
    group = np.repeat([0, 1, 2], 300)
    value = value + 0.5 * group  # between groups the ranks say nothing
    y[group == 1] = 0.01  # nothing to rank
    found = value_intervals(y, value, hours(900), block=5, group=group)["spearman"]
    parts = [spearmanr(y[group == k], value[group == k]).statistic for k in (0, 2)]
    assert found.value == pytest.approx(np.mean(parts))
    constant = value_intervals(y, np.zeros(900), hours(900), block=5)
    assert constant["spearman"].value == 0.0
    assert "spearman" not in value_intervals(np.zeros(900), value, hours(900), block=5)


def test_the_interval_of_a_rank_correlation_is_that_of_ranking_each_resample_anew() -> None:
    y, value = returns(800, 2)
    found = value_intervals(y, value, hours(800), block=1, n_resamples=4000)["spearman"]
    random = np.random.default_rng(0)
    draws = [random.integers(0, 800, 800) for _ in range(2000)]
    again = [spearmanr(y[rows], value[rows]).statistic for rows in draws]
    low, high = np.quantile(again, [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.01)
