"""Training that can be believed: honest out-of-sample rows, no leak, planted signals found."""

import itertools
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    f1_score,
    log_loss,
    matthews_corrcoef,
    precision_score,
    recall_score,
    roc_auc_score,
)

from freqtrade_mlpipe.config import FeatureConfig, ModelConfig
from freqtrade_mlpipe.exceptions import ConfigError, SearchInterrupted, TrainingError
from freqtrade_mlpipe.member import predict
from freqtrade_mlpipe.models import MODELS
from freqtrade_mlpipe.trainer import ModelTrainer

HOUR = pd.Timedelta("1h")
QUICK_OR_SLOW = [
    pytest.param(name, marks=pytest.mark.slow) if name == "ensemble" else name
    for name in sorted(MODELS)
]


def hours(n, start="2024-01-01"):
    return pd.date_range(start, periods=n, freq="1h", tz="UTC")


def planted(n, k=6, seed=0, kind="linear", index=None):
    """Features, labels and the log-odds that made them: no model can rank better than those."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, k)).astype(np.float32)
    odds = {
        "linear": values[:, 0] + 0.5 * values[:, 1],
        "interaction": 1.5 * np.sign(values[:, 0]) * values[:, 1],
        "none": np.zeros(n),
    }[kind]
    y = (rng.random(n) < 1 / (1 + np.exp(-odds))).astype(np.float64)
    index = hours(n) if index is None else index
    X = pd.DataFrame(values, columns=[f"f{i}" for i in range(k)], index=index)
    return X, pd.Series(y, index=index), pd.Series(odds, index=index)


def config(**settings):
    settings = {"n_trials": 3, "cv_folds": 3, "embargo_candles": 3, "n_jobs": 1, **settings}
    return ModelConfig(**{"parameters": {"n_estimators": 20}, **settings})


def known(index, candles=3):
    dates = index.get_level_values(-1) if isinstance(index, pd.MultiIndex) else index
    return dates + candles * HOUR


def train(X, y, settings=None, **extras):
    if "known_at" not in extras:
        extras["known_at"] = known(X.index)
    return ModelTrainer(settings or config()).train(X, y, **extras)


def pooled(n=500, n_pairs=3, seed=0, kind="linear"):
    index = pd.MultiIndex.from_product(
        [[f"{chr(65 + i)}/USDT" for i in range(n_pairs)], hours(n)], names=["pair", "date"]
    )
    return planted(n * n_pairs, seed=seed, kind=kind, index=index)


@pytest.fixture(scope="module")
def market():
    X, y, odds = pooled()
    rng = np.random.default_rng(4)
    returns = pd.Series(np.where(y == 1, 0.01, -0.01) + rng.normal(0, 0.01, len(y)), X.index)
    weight = pd.Series(rng.uniform(0.5, 1.5, len(y)), X.index)
    return X, y, odds, returns, weight


@pytest.fixture(scope="module")
def trained(market):
    X, y, _, returns, weight = market
    return train(
        X, y, config(n_trials=8), weight=weight, forward_return=returns, round_trip_cost=0.002
    )


class TestPlainCalls:
    """As the README has them."""

    def test_frame_and_series_without_dates(self):
        X, y, _ = planted(900)
        X, y = X.reset_index(drop=True), y.reset_index(drop=True)
        settings = ModelConfig(model_type="random_forest", optimize_hyperparams=True, n_trials=2)
        with pytest.warns(UserWarning, match="known 24 candles after") as caught:
            model, metrics = ModelTrainer(settings).train(X, y)
        assert len(caught) == 1
        assert caught[0].filename == __file__
        assert isinstance(metrics["f1"], float)
        assert 0.5 < metrics["accuracy"] < 1
        assert model.predict(X).shape == (900,)

    def test_arrays_give_the_same_model_as_a_frame(self):
        X, y, _ = planted(900)
        first, _ = ModelTrainer(config()).train(X.to_numpy(), y.to_numpy(), horizon_candles=3)
        second, _ = ModelTrainer(config()).train(
            X.reset_index(drop=True), list(y), horizon_candles=3
        )
        assert files_of(first) == files_of(second)
        np.testing.assert_array_equal(
            first.predict_proba(X.to_numpy()[:9]), second.predict_proba(X[:9])
        )

    def test_default_configuration(self):
        X, y, _ = planted(700)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            settings = ModelConfig(n_trials=1)
            _, metrics = ModelTrainer(settings, FeatureConfig()).train(X, y, horizon_candles=3)
        assert metrics["roc_auc"] > 0.6

    def test_held_out_period(self):
        X, y, _ = planted(1500)
        trainer = ModelTrainer(config())
        late = slice(1200, None)
        model, metrics = trainer.train(
            X[:1200], y[:1200], X_val=X[late], y_val=y[late], known_at=known(X.index[:1200])
        )
        assert metrics["val_n_rows"] == 300
        proba = model.predict_proba(X[late])
        assert metrics["val_roc_auc"] == pytest.approx(roc_auc_score(y[late], proba))
        assert metrics["val_f1"] == pytest.approx(f1_score(y[late], model.predict(X[late])))
        assert metrics["n_rows"] == 1200 - 3
        assert model.production.train_end < X.index[1200]

    def test_held_out_period_without_dates(self):
        X, y, _ = planted(1500)
        values, labels = X.to_numpy(), y.to_numpy()
        _, metrics = ModelTrainer(config()).train(
            values[:1200], labels[:1200], values[1200:], labels[1200:], horizon_candles=3
        )
        assert metrics["n_rows"] == 1200 - 3
        assert metrics["val_roc_auc"] > 0.6


def files_of(model):
    return [member.to_files() for member in model.members]


class TestHonesty:
    def test_every_row_is_predicted_by_a_model_that_knew_only_earlier_candles(self, trained):
        model, _ = trained
        for number, part in model.report.oos.groupby("fold"):
            assert model.members[number].train_end < part.index.get_level_values("date").min()

    def test_spans_follow_each_other_without_overlap(self, trained):
        members = trained[0].members
        for earlier, later in itertools.pairwise(members):
            assert earlier.valid_from < earlier.valid_to == later.valid_from
        assert members[-1].valid_to is None
        assert members[-1].valid_from == members[-1].train_end + HOUR

    def test_reported_predictions_are_those_that_will_be_served(self, trained, market):
        model, oos = trained[0], trained[0].report.oos
        X = market[0].loc[oos.index]
        found = predict(model.members, X, X.index.get_level_values("date"))
        np.testing.assert_array_equal(found.proba, oos["proba"])
        np.testing.assert_array_equal(found.edge, oos["edge"])
        np.testing.assert_array_equal(found.signal, oos["signal"])
        assert (found.do_predict == 1).all()

    def test_rows_before_the_first_test_are_masked(self, trained, market):
        model, X = trained[0], market[0]
        dates = X.index.get_level_values("date")
        found = predict(model.members, X, dates)
        np.testing.assert_array_equal(found.do_predict == -1, dates < model.members[0].valid_from)

    def test_the_future_does_not_change_the_past(self, market):
        """Members and predictions of the first folds do not move when later rows do."""
        X, y, *_ = market
        settings = config(optimize_hyperparams=False)
        other, labels = X.copy(), y.copy()
        late = X.index.get_level_values("date") >= hours(500)[400]
        rng = np.random.default_rng(9)
        other[late] = rng.normal(7, 3, size=(late.sum(), 6)).astype(np.float32)
        labels[late] = 1 - labels[late]
        first, second = train(X, y, settings)[0], train(other, labels, settings)[0]
        assert files_of(first)[:2] == files_of(second)[:2]
        early = first.report.oos["fold"] < 2
        kept = first.report.oos.loc[early, "proba"]
        pd.testing.assert_series_equal(kept, second.report.oos.loc[kept.index, "proba"])
        assert files_of(first)[-1] != files_of(second)[-1]

    @pytest.mark.parametrize("method", ["purged_kfold", "cpcv"])
    def test_other_cross_validation_still_reports_a_walk_forward(self, market, method):
        X, y, *_ = market
        model, metrics = train(X, y, config(cv_method=method, n_trials=2))
        assert len(model.members) == 4
        assert not model.report.oos.index.duplicated().any()
        for number, part in model.report.oos.groupby("fold"):
            assert model.members[number].train_end < part.index.get_level_values("date").min()
        assert metrics["roc_auc"] > 0.6

    @pytest.mark.parametrize("method", ["timeseries", "purged_kfold", "cpcv"])
    def test_later_labels_do_not_choose_the_parameters_of_a_member(self, market, method):
        """Whatever the last period holds, the members before it, and its own parameters, are the same."""
        X, y, *_ = market
        settings = config(cv_method=method, n_trials=8, pruner="none")
        last = train(X, y, settings)[0].report
        begins = pd.Timestamp(last.folds[-1]["test_start"])
        later = y.index.get_level_values("date") >= begins
        rng = np.random.default_rng(3)
        changed = y.where(~later, rng.permutation(y.to_numpy()))
        known_at = known(X.index)
        other = train(X, changed, settings, known_at=known_at)[0].report
        assert [fold["trial"] for fold in other.folds] == [fold["trial"] for fold in last.folds]
        assert last.folds[0]["trial"] is None
        assert {fold["trial"] for fold in last.folds[1:]} <= set(range(4))
        scores = ("n_trees", "enter", "exit")
        for mine, same in zip(last.folds, other.folds, strict=True):
            assert [mine[name] for name in scores] == [same[name] for name in scores]
        assert [t["value"] for t in other.trials] != [t["value"] for t in last.trials]

    def test_no_member_looks_back_beyond_the_sliding_window(self, market):
        X, y, *_ = market
        settings = config(optimize_hyperparams=False, train_window_candles=100)
        model, _ = train(X, y, settings)
        whole, _ = train(X, y, config(optimize_hyperparams=False))
        for member, expanding in zip(model.members, whole.members, strict=True):
            assert member.train_end == expanding.train_end
            assert member.train_end - member.train_start == 99 * HOUR
            assert expanding.train_start == X.index[0][1]
            assert member.n_train_rows == 3 * (100 - 3)
        assert model.report.oos.index.equals(whole.report.oos.index)

    def test_window_too_short_to_train_on_is_refused_before_training(self, market):
        X, y, *_ = market
        with pytest.raises(TrainingError, match=r"no training rows.*longer training window"):
            train(X, y, config(train_window_candles=3))

    def test_valid_from_is_kept_and_must_be_later_than_all_labels(self, market):
        X, y, *_ = market
        settings = config(optimize_hyperparams=False)
        later = X.index.get_level_values("date").max() + 9 * HOUR
        model, _ = train(X, y, settings, valid_from=later)
        assert model.production.valid_from == model.members[-2].valid_to == later
        with pytest.raises(TrainingError, match="candles it has seen"):
            train(X, y, settings, valid_from=later - 7 * HOUR)


class TestReproducibility:
    def test_same_input_same_files_whatever_the_number_of_threads(self, market, trained):
        X, y, _, returns, weight = market
        extras = {"weight": weight, "forward_return": returns, "round_trip_cost": 0.002}
        model, metrics = train(X, y, config(n_trials=8, n_jobs=3), **extras)
        assert files_of(model) == files_of(trained[0])
        assert metrics == trained[1]
        assert model.report.data_hash == trained[0].report.data_hash

    @pytest.mark.parametrize("model_type", QUICK_OR_SLOW)
    def test_every_model_repeats_itself(self, market, model_type):
        X, y, *_ = market
        settings = config(model_type=model_type, n_trials=2, feature_selection=True)
        assert files_of(train(X, y, settings)[0]) == files_of(train(X, y, settings)[0])

    def test_row_order_of_pooled_pairs_does_not_matter(self, market):
        X, y, *_ = market
        settings = config(optimize_hyperparams=False)
        by_date = X.sort_index(level=["date", "pair"])
        first = train(X, y, settings)[0]
        second = train(by_date, y.loc[by_date.index], settings)[0]
        assert files_of(first) == files_of(second)
        assert first.report.data_hash == second.report.data_hash

    def test_data_hash_sees_every_input(self):
        X, y, _ = planted(600)
        settings = config(optimize_hyperparams=False)
        shifted = X.copy()
        shifted.iloc[300, 2] += np.float32(1e-3)
        flipped = y.copy()
        flipped.iloc[300] = 1 - flipped.iloc[300]
        moved = X.set_axis(X.index + HOUR)
        given = [
            (X, y, {}),
            (shifted, y, {}),
            (X, flipped, {}),
            (moved, y.set_axis(moved.index), {}),
            (X.rename(columns={"f0": "g0"}), y, {}),
            (X, y, {"weight": np.full(600, 2.0)}),
            (X, y, {"forward_return": np.zeros(600)}),
            (X, y, {"known_at": known(X.index, 4)}),
        ]
        hashes = {train(a, b, settings, **extras)[0].report.data_hash for a, b, extras in given}
        assert len(hashes) == len(given)


class TestReport:
    def test_metrics_are_those_of_scikit_learn_on_the_reported_rows(self, trained):
        model, metrics = trained
        oos = model.report.oos
        y, proba, chosen = oos["y"], oos["proba"], oos["edge"] >= 0
        expected = {
            "accuracy": accuracy_score(y, chosen),
            "precision": precision_score(y, chosen),
            "recall": recall_score(y, chosen),
            "f1": f1_score(y, chosen),
            "mcc": matthews_corrcoef(y, chosen),
            "roc_auc": sum(
                roc_auc_score(part["y"], part["proba"]) * len(part) / len(oos)
                for _, part in oos.groupby("fold")
            ),
            "log_loss": log_loss(y, proba),
            "brier": brier_score_loss(y, proba),
            "positive_rate": y.mean(),
            "expected_profit": oos["forward_return"][chosen].mean() - 0.002,
        }
        assert {name: metrics[name] for name in expected} == pytest.approx(expected)

    def test_metrics_are_finite_floats(self, trained):
        assert all(type(value) is float for value in trained[1].values())
        assert np.isfinite(list(trained[1].values())).all()
        assert {"sharpe", "sharpe_per_candle", "baseline_log_loss", "tuning_score"} <= set(
            trained[1]
        )

    def test_counts(self, trained, market):
        model, metrics = trained
        assert metrics["n_rows"] == len(market[0])
        assert metrics["n_oos_rows"] == len(model.report.oos)
        assert metrics["n_trials"] == len(model.report.trials) == 8
        assert metrics["n_features"] == 6
        assert len(model.report.folds) == 3
        assert sum(fold["n_test"] for fold in model.report.folds) == len(model.report.oos)

    def test_trial_sharpes_of_complete_trials(self, trained):
        report = trained[0].report
        complete = [trial for trial in report.trials if trial["state"] == "complete"]
        assert report.trial_sharpes == [trial["sharpe"] for trial in complete]
        assert np.isfinite(report.trial_sharpes).all()

    def test_without_returns_there_is_no_sharpe(self):
        X, y, _ = planted(600)
        model, metrics = train(X, y)
        assert "sharpe" not in metrics
        assert np.isnan(model.report.trial_sharpes).all()
        assert model.report.oos["forward_return"].isna().all()

    def test_importance_names_the_planted_features_in_every_fold(self, trained):
        importance = trained[0].report.feature_importance
        assert importance.index[:2].tolist() == ["f0", "f1"]
        assert sorted(importance.index) == [f"f{i}" for i in range(6)]
        assert importance.sum() == pytest.approx(1)
        assert trained[1]["importance_stability"] > 0.3

    def test_incomplete_rows_are_left_out_and_counted(self):
        X, y, _ = planted(700)
        X.iloc[:30, 1] = np.nan
        y.iloc[-4:] = np.nan
        times = pd.Series(known(X.index), X.index)
        times.iloc[-4:] = pd.NaT
        model, metrics = train(X, y, known_at=times)
        assert model.report.n_dropped_nan == metrics["n_dropped_nan"] == 34
        assert metrics["n_rows"] == 666
        assert np.isnan(model.predict(X)[:30]).all()
        assert not np.isnan(model.predict(X)[30:]).any()

    def test_progress_has_every_stage_to_its_end(self):
        X, y, _ = planted(600)
        told = []
        train(X, y, on_progress=lambda *step: told.append(step))
        assert list(dict.fromkeys(stage for stage, _, _ in told)) == [
            "preparing folds",
            "tuning",
            "fitting members",
        ]
        assert ("tuning", 3, 3) in told
        assert told[-1] == ("fitting members", 4, 4)

    def test_search_can_be_resumed(self, tmp_path):
        X, y, _ = planted(600)
        journal = tmp_path / "study.log"
        first = train(X, y, config(n_trials=2), storage=journal)[0].report
        second = train(X, y, config(n_trials=3), storage=journal)[0].report
        assert second.trials[:2] == first.trials

    def test_monotone_columns_are_monotone_in_every_member(self, market):
        X, y, *_ = market
        settings = config(optimize_hyperparams=False, monotone={"f0": -1})
        model, _ = train(X, y, settings)
        grid = pd.concat([X[:1]] * 50, ignore_index=True).assign(f0=np.linspace(-3, 3, 50))
        for member in model.members:
            assert (np.diff(member.predict_proba(grid.astype(np.float32))) <= 1e-12).all()

    def test_another_cost_or_period_is_another_search(self, tmp_path):
        X, y, returns = planted(600)
        late = {"X_val": X[540:], "y_val": y[540:]}
        for number, extras in enumerate(({}, {"round_trip_cost": 0.01}, late, {}), 1):
            if number == 3:
                train(X[:540], y[:540], config(n_trials=1), storage=tmp_path, **extras)
            else:
                train(X, y, config(n_trials=1), forward_return=returns, storage=tmp_path, **extras)
        assert len(list(tmp_path.glob("*.journal"))) == 3

    def test_another_task_is_another_search(self, tmp_path):
        X, y, returns = planted(600)
        settings = config(n_trials=1, optimization_metric="expected_profit")
        for task in ("binary", "regression", "binary"):
            train(X, y, settings, forward_return=returns, storage=tmp_path, task=task)
        assert len(list(tmp_path.glob("*.journal"))) == 2

    def test_interrupted_while_members_are_fitted_the_search_is_kept(self, tmp_path):
        X, y, _ = planted(600)

        def stop(stage, done, total):
            if stage == "fitting members":
                raise KeyboardInterrupt

        with pytest.raises(SearchInterrupted, match="3 of 3 trials"):
            train(X, y, storage=tmp_path, on_progress=stop)
        told = []
        model, _ = train(X, y, storage=tmp_path, on_progress=lambda *step: told.append(step))
        assert [step for step in told if step[0] != "fitting members"] == [("tuning", 3, 3)]
        assert files_of(model) == files_of(train(X, y)[0])

    def test_several_metrics_are_reported_with_front_and_rule(self, market):
        X, y, _, returns, _ = market
        settings = config(n_trials=4, optimization_metrics=["log_loss", "expected_profit"])
        report = train(X, y, settings, forward_return=returns)[0].report
        assert (
            report.best_params == report.trials[report.front[0]]["params"] or len(report.front) > 1
        )
        assert set(report.trials[0]["fold_scores"]) == {"log_loss", "expected_profit"}
        assert "best expected_profit" in report.rule
        with pytest.raises(TrainingError, match="needs forward_return"):
            train(X, y, settings)

    def test_selection_reduces_every_member(self, market):
        X, y, *_ = market
        model, metrics = train(X, y, config(feature_selection=True, max_features=2))
        assert metrics["n_features_used"] == 2
        for member in model.members:
            assert len(member.preprocessor.kept_columns) == 2
            assert "f0" in member.preprocessor.kept_columns
        assert (model.report.feature_importance == 0).sum() == 4
        selection = model.report.selection
        assert selection["f0"] == selection.max() == 1
        assert selection.sum() == pytest.approx(2)
        assert -1 < metrics["selection_stability"] <= 1


class TestBadInput:
    def bad(self, X, y, settings=None, **extras):
        """The message; nothing was trained when it was raised."""

        def no_progress(*step):
            raise AssertionError(f"training had begun: {step}")

        with pytest.raises(TrainingError) as caught:
            train(X, y, settings, on_progress=no_progress, **extras)
        return str(caught.value)

    @pytest.fixture
    def good(self):
        X, y, _ = planted(600)
        return X, y

    def test_one_class(self, good):
        assert "class 1" in self.bad(good[0], good[1] * 0 + 1)

    def test_one_class_in_the_first_training_slice(self, good):
        X, y = good
        y.iloc[:250] = 0
        assert "only class 0" in self.bad(X, y)

    def test_column_without_values(self, good):
        X, y = good
        X["f3"] = np.float32(np.nan)
        assert "without any value: f3" in self.bad(X, y)

    def test_no_complete_row(self, good):
        X, y = good
        X.iloc[::2, 0], X.iloc[1::2, 1] = np.nan, np.nan
        assert "None of 600 rows" in self.bad(X, y)

    def test_too_few_rows(self, good):
        X, y = good
        assert "more candles" in self.bad(X[:12], y[:12], config(cv_folds=5))
        assert "different dates" in self.bad(X[:4], y[:4], config(cv_folds=5))

    @pytest.mark.parametrize("value", [np.inf, -np.inf, 1e300])
    def test_infinite_values(self, good, value):
        X, y = good
        X = X.astype(np.float64)
        X.iloc[5, 2] = value
        assert "infinite" in self.bad(X, y)
        assert "f2" in self.bad(X, y)

    def test_misaligned_index(self, good):
        X, y = good
        assert "indexes of X and y differ" in self.bad(X, y.set_axis(y.index + HOUR))
        assert "indexes of X and weight differ" in self.bad(
            X, y, weight=pd.Series(1.0, index=range(600))
        )
        assert "y has 599 rows, X has 600" in self.bad(X, y[:-1])

    def test_unsorted_and_duplicate_times(self, good):
        X, y = good
        order = np.r_[1, 0, 2:600]
        assert "not in order" in self.bad(X.iloc[order], y.iloc[order])
        order = np.r_[0, 0, 2:600]
        assert "duplicate" in self.bad(X.iloc[order], y.iloc[order])

    def test_duplicate_pair_and_date(self, market):
        X, y, *_ = market
        rows = np.r_[0, 0:1499]
        assert "('A/USDT', " in self.bad(X.iloc[rows], y.iloc[rows])

    def test_shuffled_rows_without_dates(self, good):
        X, y = (part.reset_index(drop=True) for part in good)
        order = np.random.default_rng(0).permutation(600)
        message = self.bad(X.iloc[order], y.iloc[order], known_at=None, horizon_candles=3)
        assert "not in order" in message

    def test_dates_without_time_zone(self, good):
        X, y = good
        naive = X.index.tz_localize(None)
        assert "time zone" in self.bad(X.set_axis(naive), y.set_axis(naive))
        assert "time zone" in self.bad(X, y, known_at=naive)

    @pytest.mark.parametrize("label", [2, -1, 0.5])
    def test_other_labels(self, good, label):
        X, y = good
        y.iloc[7] = label
        assert f"found also {label:g}" in self.bad(X, y)

    def test_text(self, good):
        X, y = good
        assert "not so: f1" in self.bad(X.assign(f1="up"), y)
        assert "0, 1 or NaN" in self.bad(X, y.map({0: "down", 1: "up"}))

    def test_dimensions_and_names(self, good):
        X, y = good
        assert "two dimensions" in self.bad_array(X["f0"].to_numpy(), y)
        assert "distinct names" in self.bad(X.set_axis(["a"] * 6, axis=1), y)
        assert "rows and columns" in self.bad(X[[]], y)

    def bad_array(self, X, y):
        with pytest.raises(TrainingError) as caught:
            ModelTrainer(config()).train(X, y)
        return str(caught.value)

    def test_known_at(self, good):
        X, y = good
        assert "missing for rows that have a label" in self.bad(
            X, y, known_at=known(X.index).where(np.arange(600) != 3)
        )
        assert "before the date" in self.bad(X, y, known_at=X.index - HOUR)

    @pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
    def test_weights(self, good, value):
        weight = np.ones(600)
        weight[3] = value
        assert "weight must be finite" in self.bad(*good, weight=weight)

    def test_profit_metric_without_returns(self, good):
        settings = config(optimization_metric="expected_profit")
        assert "needs forward_return" in self.bad(*good, settings)

    def test_negative_cost_and_infinite_return(self, good):
        assert "round_trip_cost" in self.bad(*good, round_trip_cost=-0.1)
        assert "forward_return" in self.bad(*good, forward_return=np.full(600, np.inf))

    def test_undefined_metric_in_a_fold(self, good):
        X, y = good
        y.iloc[-150:] = 1
        settings = config(cv_folds=5, optimization_metric="roc_auc")
        assert "roc_auc is not defined" in self.bad(X, y, settings)

    def test_held_out_rows(self, good):
        X, y = good
        half = {"known_at": known(X.index[:300])}
        assert "later period" in self.bad(X[:300], y[:300], X_val=X[200:], y_val=y[200:], **half)
        assert "belong together" in self.bad(X[:300], y[:300], X_val=X[300:], **half)
        other = X[300:].rename(columns={"f0": "g0"})
        assert "f0, g0" in self.bad(X[:300], y[:300], X_val=other, y_val=y[300:], **half)
        assert "X_val, y_val: All" in self.bad(
            X[:300], y[:300], X_val=X[300:], y_val=y[300:] * 0, **half
        )

    def test_unknown_parameter_model_and_metric(self, good):
        with pytest.raises(ConfigError, match="Did you mean 'num_leaves'"):
            train(*good, config(parameters={"num_leafs": 4}))
        with pytest.raises(ConfigError, match=r"no column 'f00'\. Did you mean 'f0'"):
            train(*good, config(monotone={"f00": 1}))
        with pytest.raises(ConfigError, match="lightgbm"):
            config(model_type="lightgmb")
        with pytest.raises(ConfigError, match="roc_auc"):
            config(optimization_metric="auc")


def unpredictable(n, seed, horizon=12):
    """Labels of a random walk that overlap, and slow features that know nothing of it.

    The features tell rows apart in time: a split that ignores label intervals scores far above 0.5
    on them. With labels of a test period flipped the same model is as likely, so AUC is centred at
    0.5 exactly.
    """
    rng = np.random.default_rng(seed)
    future = np.convolve(rng.normal(size=n + horizon - 1), np.ones(horizon), "valid")
    X = {"time": np.arange(n)}
    for name, memory in (("slow", 0.995), ("medium", 0.97), ("fast", 0.8)):
        noise = pd.Series(rng.normal(size=n))
        X[name] = noise.ewm(alpha=1 - memory).mean().to_numpy()
    frame = pd.DataFrame(X, index=hours(n)).astype(np.float32)
    return frame, pd.Series((future > 0).astype(float), frame.index), future


@pytest.mark.parametrize(
    ("model_type", "method"),
    [
        ("lightgbm", "timeseries"),
        ("lightgbm", "purged_kfold"),
        ("lightgbm", "cpcv"),
        ("xgboost", "timeseries"),
        ("random_forest", "purged_kfold"),
    ],
)
def test_an_unpredictable_market_stays_unpredictable(model_type, method):
    """Tuning, selection, calibration and scaling on: the mean AUC of many walks is 0.5."""
    settings = config(
        model_type=model_type,
        cv_method=method,
        embargo_candles=12,
        feature_selection=True,
        calibration="isotonic",
        optimization_metric="roc_auc",
        n_trials=2,
        parameters={"n_estimators": 20},
    )
    scores, tuned = [], []
    for seed in range(6):
        X, y, future = unpredictable(2000, seed)
        _, metrics = train(
            X, y, settings, known_at=known(X.index, 12), forward_return=0.01 * future
        )
        scores.append(metrics["roc_auc"])
        tuned.append(metrics["tuning_score"])
    for found in (scores, tuned):
        error = np.std(found, ddof=1) / np.sqrt(len(found))
        assert abs(np.mean(found) - 0.5) < 3 * error + 0.01
        assert max(found) < 0.65


def test_the_same_market_looks_predictable_to_a_split_that_ignores_label_intervals():
    """The trap above is armed."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import KFold, cross_val_predict

    X, y, _ = unpredictable(2000, 0)
    forest = RandomForestClassifier(50, max_depth=8, random_state=0)
    shuffled = KFold(3, shuffle=True, random_state=0)
    proba = cross_val_predict(forest, X, y, cv=shuffled, method="predict_proba")[:, 1]
    assert roc_auc_score(y, proba) > 0.8


