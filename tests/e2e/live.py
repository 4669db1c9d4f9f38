"""A live exchange and bots on it, as real processes on this machine: the kit for tests of `freqtrade trade`.

    clock = Clock(pace=10)                                   # ten seconds of market in each real one; 1: as it is
    with ReplayServer(candles, clock=clock, speed=60) as server:
        config = bot_config(server, ("BTC/USDT", "ETH/USDT"), timeframe="1m")
        with Bot(tmp_path / "bot", config, "EveryCandle", clock=clock) as bot:
            bot.wait_until(lambda: len(bot.trades(closed=True)) >= 2, "two closed trades")

`ReplayServer` is `freqtrade-mlpipe replay` on a free port. `Bot` is the unmodified `freqtrade trade` in dry-run with a
user directory, database and log of its own (``command=MLPIPE`` runs `freqtrade-mlpipe freqtrade trade` instead, where
the exchange may be `replay` in the same process: `in_process_config`). Both end with their `with` block, or several by
`stop_together`; `stop`, `kill` and `start` again are for tests of failures. With a pace above 1 the programs run under
`paced.py`, for which the development dependency time-machine must be installed, and otherwise unchanged: candles are
minutes of *shown* time, so that at pace 10 a one-minute candle passes in six seconds. Waiting is counted in real
seconds. Faults: `Clock.jump`, and a `Wire` between a bot and the exchange's streams, to be cut. A program that reached
for another machine fails in `stop` (`tests.replay.netguard`).
"""

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

from tests.replay import netguard

STRATEGIES = Path(__file__).parent / "strategies"
PACED = Path(__file__).parent / "paced.py"
FREQTRADE = ("freqtrade.main", str(Path(sys.executable).with_name("freqtrade")))
MLPIPE = ("freqtrade_mlpipe.main", str(Path(sys.executable).with_name("freqtrade-mlpipe")))
USER, PASSWORD = "bot", "secret"
_LOG_TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ - "


@dataclass(frozen=True)
class Clock:
    """The time that programs of a test see: `pace` seconds in each real one, counted from now.

    `jump_file` makes a clock that can `jump`; give one such to a single program only.
    """

    pace: float = 1.0
    jump_file: Path | None = None
    monotonic: float = field(default_factory=time.monotonic)
    shown: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        if self.pace != 1:
            pytest.importorskip("time_machine", reason="a faster clock needs time-machine")

    def now(self) -> float:
        """Seconds since the epoch, as the programs see them."""
        return self.shown + self.pace * (time.monotonic() - self.monotonic)

    def jump(self, hours: float) -> None:
        """Set the clock wrong by so many hours; 0 makes it right again."""
        assert self.jump_file is not None
        written = self.jump_file.with_suffix(".new")
        written.write_text(str(hours * 3600), encoding="ascii")
        written.replace(self.jump_file)

    def command(self, program: tuple[str, str], *words: str) -> list[str]:
        """The command line that runs a program (its module and its executable) under this clock."""
        module, executable = program
        if self.pace == 1:
            # An installed console script, or the same from a source tree.
            start = [executable] if program == FREQTRADE else [sys.executable, "-m", module]
            return [*start, *words]
        times = [repr(value) for value in (self.pace, self.monotonic, self.shown)]
        return [sys.executable, str(PACED), *times, str(self.jump_file or ""), module, *words]


def _environment(folder: Path) -> dict[str, str]:
    """The child's environment: it reports any use of the network to `folder`/network-report."""
    guard = folder / "guard"
    guard.mkdir(parents=True, exist_ok=True)
    source = Path(netguard.__file__).read_text(encoding="utf-8")
    (guard / "sitecustomize.py").write_text(source + "\n\ninstall()\n", encoding="utf-8")
    root = str(Path(__file__).parents[2])
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    paths = [str(guard), root, *filter(None, [kept.get("PYTHONPATH")])]
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(paths),
        "COLUMNS": "200",  # freqtrade wraps its log at the terminal's width
        netguard.REPORT_VARIABLE: str(folder / "network-report"),
    }


