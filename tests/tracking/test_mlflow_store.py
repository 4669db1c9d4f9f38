"""Opening the shared store: once whole, from any number of processes, without telemetry."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from freqtrade_mlpipe.exceptions import TrackingError
from freqtrade_mlpipe.mlflow_store import experiment_id, open_store

OPEN = (
    "import sys; from pathlib import Path; from freqtrade_mlpipe.mlflow_store import *;"
    "d = Path(sys.argv[1]); c = open_store(None, d); e = experiment_id(c, 'p', d);"
    "c.create_run(e)"
)


def test_opened_by_several_processes_at_once_the_store_is_whole(tmp_path: Path) -> None:
    directory = tmp_path / "a b"
    processes = [
        subprocess.Popen([sys.executable, "-c", OPEN, str(directory)], stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors.decode()
    client = open_store(None, directory)
    assert len(client.search_runs([experiment_id(client, "p", directory)])) == 3


def test_a_creation_that_was_killed_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "mlflow.db.unfinished")) as connection:
        connection.execute("CREATE TABLE experiments (nonsense INTEGER)")
    client = open_store(None, tmp_path)
    assert experiment_id(client, "p", tmp_path) == experiment_id(client, "p", tmp_path)
    assert not list(tmp_path.glob("*unfinished*"))


def test_the_database_uses_a_write_ahead_log(store_directory: Path) -> None:
    with closing(sqlite3.connect(store_directory / "mlflow.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_telemetry_is_off(store_directory: Path) -> None:
    open_store(None, store_directory)
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_relative_directories_do_not_follow_the_working_directory(
    store_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(store_directory.parent)
    client = open_store(None, Path(store_directory.name))
    experiment = client.get_experiment(experiment_id(client, "p", Path(store_directory.name)))
    assert experiment.artifact_location == (store_directory / "artifacts").as_uri()


@pytest.mark.parametrize("uri", ["mlruns", "file:///tmp/mlruns", "sqlite:///", "htp://host", ""])
def test_a_place_mlflow_cannot_write_to_is_refused_with_the_alternatives(
    uri: str, tmp_path: Path
) -> None:
    with pytest.raises(TrackingError, match="sqlite:///path"):
        open_store(uri, tmp_path)


def test_a_database_of_another_mlflow_says_how_to_upgrade(store_directory: Path) -> None:
    with closing(sqlite3.connect(store_directory / "mlflow.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
        connection.commit()
    with pytest.raises(TrackingError, match="mlflow db upgrade"):
        open_store(None, store_directory)
