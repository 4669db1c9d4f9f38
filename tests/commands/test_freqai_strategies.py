"""freqtrade's own FreqAI template strategy, unchanged: trained by our command, and traded through two lines more."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import freqtrade
import numpy as np
import pandas as pd
import pytest
from freqtrade.data.dataprovider import DataProvider

from tests.conftest import MODEL_NAME, Workspace, write_candle_file
from tests.features.test_informative import resampled

pytestmark = pytest.mark.e2e

TEMPLATE = Path(freqtrade.__file__).parent / "templates" / "FreqaiExampleStrategy.py"
FREQAI = {
    "enabled": True,
    "identifier": "untouched",
    "purge_old_models": 2,
    "train_period_days": 15,
    "backtest_period_days": 7,
    "live_retrain_hours": 0,
    "feature_parameters": {
        "include_timeframes": ["1h", "4h"],
        "include_corr_pairlist": ["SYNA/USDT"],
        "label_period_candles": 20,
        "include_shifted_candles": 1,
        "DI_threshold": 0.9,
        "weight_factor": 0.9,
        "principal_component_analysis": False,
        "use_SVM_to_remove_outliers": True,
        "indicator_periods_candles": [10, 20],
        "plot_feature_importances": 0,
    },
    "data_split_parameters": {"test_size": 0.33, "random_state": 1},
    "model_training_parameters": {},
}
TRADED = """
from FreqaiExampleStrategy import FreqaiExampleStrategy
from freqtrade.strategy import IStrategy
from freqtrade_mlpipe import MLPipeMixin


class Traded(MLPipeMixin, FreqaiExampleStrategy):
    def populate_entry_trend(self, df, metadata):
        df.loc[df["mlpipe_signal"] == 1, "enter_long"] = 1
        return df

    def populate_exit_trend(self, df, metadata):
        df.loc[df["mlpipe_signal"] == -1, "exit_long"] = 1
        return df
"""


def freqai_workspace(workspace: Workspace, settings: dict[str, Any], **changes: Any) -> Workspace:
    """Its models learn from the strategy's own features alone."""
    shutil.copy(TEMPLATE, workspace.user_data / "strategies")
    config = json.loads(workspace.config_file.read_text())
    config |= {
        "freqai": settings,
        "strategy": "FreqaiExampleStrategy",
        "timeframe": "1h",
        **changes,
    }
    groups = ("price", "volume", "momentum", "volatility", "trend", "statistics", "time")
    config["mlpipe"]["features"] = {f"include_{group}_features": False for group in groups}
    workspace.config_file.write_text(json.dumps(config))
    return workspace


@pytest.fixture(scope="module")
def freqai(untrained_once: Workspace, market: Any, tmp_path_factory: Any) -> Workspace:
    """Spot, where freqtrade refuses a strategy that can go short."""
    workspace = untrained_once.copy_to(tmp_path_factory.mktemp("freqai") / "user_data")
    freqai_workspace(workspace, FREQAI)
    strategies = workspace.user_data / "strategies"
    template = (strategies / TEMPLATE.name).read_text()
    (strategies / TEMPLATE.name).write_text(
        template.replace("can_short = True", "can_short = False")
    )
    (strategies / "Traded.py").write_text(TRADED)
    for pair, frame in market.items():
        write_candle_file(workspace.datadir, pair, resampled(frame, "4h"), "4h")
    assert workspace.run("train") == 0
    return workspace


def test_unchanged_template_is_trained_on_futures(untrained: Workspace, market: Any):
    parameters = {**FREQAI["feature_parameters"], "include_corr_pairlist": ["SYNA/USDT:USDT"]}
    pairs = {f"{pair}:USDT": frame for pair, frame in market.items()}
    exchange = {"name": "replay", "pair_whitelist": sorted(pairs), "pair_blacklist": []}
    freqai_workspace(
        untrained, {**FREQAI, "feature_parameters": parameters}, exchange=exchange,
        trading_mode="futures", margin_mode="isolated",
    )  # fmt: skip
    folder = untrained.datadir / "futures"
    folder.mkdir()
    for pair, frame in pairs.items():
        write_candle_file(folder, pair, frame, "1h-futures")
        write_candle_file(folder, pair, resampled(frame, "4h"), "4h-futures")
    assert untrained.run("train") == 0
    features = untrained.registry().load_bundle(MODEL_NAME, "1").manifest.features
    assert "%-rsi-period_20_shift-1_SYNA/USDT:USDT_4h" in features


def test_strategy_that_freqtrade_refuses_is_the_users_to_mend(untrained: Workspace, capsys: Any):
    freqai_workspace(untrained, FREQAI)
    assert untrained.run("train") == 2
    assert "Short strategies cannot run in spot markets" in " ".join(
        capsys.readouterr().err.split()
    )


def test_template_strategy_is_trained_on_its_own_features_alone(freqai: Workspace):
    features = freqai.registry().load_bundle(MODEL_NAME, "1").manifest.features
    assert all(name.startswith("%") for name in features)
    assert "%-rsi-period_10_1h" in features
    assert "%-rsi-period_20_shift-1_SYNA/USDT_4h" in features
    assert "%-day_of_week" in features
    assert not [name for name in features if "SYNB" in name]


@pytest.fixture
def switched_off(freqai: Workspace, tmp_path: Path) -> Workspace:
    workspace = freqai.copy_to(tmp_path / "user_data")
    config = json.loads(workspace.config_file.read_text())
    config["freqai"]["enabled"] = False
    workspace.config_file.write_text(json.dumps(config))
    return workspace


def test_freqai_must_be_off_where_our_model_trades(freqai: Workspace, capsys: Any):
    assert freqai.run("validate") == 2
    assert "Set freqai.enabled to false" in " ".join(capsys.readouterr().err.split())


def test_strategy_without_the_mixin_cannot_be_judged(switched_off: Workspace, capsys: Any):
    assert switched_off.run("validate") == 2
    assert "class FreqaiExampleStrategy(MLPipeMixin" in " ".join(capsys.readouterr().err.split())


def test_with_the_mixin_the_frozen_model_trades(switched_off: Workspace, market: Any):
    assert switched_off.run("validate", "--strategy", "Traded") == 0
    assert switched_off.run("promote") == 0
    strategy = switched_off.strategy(strategy="Traded")
    strategy.dp = DataProvider(strategy.config, None)
    strategy.ft_bot_start()
    found = strategy.populate_indicators(market["SYNB/USDT"].copy(), {"pair": "SYNB/USDT"})
    assert (found["mlpipe_do_predict"].tail(20) == 1).all()
    early = strategy.populate_indicators(
        market["SYNB/USDT"].head(3_200).copy(), {"pair": "SYNB/USDT"}
    )
    pd.testing.assert_series_equal(early["mlpipe_proba"], found["mlpipe_proba"].head(3_200))
    assert np.isfinite(found["mlpipe_proba"].tail(20)).all()


def test_bot_fetches_the_frames_of_the_freqai_block(switched_off: Workspace):
    strategy = switched_off.strategy(strategy="Traded")
    strategy.dp = DataProvider(strategy.config, None)
    strategy.dp.current_whitelist = lambda: ["SYNB/USDT"]
    assert strategy.informative_pairs() == [
        ("SYNA/USDT", "1h"), ("SYNA/USDT", "4h"), ("SYNB/USDT", "4h"),
    ]  # fmt: skip
