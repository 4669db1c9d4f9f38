"""`freqtrade backtesting --freqaimodel MLPipeClassifier` and `MLPipeRegressor`, in this process.

The option combinations are those of freqtrade's own tests of FreqAI (tests/freqai/test_freqai_interface.py).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import freqtrade
import numpy as np
import pandas as pd
import pytest

from freqtrade_mlpipe.mlflow_store import open_store
from freqtrade_mlpipe.models import MODELS
from freqtrade_mlpipe.replay.run import main as freqtrade_main
from tests.conftest import Workspace, write_candle_file
from tests.features.test_informative import resampled

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("restore_logging")]

TEMPLATE = Path(freqtrade.__file__).parent / "templates" / "FreqaiExampleStrategy.py"
STRATEGY = """
import numpy as np
from freqtrade.strategy import IStrategy


class {name}(IStrategy):
    timeframe = "1h"
    process_only_new_candles = True
    startup_candle_count = 40
    stoploss = -0.1
    minimal_roi = {{"0": 10.0}}

    def feature_engineering_expand_all(self, df, period, metadata, **kwargs):
        df["%-return-period"] = df["close"].pct_change(period)
        df["%-range-period"] = (df["high"].rolling(period).max() / df["low"].rolling(period).min())
        return df

    def feature_engineering_expand_basic(self, df, metadata, **kwargs):
        df["%-change"] = df["close"].pct_change()
        df["%%-shown"] = df["close"]
        df["kept"] = df["volume"]
        return df

    def feature_engineering_standard(self, df, metadata, **kwargs):
        df["%-hour"] = df["date"].dt.hour
        return df

    def set_freqai_targets(self, df, metadata, **kwargs):
        ahead = df["close"].shift(-12) / df["close"] - 1
{targets}
        return df

    def populate_indicators(self, df, metadata):
        df = self.freqai.start(df, metadata, self)
        pair = metadata["pair"].replace("/", "_").replace(":", "_")
        df.to_feather(self.config["user_data_dir"] / f"seen-{{pair}}.feather")
        return df

    def populate_entry_trend(self, df, metadata):
        df.loc[(df["do_predict"] == 1) & {enter}, "enter_long"] = 1
        return df

    def populate_exit_trend(self, df, metadata):
        df.loc[df["do_predict"] != 1, "exit_long"] = 1
        return df
