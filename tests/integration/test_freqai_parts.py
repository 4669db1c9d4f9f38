"""The parts of our models inside FreqAI: keys, targets, outliers, gate, names, statistics."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from freqtrade.config_schema.config_schema import CONF_SCHEMA
from freqtrade.enums import RunMode
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.linear_model import SGDOneClassSVM
from sklearn.metrics import pairwise_distances

from freqtrade_mlpipe.config import FeatureConfig, FreqaiConfig, MLPipeConfig, ModelConfig
from freqtrade_mlpipe.exceptions import BundleError, ConfigError, TrainingError
from freqtrade_mlpipe.integration.freqai_backtest import _stored as stored_model
from freqtrade_mlpipe.integration.freqai_evidence import judged_figures
from freqtrade_mlpipe.integration.freqai_gate import Decision, decide
from freqtrade_mlpipe.integration.freqai_kitchen import MLPipeDrawer
from freqtrade_mlpipe.integration.freqai_labels import Labels, horizon_of
from freqtrade_mlpipe.integration.freqai_outliers import OutlierGuard
from freqtrade_mlpipe.integration.freqai_record import RunRecord, model_name
from freqtrade_mlpipe.integration.freqai_rows import Plan, WindowRows, judged_rows
from freqtrade_mlpipe.integration.freqai_settings import KEYS, check_keys, model_config
from freqtrade_mlpipe.integration.freqai_statistics import recent_statistics, rolling_statistics
from freqtrade_mlpipe.integration.freqai_store import (
    Origin,
    content_key,
    pair_slug,
    read_judged,
    read_predictions,
    read_window,
    save_window,
    stored_key,
    write_predictions,
)
from freqtrade_mlpipe.integration.freqai_targets import (
    Target,
    classifier_targets,
    measure_horizon,
    regression_targets,
)
from freqtrade_mlpipe.integration.freqai_window import train_window
from freqtrade_mlpipe.registry import ModelRegistry
from freqtrade_mlpipe.registry.catalogue import check_model_name
from freqtrade_mlpipe.registry.files import write_file
from freqtrade_mlpipe.registry.report import Check
from freqtrade_mlpipe.tuning import Recipe
from tests.features.market import random_walk

CANDLE = pd.Timedelta("1h")


def prices(n: int = 1500) -> pd.DataFrame:
    return random_walk(n)


# --- FreqAI's keys ---------------------------------------------------------------------------------


def freqai_block(**parameters: Any) -> dict[str, Any]:
    return {"feature_parameters": parameters, "data_split_parameters": {"test_size": 0.2}}


def test_every_key_of_freqtrades_schema_has_a_verdict():
    schema = CONF_SCHEMA["definitions"]["freqai"]["properties"]
    ours = {key.path for key in KEYS}
    for name, described in schema.items():
        inner = (
            described.get("properties", {})
            if name in ("feature_parameters", "data_split_parameters")
            else {}
        )
        if name in ("rl_config", "model_training_parameters"):
            continue
        assert inner or name in ours, name
        assert {f"{name}.{key}" for key in inner} <= ours, name


REFUSED = [key for key in KEYS if key.verdict == "refused"]


@pytest.mark.parametrize("key", REFUSED, ids=lambda key: key.path)
def test_refused_key_is_named_with_the_reason_and_harmless_where_it_is_off(key):
    block = freqai_block()
    *parents, last = key.path.split(".")
    place = block
    for parent in parents:
        place = place.setdefault(parent, {})
    place[last] = True
    with pytest.raises(ConfigError, match=key.path.replace(".", r"\.")) as refused:
        check_keys(block, gate="not_worse")
    assert key.sentence in str(refused.value)
    place[last] = None if last == "train_size" else False
    check_keys(block, gate="not_worse")


def test_gate_needs_rows_to_judge_on():
    block = freqai_block()
    block["data_split_parameters"]["test_size"] = 0
    check_keys(block, gate="always")
    with pytest.raises(ConfigError, match="nothing to judge"):
        check_keys(block, gate="better")


def test_parameters_of_scikit_learns_wrappers_are_understood():
    found = model_config(
        MLPipeConfig(),
        {"model_type": "lightgbm", "n_estimators": 80, "min_child_samples": 7, "subsample": 0.9, "n_jobs": 4,
         "verbosity": -1, "random_state": 3},
    )  # fmt: skip
    assert found.parameters == {"n_estimators": 80, "min_data_in_leaf": 7, "bagging_fraction": 0.9}
    assert (found.random_state, found.optimize_hyperparams) == (3, False)


def test_optuna_block_switches_the_search_on():
    found = model_config(
        MLPipeConfig(), {"learning_rate": 0.05, "optuna": {"n_trials": 3, "cv_folds": 2}}
    )
    assert (found.optimize_hyperparams, found.n_trials, found.cv_folds) == (True, 3, 2)
    assert found.parameters == {"learning_rate": 0.05}


def test_unknown_parameter_is_an_error_that_names_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'learning_rate'"):
        model_config(MLPipeConfig(), {"learning_rat": 0.1})


# --- targets -----------------------------------------------------------------------------------------


def up_or_down(n: int) -> Any:
    def targets(df: pd.DataFrame) -> pd.DataFrame:
        df["&s-up_or_down"] = np.where(df["close"].shift(-n) > df["close"], "up", "down")
        return df

    return targets


def numbered(n: int) -> Any:
    def targets(df: pd.DataFrame) -> pd.DataFrame:
        return df.assign(**{"&s": (df["close"].shift(-n) > df["close"]).astype(int)})

    return targets


def mean_ahead(n: int) -> Any:
    def targets(df: pd.DataFrame) -> pd.DataFrame:
        df["&-s_close"] = df["close"].shift(-n).rolling(n).mean() / df["close"] - 1
        return df

    return targets


def ranked(df: pd.DataFrame) -> pd.DataFrame:
    df["&-rank"] = df["close"].shift(-3).rank(pct=True)
    return df


@pytest.mark.parametrize("n", [1, 7, 50])
@pytest.mark.parametrize("targets", [up_or_down, mean_ahead])
def test_horizon_is_measured_to_the_candle(targets, n):
    assert measure_horizon(targets(n), prices()) == n


def test_target_that_looks_back_only_has_no_horizon():
    def now(df):
        df["&-change"] = df["close"].pct_change()
        return df

    assert measure_horizon(now, prices()) == 0


def test_target_that_depends_on_all_candles_is_noticed():
    assert measure_horizon(ranked, prices()) is None
    assert horizon_of("A/B", ranked, prices(), configured=None, least=9) == (9, False)


def test_shorter_horizon_than_the_targets_have_is_not_believed():
    said: list[str] = []
    found = horizon_of(
        "A/B", up_or_down(24), prices(), configured=5, least=1, say=lambda *words: said.append(words[0])
    )  # fmt: skip
    assert found == (24, True)
    assert len(said) == 1


def test_rows_whose_future_is_unknown_have_no_label_though_the_strategy_gives_one():
    frame = prices(300)
    labels = Labels(up_or_down(10), frame, 10, local=True).until(200)
    assert labels.iloc[-10:].isna().all(axis=None)
    assert labels.iloc[:-10].notna().all(axis=None)


@pytest.mark.parametrize("stop", [60, 200, 299])
def test_labels_computed_once_are_those_of_the_candles_before(stop):
    frame = prices(300)
    for targets in (up_or_down(10), mean_ahead(10), numbered(10)):
        once = Labels(targets, frame, 10, local=True).until(stop)
        each = Labels(targets, frame, 10, local=False).until(stop)
        pd.testing.assert_frame_equal(once, each)


def test_classes_are_ordered_low_to_high_by_their_names():
    def classes(*names: Any, ordered: tuple[Any, ...] = ()) -> tuple[Any, ...]:
        frame = pd.DataFrame({"&s-x": list(names) * 2}, dtype=object)
        return classifier_targets(frame, ordered)[0].classes

    assert classes("up", "down") == ("down", "up")
    assert classes("long", "short") == ("short", "long")
    assert classes("neutral", "up", "down") == ("down", "neutral", "up")
    assert classes("apple", "pear") == ("apple", "pear")
    assert classes("apple", "pear", ordered=("pear", "apple")) == ("pear", "apple")
    assert classes(1, 0) == (0, 1)


def test_more_than_three_classes_and_numbers_are_refused_with_advice():
    with pytest.raises(TrainingError, match="two or three"):
        classifier_targets(pd.DataFrame({"&s": list("abcd")}), ())
    with pytest.raises(TrainingError, match="MLPipeRegressor"):
        classifier_targets(pd.DataFrame({"&s": [0.1, 0.2, 0.3, 0.4]}), ())
    with pytest.raises(TrainingError, match="MLPipeClassifier"):
        regression_targets(pd.DataFrame({"&s": ["a", "b"]}))


def test_missing_probability_is_a_missing_class():
    target = Target("&s", "three_class", ("down", "flat", "up"))
    proba = np.array([[0.1, 0.2, 0.7], [np.nan] * 3, [0.5, 0.3, 0.2]])
    decided = target.decided(proba)
    assert decided.isna().tolist() == [False, True, False]
    assert decided.dropna().tolist() == ["up", "down"]
    assert not (decided == "down").iloc[1]


# --- outliers ----------------------------------------------------------------------------------------


def test_dissimilarity_index_is_datasieves():
    rng = np.random.default_rng(0)
    X, new = rng.normal(size=(300, 5)), rng.normal(size=(40, 5)) * 2
    guard = OutlierGuard.fit(X, {"DI_threshold": 0.9}, seed=0)
    low, high = X.min(axis=0), X.max(axis=0)
    scaled, rows = ((a - low) / (high - low) * 2 - 1 for a in (X, new))
    distances = pairwise_distances(scaled)
    mean = distances[~np.eye(len(X), dtype=bool)].mean()
    expected = pairwise_distances(scaled, rows).min(axis=0) / mean
    inside, index = guard.inspect(new)
    np.testing.assert_allclose(index, expected, rtol=1e-5)
    np.testing.assert_array_equal(inside, expected < 0.9)


def test_svm_is_scikit_learns():
    rng = np.random.default_rng(1)
    X = np.column_stack([rng.normal(size=(400, 3)), np.ones(400)])
    guard = OutlierGuard.fit(
        X, {"use_SVM_to_remove_outliers": True, "svm_params": {"shuffle": False, "nu": 0.1}}, seed=5
    )
    low, high = X[:, :3].min(axis=0), X[:, :3].max(axis=0)
    scaled = (X[:, :3] - low) / (high - low) * 2 - 1
    oracle = SGDOneClassSVM(shuffle=False, nu=0.1, random_state=5).fit(scaled)
    np.testing.assert_array_equal(guard.keeps(X), oracle.predict(scaled) == 1)
    assert 0 < guard.keeps(X).mean() < 1


def test_rows_with_missing_features_are_not_like_the_training_rows():
    X = np.random.default_rng(2).normal(size=(50, 2))
    guard = OutlierGuard.fit(X, {"DI_threshold": 5}, seed=0)
    inside, index = guard.inspect(np.array([[np.nan, 0.0], [0.0, 0.0]]))
    assert inside.tolist() == [False, True]
    assert np.isnan(index[0])


def test_guard_survives_its_file_and_nothing_pickled_is_read():
    X = np.random.default_rng(3).normal(size=(60, 3))
    guard = OutlierGuard.fit(X, {"DI_threshold": 1, "use_SVM_to_remove_outliers": True}, seed=0)
    again = OutlierGuard.from_bytes(guard.to_bytes())
    np.testing.assert_array_equal(guard.inspect(X)[1], again.inspect(X)[1])
    with pytest.raises(BundleError):
        OutlierGuard.from_bytes(b"no archive")


def test_without_the_keys_there_is_no_guard():
    assert OutlierGuard.fit(np.eye(3), {"DI_threshold": 0}, seed=0) is None


# --- windows -----------------------------------------------------------------------------------------


def plan(**changes: Any) -> Plan:
    recipe = Recipe(
        ModelConfig(parameters={"n_estimators": 30}, optimize_hyperparams=False), FeatureConfig()
    )
    values: dict[str, Any] = {
        "recipe": recipe, "settings": FreqaiConfig(), "freqai": freqai_block(), "candle": CANDLE,
    } | changes  # fmt: skip
    return Plan(**values)


def window(n: int = 1200, *, signal: float = 1.5, seed: int = 0, horizon: int = 6) -> WindowRows:
    rng = np.random.default_rng(seed)
    dates = pd.date_range("2024-01-01", periods=n, freq="1h", tz="UTC")
    X = pd.DataFrame(rng.normal(size=(n, 4)).astype(np.float32), columns=list("%abc"), index=dates)
    y = np.where(signal * X["a"] + rng.normal(size=n) > 0, "up", "down").astype(object)
    y[n - horizon :] = None
    labels = pd.DataFrame({"&s": y}, index=dates)
    targets = (Target("&s", "binary", ("down", "up")),)
    return WindowRows(X, labels, targets, horizon, (dates[-1] + CANDLE, None))


def test_no_training_label_reaches_into_the_judged_rows():
    rows = window()
    model, judged = train_window(rows, plan())
    first = judged.features.index[0]
    assert model.members[0].train_end < first
    known = len(rows.features) - rows.horizon_candles
    assert len(judged.features) == pytest.approx(0.2 * known, abs=1)
    assert model.metrics["n_train_rows"] == known - len(judged.features) - rows.horizon_candles
    assert model.metrics["roc_auc"] > 0.75


def test_rows_too_few_for_slices_are_fitted_at_once_and_it_is_said(caplog):
    rows = window(400, horizon=40)
    model, judged = train_window(rows, plan())
    assert "too few to keep some for early stopping" in caplog.text
    (member,) = model.members
    assert member.model.n_rounds == 30
    assert member.thresholds.enter == 0.5
    assert member.train_end < judged.features.index[0]
    assert model.metrics["roc_auc"] > 0.7


def test_row_with_a_missing_feature_is_neither_learned_from_nor_predicted():
    rows = window()
    X = rows.features.copy()
    X.iloc[100, 1] = np.nan
    model, _ = train_window(replace(rows, features=X), plan())
    whole, _ = train_window(rows, plan())
    assert model.metrics["n_train_rows"] == whole.metrics["n_train_rows"] - 1
    found, usable, _ = model.predict(X.iloc[99:102])
    assert usable.tolist() == [1, 0, 1]
    assert found.isna().any(axis=1).tolist() == [False, True, False]
    assert found["up"].iloc[0] + found["down"].iloc[0] == pytest.approx(1)


def test_row_with_an_infinite_target_is_not_learned_from():
    rows = window()
    values = np.random.default_rng(1).normal(0, 0.01, len(rows.features))
    targets = (Target("&r", "regression"),)
    there = replace(
        rows, labels=pd.DataFrame({"&r": values}, index=rows.labels.index), targets=targets
    )
    labels = there.labels.copy()
    labels.iloc[100] = np.inf
    model, judged = train_window(replace(there, labels=labels), plan())
    whole, same = train_window(there, plan())
    assert model.metrics["n_train_rows"] == whole.metrics["n_train_rows"] - 1
    pd.testing.assert_frame_equal(judged.features, same.features, check_freq=False)


def test_no_complete_row_names_the_feature():
    rows = window()
    X = rows.features.assign(a=np.float32(np.nan))
    with pytest.raises(TrainingError, match="fewest values is a with 0"):
        train_window(replace(rows, features=X), plan())


def test_two_targets_have_a_model_each():
    rows = window()
    labels = rows.labels.assign(
        **{"&s-second": rows.labels["&s"].replace({"up": "up2", "down": "down2"})}
    )
    targets = (*rows.targets, Target("&s-second", "binary", ("down2", "up2")))
    model, _ = train_window(replace(rows, labels=labels, targets=targets), plan())
    found, _, _ = model.predict(rows.features.tail(5))
    assert list(found) == ["&s", "down", "up", "&s-second", "down2", "up2"]
    np.testing.assert_array_equal(found["up"], found["up2"])


def test_whole_fit_is_the_librarys_own_on_the_same_rows():
    """What is left when all corrections are off: LightGBM's classifier on scaled features."""
    from lightgbm import LGBMClassifier
    from sklearn.preprocessing import MinMaxScaler

    rows = window()
    stock = {"num_leaves": 31, "feature_fraction": 1.0, "bagging_fraction": 1.0, "lambda_l2": 0.0,
             "min_data_in_leaf": 20, "max_bin": 255, "n_estimators": 30}  # fmt: skip
    recipe = Recipe(
        ModelConfig(parameters=stock, optimize_hyperparams=False, calibration="none"),
        FeatureConfig(scaling_method="symmetric", remove_correlated=False),
    )
    block = freqai_block()
    block["data_split_parameters"] = {"test_size": 0}
    settings = FreqaiConfig(stop_and_calibrate=False, gate="always")
    model, judged = train_window(rows, plan(recipe=recipe, settings=settings, freqai=block))
    assert len(judged.features) == 0
    known = rows.labels["&s"].notna().to_numpy()
    scaler = MinMaxScaler((-1, 1)).fit(rows.features[known].astype(np.float64))
    X = scaler.transform(rows.features.astype(np.float64)).astype(np.float32)
    oracle = LGBMClassifier(n_estimators=30, n_jobs=1, verbosity=-1, force_col_wise=True)
    oracle.fit(X[known], rows.labels["&s"][known].astype(str))
    expected = oracle.predict_proba(X)[:, list(oracle.classes_).index("up")]
    found, _, _ = model.predict(rows.features)
    np.testing.assert_allclose(found["up"], expected, atol=1e-6)


