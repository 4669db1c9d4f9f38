"""A member answers for its span only, refuses to guess, and survives its files to the last bit."""

import json
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from freqtrade_mlpipe.calibration import fit_calibrator
from freqtrade_mlpipe.config import FeatureConfig
from freqtrade_mlpipe.exceptions import BundleError, DataError
from freqtrade_mlpipe.features import Preprocessor
from freqtrade_mlpipe.member import Member, Thresholds, predict
from freqtrade_mlpipe.models import MODELS, FitData

COLUMNS = ["a", "b", "c", "flat"]
START = pd.Timestamp("2024-01-01", tz="UTC")


def hours(n):
    return pd.date_range(START, periods=n, freq="1h")


def features(n, seed=1):
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(rng.normal(size=(n, 4)).astype(np.float32), columns=COLUMNS)
    X["flat"] = np.float32(3)
    return X


def make_member(name="lightgbm", *, valid_from=0, valid_to=None, enter=0.55, seed=1):
    X = features(600, seed)
    rng = np.random.default_rng(seed)
    y = (X["a"].to_numpy() + rng.normal(size=600) > 0).astype(np.float64)
    preprocessor = Preprocessor.fit(X, FeatureConfig(), y)
    matrix = preprocessor.transform(X)
    model = MODELS[name].fit({"n_estimators": 15}, FitData(matrix, y, np.ones(600)), seed=1)
    return Member(
        model_type=name,
        model=model,
        preprocessor=preprocessor,
        calibrator=fit_calibrator("sigmoid", model.predict_proba(matrix), y),
        thresholds=Thresholds(enter=enter, exit=1 / 3),
        train_start=START - pd.Timedelta("700h"),
        train_end=START - pd.Timedelta("1ns"),
        valid_from=START + pd.Timedelta(hours=valid_from),
        valid_to=None if valid_to is None else START + pd.Timedelta(hours=valid_to),
        n_train_rows=600,
    )


@pytest.fixture(scope="module")
def member():
    return make_member()


class TestProbability:
    def test_row_with_a_missing_kept_feature_has_none(self, member):
        X = features(20)
        X.loc[3, "b"] = np.nan
        X.loc[5, "a"] = np.inf
        proba = member.predict_proba(X)
        assert np.flatnonzero(np.isnan(proba)).tolist() == [3, 5]
        clean = member.predict_proba(features(20))
        np.testing.assert_array_equal(np.delete(proba, [3, 5]), np.delete(clean, [3, 5]))

    def test_missing_value_of_a_dropped_feature_does_not_matter(self, member):
        X = features(20)
        assert "flat" not in member.preprocessor.kept_columns
        expected = member.predict_proba(X)
        X["flat"] = np.nan
        np.testing.assert_array_equal(member.predict_proba(X), expected)

    def test_columns_are_found_by_name(self, member):
        X = features(20)
        shuffled = X[["flat", "c", "b", "a"]].assign(other=1.0)
        np.testing.assert_array_equal(member.predict_proba(shuffled), member.predict_proba(X))

    def test_missing_column_is_named(self, member):
        with pytest.raises(DataError, match="c"):
            member.predict_proba(features(20).drop(columns="c"))

    def test_all_rows_missing_gives_all_nan(self, member):
        assert np.isnan(member.predict_proba(features(4) * np.nan)).all()


class TestPredict:
    def test_each_candle_is_answered_by_the_member_of_its_span(self):
        first = make_member(valid_from=5, valid_to=10, seed=1)
        second = make_member(valid_from=10, seed=2)
        X = features(20)
        found = predict([first, second], X, hours(20))
        assert found.do_predict.tolist() == [-1] * 5 + [1] * 15
        assert np.isnan(found.proba[:5]).all()
        assert np.isnan(found.edge[:5]).all()
        assert not found.signal[:5].any()
        np.testing.assert_array_equal(found.proba[5:10], first.predict_proba(X[5:10]))
        np.testing.assert_array_equal(found.proba[10:], second.predict_proba(X[10:]))

    def test_later_member_speaks_where_spans_overlap(self):
        first, second = make_member(seed=1), make_member(valid_from=3, seed=2)
        X = features(6)
        found = predict([first, second], X, hours(6)).proba
        np.testing.assert_array_equal(found[3:], second.predict_proba(X[3:]))

    def test_edge_and_signal_use_the_threshold_of_the_member_that_spoke(self):
        first = make_member(valid_to=10, enter=0.9)
        second = make_member(valid_from=10, enter=0.4)
        X = pd.concat([features(10)] * 2, ignore_index=True)
        found = predict([first, second], X, hours(20))
        np.testing.assert_allclose(found.edge[10:] - found.edge[:10], 0.5)
        np.testing.assert_array_equal(found.signal == 1, found.edge >= 0)
        np.testing.assert_array_equal(found.signal == -1, found.proba <= 1 / 3)

    def test_missing_inputs_are_0_and_in_sample_wins_over_missing(self):
        X = features(4)
        X.iloc[[0, 2], 0] = np.nan
        found = predict([make_member(valid_from=1)], X, hours(4))
        assert found.do_predict.tolist() == [-1, 1, 0, 1]
        assert found.signal[2] == 0
        assert np.isnan(found.proba[2])

    def test_other_time_zones_mean_the_same_instant(self, member):
        X, dates = features(8), hours(8)
        there = predict([member], X, dates.tz_convert("Asia/Tokyo"))
        np.testing.assert_array_equal(there.proba, predict([member], X, dates).proba)

    def test_without_members_nothing_is_answered(self):
        assert predict([], features(3), hours(3)).do_predict.tolist() == [-1] * 3

    def test_dtypes(self, member):
        found = predict([member], features(3), hours(3))
        assert (found.signal.dtype, found.do_predict.dtype) == (np.int8, np.int8)
        assert (found.proba.dtype, found.edge.dtype) == (np.float64, np.float64)

    def test_dates_must_fit_and_have_a_time_zone(self, member):
        with pytest.raises(ValueError, match="3 rows, dates 4"):
            predict([member], features(3), hours(4))
        with pytest.raises(ValueError, match="UTC"):
            predict([member], features(3), hours(3).tz_localize(None))


