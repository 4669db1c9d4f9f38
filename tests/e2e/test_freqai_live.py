"""A bot that trains anew with MLPipeClassifier, as real processes on the live replay exchange."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from freqtrade_mlpipe.commands.setup import write_user_directory
from freqtrade_mlpipe.registry import ModelRegistry
from tests.conftest import write_candle_file
from tests.e2e.live import Bot, Clock, ReplayServer, bot_config

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PAIRS = ("SYNA/USDT", "SYNB/USDT")
SERVES = "It serves from now on."


def freqai_config(server: ReplayServer) -> dict[str, Any]:
    return bot_config(server, PAIRS) | {
        "freqaimodel": "MLPipeClassifier",
        "freqai": {
            "enabled": True, "identifier": "live", "train_period_days": 1, "backtest_period_days": 1,
            "live_retrain_hours": 0, "purge_old_models": 2, "override_exchange_check": True,
            "feature_parameters": {
                "include_timeframes": ["1m", "5m"], "include_corr_pairlist": [PAIRS[0]],
                "indicator_periods_candles": [10], "include_shifted_candles": 1, "label_period_candles": 12,
            },
            "data_split_parameters": {"test_size": 0.2},
            "model_training_parameters": {"n_estimators": 30},
        },
        "mlpipe": {"tracking": {"backend": "none"}},
    }  # fmt: skip


def test_bot_retrains_over_new_candles_and_a_kill_leaves_a_model_serving(
    market: Any, tmp_path: Path
):
    candles, userdir = tmp_path / "candles", tmp_path / "user_data"
    candles.mkdir()
    for pair, frame in market.items():
        write_candle_file(candles, pair, frame)
    write_user_directory(userdir)
    clock = Clock()
    with ReplayServer(candles, clock=clock, speed=60) as server:
        bot = Bot(
            tmp_path / "bot", freqai_config(server), "MLFreqaiStrategy", clock=clock, userdir=userdir,
            strategy_path=userdir / "strategies",
        )  # fmt: skip
        with bot:
            # A second training of a pair comes after a new candle: pandas 3.1 joins dates of two units there.
            bot.wait_until(lambda: bot.log.count(": trained in") >= 4, "two trainings a pair", 300)
            bot.kill()
            models = userdir / "models" / "live"
            known = json.loads((models / "pair_dictionary.json").read_text())
            assert all((models / Path(known[p]["data_path"]).name).is_dir() for p in PAIRS)
            before = len(bot.log)
            bot.start()
            bot.wait_until(lambda: "inferencing pairlist" in bot.log[before:], "predictions", 180)
            assert "No model ready" not in bot.log[before:]
        assert "raised exception" not in bot.log
        assert "Traceback" not in bot.log
    assert len(list(models.glob("sub-train-SYNA_USDT_*"))) <= 2
    versions = ModelRegistry(directory=userdir / "mlpipe").get_all_versions("freqai.live.SYNA_USDT")
    assert len(versions) >= 2
    assert all(version.report is not None for version in versions)
    assert SERVES in bot.log
