"""Short, flat and long: probabilities, thresholds and trades of both sides, from labels to a member's files."""

import io
import json
import zipfile

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

from freqtrade_mlpipe.calibration import (
    MARGIN,
    ClassCalibrator,
    fit_calibrator,
    fit_class_calibrator,
)
from freqtrade_mlpipe.config import CLASSES, ModelConfig
from freqtrade_mlpipe.exceptions import BundleError, ConfigError, TrainingError
from freqtrade_mlpipe.member import Member, SideThresholds, predict
from freqtrade_mlpipe.metrics import baseline_log_losses, class_log_losses, three_class_scores
from freqtrade_mlpipe.models import MODELS, FitData
from freqtrade_mlpipe.trainer import ModelTrainer

HOUR = pd.Timedelta("1h")
NAMES = sorted(MODELS)
ROUNDS = dict.fromkeys(NAMES, 12) | {"ensemble": 3 * 12}


def planted(n=2400, seed=0, strength=1.5):
    """Features, labels, returns of a long trade, and the probabilities that made the labels."""
    rng = np.random.default_rng(seed)
    index = pd.date_range("2024-01-01", periods=n, freq="1h", tz="UTC")
    X = pd.DataFrame(rng.normal(size=(n, 4)).astype(np.float32), columns=list("abcd"), index=index)
    a = strength * X["a"].to_numpy(np.float64)
    odds = np.exp(np.column_stack([-a, np.full(n, 0.5), a]))
    p = odds / odds.sum(axis=1, keepdims=True)
    y = (rng.random((n, 1)) > p.cumsum(axis=1)).sum(axis=1) - 1.0
    return X, pd.Series(y, index), pd.Series(0.01 * y + rng.normal(0, 0.01, n), index), p


def config(**settings):
    settings = {"optimize_hyperparams": False, "cv_folds": 3, "embargo_candles": 1, "n_jobs": 1,
                "parameters": {"n_estimators": 30}, **settings}  # fmt: skip
    return ModelConfig(**settings)


def train(X, y, returns=None, settings=None, **extras):
    extras = {"known_at": X.index + HOUR, "round_trip_cost": 0.002, **extras}
    return ModelTrainer(settings or config()).train(
        X, y, forward_return=returns, task="three_class", **extras
    )


@pytest.fixture(scope="module")
def market():
    return planted()


@pytest.fixture(scope="module", params=NAMES)
def trained(request, market):
    X, y, returns, _ = market
    return train(X, y, returns, config(model_type=request.param))


class TestModels:
    def fit(self, name, y, X=None):
        X = planted(600)[0].to_numpy() if X is None else X
        data = FitData(X, y, np.ones(len(y)), task="three_class")
        return MODELS[name].fit({"n_estimators": 12}, data, seed=1), X

    @pytest.mark.parametrize("name", NAMES)
    def test_probabilities_sum_to_one_and_files_give_back_the_bits(self, name):
        model, X = self.fit(name, planted(600)[1].to_numpy())
        proba = model.predict_proba(X)
        assert proba.shape == (600, 3)
        np.testing.assert_allclose(proba.sum(axis=1), 1.0, atol=1e-6)
        again = MODELS[name].load(model.to_bytes(), 4)
        assert (
            (model.task, model.n_rounds)
            == (again.task, again.n_rounds)
            == ("three_class", ROUNDS[name])
        )
        np.testing.assert_array_equal(again.predict_proba(X), proba)
        assert model.importance().argmax() == 0
        assert model.predict_proba(X[:0]).shape == (0, 3)

    @pytest.mark.parametrize("absent", CLASSES)
    @pytest.mark.parametrize("name", NAMES)
    def test_absent_class_gets_next_to_nothing(self, name, absent):
        X, y, *_ = planted(900)
        kept = (y != absent).to_numpy()
        model, matrix = self.fit(name, y[kept].to_numpy(), X[kept].to_numpy())
        again = MODELS[name].load(model.to_bytes(), 4)
        proba = again.predict_proba(matrix)
        assert again.task == "three_class"
        assert (
            proba[:, CLASSES.index(absent)].max()
            < (0.0 if name == "random_forest" else 0.35) + 1e-9
        )
        for label in set(CLASSES) - {absent}:
            ours = proba[:, CLASSES.index(label)]
            hit = (y[kept] == label).to_numpy()
            assert ours[hit].mean() > ours[~hit].mean()

    @pytest.mark.parametrize(
        ("name", "old", "new"),
        [
            ("lightgbm", b"num_class=3", b"num_class=1"),
            ("lightgbm", b"num_tree_per_iteration=3", b"num_tree_per_iteration=1"),
            ("lightgbm", b"objective=multiclass num_class:3", b"objective=binary sigmoid:1"),
            ("lightgbm", b"objective=multiclass num_class:3", b"objective=multiclass num_class:9"),
            ("xgboost", b"multi:softprob", b"multi:softmaxx"),
            (
                "xgboost",
                b"num_classSL\x00\x00\x00\x00\x00\x00\x00\x013",
                b"num_classSL\x00\x00\x00\x00\x00\x00\x00\x010",
            ),
        ],
    )
    def test_file_that_is_at_odds_with_itself_about_classes_is_refused(self, name, old, new):
        model, _ = self.fit(name, planted(600)[1].to_numpy())
        data = model.to_bytes()
        assert old in data
        with pytest.raises(BundleError, match="cannot be read"):
            MODELS[name].load(data.replace(old, new, 1), 4)

    def test_two_class_forest_file_is_not_read_as_one_of_three(self):
        X, y, *_ = planted(600)
        y = (y == 1).astype(float).to_numpy()
        model = MODELS["random_forest"].fit(
            {"n_estimators": 3}, FitData(X.to_numpy(), y, np.ones(600)), seed=1
        )
        assert MODELS["random_forest"].load(model.to_bytes(), 4).task == "binary"


