"""A user directory in which a small model was trained once, and copies of it for tests that change things."""

from __future__ import annotations

import json
import logging
import shutil
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import settings

from freqtrade_mlpipe.main import main
from freqtrade_mlpipe.synthetic import Market, generate_market
from tests.servers import Server, missing, running

ANY_STORE = ("sqlite", pytest.param("server", marks=(pytest.mark.server, pytest.mark.slow)))
MARKET = Market(pairs=("SYNA/USDT", "SYNB/USDT"), n_candles=3_500, signal=3.0, seed=42)
MODEL_NAME = "trend_classifier"
OWN_FEATURE = "%-range"

_EXAMPLE = ("# def mlpipe_features", '#     dataframe["%-range"]', "#     return dataframe\n")
_SMALL_MODEL = {"model_type": "lightgbm", "optimize_hyperparams": False, "cv_folds": 2,
                "parameters": {"learning_rate": 0.05, "num_leaves": 7}}  # fmt: skip
_LENIENT_GATES = dict.fromkeys(
    ("max_baseline_p_value", "min_deflated_sharpe", "min_backtest_sharpe", "min_backtest_trades",
     "min_profit_factor", "max_drawdown", "max_calibration_error", "champion_tolerance")
)  # fmt: skip


# A shell's background jobs ignore Ctrl-C, and so would every process that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is no bug.
settings.register_profile("mlpipe", deadline=None)
settings.load_profile("mlpipe")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: several workers then end at about the same time."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: not slow[item.path])


@dataclass(frozen=True)
class Workspace:
    """A freqtrade user directory made by `init`, with synthetic candles for the replay exchange."""

    user_data: Path

    @property
    def config_file(self) -> Path:
        return self.user_data / "config.json"

    @property
    def strategy_file(self) -> Path:
        return self.user_data / "strategies" / "MLStrategy.py"

    @property
    def datadir(self) -> Path:
        return self.user_data / "data" / "replay"

    @property
    def registry_directory(self) -> Path:
        return self.user_data / "mlpipe"

    def run(self, command: str, *options: str) -> int:
        """Run one of our commands in this process and return its exit code."""
        return main([command, "--userdir", str(self.user_data), *options])

    def configure(self, **sections: dict[str, Any]) -> None:
        """Update sections of the `mlpipe` block; a value that is no mapping replaces the key."""
        config = json.loads(self.config_file.read_text())
        for name, values in sections.items():
            block = config["mlpipe"]
            block[name] = {**block.get(name, {}), **values} if isinstance(values, dict) else values
        self.config_file.write_text(json.dumps(config))

    def edit_strategy(self, old: str, new: str) -> None:
        text = self.strategy_file.read_text()
        assert old in text
        self.strategy_file.write_text(text.replace(old, new))

    def registry(self) -> Any:
        from freqtrade_mlpipe.registry import ModelRegistry

        return ModelRegistry(directory=self.registry_directory)

    def freqtrade_config(self, **changes: Any) -> dict[str, Any]:
        """freqtrade's own prepared configuration, as for a backtest."""
        from freqtrade_mlpipe.commands.context import load_context

        context = load_context({"user_data_dir": str(self.user_data)}, backtest=True)
        return {**context.freqtrade, **changes}

    def strategy(self, **changes: Any) -> Any:
        """The strategy as freqtrade's resolver loads it; nothing is served before `bot_start`."""
        from freqtrade.resolvers import StrategyResolver

        return StrategyResolver.load_strategy(self.freqtrade_config(**changes))

    def store(self, candles: dict[str, pd.DataFrame]) -> None:
        """Write candle files as they are, however wrong."""
        self.datadir.mkdir(parents=True, exist_ok=True)
        for pair, frame in candles.items():
            write_candle_file(self.datadir, pair, frame)

    def copy_to(self, target: Path) -> Workspace:
        """An independent copy: MLflow stores absolute artifact locations, which must move along."""
        shutil.copytree(self.user_data, target)
        database = target / "mlpipe" / "mlflow.db"
        if database.exists():
            before, after = (path.as_uri() for path in (self.user_data, target))
            with closing(sqlite3.connect(database)) as connection, connection:
                for table, column in (
                    ("runs", "artifact_uri"),
                    ("experiments", "artifact_location"),
                ):
                    connection.execute(
                        f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (before, after)
                    )
        return Workspace(target)