# --- gate --------------------------------------------------------------------------------------------


def test_worse_model_is_refused_and_a_better_one_accepted():
    rows = window(3000)
    good, judged = train_window(rows, plan())
    noise = replace(
        rows, labels=rows.labels.sample(frac=1, random_state=1).set_axis(rows.labels.index)
    )
    bad, _ = train_window(replace(noise, labels=noise.labels.fillna("up")), plan())
    assert decide("not_worse", good, bad, judged).accepted
    assert decide("better", good, bad, judged).accepted
    refused = decide("not_worse", bad, good, judged)
    assert not refused.accepted
    assert refused.check.value > 0
    assert decide("always", bad, good, judged).accepted


def test_equal_models_are_not_worse_and_not_better():
    model, judged = train_window(window(2000), plan())
    assert decide("not_worse", model, model, judged).accepted
    assert not decide("better", model, model, judged).accepted


def test_too_few_rows_say_nothing():
    model, judged = train_window(window(220), plan())
    assert decide("not_worse", model, model, judged).accepted
    found = decide("better", model, model, judged)
    assert not found.accepted
    assert "nothing speaks" in found.check.sentence
    assert decide("better", model, None, judged).accepted


# --- what a hand-over tells the gates ------------------------------------------------------------------


def traded(rows: WindowRows, returns: Any) -> WindowRows:
    return replace(rows, forward=np.asarray(returns, dtype=np.float64))