"""
TARGETS = {
    "Words": ('        df["&s-move"] = np.where(ahead > 0, "up", "down")', '(df["&s-move"] == "up")'),
    "Three": (
        '        df["&s-move"] = np.select([ahead > 0.01, ahead < -0.01], ["long", "short"], "flat")',
        '(df["long"] > 0.5)',
    ),
    "Number": ('        df["&-move"] = ahead', '(df["&-move"] > 0)'),
    "Numbers": (
        '        df["&-move"] = ahead\n        df["&-fall"] = df["low"].shift(-12).rolling(12).min() / df["close"] - 1',
        '(df["&-move"] > 0)',
    ),
    "WordsTwice": (
        '        df["&s-move"] = np.where(ahead > 0, "up", "down")\n'
        '        df["&s-more"] = np.where(ahead > 0.01, "up2", "down2")',
        '(df["up2"] > 0.5)',
    ),
    "Quiet": (
        '        df["&s-move"] = np.where((ahead > 0) | (df["date"] < "2023-03-15"), "up", "down")',
        '(df["&s-move"] == "up")',
    ),
}  # fmt: skip
TIMERANGE = "20230301-20230425"


class Freqai:
    """A user directory with candles, strategies and FreqAI's block."""

    def __init__(self, workspace: Workspace, market: dict[str, pd.DataFrame]) -> None:
        self.workspace, self.user_data = workspace, workspace.user_data
        for pair, frame in market.items():
            write_candle_file(workspace.datadir, pair, resampled(frame, "4h"), "4h")
        for name, (targets, enter) in TARGETS.items():
            text = STRATEGY.format(name=name, targets=targets, enter=enter)
            (self.user_data / "strategies" / f"{name}.py").write_text(text)
        config = json.loads(workspace.config_file.read_text())
        config["mlpipe"] = {"tracking": {"backend": "none"}}
        config["freqai"] = {
            "enabled": True, "identifier": "one", "train_period_days": 30, "backtest_period_days": 20,
            "save_backtest_models": True,
            "feature_parameters": {
                "include_timeframes": ["1h", "4h"], "include_corr_pairlist": ["SYNA/USDT"],
                "indicator_periods_candles": [10], "include_shifted_candles": 1, "label_period_candles": 12,
            },
            "data_split_parameters": {"test_size": 0.2},
            "model_training_parameters": {"n_estimators": 30},
        }  # fmt: skip
        workspace.config_file.write_text(json.dumps(config))

    def set(self, mlpipe: dict[str, Any] | None = None, **freqai: Any) -> None:
        """Change the configuration; mappings below `freqai` are merged."""
        config = json.loads(self.workspace.config_file.read_text())
        for name, value in freqai.items():
            block = config["freqai"]
            block[name] = {**block.get(name, {}), **value} if isinstance(value, dict) else value
        config["mlpipe"] |= mlpipe or {}
        self.workspace.config_file.write_text(json.dumps(config))

    def run(self, strategy: str, model: str, *options: str, command: str = "backtesting") -> int:
        words = ["--userdir", str(self.user_data), "-c", str(self.workspace.config_file)]
        cache = ["--cache", "none"] if command == "backtesting" else []
        return freqtrade_main(
            [command, *words, "--strategy", strategy, "--freqaimodel", model, "--timerange", TIMERANGE,
             "--datadir", str(self.workspace.datadir), *cache, *options]
        )  # fmt: skip

    def seen(self, pair: str = "SYNB/USDT") -> pd.DataFrame:
        """What the strategy got, within the backtest's range."""
        frame = pd.read_feather(
            self.user_data / f"seen-{pair.replace('/', '_').replace(':', '_')}.feather"
        )
        inside = (frame["date"] >= "2023-03-01") & (frame["date"] < "2023-04-25")
        return frame[inside].reset_index(drop=True)

    @property
    def models(self) -> Path:
        return self.user_data / "models" / "one"


@pytest.fixture(scope="module")
def prepared_once(untrained_once: Workspace, market: Any, tmp_path_factory: Any) -> Freqai:
    return Freqai(untrained_once.copy_to(tmp_path_factory.mktemp("freqai") / "user_data"), market)


@pytest.fixture
def freqai(prepared_once: Freqai, tmp_path: Path) -> Freqai:
    copy = object.__new__(Freqai)
    copy.workspace = prepared_once.workspace.copy_to(tmp_path / "user_data")
    copy.user_data = copy.workspace.user_data
    return copy


def assert_predicted(seen: pd.DataFrame, *columns: str) -> None:
    for name in columns:
        assert seen[name].notna().all(), name
    assert (seen["do_predict"] == 1).mean() > 0.9
    numbers = [name for name in columns if pd.api.types.is_numeric_dtype(seen[name].dtype)]
    assert all(seen[name].std() > 0 for name in numbers)


def test_shipped_strategy_is_trained_cached_and_leaves_bundles_only(freqai: Freqai, logged: Any):
    assert freqai.run("MLFreqaiStrategy", "MLPipeClassifier", "--export", "none") == 0
    folders = sorted(path.name for path in freqai.models.glob("sub-train-*"))
    assert len(folders) == 6
    assert not [p for p in freqai.models.rglob("*") if p.suffix in (".pkl", ".joblib")]
    sizes = [sum(f.stat().st_size for f in p.rglob("*")) for p in freqai.models.glob("sub-train-*")]
    assert max(sizes) < 3_000_000
    files = {
        p: p.stat().st_mtime_ns for p in freqai.models.rglob("*.json") if "sub-train" in str(p)
    }
    assert freqai.run("MLFreqaiStrategy", "MLPipeClassifier", "--export", "none") == 0
    assert files == {p: p.stat().st_mtime_ns for p in files}
    assert not [message for message in logged() if "exception" in message]


