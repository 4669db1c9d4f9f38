"""`retrain`: the whole of it on real candles files, registry and freqtrade; what is kept, what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sqlalchemy

from freqtrade_mlpipe.registry import ModelRegistry
from freqtrade_mlpipe.retraining.study import Study, only_one
from tests.conftest import MODEL_NAME, Workspace
from tests.servers import Server, free_port

pytestmark = pytest.mark.e2e

PATIENCE_SECONDS = 300
SMALL = ("--spaces", "model", "signal", "--model-type", "lightgbm", "--min-trades", "5", "-j", "1")


def words(text: str) -> str:
    return " ".join(text.split())


def retrain(workspace: Workspace, *options: str, code: int = 0) -> None:
    assert workspace.run("retrain", *SMALL, *options) == code


def study(workspace: Workspace) -> Study:
    (path,) = (workspace.registry_directory / "retraining").glob("*/study.json")
    return Study(path.parent)


def versions(workspace: Workspace) -> dict[str, str]:
    return {v.version: str(v.status) for v in workspace.registry().get_all_versions(MODEL_NAME)}


def member_bytes(
    workspace: Workspace, version: str, registry: str | None = None, name: str = MODEL_NAME
) -> list[str]:
    store = ModelRegistry(registry, workspace.registry_directory)
    folder = Path(store.get_version(name, version).model_path)
    return [hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.glob("members/*/*"))]


@pytest.fixture(scope="module")
def retrained_once(
    production_once: Workspace, tmp_path_factory: pytest.TempPathFactory
) -> Workspace:
    """Version 1 was in production; version 2 is the winner of eight epochs, promoted."""
    workspace = production_once.copy_to(tmp_path_factory.mktemp("retrained") / "user_data")
    retrain(workspace, "--epochs", "8", "--promote")
    return workspace


@pytest.fixture
def retrained(retrained_once: Workspace, tmp_path: Path) -> Workspace:
    return retrained_once.copy_to(tmp_path / "user_data")


class TestWinner:
    def test_it_is_in_production_and_is_what_the_best_epoch_says(self, retrained):
        assert versions(retrained) == {"2": "PRODUCTION", "1": "ARCHIVED"}
        epochs = study(retrained).epochs()
        assert [epoch.number for epoch in epochs] == list(range(1, 9))
        best = min(epochs, key=lambda epoch: epoch.loss)
        settings = retrained.registry().load_bundle(MODEL_NAME, "2").manifest.model_settings
        for name, value in best.params.items():
            key = name.partition(".")[2]
            held = settings["parameters"] if name.startswith("lightgbm.") else settings
            assert held[key] == value

    def test_epochs_count_as_trials_of_the_deflated_sharpe_ratio(self, retrained):
        import numpy as np

        metrics = retrained.registry().get_version(MODEL_NAME, "2").metrics
        sharpes = [epoch.judgement.sharpe for epoch in study(retrained).epochs()]
        assert metrics["n_trials"] == 8
        assert metrics["trial_sharpe_variance"] == pytest.approx(np.var(sharpes, ddof=1))

    def test_training_ends_where_the_final_window_of_the_search_begins(self, retrained):
        import pandas as pd

        manifest = retrained.registry().load_bundle(MODEL_NAME, "2").manifest
        window = pd.Timestamp(study(retrained).description()["final_window_start"])
        assert pd.Timestamp(manifest.final_window_start) == window
        assert pd.Timestamp(manifest.train_end) < window

    def test_the_winner_is_the_challenger_until_the_next_one(self, retrained):
        assert retrained.registry().get_challenger(MODEL_NAME) is None  # version 2 was promoted
        retrain(retrained, "--epochs", "2", "--random-state", "5")
        assert retrained.registry().get_challenger(MODEL_NAME).version == "3"

    def test_the_same_search_again_does_nothing_new(self, retrained, capsys):
        log = study(retrained).log.path
        before = log.read_bytes()
        capsys.readouterr()
        retrain(retrained, "--epochs", "8", "--promote", "--print-json")
        found = json.loads(capsys.readouterr().out)
        assert (found["model_version"], found["promoted"], found["production"]) == (
            "2",
            False,
            True,
        )
        assert log.read_bytes() == before
        history = retrained.registry().get_model_history(MODEL_NAME)
        assert [entry.action for entry in history] == ["promote", "challenge", "promote"]

    def test_a_version_whose_note_was_lost_in_a_kill_is_found_again(self, retrained):
        retrained.registry().tag_model(MODEL_NAME, "2", notes=_note_of(retrained))
        (study(retrained).folder / "outcome.json").unlink()
        retrain(retrained, "--epochs", "8")
        assert sorted(versions(retrained)) == ["1", "2"]


def _note_of(workspace: Workspace) -> str:
    epochs = study(workspace).epochs()
    best = min(epochs, key=lambda epoch: epoch.loss)
    return f"retrain {study(workspace).name}: epoch {best.number} of {len(epochs)}"


class TestGates:
    def test_a_refused_winner_leaves_the_champion(self, production, capsys):
        retrain(production, "--epochs", "2", "--promote", "--min-backtest-sharpe", "999", code=3)
        assert versions(production) == {"2": "FAILED", "1": "PRODUCTION"}
        assert "was refused; production stays as it was" in words(capsys.readouterr().out)

    def test_without_promote_a_winner_that_passes_waits(self, production, capsys):
        retrain(production, "--epochs", "2")
        assert versions(production)["1"] == "PRODUCTION"
        assert f"promote --model-name {MODEL_NAME} --model-version 2" in words(
            capsys.readouterr().out
        )


class TestWorkers:
    @pytest.mark.slow
    def test_two_workers_make_the_same_epochs_and_the_same_model(self, retrained_once, production):
        options = [word for word in SMALL if word not in ("-j", "1")]
        assert production.run("retrain", *options, "-j", "2", "--epochs", "8") == 0
        one, two = (study(w).epochs() for w in (retrained_once, production))
        assert [(e.params, e.judgement) for e in one] == [(e.params, e.judgement) for e in two]
        assert study(production).name == study(retrained_once).name
        assert member_bytes(production, "2") == member_bytes(retrained_once, "2")

    @pytest.mark.slow
    def test_a_dask_cluster_over_tls_that_loses_a_worker_makes_them_too(
        self, retrained_once, production, tmp_path, capsys
    ):
        """With the certificates that docs/deploy makes; without them nobody gets in."""
        reason = "Dask is not installed: pip install '.[dask]'"
        pytest.importorskip("distributed", reason=reason)
        from dask.config import config, merge
        from dask.config import set as configured

        options = ["--epochs", "8", *SMALL]
        with dask_cluster(tmp_path) as (address, settings, workers):
            assert production.run("retrain", *options, "--dask", address) == 2
            assert "certificates" in words(capsys.readouterr().err)
            with (
                configured(merge(config, settings)),
                when(lambda: n_kept(production) > 0, workers[0].kill),
            ):
                assert production.run("retrain", *options, "--dask", address) == 0
            assert workers[0].wait() == -signal.SIGKILL
        same_search(retrained_once, production, version="2")

    @pytest.mark.slow
    @pytest.mark.server
    def test_a_killed_helper_and_a_restarted_database_lose_no_epoch(
        self, retrained_once, untrained, request
    ):
        """A helper joins by the study's name and dies at work; registry and tracking are an MLflow server, too."""
        pytest.importorskip("psycopg2", reason="psycopg2 is not installed: pip install '.[server]'")
        server: Server = request.getfixturevalue("server")
        untrained.configure(registry={"tracking_uri": server.uri}, model_name="together")
        options = ["--epochs", "8", *SMALL, "--storage", server.database]
        name = study(retrained_once).name.replace(MODEL_NAME, "together")
        command = [sys.executable, "-m", "freqtrade_mlpipe.main", "retrain", "--userdir",
                   str(untrained.user_data), *options, "--join", name]  # fmt: skip
        helper = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while {row.done for row in board(server, name)} != {True, False}:
            assert helper.poll() is None, helper.communicate()[1].decode()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        helper.kill()
        helper.communicate()
        kept = {row for row in board(server, name) if row.done}
        ask(server, "UPDATE mlpipe_epochs SET beat = beat - 1000")  # time passes

        def restart() -> None:
            server.postgres.send_signal(signal.SIGINT)
            server.postgres.wait(60)
            server.start_postgres()

        with when(lambda: len([r for r in board(server, name) if r.done]) > len(kept), restart):
            assert untrained.run("retrain", *options) == 0
        server.wait_until_ready()
        found = board(server, name)
        assert [row.number for row in found if row.done] == list(range(1, 9))
        assert kept <= set(found)
        assert len({row.worker for row in found}) == 2
        same_search(retrained_once, untrained, version="1", registry=server.uri, name="together")