def figures_of(judged: pd.DataFrame, horizon: int = 6) -> dict[str, float]:
    return judged_figures(judged, candle=CANDLE, horizon_candles=horizon, round_trip_cost=0.002)


def test_judged_rows_hold_the_trades_and_the_losses_of_baselines():
    rows = window()
    forward = np.random.default_rng(5).normal(0, 0.01, len(rows.features))
    model, judged = train_window(traded(rows, forward), plan())
    table = pd.DataFrame(model.judged)
    places = rows.features.index.get_indexer(judged.features.index)
    np.testing.assert_array_equal(table["forward_return"], forward[places])
    np.testing.assert_allclose(table["loss"], model.losses(judged))
    share = (rows.labels["&s"].iloc[: places[0] - 6] == "up").mean()
    up = (rows.labels["&s"].iloc[places] == "up").mean()
    expected = -(up * np.log(share) + (1 - up) * np.log(1 - share))
    assert table["loss_class_prior"].mean() == pytest.approx(expected, rel=1e-3)
    found = figures_of(table)
    assert found["p_value_class_prior"] < 0.01
    assert found["p_value_last_value"] < 0.01
    assert found["baseline_log_loss"] == pytest.approx(expected, rel=1e-3)
    assert abs(found["oos_sharpe_per_period"]) < 0.2


