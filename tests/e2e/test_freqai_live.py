"""A bot that trains anew with MLPipeClassifier, as real processes on the live replay exchange."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from freqtrade_mlpipe.commands.setup import write_user_directory
from freqtrade_mlpipe.integration.freqai_store import read_window
from freqtrade_mlpipe.registry import ModelRegistry
from tests.conftest import write_candle_file
from tests.e2e.live import Bot, Clock, ReplayServer, freqai_config

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PAIRS = ("SYNA/USDT", "SYNB/USDT")
SERVES = "It serves from now on."
KILLED_IN_SAVE = 5
DIES_WHILE_SAVING = f'''
import os
import signal
from pathlib import Path

from freqtrade_mlpipe.integration.freqai import MLPipeFreqaiClassifier
from freqtrade_mlpipe.registry import files


class DiesWhileSaving(MLPipeFreqaiClassifier):
    """Kills its process with half of a file of a model written."""

    def __init__(self, config):
        super().__init__(config)
        write, saves = files.write_file, []

        def dying(path, data, **options):
            if path.name == "drift_baseline.json" and path.is_relative_to(Path(self.full_path)):
                saves.append(path)
                if len(saves) == {KILLED_IN_SAVE}:
                    path.write_bytes(data[: len(data) // 2])
                    os.kill(os.getpid(), signal.SIGKILL)
            write(path, data, **options)

        files.write_file = dying
'''


def test_bot_retrains_over_new_candles_and_a_kill_while_saving_leaves_a_model_serving(
    market: Any, tmp_path: Path
):
    candles, userdir = tmp_path / "candles", tmp_path / "user_data"
    candles.mkdir()
    for pair, frame in market.items():
        write_candle_file(candles, pair, frame)
    write_user_directory(userdir)
    (userdir / "freqaimodels" / "DiesWhileSaving.py").write_text(DIES_WHILE_SAVING)
    models, clock = userdir / "models" / "live", Clock()
    with ReplayServer(candles, clock=clock, speed=60) as server:
        config = freqai_config(server, PAIRS, "live", n_estimators=30) | {
            "freqaimodel": "DiesWhileSaving",
            "mlpipe": {"tracking": {"backend": "none"}},
        }
        bot = Bot(
            tmp_path / "bot", config, "MLFreqaiStrategy", clock=clock, userdir=userdir,
            strategy_path=userdir / "strategies",
        )  # fmt: skip
        bot.start()
        assert bot.process is not None
        assert bot.process.wait(300) == -signal.SIGKILL, bot.log[-4000:]
        # A second training of a pair comes after a new candle: pandas 3.1 joins dates of two units there.
        assert bot.log.count(": trained in") == KILLED_IN_SAVE - 1
        (half,) = models.glob(".unfinished-*")
        assert list(half.rglob("drift_baseline.json"))
        assert not (half / "window.json").exists()
        known = json.loads((models / "pair_dictionary.json").read_text())
        before = {
            pair: read_window(models / Path(known[pair]["data_path"]).name)[1] for pair in PAIRS
        }
        bot.config_file.write_text(json.dumps(config | {"freqaimodel": "MLPipeClassifier"}))
        begun = len(bot.log)
        with bot:
            bot.wait_until(lambda: "inferencing pairlist" in bot.log[begun:], "predictions", 180)
            assert "No model ready" not in bot.log[begun:]
            bot.wait_until(lambda: ": trained in" in bot.log[begun:], "a training after the kill")
            # Before it is told to end: SIGTERM in a database call leaves freqtrade's clean-up with a traceback.
            assert "raised exception" not in bot.log
            assert "Traceback" not in bot.log
    assert all(before[pair]["pair"] == pair for pair in PAIRS)
    assert len(list(models.glob("sub-train-SYNA_USDT_*"))) <= 2
    versions = ModelRegistry(directory=userdir / "mlpipe").get_all_versions("freqai.live.SYNA_USDT")
    assert len(versions) >= 2
    assert all(version.report is not None for version in versions)
    assert SERVES in bot.log
