"""Every estimator keeps one contract; the forest file is hostile until it is audited."""

import hashlib
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import skops.io
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.tree._tree import Tree

from freqtrade_mlpipe.exceptions import BundleError, ConfigError, TrainingError
from freqtrade_mlpipe.models import MODELS, FitData

FAST = {"n_estimators": 25}
NAMES = sorted(MODELS)
N_PARTS = dict.fromkeys(NAMES, 1) | {"ensemble": 3}


def sample(n=1500, k=6, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, k)).astype(np.float32)
    y = (rng.random(n) < 1 / (1 + np.exp(-1.5 * X[:, 1]))).astype(np.float64)
    return X, y


def fit_data(n=1500, k=6, seed=0, stop=True):
    X, y = sample(n, k, seed)
    cut = int(n * 0.8) if stop else n
    later = (X[cut:], y[cut:], np.ones(n - cut)) if stop else ()
    return FitData(X[:cut], y[:cut], np.ones(cut), *later)


@pytest.fixture(scope="module")
def fitted():
    return {name: MODELS[name].fit(FAST, fit_data(), seed=3) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
class TestEveryModel:
    def test_learns_a_planted_signal(self, name, fitted):
        X, y = sample(seed=9)
        bayes = roc_auc_score(y, X[:, 1])
        found = roc_auc_score(y, fitted[name].predict_proba(X))
        assert found - 0.5 > 0.9 * (bayes - 0.5)

    def test_probabilities_are_float64_between_0_and_1(self, name, fitted):
        proba = fitted[name].predict_proba(sample(seed=9)[0])
        assert proba.dtype == np.float64
        assert proba.shape == (1500,)
        assert ((proba >= 0) & (proba <= 1)).all()

    def test_one_row_equals_the_same_row_in_a_batch(self, name, fitted):
        X = sample(50, seed=9)[0]
        rows = [fitted[name].predict_proba(X[k : k + 1])[0] for k in range(len(X))]
        np.testing.assert_array_equal(rows, fitted[name].predict_proba(X))

    def test_no_rows_give_no_probabilities(self, name, fitted):
        assert fitted[name].predict_proba(np.empty((0, 6), np.float32)).shape == (0,)

    def test_importance_finds_the_planted_column(self, name, fitted):
        gain = fitted[name].importance()
        assert gain.shape == (6,)
        assert gain.argmax() == 1
        assert gain.min() >= 0
        assert gain.sum() == pytest.approx(1)

    def test_importance_is_zero_without_a_split(self, name):
        rng = np.random.default_rng(0)
        X = np.zeros((200, 3), np.float32)
        data = FitData(X, (rng.random(200) < 0.5) * 1.0, np.ones(200))
        assert MODELS[name].fit(FAST, data, seed=1).importance().tolist() == [0, 0, 0]

    def test_same_seed_same_bytes_and_other_seed_other_bytes(self, name, fitted):
        again = MODELS[name].fit(FAST, fit_data(), seed=3).to_bytes()
        other = MODELS[name].fit(FAST, fit_data(), seed=4).to_bytes()
        assert again == fitted[name].to_bytes()
        assert other != again

    def test_reusing_prepared_data_changes_nothing(self, name, fitted):
        data = fit_data()
        leaves = [key for key in MODELS[name].space if key.endswith("min_leaf_fraction")]
        MODELS[name].fit({"n_estimators": 5, **dict.fromkeys(leaves, 0.2)}, data, seed=1)
        assert MODELS[name].fit(FAST, data, seed=3).to_bytes() == fitted[name].to_bytes()

    def test_saved_model_predicts_the_same_bits(self, name, fitted):
        X = sample(seed=9)[0]
        saved = fitted[name].to_bytes()
        loaded = MODELS[name].load(saved, 6)
        np.testing.assert_array_equal(loaded.predict_proba(X), fitted[name].predict_proba(X))
        np.testing.assert_array_equal(loaded.importance(), fitted[name].importance())
        assert loaded.to_bytes() == saved
        assert (loaded.n_features, loaded.n_rounds) == (6, fitted[name].n_rounds)

    def test_load_refuses_another_number_of_columns(self, name, fitted):
        with pytest.raises(BundleError, match="expects 6 columns, its schema has 5"):
            MODELS[name].load(fitted[name].to_bytes(), 5)

    def test_rows_without_weight_have_no_say(self, name):
        X, y = sample()
        weight = (np.arange(len(y)) % 3 > 0).astype(np.float64)
        flipped = np.where(weight == 0, 1 - y, y)
        first, second = (
            MODELS[name].fit(FAST, FitData(X, labels, weight), seed=3) for labels in (y, flipped)
        )
        np.testing.assert_allclose(first.predict_proba(X), second.predict_proba(X), atol=1e-6)

    def test_the_stop_slice_cuts_the_trees_of_boosters(self, name):
        rng = np.random.default_rng(5)
        X = rng.normal(size=(800, 4)).astype(np.float32)
        y = (rng.random(800) < 0.5).astype(np.float64)
        data = FitData(X[:600], y[:600], np.ones(600), X[600:], y[600:], np.ones(200))
        params = {"n_estimators": 60}
        n_rounds = MODELS[name].fit(params, data, seed=1, early_stopping_rounds=5).n_rounds
        n_cut = {"random_forest": 0, "ensemble": 2}.get(name, 1)
        assert n_rounds <= 60 * N_PARTS[name] - 10 * n_cut
        if not n_cut:
            assert n_rounds == 60

    def test_without_stop_slice_all_trees_are_kept(self, name):
        data = fit_data(stop=False)
        kept = MODELS[name].fit({"n_estimators": 7}, data, seed=1).n_rounds
        assert kept == 7 * N_PARTS[name]

    def test_kept_rounds_make_as_many_trees_without_a_stop_slice(self, name):
        spec = MODELS[name]
        stopped = spec.fit(FAST, fit_data(), seed=3, early_stopping_rounds=2)
        again = spec.fit({**FAST, **spec.kept_rounds(stopped)}, fit_data(stop=False), seed=3)
        assert again.n_rounds == stopped.n_rounds

    @pytest.mark.parametrize("sign", [1, -1])
    def test_a_monotone_column_only_moves_the_probability_one_way(self, name, sign):
        rng = np.random.default_rng(2)
        X = rng.normal(size=(1500, 3)).astype(np.float32)
        y = (rng.random(1500) < 1 / (1 + np.exp(-3 * np.sin(2 * X[:, 1])))).astype(np.float64)
        grid = np.repeat(X[:20], 40, axis=0)
        grid[:, 1] = np.tile(np.linspace(-3, 3, 40), 20)
        steps = {}
        for constraint in (None, (0, sign, 0)):
            data = FitData(X, y, np.ones(1500), monotone=constraint)
            proba = MODELS[name].fit({"n_estimators": 40}, data, seed=1).predict_proba(grid)
            steps[constraint] = sign * np.diff(proba.reshape(20, 40), axis=1)
        assert steps[None].min() < -0.02, "without the constraint it goes both ways"
        assert steps[0, sign, 0].min() >= -1e-7
        assert steps[0, sign, 0].max() > 0.01

    def test_class_weights_shift_the_probability_by_their_ratio(self, name):
        X = np.zeros((3000, 2), np.float32)
        X[:, 0] = np.arange(3000) % 2
        y = (np.arange(3000) % 5 == 0).astype(np.float64)
        weight = np.where(y == 1, 4.0, 1.0)
        model = MODELS[name].fit({"n_estimators": 60}, FitData(X, y, weight), seed=1)
        assert model.predict_proba(X[:2]) == pytest.approx(0.5, abs=0.03)

    def test_defaults_lie_in_the_search_space(self, name):
        spec = MODELS[name]
        for parameter, found in spec.space.items():
            assert found.low <= spec.defaults[parameter] <= found.high

    def test_what_is_fixed_is_not_searched(self, name):
        import optuna

        spec = MODELS[name]
        trial = optuna.create_study().ask()
        fixed = next(key for key in spec.space if key.endswith("min_leaf_fraction"))
        params = spec.suggest(trial, {fixed: 0.123})
        assert params[fixed] == 0.123
        assert set(trial.params) == set(spec.space) - {fixed}
        assert set(params) == {*spec.defaults, *spec.space, *spec.while_searching}

    def test_the_final_fit_takes_what_the_search_saved_on(self, name):
        import optuna

        spec = MODELS[name]
        tried = spec.suggest(optuna.create_study().ask())
        full = spec.after_search(tried)
        assert full["n_estimators"] == spec.defaults["n_estimators"] >= tried["n_estimators"]
        assert {key: full[key] for key in spec.space} == {key: tried[key] for key in spec.space}
        assert spec.after_search(tried, {"n_estimators": 7})["n_estimators"] == 7

    def test_unknown_parameter_names_the_nearest(self, name):
        with pytest.raises(ConfigError, match="Did you mean 'n_estimators'"):
            MODELS[name].check_parameters({"n_estimator": 5})

    def test_every_documented_parameter_is_accepted(self, name):
        spec = MODELS[name]
        spec.check_parameters(dict.fromkeys([*spec.defaults, *spec.space, *spec.other_parameters]))

    def test_impossible_parameter_value_is_a_training_error(self, name):
        bad = {
            "lightgbm": "num_leaves",
            "xgboost": "max_depth",
            "random_forest": "max_depth",
            "ensemble": "lightgbm.num_leaves",
        }[name]
        with pytest.raises(TrainingError, match=name):
            MODELS[name].fit({bad: -7}, fit_data(), seed=1)


@pytest.mark.parametrize("stop", [True, False])
def test_rounds_of_a_fresh_booster_are_those_of_its_file(stop):
    params = {"n_estimators": 40, "learning_rate": 0.3}
    spec = MODELS["lightgbm"]
    model = spec.fit(params, fit_data(stop=stop), seed=3, early_stopping_rounds=5)
    n_rounds = model.n_rounds
    assert n_rounds < 40 if stop else n_rounds == 40
    assert spec.load(model.to_bytes(), 6).n_rounds == model.n_rounds == n_rounds


def test_one_class_is_refused():
    with pytest.raises(TrainingError, match="one class"):
        FitData(np.zeros((4, 1), np.float32), np.ones(4), np.ones(4))


def test_bytes_are_the_same_in_another_process(fitted):
    program = (
        "import hashlib\n"
        "from test_models import FAST, MODELS, NAMES, fit_data\n"
        "for n in NAMES:\n"
        "    model = MODELS[n].fit(FAST, fit_data(), seed=3)\n"
        "    print(hashlib.sha256(model.to_bytes()).hexdigest())"
    )
    here_dir = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=here_dir
    )
    here = [hashlib.sha256(fitted[name].to_bytes()).hexdigest() for name in NAMES]
    assert done.stdout.split() == here