def test_rows_too_few_for_two_blocks_prove_nothing():
    model, _ = train_window(traded(window(250), np.zeros(250)), plan())
    assert len(model.judged["date"]) < 60
    assert set(figures_of(pd.DataFrame(model.judged))) == {
        "baseline_log_loss",
        "baseline_last_value_log_loss",
    }


def test_short_trades_earn_what_long_ones_lose():
    dates = pd.date_range("2024-01-01", periods=600, freq="1h", tz="UTC")
    zeros = dict.fromkeys(("loss", "loss_mean", "loss_zero"), 0.0)
    falls = pd.DataFrame({"date": dates, "position": -1, "forward_return": -0.05, **zeros})
    assert figures_of(falls)["oos_sharpe_per_period"] > 0
    assert figures_of(falls.assign(position=1))["oos_sharpe_per_period"] < 0


# --- files -------------------------------------------------------------------------------------------


@given(
    st.lists(st.text("AaBb12/:_-.é ", min_size=1, max_size=8), min_size=2, max_size=6, unique=True)
)
def test_different_pairs_have_different_names(pairs):
    slugs = [pair_slug(pair) for pair in pairs]
    assert len(set(slugs)) == len(slugs)
    assert all("/" not in slug and ":" not in slug for slug in slugs)


_words = st.text("ab.-_ &:/é", min_size=1, max_size=4)
_named = st.tuples(_words, _words, st.just("") | _words.map("&".__add__))