def free_port() -> int:
    """A port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def wait_until(
    condition: Callable[[], Any], what: str, seconds: float, alive: Callable[[], None]
) -> Any:
    """Return the condition's first true value; fail after `seconds`, or when `alive` does."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        alive()
        if time.monotonic() > end:
            pytest.fail(f"no {what} within {seconds} seconds")
        time.sleep(0.1)
    return value


class _Program:
    """A child process with a log file."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.folder, self.clock = folder, clock
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def log_file(self) -> Path:
        return self.folder / "output.log"

    @property
    def log(self) -> str:
        """Everything printed and logged so far, over all starts."""
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def _start(self, command: list[str]) -> None:
        self._asked_to_end = False
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=_environment(self.folder),
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def check_alive(self) -> None:
        assert self.process is not None
        if self.process.poll() is not None:
            pytest.fail(f"ended with {self.process.returncode}:\n{self.log[-4000:]}")

    def wait_until(self, condition: Callable[[], Any], what: str, seconds: float = 180) -> Any:
        """Return the condition's first true value; fail after `seconds` real ones, or when the program ends."""
        try:
            return wait_until(condition, what, seconds, self.check_alive)
        except pytest.fail.Exception as failed:
            raise pytest.fail.Exception(f"{failed}\n{self.log[-4000:]}") from None

    def stop(self, seconds: float = 60) -> int:
        """End the program as a user does (SIGTERM) and return its exit code."""
        assert self.process is not None
        self.terminate()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"still running {seconds} s after SIGTERM:\n{self.log[-3000:]}")
        report = self.folder / "network-report"
        assert not report.exists(), f"the network was used: {report.read_text()}"
        return self.process.returncode

    def terminate(self) -> None:
        """Ask it to end and don't wait, so that several can end at the same time before their `stop`.

        Once only: a second signal interrupts freqtrade's clean-up, and what was not cleaned up keeps it alive.
        """
        if self.process is not None and self.process.poll() is None and not self._asked_to_end:
            self._asked_to_end = True
            self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.stop()


class ReplayServer(_Program):
    """`freqtrade-mlpipe replay` on a free port.

    Parameters
    ----------
    datadir : Path
        Candle files; they are copied, freqtrade renames files it finds.
    folder : Path, optional
        Where the copy and the log go (default: beside `datadir`).
    """

    def __init__(
        self, datadir: Path, *, clock: Clock, speed: int = 1, pairs: tuple[str, ...] = (),
        timeframe: str | None = None, folder: Path | None = None,
    ) -> None:  # fmt: skip
        super().__init__(folder or datadir.with_name(datadir.name + "-server"), clock)
        shutil.copytree(datadir, self.folder / "candles", copy_function=shutil.copyfile)
        self.port = 0
        self._options = ["--datadir", str(self.folder / "candles"), "--speed", str(speed)]
        if pairs:
            self._options += ["--pairs", *pairs]
        if timeframe:
            self._options += ["--timeframe", timeframe]

    def launch(self) -> None:
        """Start and don't wait, so that several can start at the same time before their `start`."""
        self._printed_before = len(self.log) if self.log_file.exists() else 0
        self._start(self.clock.command(MLPIPE, "replay", "--port", str(self.port), *self._options))

    def start(self) -> Self:
        """Start, unless it was launched, and wait until it listens; after an end on the same port again."""
        if self.process is None or self.process.poll() is not None:
            self.launch()
        marker = "on http://127.0.0.1:"
        printed = self.wait_until(
            lambda: self.log[self._printed_before :].partition(marker)[2], "listening server"
        )
        self.port = int(printed.split()[0])
        return self

    __enter__ = start

    def settings(self, *, futures: bool = False) -> dict[str, Any]:
        """The configuration that the server prints for its users."""
        found = self.log.rpartition(f"For a {'futures' if futures else 'spot'} bot")[2]
        settings: dict[str, Any] = json.JSONDecoder().raw_decode(found[found.index("{") :])[0]
        return settings

    def get(self, path: str) -> Any:
        """The decoded answer to a GET request, such as ``/api/v3/time``."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return json.load(answer)


class Wire:
    """A way to a port of this machine that can be cut: `port` here leads to `target` there.

    Only whole connections are passed on, byte by byte.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._open: set[socket.socket] = set()
        self._is_cut = False
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.n_accepted = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End all connections at once, and refuse new ones until `mend`."""
        self._is_cut = True
        for end in list(self._open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Let connections through again."""
        self._is_cut = False

    def close(self) -> None:
        """Cut it for good."""
        self.cut()
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                near, _ = self._listening.accept()
                if self._is_cut:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self._target))
                self.n_accepted += 1
                self._open |= {near, far}
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65_536):
                other.sendall(data)
        for end in (one, other):
            self._open.discard(end)
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def stop_together(programs: list[_Program]) -> None:
    """Stop what was started: all bots at the same time, then the servers.

    A freqtrade whose websocket breaks while it cleans up waits for its stream's thread for good.
    """
    for kind in (Bot, ReplayServer):
        ended = [
            program
            for program in programs
            if isinstance(program, kind) and program.process is not None
        ]
        for program in ended:
            program.terminate()
        for program in ended:
            program.stop()