def test_predictions_do_not_depend_on_later_candles(freqai: Freqai, market: Any):
    assert freqai.run("Words", "MLPipeClassifier") == 0
    whole = freqai.seen()
    assert_predicted(whole, "&s-move", "up", "down")
    assert (whole["&s-move"] == np.where(whole["up"] > 0.5, "up", "down")).all()
    assert whole["%%-shown_gen_SYNB/USDT_1h"].equals(whole["close"])
    assert whole["kept_gen_SYNB/USDT_1h"].equals(whole["volume"])
    assert whole["mlpipe_model"].nunique() >= 2
    shutil.rmtree(freqai.models)
    cut = pd.Timestamp("2023-04-01", tz="UTC")
    for pair, frame in market.items():
        early = frame[frame["date"] < cut]
        write_candle_file(freqai.workspace.datadir, pair, early)
        write_candle_file(freqai.workspace.datadir, pair, resampled(early, "4h"), "4h")
    assert freqai.run("Words", "MLPipeClassifier") == 0
    early = freqai.seen()
    both = whole[whole["date"] < cut].reset_index(drop=True)
    assert len(both) > 700
    pd.testing.assert_frame_equal(early[list(both)], both)


def test_three_classes_have_a_column_each(freqai: Freqai):
    freqai.set(model_training_parameters={"model_type": "xgboost"})
    assert freqai.run("Three", "MLPipeClassifier") == 0
    seen = freqai.seen()
    assert_predicted(seen, "&s-move", "long", "flat", "short")
    np.testing.assert_allclose(seen[["long", "flat", "short"]].sum(axis=1), 1)


@pytest.mark.parametrize("model_type", ["lightgbm", "xgboost", "random_forest"])
def test_regression_with_freqais_own_test_settings(freqai: Freqai, model_type: str):
    """DI, SVM, weights, a buffer, statistics of recent predictions and columns of one's own."""
    freqai.set(
        feature_parameters={"DI_threshold": 0.9, "use_SVM_to_remove_outliers": True, "weight_factor": 0.9,
                            "buffer_train_data_candles": 10, "stratify_training_data": 0,
                            "shuffle_after_split": False, "principal_component_analysis": False},
        model_training_parameters={"model_type": model_type, "n_estimators": 10},
        fit_live_predictions_candles=50, extra_returns_per_train={"&-extra": 1.5},
    )  # fmt: skip
    assert freqai.run("Number", "MLPipeRegressor") == 0
    seen = freqai.seen()
    assert seen["&-move"].notna().all()
    assert 0.2 < (seen["do_predict"] == 1).mean() <= 1
    assert ((seen["DI_values"] < 0.9) | (seen["do_predict"] == 0)).all()
    assert (seen["&-extra"] == 1.5).all()
    expected = seen["&-move"].rolling(50).mean().shift()
    np.testing.assert_allclose(seen["&-move_mean"][50:], expected[50:])


def test_several_targets_have_predictions_each(freqai: Freqai):
    freqai.set(reduce_df_footprint=True)
    assert freqai.run("Numbers", "MLPipeRegressor") == 0
    assert_predicted(freqai.seen(), "&-move", "&-fall")
    assert freqai.run("WordsTwice", "MLPipeClassifier") == 0
    assert_predicted(freqai.seen(), "&s-move", "up", "&s-more", "up2", "down2")