@given(st.sets(_named, min_size=2, max_size=6))
def test_different_identifiers_pairs_and_targets_have_different_models(named):
    names = {model_name(*one) for one in named}
    assert len(names) == len(named)
    for name in names:
        check_model_name(name)


def test_long_names_stay_apart_and_are_no_longer_than_a_name_may_be():
    names = {
        model_name("x" * 120, pair, target) for pair in ("A/B", "A/C") for target in ("", "&a")
    }
    assert len(names) == 4
    assert {len(name) for name in names} == {100}
    assert model_name("id", "BTC/USDT:USDT") != model_name("id", "BTC/USDT", "&USDT")
    assert model_name("id", "A/B", "&-a") != model_name("id", "A/B", "&a")


def origin(key: str = "k") -> Origin:
    return Origin("id", "A/B", "1h", 1_700_000_000, ModelConfig(), FeatureConfig(), key, {})


def test_stored_window_predicts_the_same_and_damage_is_noticed(tmp_path):
    rows = window()
    block = freqai_block(DI_threshold=0.9, use_SVM_to_remove_outliers=True)
    model, judged = train_window(rows, plan(freqai=block))
    folder = tmp_path / "models" / "sub-train-A_B_1700000000"
    save_window(folder, model, rows.features, origin())
    again, _ = read_window(folder)
    before, after = (m.predict(rows.features) for m in (model, again))
    pd.testing.assert_frame_equal(before[0], after[0])
    np.testing.assert_array_equal(before[1], after[1])
    np.testing.assert_array_equal(before[2], after[2])
    assert stored_key(folder) == "k"
    found = judged_rows(rows, plan(freqai=block), again.guard)
    pd.testing.assert_frame_equal(found.features, judged.features)
    assert not [path for path in folder.rglob("*") if path.suffix in (".pkl", ".joblib")]
    place: Any = SimpleNamespace(folder=folder, key="k", pair="A/B")
    assert stored_model(place) is not None
    file = folder / "0" / "members" / "0" / "model.txt"
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(BundleError):
        read_window(folder)
    assert stored_model(place) is None


