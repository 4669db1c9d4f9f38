"""A `train` that is interrupted or killed: the registry keeps working, and holds nothing half-made."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import MODEL_NAME, Workspace

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PATIENCE_SECONDS = 90
MANY_TRIALS = {"optimize_hyperparams": True, "n_trials": 100_000, "parameters": {}}


@pytest.fixture
def start() -> Callable[[Workspace], subprocess.Popen[bytes]]:
    """Starts `train` in a process group of its own, as a terminal does; what still runs is ended."""
    started: list[subprocess.Popen[bytes]] = []

    def run(workspace: Workspace) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "freqtrade_mlpipe.main", "train"]
        process = subprocess.Popen(
            [*command, "--userdir", str(workspace.user_data)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_until(happened: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert process.poll() is None, process.communicate()[1].decode()
        assert time.monotonic() < deadline, "it did not get that far in time"
        time.sleep(0.02)


def run_statuses(workspace: Workspace) -> list[str]:
    database = workspace.registry_directory / "mlflow.db"
    if not database.exists():
        return []
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as connection:
        try:
            return [status for (status,) in connection.execute("SELECT status FROM runs")]
        except sqlite3.OperationalError:
            return []


def is_training(workspace: Workspace) -> Callable[[], bool]:
    return lambda: "RUNNING" in run_statuses(workspace)


def serves(workspace: Workspace) -> bool:
    strategy = workspace.strategy()
    strategy.ft_bot_start()
    return strategy._current("SYNA/USDT") is not None


def test_interrupt_exits_130_and_leaves_production_as_it_was(production, start):
    production.configure(model=MANY_TRIALS)
    process = start(production)
    wait_until(is_training(production), process)
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130
    assert b"Interrupted" in err
    assert b"Traceback" not in err
    assert "RUNNING" not in run_statuses(production)
    found = production.registry().get_all_versions(MODEL_NAME)
    assert [(version.version, str(version.status)) for version in found] == [("1", "PRODUCTION")]
    assert serves(production)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_or_killed_search_goes_on_where_it_ended(production, start, end):
    production.configure(model=MANY_TRIALS)
    process = start(production)
    wait_until(lambda: n_trials_kept(production) >= 2, process)
    os.killpg(process.pid, end)
    _, err = process.communicate(timeout=PATIENCE_SECONDS)
    kept = n_trials_kept(production)
    if end == signal.SIGINT:
        assert process.returncode == 130
        assert f"Interrupted: {kept} of 100000 trials are done and kept".encode() in err
        assert f"freqtrade-mlpipe train --userdir {production.user_data}".encode() in err
    production.configure(model={**MANY_TRIALS, "n_trials": kept + 1})
    assert production.run("train") == 0
    assert n_trials_kept(production) == kept + 1
    (version, _) = production.registry().get_all_versions(MODEL_NAME)
    assert version.metrics["n_trials"] == kept + 1


def n_trials_kept(workspace: Workspace) -> int:
    """Trials that ended by themselves, as Optuna itself reads them."""
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalStorage

    journals = list((workspace.registry_directory / "searches").glob("*.journal"))
    if not journals:
        return 0
    (journal,) = journals
    copy = journal.with_suffix(".copy")
    copy.write_bytes(journal.read_bytes()[: journal.read_bytes().rfind(b"\n") + 1])
    storage = JournalStorage(JournalFileBackend(str(copy)))
    studies = optuna.get_all_study_names(storage)
    if not studies:
        return 0
    study = optuna.load_study(study_name=studies[0], storage=storage)
    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    return len(study.get_trials(states=states))


def test_kill_while_training_leaves_production_as_it_was_and_the_next_run_works(production, start):
    small = {"optimize_hyperparams": False, "n_trials": 1}
    production.configure(model=MANY_TRIALS)
    process = start(production)
    wait_until(is_training(production), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert [str(v.status) for v in production.registry().get_all_versions(MODEL_NAME)] == [
        "PRODUCTION"
    ]
    assert serves(production)
    production.configure(model=small)
    assert production.run("train", "--random-state", "5") == 0
    assert [v.version for v in production.registry().get_all_versions(MODEL_NAME)] == ["2", "1"]


def test_kill_while_the_registry_is_being_made_does_not_spoil_it(untrained, start):
    for path in untrained.registry_directory.iterdir():
        path.unlink()
    process = start(untrained)
    unfinished = "mlflow.db.unfinished"
    wait_until(lambda: (untrained.registry_directory / unfinished).exists(), process)
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (untrained.registry_directory / "mlflow.db").exists()
    assert untrained.run("train") == 0
    leftovers: list[Path] = list(untrained.registry_directory.glob(f"{unfinished}*"))
    assert leftovers == []


def test_kill_while_registering_leaves_none_or_a_whole_version(production, start):
    """The kill lands as soon as the bundle's files appear among the run's artifacts."""
    process = start(production)
    artifacts = production.registry_directory / "artifacts"
    before = set(artifacts.rglob("manifest.json"))
    wait_until(lambda: set(artifacts.glob("*/artifacts/mlpipe/*/*")) - _files(before), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    registry = production.registry()
    for version in registry.get_all_versions(MODEL_NAME):
        assert registry.load_bundle(MODEL_NAME, version.version).members
    assert registry.get_production_model(MODEL_NAME).version == "1"
    assert serves(production)


def _files(manifests: set[Path]) -> set[Path]:
    return {path for manifest in manifests for path in manifest.parent.iterdir()}
