"""freqtrade sets up logging for the whole process: every test here puts it back. A workspace with a backtest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Workspace

RESULTS = "backtest_results"


@pytest.fixture(autouse=True)
def _logging(restore_logging):
    """Nothing but the fixture asked for."""


def freqtrade(workspace: Workspace, *options: str) -> None:
    """A true `freqtrade backtesting`, offline, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "freqtrade_mlpipe.main", "freqtrade", "backtesting",
         "--userdir", str(workspace.user_data), "--datadir", str(workspace.datadir), "--cache", "none", *options],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def backtested_once(
    production_once: Workspace, tmp_path_factory: pytest.TempPathFactory
) -> Workspace:
    workspace = production_once.copy_to(tmp_path_factory.mktemp("backtested") / "user_data")
    freqtrade(workspace)
    return workspace


@pytest.fixture
def backtested(backtested_once: Workspace, tmp_path: Path) -> Workspace:
    """Version 1 is in production, and freqtrade has stored one backtest of it."""
    return backtested_once.copy_to(tmp_path / "user_data")


def result_of(workspace: Workspace) -> Path:
    (found,) = (workspace.user_data / RESULTS).glob("*.zip")
    return found
