"""Metrics against scikit-learn, published numbers, literal re-readings and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from freqtrade_mlpipe.exceptions import TrainingError
from freqtrade_mlpipe.metrics import (
    automatic_block_length,
    baseline_log_losses,
    block_bootstrap_interval,
    block_bootstrap_p_value,
    choose_threshold,
    classification_scores,
    deflated_sharpe_ratio,
    expected_calibration_error,
    expected_maximum_sharpe,
    expected_profit,
    last_known_outcome,
    log_losses,
    probabilistic_sharpe_ratio,
    probability_of_backtest_overfitting,
    return_moments,
    roc_auc,
    sharpe_ratio,
    strategy_returns,
)

Floats = NDArray[np.float64]
HOUR = pd.Timedelta("1h")


def hours(values) -> pd.DatetimeIndex:
    start = pd.Timestamp("2024-01-01", tz="UTC")
    return pd.DatetimeIndex(start + pd.to_timedelta(np.asarray(values), unit="h"))


def autoregressive(rng: np.random.Generator, n: int, phi: float) -> Floats:
    from scipy.signal import lfilter

    noise = rng.normal(size=n + 300) * math.sqrt(1 - phi**2)
    return np.asarray(lfilter([1.0], [1.0, -phi], noise)[300:])


# Scores


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("digits", [1, 12])
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.99])
def test_scores_equal_scikit_learn(threshold: float, digits: int, weighted: bool) -> None:
    from sklearn import metrics

    rng = np.random.default_rng(1)
    y = (rng.uniform(size=700) < 0.4).astype(float)
    p = np.round(np.clip(0.3 * y + rng.uniform(size=700) * 0.7, 0, 1), digits)
    w = rng.uniform(0, 3, 700) if weighted else None
    chosen = (p >= threshold).astype(float)
    options = {"sample_weight": w}
    clipped = np.clip(p, np.finfo(float).eps, 1 - np.finfo(float).eps)
    expected = {
        "accuracy": metrics.accuracy_score(y, chosen, **options),
        "precision": metrics.precision_score(y, chosen, zero_division=0, **options),
        "recall": metrics.recall_score(y, chosen, **options),
        "f1": metrics.f1_score(y, chosen, zero_division=0, **options),
        "mcc": metrics.matthews_corrcoef(y, chosen, **options),
        "roc_auc": metrics.roc_auc_score(y, p, **options),
        "log_loss": metrics.log_loss(y, clipped, **options),
        "brier": metrics.brier_score_loss(y, p, **options),
    }
    assert classification_scores(y, p, threshold, w) == pytest.approx(expected, rel=1e-9)


def test_scores_of_one_class_are_defined_but_for_the_auc() -> None:
    scores = classification_scores(np.ones(5), np.full(5, 0.4))
    assert math.isnan(scores.pop("roc_auc"))
    assert all(math.isfinite(value) for value in scores.values())
    assert scores["f1"] == scores["mcc"] == 0.0


def test_certain_and_wrong_forecast_has_a_finite_log_loss() -> None:
    assert 30 < classification_scores([0, 1], [1.0, 0.0])["log_loss"] < 40


@pytest.mark.parametrize(
    ("y", "p", "w"),
    [
        ([], [], None),
        ([0, 1], [0.5], None),
        ([0, np.nan], [0.5, 0.5], None),
        ([0, 2], [0.5, 0.5], None),
        ([0, 1], [0.5, np.nan], None),
        ([0, 1], [0.5, 0.5], [1, -1]),
        ([0, 1], [0.5, 0.5], [0, 0]),
        ([0, 1], [0.5, 0.5], [1, np.nan]),
    ],
)
@pytest.mark.parametrize("score", [classification_scores, roc_auc, expected_calibration_error])
def test_scores_refuse_what_they_cannot_score(score, y, p, w) -> None:
    with pytest.raises(ValueError):
        score(y, p, weight=w)


@pytest.mark.parametrize("n_bins", [1, 5, 10])
def test_calibration_error_is_the_mean_gap_of_equal_bins(n_bins: int) -> None:
    rng = np.random.default_rng(2)
    p = rng.permutation(np.linspace(0.01, 0.99, 200))
    y = (rng.uniform(size=200) < p**2).astype(float)
    bins = np.array_split(np.argsort(p), n_bins)
    expected = np.mean([abs(p[rows].mean() - y[rows].mean()) for rows in bins])
    assert expected_calibration_error(y, p, n_bins=n_bins) == pytest.approx(expected)


def test_calibration_error_does_not_split_equal_probabilities() -> None:
    y = np.r_[np.zeros(500), np.ones(500)]
    assert expected_calibration_error(y, np.full(1000, 0.5)) == 0.0


def test_calibration_error_of_a_perfect_forecast_is_the_stated_noise() -> None:
    rng = np.random.default_rng(3)
    found = [
        expected_calibration_error((rng.uniform(size=2000) < 0.5).astype(float), p)
        for p in np.clip(rng.normal(0.5, 1e-4, (100, 2000)), 0, 1)
    ]
    assert np.mean(found) == pytest.approx(0.8 * math.sqrt(0.25 * 10 / 2000), rel=0.1)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 3))
def test_scores_do_not_depend_on_row_order(seed: int, digits: int) -> None:
    rng = np.random.default_rng(seed)
    y, p = rng.integers(0, 2, 50), np.round(rng.uniform(size=50), digits)
    w, order = rng.uniform(0.1, 1, 50), rng.permutation(50)
    assert classification_scores(y, p, 0.5, w) == pytest.approx(
        classification_scores(y[order], p[order], 0.5, w[order]), nan_ok=True
    )
    assert expected_calibration_error(y, p, w) == pytest.approx(
        expected_calibration_error(y[order], p[order], w[order])
    )


# Baselines


def test_last_known_outcome_reads_only_what_is_known() -> None:
    rng = np.random.default_rng(4)
    n = 120
    date = rng.permutation(np.repeat(np.arange(60), 2))
    pair = np.array(["A/B", "C/D"])[rng.integers(0, 2, n)]
    known = date + rng.integers(1, 9, n)
    y = rng.integers(0, 2, n).astype(float)
    y[rng.uniform(size=n) < 0.1] = np.nan
    keep = ~pd.DataFrame({"date": date, "pair": pair}).duplicated().to_numpy()
    date, pair, known, y = date[keep], pair[keep], known[keep], y[keep]
    known_at = hours(known).where(np.isfinite(y))

    found = last_known_outcome(y, hours(date), known_at, pair)
    for row in range(len(y)):
        usable = (pair == pair[row]) & (known <= date[row]) & np.isfinite(y)
        candidates = np.flatnonzero(usable)
        expected = y[candidates[date[candidates].argmax()]] if len(candidates) else np.nan
        np.testing.assert_equal(found[row], expected)


def test_class_prior_is_the_training_frequency() -> None:
    y_train, y_test = np.r_[np.ones(299), np.zeros(699)], np.array([1.0, 0.0])
    losses = baseline_log_losses(y_train, y_test)
    assert losses["class_prior"] == pytest.approx([-math.log(0.3), -math.log(0.7)])
    assert set(losses) == {"class_prior"}


def test_last_value_beats_the_prior_where_outcomes_persist() -> None:
    rng = np.random.default_rng(5)
    y = (np.cumsum(rng.uniform(size=4000) < 0.05) % 2).astype(float)
    last = np.r_[np.nan, y[:-1]]
    losses = baseline_log_losses(y[:2000], y[2000:], last[:2000], last[2000:])
    entropy = -(0.05 * math.log(0.05) + 0.95 * math.log(0.95))
    assert losses["last_value"].mean() == pytest.approx(entropy, rel=0.2)
    assert losses["class_prior"].mean() > 0.6


def test_last_value_falls_back_to_the_prior_without_a_last_value() -> None:
    nothing = np.full(3, np.nan)
    losses = baseline_log_losses([0, 1, 1], [1, 0, 1], nothing, nothing)
    np.testing.assert_array_equal(losses["last_value"], losses["class_prior"])


# Bootstrap


def test_p_value_counts_resampled_means_literally() -> None:
    rng = np.random.default_rng(6)
    dates = hours(rng.permutation(np.repeat(np.arange(80), 3)))
    gain = rng.normal(0.05, 1, 240)
    means: list[float] = []

    def record(rows: NDArray[np.int64]) -> float:
        means.append(float(gain[rows].mean()))
        return means[-1]

    low, high = block_bootstrap_interval(record, dates, 6, seed=9, n_resamples=400)
    p = block_bootstrap_p_value(-gain, np.zeros(240), 6, 9, dates=dates, n_resamples=400)
    beyond = np.sum(np.array(means) - gain.mean() >= gain.mean())
    assert p == pytest.approx((1 + beyond) / 401)
    assert [low, high] == pytest.approx(np.quantile(means, [0.025, 0.975]).tolist())


def test_resamples_keep_the_rows_of_a_date_together() -> None:
    dates = hours(np.repeat(np.arange(30), 4))

    def complete(rows: NDArray[np.int64]) -> float:
        counts = np.bincount(rows, minlength=120).reshape(30, 4)
        assert (counts == counts[:, :1]).all()
        assert counts[:, 0].sum() == 30
        return 0.0

    block_bootstrap_interval(complete, dates, 5, n_resamples=50)


def test_blocks_have_the_mean_length_asked_for() -> None:
    dates, jumps = hours(np.arange(2000)), []

    def count(rows: NDArray[np.int64]) -> float:
        jumps.append(int(((np.diff(rows) != 1) & (np.diff(rows) != -1999)).sum()))
        return 0.0

    block_bootstrap_interval(count, dates, 25, n_resamples=200)
    assert np.mean(jumps) == pytest.approx(2000 / 25, rel=0.05)


def test_copies_of_a_pair_add_no_evidence() -> None:
    rng = np.random.default_rng(7)
    loss = rng.normal(size=300)
    loss += -0.1 - loss.mean()
    once = block_bootstrap_p_value(loss, np.zeros(300), 10, dates=hours(np.arange(300)))
    pooled = block_bootstrap_p_value(
        np.repeat(loss, 5), np.zeros(1500), 10, dates=hours(np.repeat(np.arange(300), 5))
    )
    assert pooled == pytest.approx(once)
    assert block_bootstrap_p_value(np.repeat(loss, 5), np.zeros(1500), 2) < 0.5 * once


@pytest.mark.parametrize(
    ("block", "phi", "n"), [(None, 0.95, 3000), (100.0, 0.95, 3000), (None, 0.0, 600)]
)
def test_size_of_the_test_holds_for_overlapping_labels(
    block: float | None, phi: float, n: int
) -> None:
    """Persistent forecasts of 24-candle directions of a random walk, equal in expected loss."""
    rng = np.random.default_rng(8)
    horizon, p_values = 24, []
    for seed in range(200):
        walk = np.cumsum(rng.normal(size=n + horizon))
        surprise = np.where(walk[horizon:] > walk[:-horizon], 0.5, -0.5)
        gain = autoregressive(rng, n, phi) * surprise
        p_values.append(block_bootstrap_p_value(-gain, np.zeros(n), block, seed, n_resamples=300))
    rejected = np.array(p_values) <= 0.05
    # Nominal 5 %; 2.6 standard errors of 200 simulations above 6 %, the bootstrap's known excess.
    assert rejected.mean() <= 0.105
    assert 0.35 < np.mean(p_values) < 0.65


def test_independent_resampling_would_reject_too_often() -> None:
    """Why blocks: the same null with blocks of one candle."""
    rng, p_values = np.random.default_rng(9), []
    for seed in range(100):
        gain = autoregressive(rng, 500, 0.95)
        p_values.append(block_bootstrap_p_value(-gain, np.zeros(500), 1, seed, n_resamples=200))
    assert (np.array(p_values) <= 0.05).mean() > 0.25


def test_better_model_is_recognised() -> None:
    rng = np.random.default_rng(10)
    truth = 0.5 + 0.15 * np.tanh(autoregressive(rng, 4000, 0.9))
    y = (rng.uniform(size=4000) < truth).astype(float)
    model, baseline = log_losses(y, truth), log_losses(y, np.full(4000, 0.5))
    assert block_bootstrap_p_value(model, baseline) < 0.01
    assert block_bootstrap_p_value(baseline, model) > 0.99


def test_equal_models_have_p_value_one() -> None:
    loss = np.random.default_rng(11).uniform(size=50)
    assert block_bootstrap_p_value(loss, loss) == 1.0


def test_interval_covers_the_mean_of_an_autocorrelated_series() -> None:
    rng, dates, covered = np.random.default_rng(12), hours(np.arange(1500)), 0
    for seed in range(100):
        x = autoregressive(rng, 1500, 0.7)
        low, high = block_bootstrap_interval(
            lambda rows, x=x: float(x[rows].mean()), dates, 30, seed, n_resamples=200
        )
        covered += low <= 0 <= high
    assert 86 <= covered <= 100


def test_block_length_grows_with_autocorrelation() -> None:
    rng = np.random.default_rng(13)
    lengths = [
        np.median([automatic_block_length(autoregressive(rng, 4000, phi)) for _ in range(20)])
        for phi in (0.0, 0.5, 0.9, 0.97)
    ]
    assert lengths[0] < 5
    assert lengths == sorted(lengths)
    # Politis & White (2004), AR(1): (2 phi / (1 - phi²))^(2/3) n^(1/3) for the stationary bootstrap.
    assert lengths[2] == pytest.approx((1.8 / 0.19) ** (2 / 3) * 4000 ** (1 / 3), rel=0.3)


@pytest.mark.parametrize("values", [[1.0], [2.0] * 50, np.arange(5.0), np.tile([1.0, -1.0], 40)])
def test_block_length_is_defined_for_odd_series(values) -> None:
    n = len(values)
    assert 1.0 <= automatic_block_length(values) <= max(1.0, min(3 * math.sqrt(n), n / 3))


def test_same_seed_gives_the_same_p_value() -> None:
    loss = np.random.default_rng(14).normal(size=200)
    one, two, other = (block_bootstrap_p_value(loss, np.zeros(200), 5, seed) for seed in (1, 1, 2))
    assert one == two != other


@pytest.mark.parametrize(
    ("losses", "options"),
    [
        ([0.1, np.nan, 0.2], {}),
        ([0.1], {}),
        ([0.1, 0.2, 0.3], {"block": 0.5}),
        ([0.1, 0.2, 0.3], {"dates": hours([0, 0, 0])}),
        ([0.1, 0.2, 0.3], {"dates": hours([0, 1])}),
    ],
)
def test_bootstrap_refuses_what_it_cannot_resample(losses, options) -> None:
    with pytest.raises(ValueError):
        block_bootstrap_p_value(losses, np.zeros(len(losses)), **options)


# Sharpe ratios


def test_deflated_sharpe_equals_the_published_example() -> None:
    """Bailey & López de Prado (2014), section "A numerical example"."""
    luck = expected_maximum_sharpe(100, 0.5 / 250)
    assert luck == pytest.approx(0.1132, abs=5e-5)
    assert deflated_sharpe_ratio(
        2.5 / math.sqrt(250), 1250, -3.0, 10.0, n_trials=100, var_trial_sharpes=0.5 / 250
    ) == pytest.approx(0.9004, abs=5e-5)


def test_deflated_sharpe_equals_the_published_number_of_trials() -> None:
    """The same paper: 46 trials would still be significant at 95 %, 88 with normal returns."""
    sharpe, variance = 2.5 / math.sqrt(250), 0.5 / 250
    assert deflated_sharpe_ratio(sharpe, 1250, -3.0, 10.0, 46, variance) == pytest.approx(
        0.9505, abs=5e-4
    )
    assert deflated_sharpe_ratio(sharpe, 1250, 0.0, 3.0, 88, variance) == pytest.approx(
        0.9505, abs=5e-4
    )


@pytest.mark.parametrize("n_trials", [10, 100, 1000])
def test_expected_maximum_is_that_of_normal_draws(n_trials: int) -> None:
    rng = np.random.default_rng(15)
    simulated = rng.normal(0, 0.2, (4000, n_trials)).max(axis=1).mean()
    assert expected_maximum_sharpe(n_trials, 0.04) == pytest.approx(simulated, rel=0.08)


def test_probabilistic_sharpe_is_calibrated() -> None:
    """With a true Sharpe ratio equal to the benchmark it is uniform."""
    rng = np.random.default_rng(16)
    found = []
    for returns in rng.gamma(4.0, 1.0, (1500, 250)) - 4.0 + 0.2:
        moments = return_moments(returns)
        found.append(
            probabilistic_sharpe_ratio(moments.sharpe, 250, moments.skew, moments.kurtosis, 0.1)
        )
    for level in (0.05, 0.5, 0.95):
        assert np.mean(np.array(found) < level) == pytest.approx(level, abs=0.03)


def test_one_trial_is_the_probabilistic_sharpe_ratio() -> None:
    expected = probabilistic_sharpe_ratio(0.1, 300, -0.5, 5.0)
    assert deflated_sharpe_ratio(0.1, 300, -0.5, 5.0, 1, math.nan) == expected


def test_more_trials_deflate_more() -> None:
    values = [deflated_sharpe_ratio(0.1, 500, 0, 3, n, 0.002) for n in (1, 2, 5, 20, 100, 1000)]
    assert values == sorted(values, reverse=True)


def test_moments_equal_scipy() -> None:
    from scipy import stats

    returns = np.random.default_rng(17).gamma(2.0, 0.01, 400) - 0.015
    moments = return_moments(returns)
    assert moments.sharpe == pytest.approx(returns.mean() / returns.std(ddof=1))
    assert moments.skew == pytest.approx(stats.skew(returns))
    assert moments.kurtosis == pytest.approx(stats.kurtosis(returns, fisher=False))
    assert sharpe_ratio(returns, 8760) == pytest.approx(moments.sharpe * math.sqrt(8760))


def test_sharpe_of_no_trade_is_zero_and_of_nothing_is_nan() -> None:
    assert sharpe_ratio(np.zeros(10)) == 0.0
    assert return_moments(np.zeros(10)).kurtosis == 3.0
    for undefined in ([], [0.1], [0.1, np.nan], [0.01] * 10):
        assert math.isnan(sharpe_ratio(undefined))
        assert math.isnan(return_moments(undefined).skew)


def test_nan_never_becomes_a_probability() -> None:
    assert math.isnan(probabilistic_sharpe_ratio(math.nan, 100))
    assert math.isnan(deflated_sharpe_ratio(0.1, 100, 0, 3, 10, math.nan))


@pytest.mark.parametrize(
    "call",
    [
        lambda: probabilistic_sharpe_ratio(0.1, 1),
        lambda: probabilistic_sharpe_ratio(0.1, 100, skew=0.0, kurtosis=0.0),
        lambda: expected_maximum_sharpe(0, 0.1),
        lambda: expected_maximum_sharpe(5, -0.1),
    ],
)
def test_impossible_moments_are_refused(call) -> None:
    with pytest.raises(ValueError):
        call()


# Backtest overfitting


def literal_pbo(matrix: Floats, n_blocks: int) -> float:
    """Bailey et al. (2017), section 2.2, one split after the other."""
    from scipy.stats import rankdata

    blocks = np.array_split(matrix, n_blocks)
    logits = []
    for inside in itertools.combinations(range(n_blocks), n_blocks // 2):
        train = np.vstack([blocks[k] for k in inside])
        test = np.vstack([blocks[k] for k in range(n_blocks) if k not in inside])
        best = (train.mean(axis=0) / train.std(axis=0)).argmax()
        rank = rankdata(test.mean(axis=0) / test.std(axis=0))[best]
        share = rank / (matrix.shape[1] + 1)
        logits.append(math.log(share / (1 - share)))
    return float(np.mean(np.array(logits) <= 0))


@pytest.mark.parametrize(("n_blocks", "n_configurations"), [(2, 2), (4, 3), (8, 10), (10, 7)])
def test_pbo_equals_literal_reading(n_blocks: int, n_configurations: int) -> None:
    rng = np.random.default_rng(18)
    for _ in range(3):
        matrix = rng.normal(rng.normal(0, 0.05, n_configurations), 1, (200, n_configurations))
        expected = literal_pbo(matrix, n_blocks)
        assert probability_of_backtest_overfitting(matrix, n_blocks) == pytest.approx(expected)


def test_pbo_is_about_a_half_without_skill_and_none_with_it() -> None:
    rng = np.random.default_rng(19)
    noise = [probability_of_backtest_overfitting(rng.normal(size=(320, 12)), 10) for _ in range(60)]
    assert 0.4 < np.mean(noise) < 0.65
    skilled = rng.normal(size=(320, 12))
    skilled[:, 4] += 0.5
    assert probability_of_backtest_overfitting(skilled, 10) < 0.01


def test_pbo_accepts_configurations_that_never_trade() -> None:
    matrix = np.random.default_rng(20).normal(size=(100, 4))
    matrix[:, 2] = 0.0
    assert 0 <= probability_of_backtest_overfitting(matrix, 4) <= 1


@pytest.mark.parametrize(
    ("matrix", "n_blocks"),
    [
        (np.ones((100, 1)), 4),
        (np.ones(100), 4),
        (np.full((100, 3), np.nan), 4),
        (np.ones((100, 3)), 5),
        (np.ones((100, 3)), 0),
        (np.ones((100, 3)), 22),
        (np.ones((7, 3)), 4),
    ],
)
def test_pbo_refuses_odd_blocks_single_configurations_and_nan(matrix, n_blocks) -> None:
    with pytest.raises(ValueError):
        probability_of_backtest_overfitting(matrix, n_blocks)


# Trading


def literal_strategy(date, pair, enter, gross, cost, exit_) -> Floats:
    """Candle by candle: every pair is flat or holds one trade."""
    booked = np.zeros(date.max() - date.min() + 1)
    names = sorted(set(pair))
    for name in names:
        held_until = -1
        for hour in range(date.min(), date.max() + 1):
            row = np.flatnonzero((pair == name) & (date == hour))
            flat = held_until <= hour
            if len(row) and flat and enter[row[0]] and np.isfinite(gross[row[0]]):
                held_until = exit_[row[0]]
                slot = min(held_until, date.max()) - date.min()
                booked[slot] += (gross[row[0]] - cost) / len(names)
    return booked


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 8), st.booleans())
def test_strategy_equals_candle_by_candle_simulation(seed, n_pairs, horizon, barriers) -> None:
    rng = np.random.default_rng(seed)
    rows = [(hour, f"P{k}") for k in range(n_pairs) for hour in range(60) if rng.uniform() < 0.9]
    order = rng.permutation(len(rows))
    date = np.array([rows[k][0] for k in order]) + 5
    pair = np.array([rows[k][1] for k in order])
    enter, gross = rng.uniform(size=len(rows)) < 0.3, rng.normal(0, 0.02, len(rows))
    gross[rng.uniform(size=len(rows)) < 0.1] = np.nan
    exit_ = date + (rng.integers(1, horizon + 1, len(rows)) if barriers else horizon)
    found = strategy_returns(
        hours(date),
        pair,
        enter,
        gross,
        0.002,
        horizon,
        exit_dates=hours(exit_) if barriers else None,
        candle=HOUR,
    )
    np.testing.assert_allclose(
        found, literal_strategy(date, pair, enter, gross, 0.002, exit_), atol=1e-15
    )
    assert found.index.equals(hours(np.arange(date.min(), date.max() + 1)))


def test_overlapping_signals_are_one_trade() -> None:
    n, horizon = 240, 24
    always = strategy_returns(hours(np.arange(n)), None, np.ones(n), np.full(n, 0.01), 0.0, horizon)
    assert always.sum() == pytest.approx(0.01 * n / horizon)
    assert (always != 0).sum() == n / horizon


def test_sharpe_of_worthless_trades_is_not_inflated_by_holding_time() -> None:
    """Returns are booked once: over random walks the t statistic has standard deviation one."""
    rng, t_statistics = np.random.default_rng(21), []
    for _ in range(300):
        r = rng.normal(0, 0.01, 1200)
        gross = np.r_[np.convolve(r, np.ones(24), "valid")[1:], np.full(24, np.nan)]
        series = strategy_returns(
            hours(np.arange(1200)), None, rng.uniform(size=1200) < 0.2, gross, 0.0, 24
        )
        t_statistics.append(sharpe_ratio(series) * math.sqrt(len(series)))
    assert np.std(t_statistics) == pytest.approx(1.0, abs=0.12)


def test_no_signal_is_a_flat_series() -> None:
    series = strategy_returns(hours(np.arange(50)), None, np.zeros(50), np.ones(50), 0.001, 5)
    assert len(series) == 50
    assert not series.any()
    assert sharpe_ratio(series) == 0.0


def test_capital_is_shared_by_all_pairs_traded_or_not() -> None:
    dates, pairs = hours(np.repeat(np.arange(10), 2)), np.tile(["A", "B"], 10)
    enter = (pairs == "A") & (dates == dates[0])
    series = strategy_returns(dates, pairs, enter, np.full(20, 0.05), 0.01, 3)
    assert series.sum() == pytest.approx(0.02)
    assert series.iloc[3] == pytest.approx(0.02)


def test_strategy_refuses_exits_that_do_not_follow_entries() -> None:
    dates = hours(np.arange(4))
    with pytest.raises(ValueError, match="must end after"):
        strategy_returns(dates, None, np.ones(4), np.zeros(4), 0.0, 1, exit_dates=dates)
    with pytest.raises(ValueError, match="one length"):
        strategy_returns(dates, None, np.ones(3), np.zeros(4), 0.0, 1)


def test_expected_profit_is_net_and_zero_without_signals() -> None:
    assert expected_profit([1, 1, 0, 1], [0.03, 0.01, 9.0, np.nan], 0.005) == pytest.approx(0.015)
    assert expected_profit([0, 0], [0.03, 0.01], 0.005) == 0.0


# Thresholds


def planted(n: int, seed: int, cut: float = 0.7) -> tuple[Floats, Floats]:
    """Rows above `cut` earn 1 % net, the rest lose 1 %."""
    rng = np.random.default_rng(seed)
    p = rng.uniform(size=n)
    return p, np.where(p > cut, 0.01, -0.01) + rng.normal(0, 0.02, n)


def sloped(n: int, seed: int, drift: float = 0.0) -> tuple[Floats, Floats]:
    """Returns that rise with logit(p), less a cost of 0.2 %."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 0.5, n)
    return 1 / (1 + np.exp(-z)), 0.02 * z + rng.normal(0, 0.02, n) + drift - 0.002


