"""A real bot serves a model while it is promoted, rolled back, corrupted, cut off from its registry and killed."""

from __future__ import annotations

import hashlib
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from freqtrade_mlpipe.monitoring.journal import LiveJournal, journal_path
from tests.conftest import MODEL_NAME, Workspace
from tests.e2e.live import Bot, Clock, ReplayServer, bot_config

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PAIRS = ("SYNA/USDT", "SYNB/USDT")
PACE = 450
"""An hour passes in eight seconds."""
HOUR = pd.Timedelta(hours=1)
POLL_SECONDS = 1


class Watched:
    """The bot, and what it has written down."""

    def __init__(self, bot: Bot, server: ReplayServer, workspace: Workspace) -> None:
        self.bot, self.server, self.workspace = bot, server, workspace
        self.path = journal_path(workspace.registry_directory, "watched")

    def journal(self) -> pd.DataFrame:
        journal = LiveJournal(self.path)
        try:
            return journal.read()
        finally:
            journal.close()

    def wait_for_candles(self, version: str, n: int = 1) -> pd.DataFrame:
        """Until the next `n` candles of all pairs have been answered, all of them by a version."""
        after = self.newest()

        def there() -> Any:
            if not self.path.exists():
                return None
            rows = self.journal()
            rows = rows[(rows["version"] == version) & (rows["date"] > after)]
            complete = rows.groupby("date")["pair"].nunique() == len(PAIRS)
            return [rows] if complete.sum() >= n else None

        found: list[pd.DataFrame] = self.bot.wait_until(
            there, f"{n} candles answered by version {version}"
        )
        return found[0]

    def newest(self) -> pd.Timestamp:
        nothing = pd.Timestamp(0, tz="UTC")
        return max(self.journal()["date"], default=nothing) if self.path.exists() else nothing

    def wait_for_log(self, text: str) -> None:
        self.bot.wait_until(lambda: text in self.bot.log, f"{text!r} in the log")

    def do(self, *words: str) -> pd.Timestamp:
        """Run a command; the time that the bot sees then."""
        assert self.workspace.run(*words) == 0
        return pd.Timestamp(self.bot.clock.now(), unit="s", tz="UTC")

    def candles(self, pair: str) -> pd.DataFrame:
        """The newest closed candles that the exchange gives."""
        rows = self.server.get(
            f"/api/v3/klines?symbol={pair.replace('/', '')}&interval=1h&limit=1000"
        )
        frame = pd.DataFrame(rows).iloc[:-1, :6].astype(float)
        frame.columns = ["date", "open", "high", "low", "close", "volume"]
        return frame.assign(date=pd.to_datetime(frame["date"], unit="ms", utc=True))


@pytest.fixture
def watched(two_versions: Workspace, tmp_path: Path) -> Iterator[Watched]:
    clock = Clock(pace=PACE)
    block = {**two_versions.freqtrade_config()["mlpipe"]}
    block["serving"] = {"poll_seconds": POLL_SECONDS}
    with ReplayServer(two_versions.datadir, clock=clock, folder=tmp_path / "server") as server:
        config = bot_config(server, PAIRS, timeframe="1h", bot_name="watched", mlpipe=block)
        config["exchange"]["enable_ws"] = False
        bot = Bot(
            tmp_path / "bot", config, "MLStrategy", clock=clock, userdir=two_versions.user_data,
            strategy_path=two_versions.user_data / "strategies",
        )  # fmt: skip
        with bot:
            yield Watched(bot, server, two_versions)


def stored_bundle(workspace: Workspace, version: str) -> tuple[str, Path]:
    digest = workspace.registry().get_version(MODEL_NAME, version).digest
    for path in (workspace.registry_directory / "artifacts").rglob("manifest.json"):
        if hashlib.sha256(path.read_bytes()).hexdigest() == digest:
            return digest, path.parent
    raise AssertionError(f"no files of version {version}")


def check_swap(rows: pd.DataFrame, decided: pd.Timestamp) -> None:
    """The version spoke within a poll and a candle: at the latest for the candle that closed after both."""
    slack = pd.Timedelta(seconds=2 * PACE)  # the bot looks for candles once a second
    latest_open = decided + pd.Timedelta(seconds=POLL_SECONDS * PACE) + slack
    assert rows["date"].min() <= latest_open.floor("h")


def test_bot_serves_through_everything(watched: Watched) -> None:
    cache, database = (
        watched.workspace.registry_directory / name for name in ("cache", "mlflow.db")
    )
    served, _ = stored_bundle(watched.workspace, "1")
    refused, files = stored_bundle(watched.workspace, "2")
    watched.wait_for_candles("1")

    check_swap_of(watched, "2", lambda: watched.do("promote", "--notes", "better"))
    check_swap_of(watched, "1", lambda: watched.do("rollback"))

    shutil.rmtree(cache)
    watched.bot.wait_until((cache / served).exists, "cache that is filled again")

    watched.bot.process.send_signal(signal.SIGSTOP)
    watched.do("promote", "--force-reason", "a test")
    model = next(files.rglob("model.txt"))
    sound = model.read_bytes()
    model.write_bytes(sound[:-100] + b"x" * 100)
    shutil.rmtree(cache / refused)
    watched.bot.process.send_signal(signal.SIGCONT)
    watched.wait_for_log("version 2 cannot be served")
    watched.wait_for_candles("1")
    watched.do("rollback")

    watched.bot.kill()
    killed = watched.newest()
    away = database.rename(database.with_suffix(".away"))
    database.write_bytes(b"garbage" * 4096)
    watched.bot.start()
    watched.wait_for_log("the registry does not say what to serve")
    watched.wait_for_candles("1")
    away.rename(database)
    watched.wait_for_log("the registry answers again")
    watched.wait_for_candles("1")
    watched.bot.stop()
    model.write_bytes(sound)
    check_journal(watched, killed)


def check_swap_of(watched: Watched, version: str, decide: Callable[[], pd.Timestamp]) -> None:
    decided = decide()
    check_swap(watched.wait_for_candles(version), decided)
    watched.wait_for_log(f"version {version} speaks from candle")


def check_journal(watched: Watched, killed: pd.Timestamp) -> None:
    """No candle lost or answered twice, one version a candle, and all as a backtest says."""
    journal = watched.journal()
    assert (journal["do_predict"] == 1).all()
    assert not journal.drop_duplicates(["date", "version"])["date"].duplicated().any()
    for pair in PAIRS:
        rows = journal[journal["pair"] == pair].set_index("date")
        for span in (rows.loc[:killed], rows.loc[killed + HOUR :]):
            steps = span.index.to_series().diff().dropna()
            assert (steps == HOUR).all(), steps[steps != HOUR]
        # A bot that starts answers the newest candle; its predecessor may have done so.
        assert (rows["repeats"] == 0)[rows.index != killed].all()
        frame = watched.candles(pair)
        for version, spoken in rows.groupby("version"):
            watched.workspace.configure(serving={"version": version, "poll_seconds": 30})
            strategy = watched.workspace.strategy()
            strategy.ft_bot_start()
            said = strategy.populate_indicators(frame, {"pair": pair}).set_index("date")
            expected = said.loc[spoken.index, "mlpipe_proba"]
            np.testing.assert_allclose(spoken["proba"], expected, atol=1e-6)
