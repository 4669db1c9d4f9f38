"""`log-backtest`, `sync`, `ui`, and what `train` and `validate` leave in the experiment store."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from freqtrade_mlpipe.mlflow_store import open_store
from tests.commands.conftest import freqtrade, result_of
from tests.conftest import MODEL_NAME, Workspace
from tests.servers import free_port

NOBODY = "http://127.0.0.1:9"


def stored_figures(path: Path) -> dict[str, float]:
    """freqtrade's own figures, read without our code."""
    from zipfile import ZipFile

    with ZipFile(path) as archive:
        return json.loads(archive.read(f"{path.stem}.json"))["strategy"]["MLStrategy"]


def runs_of(workspace: Workspace) -> list:
    client = open_store(None, workspace.registry_directory)
    return client.search_runs([e.experiment_id for e in client.search_experiments()])


def backtest_runs(workspace: Workspace) -> list:
    return [run for run in runs_of(workspace) if "mlpipe.result_file" in run.data.tags
            and run.data.tags.get("mlpipe.kind") == "backtest"]  # fmt: skip


class TestLogBacktest:
    def test_result_version_and_run_lead_to_each_other(self, backtested, capsys):
        path = result_of(backtested)
        assert backtested.run("log-backtest", "--latest") == 0
        said = capsys.readouterr().out
        assert path.name in said
        assert f"{MODEL_NAME} version 1" in said
        theirs = stored_figures(path)
        (run,) = backtest_runs(backtested)
        for ours, key in {"sharpe": "sharpe", "sortino": "sortino", "calmar": "calmar", "n_trades": "total_trades",
                          "profit_total": "profit_total", "max_drawdown": "max_drawdown_account"}.items():  # fmt: skip
            assert run.data.metrics[f"backtest/{ours}"] == pytest.approx(theirs[key])
        registered = backtested.registry().get_version(MODEL_NAME, 1)
        assert run.data.tags["mlflow.parentRunId"] == registered.run_id
        assert run.data.tags["mlpipe.model_digest"] == registered.digest
        (parent,) = [r for r in runs_of(backtested) if r.info.run_id == registered.run_id]
        assert parent.data.tags["mlpipe.backtest_run"] == run.info.run_id
        assert parent.data.tags["mlpipe.result_file"] == path.name
        assert parent.data.metrics["backtest/sharpe"] == pytest.approx(theirs["sharpe"])
        assert parent.info.status == "FINISHED"
        notes = backtested.registry().get_annotations(MODEL_NAME, 1)
        (note,) = [note for key, note in notes.items() if key != "backtest.validation"]
        assert (note["run_id"], note["mlpipe.result_file"]) == (run.info.run_id, path.name)
        table = Path(run.info.artifact_uri.removeprefix("file://")) / "backtest_pairs.csv"
        pairs = {row["key"] for row in theirs["results_per_pair"]} - {"TOTAL"}
        assert {line.split(",")[0] for line in table.read_text().splitlines()[1:]} == pairs

    def test_same_result_is_logged_once(self, backtested, capsys):
        path = str(result_of(backtested))
        ids = []
        for _ in range(2):
            assert backtested.run("log-backtest", path, "--json") == 0
            ids.append(json.loads(capsys.readouterr().out)["run_id"])
        assert ids[0] == ids[1]
        assert len(backtest_runs(backtested)) == 1

    def test_figures_go_to_the_version_that_served_not_to_the_one_in_production(
        self, two_versions, tmp_path
    ):
        two_versions.configure(serving={"version": "2"})
        freqtrade(two_versions)
        two_versions.configure(serving={"version": None})
        assert two_versions.run("log-backtest", "--latest") == 0
        (run,) = backtest_runs(two_versions)
        assert run.data.tags["mlpipe.model_version"] == "2"

    def test_configuration_can_ask_for_it_to_happen_by_itself(self, production):
        production.configure(tracking={"log_backtests": True})
        freqtrade(production)
        (run,) = backtest_runs(production)
        assert run.data.tags["mlpipe.result_file"] == result_of(production).name
        assert run.info.status == "FINISHED"

    def test_without_being_asked_nothing_is_logged(self, backtested):
        assert backtest_runs(backtested) == []

    def test_result_that_does_not_say_who_served_needs_the_version(self, backtested, capsys):
        path = result_of(backtested)
        strip_mark(path)
        assert backtested.run("log-backtest", str(path)) == 2
        assert "--model-version" in capsys.readouterr().err
        assert backtested.run("log-backtest", str(path), "--model-version", "1") == 0
        assert len(backtest_runs(backtested)) == 1

    def test_version_that_contradicts_the_result_is_refused(self, backtested, capsys):
        assert backtested.run("log-backtest", "--latest", "--model-version", "7") == 2
        assert "served by version 1" in capsys.readouterr().err

    def test_result_of_another_registry_is_refused(
        self, backtested, untrained_once, tmp_path, capsys
    ):
        other = untrained_once.copy_to(tmp_path / "other")
        assert other.run("train", "--random-state", "5") == 0
        capsys.readouterr()
        assert other.run("log-backtest", str(result_of(backtested))) == 2
        assert "another registry" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ([], "--latest"),
            (["--latest", "x.zip"], "--latest"),
            (["no-such.zip"], "No backtest result"),
            (["--latest"], "Run `freqtrade backtesting`"),
        ],
    )
    def test_what_is_missing_is_said(self, production, capsys, options, says):
        assert production.run("log-backtest", *options) == 2
        assert says in capsys.readouterr().err

    @pytest.mark.parametrize("content", [b"", b"PK nonsense", b"{}"])
    def test_file_that_is_no_result_is_refused(self, production, tmp_path, capsys, content):
        path = tmp_path / "backtest-result-x.zip"
        path.write_bytes(content)
        assert production.run("log-backtest", str(path)) == 2
        assert "not a backtest result" in capsys.readouterr().err


