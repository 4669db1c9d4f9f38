"""Exit codes of freqtrade run by `replay.run.main`, and the command as a real process."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from freqtrade_mlpipe.replay.run import main
from tests.replay.conftest import STRATEGIES
from tests.replay.markets_on_disk import SPOT_PAIRS

pytestmark = pytest.mark.e2e
WriteConfig = Callable[..., Path]


def backtesting(config: Path, userdir: Path, datadir: Path, *more: str) -> list[str]:
    paths = ["-c", str(config), "--userdir", str(userdir), "--datadir", str(datadir)]
    strategy = ["--strategy", "EmaCross", "--strategy-path", str(STRATEGIES)]
    return ["backtesting", *paths, *strategy, "--cache", "none", *more]


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["--version"], 0),
        (["backtesting", "--help"], 0),
        (["backtesting", "--no-such-option"], 2),
        (["no-such-command"], 2),
        ([], 2),
    ],
)
def test_arguments_decide_the_exit_code(
    argv: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == code


def test_a_configuration_error_is_not_success(
    spot_candles: Path, userdir: Path, write_config: WriteConfig
) -> None:
    config = write_config(SPOT_PAIRS)
    assert main(backtesting(config, userdir, spot_candles, "--timeframe", "7m")) == 2


def test_an_unexpected_error_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    from freqtrade.commands import Arguments

    def fail(_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(Arguments, "get_parsed_arg", fail)
    assert main(["backtesting"]) == 1


def test_the_exit_code_of_one_run_does_not_leak_into_the_next() -> None:
    assert main([]) == 2
    assert main(["--version"]) == 0


def test_no_candle_files_are_an_error_that_names_the_directory(
    userdir: Path, write_config: WriteConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    empty = tmp_path / "empty"
    assert main(backtesting(write_config(SPOT_PAIRS), userdir, empty)) == 2
    assert f"serves candle files from {empty}, but there are none" in caplog.text


@pytest.mark.parametrize(
    ("exchange", "keys", "reason"),
    [
        ({}, {"dry_run": False}, "can't place real orders"),
        ({"replay_clock": "recorded"}, {}, "time stands still"),
        ({"replay_sped": 60}, {}, "Did you mean 'replay_speed'?"),
        ({"replay_speed": 0}, {}, "greater than or equal to 1 (found 0)"),
        ({"replay_speed": 10**9}, {}, "Set at most 43, or download more"),
        ({"replay_timeframe": "1m"}, {}, "recorded timeframes: 5m, 1h"),
    ],
)
def test_trading_with_wrong_settings_is_refused(
    spot_candles: Path,
    userdir: Path,
    write_config: WriteConfig,
    caplog: pytest.LogCaptureFixture,
    exchange: dict[str, object],
    keys: dict[str, object],
    reason: str,
) -> None:
    config = write_config(SPOT_PAIRS, exchange, **keys)
    argv = backtesting(config, userdir, spot_candles)[1:-2]
    assert main(["trade", *argv, "--db-url", "sqlite://"]) == 2
    assert reason in caplog.text


@pytest.mark.slow
def test_a_real_process_runs_hyperopt_with_two_workers(
    spot_candles: Path, userdir: Path, write_config: WriteConfig
) -> None:
    pytest.importorskip("freqtrade.optimize.hyperopt", exc_type=ImportError)
    argv = ["hyperopt", *backtesting(write_config(SPOT_PAIRS), userdir, spot_candles)[1:-2]]
    search = ["--spaces", "buy", "--epochs", "4", "-j", "2", "--disable-param-export"]
    loss = ["--hyperopt-loss", "SharpeHyperOptLossDaily", "--timerange", "20240115-20240301"]
    python = [sys.executable, "-m", "freqtrade_mlpipe.replay.run"]
    done = subprocess.run(
        [*python, *argv, *search, *loss], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (results,) = (userdir / "hyperopt_results").glob("*.fthypt")
    epochs = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    assert len(epochs) == 4


def test_a_real_process_ends_with_2_after_a_configuration_error(
    spot_candles: Path, userdir: Path, write_config: WriteConfig
) -> None:
    argv = backtesting(write_config(SPOT_PAIRS), userdir, spot_candles, "--timeframe", "7m")
    python = [sys.executable, "-m", "freqtrade_mlpipe.replay.run"]
    done = subprocess.run([*python, *argv], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    # freqtrade wraps long lines.
    assert "Invalid timeframe '7m'" in " ".join(done.stderr.split())