def test_windows_may_be_shorter_than_a_day(freqai: Freqai):
    freqai.set(backtest_period_days=0.5, train_period_days=20, save_backtest_models=False)
    options = ("--timerange", "20230301-20230303", "--pairs", "SYNB/USDT")
    assert freqai.run("Words", "MLPipeClassifier", *options) == 0
    seen = freqai.seen()
    assert len(list((freqai.models / "backtesting_predictions").iterdir())) == 4
    assert not list(freqai.models.glob("sub-train-*"))
    assert (seen[seen["date"] < "2023-03-03"]["do_predict"] == 1).all()


@pytest.mark.parametrize(
    "key",
    ["principal_component_analysis", "use_DBSCAN_to_remove_outliers", "noise_standard_deviation",
     "shuffle_after_split"],
)  # fmt: skip
def test_what_cannot_be_done_honestly_ends_the_command(freqai: Freqai, key: str, caplog: Any):
    freqai.set(feature_parameters={key: 1 if "noise" in key else True})
    assert freqai.run("Number", "MLPipeRegressor") == 2


def test_failed_windows_are_loud_and_have_no_predictions(freqai: Freqai, logged: Any):
    assert freqai.run("Quiet", "MLPipeClassifier") == 0
    seen = freqai.seen()
    failed = seen["date"] < "2023-04-10"
    assert (seen.loc[failed, "do_predict"] == 0).all()
    assert seen.loc[failed, ["&s-move", "up", "down"]].isna().all(axis=None)
    assert (seen.loc[~failed, "do_predict"] == 1).all()
    said = " ".join(logged())
    assert "raised exception TrainingError" in said
    assert "2 failed" in said
    assert "(27.3%)" in said


def test_a_failed_window_can_end_the_backtest(freqai: Freqai):
    freqai.set(mlpipe={"freqai": {"on_failure": "stop"}})
    assert freqai.run("Quiet", "MLPipeClassifier") == 2


def test_misspelt_parameter_ends_the_command(freqai: Freqai):
    freqai.set(model_training_parameters={"n_estimator": 5})
    assert freqai.run("Words", "MLPipeClassifier") == 2


def test_freqtrades_template_trades_both_ways_on_futures(freqai: Freqai, market: Any):
    pairs = {f"{pair}:USDT": frame for pair, frame in market.items()}
    folder = freqai.workspace.datadir / "futures"
    folder.mkdir()
    for pair, frame in pairs.items():
        write_candle_file(folder, pair, frame, "1h-futures")
        write_candle_file(folder, pair, resampled(frame, "4h"), "4h-futures")
        mark = frame[frame["date"].dt.hour % 8 == 0].assign(volume=0.0)
        write_candle_file(folder, pair, mark, "8h-mark")
        write_candle_file(folder, pair, frame.assign(volume=0.0), "1h-mark")
        rates = mark.assign(open=0.0001, high=0.0, low=0.0, close=0.0)
        for timeframe in ("8h", "1h"):
            write_candle_file(folder, pair, rates, f"{timeframe}-funding_rate")
    shutil.copy(TEMPLATE, freqai.user_data / "strategies")
    config = json.loads(freqai.workspace.config_file.read_text())
    config |= {"trading_mode": "futures", "margin_mode": "isolated", "timeframe": "1h"}
    config["exchange"]["pair_whitelist"] = sorted(pairs)
    config["freqai"]["feature_parameters"]["include_corr_pairlist"] = ["SYNA/USDT:USDT"]
    freqai.workspace.config_file.write_text(json.dumps(config))
    assert freqai.run("FreqaiExampleStrategy", "MLPipeRegressor") == 0
    assert len(list(freqai.models.glob("sub-train-SYNB_USDT.USDT_*"))) == 3