def write_candle_file(datadir: Path, pair: str, frame: pd.DataFrame, timeframe: str = "1h") -> None:
    name = pair.replace("/", "_").replace(":", "_")
    frame.reset_index(drop=True).to_feather(datadir / f"{name}-{timeframe}.feather")


def make_workspace(user_data: Path, candles: dict[str, pd.DataFrame]) -> Workspace:
    """`init`, then candles, a small model, lenient gates and one feature of the user's own."""
    workspace = Workspace(user_data)
    assert workspace.run("init") == 0
    config = json.loads(workspace.config_file.read_text())
    config["exchange"] = {"name": "replay", "pair_whitelist": sorted(candles), "pair_blacklist": []}
    config["mlpipe"]["model"] = _SMALL_MODEL
    config["mlpipe"]["gates"] = _LENIENT_GATES
    workspace.config_file.write_text(json.dumps(config))
    for line in _EXAMPLE:
        workspace.edit_strategy(line, line.removeprefix("# "))
    workspace.store(candles)
    return workspace


@pytest.fixture(scope="session")
def market() -> dict[str, pd.DataFrame]:
    """Candles by pair; do not change them."""
    return generate_market(MARKET)


@pytest.fixture(scope="session")
def untrained_once(
    market: dict[str, pd.DataFrame], tmp_path_factory: pytest.TempPathFactory
) -> Workspace:
    with _logging_restored():
        workspace = make_workspace(tmp_path_factory.mktemp("untrained") / "user_data", market)
        assert workspace.registry().get_model_names() == []
    return workspace


@pytest.fixture(scope="session")
def trained_once(untrained_once: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = untrained_once.copy_to(tmp_path_factory.mktemp("trained") / "user_data")
    with _logging_restored():
        assert workspace.run("train") == 0
    return workspace


@pytest.fixture(scope="session")
def production_once(trained_once: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = trained_once.copy_to(tmp_path_factory.mktemp("production") / "user_data")
    with _logging_restored():
        assert workspace.run("validate") == 0
        assert workspace.run("promote", "--notes", "first") == 0
    return workspace


@pytest.fixture(scope="session")
def two_versions_once(
    production_once: Workspace, tmp_path_factory: pytest.TempPathFactory
) -> Workspace:
    workspace = production_once.copy_to(tmp_path_factory.mktemp("two") / "user_data")
    with _logging_restored():
        assert workspace.run("train", "--random-state", "7") == 0
        assert workspace.run("validate") == 0
    return workspace


@pytest.fixture
def untrained(untrained_once: Workspace, tmp_path: Path) -> Workspace:
    """A user directory with candles and an empty registry: MLflow takes seconds to make one."""
    return untrained_once.copy_to(tmp_path / "user_data")


@pytest.fixture
def trained(trained_once: Workspace, tmp_path: Path) -> Workspace:
    """Version 1 is STAGED, nothing in production."""
    return trained_once.copy_to(tmp_path / "user_data")


@pytest.fixture
def production(production_once: Workspace, tmp_path: Path) -> Workspace:
    """Version 1 is in production."""
    return production_once.copy_to(tmp_path / "user_data")


@pytest.fixture
def two_versions(two_versions_once: Workspace, tmp_path: Path) -> Workspace:
    """Version 1 is in production; version 2, of another seed, has passed its gates."""
    return two_versions_once.copy_to(tmp_path / "user_data")


@pytest.fixture
def restore_logging() -> Iterator[None]:
    """freqtrade configures the root logger for the whole process; undo that after the test."""
    with _logging_restored():
        yield


@pytest.fixture
def logged() -> Iterator[Callable[[], list[str]]]:
    """Messages at WARNING and above of our loggers; unlike caplog it survives freqtrade's logging set-up."""
    messages: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    handler = Keep(logging.WARNING)
    logger = logging.getLogger("freqtrade_mlpipe")
    logger.addHandler(handler)
    yield lambda: list(messages)
    logger.removeHandler(handler)


class _logging_restored:  # noqa: N801 - reads as a function
    def __enter__(self) -> None:
        root = logging.root
        self._kept = [(handler, handler.level) for handler in root.handlers], root.level

    def __exit__(self, *_: object) -> None:
        handlers, level = self._kept
        logging.disable(logging.NOTSET)
        logging.root.handlers[:] = [handler for handler, _ in handlers]
        for handler, before in handlers:
            handler.setLevel(before)
        logging.root.setLevel(level)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """An MLflow server on PostgreSQL, one for all tests; skips where it cannot be had."""
    if reason := missing():
        pytest.skip(reason)
    with running() as found:
        yield found