def strip_mark(path: Path) -> None:
    from zipfile import ZipFile

    with ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    name = f"{path.stem}_config.json"
    config = json.loads(parts[name])
    del config["mlpipe_served"]
    parts[name] = json.dumps(config).encode()
    with ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)


class TestTrainingRun:
    def test_run_holds_the_training(self, trained):
        registered = trained.registry().get_version(MODEL_NAME, 1)
        runs = runs_of(trained)
        (run,) = [r for r in runs if r.info.run_id == registered.run_id]
        assert run.info.status == "FINISHED"
        assert run.data.metrics["roc_auc"] == pytest.approx(registered.metrics["roc_auc"])
        assert {"train/log_loss", "log_loss", "fold/log_loss", "importance_stability"} <= set(
            run.data.metrics
        )
        assert run.data.tags["mlpipe.model_uri"] == f"models:/{MODEL_NAME}/1"
        assert run.data.params["strategy"] == "MLStrategy"
        assert run.data.params["data.n_rows"].isdigit()
        folds = [r for r in runs if r.data.tags.get("mlflow.parentRunId") == run.info.run_id]
        assert sorted(r.info.run_name for r in folds) == ["fold 1", "fold 2"]
        assert all(
            {"train_start", "test_start", "model.num_leaves"} <= set(r.data.params) for r in folds
        )

    def test_bundle_is_in_the_run_once(self, trained):
        assert len(list((trained.registry_directory / "artifacts").rglob("manifest.json"))) == 1

    def test_version_introduces_itself_in_mlflow(self, trained):
        client = open_store(None, trained.registry_directory)
        description = client.get_model_version(MODEL_NAME, "1").description
        registered = trained.registry().get_version(MODEL_NAME, 1)
        assert f"| ROC AUC | {registered.metrics['roc_auc']:.6g} |" in description
        assert "SYNA/USDT, SYNB/USDT" in description

    def test_validation_is_logged_with_its_verdict(self, production):
        (run,) = [r for r in runs_of(production) if r.info.run_name == "validation of version 1"]
        assert run.data.tags["mlpipe.gates"] == "passed"
        report = production.registry().get_version(MODEL_NAME, 1).report
        assert report is not None
        assert run.data.metrics["backtest/n_trades"] > 0

    def test_user_error_ends_failed_with_the_reason(self, untrained, capsys):
        untrained.configure(labels={"kind": "threshold", "min_return": 0.99})
        assert untrained.run("train") == 2
        (run,) = runs_of(untrained)
        assert run.info.status == "FAILED"
        assert "class" in run.data.tags["mlpipe.reason"]

    def test_training_that_was_killed_is_closed_and_the_next_one_complete(self, untrained):
        script = (
            "import sys, os, signal; import freqtrade_mlpipe.trainer.trainer as t;"
            "t.make_report = lambda *a: os.kill(os.getpid(), signal.SIGKILL);"
            "from freqtrade_mlpipe.main import main; main(sys.argv[1:])"
        )
        died = subprocess.run(
            [sys.executable, "-c", script, "train", "--userdir", str(untrained.user_data)],
            check=False,
        )
        assert died.returncode == -signal.SIGKILL
        (killed,) = runs_of(untrained)
        assert killed.info.status == "RUNNING"
        assert killed.data.params["mlpipe.model_name"]  # said at the start, not at the end
        assert untrained.run("train") == 0
        statuses = {r.info.run_id: r.info.status for r in runs_of(untrained)}
        assert statuses.pop(killed.info.run_id) == "KILLED"
        assert set(statuses.values()) == {"FINISHED"}


