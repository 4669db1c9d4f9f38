"""Predictions of freqtrade's own FreqAI models and of ours with every correction off, on the same candles.

Same strategy, windows and parameters, `test_size` 0, the settings of "As FreqAI, exactly" in docs/freqai.md. Prints for
each estimator how far the predictions are apart. Where freqtrade's own model cannot be run it is corrected as little
as possible, and the line says how (`CORRECTIONS`). Needs recorded 1h and 4h candles, which are copied::

    python benchmarks/freqai_identity.py --datadir DIRECTORY --pair ETH/USDT
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd

from benchmarks.freqai import prepare
from freqtrade_mlpipe.models import forest_model
from freqtrade_mlpipe.replay.run import main as freqtrade_main

TREES = {"n_estimators": 60, "learning_rate": 0.1, "n_jobs": 1}
LIGHTGBM = {"num_leaves": 31, "feature_fraction": 1.0, "bagging_fraction": 1.0, "lambda_l2": 0.0,
            "min_data_in_leaf": 20, "max_bin": 255}  # fmt: skip
XGBOOST = {"max_depth": 6, "min_child_weight": 1, "colsample_bytree": 1.0, "subsample": 1.0, "reg_lambda": 1.0,
           "max_bin": 256}  # fmt: skip
FOREST = {"n_estimators": 100, "random_state": 42, "max_features": "sqrt"}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "LightGBMClassifier": ("lightgbm", {**TREES, "verbosity": -1}, LIGHTGBM),
    "XGBoostClassifier": ("xgboost", TREES, XGBOOST),
    "SKLearnRandomForestClassifier": (
        "random_forest", FOREST, {"max_samples": 1.0, "max_rows": 1_000_000, "min_samples_leaf": 1},
    ),
    "LightGBMRegressor": ("lightgbm", {**TREES, "verbosity": -1}, LIGHTGBM),
    "XGBoostRegressor": ("xgboost", TREES, XGBOOST),
}  # fmt: skip
"""Of each of freqtrade's models: our estimator, the parameters of both, and what ours needs to have its defaults."""
CORRECTIONS = {
    "SKLearnRandomForestClassifier": (
        "its predict does not decode classes, which its fit does not encode",
        """
from freqtrade.freqai.base_models.BaseClassifierModel import BaseClassifierModel
from freqtrade.freqai.prediction_models.SKLearnRandomForestClassifier import SKLearnRandomForestClassifier


class Corrected(SKLearnRandomForestClassifier):
    def predict(self, unfiltered_df, dk, **kwargs):
        return BaseClassifierModel.predict(self, unfiltered_df, dk, **kwargs)
""",
    ),
}
"""Of freqtrade's models that fail on every target: what is changed, and the module with the class `Corrected`.

The forest of freqtrade 2026.9 fits classes as they are, and then takes what it predicts for their numbers: "y contains
previously unseen labels".
"""
OURS = {
    "features": {"scaling_method": "symmetric", "remove_correlated": False},
    "model": {"calibration": "none"},
    "freqai": {"gate": "always", "stop_and_calibrate": False},
}
TARGET = """
    def set_freqai_targets(self, dataframe, metadata, **kwargs):
        ahead = dataframe["close"].shift(-12) / dataframe["close"] - 1
        dataframe["&s-target"] = {target}
        return dataframe

    def populate_entry_trend(self, dataframe, metadata):
        dataframe["enter_long"] = 0
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        dataframe["exit_long"] = 0
        return dataframe
"""


def target_of(name: str) -> tuple[str, str]:
    """The target's expression, and the column to compare."""
    if name.endswith("Regressor"):
        return "ahead", "&s-target"
    return 'np.where(ahead.isna(), None, np.where(ahead > 0, "up", "down"))', "up"


