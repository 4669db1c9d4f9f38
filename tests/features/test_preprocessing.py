from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler

from freqtrade_mlpipe.config import FeatureConfig
from freqtrade_mlpipe.exceptions import BundleError, DataError
from freqtrade_mlpipe.features import FeatureEngineer, Preprocessor
from tests.features.market import random_walk

SCALERS = {"standard": StandardScaler, "minmax": MinMaxScaler, "robust": RobustScaler}
PLAIN = FeatureConfig(scale_features=False, remove_correlated=False)


def table(n: int = 400, k: int = 6, *, seed: int = 0, missing: float = 0.0) -> pd.DataFrame:
    """Columns of various levels and spreads, float32."""
    rng = np.random.default_rng(seed)
    values = rng.normal(rng.normal(0, 100, k), np.exp(rng.normal(0, 3, k)), (n, k))
    values[rng.random((n, k)) < missing] = np.nan
    return pd.DataFrame(values.astype(np.float32), columns=[f"f{i}" for i in range(k)])


def groups(n: int = 500, *, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Three groups of correlated columns and labels that follow the second member of each."""
    rng = np.random.default_rng(seed)
    columns, signal = {}, np.zeros(n)
    for name in "abc":
        base = rng.normal(size=n)
        for member in range(3):
            columns[f"{name}{member}"] = base + 0.1 * rng.normal(size=n)
        signal += columns[f"{name}1"]
    y = (signal > 0).astype(float)
    return pd.DataFrame(columns).astype(np.float32), y


def prune_by_pandas(X: pd.DataFrame, y: np.ndarray | None, config: FeatureConfig) -> list[str]:
    """Greedy pruning written with pandas' correlations."""

    def prepared(values):
        return values.rank() if config.correlation_method == "spearman" else values.astype(float)

    corr = prepared(X).corr().abs()
    order = list(X.columns)
    if y is not None:
        target = pd.Series(y, X.index).dropna()
        relevance = prepared(X.loc[target.index]).corrwith(prepared(target)).abs()
        order = sorted(order, key=lambda name: -relevance[name])
    kept: list[str] = []
    for name in order:
        if all(corr.loc[name, other] <= config.correlation_threshold for other in kept):
            kept.append(name)
    return [name for name in X.columns if name in kept]


@pytest.mark.parametrize("missing", [0.0, 0.2])
@pytest.mark.parametrize("method", SCALERS)
def test_scaling_equals_scikit_learn(method: str, missing: float) -> None:
    X, later = table(missing=missing), table(50, seed=1, missing=missing)
    fitted = Preprocessor.fit(X, FeatureConfig(scaling_method=method, remove_correlated=False))
    expected = SCALERS[method]().fit(X.astype(float)).transform(later.astype(float))
    found = fitted.transform(later)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(np.isnan(found), later.isna())


def test_without_scaling_values_pass_through() -> None:
    X = table(missing=0.1)
    np.testing.assert_array_equal(Preprocessor.fit(X, PLAIN).transform(X), X.to_numpy())


def test_robust_scale_of_a_mostly_constant_column_falls_back_to_its_deviation() -> None:
    X = table()
    X["flag"] = np.where(np.arange(len(X)) % 20 == 0, 1.0, 0.0).astype(np.float32)
    fitted = Preprocessor.fit(X, FeatureConfig(scaling_method="robust", remove_correlated=False))
    scaled = fitted.transform(X)[:, -1]
    np.testing.assert_allclose(scaled, X["flag"] / X["flag"].std(ddof=0), rtol=1e-5)


def test_constant_and_empty_columns_are_dropped() -> None:
    X = table()
    X["constant"], X["empty"], X["mostly"] = np.float32(0.1), np.float32(np.nan), np.float32(2.0)
    X.loc[3:, "mostly"] = np.nan
    fitted = Preprocessor.fit(X, PLAIN)
    assert fitted.dropped_constant == ("constant", "empty", "mostly")
    assert fitted.kept_columns == tuple(f"f{i}" for i in range(6))
    assert fitted.input_columns == tuple(X.columns)


@pytest.mark.parametrize("method", ["pearson", "spearman"])
def test_pruning_keeps_the_member_that_ranks_best_with_y(method: str) -> None:
    X, y = groups()
    fitted = Preprocessor.fit(X, FeatureConfig(correlation_method=method), y)
    assert fitted.kept_columns == ("a1", "b1", "c1")
    assert fitted.dropped_correlated == {f"{g}{i}": f"{g}1" for g in "abc" for i in (0, 2)}


def test_pruning_without_y_keeps_the_first_member() -> None:
    X, _ = groups()
    assert Preprocessor.fit(X, FeatureConfig()).kept_columns == ("a0", "b0", "c0")


def test_nothing_is_pruned_when_switched_off_or_at_threshold_one() -> None:
    X, y = groups()
    for config in (
        FeatureConfig(remove_correlated=False),
        FeatureConfig(correlation_threshold=1.0),
    ):
        assert Preprocessor.fit(X, config, y).kept_columns == tuple(X.columns)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10_000), threshold=st.sampled_from([0.5, 0.8, 0.95]), labelled=st.booleans()
)
@pytest.mark.parametrize("method", ["pearson", "spearman"])
def test_pruning_drops_the_columns_that_pandas_would(
    method: str, seed: int, threshold: float, labelled: bool
) -> None:
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(5, 12)) * (rng.random((5, 12)) < 0.4)
    values = (
        rng.normal(size=(300, 5)) @ mix + 0.2 * rng.normal(size=(300, 12)) + rng.normal(0, 50, 12)
    )
    values[rng.random(values.shape) < 0.01] = np.nan
    X = pd.DataFrame(values.astype(np.float32), columns=[f"f{i}" for i in range(12)])
    y = np.where(rng.random(300) < 0.9, rng.random(300) < 0.4, np.nan) if labelled else None
    config = FeatureConfig(correlation_method=method, correlation_threshold=threshold)
    assert list(Preprocessor.fit(X, config, y).kept_columns) == prune_by_pandas(X, y, config)


