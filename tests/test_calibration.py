"""Calibrators: right on data whose truth is known, monotone, bounded, exact when stored."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import norm

from freqtrade_mlpipe.calibration import MARGIN, Calibrator, fit_calibrator
from freqtrade_mlpipe.exceptions import BundleError, TrainingError
from freqtrade_mlpipe.metrics import expected_calibration_error, roc_auc

Floats = NDArray[np.float64]
KINDS = ["sigmoid", "isotonic", "none"]


def logit(p: Floats) -> Floats:
    return np.log(p) - np.log1p(-p)


def sigmoid(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))


def overconfident(n: int, seed: int, slope: float = 0.5, intercept: float = -0.4):
    """Raw scores whose true probability is sigmoid(slope · logit + intercept)."""
    rng = np.random.default_rng(seed)
    p = sigmoid(rng.normal(0, 1.5, n))
    truth = sigmoid(slope * logit(p) + intercept)
    return p, (rng.uniform(size=n) < truth).astype(float), truth


def test_sigmoid_recovers_the_true_map() -> None:
    p, y, truth = overconfident(50_000, seed=0)
    fitted = fit_calibrator("sigmoid", p, y)
    assert fitted.slope == pytest.approx(0.5, abs=0.03)
    assert fitted.intercept == pytest.approx(-0.4, abs=0.03)
    assert np.abs(fitted.apply(p) - truth).max() < 0.02


@pytest.mark.parametrize("kind", ["sigmoid", "isotonic"])
def test_calibration_error_falls_on_rows_not_seen(kind: str) -> None:
    p, y, _ = overconfident(20_000, seed=1)
    fitted = fit_calibrator(kind, p[:10_000], y[:10_000])
    before = expected_calibration_error(y[10_000:], p[10_000:])
    after = expected_calibration_error(y[10_000:], fitted.apply(p[10_000:]))
    assert before > 0.08
    assert after < 0.02


@pytest.mark.parametrize("kind", ["sigmoid", "isotonic"])
def test_weighted_rows_equal_repeated_rows(kind: str) -> None:
    p, y, _ = overconfident(500, seed=2)
    weight = np.random.default_rng(3).integers(0, 4, 500)
    weighted = fit_calibrator(kind, p, y, weight)
    if kind == "isotonic":
        repeated = fit_calibrator(kind, np.repeat(p, weight), np.repeat(y, weight))
        np.testing.assert_allclose(weighted.apply(p), repeated.apply(p), rtol=1e-9)
    else:
        # Weights are scaled to mean 1 so that Platt's priors count rows, not their weights.
        scaled = fit_calibrator(kind, p, y, weight * 10.0)
        assert weighted.slope == pytest.approx(scaled.slope, rel=1e-9)
        heavy = fit_calibrator(kind, p, y, np.where(y == 1, 5.0, 1.0))
        assert heavy.intercept > weighted.intercept + 1.0


@pytest.mark.parametrize("seed", range(5))
def test_sigmoid_is_the_optimum_that_scipy_finds(seed: int) -> None:
    from scipy.optimize import minimize

    rng = np.random.default_rng(seed)
    p, y, _ = overconfident(400, seed, slope=rng.uniform(0.1, 3), intercept=rng.normal())
    weight = rng.uniform(0.1, 2, 400)
    weight /= weight.mean()
    up, down = weight[y == 1].sum(), weight[y == 0].sum()
    target = np.where(y == 1, (up + 1) / (up + 2), 1 / (down + 2))

    def loss(ab: Floats) -> float:
        margin = ab[0] * logit(p) + ab[1]
        return float((weight * (np.logaddexp(0, margin) - target * margin)).sum())

    best = minimize(loss, [1.0, 0.1], method="BFGS", options={"gtol": 1e-6})
    fitted = fit_calibrator("sigmoid", p, y, weight)
    assert [fitted.slope, fitted.intercept] == pytest.approx(best.x.tolist(), abs=1e-5)


def test_isotonic_equals_scikit_learn() -> None:
    from sklearn.isotonic import IsotonicRegression

    p, y, _ = overconfident(2_000, seed=4)
    p = np.round(p, 2)
    oracle = IsotonicRegression(out_of_bounds="clip").fit(p, y)
    grid = np.linspace(0, 1, 501)
    expected = np.clip(oracle.predict(grid), MARGIN, 1 - MARGIN)
    np.testing.assert_allclose(fit_calibrator("isotonic", p, y).apply(grid), expected, atol=1e-12)


def test_scores_that_point_the_wrong_way_become_the_base_rate() -> None:
    p, y, _ = overconfident(5_000, seed=5)
    fitted = fit_calibrator("sigmoid", 1 - p, y)
    assert fitted.slope == 0.0
    assert np.ptp(fitted.apply(p)) == 0.0
    assert fitted.apply(0.3) == pytest.approx(y.mean(), abs=0.001)


def test_constant_scores_become_the_base_rate() -> None:
    y = np.array([0.0, 1.0] * 30 + [0.0] * 40)
    assert fit_calibrator("sigmoid", np.full(100, 0.8), y).apply(0.8) == pytest.approx(
        0.3, abs=0.01
    )


@pytest.mark.parametrize("kind", ["sigmoid", "isotonic"])
def test_separable_scores_stay_off_zero_and_one(kind: str) -> None:
    p, y = np.r_[np.full(50, 0.1), np.full(50, 0.9)], np.r_[np.zeros(50), np.ones(50)]
    out = fit_calibrator(kind, p, y).apply([0.0, 0.1, 0.9, 1.0])
    assert (out >= MARGIN).all()
    assert (out <= 1 - MARGIN).all()
    assert out[1] < 0.05 < 0.95 < out[2]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_map_is_monotone_bounded_and_survives_storage(kind: str, data: st.DataObject) -> None:
    n = data.draw(st.integers(2, 60))
    p = np.array(data.draw(st.lists(st.floats(0, 1), min_size=n, max_size=n)))
    y = np.array(data.draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=n, max_size=n)))
    y[:2] = [0.0, 1.0]
    fitted = fit_calibrator(kind, p, y)
    out = fitted.apply(np.linspace(0, 1, 101))
    assert (np.diff(out) >= 0).all()
    assert (out >= MARGIN).all()
    assert (out <= 1 - MARGIN).all()
    stored = Calibrator.from_dict(json.loads(json.dumps(fitted.to_dict())))
    assert stored == fitted
    np.testing.assert_array_equal(stored.apply(p), fitted.apply(p))


def test_sigmoid_keeps_the_order_of_rows() -> None:
    p, y, _ = overconfident(3_000, seed=6)
    fitted = fit_calibrator("sigmoid", p, y)
    assert roc_auc(y, fitted.apply(p)) == pytest.approx(roc_auc(y, p), abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_nan_stays_nan_and_shape_is_kept(kind: str) -> None:
    p, y, _ = overconfident(100, seed=7)
    out = fit_calibrator(kind, p, y).apply(np.array([[0.2, np.nan], [0.4, 0.6]]))
    assert out.shape == (2, 2)
    assert np.isnan(out).tolist() == [[False, True], [False, False]]


def test_none_leaves_probabilities_alone() -> None:
    p = np.linspace(0.01, 0.99, 50)
    np.testing.assert_array_equal(fit_calibrator("none", p, np.ones(50)).apply(p), p)


def test_calibrator_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Calibrator().slope = 2.0  # type: ignore[misc]


@pytest.mark.parametrize("kind", ["sigmoid", "isotonic"])
@pytest.mark.parametrize(
    ("p", "y", "weight", "message"),
    [
        ([0.1, 0.2], [1.0, 1.0], None, "both classes"),
        ([0.1, 0.2], [0.0, 1.0], [1.0, 0.0], "both classes"),
        ([], [], None, "both classes"),
        ([0.1, np.nan], [0.0, 1.0], None, "finite"),
        ([0.1, 0.2], [0.0, 1.0], [1.0, -1.0], "negative"),
        ([0.1, 0.2], [0.0, np.nan], None, "0 or 1"),
    ],
)
def test_slice_that_teaches_nothing_is_an_error(kind, p, y, weight, message) -> None:
    with pytest.raises(TrainingError, match=message):
        fit_calibrator(kind, p, y, weight)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        fit_calibrator("sigmoid", [0.1, 0.2], [0.0])
    with pytest.raises(ValueError, match="kind"):
        fit_calibrator("platt", [0.1, 0.2], [0.0, 1.0])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"kind": "platt"},
        {"kind": ["sigmoid"]},
        {"kind": "sigmoid"},
        {"kind": "none", "slope": 1.0},
        {"kind": "sigmoid", "slope": -0.1, "intercept": 0.0},
        {"kind": "sigmoid", "slope": float("nan"), "intercept": 0.0},
        {"kind": "sigmoid", "slope": 1.0, "intercept": float("inf")},
        {"kind": "sigmoid", "slope": "steep", "intercept": 0.0},
        {"kind": "isotonic", "knots": [], "levels": []},
        {"kind": "isotonic", "knots": [0.1, 0.2], "levels": [0.5]},
        {"kind": "isotonic", "knots": [0.2, 0.1], "levels": [0.1, 0.5]},
        {"kind": "isotonic", "knots": [0.1, 0.2], "levels": [0.6, 0.5]},
        {"kind": "isotonic", "knots": [0.1, 0.2], "levels": [0.6, 1.5]},
        {"kind": "isotonic", "knots": [0.1, float("nan")], "levels": [0.1, 0.5]},
        {"kind": "isotonic", "knots": [0.1, 0.2], "levels": [float("nan"), float("nan")]},
        {"kind": "isotonic", "knots": 3, "levels": [0.1]},
    ],
)
def test_damaged_file_is_refused(values) -> None:
    with pytest.raises(BundleError):
        Calibrator.from_dict(values)


def test_shrunk_sigmoid_is_the_posterior_mode_that_scipy_finds() -> None:
    rng = np.random.default_rng(5)
    p = rng.uniform(0.2, 0.8, 400)
    y = (rng.random(400) < p**2).astype(float)
    found = fit_calibrator("sigmoid", p, y, n_effective=50.0)
    x = np.log(p / (1 - p))

    def negative_log_posterior(theta: np.ndarray) -> float:
        margin = np.exp(theta[0]) * x + theta[1]
        likelihood = -(50 / 400) * norm_free_log_likelihood(margin, y)
        return likelihood - norm.logpdf(theta[0], 0, 0.75) - norm.logpdf(theta[1], 0, 0.1)

    oracle = minimize(
        negative_log_posterior,
        [1.0, 0.0],
        method="Nelder-Mead",
        options={"xatol": 1e-9, "fatol": 1e-12},
    )
    assert [np.log(found.slope), found.intercept] == pytest.approx(oracle.x, abs=1e-5)


def norm_free_log_likelihood(margin: np.ndarray, y: np.ndarray) -> float:
    return float((y * margin - np.logaddexp(0, margin)).sum())


def test_shrunk_sigmoid_is_free_with_much_evidence_and_the_identity_with_none() -> None:
    rng = np.random.default_rng(6)
    p = rng.uniform(0.1, 0.9, 20_000)
    y = (rng.random(20_000) < p**2).astype(float)
    free = fit_calibrator("sigmoid", p, y)
    much = fit_calibrator("sigmoid", p, y, n_effective=1e7)
    none = fit_calibrator("sigmoid", p, y, n_effective=1e-6)
    assert much.apply(p) == pytest.approx(free.apply(p), abs=2e-3)
    assert none.apply(p) == pytest.approx(p, abs=1e-6)


def test_shrunk_sigmoid_undoes_class_weights() -> None:
    rng = np.random.default_rng(7)
    p = rng.uniform(0.05, 0.4, 30_000)
    y = (rng.random(30_000) < p).astype(float)
    weight = np.log(4.0)
    distorted = 1 / (1 + np.exp(-(np.log(p / (1 - p)) + weight)))
    found = fit_calibrator("sigmoid", distorted, y, n_effective=30.0, offset=-weight)
    assert np.abs(found.apply(distorted) - p).mean() < 0.01
    assert (
        np.abs(
            fit_calibrator("sigmoid", distorted, y, n_effective=30.0).apply(distorted) - p
        ).mean()
        > 0.05
    )


def test_shrunk_sigmoid_never_turns_scores_round() -> None:
    rng = np.random.default_rng(8)
    p = rng.uniform(0.1, 0.9, 5_000)
    y = (rng.random(5_000) < 1 - p).astype(float)
    assert 0 < fit_calibrator("sigmoid", p, y, n_effective=5_000.0).slope < 0.05
