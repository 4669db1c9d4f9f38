"""What lies in MLflow afterwards, read with MLflow's own client."""

import json
import logging
import time
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from sklearn.metrics import confusion_matrix, roc_auc_score

from freqtrade_mlpipe.config import ModelConfig
from freqtrade_mlpipe.exceptions import TrackingError
from freqtrade_mlpipe.mlflow_store import open_store
from freqtrade_mlpipe.tracking import ExperimentTracker
from freqtrade_mlpipe.tracking.environment import git_revision, package_versions


@pytest.fixture
def tracker(store_directory: Path) -> ExperimentTracker:
    return ExperimentTracker("project", directory=store_directory)


@pytest.fixture
def client(tracker: ExperimentTracker) -> MlflowClient:
    return open_store(None, tracker.directory)


def artifact(run: Run, name: str) -> str:
    root = Path(run.info.artifact_uri.removeprefix("file://"))
    return (root / name).read_text()


def test_configuration_versions_revision_and_data_hash_are_recorded(
    tracker: ExperimentTracker, client: MlflowClient
) -> None:
    config = ModelConfig(n_trials=7)
    with tracker.start_run("n", config, {"kind": "test"}, data_hash="abc") as run_id:
        pass
    run = client.get_run(run_id)
    assert run.info.run_name == "n"
    assert run.info.status == "FINISHED"
    assert run.data.params["n_trials"] == "7"
    assert run.data.params["data_hash"] == "abc"
    assert run.data.params["version.python"] == package_versions()["python"]
    assert run.data.tags["kind"] == "test"
    assert run.data.params.get("git_revision") == git_revision()
    assert json.loads(artifact(run, "config.json")) == config.model_dump(mode="json")