def same_search(one: Workspace, other: Workspace, version: str, **of: str) -> None:
    """Every epoch, and the bytes of the model."""
    mine, theirs = (study(w).epochs() for w in (one, other))
    assert [(e.params, e.judgement) for e in mine] == [(e.params, e.judgement) for e in theirs]
    assert member_bytes(other, version, **of) == member_bytes(one, "2") != []


@contextmanager
def when(happened: Callable[[], bool], then: Callable[[], object]) -> Iterator[None]:
    """Do something as soon as something has happened while the block runs; it must have."""
    over, done = threading.Event(), []

    def watch() -> None:
        while not over.wait(0.02):
            if happened():
                done.append(then())
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert done


@contextmanager
def dask_cluster(folder: Path) -> Iterator[tuple[str, dict[str, Any], list[subprocess.Popen]]]:
    """A scheduler and two workers that speak TLS only; its address, what a client must know, and the workers."""
    import yaml

    if shutil.which("openssl") is None:
        pytest.skip("openssl is not here")
    script = Path(__file__).parents[2] / "docs" / "deploy" / "certificates.sh"
    subprocess.run(["sh", script, folder / "tls"], check=True, capture_output=True)
    known = folder / "tls" / "dask.yaml"
    address = f"tls://127.0.0.1:{free_port()}"

    def dask(*words: str) -> subprocess.Popen:
        with (folder / f"{words[0]}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "dask", *words, "--no-dashboard"],
                env={**os.environ, "DASK_CONFIG": str(known)}, cwd=folder, stdout=log, stderr=log,
            )  # fmt: skip

    host, port = address.removeprefix("tls://").split(":")
    scheduler = dask("scheduler", "--protocol", "tls", "--host", host, "--port", port)
    workers = [dask("worker", address, "--nthreads", "1", "--no-nanny") for _ in range(2)]
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (folder / "scheduler.log").read_text().count("Register worker") < 2:
            assert time.monotonic() < deadline, (folder / "scheduler.log").read_text()[-2000:]
            time.sleep(0.05)
        yield address, yaml.safe_load(known.read_text()), workers
    finally:
        for process in (*workers, scheduler):
            process.kill()
            process.wait()


