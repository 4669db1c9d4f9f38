"""The watch: looks at the end of each step, remembers over restarts, acts once an alarm, and never disturbs the bot."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from freqtrade_mlpipe.config import MonitoringConfig
from freqtrade_mlpipe.monitoring.actions import retrain_action
from freqtrade_mlpipe.monitoring.journal import LiveJournal, LivePrediction
from freqtrade_mlpipe.monitoring.readings import read_looks
from freqtrade_mlpipe.monitoring.watch import Watch
from tests.monitoring.markets import CANDLE, SMALL, market, watched

DIGEST = "d" * 64
START = pd.Timestamp("2024-01-01", tz="UTC") + SMALL.n_training * CANDLE
N = 560


@pytest.fixture(scope="module")
def made():
    """A reference, and predictions whose features triple their spread after 250 candles."""
    reference, after = market(3, N)
    X = after.X.copy()
    X[:, 250:] *= 3.0
    rows = [
        LivePrediction(
            pair="P0", date=START + k * CANDLE, version="3", digest=DIGEST, role="production",
            proba=float(after.proba[0, k]), edge=0.0, signal=1, do_predict=1, latency_ms=0.2, close=1.0,
            features=tuple(X[0, k].astype(np.float32).tolist()),
        )
        for k in range(N)
    ]  # fmt: skip
    return reference, rows


class Bot:
    """A journal, a watch and what the operator was told."""

    def __init__(self, folder: Path, reference, **settings) -> None:
        self.told: list[str] = []
        self.acted: list[str] = []
        self.journal = LiveJournal(folder / "bot.sqlite")
        actions = {"rollback": self._act, "retrain": self._fail}
        self.watch = Watch(
            MonitoringConfig(**settings), CANDLE, self.journal, find=lambda said: watched(reference, said.digest),
            candles=lambda pair: pd.DataFrame(), tell=self.told.append, actions=actions,
        )  # fmt: skip

    def _act(self, model, reason: str) -> str:
        self.acted.append(reason)
        return "rolled back to version 2."

    def _fail(self, model, reason: str) -> str:
        raise OSError("no such file")

    def live(self, rows) -> list[str | None]:
        """Whether entries were paused after each row."""
        paused = []
        for row in rows:
            self.journal.record([row])
            self.watch.observe([row])
            if (row.date + CANDLE).value % (24 * CANDLE.value) == 0:
                assert self.watch.wait(30)
            paused.append(self.watch.entries_paused(row.pair))
        return paused

    def stop(self) -> None:
        self.watch.close()
        self.journal.close()


def test_drift_pauses_entries_and_is_told_once(tmp_path: Path, made):
    reference, rows = made
    bot = Bot(tmp_path, reference, on_drift=("alert", "pause_entries"))
    paused = bot.live(rows)
    bot.stop()
    first = next(k for k, reason in enumerate(paused) if reason)
    assert 250 < first <= 250 + 300
    assert paused[-1] is not None
    assert bot.watch.entries_paused("P1") is None  # another model's pair
    assert "feature" in paused[-1]
    assert len(bot.told) == 1
    assert "trend version 3" in bot.told[0]


def test_without_the_policy_entries_go_on(tmp_path: Path, made):
    reference, rows = made
    bot = Bot(tmp_path, reference)
    assert not any(bot.live(rows))
    bot.stop()
    assert len(bot.told) == 1


def test_restarted_bot_goes_on_with_what_it_knew_and_acts_no_second_time(tmp_path: Path, made):
    reference, rows = made
    settings = {"on_drift": ("rollback", "pause_entries")}
    bot = Bot(tmp_path, reference, **settings)
    bot.live(rows[:-30])
    bot.stop()
    assert len(bot.acted) == 1
    again = Bot(tmp_path, reference, **settings)
    again.live(rows[-30:-29])
    assert again.watch.wait(30)
    assert again.watch.entries_paused("P0") is not None
    again.live(rows[-29:])
    again.stop()
    assert not again.acted
    looks = read_looks(again.journal, DIGEST, "bot")
    assert [look.at for look in looks] == sorted({look.at for look in looks})


def test_failed_action_is_told_and_leaves_the_pause(tmp_path: Path, made):
    reference, rows = made
    bot = Bot(tmp_path, reference, on_drift=("retrain", "pause_entries"))
    paused = bot.live(rows)
    bot.stop()
    assert paused[-1] is not None
    assert any("retrain failed, OSError" in text for text in bot.told)


def test_another_version_starts_without_the_old_ones_alarm(tmp_path: Path, made):
    reference, rows = made
    bot = Bot(tmp_path, reference, on_drift=("pause_entries",))
    bot.live(rows)
    bot.live([replace(rows[-1], date=rows[-1].date + CANDLE, version="4", digest="e" * 64)])
    assert bot.watch.entries_paused("P0") is None
    bot.stop()


def test_broken_model_or_rows_do_not_reach_the_bot(tmp_path: Path, made, caplog):
    _, rows = made
    bot = Bot(tmp_path, None)

    def find(said: LivePrediction):
        raise RuntimeError("rotten")

    bot.watch._find = find
    bot.live(rows[:60])
    bot.watch.observe([None])  # type: ignore[list-item]
    assert bot.watch.entries_paused("P0") is None
    bot.stop()
    assert "rotten" in caplog.text


def test_observing_costs_microseconds(tmp_path: Path, made):
    reference, rows = made
    bot = Bot(tmp_path, reference)
    started = time.thread_time()
    for row in rows[:20] * 50:
        bot.watch.observe([row])
    assert (time.thread_time() - started) / 1_000 < 1e-3
    bot.stop()


def test_retraining_runs_by_itself_and_one_at_a_time(tmp_path: Path, made, monkeypatch):
    command = tmp_path / "command"
    command.write_text(
        f"#!{sys.executable}\nimport sys, time\nprint(sys.argv[1:], flush=True)\ntime.sleep(60)\n"
    )
    command.chmod(0o755)
    monkeypatch.setattr("freqtrade_mlpipe.monitoring.actions.sys.executable", str(command))
    act = retrain_action(tmp_path, ["a.json", "b.json"], ["--userdir", "u"])
    model = watched(None)
    first, second = act(model, "drift"), act(model, "drift")
    assert "has begun" in first
    assert "under way already" in second
    import psutil

    note = json.loads((tmp_path / "live" / "retrain.json").read_text())
    process = psutil.Process(note["pid"])
    log = tmp_path / "live" / "retrain.log"
    end = time.monotonic() + 20
    while not log.read_text() and time.monotonic() < end:
        time.sleep(0.05)
    expected = [
        "-m",
        "freqtrade_mlpipe.main",
        "retrain",
        "-c",
        "a.json",
        "-c",
        "b.json",
        "--userdir",
        "u",
    ]
    assert log.read_text().strip() == str(expected)
    process.kill()
    process.wait(10)
    assert "has begun" in act(model, "drift")
    psutil.Process(json.loads((tmp_path / "live" / "retrain.json").read_text())["pid"]).kill()