def test_judged_rows_survive_their_file_and_damage_is_noticed(tmp_path):
    rows = traded(window(), np.zeros(1200))
    model, _ = train_window(rows, plan())
    folder = tmp_path / "sub-train-A_B_1700000000"
    save_window(folder, model, rows.features, origin())
    _, described = read_window(folder)
    pd.testing.assert_frame_equal(read_judged(folder, described), pd.DataFrame(model.judged))
    file = folder / "judged.feather"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError, match="was changed"):
        read_judged(folder, described)


def test_bots_versions_are_pruned_but_for_the_newest_of_each_verdict_and_tagged_ones(tmp_path):
    freqai = {"identifier": "id", "purge_old_models": 1}
    config = {"freqai": freqai, "user_data_dir": str(tmp_path), "runmode": RunMode.DRY_RUN}
    settings = {"tracking": {"backend": "none"}, "registry": {"directory": str(tmp_path / "store")}}
    mlpipe = MLPipeConfig(**settings)
    record, rows = RunRecord(mlpipe, config), window(400)
    model, _ = train_window(rows, plan())
    registry = ModelRegistry(directory=tmp_path / "store")
    for number, accepted in enumerate([True, False, True, True, False]):
        folder = tmp_path / f"sub-train-A_B_170000000{number}"
        save_window(
            folder, model, rows.features, replace(origin(), trained_at=1_700_000_000 + number)
        )
        verdict = Decision(accepted, Check("vs the model before it", None, None, accepted, "said"))
        record.window("A/B", number, model, verdict, {}, folder=folder)
        if number == 0:
            registry.tag_model("freqai.id.A_B", "1", add=["mine"])
    versions = registry.get_all_versions("freqai.id.A_B")
    assert [version.version for version in versions] == ["5", "4", "1"]


