"""Predicted returns: labels, models, the shrunken line, trades by predicted profit, and files."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn.linear_model import BayesianRidge, Ridge
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from freqtrade_mlpipe.calibration import ValueCalibrator, fit_value_calibrator
from freqtrade_mlpipe.calibration.values import PRIOR_INTERCEPT_SD, PRIOR_SLOPE_SD
from freqtrade_mlpipe.config import LabelConfig, MLPipeConfig, ModelConfig
from freqtrade_mlpipe.exceptions import BundleError, ConfigError, TrainingError
from freqtrade_mlpipe.member import Member, Thresholds, predict
from freqtrade_mlpipe.metrics import value_scores
from freqtrade_mlpipe.models import MODELS, FitData
from freqtrade_mlpipe.trainer import ModelTrainer

HOUR = pd.Timedelta("1h")
NAMES = sorted(MODELS)
ROUNDS = dict.fromkeys(NAMES, 12) | {"ensemble": 3 * 12}
COST = 0.002


def planted(n=2400, seed=0, scale=0.01):
    """Features, log returns, and the part of them that the features explain."""
    rng = np.random.default_rng(seed)
    index = pd.date_range("2024-01-01", periods=n, freq="1h", tz="UTC")
    X = pd.DataFrame(rng.normal(size=(n, 4)).astype(np.float32), columns=list("abcd"), index=index)
    signal = 0.4 * scale * X["a"].to_numpy(np.float64)
    return X, pd.Series(signal + rng.normal(0, scale, n), index), signal


def config(**settings):
    settings = {"optimize_hyperparams": False, "cv_folds": 3, "embargo_candles": 1, "n_jobs": 1,
                "parameters": {"n_estimators": 30}, **settings}  # fmt: skip
    return ModelConfig(**settings)


def train(X, y, settings=None, **extras):
    extras = {"known_at": X.index + HOUR, "round_trip_cost": COST, **extras}
    return ModelTrainer(settings or config()).train(X, y, task="regression", **extras)


@pytest.fixture(scope="module")
def market():
    return planted()


@pytest.fixture(scope="module", params=NAMES)
def trained(request, market):
    X, y, _ = market
    return train(X, y, config(model_type=request.param))


@pytest.mark.parametrize("name", NAMES)
def test_estimators_fit_values_and_files_give_back_the_bits(name, market):
    X, y, signal = market
    matrix = X.to_numpy()
    data = FitData(matrix, y.to_numpy() / y.std(), np.ones(len(y)), task="regression")
    model = MODELS[name].fit({"n_estimators": 12}, data, seed=1)
    found = model.predict_proba(matrix)
    assert np.corrcoef(found, signal)[0, 1] > 0.7
    again = MODELS[name].load(model.to_bytes(), 4)
    assert (
        (again.task, again.n_rounds) == (model.task, model.n_rounds) == ("regression", ROUNDS[name])
    )
    np.testing.assert_array_equal(again.predict_proba(matrix), found)
    assert model.predict_proba(matrix[:0]).shape == (0,)
    assert model.importance().argmax() == 0


class TestLine:
    def fit(self, n_effective, x, y, scale=0.01):
        return fit_value_calibrator("sigmoid", x, y, n_effective=n_effective, scale=scale)

    def test_much_evidence_gives_the_least_squares_line(self):
        rng = np.random.default_rng(0)
        x = rng.normal(size=4000)
        y = 0.01 * (0.3 * x + 0.2 + rng.normal(0, 0.1, 4000))
        found = self.fit(1e9, x, y)
        assert (found.slope, found.intercept) == pytest.approx(tuple(np.polyfit(x, y, 1)), rel=1e-4)

    def test_no_evidence_gives_the_model_s_own_word(self):
        rng = np.random.default_rng(0)
        found = self.fit(1e-9, rng.normal(size=50), rng.normal(size=50))
        assert (found.slope, found.intercept) == pytest.approx((0.01, 0.0), abs=1e-9)

    def test_in_between_it_is_ridge_regression_around_the_identity(self):
        rng = np.random.default_rng(1)
        x, weight = rng.normal(size=300), rng.uniform(0.5, 2, 300)
        y = 0.7 * x + rng.normal(size=300)
        found = fit_value_calibrator("sigmoid", x, y, weight, n_effective=40, scale=1.0)
        # Columns in units of their prior, so that one penalty serves both.
        design = np.column_stack([x * PRIOR_SLOPE_SD, np.full(300, PRIOR_INTERCEPT_SD)])
        oracle = Ridge(alpha=1.0, fit_intercept=False)
        oracle.fit(design, y - x, sample_weight=weight * 40 / weight.sum())
        expected = 1 + oracle.coef_[0] * PRIOR_SLOPE_SD, oracle.coef_[1] * PRIOR_INTERCEPT_SD
        assert (found.slope, found.intercept) == pytest.approx(expected, rel=1e-6)

    def test_wrong_way_round_becomes_a_constant(self):
        x = np.linspace(-1, 1, 200)
        found = self.fit(1e6, x, -0.01 * x + 0.003)
        assert found.slope == 0
        assert found.intercept == pytest.approx(0.003, rel=1e-2)

    def test_json_gives_back_an_equal_one_and_damage_is_refused(self):
        found = ValueCalibrator(0.1 + 0.2, -1 / 3)
        content = json.loads(json.dumps(found.to_dict()))
        assert ValueCalibrator.from_dict(content) == found
        for change in (
            {"kind": "sigmoid"},
            {"slope": -1},
            {"slope": "a"},
            {"more": 1},
            {"intercept": float("inf")},
        ):
            with pytest.raises(BundleError):
                ValueCalibrator.from_dict(content | change)


def test_scores_are_those_of_scikit_learn_and_scipy(market):
    _, y, signal = market
    found = value_scores(y, signal)
    expected = {
        "rmse": root_mean_squared_error(y, signal),
        "mae": mean_absolute_error(y, signal),
        "r2": r2_score(y, signal),
        "spearman": spearmanr(y, signal).statistic,
        "squared_error": root_mean_squared_error(y, signal) ** 2,
    }
    assert found == pytest.approx(expected, rel=1e-9)
    assert np.isnan(value_scores([1.0, 1.0], [0.0, 1.0])["r2"])
    assert np.isnan(value_scores([1.0, 1.0], [0.0, 1.0])["spearman"])
    assert value_scores([1.0, 2.0], [0.0, 0.0])["spearman"] == 0.0
    for bad in (([], []), ([1.0], [1.0, 2.0]), ([np.nan], [0.0])):
        with pytest.raises(ValueError):
            value_scores(*bad)


class TestTraining:
    def test_most_of_the_planted_signal_is_found(self, trained, market):
        X, y, signal = market
        model, metrics = trained
        rows = X.index.get_indexer(model.report.oos.index.get_level_values("date"))
        best = spearmanr(y.iloc[rows], signal[rows]).statistic
        assert metrics["spearman"] > 0.75 * best
        linear = BayesianRidge().fit(X.iloc[: rows[0]], y.iloc[: rows[0]]).predict(X.iloc[rows])
        assert metrics["r2"] > 0.6 * r2_score(y.iloc[rows], linear)
        assert metrics["squared_error"] < metrics["baseline_mean_squared_error"]
        assert metrics["squared_error"] < metrics["baseline_zero_squared_error"]

    def test_trades_are_those_of_large_predictions_and_pay(self, trained):
        model, metrics = trained
        oos = model.report.oos
        assert metrics["expected_profit"] > 0.001
        assert 0.01 < metrics["entry_rate"] < 0.5
        traded = oos["position"] == 1
        assert set(oos["position"]) == {0, 1}
        assert (oos.loc[traded, "edge"] >= 0).all()
        assert oos.loc[traded, "prediction"].mean() > COST
        gross = np.expm1(oos.loc[traded, "y"])
        assert metrics["expected_profit"] == pytest.approx(gross.mean() - COST)

    def test_reported_scores_are_those_of_the_reported_rows(self, trained, market):
        model, metrics = trained
        oos = model.report.oos
        assert metrics["rmse"] == pytest.approx(
            root_mean_squared_error(oos["y"], oos["prediction"])
        )
        assert metrics["squared_error"] == pytest.approx(oos["loss"].mean())
        assert metrics["baseline_zero_squared_error"] == pytest.approx((oos["y"] ** 2).mean())
        for fold, part in oos.groupby("fold"):
            known = market[1][market[0].index + HOUR < part.index[0][1] - HOUR]
            assert part["loss_mean"].mean() == pytest.approx(
                ((part["y"] - known.mean()) ** 2).mean()
            ), fold
        assert not {"log_loss", "roc_auc", "brier", "expected_calibration_error"} & set(metrics)
        assert all(np.isfinite(value) for value in metrics.values())

    def test_what_is_reported_is_served_without_a_probability(self, trained, market):
        model, _ = trained
        oos, X = model.report.oos, market[0]
        found = predict(model.members, X, X.index)
        rows = X.index.get_indexer(oos.index.get_level_values("date"))
        np.testing.assert_array_equal(found.value[rows], oos["prediction"])
        np.testing.assert_array_equal(found.edge[rows], oos["edge"])
        np.testing.assert_array_equal(found.signal[rows], oos["signal"])
        assert np.isnan(found.proba).all()
        assert (found.do_predict[rows] == 1).all()
        assert (found.do_predict[: rows[0]] == -1).all()

    def test_member_survives_its_files_to_the_last_bit(self, trained, market):
        member = trained[0].production
        files = member.to_files()
        again = Member.from_files(files)
        np.testing.assert_array_equal(
            again.predict_proba(market[0]), member.predict_proba(market[0])
        )
        assert again.calibrator == member.calibrator
        assert again.thresholds == member.thresholds
        content = json.loads(files["member.json"])
        for change in ({"task": "three_class"}, {"task": "binary"}, {"task": "x"}, {"format": 1}):
            with pytest.raises(BundleError):
                Member.from_files(files | {"member.json": json.dumps(content | change).encode()})

    def test_scale_of_the_returns_does_not_matter(self, market):
        """A market of small returns is learned from as well: gains are not lost in rounding."""
        X, y, _ = market
        for name in NAMES:
            one, small = (
                train(X, scale * y, config(model_type=name), round_trip_cost=scale * COST,
                      forward_return=scale * np.expm1(y))[0].report.oos["prediction"]
                for scale in (1.0, 1e-3)
            )  # fmt: skip
            np.testing.assert_allclose(small, 1e-3 * one, rtol=1e-2, atol=1e-7)

    @pytest.mark.parametrize(
        "metric", ["rmse", "mae", "r2", "spearman", "expected_profit", "sharpe"]
    )
    def test_every_metric_can_be_searched_for(self, market, metric):
        X, y, _ = (part[:900] for part in market)
        settings = config(optimize_hyperparams=True, n_trials=2, cv_folds=2, optimization_metric=metric,
                          parameters={"n_estimators": 5})  # fmt: skip
        model, metrics = train(X, y, settings)
        assert np.isfinite(metrics["tuning_score"])
        better = min if metric in ("rmse", "mae") else max
        assert metrics["tuning_score"] == better(t["value"] for t in model.report.trials)

    def test_uncalibrated_is_the_model_s_own_word(self, market):
        X, y, _ = market
        model, _ = train(X, y, config(calibration="none"))
        assert model.production.calibrator.intercept == 0

    def test_bad_input_is_refused_before_training(self, market):
        X, y, _ = market
        with pytest.raises(TrainingError, match=r"All 2400 usable rows have label 0.5"):
            train(X, y * 0 + 0.5)
        with pytest.raises(TrainingError, match="infinite"):
            train(X, y.where(y.index != y.index[5], np.inf))
        with pytest.raises(TrainingError, match=r"slice .* has only label 0 "):
            train(X, y.where(y.index >= y.index[700], 0.0))

    def test_no_trade_where_nothing_varies(self):
        thresholds = Thresholds(enter=0.01, exit=0.0)
        assert thresholds.positions(np.array([0.02, np.nan, 0.005])).tolist() == [1, 0, 0]


@pytest.mark.parametrize("name", NAMES)
def test_a_monotone_column_only_moves_the_value_one_way(name, market):
    X, y, _ = market
    data = FitData(
        X.to_numpy(), y.to_numpy() / y.std(), np.ones(len(y)), task="regression",
        monotone=(-1, 0, 0, 0),  # against the planted signal: it may not be used at all
    )  # fmt: skip
    model = MODELS[name].fit({"n_estimators": 12}, data, seed=1)
    grid = np.zeros((50, 4), dtype=np.float32)
    grid[:, 0] = np.linspace(-3, 3, 50)
    assert (np.diff(model.predict_proba(grid)) <= 1e-12).all()


def test_search_by_several_metrics_finds_the_signal(market):
    X, y, _ = market
    settings = {"optimize_hyperparams": True, "n_trials": 3, "cv_folds": 2}
    model, metrics = train(X, y, config(optimization_metrics=["rmse", "spearman"], **settings))
    assert metrics["spearman"] > 0.2
    best = [
        trial["value"] for trial in model.report.trials if trial["number"] in model.report.front
    ]
    assert metrics["tuning_score"] in best
    assert model.report.rule.startswith("of the Pareto front over rmse, spearman")


class TestConfiguration:
    def test_metric_must_suit_the_labels(self):
        returns = LabelConfig(kind="forward_return")
        with pytest.raises(
            ConfigError, match=r"'log_loss' does not suit the task regression.*rmse"
        ):
            MLPipeConfig(labels=returns)
        with pytest.raises(ConfigError, match="'rmse' does not suit the task binary"):
            MLPipeConfig(model=ModelConfig(optimization_metric="rmse"))
        MLPipeConfig(labels=returns, model=ModelConfig(optimization_metric="rmse"))
        MLPipeConfig(labels=returns, model=ModelConfig(optimize_hyperparams=False))

    def test_every_searched_metric_must_suit_the_labels(self):
        returns = LabelConfig(kind="forward_return")
        several = ModelConfig(optimization_metrics=["rmse", "sharpe"])
        assert MLPipeConfig(labels=returns, model=several).model.direction == "minimize"
        mixed = ModelConfig(optimization_metrics=["rmse", "log_loss"])
        with pytest.raises(ConfigError, match="'log_loss' does not suit the task regression"):
            MLPipeConfig(labels=returns, model=mixed)
        with pytest.raises(ConfigError, match="'rmse' does not suit the task three_class"):
            MLPipeConfig(labels=LabelConfig(classes=3), model=mixed)

    def test_settings_of_classes_are_refused(self, market):
        for settings in ({"calibration": "isotonic"}, {"class_weight": "balanced"}):
            with pytest.raises(ConfigError, match="needs classes"):
                train(*market[:2], config(**settings))
        with pytest.raises(ConfigError, match="has no classes"):
            LabelConfig(kind="forward_return", classes=3)
