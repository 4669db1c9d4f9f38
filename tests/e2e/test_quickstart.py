"""The main job as a new user runs it: real processes, in the order of the README."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


ENVIRONMENT = {
    name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
}


def run(*words: str, cwd: Path, timeout: int = 600) -> subprocess.CompletedProcess[str]:
    """Run `freqtrade-mlpipe` in a process of its own, as the console script does."""
    return subprocess.run(
        [sys.executable, "-m", "freqtrade_mlpipe.main", *words],
        cwd=cwd,
        env={**ENVIRONMENT, "COLUMNS": "160"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("quickstart")
    done = run("quickstart", cwd=folder)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder / "mlpipe-quickstart", done.stdout


def final_window(printed: str) -> str:
    """The timerange that quickstart suggests for a backtest."""
    return re.search(r"backtesting --userdir \S+ --datadir \S+ --timerange (\S+)", printed).group(1)


def freqtrade(userdir: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command, *options = words
    done = run("freqtrade", command, "--userdir", str(userdir), *options, cwd=userdir)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def test_quickstart_promotes_and_says_where_things_are(quickstart: tuple[Path, str]) -> None:
    userdir, printed = quickstart
    assert "gates passed" in printed
    assert "quickstart version 1 is in production" in printed
    assert "synthetic market" in printed
    page = Path(re.search(r"Report page\s+(\S+)", printed).group(1))
    assert page.is_relative_to(userdir)
    assert "quickstart, version 1" in page.read_text(encoding="utf-8")


def test_commands_show_the_promoted_version(quickstart: tuple[Path, str]) -> None:
    userdir, _ = quickstart
    listed = run("list-models", "--userdir", str(userdir), "--json", cwd=userdir)
    (version,) = json.loads(listed.stdout)
    assert (version["version"], version["status"]) == ("1", "PRODUCTION")
    history = run("history", "--userdir", str(userdir), "--json", cwd=userdir)
    assert [entry["action"] for entry in json.loads(history.stdout)] == ["promote"]


def test_freqtrade_backtests_what_production_serves(quickstart: tuple[Path, str]) -> None:
    userdir, printed = quickstart
    window = final_window(printed)
    done = freqtrade(userdir, "backtesting", "--timerange", window, "--cache", "none")
    assert trades_of(done.stdout) == trades_of(printed) > 20


def trades_of(printed: str) -> int:
    """Number of trades in all pairs, from the first table of freqtrade's backtest report."""
    report = printed[printed.index("BACKTESTING REPORT") :]
    return int(re.search(r"TOTAL │\s+(\d+) │", report).group(1))


def test_hyperopt_trades_as_the_backtest_does(quickstart: tuple[Path, str], tmp_path: Path) -> None:
    userdir, printed = quickstart
    window = final_window(printed)
    freqtrade(
        userdir, "hyperopt", "--timerange", window, "--spaces", "buy", "sell", "--epochs", "4",
        "-j", "2", "--hyperopt-loss", "SharpeHyperOptLossDaily", "--random-state", "1",
    )  # fmt: skip
    found = userdir / "strategies" / "MLStrategy.json"
    assert set(json.loads(found.read_text())["params"]) >= {"buy", "sell"}
    try:
        epoch = freqtrade(userdir, "hyperopt-show", "--best", "--no-header", "--print-json")
        backtest = freqtrade(userdir, "backtesting", "--timerange", window, "--cache", "none")
        assert trades_of(backtest.stdout) == trades_of(epoch.stdout)
    finally:
        found.unlink()


def test_lookahead_analysis_finds_no_bias(quickstart: tuple[Path, str]) -> None:
    userdir, _ = quickstart
    done = freqtrade(
        userdir, "lookahead-analysis", "--timerange", "20240505-20240701",
        "--minimum-trade-amount", "10", "--targeted-trade-amount", "10",
    )  # fmt: skip
    assert re.search(r"MLStrategy │\s+No │\s+10 │\s+0 │\s+0 │", done.stdout), done.stdout


def test_recursive_analysis_finds_no_bias(quickstart: tuple[Path, str]) -> None:
    userdir, _ = quickstart
    done = freqtrade(userdir, "recursive-analysis", "--timerange", "20240505-20240801")
    said = done.stdout + done.stderr
    assert "No variance on indicator(s) found due to recursive formula" in said
    assert "No lookahead bias on indicators found" in said


def test_second_version_is_promoted_and_rolled_back(quickstart: tuple[Path, str]) -> None:
    userdir, printed = quickstart
    window = final_window(printed)
    chosen = ("--userdir", str(userdir))
    assert (
        run("train", *chosen, "--trials", "1", "--random-state", "7", cwd=userdir).returncode == 0
    )
    forced = run("promote", *chosen, "--force-reason", "a test of rollback", cwd=userdir)
    assert forced.returncode == 0, forced.stderr
    again = freqtrade(userdir, "backtesting", "--timerange", window)
    assert "Serving quickstart version 2" in again.stderr + again.stdout
    assert run("rollback", *chosen, cwd=userdir).returncode == 0
    back = freqtrade(userdir, "backtesting", "--timerange", window)
    assert "Serving quickstart version 1" in back.stderr + back.stdout
    history = json.loads(run("history", *chosen, "--json", cwd=userdir).stdout)
    assert [entry["action"] for entry in history] == ["promote", "promote", "rollback"]


def test_market_without_signal_is_refused(tmp_path: Path) -> None:
    done = run(
        "quickstart", "--signal", "0", "--seed", "3", "--userdir", str(tmp_path / "u"), cwd=tmp_path
    )
    assert done.returncode == 3, done.stdout[-3000:] + done.stderr[-3000:]
    assert "gates REFUSED" in done.stdout
    listed = run("list-models", "--userdir", str(tmp_path / "u"), "--json", cwd=tmp_path)
    assert [version["status"] for version in json.loads(listed.stdout)] == ["FAILED"]
