"""A real MLflow server with an artifact proxy, on a real PostgreSQL, both started here and stopped at the end.

Needs PostgreSQL's programs on the path, and a Python with the `server` extra: this one, or the one that the
environment variable MLPIPE_SERVER_PYTHON names.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_NEEDED = "import mlflow.server, psycopg2, fastapi"
_UNPRIVILEGED = "nobody"
"""PostgreSQL refuses to run as root."""
START_SECONDS = 90


@dataclass(frozen=True)
class Server:
    """Where to reach it, and the two processes."""

    uri: str
    postgres: subprocess.Popen[bytes]
    mlflow: subprocess.Popen[bytes]


def missing() -> str | None:
    """Why no server can be started here, or None."""
    for program in ("postgres", "initdb"):
        if shutil.which(program) is None:
            return f"PostgreSQL's {program} is not on the path"
    python = _python()
    if subprocess.run([python, "-c", _NEEDED], capture_output=True, check=False).returncode:
        return f"{python} has not the extra `server` (mlflow, psycopg2-binary); see MLPIPE_SERVER_PYTHON"
    return None


@contextmanager
def running() -> Iterator[Server]:
    """The server while the block runs."""
    root = Path(tempfile.mkdtemp(prefix="mlpipe-server-"))
    user = _UNPRIVILEGED if hasattr(os, "geteuid") and os.geteuid() == 0 else None
    processes: list[subprocess.Popen[bytes]] = []
    try:
        postgres_port, port = _free_port(), _free_port()
        database = _start_postgres(root, postgres_port, user, processes)
        uri = f"http://127.0.0.1:{port}"
        command = [
            _python(), "-m", "mlflow", "server", "--backend-store-uri", database,
            "--artifacts-destination", (root / "artifacts").as_uri(), "--serve-artifacts",
            "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        ]  # fmt: skip
        environment = {
            **{key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        with (root / "mlflow.log").open("wb") as log:
            processes.append(
                subprocess.Popen(
                    command,
                    stdout=log,
                    stderr=log,
                    env=environment,
                    cwd=root,
                    start_new_session=True,
                )
            )
        _wait(lambda: _answers(uri), processes[-1], root / "mlflow.log")
        yield Server(uri, *processes)
    finally:
        for process in reversed(processes):
            _stop(process)
        shutil.rmtree(root, ignore_errors=True)


def _start_postgres(
    root: Path, port: int, user: str | None, processes: list[subprocess.Popen[bytes]]
) -> str:
    data = root / "postgres"
    data.mkdir()
    root.chmod(0o755)
    if user is not None:
        shutil.chown(data, user)
    options = {"user": user} if user is not None else {}
    subprocess.run(
        ["initdb", "-D", data, "-U", "mlpipe", "--auth=trust", "--no-sync", "-E", "UTF8"],
        check=True, capture_output=True, cwd=data, **options,
    )  # fmt: skip
    with (root / "postgres.log").open("wb") as log:
        processes.append(
            subprocess.Popen(
                ["postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", data, "-F"],
                stdout=log, stderr=log, cwd=data, **options,
            )
        )  # fmt: skip
    _wait(lambda: _listens(port), processes[-1], root / "postgres.log")
    # SQLAlchemy 2.1 takes another driver than psycopg2 by default.
    return f"postgresql+psycopg2://mlpipe@127.0.0.1:{port}/postgres"


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{log.name}: {log.read_text()[-2000:]}")
        time.sleep(0.1)


def _answers(uri: str) -> bool:
    try:
        with urllib.request.urlopen(f"{uri}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _python() -> str:
    return os.environ.get("MLPIPE_SERVER_PYTHON", sys.executable)