@pytest.fixture(scope="module")
def on_planted():
    """Trained models by (model_type, kind), each once."""
    found = {}

    def get(model_type, kind):
        if (model_type, kind) not in found:
            X, y, _ = planted(8000, k=10, kind=kind)
            settings = config(model_type=model_type, parameters={}, n_trials=4, n_jobs=2)
            found[model_type, kind] = train(X, y, settings)
        return found[model_type, kind]

    return get


@pytest.mark.parametrize(("kind", "share"), [("linear", 0.95), ("interaction", 0.85)])
@pytest.mark.parametrize("model_type", QUICK_OR_SLOW)
def test_planted_signal_is_found(on_planted, model_type, kind, share):
    """Share of the attainable AUC - 0.5 on rows after the training."""
    model, metrics = on_planted(model_type, kind)
    later, truth, odds = planted(30_000, k=10, kind=kind, seed=1)
    bayes = roc_auc_score(truth, odds) - 0.5
    assert roc_auc_score(truth, model.predict_proba(later)) - 0.5 > share * bayes
    assert metrics["log_loss"] < metrics["baseline_log_loss"] - 0.03


@pytest.mark.parametrize("kind", ["linear", "interaction"])
@pytest.mark.parametrize("model_type", QUICK_OR_SLOW)
def test_probabilities_of_a_planted_signal_are_calibrated(on_planted, model_type, kind):
    assert on_planted(model_type, kind)[1]["expected_calibration_error"] < 0.03


def test_known_at_without_dates_in_the_index_says_where_dates_belong():
    X, y = pd.DataFrame({"a": np.arange(500.0)}), np.arange(500) % 2
    known = pd.date_range("2024-01-01", periods=500, freq="1h", tz="UTC")
    with pytest.raises(TrainingError, match="set_index"):
        ModelTrainer(ModelConfig(optimize_hyperparams=False)).train(X, y, known_at=known)
