"""The Python API as the documentation shows it: every name, every call, in that order, in an empty directory."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import freqtrade_mlpipe
from freqtrade_mlpipe import (
    ExperimentTracker,
    FeatureConfig,
    FeatureEngineer,
    LabelConfig,
    MLPipeError,
    ModelConfig,
    ModelRegistry,
    ModelTrainer,
    make_labels,
)
from freqtrade_mlpipe.registry import save_model
from freqtrade_mlpipe.synthetic import Market, generate_market

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture(scope="module")
def candles() -> pd.DataFrame:
    market = Market(pairs=("SYNA/USDT",), n_candles=4_000, signal=3.0, seed=4)
    return generate_market(market)["SYNA/USDT"]


@pytest.fixture
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", freqtrade_mlpipe.__all__)
def test_every_public_name_can_be_imported(name):
    assert getattr(freqtrade_mlpipe, name) is not None
    assert name in dir(freqtrade_mlpipe)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="ModelTrainr"):
        import_module("freqtrade_mlpipe").ModelTrainr  # noqa: B018


def test_documented_feature_settings_exist():
    config = FeatureConfig(
        include_price_features=True, include_volume_features=True, include_momentum_features=True,
        include_volatility_features=True, include_trend_features=True, include_time_features=True,
        short_period=7, medium_period=14, long_period=50, scale_features=True, scaling_method="standard",
        remove_correlated=True, correlation_threshold=0.9,
    )  # fmt: skip
    assert FeatureEngineer(config).get_feature_names()


def test_documented_model_settings_exist():
    for model_type in ("random_forest", "xgboost", "lightgbm"):
        ModelConfig(
            model_type=model_type, optimize_hyperparams=True, n_trials=50, optimization_metric="f1", cv_folds=5,
            cv_method="timeseries", feature_selection=True, min_feature_importance=0.001, max_features=50,
            early_stopping_rounds=50, random_state=42,
        )  # fmt: skip


@pytest.mark.slow
def test_documented_calls_work_in_their_order(empty_directory, candles):
    df = candles
    engineer = FeatureEngineer()
    features_df = engineer.transform(df)
    assert list(features_df.columns) == engineer.get_feature_names()

    X, y = features_df, make_labels(df).y
    config = ModelConfig(
        model_type="random_forest", optimize_hyperparams=True, n_trials=1, cv_folds=2
    )
    with pytest.warns(UserWarning, match="labels are taken to be known"):
        model, metrics = ModelTrainer(config).train(X, y)
    assert 0 <= metrics["f1"] <= 1
    assert 0 <= metrics["accuracy"] <= 1

    tracker = ExperimentTracker(project="freqtrade_ml", backend="mlflow")
    run_ids = []
    for name in ("first", "second"):
        run_ids.append(str(tracker.start_run(name, config)))
        tracker.log_metrics(metrics)
        tracker.log_feature_importance(model.report.feature_importance)
        known = y.notna() & features_df.notna().all(axis=1)
        proba = model.predict_proba(X[known])
        tracker.log_confusion_matrix(y[known], proba > 0.5)
        tracker.log_roc_curve(y[known], proba)
        folder = save_model(model, f"model-{name}", X)
        tracker.log_model(folder)
        tracker.log_backtest_results({"sharpe": 1.4, "total_trades": 31, "max_drawdown": 0.08})
        tracker.finish()
    table = tracker.compare_experiments(run_ids)
    assert len(table) == 2
    assert any("f1" in str(column) for column in table.columns)

    registry = ModelRegistry()
    v = registry.register_model(
        model_name="trend_classifier",
        model_path=folder,
        metrics={**metrics, "f1": 0.7, "backtest_sharpe": 1.4, "backtest_trades": 31},
        feature_names=engineer.get_feature_names(),
        tags=["first"],
    )
    assert str(v.status) == "STAGED"
    assert registry.get_production_model("trend_classifier") is None
    report = registry.validate_model(
        "trend_classifier", v.version, min_metrics={"f1": 0.6}, min_backtest_sharpe=1.0, min_backtest_trades=10
    )  # fmt: skip
    assert report.passed
    registry.promote_to_production("trend_classifier", v.version, notes="first")
    production = registry.get_production_model("trend_classifier")
    assert (production.name, production.version) == ("trend_classifier", v.version)
    assert str(production.status) == "PRODUCTION"
    assert production.metrics["f1"] == 0.7
    assert list(production.feature_names) == engineer.get_feature_names()
    assert Path(production.model_path).is_dir()

    second = registry.register_model(
        model_name="trend_classifier", model_path="model-first", metrics={"f1": 0.8}
    )
    assert registry.validate_model(
        "trend_classifier", second.version, min_metrics={"f1": 0.6}
    ).passed
    registry.promote_to_production("trend_classifier", second.version, notes="better")
    registry.rollback_to_version("trend_classifier", v.version)
    assert registry.get_production_model("trend_classifier").version == v.version

    assert [found.version for found in registry.get_all_versions("trend_classifier")] == ["2", "1"]
    history = registry.get_model_history("trend_classifier")
    assert [entry.production for entry in history] == ["1", "2", "1"]
    registry.archive_model("trend_classifier", second.version)
    assert str(registry.get_version("trend_classifier", second.version).status) == "ARCHIVED"
    registry.delete_model("trend_classifier", second.version)
    assert [found.version for found in registry.get_all_versions("trend_classifier")] == ["1"]
    with pytest.raises(MLPipeError, match="production"):
        registry.delete_model("trend_classifier", v.version)
    assert (empty_directory / "user_data" / "mlpipe").is_dir()


def test_training_accepts_a_validation_set_of_ones_own(candles):
    dated = candles.set_index("date")
    X, labels = (
        FeatureEngineer().transform(dated),
        make_labels(dated, LabelConfig(horizon_candles=6)),
    )
    rows = X.notna().all(axis=1) & labels.y.notna()
    X, y, known_at = X[rows], labels.y[rows], labels.known_at[rows]
    config = ModelConfig(model_type="lightgbm", optimize_hyperparams=False, cv_folds=2)
    cut = int(0.8 * len(X))
    model, metrics = ModelTrainer(config).train(
        X.iloc[:cut],
        y.iloc[:cut],
        X_val=X.iloc[cut:],
        y_val=y.iloc[cut:],
        known_at=known_at.iloc[:cut],
    )
    assert {"f1", "accuracy", "roc_auc"} <= set(metrics)
    assert np.isfinite(model.predict_proba(X.iloc[cut:])).all()


def python_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_strategy_in_the_readme_is_one_that_freqtrade_accepts():
    (block,) = [text for text in python_blocks() if "class MyStrategy" in text]
    namespace: dict[str, object] = {}
    exec(compile(block, "README.md", "exec"), namespace)
    from freqtrade.strategy import IStrategy

    assert issubclass(namespace["MyStrategy"], IStrategy)


@pytest.mark.slow
def test_python_block_of_the_readme_runs_as_it_stands(empty_directory, candles):
    (block,) = [text for text in python_blocks() if "ModelRegistry()" in text]
    assert "n_trials=50" in block
    quick = block.replace("n_trials=50", "n_trials=1, cv_folds=2").replace('"f1": 0.4', '"f1": 0.0')
    namespace: dict[str, object] = {"candles": candles}
    exec(compile(quick, "README.md", "exec"), namespace)
    registry = namespace["registry"]
    assert registry.get_production_model("trend_classifier").version == "1"
    assert namespace["metrics"]["n_trials"] == 1
