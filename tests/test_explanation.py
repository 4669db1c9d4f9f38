"""Explanations against what is known of the market: which feature matters, and sums that must come out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from freqtrade_mlpipe.config import CLASSES, ModelConfig, Task
from freqtrade_mlpipe.models import MODELS
from freqtrade_mlpipe.registry.baseline import drift_baseline, stability_index
from freqtrade_mlpipe.reports.records import drift_reference
from freqtrade_mlpipe.trainer import ModelTrainer, TrainedModel, explain
from freqtrade_mlpipe.tuning import parameter_importance

N = 3000


def market(seed: int = 0) -> tuple[pd.DataFrame, pd.Series]:
    rng = np.random.default_rng(seed)
    dates = pd.date_range("2024-01-01", periods=N, freq="1h", tz="UTC")
    X = pd.DataFrame(rng.normal(size=(N, 4)), columns=["signal", "weak", "a", "b"], index=dates)
    score = 1.5 * X["signal"] + 0.5 * X["weak"]
    y = pd.Series((rng.random(N) < 1 / (1 + np.exp(-score))).astype(float), index=dates)
    return X, y


def outcomes(task: Task) -> tuple[pd.DataFrame, pd.Series]:
    """The market's features, and outcomes of a task that follow them."""
    X, y = market()
    score, rng = 1.5 * X["signal"] + 0.5 * X["weak"], np.random.default_rng(1)
    if task == "three_class":
        y = np.sign(score + rng.normal(size=N)).where((score + rng.normal(size=N)).abs() > 0.5, 0.0)
    elif task == "regression":
        y = 0.01 * (score + rng.normal(size=N))
    return X, y


def trained(model_type: str, task: Task = "binary") -> tuple[TrainedModel, pd.DataFrame, pd.Series]:
    X, y = outcomes(task)
    config = ModelConfig(
        model_type=model_type, optimize_hyperparams=False, cv_folds=3, embargo_candles=1
    )
    known_at = X.index + pd.Timedelta("1h")
    model, _ = ModelTrainer(config).train(X, y, known_at=known_at, task=task)
    return model, X, y


@pytest.mark.parametrize("model_type", ["lightgbm", "xgboost"])
def test_contributions_and_the_base_value_sum_to_the_log_odds(model_type: str) -> None:
    model, X, _ = trained(model_type)
    member = model.production
    matrix = np.ascontiguousarray(member.preprocessor.transform(X))
    terms = member.model.contributions(matrix)
    assert terms is not None
    assert terms.shape == matrix.shape
    proba = member.model.predict_proba(matrix)
    base = np.log(proba / (1 - proba)) - terms.sum(axis=1)
    assert np.ptp(base) < 1e-3


@pytest.mark.parametrize("model_type", ["lightgbm", "xgboost"])
def test_contributions_of_three_classes_sum_to_the_log_probabilities(model_type: str) -> None:
    model, X, _ = trained(model_type, "three_class")
    member = model.production
    matrix = np.ascontiguousarray(member.preprocessor.transform(X))
    terms = member.model.contributions(matrix)
    assert terms is not None
    assert terms.shape == (N, len(CLASSES), matrix.shape[1])
    gaps = np.log(member.model.predict_proba(matrix)) - terms.sum(axis=2)
    for first, other in ((0, 1), (1, 2)):  # up to what softmax adds to all classes
        assert np.ptp(gaps[:, first] - gaps[:, other]) < 1e-3


@pytest.mark.parametrize("model_type", ["lightgbm", "xgboost"])
def test_contributions_to_returns_are_in_units_of_the_prediction(model_type: str) -> None:
    model, X, y = trained(model_type, "regression")
    dates = pd.DatetimeIndex(X.index)
    first = model.members[0]
    found = explain([first, model.production], X, y, dates)
    rows = X.merge(found.values, how="inner").drop_duplicates()
    assert len(rows) == len(found.values) > 100
    sample = found.values.reindex(columns=X.columns)
    base = first.predict_proba(sample) - found.contributions.sum(axis=1)
    assert np.ptp(base) < 1e-6


@pytest.mark.parametrize("task", ["three_class", "regression"])
@pytest.mark.parametrize("model_type", ["lightgbm", "xgboost", "random_forest"])
def test_the_planted_feature_comes_first_whatever_is_predicted(model_type: str, task: Task) -> None:
    model, X, y = trained(model_type, task)
    found = explain(model.members, X, y, pd.DatetimeIndex(X.index))
    assert found.permutation.index[:2].tolist() == ["signal", "weak"]
    assert found.permutation["signal"] > 10 * abs(found.permutation[["a", "b"]]).max()
    if model_type == "random_forest":
        assert found.shap.empty
        return
    assert found.shap.index[0] == "signal"
    values, terms = found.values["signal"], found.contributions["signal"]
    assert values.corr(terms, method="spearman") > 0.9