class Row(NamedTuple):
    number: int
    worker: str
    done: bool
    epoch: str | None


def board(server: Server, name: str) -> list[Row]:
    """Epochs of a shared search by number; none while there is no table, or no database."""
    query = "SELECT number, worker, epoch IS NOT NULL, epoch FROM mlpipe_epochs WHERE study = :name ORDER BY number"
    try:
        return [Row(*row) for row in ask(server, query, name=name)]
    except sqlalchemy.exc.DBAPIError:
        return []


def ask(server: Server, query: str, **values: str) -> list[Any]:
    engine = sqlalchemy.create_engine(server.database)
    try:
        with engine.begin() as connection:
            found = connection.execute(sqlalchemy.text(query), values)
            return list(found) if found.returns_rows else []
    finally:
        engine.dispose()


class TestInterruption:
    @pytest.mark.slow
    @pytest.mark.parametrize("end, n_jobs", [(signal.SIGKILL, 2), (signal.SIGINT, 1)])
    def test_it_goes_on_where_it_ended(self, production, retrained_once, end, n_jobs):
        options = [word for word in SMALL if word not in ("-j", "1")]
        command = [sys.executable, "-m", "freqtrade_mlpipe.main", "retrain", "--userdir",
                   str(production.user_data), *options, "-j", str(n_jobs), "--epochs", "100000"]  # fmt: skip
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        try:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while n_kept(production) < 3:
                assert process.poll() is None, process.communicate()[1].decode()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            children = children_of(process.pid)
            if end == signal.SIGKILL:
                process.kill()  # itself only: its workers must notice
            else:
                os.killpg(process.pid, end)
            _, err = process.communicate(timeout=PATIENCE_SECONDS)
            while any(Path(f"/proc/{pid}").exists() for pid in children):
                assert time.monotonic() < deadline, "a worker outlives its master"
                time.sleep(0.05)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if end == signal.SIGINT:
            assert process.returncode == 130
            assert b"100000 epochs are done and kept" in err
            assert b"Traceback" not in err
        kept = study(production).log.read()
        retrain(production, "--epochs", "8")
        assert sorted(versions(production)) == ["1", "2"]
        found = {e.number: (e.params, e.judgement) for e in study(production).epochs()}
        wanted = {e.number: (e.params, e.judgement) for e in study(retrained_once).epochs()}
        assert {number: found[number] for number in wanted} == wanted
        assert all(study(production).log.read()[n].seconds == kept[n].seconds for n in kept)
        assert member_bytes(production, "2") == member_bytes(retrained_once, "2")


