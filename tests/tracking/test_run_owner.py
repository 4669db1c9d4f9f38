"""Runs that killed processes left open are closed by the next command; nobody else's are touched."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient

from freqtrade_mlpipe.mlflow_store import open_store
from freqtrade_mlpipe.run_owner import close_orphans, owner_is_gone, owner_tags
from freqtrade_mlpipe.tracking import ExperimentTracker

KILLED = """
import os, signal, sys
from freqtrade_mlpipe.tracking import ExperimentTracker
tracker = ExperimentTracker("project", directory=sys.argv[1])
run_id = tracker.start_run("n", {"seed": 1})
print(run_id, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def client(store_directory: Path) -> MlflowClient:
    return open_store(None, store_directory)


def test_the_run_of_a_killed_process_is_closed_with_the_reason(
    store_directory: Path, client: MlflowClient
) -> None:
    died = subprocess.run(
        [sys.executable, "-c", KILLED, str(store_directory)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert died.returncode == -signal.SIGKILL
    run_id = died.stdout.strip()
    assert client.get_run(run_id).info.status == "RUNNING"
    assert close_orphans(client) == [run_id]
    run = client.get_run(run_id)
    assert run.info.status == "KILLED"
    assert run.info.end_time is not None
    assert "without closing" in run.data.tags["mlpipe.reason"]
    assert close_orphans(client) == []


def test_the_run_of_a_living_process_stays_open(
    store_directory: Path, client: MlflowClient
) -> None:
    with ExperimentTracker("project", directory=store_directory).start_run() as run_id:
        assert close_orphans(client) == []
        assert client.get_run(run_id).info.status == "RUNNING"


def test_runs_of_others_are_not_touched(client: MlflowClient) -> None:
    experiment = client.create_experiment("theirs")
    for tags in ({}, owner_tags() | {"mlpipe.host": "elsewhere", "mlpipe.pid": "1"}):
        client.create_run(experiment, tags=tags)
    assert close_orphans(client) == []


def test_an_id_that_is_used_again_is_another_process() -> None:
    mine = owner_tags()
    assert not owner_is_gone(mine)
    earlier = float(mine["mlpipe.process_started"]) - 100
    assert owner_is_gone(mine | {"mlpipe.process_started": f"{earlier:.2f}"})


def test_a_zombie_is_gone() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = psutil.Process(child.pid).create_time()
    tags = owner_tags() | {"mlpipe.pid": str(child.pid), "mlpipe.process_started": f"{started:.2f}"}
    assert not owner_is_gone(tags)
    os.kill(child.pid, signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert owner_is_gone(tags)
    child.wait()
    assert owner_is_gone(tags)


@pytest.mark.parametrize("tags", [{}, {"mlpipe.pid": "x"}, {"mlpipe.pid": "1"}])
def test_without_proof_a_run_is_somebodys(tags: dict[str, str]) -> None:
    assert not owner_is_gone({**tags, "mlpipe.host": owner_tags()["mlpipe.host"]})
