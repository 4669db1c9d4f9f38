"""Ctrl-C at the writes of every command that changes the registry: exit code 130, and nothing half done."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from freqtrade_mlpipe.commands.table import COMMANDS
from freqtrade_mlpipe.registry import generate_key
from freqtrade_mlpipe.registry.pending import keep_pending
from tests.conftest import MODEL_NAME, Workspace

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

WRITING = {
    "promote": ("--model-version", "3", "--force-reason", "now"),
    "rollback": (),
    "challenge": ("--model-version", "3"),
    "tag": ("--model-version", "3", "--add", "good", "--notes", "seen"),
    "archive": ("--model-version", "3"),
    "delete": ("--model-version", "3", "--yes"),
    "prune": ("--keep", "1", "--yes"),
    "doctor": ("--yes",),
    "sign": ("--model-version", "3", "--key-file", "{root}/signing.key"),
    "log-backtest": ("--latest",),
    "sync": (),
    "report": ("3", "--output", "{root}/page.html"),
}
"""What changes the registry, the experiment store or a file, and how it is called."""
READING = {
    "list-features", "list-models", "show-model", "history", "verify", "compare",
    "retrain-list", "retrain-show", "schedule", "shadow-report", "parity",
}  # fmt: skip
ELSEWHERE = {
    "train", "validate", "quickstart",  # test_interruption.py and test_console.py
    "retrain",  # test_retrain.py
    "drift",  # adds a look to a journal that is written by transactions: tests/monitoring/test_journal.py
    "init", "keys",  # write each file at once
    "freqtrade", "ui", "replay",  # other people's programs, and a server that writes nothing
}  # fmt: skip


def test_every_command_is_known_here() -> None:
    assert {row.name for row in COMMANDS} == set(WRITING) | READING | ELSEWHERE


@contextmanager
def interrupted_at(step: int | None) -> Iterator[list[str]]:
    """Ctrl-C at the n-th write (None: never); the writes that were made.

    A write is an SQL statement that changes something, a commit, or a copied, renamed or removed file.
    """
    made: list[str] = []

    def write(what: str) -> None:
        made.append(what)
        if len(made) - 1 == step:
            signal.raise_signal(signal.SIGINT)

    def statement(_c: object, _k: object, text: str, *_: object) -> None:
        if text.lstrip().upper().startswith(("INSERT", "UPDATE", "DELETE")):
            write(text[:40])

    def commit(_: object) -> None:
        write("commit")

    engine = sqlalchemy.engine.Engine
    sqlalchemy.event.listen(engine, "before_cursor_execute", statement)
    sqlalchemy.event.listen(engine, "commit", commit)
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in (
            (shutil, "copyfile"),
            (Path, "replace"),
            (Path, "rename"),
            (shutil, "rmtree"),
        ):
            patch.setattr(owner, name, _announced(getattr(owner, name), name, write))
        try:
            yield made
        finally:
            sqlalchemy.event.remove(engine, "before_cursor_execute", statement)
            sqlalchemy.event.remove(engine, "commit", commit)


def _announced(
    original: Callable[..., Any], name: str, write: Callable[[str], None]
) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        write(name)
        return original(*args, **options)

    return call


@pytest.fixture(scope="module")
def prepared_once(
    backtested_once: Workspace, tmp_path_factory: pytest.TempPathFactory
) -> Workspace:
    """Version 2 in production after 1, 3 and 4 staged, one more not registered yet; the alias is wrong."""
    workspace = backtested_once.copy_to(tmp_path_factory.mktemp("ctrl-c") / "user_data")
    generate_key(workspace.user_data / "signing.key")
    registry = workspace.registry()
    first = registry.get_version(MODEL_NAME, "1")
    for _ in range(3):
        registry.register_model(model_name=MODEL_NAME, model_path=first.model_path)
    registry.promote_to_production(MODEL_NAME, "2", force_reason="test")
    registry._connection.set_alias(MODEL_NAME, "production", "1")
    described = {"model_name": MODEL_NAME, "metrics": {}, "description": "pending"}
    record = registry.read_record(first, "training")
    keep_pending(registry.directory, first.model_path, described, "no run", record)
    return workspace


def state(workspace: Workspace) -> dict[str, Any]:
    """What users see of the registry."""
    registry = workspace.registry()
    versions = registry.get_all_versions(MODEL_NAME)
    live = registry.get_production_model(MODEL_NAME)
    page = workspace.user_data / "page.html"
    return {
        "production": live.version if live else None,
        "versions": [(v.version, str(v.status), v.tags, v.notes) for v in versions],
        "signed": [v.version for v in versions if registry.signer_of(MODEL_NAME, v.version)],
        "history": [(e.action, e.version) for e in registry.get_model_history(MODEL_NAME)],
        "backtests": sorted(registry.get_annotations(MODEL_NAME, "1")),
        "page": page.exists() and page.read_text().rstrip().endswith("</html>"),
    }


def run(workspace: Workspace, command: str) -> int:
    options = [text.format(root=workspace.user_data) for text in WRITING[command]]
    return workspace.run(command, *options)


@pytest.mark.parametrize("command", WRITING)
def test_ctrl_c_exits_130_and_leaves_the_old_or_the_new_state(
    prepared_once: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    whole = prepared_once.copy_to(tmp_path / "whole")
    before = state(whole)
    with interrupted_at(None) as writes:
        assert run(whole, command) == 0
    after = state(whole)
    assert writes
    for step in {len(writes) // 2, len(writes) - 1}:
        workspace = prepared_once.copy_to(tmp_path / f"at-{step}")
        capsys.readouterr()
        with interrupted_at(step) as made:
            code = run(workspace, command)
        assert len(made) > step
        assert code == 130, (command, step, made)
        said = capsys.readouterr().err
        assert "Interrupted" in said
        assert "Traceback" not in said
        found = state(workspace)
        assert found in (before, after), (command, step, made)
        later = datetime.now(UTC) + timedelta(days=2)
        registry = workspace.registry()
        assert all(problem.mended for problem in registry.doctor(mend=True, now=later))
        registry.doctor(mend=True, now=later)  # artifacts that went leave an empty run behind them
        assert registry.doctor(now=later) == []
        assert state(workspace) == found
