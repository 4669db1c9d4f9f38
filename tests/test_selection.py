"""Columns are chosen by what they say about the label, against copies that say nothing."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from freqtrade_mlpipe.config import FeatureConfig, ModelConfig
from freqtrade_mlpipe.exceptions import ConfigError
from freqtrade_mlpipe.models import MODELS, FitData
from freqtrade_mlpipe.trainer.evaluation import selection_stability
from freqtrade_mlpipe.tuning import Recipe, prepare_slice
from freqtrade_mlpipe.tuning.selection import (
    hits_needed,
    select_columns,
    shadow_hits,
    shuffled_blocks,
)
from tests.test_tuning import make_data

NAMES = [f"f{k}" for k in range(12)]
SETTINGS = {"feature_selection": True, "shadow_rounds": 5}


def slow(rng, n, memory=0.99):
    """A column that says where in time a row is."""
    noise = pd.Series(rng.normal(size=n))
    return (noise.ewm(alpha=1 - memory).mean() * 10).to_numpy()


def sample(n=2500, seed=0, strength=1.0):
    """Two columns matter; all are slow, and so is the base rate of the label."""
    rng = np.random.default_rng(seed)
    X = np.column_stack([slow(rng, n) for _ in NAMES]).astype(np.float32)
    X[:, :2] = rng.normal(size=(n, 2))
    odds = strength * (X[:, 0] + X[:, 1]) + 0.5 * slow(rng, n)
    y = (rng.random(n) < 1 / (1 + np.exp(-odds))).astype(np.float64)
    cut = int(0.88 * n)
    return FitData(X[:cut], y[:cut], np.ones(cut), X[cut:], y[cut:], np.ones(n - cut))


def fit_with(model_type):
    return lambda data: MODELS[model_type].fit({"n_estimators": 40}, data, seed=1)


@pytest.mark.parametrize("model_type", ["lightgbm", "xgboost", "random_forest"])
def test_columns_that_matter_beat_every_copy(model_type):
    hits = shadow_hits(sample(), fit_with(model_type), 5, block=50, seed=0)
    assert hits[:2].tolist() == [5, 5]


def test_columns_that_do_not_matter_seldom_pass():
    """Without any signal, over seeds: far fewer than one column in twenty."""
    passed = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        X = np.column_stack([slow(rng, 1500, 0.9) for _ in NAMES]).astype(np.float32)
        y = (rng.random(1500) < 0.5).astype(np.float64)
        data = FitData(X[:1300], y[:1300], np.ones(1300), X[1300:], y[1300:], np.ones(200))
        passed.append((shadow_hits(data, fit_with("lightgbm"), 5, block=50, seed=seed) >= 5).mean())
    assert np.mean(passed) < 0.05


def test_the_given_matrices_stay_as_they_are():
    data = sample(600)
    before = data.X.copy(), data.X_stop.copy()
    shadow_hits(data, fit_with("lightgbm"), 5, block=50, seed=0)
    np.testing.assert_array_equal(data.X, before[0])
    np.testing.assert_array_equal(data.X_stop, before[1])


@pytest.mark.parametrize("n_rounds", [5, 7, 10, 33, 100])
def test_hits_needed_are_the_fewest_that_a_coin_would_not_reach(n_rounds):
    needed = hits_needed(n_rounds)
    p_value = [binomtest(k, n_rounds, alternative="greater").pvalue for k in (needed, needed - 1)]
    assert p_value[0] <= 0.05 < p_value[1]


@pytest.mark.parametrize(("n", "block"), [(1, 5), (100, 7), (100, 1), (10, 40)])
def test_shuffled_blocks_are_a_permutation_that_keeps_most_neighbours(n, block):
    order = shuffled_blocks(n, block, np.random.default_rng(3))
    assert sorted(order) == list(range(n))
    assert (np.diff(order) != 1).sum() <= n / block + 1


def test_another_round_shuffles_otherwise():
    rng = np.random.default_rng(0)
    assert (shuffled_blocks(100, 7, rng) != shuffled_blocks(100, 7, rng)).any()


class TestSelect:
    def choose(self, data=None, **settings):
        config = ModelConfig(**{"feature_selection": True, **settings})
        return select_columns(NAMES, data or sample(), config, fit_with("lightgbm"), block=50)

    def test_shadow_test_goes_before_the_other_limits(self):
        passed = self.choose(shadow_rounds=5)
        assert {"f0", "f1"} <= set(passed)
        assert len(passed) < len(self.choose())
        assert len(self.choose(shadow_rounds=5, max_features=1)) == 1

    def test_one_column_stays_where_none_passes(self):
        found = self.choose(sample(strength=0.0), shadow_rounds=5, max_features=3)
        assert len(found) >= 1

    def test_order_is_that_of_the_schema(self):
        found = self.choose(max_features=5)
        assert found == sorted(found, key=NAMES.index)
        assert len(found) == 5


class TestInsideASlice:
    rows = np.arange(800)

    def recipe(self, **settings):
        settings = {"parameters": {"n_estimators": 15}, **SETTINGS, **settings}
        return Recipe(ModelConfig(**settings), FeatureConfig())

    def test_finds_the_column_that_matters(self):
        kept = prepare_slice(make_data(), self.rows, self.recipe()).preprocessor.kept_columns
        assert "f2" in kept
        assert len(kept) < 5

    def test_sees_neither_calibration_nor_later_rows(self):
        first, second = make_data(), make_data()
        second.X.iloc[680:] += 1.0
        second.y[680:] = 1 - second.y[680:]
        kept = [prepare_slice(d, self.rows, self.recipe()).preprocessor for d in (first, second)]
        assert kept[0] == kept[1]

    def test_monotone_constraints_follow_their_columns(self):
        settings = self.recipe(monotone={"f2": 1}, max_features=2)
        prepared = prepare_slice(make_data(), self.rows, settings)
        place = prepared.preprocessor.kept_columns.index("f2")
        assert prepared.fit_data.monotone[place] == 1
        assert sum(prepared.fit_data.monotone) == 1


class TestStability:
    def shares(self, *sets):
        return pd.Series([sum(name in s for s in sets) / len(sets) for name in NAMES], NAMES)

    def test_the_same_set_everywhere_is_1(self):
        assert selection_stability(self.shares({"f0", "f3"}, {"f0", "f3"}), 2) == 1

    def test_sets_by_chance_are_0_on_average(self):
        rng = np.random.default_rng(0)
        found = [
            selection_stability(
                self.shares(*(set(rng.choice(NAMES, 4, replace=False)) for _ in range(5))), 5
            )
            for _ in range(300)
        ]
        assert np.mean(found) == pytest.approx(0, abs=0.03)

    def test_nothing_to_compare_is_nan(self):
        assert np.isnan(selection_stability(self.shares({"f0"}), 1))
        assert np.isnan(selection_stability(self.shares(set(NAMES), set(NAMES)), 2))


def test_rounds_that_cannot_decide_are_refused():
    with pytest.raises(ConfigError, match="5 and more"):
        ModelConfig(feature_selection=True, shadow_rounds=4)
    with pytest.raises(ConfigError, match="feature_selection"):
        ModelConfig(shadow_rounds=5)
