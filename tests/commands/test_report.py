"""`report` and `compare` on versions that the commands themselves trained and validated."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from freqtrade_mlpipe.registry import Record
from freqtrade_mlpipe.registry.facts import BacktestFacts, TrainingFacts
from tests.conftest import MODEL_NAME, Workspace

CHARTS = {
    "timeline", "fold-ranking", "fold-skill", "roc", "precision", "calibration", "distribution",
    "returns", "gain", "permutation", "shap", "selection", "drift", "equity", "prices", "trades",
}  # fmt: skip


def page_of(workspace: Workspace, *options: str) -> str:
    target = workspace.user_data / "page.html"
    assert workspace.run("report", *options, "-o", str(target)) == 0
    return target.read_text(encoding="utf-8")


def drawn(page: str) -> set[str]:
    return set(re.findall(r'data-figure="([\w-]+)"', page))


def run_id(workspace: Workspace, version: int = 1) -> str:
    found: str = workspace.registry().get_version(MODEL_NAME, version).run_id
    return found


def test_a_production_version_has_the_whole_page(production: Workspace) -> None:
    page = page_of(production)
    assert drawn(page) == CHARTS  # no search was made
    assert "In production" in page
    assert "No search was made" in page
    assert "passed all" in page


@pytest.mark.parametrize("wanted", ["1", "latest", "production", f"{MODEL_NAME}:1", "RUN"])
def test_a_version_goes_by_number_word_name_and_run(production: Workspace, wanted: str) -> None:
    page = page_of(production, run_id(production) if wanted == "RUN" else wanted)
    assert f"{MODEL_NAME}, version 1" in page


def test_a_version_that_was_only_trained_says_what_is_missing(trained: Workspace) -> None:
    page = page_of(trained)
    assert drawn(page) == CHARTS - {"equity", "prices", "trades"}
    assert "Not validated" in page
    assert "No backtest yet" in page


def test_the_page_goes_below_the_registry_unless_told(
    trained: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trained.run("report") == 0
    written = Path(capsys.readouterr().out.strip())
    assert written == trained.registry_directory / "reports" / f"{MODEL_NAME}-v1.html"
    assert written.is_file()


def test_without_candles_and_strategy_everything_but_drift_is_there(production: Workspace) -> None:
    for file in production.datadir.glob("*.feather"):
        file.unlink()
    page = page_of(production)
    assert drawn(page) == CHARTS - {"drift"}
    assert "Recent candles could not be looked at." in page
    production.strategy_file.unlink()
    assert drawn(page_of(production)) == CHARTS - {"drift"}


@pytest.mark.parametrize(
    "options", [("7",), ("other:1",), ("f" * 32,), ("nonsense",), ("1", "--model-name", "other")]
)
def test_an_unknown_version_is_named_with_those_there_are(
    trained: Workspace, options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert trained.run("report", *options) == 2
    error = capsys.readouterr().err
    assert error.startswith("Error: ")
    assert re.search(r"The newest are: 1|There are: trend_classifier|list-models", error)


def test_a_file_that_cannot_be_written_is_the_users_to_mend(
    trained: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trained.run("report", "-o", str(trained.config_file / "page.html")) == 2
    assert "Cannot write" in capsys.readouterr().err


def records_folder(workspace: Workspace, kind: str) -> Path:
    (found,) = workspace.registry_directory.glob(f"artifacts/*/artifacts/mlpipe_records/*/{kind}")
    return found


def test_a_damaged_record_is_a_sentence_on_the_page(production: Workspace) -> None:
    table = records_folder(production, "training") / "oos.arrow.gz"
    table.write_bytes(table.read_bytes()[:-10])
    page = page_of(production)
    assert drawn(page) == {"equity", "prices", "trades"}
    assert "oos.arrow.gz was changed" in page


def test_a_bundle_that_was_registered_by_hand_has_a_page_too(
    production: Workspace, tmp_path: Path
) -> None:
    registry = production.registry()
    bundle = registry.download(MODEL_NAME, 1, tmp_path / "bundle")
    registry.register_model(model_name=MODEL_NAME, model_path=bundle, metrics={"f1": 0.5})
    page = page_of(production, "2")
    assert drawn(page) == set()
    assert "it was registered as a bundle" in page


def test_tables_of_strange_types_are_left_out(production: Workspace) -> None:
    registry = production.registry()
    version = registry.get_version(MODEL_NAME, 1)
    record = registry.read_record(version, "backtest")
    strange = {name: pd.DataFrame({"x": [1.0]}) for name in record.tables}
    registry.keep_record(version, "backtest", Record(record.facts, strange))
    assert drawn(page_of(production)) == CHARTS - {"equity", "prices", "trades"}


def test_training_and_validation_keep_what_they_measured(production: Workspace) -> None:
    registry = production.registry()
    version = registry.get_version(MODEL_NAME, 1)
    training = registry.read_record(version, "training")
    facts = TrainingFacts.of(training)
    oos = training.tables["oos"]
    assert len(oos) == version.metrics["n_oos_rows"]
    assert len(facts.folds) == oos["fold"].nunique() == 2
    assert oos["date"].max() < pd.Timestamp(facts.final_window_start)
    assert facts.settings["mlpipe"]["model"]["parameters"]["num_leaves"] == 7
    assert set(facts.permutation) <= set(facts.gain)
    backtest = registry.read_record(version, "backtest")
    summary = BacktestFacts.of(backtest).summary
    assert len(backtest.tables["trades"]) == summary["n_trades"] > 0
    equity = backtest.tables["equity"]["value"]
    assert equity.iloc[-1] - 1 == pytest.approx(summary["profit_total"], abs=1e-9)


def test_records_are_small_and_go_with_their_version(two_versions: Workspace) -> None:
    files = list(two_versions.registry_directory.rglob("mlpipe_records/*/*/*"))
    assert 0 < sum(file.stat().st_size for file in files) < 2_000_000
    assert len(list(two_versions.registry_directory.rglob("mlpipe_records/*"))) == 2
    two_versions.registry().delete_model(MODEL_NAME, 2)
    assert len(list(two_versions.registry_directory.rglob("mlpipe_records/*"))) == 1


def test_the_same_training_keeps_the_same_record(untrained: Workspace, tmp_path: Path) -> None:
    twin = untrained.copy_to(tmp_path / "twin")
    tables = []
    for workspace in (untrained, twin):
        assert workspace.run("train") == 0
        folder = records_folder(workspace, "training")
        tables.append({file.name: file.read_bytes() for file in folder.glob("*.gz")})
    assert tables[0] == tables[1]
    assert set(tables[0]) == {"oos.arrow.gz", "contributions.arrow.gz", "values.arrow.gz"}


# --- other tasks --------------------------------------------------------------------------------

LABELS = {
    "three_class": {"classes": 3},
    "regression": {"kind": "forward_return"},
}


@pytest.fixture(params=list(LABELS))
def other_task(request: pytest.FixtureRequest, trained: Workspace) -> tuple[str, Workspace]:
    """Version 1 of two classes, versions 2 and 3 of another task and with two seeds."""
    metric = "rmse" if request.param == "regression" else "log_loss"
    trained.configure(labels=LABELS[request.param], model={"optimization_metric": metric})
    assert trained.run("train") == 0
    assert trained.run("train", "--random-state", "7") == 0
    return request.param, trained


@pytest.mark.usefixtures("short_spans_suffice")
def test_every_task_has_a_page_curves_and_a_comparison(
    other_task: tuple[str, Workspace], capsys: pytest.CaptureFixture[str]
) -> None:
    task, workspace = other_task
    page = page_of(workspace, "2")
    trained_only = CHARTS - {"equity", "prices", "trades"}
    files = artifacts_of(workspace, 2)
    loss = "squared_error"
    if task == "regression":
        classes = {"roc", "precision", "calibration", "distribution"}
        assert drawn(page) == trained_only - classes | {"outcomes"}
        assert "The model predicts returns, not classes" in page
        assert "Out of sample its squared error is" in page
        assert not {"roc_curve.csv", "confusion_matrix.csv"} & files
    else:
        loss = "log_loss"
        assert drawn(page) == trained_only | {"short-returns"}
        assert "long against the rest" in page
        assert "always saying the class frequencies scores" in page
        assert {"roc_curve.csv", "pr_curve.csv", "calibration_curve.csv"} <= files
    found = compared(workspace, capsys, "2", "3", "1")
    same_task, two_classes = found["verdicts"]
    version = workspace.registry().get_version(MODEL_NAME, 2)
    assert same_task["first_loss"] == pytest.approx(version.metrics[loss], rel=1e-4)
    assert same_task["difference"] is not None
    assert two_classes["sentence"].startswith("No verdict: ")
    estimate = found["metrics"][loss][0]
    assert estimate["low"] < estimate["value"] < estimate["high"]


def artifacts_of(workspace: Workspace, version: int) -> set[str]:
    run = workspace.registry().get_version(MODEL_NAME, version).run_id
    found = {file.name for file in workspace.registry_directory.rglob(f"{run}/artifacts/**/*.csv")}
    assert found
    return found


# --- compare ------------------------------------------------------------------------------------


@pytest.fixture
def short_spans_suffice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The small market of the tests has 14 independent stretches."""
    monkeypatch.setattr("freqtrade_mlpipe.registry.comparison.MIN_STRETCHES", 10)


