"""What every backend must do, run on each of them."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from freqtrade_mlpipe.exceptions import TrackingError
from freqtrade_mlpipe.tracking import ExperimentTracker

BACKENDS = [
    "none",
    "mlflow",
    pytest.param("mlflow server", marks=(pytest.mark.server, pytest.mark.slow)),
    pytest.param(
        "wandb",
        marks=pytest.mark.skipif(
            find_spec("wandb") is None, reason="wandb is not installed: pip install '.[wandb]'"
        ),
    ),
]


@pytest.fixture(params=BACKENDS)
def tracker(
    request: pytest.FixtureRequest, store_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> ExperimentTracker:
    monkeypatch.setenv("WANDB_MODE", "offline")
    if request.param != "mlflow server":
        return ExperimentTracker("contract", request.param, directory=store_directory)
    url = request.getfixturevalue("server").uri
    return ExperimentTracker("contract", "mlflow", tracking_uri=url, directory=store_directory)


def log_everything(tracker: ExperimentTracker, folder: Path) -> None:
    bundle = folder / "bundle" / "members"
    bundle.mkdir(parents=True, exist_ok=True)
    (bundle / "model.txt").write_text("tree")
    (folder / "note.txt").write_text("note")
    random = np.random.default_rng(0)
    y, proba = random.integers(0, 2, 300), random.random(300)
    tracker.log_params({"depth": 3, "nested": {"rate": 0.1}, "long": "x" * 20_000})
    tracker.log_config({"model": {"n_trials": 50}})
    tracker.log_metrics({"f1": 0.6, "n": 10, "name": "text"}, prefix="oos/")
    for fold in range(3):
        tracker.log_metrics({"f1": 0.5 + fold / 10}, step=fold, prefix="fold/")
    tracker.log_feature_importance(pd.Series({"rsi_14": 2.0, "atr_14": 3.0}))
    tracker.log_confusion_matrix(y, proba > 0.5)
    tracker.log_roc_curve(y, proba)
    tracker.log_trials(
        [
            {"number": i, "value": i / 10, "state": "COMPLETE", "seconds": 1.0, "params": {"a": i}}
            for i in range(5)
        ]
    )
    tracker.log_pr_curve(y, proba)
    tracker.log_calibration_curve(y, proba)
    tracker.log_importance_stability(pd.DataFrame({"fold_1": [1.0, 2.0]}, index=["a", "b"]))
    tracker.log_fold_run("fold 1", {"depth": 3}, {"f1": 0.5}, {"mlpipe.fold": 0})
    tracker.log_json("extra.json", {"token": "t0ken", "n": 1})
    tracker.log_table("table.csv", pd.DataFrame({"a": [1]}))
    tracker.log_report(folder / "note.txt")
    tracker.log_backtest_results({"sharpe": 1.2, "pairs": {"BTC/USDT": {"profit": 0.1}}})
    tracker.log_model(folder / "bundle")
    tracker.log_artifact(folder / "note.txt", "notes")
    tracker.set_tags({"version": 3})


def test_a_whole_run_is_taken_without_a_warning(
    tracker: ExperimentTracker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with tracker.start_run("run", {"seed": 1}, {"kind": "test"}, data_hash="abc") as run_id:
        assert tracker.run_id == run_id
        log_everything(tracker, tmp_path)
    assert tracker.run_id is None
    assert not [r for r in caplog.records if r.name.startswith("freqtrade_mlpipe")]
    assert not (tracker.directory / "spool").exists()


def test_what_exists_can_be_added_to(tracker: ExperimentTracker, tmp_path: Path) -> None:
    with tracker.start_run("run") as run_id:
        tracker.log_metrics({"f1": 0.5})
    with tracker.resume_run(run_id) as again:
        assert again == run_id
        log_everything(tracker, tmp_path)
    assert not (tracker.directory / "spool").exists()


def test_runs_have_ids_of_their_own(tracker: ExperimentTracker) -> None:
    ids = []
    for _ in range(2):
        ids.append(tracker.start_run())
        tracker.finish()
    assert len(set(ids)) == 2


def test_a_second_run_is_refused_while_one_is_open(tracker: ExperimentTracker) -> None:
    tracker.start_run()
    with pytest.raises(TrackingError, match="still open"):
        tracker.start_run()
    tracker.finish()


def test_logging_without_a_run_is_an_error_that_says_so(tracker: ExperimentTracker) -> None:
    with pytest.raises(TrackingError, match="start_run"):
        tracker.log_metrics({"f1": 1.0})


def test_finishing_twice_is_harmless(tracker: ExperimentTracker) -> None:
    tracker.start_run()
    tracker.finish()
    tracker.finish("FAILED")


def test_an_exception_leaves_the_context_and_closes_the_run(tracker: ExperimentTracker) -> None:
    with pytest.raises(ZeroDivisionError), tracker.start_run():
        raise ZeroDivisionError
    assert tracker.run_id is None


@pytest.mark.parametrize(
    "call",
    [
        lambda t: t.log_roc_curve([1, 1], [0.2, 0.3]),
        lambda t: t.log_roc_curve([1, 0, 1], [0.2, 0.3]),
        lambda t: t.log_confusion_matrix([1, 0], [1]),
        lambda t: t.log_model("/no/such/folder"),
        lambda t: t.log_feature_importance({"a": "not a number"}),
        lambda t: t.log_config(object()),
    ],
)
def test_what_cannot_be_logged_does_not_stop_the_training(
    tracker: ExperimentTracker, call: object
) -> None:
    with tracker.start_run():
        call(tracker)  # type: ignore[operator]
        tracker.log_metrics({"after": 1.0})


def test_comparing_an_unknown_run_is_an_error(tracker: ExperimentTracker) -> None:
    with pytest.raises(TrackingError):
        tracker.compare_experiments(["no-such-run"])


def test_without_tracking_no_library_is_imported() -> None:
    code = (
        "import sys; from freqtrade_mlpipe.tracking import ExperimentTracker;"
        "ExperimentTracker(backend='none').start_run();"
        "print([m for m in ('mlflow','wandb','optuna','sklearn','freqtrade') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_run_reads_back_as_it_was_said(
    tracker: ExperimentTracker, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if "mlflow" not in request.node.callspec.id:
        pytest.skip("keeps nothing that can be read back without its server")
    with tracker.start_run("run", {"seed": 1}, {"kind": "test"}) as parent:
        log_everything(tracker, tmp_path)
    with tracker.start_run("part", parent=parent) as part:
        pass
    (run, below) = tracker._backend.fetch_runs([parent, part])
    assert (run.name, run.status, run.tags["kind"], run.tags["version"]) == (
        "run",
        "FINISHED",
        "test",
        "3",
    )
    assert (run.params["seed"], run.params["nested.rate"]) == ("1", "0.1")
    assert (run.metrics["oos/f1"], run.metrics["trial/best_value"]) == (0.6, 0.4)
    assert below.tags["mlflow.parentRunId"] == parent
    client = tracker._backend.client  # type: ignore[attr-defined]
    found = client.search_runs(
        [client.get_run(parent).info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'"
    )
    fold = next(child for child in found if child.info.run_name == "fold 1")
    assert (fold.info.status, fold.data.params, fold.data.metrics) == (
        "FINISHED",
        {"depth": "3"},
        {"f1": 0.5},
    )
    names = {file.path for file in client.list_artifacts(parent)}
    assert names >= {"model", "notes", "params", "report", "config.json", "trials.csv", "roc_curve.csv",
                     "pr_curve.csv", "calibration_curve.csv", "confusion_matrix.csv", "feature_importance.csv",
                     "feature_importance_folds.csv", "backtest_results.json", "table.csv"}  # fmt: skip
    copy = Path(client.download_artifacts(parent, "model/members/model.txt", str(tmp_path)))
    assert copy.read_text() == "tree"