class TestSync:
    def test_nothing_to_send_is_fine(self, production, capsys):
        assert production.run("sync") == 0
        assert "Nothing to send" in capsys.readouterr().out

    def test_dead_server_loses_neither_run_nor_model(self, untrained, capsys):
        untrained.configure(registry={"tracking_uri": NOBODY})
        assert untrained.run("train") == 2
        assert "freqtrade-mlpipe sync" in capsys.readouterr().err
        untrained.configure(registry={"tracking_uri": None})
        assert untrained.run("sync", "--json") == 0
        said = json.loads(capsys.readouterr().out)
        assert [one["outcome"] for one in said["runs"]] == ["sent"]
        assert said["registered"] == [{"name": MODEL_NAME, "version": "1"}]
        registered = untrained.registry().get_version(MODEL_NAME, 1)
        assert registered.metrics["n_rows"] > 0
        assert registered.run_id == said["runs"][0]["run_id"]
        (run,) = [r for r in runs_of(untrained) if r.info.run_id == registered.run_id]
        assert run.info.status == "FAILED"
        assert run.data.metrics["n_rows"] == registered.metrics["n_rows"]
        assert run.data.tags["mlpipe.model_uri"] == f"models:/{MODEL_NAME}/1"
        assert untrained.run("validate") == 0
        capsys.readouterr()
        assert untrained.run("sync", "--json") == 0
        assert json.loads(capsys.readouterr().out) == {"runs": [], "registered": []}

    def test_what_stays_is_told_with_exit_code_two(self, production, capsys):
        spool = production.registry_directory / "spool"
        spool.mkdir()
        (spool / "abc.jsonl").write_text("nonsense\n")
        assert production.run("sync", "--json") == 2
        (one,) = json.loads(capsys.readouterr().out)["runs"]
        assert (one["key"], one["outcome"]) == ("abc", "kept")


def has_mlflow_server() -> bool:
    try:
        return bool(version("mlflow"))
    except PackageNotFoundError:
        return False


class TestUi:
    @pytest.mark.skipif(has_mlflow_server(), reason="the extra `server` is installed here")
    def test_without_the_server_the_extra_is_named(self, production, capsys):
        assert production.run("ui") == 2
        assert "freqtrade-mlpipe[server]" in capsys.readouterr().err

    def test_server_of_ones_own_needs_no_other(self, production, capsys):
        production.configure(registry={"tracking_uri": "http://127.0.0.1:9"})
        assert production.run("ui") == 2
        assert "browser" in capsys.readouterr().err

    def test_port_must_be_one(self, production, capsys):
        assert production.run("ui", "--port", "70000") == 2
        assert "65535" in capsys.readouterr().err

    @pytest.mark.slow
    @pytest.mark.skipif(
        not has_mlflow_server(), reason="full mlflow is not installed: pip install '.[server]'"
    )
    @pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
    def test_pages_are_served_on_this_machine_only_until_it_is_ended(self, production, end):
        port = free_port()
        process = subprocess.Popen(
            [sys.executable, "-m", "freqtrade_mlpipe.main", "ui", "--userdir", str(production.user_data),
             "--port", str(port)], start_new_session=True,
        )  # fmt: skip
        try:
            url = f"http://127.0.0.1:{port}/api/2.0/mlflow/model-versions/get?name={MODEL_NAME}&version=1"
            assert "ROC AUC" in answer(url, process)
            if shutil.which("ss"):
                listening = subprocess.check_output(["ss", "-Hltn", f"sport = :{port}"], text=True)
                assert [line.split()[3] for line in listening.splitlines()] == [f"127.0.0.1:{port}"]
            os.killpg(process.pid, end) if end == signal.SIGINT else process.terminate()
            assert process.wait(timeout=20) == 0
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        with pytest.raises(OSError, match="refused"):
            urllib.request.urlopen(url, timeout=2)


def answer(url: str, process: subprocess.Popen) -> str:
    for _ in range(600):
        assert process.poll() is None
        try:
            with urllib.request.urlopen(url, timeout=1) as page:
                return page.read().decode()
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"no answer from {url}")
