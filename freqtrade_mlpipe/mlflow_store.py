"""Opening the MLflow store that registry and tracker share: one database, one artifact folder.

Importing this module does not import MLflow; calling `open_store` does.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from filelock import FileLock

from freqtrade_mlpipe.exceptions import MissingExtraError, StoreUnavailableError, TrackingError

if TYPE_CHECKING:
    from mlflow import MlflowClient

DATABASE_NAME = "mlflow.db"
LOCK_NAME = "mlflow.lock"
ARTIFACTS_NAME = "artifacts"
_UNFINISHED = ".unfinished"

_SERVER_SCHEMES = ("http", "https")
_DATABASE_SCHEMES = ("postgresql", "mysql", "mssql")
_ENVIRONMENT = {
    # On by default, and DO_NOT_TRACK is ignored: has to be set before the import.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DISABLE_TELEMETRY": "true",
    # The defaults retry for minutes when the server is down.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "3",
    # PostgreSQL's client library; it waits without end by default.
    "PGCONNECT_TIMEOUT": "3",
    # Lines about each run, on the standard output that our commands print JSON to.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
_CONNECT_SECONDS = 3
_PASSWORD = re.compile(r"(?<=://)([^/@:?]*:)[^/?]*(?=@)")
_SECRET_PARAMETER = re.compile(r"([?&][a-z_]*(?:password|token|secret)=)[^&]*")


def open_store(tracking_uri: str | None, directory: Path) -> MlflowClient:
    """A client of the MLflow store, created first if it is a SQLite file that does not exist.

    The global MLflow state (`mlflow.set_tracking_uri`) is not touched. Telemetry is switched off;
    requests to a server are neither retried nor waited for longer than three seconds unless the
    environment (`MLFLOW_HTTP_REQUEST_…`) says otherwise.

    Parameters
    ----------
    tracking_uri
        `sqlite:///…`, `http(s)://…`, `postgresql://…`, `mysql://…` or `mssql://…`; None means
        `directory/mlflow.db`.
    directory
        Where the database, its lock and the artifacts are kept. Made when the database is.

    Raises
    ------
    TrackingError
        The URI is of a kind MLflow no longer writes to (a folder), or the database was written by
        another version of MLflow.
    StoreUnavailableError
        The database server does not answer, or refuses the user.
    MissingExtraError
        The driver of the database is not installed.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    uri = store_uri(tracking_uri, directory)
    if uri.startswith("sqlite:///"):
        _ensure_sqlite(Path(uri.removeprefix("sqlite:///")), artifact_root(directory))
    elif urlsplit(uri).scheme not in _SERVER_SCHEMES:
        _require_database(uri)

    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import DatabaseError

    try:
        return MlflowClient(tracking_uri=uri, registry_uri=uri)
    except DatabaseError as error:
        raise StoreUnavailableError(
            f"The database {without_password(uri)} cannot be read: {error.orig}. Restore it from a backup, "
            "or move it away to begin with an empty one."
        ) from error
    except MlflowException as error:
        if "schema" not in str(error):
            raise
        shown = without_password(uri)
        raise TrackingError(
            f"The MLflow database {shown} was written by another version of MLflow. "
            f"Back it up, then run: mlflow db upgrade '{shown}'. MLflow says: {error}"
        ) from error


def _require_database(uri: str) -> None:
    """Connect once: MLflow would try for a minute and a half before it says what is wrong."""
    import sqlalchemy

    shown = without_password(uri)
    parts = urlsplit(uri)
    try:
        if parts.hostname and parts.port:
            socket.create_connection((parts.hostname, parts.port), _CONNECT_SECONDS).close()
        engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.pool.NullPool)
        engine.connect().close()
    except ModuleNotFoundError as error:
        raise MissingExtraError(str(error.name), "server") from error
    except (OSError, ValueError, sqlalchemy.exc.SQLAlchemyError) as error:
        # Not the driver's own words: some repeat the whole URI.
        reason = str(getattr(error, "orig", error)).replace(uri, shown).strip()
        if parts.password:
            reason = reason.replace(parts.password, "…")
        raise StoreUnavailableError(
            f"The database {shown} cannot be used: {reason[:300]}. Start it, or mend the URI."
        ) from None


