"""freqtrade's own FreqAI test strategies, candles and option combinations, with our models in place of the stock ones.

Reads a source checkout of freqtrade (its sdist has no tests): the strategies of `tests/strategy/strats`, the candles of
`tests/testdata` and the configuration of `tests/freqai/conftest.py`, whose combinations `CASES` names. Each is one
`freqtrade backtesting`. A model's MLPipe counterpart is what predicts the same kind of target with the same estimator,
a random forest for those without one. Says of each whether it ran, what it predicted, or why it was refused::

    git clone --branch 2026.9 https://github.com/freqtrade/freqtrade
    python benchmarks/freqai_own_cases.py --source freqtrade
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from freqtrade_mlpipe.commands.setup import write_user_directory
from freqtrade_mlpipe.replay.run import main as freqtrade_main

PAIRS = ("ADA/BTC", "DASH/BTC", "ETH/BTC", "LTC/BTC")
FREQAI: dict[str, Any] = {
    "enabled": True, "identifier": "own", "purge_old_models": 2, "train_period_days": 2, "backtest_period_days": 10,
    "live_retrain_hours": 0, "expiration_hours": 1, "live_trained_timestamp": 0, "data_kitchen_thread_count": 2,
    "activate_tensorboard": False, "save_backtest_models": True,
    "feature_parameters": {
        "include_timeframes": ["5m"], "include_corr_pairlist": ["ADA/BTC"], "label_period_candles": 20,
        "include_shifted_candles": 1, "DI_threshold": 0.9, "weight_factor": 0.9,
        "principal_component_analysis": False, "use_SVM_to_remove_outliers": True, "stratify_training_data": 0,
        "indicator_periods_candles": [10], "shuffle_after_split": False, "buffer_train_data_candles": 0,
    },
    "data_split_parameters": {"test_size": 0.33, "shuffle": False},
    "model_training_parameters": {"n_estimators": 100},
}  # fmt: skip
TREES, WORDS = "freqai_test_strat", "freqai_test_classifier"
MANY, MANY_WORDS = "freqai_test_multimodel_strat", "Trained"
STRATEGIES = (TREES, WORDS, MANY, "freqai_test_multimodel_classifier_strat")
# freqtrade only trains with the last one: its own populate_indicators asks for columns that no model gives.
TRAINED = """