@pytest.mark.parametrize("seed", range(5))
def test_threshold_is_the_best_cut_of_the_line_through_the_returns(seed: int) -> None:
    p, net = sloped(3000, seed)
    choice = choose_threshold(p, net, round_trip_cost=0.002, horizon_candles=4)
    z = np.log(p / (1 - p))
    gain = np.polyval(np.polyfit(z, net, 1), z) - net.mean() - 0.002
    merits = {
        cut: gain[p >= cut].mean() * np.sqrt((p >= cut).sum() / 4) for cut in np.sort(p)[1500:-30]
    }
    best = max(merits, key=merits.__getitem__)
    assert choice.profitable
    assert choice.n_selected == (p >= best).sum()
    assert choice.exit < np.median(p) < choice.enter


@pytest.mark.parametrize("drift", [-0.01, 0.01])
def test_thresholds_ignore_where_the_whole_market_went(drift: float) -> None:
    calm = choose_threshold(*sloped(3000, 1), round_trip_cost=0.002)
    moved = choose_threshold(*sloped(3000, 1, drift), round_trip_cost=0.002)
    assert (moved.enter, moved.exit) == pytest.approx((calm.enter, calm.exit))


def test_threshold_varies_less_than_the_best_cut_through_realised_returns() -> None:
    chosen, realised = [], []
    for seed in range(40):
        p, net = sloped(1500, seed)
        chosen.append(choose_threshold(p, net, round_trip_cost=0.002).enter)
        order = np.argsort(-p)
        k = np.arange(1, 1501)
        merit = (np.cumsum(net[order]) / k * np.sqrt(k))[30:750]
        realised.append(p[order][30 + int(merit.argmax())])
    assert np.std(chosen) < 0.5 * np.std(realised)


