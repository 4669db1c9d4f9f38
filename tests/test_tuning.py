"""The search is seeded, counts every trial, learns nothing from test rows, and can be resumed."""

import threading
import time
from dataclasses import replace

import numpy as np
import optuna
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from freqtrade_mlpipe.config import FeatureConfig, ModelConfig
from freqtrade_mlpipe.exceptions import TrainingError
from freqtrade_mlpipe.models import MODELS
from freqtrade_mlpipe.splits import PurgedWalkForward
from freqtrade_mlpipe.tuning import (
    Recipe,
    TrainingData,
    check_slice,
    in_order,
    prepare_slice,
    take_rows,
    tune,
)
from freqtrade_mlpipe.tuning.scoring import FoldOutcome, choose_thresholds, pooled_sharpe, score

HOUR = pd.Timedelta("1h")


def make_data(n=1200, k=5, seed=0, horizon=3):
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(
        rng.normal(size=(n, k)).astype(np.float32), columns=[f"f{i}" for i in range(k)]
    )
    y = (rng.random(n) < 1 / (1 + np.exp(-1.5 * X["f2"].to_numpy()))).astype(np.float64)
    dates = pd.date_range("2024-01-01", periods=n, freq="1h", tz="UTC", unit="ns")
    return TrainingData(
        X=X,
        y=y,
        weight=np.ones(n),
        dates=dates,
        known_at=dates + horizon * HOUR,
        pairs=np.full(n, "A/B", dtype=object),
        candle=HOUR,
        horizon_candles=horizon,
        forward_return=np.where(y == 1, 0.01, -0.01) + rng.normal(0, 0.01, n),
        round_trip_cost=0.002,
    )


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    "rows", [[3, 4, 5], [5, 4, 3], [1, 3, 5], [7], []], ids=["run", "back", "gaps", "one", "none"]
)
def test_rows_are_those_of_iloc_and_a_run_of_them_is_not_copied(order, rows):
    values = np.arange(40, dtype=np.float32).reshape(8, 5).copy(order=order)
    X = pd.DataFrame(values, copy=False, index=pd.date_range("2024-01-01", periods=8))
    found = take_rows(X, np.array(rows, dtype=np.int64))
    pd.testing.assert_frame_equal(found, X.iloc[rows], check_freq=False)
    assert np.shares_memory(found.to_numpy(), values) == (rows in ([3, 4, 5], [7]))


def recipe(features=None, **settings):
    settings = {"n_trials": 6, "parameters": {"n_estimators": 15}, "n_jobs": 1, **settings}
    return Recipe(ModelConfig(**settings), FeatureConfig(**(features or {})))


def folds_of(data, n=3):
    return PurgedWalkForward(n).split(data.dates, data.known_at)


def timeless(trials):
    """Trials without their durations, as text: NaN equals NaN there, and floats are exact."""
    return [repr(replace(trial, seconds=0.0)) for trial in trials]


@pytest.fixture(scope="module")
def data():
    return make_data()


@pytest.fixture(scope="module")
def tuned(data):
    return tune(data, folds_of(data), recipe(n_trials=14))