class Trained(freqai_test_multimodel_classifier_strat):
    def populate_indicators(self, dataframe, metadata):
        return self.freqai.start(dataframe, metadata, self)

    def populate_entry_trend(self, dataframe, metadata):
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        return dataframe
"""


@dataclass(frozen=True)
class Case:
    """One combination: the stock model it is written for, the strategy, and what differs from `FREQAI`."""

    stock: str
    strategy: str
    features: dict[str, Any] = field(default_factory=dict)
    freqai: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    timerange: str = "20180120-20180130"

    @property
    def ours(self) -> tuple[str, str]:
        """The MLPipe class, and the estimator."""
        family = "Classifier" if "Classifier" in self.stock else "Regressor"
        for name, ours in (
            ("XGBoostRF", "random_forest"),
            ("XGBoost", "xgboost"),
            ("LightGBM", "lightgbm"),
        ):
            if self.stock.startswith(name):
                return f"MLPipe{family}", ours
        return f"MLPipe{family}", "random_forest"

    def __str__(self) -> str:
        changes = {**self.features, **self.freqai, **self.config}
        return f"{self.stock}, {self.strategy}" + "".join(f", {k} {v}" for k, v in changes.items())


CASES = (
    # tests/freqai/test_freqai_interface.py: model, pca, dbscan, float32, shuffle, buffer, noise
    Case("LightGBMRegressor", TREES, {"principal_component_analysis": True}, config={"reduce_df_footprint": True}),
    Case("LightGBMRegressor", TREES, config={"reduce_df_footprint": True}),
    Case("XGBoostRegressor", TREES, {
        "use_DBSCAN_to_remove_outliers": True, "buffer_train_data_candles": 10, "noise_standard_deviation": 0.05,
    }),
    Case("XGBoostRegressor", TREES, {"buffer_train_data_candles": 10}),
    Case("XGBoostRegressor", TREES, {"noise_standard_deviation": 0.05}),
    Case("XGBoostRFRegressor", TREES),
    Case("CatboostRegressor", TREES, {"shuffle_after_split": True}),
    Case("LightGBMRegressorMultiTarget", MANY),
    Case("XGBoostRegressorMultiTarget", MANY),
    Case("LightGBMClassifierMultiTarget", MANY_WORDS),
    Case("LightGBMClassifier", WORDS),
    Case("XGBoostClassifier", WORDS),
    Case("XGBoostRFClassifier", WORDS),
    Case("SKLearnRandomForestClassifier", WORDS),
    Case("LightGBMRegressor", TREES, {"indicator_periods_candles": [2]}),
    Case("XGBoostClassifier", WORDS, {"indicator_periods_candles": [2]}),
    Case("LightGBMRegressor", TREES, {"indicator_periods_candles": [2]}, {"backtest_period_days": 0.5},
         timerange="20180120-20180124"),
    Case("LightGBMRegressor", TREES, {"indicator_periods_candles": [2]}, {"fit_live_predictions_candles": 10}),
    Case("LightGBMRegressor", TREES, {"plot_feature_importances": 10}),
    # one option of tests/freqai/conftest.py at a time
    Case("LightGBMRegressor", TREES, {"DI_threshold": 0}),
    Case("LightGBMRegressor", TREES, {"use_SVM_to_remove_outliers": False}),
    Case("LightGBMRegressor", TREES, {"weight_factor": 0}),
    Case("LightGBMRegressor", TREES, {"include_timeframes": ["5m", "1h"]}),
    Case("LightGBMRegressor", TREES, freqai={"data_split_parameters": {"test_size": 0.33, "shuffle": True}}),
)  # fmt: skip


def prepare(source: Path, folder: Path) -> Path:
    """A user directory with freqtrade's strategies and candles."""
    userdir = folder / "user_data"
    write_user_directory(userdir)
    strategies = source / "tests" / "strategy" / "strats"
    for name in STRATEGIES:
        shutil.copyfile(strategies / f"{name}.py", userdir / "strategies" / f"{name}.py")
    text = (strategies / f"{STRATEGIES[-1]}.py").read_text()
    (userdir / "strategies" / "Trained.py").write_text(text + TRAINED)
    datadir = userdir / "data" / "replay"
    datadir.mkdir(parents=True)
    for pair in PAIRS:
        name = f"{pair.replace('/', '_')}-5m.feather"
        shutil.copyfile(source / "tests" / "testdata" / name, datadir / name)
        candles = pd.read_feather(datadir / name)
        hours = candles.resample("1h", on="date").agg(
            {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
        )
        hours = hours.dropna().reset_index()[list(candles.columns)]
        hours.to_feather(datadir / name.replace("5m", "1h"))
    return userdir


def run(case: Case, userdir: Path) -> str:
    """What a combination did, in a sentence."""
    model, estimator = case.ours
    freqai = json.loads(json.dumps(FREQAI | case.freqai))
    freqai["feature_parameters"] |= case.features
    freqai["model_training_parameters"]["model_type"] = estimator
    config = json.loads((userdir / "config.json").read_text()) | case.config
    config |= {
        "timeframe": "5m", "stake_currency": "BTC", "stake_amount": 0.001, "dry_run_wallet": 1000, "freqai": freqai,
        "exchange": {"name": "replay", "pair_whitelist": list(PAIRS), "pair_blacklist": []},
    }  # fmt: skip
    config["mlpipe"] = {"tracking": {"backend": "none"}}
    file = userdir / "case.json"
    file.write_text(json.dumps(config))
    shutil.rmtree(userdir / "models", ignore_errors=True)
    log = userdir / "case.log"
    log.unlink(missing_ok=True)
    with contextlib.redirect_stdout(io.StringIO()):
        code = freqtrade_main(
            ["backtesting", "--userdir", str(userdir), "-c", str(file), "--strategy", case.strategy,
             "--freqaimodel", model, "--timerange", case.timerange, "--cache", "none", "--export", "none",
             "--logfile", str(log)]
        )  # fmt: skip
    lines = log.read_text().splitlines()
    if code:
        reasons = [line for line in lines if line.startswith("- freqai.")]
        return f"REFUSED ({code}): " + (" ".join(reasons) or " ".join(lines[-3:]))
    found = [line for line in lines if "FreqAI, all pairs: " in line]
    raised = sum("raised exception" in line for line in lines)
    return f"ran, {found[0].partition('FreqAI, all pairs: ')[2] if found else 'nothing'} {raised} exceptions."


def main() -> None:
    """Run all and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, required=True, help="a checkout of freqtrade")
    parser.add_argument("--only", default="", help="combinations whose name contains this")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        userdir = prepare(arguments.source, Path(folder))
        for case in (case for case in CASES if arguments.only in str(case)):
            print(f"{case}\n    {run(case, userdir)}", flush=True)


if __name__ == "__main__":
    main()
