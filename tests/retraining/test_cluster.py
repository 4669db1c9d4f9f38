"""Epochs on a Dask cluster of real processes: the same as alone, also when a worker is killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from freqtrade_mlpipe.exceptions import ConfigError
from freqtrade_mlpipe.retraining import Epoch, EpochLog, Proposals
from freqtrade_mlpipe.retraining.search import search
from freqtrade_mlpipe.retraining.workers import Remote, cluster
from tests.retraining.test_search import PLAN, SPACE, judged, run, tried

distributed = pytest.importorskip(
    "distributed", reason="Dask is not installed: pip install '.[dask]'"
)


def judged_elsewhere(folder: str, number: int, params: dict) -> Epoch:
    """Leaves a mark of its process when it begins."""
    (Path(folder) / f"{number}-{os.getpid()}").touch()
    time.sleep(0.05)
    return judged(number, params)


@pytest.mark.slow
def test_a_cluster_makes_the_epochs_of_a_search_alone_though_a_worker_is_killed(tmp_path):
    (tmp_path / "alone").mkdir()
    (tmp_path / "marks").mkdir()
    alone = run(tmp_path / "alone")
    log, killed = EpochLog(tmp_path / "epochs.jsonl"), []

    def kill_one() -> None:
        while len(log.read()) < 5:
            time.sleep(0.01)
        newest = max((tmp_path / "marks").iterdir(), key=lambda path: path.stat().st_mtime)
        killed.append(int(newest.name.partition("-")[2]))
        os.kill(killed[0], signal.SIGKILL)

    thread = threading.Thread(target=kill_one)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as local:
        thread.start()
        with cluster(local.scheduler_address) as executor:
            workers = Remote(executor, judged_elsewhere, str(tmp_path / "marks"))
            found = search(PLAN, Proposals(SPACE, PLAN.seed), workers, log, lambda epoch: None)
        thread.join()
    assert tried(found) == tried(alone)
    assert sorted(log.read()) == list(range(1, 31))
    assert log.path.read_bytes().count(b"\n") == 30
    pids = {path.name.partition("-")[2] for path in (tmp_path / "marks").iterdir()}
    assert len(pids) >= 2
    assert str(killed[0]) in pids


def test_no_scheduler_is_said(monkeypatch):
    monkeypatch.setattr("freqtrade_mlpipe.retraining.workers._CONNECT_SECONDS", 1)
    with (
        pytest.raises(ConfigError, match="No Dask scheduler answers"),
        cluster("tcp://127.0.0.1:9"),
    ):
        pass