@pytest.mark.parametrize("model_type", ["lightgbm", "xgboost", "random_forest"])
def test_the_planted_feature_comes_first_and_noise_costs_nothing(model_type: str) -> None:
    model, X, y = trained(model_type)
    found = explain(model.members, X, y, pd.DatetimeIndex(X.index))
    assert found.permutation.index[:2].tolist() == ["signal", "weak"]
    assert found.permutation["signal"] > 0.1
    assert abs(found.permutation[["a", "b"]]).max() < 0.02
    if model_type == "random_forest":
        assert found.shap.empty
        assert found.contributions.empty
        return
    assert found.shap.index[0] == "signal"
    values, terms = found.values["signal"], found.contributions["signal"]
    assert values.corr(terms, method="spearman") > 0.95


def test_only_rows_that_no_speaking_member_has_seen_are_used() -> None:
    model, X, y = trained("lightgbm")
    first = model.members[0].valid_from
    changed = y.where(y.index >= first)  # what came before is unknown: nothing may change
    dates = pd.DatetimeIndex(X.index)
    before, after = (explain(model.members, X, truth, dates) for truth in (y, changed))
    pd.testing.assert_series_equal(before.permutation, after.permutation)
    unknown = y * np.nan
    assert explain(model.members, X, unknown, dates).permutation.empty


def test_the_same_seed_explains_the_same() -> None:
    model, X, y = trained("lightgbm")
    dates = pd.DatetimeIndex(X.index)
    one, two = (explain(model.members, X, y, dates, seed=5) for _ in range(2))
    pd.testing.assert_series_equal(one.permutation, two.permutation)
    pd.testing.assert_frame_equal(one.contributions, two.contributions)


def trials(n: int) -> list[dict[str, object]]:
    rng = np.random.default_rng(0)
    found: list[dict[str, object]] = []
    for number in range(n):
        params = {
            "learning_rate": float(rng.uniform(0.06, 0.2)),
            "num_leaves": int(rng.integers(3, 24)),
            "lambda_l2": float(rng.uniform(0.1, 100)),
            "max_bin": 63,
        }
        value = 0.6 + 5 * (params["learning_rate"] - 0.1) ** 2 + 1e-5 * rng.normal()
        found.append({"number": number, "params": params, "value": value, "state": "complete"})
    return found


def test_the_parameter_that_decides_explains_most() -> None:
    found = parameter_importance("lightgbm", trials(40))
    assert next(iter(found)) == "learning_rate"
    assert found["learning_rate"] > 0.8
    assert sum(found.values()) == pytest.approx(1)
    assert set(found) <= set(MODELS["lightgbm"].space)


@pytest.mark.parametrize(
    "some",
    [
        [],
        trials(9),
        [{**trial, "state": "pruned"} for trial in trials(40)],
        [{**trial, "value": 0.5} for trial in trials(40)],
        [{**trial, "value": float("nan")} for trial in trials(40)],
        [{**trial, "params": {"max_bin": 63}} for trial in trials(40)],
    ],
)
def test_too_little_to_say_which_parameter_mattered_is_nothing(some: list) -> None:
    assert parameter_importance("lightgbm", some) == {}


def test_the_stability_index_is_the_textbook_sum() -> None:
    rng = np.random.default_rng(0)
    then, now = rng.normal(size=5000), rng.normal(0.5, size=2000)
    baseline = drift_baseline(pd.DataFrame({"a": then}))
    edges = np.r_[-np.inf, np.quantile(then, np.linspace(0, 1, 11)[1:-1]), np.inf]
    p = np.histogram(then, edges)[0] / 5000
    q = np.histogram(now, edges)[0] / 2000
    expected = ((q - p) * np.log(q / p)).sum()
    found = stability_index(baseline, pd.DataFrame({"a": np.r_[now, np.nan]}))
    assert found["a"] == pytest.approx(expected, rel=1e-3)
    same = stability_index(baseline, pd.DataFrame({"a": then}))
    assert same["a"] == pytest.approx(0, abs=1e-6)
    assert np.isnan(stability_index(baseline, pd.DataFrame({"a": [np.nan]}))["a"])


def test_what_is_usual_is_measured_within_the_training() -> None:
    dates = pd.date_range("2024-01-01", periods=24 * 100, freq="1h", tz="UTC")
    index = pd.MultiIndex.from_product([["A/B"], dates], names=["pair", "date"])
    rng = np.random.default_rng(0)
    calm, restless = rng.normal(size=2400), rng.normal(size=2400) + np.linspace(-3, 3, 2400)
    X = pd.DataFrame({"calm": calm, "restless": restless}, index=index)
    found = drift_reference(drift_baseline(X), X)
    assert found.n_windows == 3
    assert found.highest["calm"] < 0.1 < 1 < found.highest["restless"]
    assert drift_reference(None, X).n_windows == 0
    assert drift_reference(drift_baseline(X), X.head(24 * 20)).highest == {}