class TestCalibration:
    def test_each_class_is_fitted_against_the_rest_and_rows_sum_to_one(self, market):
        _, y, _, p = market
        sharp = p**2 / (p**2).sum(axis=1, keepdims=True)
        found = fit_class_calibrator("sigmoid", sharp, y, n_effective=300)
        for k, label in enumerate(CLASSES):
            alone = fit_calibrator("sigmoid", sharp[:, k], y == label, n_effective=300)
            both = [(each.slope, each.intercept) for each in (found.calibrators[k], alone)]
            assert both[0] == pytest.approx(both[1], rel=1e-9)
        calibrated = found.apply(sharp)
        np.testing.assert_allclose(calibrated.sum(axis=1), 1.0, rtol=1e-12)
        before, after = (class_log_losses(y, each).mean() for each in (sharp, calibrated))
        assert after < before - 0.02
        assert after == pytest.approx(class_log_losses(y, p).mean(), abs=0.01)

    def test_without_evidence_it_is_the_identity_with_class_weights_undone(self, market):
        _, y, _, p = market
        weights = (2.0, 0.5, 1.0)
        distorted = p * weights / (p * weights).sum(axis=1, keepdims=True)
        found = fit_class_calibrator(
            "sigmoid", distorted, y, n_effective=1e-6, class_weights=weights
        )
        np.testing.assert_allclose(found.apply(distorted), p, atol=1e-4)

    @pytest.mark.parametrize("kind", ["sigmoid", "isotonic", "none"])
    def test_class_never_seen_stays_at_the_margin_whatever_the_raw_score(self, market, kind):
        _, y, _, p = market
        found = fit_class_calibrator(kind, p, y, n_effective=300, seen=(False, True, True))
        calibrated = found.apply(p)
        assert (calibrated[:, 0] == MARGIN).all()
        np.testing.assert_allclose(calibrated.sum(axis=1), 1.0, rtol=1e-12)

    def test_class_missing_from_these_rows_keeps_its_score(self, market):
        _, y, _, p = market
        rows = (y >= 0).to_numpy()
        found = fit_class_calibrator("sigmoid", p[rows], y[rows], n_effective=300)
        assert found.calibrators[0].kind == "none"

    @pytest.mark.parametrize("kind", ["sigmoid", "isotonic", "none"])
    def test_json_gives_back_an_equal_one(self, market, kind):
        _, y, _, p = market
        found = fit_class_calibrator(kind, p, y, n_effective=50, seen=(True, True, False))
        text = json.dumps(found.to_dict())
        assert ClassCalibrator.from_dict(json.loads(text)) == found

    @pytest.mark.parametrize(
        "change",
        [
            {"kind": "sigmoid"},
            {"calibrators": [None, None, {"kind": "none"}]},
            {"calibrators": [{"kind": "none"}] * 2},
            {"calibrators": 3},
            {"class_weights": [1.0, 0.0, 1.0]},
            {"class_weights": [1.0, float("nan"), 1.0]},
            {"class_weights": ["a", 1.0, 1.0]},
            {"more": 1},
        ],
    )
    def test_damaged_description_is_refused(self, change):
        good = {
            "kind": "one_vs_rest",
            "class_weights": [1.0] * 3,
            "calibrators": [{"kind": "none"}] * 3,
        }
        ClassCalibrator.from_dict(good)
        with pytest.raises(BundleError):
            ClassCalibrator.from_dict(good | change)


