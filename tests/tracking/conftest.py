"""One fresh MLflow database, copied for each test that wants an empty store; one MLflow server on PostgreSQL."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from freqtrade_mlpipe.mlflow_store import open_store
from tests.tracking import servers


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


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An MLflow server with its runs in PostgreSQL; skips where it cannot be had."""
    if reason := servers.why_not():
        pytest.skip(reason)
    artifacts = tmp_path_factory.mktemp("server") / "artifacts"
    artifacts.mkdir()
    with servers.postgres() as database, servers.mlflow_server(database, artifacts) as url:
        yield url
