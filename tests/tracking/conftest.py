"""One fresh MLflow database, copied for each test that wants an empty store."""

import shutil
from pathlib import Path

import pytest

from freqtrade_mlpipe.mlflow_store import open_store


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("empty")
    open_store(None, directory)
    return directory / "mlflow.db"


@pytest.fixture
def store_directory(empty_database: Path, tmp_path: Path) -> Path:
    directory = tmp_path / "mlpipe"
    directory.mkdir()
    shutil.copy(empty_database, directory)
    return directory