class TestMetrics:
    def test_scores_are_those_of_scikit_learn(self, market):
        _, y, _, p = market
        rng = np.random.default_rng(1)
        decided = rng.choice(CLASSES, len(y), p=[0.3, 0.1, 0.6])
        noisy = p + rng.uniform(0, 0.3, p.shape)
        noisy /= noisy.sum(axis=1, keepdims=True)
        macro = {"average": "macro", "zero_division": 0}
        expected = {
            "accuracy": accuracy_score(y, decided),
            "precision": precision_score(y, decided, **macro),
            "recall": recall_score(y, decided, **macro),
            "f1": f1_score(y, decided, **macro),
            "mcc": matthews_corrcoef(y, decided),
            "roc_auc": roc_auc_score(y, noisy, multi_class="ovr", average="macro"),
            "log_loss": log_loss(y, noisy, labels=CLASSES),
            "brier": brier_score_loss(y, noisy, labels=CLASSES),
        }
        found = three_class_scores(y, noisy, decided)
        assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-9)

    @pytest.mark.parametrize("decided", [0.0, 1.0, -1.0])
    def test_macro_means_are_over_classes_that_occur(self, decided):
        y, choice = np.array([0.0, 1.0, 0.0, 1.0]), np.full(4, decided)
        found = three_class_scores(y, np.full((4, 3), 1 / 3), choice)
        assert found["f1"] == pytest.approx(f1_score(y, choice, average="macro", zero_division=0))
        assert found["mcc"] == 0.0

    def test_bad_input_is_refused(self):
        p = np.full((2, 3), 1 / 3)
        for y, proba, decided in (
            ([0, 2], p, [0, 0]),
            ([0, 1], p, [0, 0.5]),
            ([0, 1], p[:1], [0, 0]),
            ([0, 1], p * np.nan, [0, 0]),
            ([], p[:0], []),
        ):
            with pytest.raises(ValueError):
                three_class_scores(y, proba, decided)

    def test_baselines_are_smoothed_frequencies(self):
        y_train, y_test = [-1, -1, 0, 1, 1, 1], [-1, 0, 1]
        last_train, last_test = [np.nan, -1, -1, 0, 1, 1], [1, np.nan, -1]
        found = baseline_log_losses(y_train, y_test, last_train, last_test, CLASSES)
        np.testing.assert_allclose(np.exp(-found["class_prior"]), [3 / 9, 2 / 9, 4 / 9])
        np.testing.assert_allclose(np.exp(-found["last_value"]), [1 / 5, 2 / 9, 1 / 5])


class TestThresholds:
    def test_the_side_further_beyond_its_threshold_is_traded(self):
        proba = np.array(
            [[0.1, 0.3, 0.6], [0.6, 0.3, 0.1], [0.4, 0.3, 0.3], [0.45, 0.05, 0.5],
             [0.5, 0.1, 0.4], [np.nan] * 3]
        )  # fmt: skip
        found = SideThresholds(long=0.4, short=0.45).positions(proba)
        assert found.tolist() == [1, -1, 0, 1, -1, 0]

    def test_nothing_is_traded_where_both_sides_are_equal(self):
        proba = np.array([[0.5, 0.0, 0.5]])
        assert SideThresholds(long=0.25, short=0.25).positions(proba).tolist() == [0]

    def test_sides_are_chosen_by_their_own_profit(self, market):
        X, y, returns, _ = market
        rng = np.random.default_rng(3)
        shorts = pd.Series(rng.normal(-0.002, 0.01, len(y)), y.index)
        model, _ = train(X, y, returns, short_return=shorts)
        signals = model.report.oos["position"]
        assert (signals == 1).mean() > 0.2
        assert (signals == -1).mean() < 0.1