def test_searched_model_of_the_loop_becomes_a_frozen_version_with_evidence_for_the_gates(
    freqai: Freqai,
):
    freqai.set(model_training_parameters={"optuna": {"n_trials": 2, "cv_folds": 2}})
    options = ("--timerange", "20230301-20230310", "--pairs", "SYNB/USDT", "--export", "none")
    assert freqai.run("MLFreqaiStrategy", "MLPipeClassifier", *options) == 0
    (folder,) = freqai.models.glob("sub-train-SYNB*")
    described = json.loads((folder / "window.json").read_text())
    assert described["n_trials"] == 2
    (found,) = described["parameters"].values()
    assert found["n_estimators"] == 30
    assert found["num_leaves"] != MODELS["lightgbm"].defaults["num_leaves"]
    run = freqai.workspace.run
    assert run("promote", "--from-freqai", "one", "SYNB/USDT", "--model-name", "frozen") == 0
    version = freqai.workspace.registry().get_version("frozen", 1)
    bundle = freqai.workspace.registry().load_bundle("frozen", 1)
    assert bundle.members[-1].valid_to is None
    assert bundle.manifest.final_window_start == bundle.members[-1].valid_from
    measured = version.metrics
    assert 0 < measured["p_value_class_prior"] <= 1
    assert measured["log_loss"] > 0
    assert measured["baseline_log_loss"] > 0
    assert measured["oos_n_periods"] > 100
    assert measured["n_trials"] == 2
    assert run("promote", "--from-freqai", "none", "SYNB/USDT") == 2
    assert run("promote", "--from-freqai", "one", "SYNC/USDT") == 2


@pytest.mark.slow
def test_hyperopt_tunes_thresholds_on_cached_predictions(freqai: Freqai):
    assert freqai.run("MLFreqaiStrategy", "MLPipeClassifier", "--export", "none") == 0
    cached = sorted((freqai.models / "backtesting_predictions").iterdir())
    shutil.rmtree(next(freqai.models.glob("sub-train-SYNB*")))
    options = ["--spaces", "buy", "--epochs", "3", "-j", "1", "--disable-param-export",
               "--hyperopt-loss", "SharpeHyperOptLossDaily", "--random-state", "1", "--min-trades", "1"]  # fmt: skip
    assert freqai.run("MLFreqaiStrategy", "MLPipeClassifier", *options, command="hyperopt") == 0
    assert sorted((freqai.models / "backtesting_predictions").iterdir()) == cached
    assert len(list(freqai.models.glob("sub-train-*"))) == 5


@pytest.mark.slow
def test_tracked_backtest_is_one_run_with_its_windows_the_result_and_a_page(freqai: Freqai):
    """In a process of its own: freqtrade stores the result last, and it is attached when the process ends."""
    freqai.set(mlpipe={"tracking": {"backend": "mlflow"}}, extra_returns_per_train={"&-extra": 1})
    done = subprocess.run(
        [sys.executable, "-m", "freqtrade_mlpipe.main", "freqtrade", "backtesting", "--userdir", str(freqai.user_data),
         "-c", str(freqai.workspace.config_file), "--datadir", str(freqai.workspace.datadir), "--cache", "none",
         "--strategy", "Words", "--freqaimodel", "MLPipeClassifier", "--timerange", TIMERANGE],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    client = open_store(None, freqai.workspace.registry_directory)
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    (parent,) = [run for run in runs if run.data.tags.get("mlpipe.kind") == "freqai"]
    windows = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert parent.info.status == "FINISHED"
    assert len(windows) == 6
    for run in windows:
        assert run.data.metrics["coverage"] == 1
        assert run.data.metrics["log_loss"] > 0
        assert run.data.params["horizon_candles"] == "12"
        assert run.data.params["train_start"] < run.data.params["train_end"]
    assert parent.data.metrics["coverage"] == 1
    (result,) = (freqai.user_data / "backtest_results").glob("*.zip")
    assert parent.data.tags["mlpipe.result_file"] == result.name
    assert "backtest/sharpe" in parent.data.metrics
    (page,) = (freqai.workspace.registry_directory / "reports").glob("freqai-*.html")
    text = page.read_text(encoding="utf-8")
    assert "6 windows of 2 pairs were trained" in text
    assert "SYNB/USDT" in text