class TestSearch:
    def test_every_trial_is_listed_with_what_became_of_it(self, tuned):
        assert [trial.number for trial in tuned.trials] == list(range(14))
        assert {trial.state for trial in tuned.trials} == {"complete", "pruned"}
        for trial in tuned.trials:
            assert np.isfinite(trial.value)
            assert trial.seconds > 0
            assert np.isfinite(trial.sharpe) == (trial.state == "complete")

    def test_best_is_the_best_complete_trial(self, tuned):
        complete = [trial for trial in tuned.trials if trial.state == "complete"]
        best = min(complete, key=lambda trial: trial.value)
        assert tuned.best_params == best.params
        assert tuned.best_value == best.value

    def test_first_trial_takes_the_defaults(self, tuned):
        expected = {**MODELS["lightgbm"].defaults, "n_estimators": 15}
        assert tuned.trials[0].params == expected

    def test_result_does_not_depend_on_threads(self, data, tuned):
        found = tune(data, folds_of(data), recipe(n_trials=14, n_jobs=3))
        assert timeless(found.trials) == timeless(tuned.trials)

    def test_other_seed_tries_other_parameters(self, data, tuned):
        found = tune(data, folds_of(data), recipe(n_trials=3, random_state=7))
        assert found.trials[0].params == tuned.trials[0].params
        assert found.trials[1].params != tuned.trials[1].params

    def test_fixed_parameters_are_in_every_trial(self, data):
        fixed = {"n_estimators": 5, "num_leaves": 4}
        found = tune(data, folds_of(data), recipe(n_trials=3, parameters=fixed))
        assert all(fixed.items() <= trial.params.items() for trial in found.trials)

    @pytest.mark.parametrize("metric", ["roc_auc", "f1", "expected_profit", "sharpe"])
    def test_metrics_of_which_more_is_better_are_maximised(self, data, metric):
        found = tune(data, folds_of(data), recipe(n_trials=4, optimization_metric=metric))
        complete = [trial.value for trial in found.trials if trial.state == "complete"]
        assert found.best_value == max(complete)

    def test_trial_that_cannot_be_fitted_is_counted_as_failed(self, data, monkeypatch):
        spec = MODELS["lightgbm"]
        calls = []

        def train(params, *rest):
            calls.append(params)
            if len(calls) == 4:
                raise ValueError("planted")
            return spec.train(params, *rest)

        broken = dict(MODELS) | {"lightgbm": replace(spec, train=train)}
        for module in ("study", "prepared"):
            monkeypatch.setattr(f"freqtrade_mlpipe.tuning.{module}.MODELS", broken)
        found = tune(data, folds_of(data), recipe(n_trials=3))
        assert [trial.state for trial in found.trials] == ["complete", "failed", "complete"]
        assert "planted" in found.trials[1].error
        assert np.isnan(found.trials[1].value)

    def test_nothing_but_failures_is_an_error_that_says_why(self, data):
        with pytest.raises(TrainingError, match=r"None of 2 trials.*num_leaves"):
            tune(data, folds_of(data), recipe(n_trials=2, parameters={"num_leaves": -1}))

    def test_timeout_ends_the_search_after_the_running_trial(self, data):
        found = tune(data, folds_of(data), recipe(n_trials=500, timeout_seconds=1e-6))
        assert len(found.trials) == 1

    def test_progress_is_told(self, data):
        told = []
        tune(data, folds_of(data), recipe(n_trials=2), on_progress=lambda *a: told.append(a))
        assert told[:3] == [("preparing folds", k, 3) for k in (1, 2, 3)]
        assert told[3:] == [("tuning", k, 2) for k in (0, 1, 2)]

    def test_optuna_speaks_as_loud_as_before(self, data):
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        tune(data, folds_of(data), recipe(n_trials=1))
        assert optuna.logging.get_verbosity() == optuna.logging.ERROR
        optuna.logging.set_verbosity(optuna.logging.INFO)