def test_cached_predictions_come_back_as_they_were_and_missing_classes_stay_missing(tmp_path):
    model, _ = train_window(window(), plan())
    X = window().features.tail(5).copy()
    X.iloc[2] = np.nan
    found, usable, _ = model.predict(X)
    table = found.assign(date=X.index.as_unit("ms"), do_predict=usable, mlpipe_model=1_700_000_000)
    path = tmp_path / "new" / "A_B.feather"
    assert read_predictions(path) is None
    write_predictions(path, table)
    pd.testing.assert_frame_equal(read_predictions(path), table)
    assert table["&s"].isna().tolist() == [False, False, True, False, False]
    path.write_bytes(path.read_bytes()[:-20])
    assert read_predictions(path) is None


def test_folder_without_its_last_file_does_not_count(tmp_path):
    folder = tmp_path / "sub-train-A_B_1700000000"
    rows = window()
    save_window(folder, train_window(rows, plan())[0], rows.features, origin())
    (folder / "window.json").unlink()
    assert stored_key(folder) is None
    with pytest.raises(BundleError):
        read_window(folder)


def test_key_changes_with_one_value():
    rows = window(50)
    changed = rows.features.copy()
    changed.iloc[17, 2] += 1e-6
    assert content_key(rows.features) == content_key(rows.features.copy())
    assert content_key(rows.features) != content_key(changed)
    assert content_key(rows.labels) != content_key(rows.labels.replace({"up": "down"}))


# --- statistics of recent predictions ------------------------------------------------------------------


def test_statistics_are_freqais_where_nothing_is_missing():
    values = np.random.default_rng(4).normal(size=80)
    frame = pd.DataFrame({"&-x": values, "&-word": ["a"] * 80})
    rolled = rolling_statistics(frame.assign(**{"&-x_mean": -1.0}), ["&-x", "&-word"], 20)
    for row in (20, 55, 79):
        mean, deviation = norm.fit(values[row - 20 : row])
        assert rolled["&-x_mean"][row] == pytest.approx(mean)
        assert rolled["&-x_std"][row] == pytest.approx(deviation)
    assert (rolled["&-x_mean"][:20] == -1).all()
    means, deviations = recent_statistics(frame, ["&-x", "&-word"], 20)
    assert (means["&-x"], deviations["&-x"]) == pytest.approx(norm.fit(values[-20:]))
    assert means["&-word"] == 0


def test_missing_predictions_are_left_out_of_the_statistics():
    frame = pd.DataFrame({"&-x": [1.0, np.nan, 3.0]})
    assert recent_statistics(frame, ["&-x"], 3)[0]["&-x"] == 2
    assert np.isnan(recent_statistics(frame.iloc[1:2], ["&-x"], 3)[0]["&-x"])


# --- what a bot keeps ----------------------------------------------------------------------------------


