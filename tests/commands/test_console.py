"""The console itself: help in a moment, exit codes that scripts can rely on, pipes that close early."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from freqtrade_mlpipe import __version__
from freqtrade_mlpipe.commands.table import COMMANDS
from freqtrade_mlpipe.exceptions import SearchInterrupted
from freqtrade_mlpipe.main import main
from tests.conftest import MODEL_NAME

CONSOLE = [sys.executable, "-m", "freqtrade_mlpipe.main"]
MAX_HELP_SECONDS = 0.5
# As a user has it: buffered output, cached bytecode, freqtrade in charge of logging.
ENVIRONMENT = {
    key: value
    for key, value in os.environ.items()
    if key not in ("PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "PYTEST_VERSION")
}


def console(*arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CONSOLE, *arguments], capture_output=True, text=True, env=ENVIRONMENT, check=False, **settings
    )  # fmt: skip


def test_help_appears_at_once():
    def seconds() -> float:
        start = time.perf_counter()
        assert console("--help").returncode == 0
        return time.perf_counter() - start

    assert min(seconds() for _ in range(3)) < MAX_HELP_SECONDS


def test_help_loads_neither_freqtrade_nor_numpy():
    code = (
        "import sys; from freqtrade_mlpipe.main import main; main(['--help'])\n"
        "print({'freqtrade', 'numpy', 'pandas', 'ccxt', 'rich', 'pydantic'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(command.name in out for command in COMMANDS)


def test_no_command_shows_the_help(capsys):
    assert main([]) == 0
    assert "COMMAND" in capsys.readouterr().out


def test_version_is_the_packages(capsys):
    assert main(["--version"]) == 0
    assert __version__ in capsys.readouterr().out


OURS = [command for command in COMMANDS if not command.passthrough]


@pytest.mark.parametrize("command", OURS, ids=lambda command: command.name)
def test_every_command_has_a_help_of_its_own(command, capsys):
    assert main([command.name, "-h"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert out.startswith(f"usage: freqtrade-mlpipe {command.name}")
    assert command.help.split(":")[0] in out


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_of_the_table_can_be_loaded(command):
    from freqtrade_mlpipe.main import _load

    assert callable(_load(command))


@pytest.mark.parametrize("arguments", [["trian"], ["--trian"], ["TRAIN"], ["train-model", "-h"]])
def test_unknown_command_exits_2_and_shows_what_there_is(arguments, capsys):
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert "usage: freqtrade-mlpipe" in err


def test_misspelt_command_is_named_with_the_valid_ones(capsys):
    assert main(["trian"]) == 2
    err = capsys.readouterr().err
    assert "trian" in err
    assert "train" in err


@pytest.mark.parametrize(
    "arguments, named",
    [
        (["train", "--trials", "0"], "at least 1"),
        (["train", "--trials", "ten"], "whole number"),
        (["train", "--random-state", "-1"], "at least 0"),
        (["train", "--model-type", "svm"], "random_forest"),
        (["train", "--no-such-option"], "--no-such-option"),
        (["validate", "--max-drawdown", "1.5"], "less than or equal to 1"),
        (["validate", "--max-drawdown", "0"], "greater than 0"),
        (["validate", "--max-drawdown", "low"], "a number or 'off'"),
        (["validate", "--max-drawdown", "nan"], "finite number"),
        (["validate", "--min-metric", "f1"], "NAME=NUMBER"),
        (["validate", "--min-metric", "f1=high"], "NAME=NUMBER"),
        (["validate", "--min-metric", "=0.5"], "NAME=NUMBER"),
        (["validate", "--min-metric", "f1=nan"], "NAME=NUMBER"),
        (["validate", "--min-backtest-sharpe", "good"], "good"),
        (["validate", "--min-backtest-trades", "0"], "greater than or equal to 1"),
        (["validate", "--min-backtest-trades", "1.5"], "integer"),
        (["validate", "--max-report-age-hours", "off"], "number"),
        (["prune", "--keep", "0"], "at least 1"),
        (["keys"], "keys_action"),
        (["keys", "destroy"], "generate"),
        (["quickstart", "--signal", "-1"], "0 (no signal) to 10"),
        (["quickstart", "--signal", "nan"], "0 (no signal) to 10"),
        (["quickstart", "--signal", "strong"], "number"),
        (["quickstart", "--seed", "-1"], "at least 0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_option_value_exits_2_and_says_what_is_expected(arguments, named, capsys):
    assert main(arguments) == 2
    err = " ".join(capsys.readouterr().err.split())
    assert f"usage: freqtrade-mlpipe {arguments[0]}" in err
    assert named in err


def closed_pipe() -> int:
    """The write end of a pipe that nobody reads any more."""
    read, write = os.pipe()
    os.close(read)
    return write


@pytest.mark.parametrize("arguments", [["--help"], ["train", "-h"], ["--version"]])
def test_output_into_a_pipe_that_was_closed_ends_quietly(arguments):
    pipe = closed_pipe()
    done = subprocess.run(
        [*CONSOLE, *arguments], stdout=pipe, stderr=subprocess.PIPE, env=ENVIRONMENT, check=False
    )
    os.close(pipe)
    assert done.stderr.decode() == ""
    assert done.returncode == 0


@pytest.mark.e2e
@pytest.mark.parametrize(
    "words, unbuffered",
    [
        (["list-models"], {}),
        (["list-models", "--json"], {"PYTHONUNBUFFERED": "1"}),
        (["doctor"], {}),
        (["verify"], {"PYTHONUNBUFFERED": "1"}),
    ],
    ids=lambda value: " ".join(value),
)
def test_listing_into_a_pipe_that_was_closed_ends_quietly(production_once, words, unbuffered):
    pipe = closed_pipe()
    command = [*CONSOLE, *words, "--userdir", str(production_once.user_data)]
    done = subprocess.run(
        command, stdout=pipe, stderr=subprocess.PIPE, env={**ENVIRONMENT, **unbuffered}, check=False
    )
    os.close(pipe)
    assert "Traceback" not in done.stderr.decode()
    assert "BrokenPipe" not in done.stderr.decode()
    assert done.returncode == 0


def test_bug_exits_1_and_asks_for_a_report(monkeypatch, logged):
    """A fault put in by hand: no known input makes the console fail like this."""
    from freqtrade_mlpipe.commands import listing

    def explode(_: object) -> int:
        raise RuntimeError("wires crossed")

    monkeypatch.setattr(listing, "start_list_models", explode)
    assert main(["list-models"]) == 1
    assert any("bug in freqtrade-mlpipe" in text for text in logged())


def test_interrupted_search_says_how_to_go_on(monkeypatch, capsys):
    def interrupt(arguments):
        raise SearchInterrupted(7, 20)

    monkeypatch.setattr("freqtrade_mlpipe.commands.lifecycle.start_train", interrupt)
    assert main(["train", "--model-name", "a", "--timerange", "20240101- "]) == 130
    err = capsys.readouterr().err
    assert "7 of 20 trials are done and kept" in err
    assert "\n  freqtrade-mlpipe train --model-name a --timerange '20240101- '\n" in err


def test_interrupted_quickstart_names_its_folder(monkeypatch, capsys, tmp_path, restore_logging):
    def interrupt(*_, **__):
        raise SearchInterrupted(1, 12)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("freqtrade_mlpipe.commands.quickstart.train_version", interrupt)
    assert main(["quickstart"]) == 130
    folder = tmp_path / "mlpipe-quickstart"
    assert f"\n  freqtrade-mlpipe quickstart --userdir {folder}\n" in capsys.readouterr().err
    assert main(["quickstart", "--userdir", str(folder)]) == 130
    assert f"\n  freqtrade-mlpipe quickstart --userdir {folder}\n" in capsys.readouterr().err


def test_interrupt_exits_130(monkeypatch, capsys):
    from freqtrade_mlpipe.commands import listing

    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(listing, "start_list_models", interrupted)
    assert main(["list-models"]) == 130
    assert "Interrupted" in capsys.readouterr().err


@pytest.mark.e2e
def test_console_script_is_installed():
    script = Path(sys.executable).with_name("freqtrade-mlpipe")
    if not script.exists():
        pytest.skip("the package is not installed beside this interpreter")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert __version__ in done.stdout


@pytest.mark.e2e
class TestJson:
    """`--json` output is for programs: strict JSON, alone on standard output."""

    def parse(self, text: str) -> object:
        def refuse(constant: str) -> object:
            raise AssertionError(f"{constant} is not JSON")

        return json.loads(text, parse_constant=refuse)

    @pytest.mark.parametrize("command", ["list-models", "show-model", "history"])
    def test_output_is_json_and_nothing_else(self, command, production_once, capsys):
        assert production_once.run(command, "--json") == 0
        found = self.parse(capsys.readouterr().out)
        assert found

    def test_listing_of_nothing_is_an_empty_list(self, untrained, capsys):
        assert untrained.run("list-models", "--json") == 0
        assert self.parse(capsys.readouterr().out) == []

    def test_validation_report_is_json_and_nothing_else(self, trained, capsys):
        assert trained.run("validate", "--json") == 0
        found = self.parse(capsys.readouterr().out)
        assert found["passed"] is True
        assert {"untouched window", "self-test", "causality"} <= {
            c["name"] for c in found["checks"]
        }

    def test_figure_that_is_no_number_is_null(self, trained, capsys):
        registry = trained.registry()
        first = registry.get_version(MODEL_NAME, "1")
        metrics = {"f1": float("nan"), "sharpe": float("inf"), "recall": 0.5}
        registry.register_model(model_name=MODEL_NAME, model_path=first.model_path, metrics=metrics)
        assert trained.run("list-models", "--json") == 0
        newest = self.parse(capsys.readouterr().out)[0]
        assert newest["metrics"] == {"f1": None, "sharpe": None, "recall": 0.5}

    def test_verdict_survives_a_reader_that_left(self, trained):
        """`validate | head -1` in a script must not read as passed."""
        pipe = closed_pipe()
        command = [*CONSOLE, "validate", "--userdir", str(trained.user_data)]
        done = subprocess.run(
            [*command, "--min-metric", "f1=0.99"],
            stdout=pipe, stderr=subprocess.PIPE, env=ENVIRONMENT, check=False,
        )  # fmt: skip
        os.close(pipe)
        assert done.returncode == 3
        assert str(trained.registry().get_version(MODEL_NAME, "1").status) == "FAILED"

    def test_refused_validation_is_json_too(self, trained, capsys):
        assert trained.run("validate", "--json", "--min-metric", "f1=0.99") == 3
        found = self.parse(capsys.readouterr().out)
        assert found["passed"] is False

    def test_subprocess_writes_json_to_standard_output_alone(self, production_once):
        done = console("list-models", "--json", "--userdir", str(production_once.user_data))
        assert done.returncode == 0
        assert [row["status"] for row in self.parse(done.stdout)] == ["PRODUCTION"]
        assert done.stderr == ""