def artifact_root(directory: Path) -> Path:
    """The absolute folder of all artifacts; a relative one would follow the working directory."""
    return directory.absolute() / ARTIFACTS_NAME


def experiment_id(client: MlflowClient, name: str, directory: Path) -> str:
    """The id of the experiment `name`, created if missing.

    On a database its artifacts go to `artifact_root(directory)`; a server decides for itself.

    Raises
    ------
    TrackingError
        The experiment was deleted in MLflow (its name stays taken).
    """
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        local = urlsplit(client.tracking_uri).scheme not in _SERVER_SCHEMES
        location = artifact_root(directory).as_uri() if local else None
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException:  # another process was faster
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    if experiment.lifecycle_stage != "active":
        raise TrackingError(
            f"The experiment {name!r} was deleted in MLflow and its name is still taken. Restore "
            f"it (mlflow experiments restore -x {experiment.experiment_id}) or use another "
            "project name."
        )
    return str(experiment.experiment_id)


def store_uri(tracking_uri: str | None, directory: Path) -> str:
    """The store's absolute URI; arguments and errors as `open_store`."""
    if tracking_uri is None:
        return f"sqlite:///{(directory.absolute() / DATABASE_NAME).as_posix()}"
    if tracking_uri.startswith("postgresql://"):
        # The driver of our extra `server`; SQLAlchemy's default changed with 2.1.
        return tracking_uri.replace("postgresql://", "postgresql+psycopg2://", 1)
    scheme = urlsplit(tracking_uri).scheme.split("+")[0]
    if scheme in (*_SERVER_SCHEMES, *_DATABASE_SCHEMES):
        return tracking_uri
    if tracking_uri.startswith("sqlite:///") and tracking_uri != "sqlite:///":
        path = Path(tracking_uri.removeprefix("sqlite:///"))
        return f"sqlite:///{path.absolute().as_posix()}"
    raise TrackingError(
        f"Cannot keep experiments at {without_password(tracking_uri)!r}: use "
        "sqlite:///path/mlflow.db, http://server:5000 or a postgresql://, mysql:// or mssql:// "
        "URI, or leave it out for a SQLite file."
    )


def _ensure_sqlite(database: Path, artifacts: Path) -> None:
    """Create the database whole or not at all.

    Two processes migrating one fresh file break it for good, and so does one killed half-way: it is
    built beside its place, under a lock, and renamed.
    """
    if database.exists():
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(database.with_name(LOCK_NAME)):
        if database.exists():
            return
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        unfinished = database.with_name(f"{database.name}{_UNFINISHED}")
        for leftover in database.parent.glob(f"{unfinished.name}*"):
            leftover.unlink()
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
        with _written_carelessly():
            store = SqlAlchemyStore(f"sqlite:///{unfinished.as_posix()}", artifacts.as_uri())
        store.engine.dispose()
        with closing(sqlite3.connect(unfinished)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())
        unfinished.replace(database)


@contextmanager
def _written_carelessly() -> Iterator[None]:
    """Let databases that are not in their place yet be written without waiting for the disk.

    MLflow's migrations commit seventy times, and what is interrupted is thrown away.
    """
    import sqlalchemy

    def relax(connection: Any, _: object) -> None:
        if not isinstance(connection, sqlite3.Connection):
            return
        place = connection.execute("PRAGMA database_list").fetchone()[2]
        if place.endswith(_UNFINISHED):
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute("PRAGMA journal_mode=MEMORY")

    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "connect", relax)
    try:
        yield
    finally:
        sqlalchemy.event.remove(sqlalchemy.engine.Engine, "connect", relax)


def without_password(uri: str) -> str:
    """`uri` to show or keep: neither the password before the host nor one among the parameters."""
    return _SECRET_PARAMETER.sub(r"\1…", _PASSWORD.sub(r"\1…", uri))