class TestTraining:
    def test_planted_sides_are_found(self, trained, market):
        _, y, _, p = market
        model, metrics = trained
        rows = y.index.isin(model.report.oos.index.get_level_values("date"))
        best = class_log_losses(y[rows], p[rows]).mean()
        assert metrics["baseline_log_loss"] - metrics["log_loss"] > 0.7 * (
            metrics["baseline_log_loss"] - best
        )
        assert metrics["roc_auc"] > 0.7
        assert metrics["expected_profit"] > 0.002
        assert metrics["sharpe"] > 1
        assert 0.1 < metrics["short_rate"] < metrics["entry_rate"] < 0.9

    def test_metrics_are_those_of_scikit_learn_on_the_reported_rows(self, trained):
        model, metrics = trained
        oos = model.report.oos
        proba = oos[["proba_short", "proba_flat", "proba"]].to_numpy()
        assert metrics["log_loss"] == pytest.approx(log_loss(oos["y"], proba, labels=CLASSES))
        assert metrics["log_loss"] == pytest.approx(oos["loss"].mean())
        assert metrics["f1"] == pytest.approx(f1_score(oos["y"], oos["position"], average="macro"))
        assert metrics["mcc"] == pytest.approx(matthews_corrcoef(oos["y"], oos["position"]))
        traded = oos[oos["position"] != 0]
        gross = traded["forward_return"].where(traded["position"] == 1, traded["short_return"])
        assert metrics["expected_profit"] == pytest.approx(gross.mean() - 0.002)

    def test_reported_rows_are_those_that_will_be_served(self, trained, market):
        model, _ = trained
        oos = model.report.oos
        found = predict(model.members, market[0], market[0].index)
        rows = market[0].index.get_indexer(oos.index.get_level_values("date"))
        for ours, reported in (
            (found.proba, "proba"),
            (found.edge, "edge"),
            (found.short.proba, "proba_short"),
            (found.short.proba_flat, "proba_flat"),
            (found.short.edge, "edge_short"),
            (found.signal, "signal"),
        ):
            np.testing.assert_array_equal(ours[rows], oos[reported])
        assert (found.do_predict[: rows[0]] == -1).all()
        assert np.isnan(found.short.proba[: rows[0]]).all()

    def test_member_survives_its_files_to_the_last_bit(self, trained, market):
        member = trained[0].production
        again = Member.from_files(member.to_files())
        X = market[0]
        np.testing.assert_array_equal(again.predict_proba(X), member.predict_proba(X))
        assert again.thresholds == member.thresholds
        content = json.loads(member.to_files()["member.json"])
        assert content["classes"] == [-1, 0, 1]
        holed = X.copy()
        holed.iloc[3] = np.nan
        assert np.isnan(again.predict_proba(holed)[3]).all()
        assert np.isfinite(again.predict_proba(holed)[4:]).all()

    @pytest.mark.parametrize(
        "change",
        [
            {"format": 1},
            {"format": 3},
            {"classes": [1, 0, -1]},
            {"thresholds": {"enter": 0.5, "exit": 0.4}},
        ],
    )
    def test_files_of_another_kind_are_refused(self, trained, change):
        files = trained[0].production.to_files()
        content = json.loads(files["member.json"]) | change
        with pytest.raises(BundleError):
            Member.from_files(files | {"member.json": json.dumps(content).encode()})

    @pytest.mark.parametrize(
        "metric",
        [
            "f1",
            "precision",
            "recall",
            "accuracy",
            "mcc",
            "roc_auc",
            "brier",
            "expected_profit",
            "sharpe",
        ],
    )
    def test_every_metric_can_be_searched_for(self, market, metric):
        X, y, returns, _ = (part[:900] for part in market)
        settings = config(optimize_hyperparams=True, n_trials=2, cv_folds=2, optimization_metric=metric,
                          parameters={"n_estimators": 5})  # fmt: skip
        _, metrics = train(X, y, returns, settings)
        assert np.isfinite(metrics["tuning_score"])

    def test_balanced_weights_do_not_bias_the_probabilities(self):
        X, y, *_ = planted(3000, seed=2)
        rare = (y != -1) | (np.random.default_rng(0).random(len(y)) < 0.3)
        X, y = X[rare], y[rare]
        model, _ = train(X, y, settings=config(class_weight="balanced"))
        oos = model.report.oos
        assert oos["proba_short"].mean() == pytest.approx((oos["y"] == -1).mean(), abs=0.03)

    def test_class_absent_from_the_first_fold_is_never_forecast_by_its_member(self, market):
        X, y, returns, _ = market
        y = y.copy()
        y[:800] = y[:800].clip(lower=0)
        model, metrics = train(X, y, returns)
        oos = model.report.oos
        first = oos["fold"] == 0
        assert (oos.loc[first, "proba_short"] == MARGIN).all()
        assert not (oos.loc[first, "position"] == -1).any()
        assert (oos.loc[~first, "position"] == -1).any()
        assert np.isfinite(metrics["log_loss"])

    def test_bad_labels_are_refused_before_training(self, market):
        X, y, *_ = market
        with pytest.raises(TrainingError, match="None of 2400 usable rows has class -1"):
            train(X, y.clip(lower=0))
        with pytest.raises(TrainingError, match="only class 1"):
            train(X, y.where(y.index >= y.index[900], 1.0))
        with pytest.raises(TrainingError, match="-1, 0, 1 or NaN, found also 2"):
            train(X, y.where(y != 1, 2.0))
        with pytest.raises(TrainingError, match="task='three_class'"):
            ModelTrainer(config()).train(X, y, known_at=X.index + HOUR)
        with pytest.raises(TrainingError, match="short_return has infinite"):
            train(X, y, y, short_return=y / 0)

    def test_members_of_different_kinds_cannot_speak_together(self, trained, market):
        X, y, *_ = market
        binary, _ = ModelTrainer(config()).train(X, (y == 1).astype(float), known_at=X.index + HOUR)
        with pytest.raises(ValueError, match="one kind"):
            predict([trained[0].production, binary.production], X, X.index)