def n_kept(workspace: Workspace) -> int:
    logs = list((workspace.registry_directory / "retraining").glob("*/epochs.jsonl"))
    return logs[0].read_bytes().count(b"\n") if logs else 0


def children_of(pid: int) -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


class TestRefusals:
    @pytest.fixture
    def refused(self, capsys: pytest.CaptureFixture[str]) -> Any:
        def run(workspace: Workspace, *options: str) -> str:
            capsys.readouterr()
            assert workspace.run("retrain", *options) == 2
            err = words(capsys.readouterr().err)
            assert err.startswith("Error: ")
            assert "Traceback" not in err
            assert list((workspace.registry_directory / "retraining").glob("*/epochs.jsonl")) == []
            return err

        return run

    def test_two_never_run(self, untrained, refused):
        with only_one(untrained.registry_directory, MODEL_NAME):
            assert "Another process is retraining" in refused(untrained, *SMALL)

    def test_what_cannot_work_is_said_before_work_starts(self, untrained, refused):
        assert "NoSuchLoss" in refused(untrained, "--hyperopt-loss", "NoSuchLoss")
        assert "cannot be compared" in refused(untrained, "--metric", "log_loss")
        assert "does not suit the task" in refused(
            untrained, "--metric", "rmse", "--spaces", "model"
        )
        untrained.configure(retrain={"choices": {"labels.horizont": [3]}})
        assert "Did you mean 'labels.horizon_candles'" in refused(untrained)

    def test_no_epoch_worth_anything_is_said(self, untrained, capsys):
        options = ["--epochs", "2", "--spaces", "signal", "--min-trades", "99999", "-j", "1"]
        assert untrained.run("retrain", *options) == 2
        assert "fewer trades than --min-trades" in words(capsys.readouterr().err)


class TestLooking:
    def test_list_shows_the_epochs_and_what_became_of_them(self, retrained_once, capsys):
        capsys.readouterr()
        assert retrained_once.run("retrain-list") == 0
        out = words(capsys.readouterr().out)
        assert "8 of 8 epochs" in out
        assert "version 2 was trained from epoch" in out

    def test_filters_are_those_of_hyperopt_list(self, retrained_once, capsys):
        epochs = study(retrained_once).epochs()
        trades = sorted(epoch.judgement.metrics["total_trades"] for epoch in epochs)
        options = ["--min-trades", str(trades[3]), "--print-json"]
        capsys.readouterr()
        assert retrained_once.run("retrain-list", *options) == 0
        found = json.loads(capsys.readouterr().out)["epochs"]
        assert sorted(e["results"]["total_trades"] for e in found) == [
            n for n in trades if n > trades[3]
        ]
        assert retrained_once.run("retrain-list", "--best", "--print-json") == 0
        best = json.loads(capsys.readouterr().out)["epochs"]
        losses = [epoch["loss"] for epoch in best]
        assert losses == sorted(losses, reverse=True)
        assert losses[-1] == min(epoch.loss for epoch in epochs)

    def test_show_tells_what_an_epoch_set(self, retrained_once, capsys):
        capsys.readouterr()
        assert retrained_once.run("retrain-show", "-n", "2") == 0
        out = capsys.readouterr().out
        assert "2/8:" in out
        assert '"lightgbm.feature_fraction"' in out
        assert retrained_once.run("retrain-show", "-n", "99") == 2
        assert "There are 8 epochs" in words(capsys.readouterr().err)

    def test_without_a_search_there_is_nothing_to_show(self, untrained, capsys):
        assert untrained.run("retrain-list") == 2
        assert "Start one with `freqtrade-mlpipe retrain`" in words(capsys.readouterr().err)