def test_real_features_prune_as_by_pandas() -> None:
    engineer = FeatureEngineer()
    df = random_walk(engineer.startup_candles + 1500)
    X = engineer.transform(df).iloc[engineer.startup_candles :]
    X = X.loc[:, X.max() > X.min()]
    y = (np.random.default_rng(0).random(len(X)) < 0.5).astype(float)
    found = Preprocessor.fit(X, FeatureConfig(), y).kept_columns
    expected = prune_by_pandas(X.astype(float), y, FeatureConfig())
    assert set(found) == set(expected)


def test_one_column_that_is_never_complete_does_not_hide_the_correlations_of_the_others() -> None:
    X, y = groups()
    X["sparse"] = np.where(np.arange(len(X)) < 2, np.arange(len(X)), np.nan).astype(np.float32)
    kept = Preprocessor.fit(X, FeatureConfig(), y).kept_columns
    assert set(kept) - {"sparse"} == {"a1", "b1", "c1"}


def test_rows_without_label_do_not_rank() -> None:
    X, y = groups()
    spoiled = np.where(np.arange(len(y)) < 250, y, np.nan)
    found = Preprocessor.fit(X, FeatureConfig(), spoiled).kept_columns
    assert list(found) == prune_by_pandas(X, spoiled, FeatureConfig())
    assert found != Preprocessor.fit(X, FeatureConfig(), y).kept_columns


def test_transform_takes_columns_by_name_in_any_order_and_ignores_others() -> None:
    X = table()
    fitted = Preprocessor.fit(X, FeatureConfig())
    shuffled = X[["f3", "f0", "f5", "f1", "f4", "f2"]].assign(other="text")
    np.testing.assert_array_equal(fitted.transform(shuffled), fitted.transform(X))


def test_missing_columns_are_named() -> None:
    fitted = Preprocessor.fit(table(), FeatureConfig())
    with pytest.raises(DataError, match="2 of 6 features are missing: f1, f4"):
        fitted.transform(table().drop(columns=["f1", "f4"]))


def test_nan_stays_nan_and_everything_else_is_finite() -> None:
    X = table(missing=0.3)
    found = Preprocessor.fit(X, FeatureConfig(remove_correlated=False)).transform(X)
    np.testing.assert_array_equal(np.isfinite(found), X.notna())


@pytest.mark.parametrize("method", SCALERS)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_json_round_trip_is_exact(method: str, seed: int) -> None:
    X = table(60, seed=seed, missing=0.05)
    fitted = Preprocessor.fit(X, FeatureConfig(scaling_method=method, correlation_threshold=0.1))
    again = Preprocessor.from_dict(json.loads(json.dumps(fitted.to_dict(), allow_nan=False)))
    assert again == fitted
    assert again.transform(X).tobytes() == fitted.transform(X).tobytes()


def test_fitting_is_deterministic_and_leaves_the_rows_untouched() -> None:
    X, y = groups()
    before = X.copy(deep=True)
    assert Preprocessor.fit(X, FeatureConfig(), y) == Preprocessor.fit(X, FeatureConfig(), y)
    pd.testing.assert_frame_equal(X, before)


def test_infinite_features_are_refused() -> None:
    X = table()
    X.iloc[3, 2] = np.inf
    with pytest.raises(DataError, match=r"infinite.*f2"):
        Preprocessor.fit(X, FeatureConfig())


def test_duplicate_names_are_refused() -> None:
    with pytest.raises(DataError, match="duplicate feature names"):
        Preprocessor.fit(pd.concat([table(), table()], axis=1), FeatureConfig())


def test_labels_of_another_length_are_refused() -> None:
    with pytest.raises(DataError, match=r"y has shape \(3,\), X has 400 rows"):
        Preprocessor.fit(table(), FeatureConfig(), np.zeros(3))


def test_rows_where_nothing_varies_are_refused() -> None:
    with pytest.raises(DataError, match="None of 2 features varies"):
        Preprocessor.fit(pd.DataFrame({"a": [1.0, 1.0], "b": [2.0, 2.0]}), FeatureConfig())
    with pytest.raises(DataError, match="at least 2 training rows, found 1"):
        Preprocessor.fit(table(1), FeatureConfig())


def test_text_is_refused() -> None:
    with pytest.raises(DataError, match="must be numeric"):
        Preprocessor.fit(table().assign(f1="text"), FeatureConfig())


@pytest.mark.parametrize(
    "change",
    [
        {"center": None},
        {"center": [0.0]},
        {"kept_columns": ["f0", "f1", "f2", "f3", "f4", "other"]},
        {"scale": [0.0, 1.0, 1.0, 1.0, 1.0, 1.0]},
        {"scale": [float("nan"), 1.0, 1.0, 1.0, 1.0, 1.0]},
        {"scale": ["x", 1.0, 1.0, 1.0, 1.0, 1.0]},
        {"dropped_correlated": []},
    ],
)
def test_unusable_content_is_refused(change: dict) -> None:
    content = Preprocessor.fit(table(), PLAIN).to_dict() | change
    with pytest.raises(BundleError, match="Preprocessing"):
        Preprocessor.from_dict(content)
    with pytest.raises(BundleError, match="Preprocessing"):
        Preprocessor.from_dict({})