def test_two_class_members_are_written_as_ever(market):
    """Format 1, which every version reads, with the keys it always had."""
    X, y, *_ = market
    model, _ = ModelTrainer(config()).train(X, (y == 1).astype(float), known_at=X.index + HOUR)
    content = json.loads(model.production.to_files()["member.json"])
    assert content["format"] == 1
    assert set(content["thresholds"]) == {"enter", "exit"}
    assert set(content["calibrator"]) == {"kind", "slope", "intercept"}
    assert "classes" not in content


def test_constraints_on_the_probability_of_one_class_are_refused(market):
    X, y, *_ = market
    with pytest.raises(ConfigError, match="monotone means nothing for three classes"):
        train(X, y, settings=config(monotone={"a": 1}))


def test_search_by_several_metrics_finds_the_signal(market):
    X, y, returns, _ = market
    settings = {"optimize_hyperparams": True, "n_trials": 3, "cv_folds": 2}
    several = config(optimization_metrics=["log_loss", "expected_profit"], **settings)
    model, metrics = train(X, y, returns, several)
    assert metrics["log_loss"] < metrics["baseline_log_loss"]
    assert all(
        set(t["fold_scores"]) == {"log_loss", "expected_profit"} for t in model.report.trials
    )


def test_ensemble_of_parts_that_predict_different_things_is_refused(market):
    X, y, *_ = market
    files = {}
    for task, labels in (("three_class", y), ("binary", (y == 1).astype(float))):
        data = FitData(X.to_numpy(), labels.to_numpy(), np.ones(len(y)), task=task)
        raw = MODELS["ensemble"].fit({"n_estimators": 3}, data, seed=1).to_bytes()
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            files[task] = {name: archive.read(name) for name in archive.namelist()}
    mixed = files["three_class"] | {"lightgbm.txt": files["binary"]["lightgbm.txt"]}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in mixed.items():
            archive.writestr(name, content)
    with pytest.raises(BundleError, match="different tasks"):
        MODELS["ensemble"].load(buffer.getvalue(), 4)