def bot_config(
    server: ReplayServer, pairs: tuple[str, ...], *, futures: bool = False, **keys: Any
) -> dict[str, Any]:
    """A complete dry-run configuration for a bot on the server; keywords replace top-level keys."""
    settings = server.settings(futures=futures)
    settings["exchange"]["pair_whitelist"] = list(pairs)
    return {**_common(len(pairs), server.clock.pace), **settings, **keys}


def freqai_config(
    server: ReplayServer, pairs: tuple[str, ...], identifier: str, *, n_estimators: int
) -> dict[str, Any]:
    """`bot_config` for MLPipeClassifier, small and due to train again with every candle."""
    return bot_config(server, pairs) | {
        "freqaimodel": "MLPipeClassifier",
        "freqai": {
            "enabled": True, "identifier": identifier, "train_period_days": 1, "backtest_period_days": 1,
            "live_retrain_hours": 0, "purge_old_models": 2, "override_exchange_check": True,
            "feature_parameters": {
                "include_timeframes": ["1m", "5m"], "include_corr_pairlist": [pairs[0]],
                "indicator_periods_candles": [10], "include_shifted_candles": 1, "label_period_candles": 12,
            },
            "data_split_parameters": {"test_size": 0.2},
            "model_training_parameters": {"n_estimators": n_estimators},
        },
    }  # fmt: skip


def in_process_config(
    datadir: Path, pairs: tuple[str, ...], *, pace: float = 1, **keys: Any
) -> dict[str, Any]:
    """The same for the exchange `replay` inside the bot's process (``Bot(command=MLPIPE)``)."""
    exchange = {"name": "replay", "replay_source": str(datadir), "pair_whitelist": list(pairs)}
    exchange |= keys.pop("exchange", {})
    return {**_common(len(pairs), pace), "dry_run": True, "exchange": exchange, **keys}


def pricing(side: str) -> dict[str, Any]:
    """Prices from the order book: "same" for limit orders that wait, "other" for market orders."""
    prices = {"price_side": side, "use_order_book": True, "order_book_top": 1}
    return {"entry_pricing": prices, "exit_pricing": prices}


