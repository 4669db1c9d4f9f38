"""What `docs/deploy` starts: every command line is one that its program accepts, and the files are sound."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
import pytest
import yaml

from freqtrade_mlpipe.commands.table import COMMANDS
from freqtrade_mlpipe.main import _parser

DEPLOY = Path(__file__).parents[2] / "docs" / "deploy"
UNITS = sorted((DEPLOY / "systemd").iterdir())


def compose() -> dict:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def lines() -> Iterator[tuple[str, list[str]]]:
    """Where it stands, and the words of the command."""
    for name, service in compose()["services"].items():
        if "entrypoint" in service:
            yield f"compose {name}", service["entrypoint"]
    for unit in UNITS:
        for line in unit.read_text().splitlines():
            if line.startswith("ExecStart="):
                program, *words = shlex.split(line.removeprefix("ExecStart="))
                yield unit.name, [Path(program).name, *words]


def ours(words: Sequence[str]) -> None:
    command = next(row for row in COMMANDS if row.name == words[0])
    _parser(command).parse_args(words[1:])


def freqtrades(words: Sequence[str]) -> None:
    from freqtrade.commands.arguments import Arguments

    assert Arguments(list(words)).get_parsed_arg()["command"] == words[0]


def dasks(words: Sequence[str]) -> None:
    reason = "Dask is not installed: pip install '.[dask]'"
    pytest.importorskip("distributed", reason=reason)
    from distributed.cli import dask_scheduler, dask_worker

    mains = {"scheduler": dask_scheduler.main, "worker": dask_worker.main}
    mains[words[0]].make_context(words[0], list(words[1:]))


def mlflows(words: Sequence[str]) -> None:
    from mlflow.cli import cli

    command = cli.get_command(None, words[0])
    command.make_context(words[0], list(words[1:]))


ACCEPTS: dict[str, Callable[[Sequence[str]], None]] = {
    "freqtrade-mlpipe": ours,
    "freqtrade": freqtrades,
    "dask": dasks,
    "mlflow": mlflows,
}


@pytest.mark.parametrize("where, words", list(lines()), ids=lambda value: str(value)[:40])
def test_its_program_accepts_the_command(where, words):
    ACCEPTS[words[0]](words[1:])


@pytest.mark.parametrize("program", ACCEPTS)
def test_an_option_that_does_not_exist_is_noticed(program):
    words = next(words for _, words in lines() if words[0] == program)
    with pytest.raises((SystemExit, click.UsageError)):
        ACCEPTS[program]([*words[1:], "--no-such-thing"])


def test_compose_refers_to_what_is_there():
    found = compose()
    stages = {
        line.split()[-1]
        for line in (DEPLOY / "Dockerfile").read_text().splitlines()
        if line.startswith("FROM")
    }
    for service in found["services"].values():
        assert set(service.get("depends_on", ())) <= set(found["services"])
        assert service.get("build", {"target": "mlpipe"})["target"] in stages
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert source.startswith("./") or source in found["volumes"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
def test_systemd_accepts_the_units(tmp_path):
    """It looks for the programs, too: some that exist stand in for those of a server."""
    for unit in UNITS:
        programs = [w[0] for where, w in lines() if where == unit.name]
        text = unit.read_text()
        for line in text.splitlines():
            if line.startswith("ExecStart="):
                text = text.replace(shlex.split(line.partition("=")[2])[0], "/bin/true")
        assert programs or unit.suffix == ".timer"
        (tmp_path / unit.name.replace("@", "@1")).write_text(text)
    command = ["systemd-analyze", "verify", "--man=no", *map(str, sorted(tmp_path.iterdir()))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if str(tmp_path) in line or "mlpipe" in line]
    assert done.returncode == 0, done.stderr
    assert said == []