@pytest.mark.usefixtures("short_spans_suffice")
def test_compare_shows_what_differs_and_a_verdict(
    two_versions: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert two_versions.run("compare", "1", "2") == 0
    text = capsys.readouterr().out
    assert "mlpipe.model.random_state" in text
    assert "log loss" in text
    assert "backtest sharpe" in text
    assert "mlpipe.model.n_trials" not in text
    said = " ".join(text.split())
    assert f"log-loss of {MODEL_NAME} 2 less that of {MODEL_NAME} 1" in said


def compared(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], *options: str
) -> dict[str, object]:
    capsys.readouterr()
    assert workspace.run("compare", *options, "--json") == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.usefixtures("short_spans_suffice")
def test_compare_gives_all_of_it_as_json(
    two_versions: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    found = compared(two_versions, capsys, run_id(two_versions, 1), "production", "2")
    assert found["contenders"] == [f"{MODEL_NAME} {n}" for n in (1, 1, 2)]
    assert found["parameters"] == {"mlpipe.model.random_state": ["42", "42", "7"]}
    same, other = found["verdicts"]
    assert "say the same" in same["sentence"]
    version = two_versions.registry().get_version(MODEL_NAME, 2)
    assert other["other_loss"] == pytest.approx(version.metrics["log_loss"], abs=1e-5)


def test_compare_gives_all_of_it_as_csv(
    two_versions: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert two_versions.run("compare", "1", "2", "--csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {row["kind"] for row in rows} == {"parameter", "metric", "verdict"}
    auc = [row for row in rows if row["name"] == "roc_auc"]
    assert [row["contender"] for row in auc] == [f"{MODEL_NAME} 1", f"{MODEL_NAME} 2"]
    assert all(0 < float(row["value"]) < 1 for row in auc)


def test_the_python_call_says_the_same(
    two_versions: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = two_versions.registry()
    versions = [registry.get_version(MODEL_NAME, number) for number in (1, 2)]
    found = registry.compare_versions(versions)
    assert compared(two_versions, capsys, "1", "2")["verdicts"][0]["sentence"] == (
        found.verdicts[0].sentence
    )


def test_a_run_without_a_version_is_compared_by_what_was_tracked(
    trained: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    from freqtrade_mlpipe import ExperimentTracker

    tracker = ExperimentTracker(directory=trained.registry_directory)
    with tracker.start_run("mine", {"depth": 3}) as own:
        tracker.log_metrics({"f1": 0.25})
    found = compared(trained, capsys, "1", own)
    assert found["parameters"]["depth"] == [None, "3"]
    assert found["metrics"]["f1"][1]["value"] == 0.25
    assert found["verdicts"][0]["better"] is None
    assert "were not kept" in found["verdicts"][0]["sentence"]
    assert own in found["notes"][0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("1",), "at least two"),
        (("1", "9"), "The newest are: 1"),
        (("1", "e" * 32), "neither a version nor a tracked run"),
        (("1", "1", "--json", "--csv"), "Choose one"),
    ],
)
def test_compare_says_what_is_wrong(
    trained: Workspace,
    options: tuple[str, ...],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert trained.run("compare", *options) == 2
    assert words in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("command", [("compare", "1", "1"), ("report", "1")])
def test_a_reader_who_leaves_early_changes_nothing(
    trained: Workspace, command: tuple[str, ...]
) -> None:
    program = [sys.executable, "-m", "freqtrade_mlpipe.main", *command]
    line = " ".join([*program, "--userdir", str(trained.user_data), "| head -c 1"])
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_tracker_compares_runs_with_intervals_and_a_verdict(two_versions):
    from freqtrade_mlpipe import ExperimentTracker

    runs = [two_versions.registry().get_version(MODEL_NAME, number).run_id for number in "12"]
    tracker = ExperimentTracker(directory=two_versions.registry_directory)
    table = tracker.compare_experiments(runs)
    expected = two_versions.registry().compare_versions(
        [two_versions.registry().get_version(MODEL_NAME, number) for number in "12"]
    )
    assert table["verdict"].tolist() == ["", expected.verdicts[0].sentence]
    assert (table["low.log_loss"] < table["metrics.log_loss"]).all()
    assert (table["high.log_loss"] > table["metrics.log_loss"]).all()
    assert tracker.compare_experiments(runs[:1])["verdict"].tolist() == [""]
