"""A real MLflow server with an artifact proxy, on a real PostgreSQL: started here on loopback ports, gone afterwards.

Needs PostgreSQL's programs on the path, and a Python with the `server` extra: this one, or the one that the
environment variable MLPIPE_SERVER_PYTHON names.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PASSWORD = "hunter2-of-the-database"
START_SECONDS = 240
_NEEDED = "import mlflow.server, psycopg2, fastapi"
_UNPRIVILEGED = ("postgres", "nobody")
"""PostgreSQL refuses to run as root."""

_QUESTION = "/api/2.0/mlflow/registered-models/search?max_results=1"

Process = subprocess.Popen[bytes]


def missing() -> str | None:
    """Why no server can be started here, or None."""
    for program in ("postgres", "initdb"):
        if shutil.which(program) is None:
            return f"PostgreSQL's {program} is not on the path"
    if subprocess.run([_python(), "-c", _NEEDED], capture_output=True, check=False).returncode:
        return f"{_python()} has not the extra `server` (mlflow, psycopg2-binary); see MLPIPE_SERVER_PYTHON"
    return None


class Server:
    """The two processes; either may be killed, and started again on what it had written.

    Attributes
    ----------
    uri
        Of the MLflow server.
    artifacts
        The folder that it keeps artifacts in.
    postgres, mlflow
        The processes.
    """

    def __init__(self, root: Path) -> None:
        self._root, self._data, self.artifacts = root, root / "postgres", root / "artifacts"
        self._ports = {"postgres": free_port(), "mlflow": free_port()}
        self._user = _unprivileged()
        self.uri = f"http://127.0.0.1:{self._ports['mlflow']}"
        self._initialise()
        self.postgres = self.start_postgres()
        try:
            self.mlflow = self.start_mlflow()
        except BaseException:
            self.stop()
            raise

    def start_postgres(self) -> Process:
        """Start the database; one that was killed recovers."""
        deadline = time.monotonic() + START_SECONDS
        while True:  # a killed one's children let go of its memory a moment later
            self.postgres = self._start_postgres()
            port = self._ports["postgres"]
            while self.postgres.poll() is None:
                if _listens(port):
                    return self.postgres
                time.sleep(0.05)
            if time.monotonic() > deadline:
                raise RuntimeError((self._root / "postgres.log").read_text()[-2000:])

    def start_mlflow(self) -> Process:
        """Start the server, and wait until it answers."""
        port = self._ports["mlflow"]
        command = [
            _python(), "-m", "mlflow", "server", "--serve-artifacts",
            "--artifacts-destination", self.artifacts.as_uri(),
            "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        ]  # fmt: skip
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHONPATH", "MLFLOW_"))}
        environment = {
            **kept,
            "MLFLOW_BACKEND_STORE_URI": self.database,
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        log = self._root / "mlflow.log"
        with log.open("wb") as output:
            self.mlflow = subprocess.Popen(
                command, stdout=output, stderr=output, env=environment, cwd=self._root,
                process_group=0,
            )  # fmt: skip
        self.wait_until_ready()
        return self.mlflow

    def wait_until_ready(self) -> None:
        """Wait until the server answers from its database."""
        _wait(lambda: _answers(self.uri), self.mlflow, self._root / "mlflow.log")

    def kill_mlflow(self) -> None:
        """Kill the MLflow server alone with signal 9."""
        _end_group(self.mlflow, signal.SIGKILL)

    def hold_mlflow(self) -> None:
        """Let the MLflow server hang: it accepts connections and answers nothing."""
        os.killpg(self.mlflow.pid, signal.SIGSTOP)

    def revive_mlflow(self) -> None:
        """End its hanging; start it again if it was killed."""
        if self.mlflow.poll() is None:
            os.killpg(self.mlflow.pid, signal.SIGCONT)
        else:
            self.start_mlflow()

    def stop(self) -> None:
        """End both."""
        _end_group(self.mlflow, signal.SIGTERM)
        _end(self.postgres, signal.SIGINT)

    def kill(self) -> None:
        """Kill both with signal 9."""
        _end_group(self.mlflow, signal.SIGKILL)
        _end(self.postgres, signal.SIGKILL)

    @property
    def database(self) -> str:
        """URI of the database, with its password."""
        # SQLAlchemy 2.1 takes another driver than psycopg2 by default.
        port = self._ports["postgres"]
        return f"postgresql+psycopg2://mlpipe:{PASSWORD}@127.0.0.1:{port}/postgres"

    def _initialise(self) -> None:
        self._root.chmod(0o755)
        self._data.mkdir()
        password = self._root / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        if self._user:
            shutil.chown(self._data, self._user)
        subprocess.run(
            ["initdb", "-D", self._data, "-U", "mlpipe", "-A", "scram-sha-256", f"--pwfile={password}",
             "--no-sync", "-E", "UTF8"],
            check=True, capture_output=True, cwd=self._data, user=self._user,
        )  # fmt: skip

    def _start_postgres(self) -> Process:
        port = str(self._ports["postgres"])
        with (self._root / "postgres.log").open("ab") as log:
            return subprocess.Popen(
                ["postgres", "-D", self._data, "-h", "127.0.0.1", "-p", port, "-k", self._data, "-F"],
                stdout=log, stderr=log, cwd=self._data, user=self._user,
            )  # fmt: skip


@contextmanager
def running() -> Iterator[Server]:
    """The server while the block runs."""
    root = Path(tempfile.mkdtemp(prefix="mlpipe-server-"))
    try:
        server = Server(root)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(root, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end(process: Process, number: signal.Signals) -> None:
    process.send_signal(number)
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _end_group(process: Process, number: signal.Signals) -> None:
    """End the process and those it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
    _end(process, number)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _wait(ready: Callable[[], bool], process: Process, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{log.name}: {log.read_text()[-2000:]}")
        time.sleep(0.1)


def _answers(uri: str) -> bool:
    try:
        with urllib.request.urlopen(f"{uri}{_QUESTION}", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _unprivileged() -> str | None:
    """Whom PostgreSQL runs as, None for oneself."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return None
    import pwd

    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in _UNPRIVILEGED if name in known)


def _python() -> str:
    return os.environ.get("MLPIPE_SERVER_PYTHON", sys.executable)