def _common(n_pairs: int, pace: float) -> dict[str, Any]:
    return {
        "timeframe": "1m",
        "stake_currency": "USDT",
        "stake_amount": 100,
        "max_open_trades": n_pairs,
        "dry_run_wallet": 10_000,
        "initial_state": "running",
        **pricing("same"),
        "unfilledtimeout": {"entry": 1, "exit": 1, "unit": "minutes"},
        "pairlists": [{"method": "StaticPairList"}],
        "internals": {"process_throttle_secs": max(1, pace // 2), "heartbeat_interval": 0},
    }


class Bot(_Program):
    """`freqtrade trade` in dry-run in a folder of its own.

    Parameters
    ----------
    folder : Path
        User directory, database and log.
    config : dict
        freqtrade's configuration.
    strategy : str
        A strategy of `strategy_path` (default: those beside this module, else e.g. ``userdir / "strategies"``).
    userdir : Path, optional
        A user directory to use as it is, with models for instance; default: a new one in `folder`.
    api_port : int, optional
        Switches freqtrade's REST API on, for `get`.
    """

    def __init__(
        self, folder: Path, config: dict[str, Any], strategy: str, *, clock: Clock,
        command: tuple[str, str] = FREQTRADE, strategy_path: Path = STRATEGIES, userdir: Path | None = None,
        api_port: int | None = None, options: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        super().__init__(folder, clock)
        self.userdir = userdir or folder / "user_data"
        self.userdir.mkdir(parents=True, exist_ok=True)
        self.config_file = folder / "bot.json"
        self.api_port = api_port
        if api_port:
            config = {**config, "api_server": _api_server(api_port)}
        self.config_file.write_text(json.dumps(config), encoding="utf-8")
        self.database = folder / "trades.sqlite"
        words = ("freqtrade", "trade") if command == MLPIPE else ("trade",)
        self._command = clock.command(
            command, *words, "--config", str(self.config_file), "--userdir", str(self.userdir),
            "--db-url", f"sqlite:///{self.database}", "--strategy", strategy, "--strategy-path", str(strategy_path),
            *options,
        )  # fmt: skip

    def start(self) -> Self:
        """Start the bot; it goes on with its database after a `stop` or `kill`."""
        self._start(self._command)
        return self

    __enter__ = start

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """Rows of a query on the bot's database; none while there is none yet."""
        if not self.database.exists():
            return []
        with closing(
            sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=5)
        ) as connection:
            connection.row_factory = sqlite3.Row
            try:
                return [dict(row) for row in connection.execute(query, values)]
            except sqlite3.OperationalError:  # tables are still being made, or it is locked
                return []

    def told(self, text: str) -> int:
        """How often the operator was told something with this text, over all starts."""
        lines = re.split(_LOG_TIME, " ".join(self.log.split()))  # freqtrade wraps long lines
        return sum("Sending rpc strategy_msg" in line and text in line for line in lines)

    def trades(self, *, closed: bool | None = None) -> list[dict[str, Any]]:
        """Trades in the order of their opening; `closed` leaves only closed or only open ones."""
        found = self.rows("SELECT * FROM trades ORDER BY id")
        return [trade for trade in found if closed is None or bool(trade["is_open"]) != closed]

    def orders(self, status: str | None = None) -> list[dict[str, Any]]:
        """Orders in the order of their placing; freqtrade's statuses are open, closed, canceled, expired.

        An entry that was cancelled before anything filled goes together with its trade: only the log tells of it.
        """
        found = self.rows("SELECT * FROM orders ORDER BY id")
        return [order for order in found if status is None or order["status"] == status]

    def get(self, path: str) -> Any:
        """The decoded answer of the bot's REST API, such as ``status`` or ``show_config``; None while it is down."""
        url = f"http://127.0.0.1:{self.api_port}/api/v1/{path}"
        key = b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        request = urllib.request.Request(url, headers={"Authorization": f"Basic {key}"})
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return json.load(answer)
        except urllib.error.HTTPError:
            raise
        except OSError:
            return None


def _api_server(port: int) -> dict[str, Any]:
    return {
        "enabled": True, "listen_ip_address": "127.0.0.1", "listen_port": port, "verbosity": "error",
        "jwt_secret_key": "a-key-for-tests-only-of-32-letters", "ws_token": "token",
        "username": USER, "password": PASSWORD,
    }  # fmt: skip
