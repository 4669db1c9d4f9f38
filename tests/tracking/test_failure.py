"""Dead and slow servers: no training waits longer than five seconds for them, and nothing is lost."""

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient

from freqtrade_mlpipe.exceptions import TrackingError
from freqtrade_mlpipe.mlflow_store import open_store
from freqtrade_mlpipe.tracking import ExperimentTracker
from freqtrade_mlpipe.tracking.spool import Journal
from freqtrade_mlpipe.tracking.sync import sync
from tests.tracking.test_backend_contract import log_everything

NOBODY = "http://127.0.0.1:9"
LONGEST_DELAY_SECONDS = 5


@contextmanager
def listening(answer: bytes, pause: float) -> Iterator[str]:
    """A server that takes connections and gives `answer` byte by byte, each after a pause."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def talk(connection: socket.socket) -> None:
        try:
            for byte in answer:
                if over.wait(pause):
                    return
                connection.sendall(bytes([byte]))
            over.wait()
        except OSError:
            pass
        finally:
            connection.close()

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        over.set()
        listener.close()


@pytest.mark.parametrize(
    ("answer", "pause"),
    [
        pytest.param(b"", 0, id="silent"),
        # A byte a second: no single read ever waits for long.
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b" " * 5000, 0.9, id="trickling"
        ),
    ],
)
def test_a_server_that_does_not_answer_delays_a_run_by_less_than_five_seconds(
    answer: bytes, pause: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with listening(answer, pause) as url:
        tracker = ExperimentTracker(tracking_uri=url, directory=tmp_path / "mlpipe")
        # Imports are not the server's fault.
        import sklearn.metrics  # noqa: F401

        tracker._backend.connect()
        start = time.perf_counter()
        with tracker.start_run("n", {"seed": 1}):
            log_everything(tracker, tmp_path)
            tracker.flush()
        assert time.perf_counter() - start < LONGEST_DELAY_SECONDS
    assert len([r for r in caplog.records if r.name.startswith("freqtrade_mlpipe")]) == 1
    assert len(list((tracker.directory / "spool").glob("*.jsonl"))) == 1


def test_a_slow_store_does_not_hold_up_what_is_said_in_between(
    store_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = ExperimentTracker("project", directory=store_directory)
    with tracker.start_run():
        backend = tracker._channel._backend  # type: ignore[union-attr]
        log_batch = backend.log_batch
        monkeypatch.setattr(backend, "log_batch", lambda batch: (time.sleep(1), log_batch(batch)))
        start = time.perf_counter()
        for i in range(100):
            tracker.log_metrics({"f1": i}, step=i)
        assert time.perf_counter() - start < 0.5
    assert not (store_directory / "spool").exists()


@pytest.fixture
def unsent(store_directory: Path, tmp_path: Path) -> ExperimentTracker:
    """A tracker whose run found no server, and stayed in the spool."""
    tracker = ExperimentTracker("project", tracking_uri=NOBODY, directory=store_directory)
    with tracker.start_run("late", {"seed": 1}, {"kind": "test"}, data_hash="abc"):
        log_everything(tracker, tmp_path)
    return tracker


def content(client: MlflowClient, name: str) -> dict[str, object]:
    """Everything about the run called `name` that is not its id or a time."""
    experiment = client.get_experiment_by_name("project")
    assert experiment is not None
    (run,) = [
        found
        for found in client.search_runs([experiment.experiment_id])
        if found.info.run_name == name
    ]
    run_id = run.info.run_id
    children = client.search_runs(
        [experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'"
    )
    root = Path(run.info.artifact_uri.removeprefix("file://"))
    return {
        "status": run.info.status,
        "params": run.data.params,
        "kind": run.data.tags["kind"],
        "version": run.data.tags["version"],
        "history": {
            key: [(m.step, m.value) for m in client.get_metric_history(run_id, key)]
            for key in run.data.metrics
        },
        "files": {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()},
        "children": [
            (c.info.run_name, c.info.status, c.data.params, c.data.metrics) for c in children
        ],
    }


@pytest.fixture
def client(store_directory: Path) -> MlflowClient:
    return open_store(None, store_directory)


def test_what_is_sent_later_is_what_would_have_been_sent(
    unsent: ExperimentTracker, client: MlflowClient, tmp_path: Path
) -> None:
    direct = ExperimentTracker("project", directory=unsent.directory)
    with direct.start_run("direct", {"seed": 1}, {"kind": "test"}, data_hash="abc"):
        log_everything(direct, tmp_path)
    (synced,) = sync(unsent.directory)
    assert (synced.name, synced.outcome) == ("late", "sent")
    assert content(client, "late") == content(client, "direct")
    assert not (unsent.directory / "spool").exists()
    assert sync(unsent.directory) == []


def test_sending_again_changes_nothing(unsent: ExperimentTracker, client: MlflowClient) -> None:
    spool = unsent.directory / "spool"
    shutil.copytree(spool, unsent.directory / "kept")
    sync(unsent.directory)
    once = content(client, "late")
    shutil.copytree(unsent.directory / "kept", spool)  # as if it had been killed before removing it
    sync(unsent.directory)
    assert content(client, "late") == once


@pytest.mark.parametrize("step", ["log_batch", "log_files", "log_child", "finish_run"])
def test_a_sync_that_was_killed_is_completed_by_the_next(
    unsent: ExperimentTracker, client: MlflowClient, step: str
) -> None:
    code = f"""