class TestPreparedSlice:
    rows = np.arange(800)

    def test_learns_nothing_from_rows_outside_the_slice(self, data):
        other = replace(data, X=data.X.copy(), y=data.y.copy())
        other.X.iloc[800:] = (
            np.random.default_rng(5).normal(50, 9, size=(400, 5)).astype(np.float32)
        )
        other.y[800:] = 0.0
        first, second = (
            prepare_slice(given, self.rows, recipe()).fit({}) for given in (data, other)
        )
        assert first.model.to_bytes() == second.model.to_bytes()
        assert first.preprocessor == second.preprocessor
        assert first.calibrator == second.calibrator
        assert first.thresholds == second.thresholds

    def test_calibration_rows_do_not_reach_model_and_preprocessing(self, data):
        other = replace(data, X=data.X.copy(), y=data.y.copy())
        other.X.iloc[680:800] += 1.0
        other.y[680:800] = 1 - other.y[680:800]
        first, second = (
            prepare_slice(given, self.rows, recipe(feature_selection=True)).fit({})
            for given in (data, other)
        )
        assert first.model.to_bytes() == second.model.to_bytes()
        assert first.preprocessor == second.preprocessor
        assert first.calibrator != second.calibrator

    def test_stop_rows_do_not_reach_the_preprocessing(self, data):
        other = replace(data, X=data.X.copy())
        other.X.iloc[600:680] += 1.0
        first, second = (prepare_slice(given, self.rows, recipe()) for given in (data, other))
        assert first.preprocessor == second.preprocessor

    def test_parts_are_purged_against_each_other(self, data):
        long = replace(data, known_at=data.dates + 40 * HOUR)
        prepared = prepare_slice(long, self.rows, recipe())
        assert len(prepared.fit_data.y) == 600 - 40
        assert len(prepared.fit_data.y_stop) == 80 - 40
        assert len(prepared.decision.y) == 120

    def test_without_early_stopping_the_stop_rows_are_fitted(self, data):
        prepared = prepare_slice(data, self.rows, recipe(), early_stopping=False)
        assert prepared.fit_data.X_stop is None
        assert len(prepared.fit_data.y) == 680 - 3

    def test_forest_needs_no_stop_rows(self, data):
        prepared = prepare_slice(data, self.rows, recipe(model_type="random_forest"))
        assert prepared.fit_data.X_stop is None

    def test_balanced_class_weights_give_both_classes_the_same_say(self):
        data = make_data()
        data.y[:] = np.random.default_rng(1).random(len(data)) < 0.2
        fit = prepare_slice(data, self.rows, recipe(class_weight="balanced")).fit_data
        assert fit.weight[fit.y == 1].sum() == pytest.approx(fit.weight[fit.y == 0].sum())

    def test_balanced_weights_do_not_bias_the_calibrated_probability(self):
        data = make_data(n=4000)
        rng = np.random.default_rng(1)
        data.y[:] = rng.random(4000) < 0.25 / (1 + np.exp(-data.X["f2"].to_numpy()))
        fitted = prepare_slice(
            data, np.arange(3000), recipe(class_weight="balanced", parameters={})
        ).fit({})
        later = fitted.preprocessor.transform(data.X.iloc[3000:])
        assert fitted.predict_proba(later).mean() == pytest.approx(data.y.mean(), abs=0.03)

    def test_selection_keeps_the_feature_that_matters(self, data):
        settings = recipe(feature_selection=True, max_features=2)
        kept = prepare_slice(data, self.rows, settings).preprocessor.kept_columns
        assert "f2" in kept
        assert len(kept) == 2

    def test_selection_keeps_the_best_even_if_no_feature_reaches_the_minimum(self, data):
        settings = recipe(feature_selection=True, min_feature_importance=0.999)
        assert prepare_slice(data, self.rows, settings).preprocessor.kept_columns == ("f2",)

    @pytest.mark.parametrize(("start", "stop"), [(600, 680), (680, 800)])
    def test_slices_are_widened_where_one_has_one_class(self, data, start, stop, caplog):
        other = replace(data, y=data.y.copy())
        other.y[start:stop] = 1.0
        prepared = prepare_slice(other, self.rows, recipe())
        parts = (prepared.fit_data.y, prepared.fit_data.y_stop, prepared.decision.y)
        assert [len(part) for part in parts] == [520 - 3, 120 - 3, 160]
        assert all(len(np.unique(part)) == 2 for part in parts)
        check_slice(data, self.rows, recipe())
        assert not caplog.records
        check_slice(other, self.rows, recipe())
        assert "20 % of those rows instead of 15 % calibrate" in caplog.text

    def test_one_class_for_too_long_is_refused_with_its_dates(self, data):
        other = replace(data, y=data.y.copy())
        other.y[500:800] = 1.0
        with pytest.raises(
            TrainingError, match=r"early-stopping slice from 2024-01-26.*only class 1 .*no wider"
        ):
            prepare_slice(other, self.rows, recipe())


class TestRowWeights:
    rows = np.arange(800)

    def test_scale_of_the_given_weights_says_nothing(self, data):
        fits = [
            prepare_slice(replace(data, weight=scale * data.weight), self.rows, recipe()).fit_data
            for scale in (1.0, 7.0)
        ]
        np.testing.assert_allclose(fits[0].weight, fits[1].weight, rtol=1e-12)
        assert fits[0].weight.mean() == pytest.approx(1.0)
        assert fits[0].weight_stop.mean() == pytest.approx(1.0)

    def test_weight_halves_with_every_half_life_and_depends_on_nothing_later(self, data):
        settings = recipe(weight_half_life_candles=100)
        fit = prepare_slice(data, self.rows, settings).fit_data
        np.testing.assert_allclose(fit.weight[:-100] / fit.weight[100:], 0.5, rtol=1e-9)
        assert fit.weight.mean() == pytest.approx(1.0)
        more = prepare_slice(data, np.arange(1100), settings).fit_data
        np.testing.assert_allclose(
            more.weight[1:] / more.weight[:-1], fit.weight[1] / fit.weight[0]
        )

    def test_half_life_much_shorter_than_the_slice_leaves_its_end(self, data):
        fit = prepare_slice(data, self.rows, recipe(weight_half_life_candles=0.25)).fit_data
        assert fit.weight[-1] == pytest.approx(len(fit.weight) * 15 / 16, rel=1e-3)

    def test_rows_of_no_weight_are_refused(self, data):
        weight = data.weight.copy()
        weight[:700] = 0.0
        with pytest.raises(TrainingError, match="All 597 rows"):
            prepare_slice(replace(data, weight=weight), self.rows, recipe())