def drawer(tmp_path: Any) -> MLPipeDrawer:
    config = {
        "freqai": {"feature_parameters": {}, "purge_old_models": 2},
        "user_data_dir": tmp_path,
        "exchange": {"pair_whitelist": ["A/B"]},
    }
    (tmp_path / "models" / "id").mkdir(parents=True)
    return MLPipeDrawer(tmp_path / "models" / "id", config)


def candles_and_predictions(n: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    frame = prices(n)
    words = pd.Series(["up"] * n).infer_objects()
    return frame, pd.DataFrame({"&s": words, "up": np.full(n, 0.7), "down": np.full(n, 0.3)})


def live_drawer(tmp_path: Any, n: int) -> tuple[MLPipeDrawer, Any, pd.DataFrame]:
    found = drawer(tmp_path)
    frame, predictions = candles_and_predictions(n + 3)
    first = predictions.head(n).copy()
    for name in ("up", "down"):
        first[f"{name}_mean"] = first[f"{name}_std"] = 0.0
    first["do_predict"] = 0
    for column in ("high", "low", "close"):
        first[f"{column}_price"] = frame[column].head(n)
    first["date_pred"] = frame["date"].head(n)
    found.historic_predictions["A/B"] = first
    kitchen = SimpleNamespace(
        label_list=["&s"],
        data={"labels_mean": {"up": 0.0, "down": 0.0}, "labels_std": {"up": 0.0, "down": 0.0},
              "extra_returns_per_train": {}},
    )  # fmt: skip
    return found, kitchen, frame


def test_skipped_candles_have_no_prediction(tmp_path):
    found, kitchen, frame = live_drawer(tmp_path, 20)
    _, predictions = candles_and_predictions(1)
    found.append_model_predictions("A/B", predictions, np.array([1]), kitchen, frame)
    rows = found.model_return_values["A/B"].tail(3)
    assert rows["up"].isna().tolist() == [True, True, False]
    assert rows["do_predict"].tolist() == [0, 0, 1]
    assert rows["&s"].isna().tolist() == [True, True, False]


def test_expired_model_has_no_prediction_and_says_so(tmp_path):
    found, kitchen, frame = live_drawer(tmp_path, 20)
    zeros = pd.DataFrame(np.zeros((2, 1)), columns=["&s"])  # what FreqAI passes
    found.append_model_predictions("A/B", zeros, np.array([2, 2]), kitchen, frame.head(21))
    last = found.model_return_values["A/B"].iloc[-1]
    assert last["do_predict"] == 2
    assert last[["&s", "up", "down"]].isna().all()


def test_files_of_a_bot_are_whole_after_a_failed_write(tmp_path, monkeypatch):
    found = drawer(tmp_path)
    found.set_pair_dict_info({"pair": "A/B"})
    found.save_drawer_to_disk()
    before = found.pair_dictionary_path.read_bytes()
    found.pair_dict["A/B"]["trained_timestamp"] = 7

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        found.save_drawer_to_disk()
    assert found.pair_dictionary_path.read_bytes() == before


def test_killed_saving_leaves_the_old_model(tmp_path, monkeypatch):
    rows = window()
    folder = tmp_path / "sub-train-A_B_1700000000"
    save_window(folder, train_window(rows, plan())[0], rows.features, origin("old"))

    def killed(path: Path, data: bytes, **options: Any) -> None:
        if path.name == "window.json":
            raise KeyboardInterrupt
        write_file(path, data, **options)

    monkeypatch.setattr("freqtrade_mlpipe.integration.freqai_store.write_file", killed)
    with pytest.raises(KeyboardInterrupt):
        save_window(folder, train_window(rows, plan())[0], rows.features, origin("new"))
    assert stored_key(folder) == "old"
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.path)
def test_page_says_of_each_key_what_becomes_of_it(key):
    page = Path(__file__).parents[2] / "docs" / "freqai.md"
    if not page.exists():
        pytest.skip("not a source checkout")
    (row,) = [
        line for line in page.read_text(encoding="utf-8").splitlines()
        if line.startswith(f"| `{key.path}` |")
    ]  # fmt: skip
    assert key.verdict in row
    assert key.sentence.rstrip(".").lower() in row.lower()