def test_signals_enter_before_leave_and_nan_is_0():
    proba = np.array([0.2, 0.4, 0.5, 0.6, np.nan])
    assert Thresholds(0.5, 0.3).signals(proba).tolist() == [-1, 0, 1, 1, 0]
    assert Thresholds(0.4, 0.4).signals(proba).tolist() == [-1, 1, 1, 1, 0]


@pytest.mark.parametrize(("enter", "leave"), [(0.4, 0.5), (np.nan, 0.1), (np.inf, 0.1)])
def test_thresholds_must_be_finite_and_ordered(enter, leave):
    with pytest.raises(BundleError, match="exit ≤ enter"):
        Thresholds(enter, leave)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_files_give_back_a_member_that_predicts_the_same_bits(name):
    original = make_member(name, valid_to=100, enter=0.1 + 0.7)
    files = original.to_files()
    assert sorted(files) == ["member.json", f"model{MODELS[name].file_suffix}"]
    found = Member.from_files(files)
    X = features(50)
    np.testing.assert_array_equal(found.predict_proba(X), original.predict_proba(X))
    for field in ("thresholds", "calibrator", "preprocessor", "train_start", "train_end"):
        assert getattr(found, field) == getattr(original, field)
    assert (found.valid_from, found.valid_to) == (original.valid_from, original.valid_to)
    assert found.n_train_rows == 600
    assert found.to_files() == files


class TestDamagedFiles:
    def changed(self, member, **values):
        files = member.to_files()
        content = json.loads(files["member.json"]) | values
        content = {key: value for key, value in content.items() if value is not ...}
        return files | {"member.json": json.dumps(content).encode()}

    @pytest.mark.parametrize(
        "values",
        [
            {"format": 99},
            {"model_type": "magic"},
            {"model_type": ["lightgbm"]},
            {"thresholds": {"enter": 0.5}},
            {"thresholds": {"enter": 0.1, "exit": 0.5}},
            {"thresholds": {"enter": "x", "exit": 0.5}},
            {"calibrator": {"kind": "sigmoid"}},
            {"preprocessor": ...},
            {"valid_from": "2024-01-01"},
            {"valid_to": "soon"},
            {"train_start": None},
            {"n_train_rows": "many"},
        ],
    )
    def test_malformed_content_is_refused(self, member, values):
        with pytest.raises(BundleError):
            Member.from_files(self.changed(member, **values))

    @pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff\xfe"])
    def test_what_is_no_json_object_is_refused(self, member, text):
        with pytest.raises(BundleError, match="member"):
            Member.from_files(member.to_files() | {"member.json": text})

    @pytest.mark.parametrize("name", ["member.json", "model.txt"])
    def test_missing_file_is_named(self, member, name):
        files = member.to_files()
        del files[name]
        with pytest.raises(BundleError, match=re.escape(name)):
            Member.from_files(files)

    def test_model_of_another_schema_is_refused(self, member):
        X = features(600)[["a", "b"]]
        y = (X["a"] > 0).to_numpy(np.float64)
        data = FitData(X.to_numpy(), y, np.ones(600))
        other = MODELS["lightgbm"].fit({"n_estimators": 3}, data, seed=1)
        with pytest.raises(BundleError, match="expects 2 columns, its schema has 3"):
            Member.from_files(member.to_files() | {"model.txt": other.to_bytes()})


def test_importing_loads_no_learning_library():
    heavy = ["lightgbm", "xgboost", "sklearn", "optuna", "mlflow", "skops", "freqtrade", "ccxt"]
    program = f"import sys, freqtrade_mlpipe.member; print(set({heavy}) & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