def test_nothing_profitable_falls_back_to_the_documented_quantile() -> None:
    rng = np.random.default_rng(22)
    p = rng.uniform(size=4000)
    choice = choose_threshold(p, np.full(4000, -0.002) + rng.normal(0, 1e-4, 4000))
    assert not choice.profitable
    assert choice.enter == pytest.approx(0.95, abs=0.01)
    assert choice.n_selected == 200


def test_equal_probabilities_select_nothing() -> None:
    choice = choose_threshold(np.full(500, 0.6), np.full(500, 0.01))
    assert choice.n_selected == 0
    assert choice.enter > 0.6 > choice.exit
    assert not choice.profitable


def test_volatile_rows_must_earn_more() -> None:
    p = np.linspace(0, 1, 1001)
    swing = np.where(np.arange(1001) % 2, 0.5, -0.5)
    calm, wild = np.where(p > 0.9, 0.025, -0.01), np.where(p > 0.9, 0.025 + swing, -0.01)
    assert choose_threshold(p, calm).profitable
    assert not choose_threshold(p, wild, min_rows=100).profitable


def test_overlap_makes_the_choice_more_cautious() -> None:
    rng = np.random.default_rng(23)
    p = rng.uniform(size=600)
    net = 0.002 * (p > 0.6) + rng.normal(0, 0.01, 600)
    assert choose_threshold(p, net).profitable
    assert not choose_threshold(p, net, horizon_candles=200).profitable