class TestThresholds:
    def test_without_returns_f1_is_maximal(self):
        rng = np.random.default_rng(0)
        proba = rng.random(300).round(2)
        y = (rng.random(300) < proba).astype(np.float64)
        chosen = choose_thresholds(proba, y, None, round_trip_cost=0.0, horizon_candles=1)
        best = max(f1_score(y, proba >= cut) for cut in np.unique(proba))
        assert f1_score(y, proba >= chosen.enter) == best
        assert chosen.exit < chosen.enter

    def test_equal_probabilities_are_no_obstacle(self):
        chosen = choose_thresholds(
            np.full(10, 0.4), np.eye(10)[0], None, round_trip_cost=0.0, horizon_candles=1
        )
        assert chosen.enter == 0.4

    def test_with_returns_unprofitable_rows_are_not_entered(self):
        rng = np.random.default_rng(0)
        proba = rng.random(2000)
        returns = 0.02 * (proba - 0.7) + rng.normal(0, 0.005, 2000)
        chosen = choose_thresholds(
            proba, np.ones(2000), returns, round_trip_cost=0.002, horizon_candles=1
        )
        assert 0.75 < chosen.enter < 0.95


class TestScores:
    def test_profit_without_returns_is_refused(self, data):
        blind = replace(data, forward_return=None)
        with pytest.raises(ValueError, match="forward returns"):
            score("sharpe", blind, np.arange(9), np.zeros(9), np.zeros(9, bool))

    def test_pooled_sharpe_counts_rows_of_several_folds_once(self, data):
        rng = np.random.default_rng(0)
        enter = rng.random(600) < 0.3
        one = FoldOutcome(np.arange(600), np.zeros(600), enter, {})
        part = FoldOutcome(np.arange(100, 300), np.zeros(200), ~enter[100:300], {})
        assert pooled_sharpe(data, [one, part]) == pooled_sharpe(data, [one])
        assert np.isnan(pooled_sharpe(replace(data, forward_return=None), [one]))


class TestInOrder:
    @pytest.mark.parametrize("n_threads", [1, 2, 5])
    def test_results_come_in_order_whatever_finishes_first(self, n_threads):
        def work(k):
            time.sleep(0.02 * (k % 3 == 0))
            return k * k

        assert list(in_order(work, range(9), n_threads)) == [k * k for k in range(9)]

    def test_no_more_threads_than_asked_for(self):
        now, most = set(), []

        def work(k):
            now.add(k)
            most.append(len(now))
            time.sleep(0.01)
            now.discard(k)

        list(in_order(work, range(8), 2))
        assert max(most) == 2

    def test_no_more_threads_than_cores(self, monkeypatch):
        monkeypatch.setattr("freqtrade_mlpipe.tuning.ordered.n_cores", lambda: 1)
        here = threading.get_ident()
        assert set(in_order(lambda k: threading.get_ident(), range(4), 8)) == {here}

    def test_closing_waits_for_what_has_begun_and_drops_the_rest(self):
        begun, ended = [], []

        def work(k):
            begun.append(k)
            time.sleep(0.02)
            ended.append(k)
            return k

        results = in_order(work, range(50), 2)
        assert next(results) == 0
        results.close()
        assert sorted(begun) == sorted(ended)
        assert len(begun) <= 3

    def test_exceptions_arrive_and_leave_no_thread_behind(self):
        before = threading.active_count()
        with pytest.raises(ZeroDivisionError):
            list(in_order(lambda k: 1 / (k - 3), range(8), 2))
        assert threading.active_count() == before