def test_artifacts_lie_under_the_directory_whatever_the_working_directory(
    tracker: ExperimentTracker,
    client: MlflowClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    with tracker.start_run(config={"a": 1}) as run_id:
        pass
    uri = client.get_run(run_id).info.artifact_uri
    assert uri.startswith((tracker.directory / "artifacts").as_uri())
    assert list(elsewhere.iterdir()) == []


def test_curves_and_tables_agree_with_scikit_learn(
    tracker: ExperimentTracker, client: MlflowClient
) -> None:
    random = np.random.default_rng(1)
    y = random.integers(0, 2, 5000).astype(float)
    proba = np.clip(0.3 * y + 0.7 * random.random(5000), 0, 1)
    y[:10] = np.nan
    known = ~np.isnan(y)
    with tracker.start_run() as run_id:
        tracker.log_roc_curve(y, np.column_stack([1 - proba, proba]))
        tracker.log_confusion_matrix(y, proba > 0.5)
    run = client.get_run(run_id)
    expected = roc_auc_score(y[known], proba[known])
    assert run.data.metrics["roc_auc"] == pytest.approx(expected)
    curve = pd.read_csv(StringIO(artifact(run, "roc_curve.csv")))
    assert len(curve) <= 1000
    area = np.trapezoid(curve["true_positive_rate"], curve["false_positive_rate"])
    assert area == pytest.approx(expected, abs=1e-3)
    table = pd.read_csv(StringIO(artifact(run, "confusion_matrix.csv"))).set_index("true")
    oracle = confusion_matrix(y[known], proba[known] > 0.5)
    assert (table.to_numpy() == oracle).all()


def test_trials_are_one_table_and_series_with_the_best_so_far(
    tracker: ExperimentTracker, client: MlflowClient
) -> None:
    values = [0.3, 0.5, float("nan"), 0.4, 0.6]
    trials = [
        {"number": i, "value": v, "state": "COMPLETE", "seconds": 1.0, "params": {"depth": i}}
        for i, v in enumerate(values)
    ]
    with tracker.start_run() as run_id:
        tracker.log_trials(trials)
    best = client.get_metric_history(run_id, "trial/best_value")
    assert [(m.step, m.value) for m in best] == [(0, 0.3), (1, 0.5), (3, 0.5), (4, 0.6)]
    table = pd.read_csv(StringIO(artifact(client.get_run(run_id), "trials.csv")))
    assert table["params.depth"].tolist() == [0, 1, 2, 3, 4]


def test_more_entries_than_one_batch_takes_all_arrive(
    tracker: ExperimentTracker, client: MlflowClient
) -> None:
    with tracker.start_run() as run_id:
        tracker.log_params({f"p{i}": i for i in range(250)})
        tracker.log_metrics({f"m{i}": i for i in range(2500)})
    data = client.get_run(run_id).data
    assert sum(key.startswith("p") for key in data.params) == 250
    assert len(data.metrics) == 2500


def test_a_long_parameter_is_cut_in_the_table_and_whole_in_a_file(
    tracker: ExperimentTracker, client: MlflowClient
) -> None:
    with tracker.start_run() as run_id:
        tracker.log_params({"columns": "x" * 20_000})
    run = client.get_run(run_id)
    assert run.data.params["columns"].startswith("xxx")
    assert len(artifact(run, "params/columns.txt")) == 20_000


def test_a_parameter_keeps_its_first_value_and_the_run_goes_on(
    tracker: ExperimentTracker, client: MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    with tracker.start_run() as run_id:
        tracker.log_params({"depth": 3})
        tracker.log_params({"depth": 4, "other": 1})
        tracker.log_metrics({"f1": 1.0})
    data = client.get_run(run_id).data
    assert (data.params["depth"], data.params["other"]) == ("3", "1")
    assert data.metrics["f1"] == 1.0
    assert "depth" in caplog.text


def test_pairs_and_odd_characters_in_metric_names_are_taken(
    tracker: ExperimentTracker, client: MlflowClient
) -> None:
    with tracker.start_run() as run_id:
        tracker.log_metrics({"BTC/USDT:USDT": 1.0, "größe@5%": 2.0, "nan": np.nan, "inf": np.inf})
    metrics = client.get_run(run_id).data.metrics
    assert metrics["BTC/USDT_USDT"] == 1.0
    assert np.isnan(metrics["nan"])


@pytest.mark.parametrize(
    ("exception", "status"),
    [
        (ValueError, "FAILED"),
        (KeyboardInterrupt, "KILLED"),
        (SystemExit(2), "FAILED"),
        (SystemExit(0), "FINISHED"),
    ],
)
def test_a_run_says_how_it_ended(
    tracker: ExperimentTracker, client: MlflowClient, exception: object, status: str
) -> None:
    with pytest.raises(BaseException) as caught, tracker.start_run():
        raise exception  # type: ignore[misc]
    assert caught.type is not None
    run = client.search_runs([client.get_experiment_by_name("project").experiment_id])[0]
    assert run.info.status == status


def test_credentials_are_not_recorded(tracker: ExperimentTracker, client: MlflowClient) -> None:
    config = {
        "exchange": {"name": "binance", "key": "hunter2", "secret": "hunter2"},
        "api_server": {"jwt_secret_key": "hunter2", "password": "hunter2"},
        "telegram": {"token": "hunter2"},
        "registry": {"tracking_uri": "postgresql://me:hunter2@host/db"},
    }
    with tracker.start_run(config=config) as run_id:
        pass
    run = client.get_run(run_id)
    assert "hunter2" not in json.dumps(run.data.to_dictionary())
    assert "hunter2" not in artifact(run, "config.json")
    assert run.data.params["exchange.name"] == "binance"


def test_runs_stand_side_by_side(tracker: ExperimentTracker) -> None:
    ids = []
    for depth, f1 in [(3, 0.5), (5, 0.6)]:
        with tracker.start_run(f"depth {depth}", {"depth": depth}) as run_id:
            tracker.log_metrics({"f1": f1, f"only_{depth}": 1.0})
        ids.append(run_id)
    table = tracker.compare_experiments(ids)
    assert table.index.tolist() == ids
    assert table["name"].tolist() == ["depth 3", "depth 5"]
    assert table["params.depth"].tolist() == ["3", "5"]
    assert table["metrics.f1"].tolist() == [0.5, 0.6]
    assert table["metrics.only_3"].isna().tolist() == [False, True]


def test_a_deleted_experiment_is_named_before_the_training_starts(
    tracker: ExperimentTracker, client: MlflowClient
) -> None:
    client.delete_experiment(client.create_experiment("project"))
    with pytest.raises(TrackingError, match=r"deleted.*restore"):
        tracker.start_run()


def test_a_store_that_fails_midway_is_warned_about_once_and_the_rest_spooled(
    tracker: ExperimentTracker,
    client: MlflowClient,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    (tmp_path / "note.txt").write_text("note")
    with caplog.at_level(logging.WARNING), tracker.start_run() as run_id:
        client.delete_run(run_id)  # from now on MLflow refuses to write to it
        tracker.log_metrics({"f1": 0.5})
        tracker.log_params({"depth": 3})
        tracker.log_artifact(tmp_path / "note.txt", "notes")
    warnings = [r for r in caplog.records if r.name.startswith("freqtrade_mlpipe")]
    assert len(warnings) == 1
    (journal,) = (tracker.directory / "spool").glob("*.jsonl")
    operations = [json.loads(line) for line in journal.read_text().splitlines()]
    kinds = [o["operation"] for o in operations]
    assert kinds[0] == "open"
    assert kinds[-1] == "finish"
    points = [m for o in operations if o["operation"] == "batch" for m in o["metrics"]]
    assert [point[:2] for point in points] == [["f1", 0.5]]
    (kept,) = journal.with_suffix("").rglob("note.txt")
    assert (kept.read_text(), kept.parent.name) == ("note", "notes")


def test_a_dead_server_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tracker = ExperimentTracker(tracking_uri="http://127.0.0.1:9", directory=tmp_path)
    start = time.perf_counter()
    with tracker.start_run("n", {"seed": 1}):
        for i in range(20):
            tracker.log_metrics({"f1": 0.5}, step=i)
    assert time.perf_counter() - start < 5
    assert len([r for r in caplog.records if r.name.startswith("freqtrade_mlpipe")]) == 1
    assert len(list((tmp_path / "spool").glob("*.jsonl"))) == 1


def test_the_next_run_after_a_failed_one_is_tried_again(
    tracker: ExperimentTracker, client: MlflowClient
) -> None:
    with tracker.start_run() as broken:
        client.delete_run(broken)
        tracker.log_metrics({"f1": 0.5})
    with tracker.start_run() as run_id:
        tracker.log_metrics({"f1": 0.7})
    assert client.get_run(run_id).data.metrics["f1"] == 0.7


def test_no_git_repository_is_no_failure(tmp_path: Path) -> None:
    assert git_revision(tmp_path) is None