def test_too_few_rows_are_never_selected_as_profitable() -> None:
    p = np.linspace(0, 1, 1000)
    net = np.where(p > 0.99, 1.0, -0.01)
    assert choose_threshold(p, net, min_rows=100).n_selected >= 100


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 200), st.integers(0, 3))
def test_thresholds_are_ordered_consistent_and_independent_of_row_order(seed, n, digits) -> None:
    rng = np.random.default_rng(seed)
    p, net = np.round(rng.uniform(size=n), digits), rng.normal(0, 0.01, n)
    choice = choose_threshold(p, net, min_rows=5)
    assert choice.exit < choice.enter
    assert choice.n_selected == (p >= choice.enter).sum()
    assert choice.n_selected <= max(0.5 * n, 1)
    order = rng.permutation(n)
    other = choose_threshold(p[order], net[order], min_rows=5)
    assert other.enter == pytest.approx(choice.enter)
    assert other.exit == pytest.approx(choice.exit)


def test_rows_without_a_return_are_left_out() -> None:
    p, net = planted(2000, 0)
    gappy, gone = net.copy(), np.arange(2000) % 5 == 0
    gappy[gone] = np.nan
    assert choose_threshold(p, gappy) == choose_threshold(p[~gone], net[~gone])
    with pytest.raises(TrainingError, match="No row has both"):
        choose_threshold(p, np.full(2000, np.nan))