def strategy(userdir: Path, target: str) -> None:
    """The shipped strategy with another target, and no trades."""
    text = (userdir / "strategies" / "MLFreqaiStrategy.py").read_text()
    text = text.replace("class MLFreqaiStrategy(", "class Shipped(")
    text += f"\n\nclass Compared(Shipped):{TARGET.format(target=target)}"
    (userdir / "strategies" / "Compared.py").write_text(text)


def predictions(
    userdir: Path, model: str, parameters: dict[str, Any], timerange: str
) -> pd.DataFrame:
    """All cached predictions of one backtest, by date."""
    config = json.loads((userdir / "config.json").read_text())
    config["freqai"] |= {"identifier": model, "model_training_parameters": parameters}
    config["freqai"]["data_split_parameters"] = {"test_size": 0, "shuffle": False}
    file = userdir / "compared.json"
    file.write_text(json.dumps(config))
    shutil.rmtree(userdir / "models", ignore_errors=True)
    with contextlib.redirect_stdout(io.StringIO()):
        code = freqtrade_main(
            ["backtesting", "--userdir", str(userdir), "-c", str(file), "--strategy", "Compared", "--freqaimodel",
             model, "--timerange", timerange, "--cache", "none", "--export", "none"]
        )  # fmt: skip
    if code:
        raise RuntimeError(f"{model} ended with {code}")
    files = (userdir / "models" / model / "backtesting_predictions").glob("*.feather")
    found = pd.concat([pd.read_feather(path) for path in files])
    return found.assign(date=pd.to_datetime(found["date"], utc=True)).set_index("date").sort_index()


def compare(name: str, userdir: Path, timerange: str) -> list[str]:
    """How far apart the two are; of a forest also without what makes ours quicker."""
    estimator, both, ours_only = CASES[name]
    target, column = target_of(name)
    strategy(userdir, target)
    changed, module = CORRECTIONS.get(name, ("", ""))
    if module:
        (userdir / "freqaimodels" / "Corrected.py").write_text(module)
    kind = "MLPipeRegressor" if name.endswith("Regressor") else "MLPipeClassifier"
    parameters = {"model_type": estimator, **both, **ours_only}
    shown = f"{name} ({changed})" if changed else name
    try:
        stock = predictions(userdir, "Corrected" if module else name, both, timerange)
        lines = [
            f"{shown}: {apart(stock, predictions(userdir, kind, parameters, timerange), column)}"
        ]
        if estimator == "random_forest":
            with mock.patch.object(forest_model, "_coarse", lambda X: X):
                ours = predictions(userdir, kind, parameters, timerange)
            lines.append(
                f"  ours on features as they are, not binned: {apart(stock, ours, column)}"
            )
    except (RuntimeError, ValueError) as error:
        return [f"{name}: {error}"]
    return lines


def apart(stock: pd.DataFrame, ours: pd.DataFrame, column: str) -> str:
    """How far apart two sets of predictions are."""
    theirs = {str(found): stock[found] for found in stock}
    a, b = theirs[column].astype(float).align(ours[column].astype(float), join="inner")
    gap = (a - b).abs()
    return (
        f"{len(a):,} predictions, identical {float((gap == 0).mean()):.1%}, median difference "
        f"{float(gap.median()):.2g}, largest {float(gap.max()):.2g} (standard deviation {float(a.std()):.2g}), "
        f"correlation {float(np.corrcoef(a, b)[0, 1]):.5f}"
    )


def main() -> None:
    """Compare all and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--datadir", type=Path, required=True)
    parser.add_argument("--pair", default="ETH/USDT")
    parser.add_argument("--timerange", default="20240401-20240415")
    parser.add_argument("--models", nargs="+", default=list(CASES), choices=list(CASES))
    arguments = parser.parse_args()
    for name in arguments.models:
        with tempfile.TemporaryDirectory() as folder:
            userdir = Path(folder) / "user_data"
            prepare(userdir, arguments.datadir, [arguments.pair], OURS, own=True)
            print(*compare(name, userdir, arguments.timerange), sep="\n", flush=True)


if __name__ == "__main__":
    main()