@pytest.mark.parametrize("name", ["lightgbm", "xgboost"])
def test_unreadable_booster_is_a_bundle_error(name):
    with pytest.raises(BundleError, match="cannot be read"):
        MODELS[name].load(b"not a model", 6)


class TestEnsemble:
    def parts(self, raw):
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            return {entry.filename: archive.read(entry) for entry in archive.infolist()}

    def archive(self, parts, compression=zipfile.ZIP_STORED):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", compression) as archive:
            for name, content in parts.items():
                archive.writestr(name, content)
        return buffer.getvalue()

    def test_is_the_mean_of_the_three_models_trained_on_the_same_rows(self, fitted):
        X = sample(seed=9)[0]
        names = ("random_forest", "xgboost", "lightgbm")
        alone = np.mean([fitted[name].predict_proba(X) for name in names], axis=0)
        np.testing.assert_allclose(fitted["ensemble"].predict_proba(X), alone, rtol=1e-12)
        gain = np.mean([fitted[name].importance() for name in names], axis=0)
        np.testing.assert_allclose(fitted["ensemble"].importance(), gain, rtol=1e-12)

    def test_holds_the_native_files(self, fitted):
        found = self.parts(fitted["ensemble"].to_bytes())
        assert list(found) == ["random_forest.skops", "xgboost.ubj", "lightgbm.txt"]
        for file, content in found.items():
            assert content == fitted[file.split(".")[0]].to_bytes()

    def test_a_name_before_a_dot_means_one_part(self):
        params = {**FAST, "xgboost.max_depth": 1, "lightgbm.n_estimators": 3}
        model = MODELS["ensemble"].fit(params, fit_data(stop=False), seed=3)
        rounds = {name: part.n_rounds for name, part in model.parts.items()}
        assert rounds == {"random_forest": 25, "xgboost": 25, "lightgbm": 3}
        stumps = {**FAST, "max_depth": 1}
        alone = MODELS["xgboost"].fit(stumps, fit_data(stop=False), seed=3)
        assert model.parts["xgboost"].to_bytes() == alone.to_bytes()

    def test_other_contents_are_refused(self, fitted):
        parts = self.parts(fitted["ensemble"].to_bytes())
        smaller = MODELS["lightgbm"].fit(FAST, fit_data(k=4), seed=3).to_bytes()
        forest = parts["random_forest.skops"]
        damaged = [
            ({}, "nothing"),
            (dict(list(parts.items())[:2]), "expected"),
            (parts | {"model.pkl": b"cos\nsystem"}, "model.pkl"),
            (dict(reversed(parts.items())), "expected"),
            (parts | {"lightgbm.txt": smaller}, "different columns"),
            (parts | {"random_forest.skops": forest[:-9]}, "cannot be read"),
        ]
        for content, problem in damaged:
            with pytest.raises(BundleError, match=problem):
                MODELS["ensemble"].load(self.archive(content), 6)
        with pytest.raises(BundleError, match="compressed"):
            MODELS["ensemble"].load(self.archive(parts, zipfile.ZIP_DEFLATED), 6)
        assert MODELS["ensemble"].load(self.archive(parts), 6).n_features == 6

    def test_cut_and_flipped_bytes_are_bundle_errors(self, fitted):
        """Every member's checksum is compared before its parser sees it."""
        raw = fitted["ensemble"].to_bytes()
        rng = np.random.default_rng(0)
        for cut in (0, 10, len(raw) // 2, len(raw) - 5):
            with pytest.raises(BundleError):
                MODELS["ensemble"].load(raw[:cut], 6)
        at = raw.index(b"tree_sizes")
        for offset in rng.integers(200, size=20):
            broken = bytearray(raw)
            broken[at + int(offset)] ^= 1
            with pytest.raises(BundleError, match="CRC"):
                MODELS["ensemble"].load(bytes(broken), 6)


class TestForestFile:
    def forest(self, **settings):
        X, y = sample(400)
        settings = {"n_estimators": 3, "max_depth": 3, "random_state": 0, **settings}
        return RandomForestClassifier(**settings).fit(X, y.astype(int))

    def load(self, thing):
        return MODELS["random_forest"].load(skops.io.dumps(thing), 6)

    def damaged(self, change):
        """A forest whose second tree went through `change(nodes, values)`."""
        forest = self.forest()
        tree = forest.estimators_[1].tree_
        state = tree.__getstate__()
        state["nodes"], state["values"] = state["nodes"].copy(), state["values"].copy()
        change(state["nodes"], state["values"])
        other = Tree(tree.n_features, np.array([2]), 1)
        other.__setstate__(state)
        forest.estimators_[1].tree_ = other
        return forest

    def test_probabilities_are_those_of_scikit_learn(self):
        forest = self.forest(n_estimators=20)
        X = sample(seed=9)[0]
        found = self.load(forest).predict_proba(X)
        np.testing.assert_allclose(found, forest.predict_proba(X)[:, 1], rtol=1e-12)

    @pytest.mark.parametrize("n", [0, 1, 3, 8, 9])
    @pytest.mark.parametrize("task", ["binary", "three_class", "regression"])
    def test_few_rows_are_those_of_scikit_learn_to_the_last_bit(self, n, task):
        X, y = sample(600)
        labels = {"binary": y, "three_class": np.sign(X[:, 1].round()), "regression": X[:, 1]}[task]
        data = FitData(X, labels.astype(float), np.ones(len(X)), task=task)
        model = MODELS["random_forest"].fit({"n_estimators": 12, "max_depth": 9}, data, seed=1)
        rows = sample(n, seed=4)[0] if n else np.empty((0, 6), np.float32)
        forest = model._forest
        ask = forest.predict if task == "regression" else forest.predict_proba
        expected = ask(rows) if n else np.empty((0,) if task != "three_class" else (0, 3))
        if task == "binary" and n:
            expected = expected[:, 1]
        np.testing.assert_array_equal(model.predict_proba(rows), expected)

    def test_has_no_addresses_and_no_time(self, fitted):
        with zipfile.ZipFile(io.BytesIO(fitted["random_forest"].to_bytes())) as archive:
            assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
            numbers = sorted(int(n.split(".")[0]) for n in archive.namelist() if n[0].isdigit())
        assert numbers == list(range(len(numbers)))

    @pytest.mark.parametrize(
        ("change", "problem"),
        [
            (lambda n, v: n["left_child"].__setitem__(0, 0), "lead forward"),
            (lambda n, v: n["right_child"].__setitem__(0, 10_000), "lead forward"),
            (lambda n, v: n["left_child"].__setitem__(0, -5), "lead forward"),
            (lambda n, v: n["right_child"].__setitem__(0, -1), "lead forward"),
            (lambda n, v: n["feature"].__setitem__(0, 6), "column that does not exist"),
            (lambda n, v: n["feature"].__setitem__(0, -3), "column that does not exist"),
            (lambda n, v: n["threshold"].__setitem__(0, np.nan), "not finite"),
            (lambda n, v: v.__setitem__((0, 0, 0), np.inf), "not finite"),
            (lambda n, v: v.__setitem__((-1, 0, 1), 7.0), "probabilities"),
        ],
    )
    def test_damaged_tree_is_refused(self, change, problem):
        with pytest.raises(BundleError, match=f"Tree 1 .*{problem}"):
            self.load(self.damaged(change))

    def test_unchanged_tree_passes_the_same_route(self):
        assert self.load(self.damaged(lambda nodes, values: None)).n_rounds == 3

    def test_other_estimators_are_refused(self):
        X, y = sample(100)
        for thing in (
            LogisticRegression().fit(X, y),
            ExtraTreesClassifier(2).fit(X, y),
            RandomForestClassifier(),
            {"a": 1},
            RandomForestClassifier(2).fit(X, y + 1),
        ):
            with pytest.raises(BundleError, match="forest"):
                self.load(thing)

    def test_a_tree_of_another_kind_is_refused(self):
        forest = self.forest()
        forest.estimators_[0] = LogisticRegression()
        with pytest.raises(BundleError, match="Tree 0"):
            self.load(forest)

    def test_types_outside_the_list_are_refused(self):
        forest = self.forest()
        forest.payload = np.random.default_rng
        with pytest.raises(BundleError, match="never loaded"):
            self.load(forest)

    def test_cut_and_flipped_bytes_are_bundle_errors(self, fitted):
        raw = fitted["random_forest"].to_bytes()
        rng = np.random.default_rng(0)
        for cut in (0, 10, len(raw) // 2, len(raw) - 5):
            with pytest.raises(BundleError):
                MODELS["random_forest"].load(raw[:cut], 6)
        for _ in range(40):
            broken = bytearray(raw)
            broken[int(rng.integers(len(raw)))] ^= 1 << int(rng.integers(8))
            try:
                MODELS["random_forest"].load(bytes(broken), 6)
            except BundleError:
                continue