import os, signal, sys
from pathlib import Path
from freqtrade_mlpipe.tracking.backends.mlflow import MlflowBackend
from freqtrade_mlpipe.tracking.sync import sync
done = MlflowBackend.{step}
def die(*arguments):
    done(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
MlflowBackend.{step} = die
sync(Path(sys.argv[1]))
"""
    died = subprocess.run([sys.executable, "-c", code, str(unsent.directory)], check=False)
    assert died.returncode == -signal.SIGKILL
    (synced,) = sync(unsent.directory)
    assert synced.outcome == "sent"
    late = content(client, "late")
    assert late["status"] == "FINISHED"
    assert len(late["children"]) == 1  # type: ignore[arg-type]
    assert "model/members/model.txt" in late["files"]  # type: ignore[operator]


def test_what_cannot_be_sent_stays_and_does_not_hold_up_the_rest(
    unsent: ExperimentTracker, client: MlflowClient
) -> None:
    broken = unsent.directory / "spool" / "0000.jsonl"
    broken.write_text("not json\n")
    outcomes = {one.name: one.outcome for one in sync(unsent.directory)}
    assert outcomes == {"0000": "kept", "late": "sent"}
    assert broken.read_text() == "not json\n"


def test_a_server_that_is_still_dead_keeps_everything(unsent: ExperimentTracker) -> None:
    before = sorted((unsent.directory / "spool").rglob("*"))
    (synced,) = sync(unsent.directory, NOBODY)
    assert synced.outcome == "kept"
    assert synced.reason
    assert sorted((unsent.directory / "spool").rglob("*")) == before


def test_a_line_cut_off_by_a_kill_is_left_out(
    unsent: ExperimentTracker, client: MlflowClient
) -> None:
    (journal,) = (unsent.directory / "spool").glob("*.jsonl")
    with journal.open("a") as file:
        file.write('{"operation": "bat')
    (synced,) = sync(unsent.directory)
    assert synced.outcome == "sent"


def test_a_run_that_a_living_process_still_writes_is_left_to_it(store_directory: Path) -> None:
    tracker = ExperimentTracker("project", tracking_uri=NOBODY, directory=store_directory)
    with tracker.start_run("open"):
        (synced,) = sync(store_directory)
        assert synced.outcome == "open"
    assert [one.outcome for one in sync(store_directory)] == ["sent"]


def test_only_one_process_sends_at_a_time(unsent: ExperimentTracker) -> None:
    from filelock import FileLock

    with FileLock(unsent.directory / "spool.lock"), pytest.raises(TrackingError, match="Another"):
        sync(unsent.directory)


def test_a_training_killed_with_its_run_unsent_is_sent_as_killed(
    store_directory: Path, client: MlflowClient
) -> None:
    code = f"""
import os, signal, sys
from freqtrade_mlpipe.tracking import ExperimentTracker
tracker = ExperimentTracker("project", tracking_uri={NOBODY!r}, directory=sys.argv[1])
tracker.start_run("n", {{"seed": 1}}, {{"kind": "test", "version": "1"}})
tracker.log_metrics({{"f1": 0.5}})
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code, str(store_directory)], check=False)
    (synced,) = sync(store_directory)
    assert synced.outcome == "sent"
    found = content(client, "n")
    assert found["status"] == "KILLED"
    assert found["history"] == {"f1": [(0, 0.5)]}
    assert found["params"]["seed"] == "1"  # type: ignore[index]


def test_a_journal_knows_its_run(unsent: ExperimentTracker) -> None:
    (path,) = (unsent.directory / "spool").glob("*.jsonl")
    opened = Journal(unsent.directory, path.stem).opened()
    assert (opened.backend, opened.project, opened.start.name) == ("mlflow", "project", "late")
    assert opened.owner["mlpipe.pid"] == str(os.getpid())
    assert json.loads(path.read_text().splitlines()[0])["start"]["key"] == path.stem


def test_an_unwritable_folder_is_an_error_before_the_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    tracker = ExperimentTracker(directory=tmp_path / "file")
    with pytest.raises(TrackingError, match="writable"):
        tracker.start_run()


def test_the_store_being_locked_for_a_while_loses_nothing(
    store_directory: Path, client: MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    import sqlite3
    from contextlib import closing

    tracker = ExperimentTracker("project", directory=store_directory)
    with (
        caplog.at_level(logging.WARNING),
        tracker.start_run("n") as run_id,
        closing(sqlite3.connect(store_directory / "mlflow.db", check_same_thread=False)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(1.5, other.rollback)
        release.start()
        tracker.log_metrics({"f1": 0.5})
        tracker.flush()
        release.join()
    assert client.get_run(run_id).data.metrics == {"f1": 0.5}
    assert not [r for r in caplog.records if r.name.startswith("freqtrade_mlpipe")]


def test_a_run_that_is_still_being_sent_does_not_mix_with_the_next(
    store_directory: Path, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("freqtrade_mlpipe.tracking.channel.LOCAL_PATIENCE_SECONDS", 1.0)
    tracker = ExperimentTracker("project", directory=store_directory)
    tracker._backend.connect()
    tracker._backend.fetch_runs([])
    with tracker.start_run("warm"):
        pass
    with tracker.start_run("slow") as slow:
        sending = tracker._channel
        assert sending is not None
        backend = sending._backend
        log_batch = backend.log_batch
        monkeypatch.setattr(backend, "log_batch", lambda batch: (time.sleep(2), log_batch(batch)))
        tracker.log_metrics({"of": 1.0})
    with tracker.start_run("next") as following:
        tracker.log_metrics({"of": 2.0})
    for _ in range(100):
        if not sending._journal.path.exists():
            break
        time.sleep(0.1)
    assert client.get_run(slow).data.metrics == {"of": 1.0}
    assert client.get_run(following).data.metrics == {"of": 2.0}
    assert not (store_directory / "spool").exists()
