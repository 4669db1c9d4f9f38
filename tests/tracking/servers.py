"""A PostgreSQL and an MLflow server of our own, on loopback ports, gone afterwards."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PASSWORD = "hunter2-of-the-database"
PYTHON_VARIABLE = "MLPIPE_SERVER_PYTHON"


def why_not() -> str:
    """Why no server can be had here, or nothing."""
    if python_with_mlflow() is None:
        return f"full mlflow is not installed: pip install '.[server]', or {PYTHON_VARIABLE}=<a python that has it>"
    missing = [name for name in ("initdb", "pg_ctl") if shutil.which(name) is None]
    if missing:
        return f"PostgreSQL is not installed: no {', '.join(missing)} on PATH"
    if os.name == "posix" and os.geteuid() == 0 and _unprivileged() is None:
        return "PostgreSQL does not run as root, and there is no user postgres"
    return ""


def python_with_mlflow() -> str | None:
    named = os.environ.get(PYTHON_VARIABLE)
    if named:
        return named
    try:
        version("mlflow")
    except PackageNotFoundError:
        return None
    return sys.executable


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def postgres() -> Iterator[str]:
    """The URI of an empty database."""
    folder = Path(tempfile.mkdtemp(prefix="mlpipe-pg-", dir="/tmp"))
    user = _unprivileged() if os.geteuid() == 0 else None
    as_user = {"user": user, "group": user} if user else {}
    if user:
        shutil.chown(folder, user, user)
    password, data, port = folder / "password", folder / "data", free_port()
    password.write_text(PASSWORD)
    password.chmod(0o644)

    def run(*command: str) -> None:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, **as_user
        )
        assert done.returncode == 0, done.stdout + done.stderr

    try:
        run(
            "initdb",
            "-D",
            str(data),
            "-U",
            "mlpipe",
            "-A",
            "scram-sha-256",
            f"--pwfile={password}",
            "-N",
        )
        options = f"-h 127.0.0.1 -p {port} -k {folder} -F"
        # Without -l the server inherits our pipes, and reading them never ends.
        run("pg_ctl", "-D", str(data), "-l", str(folder / "log"), "-w", "-o", options, "start")
        yield f"postgresql+psycopg2://mlpipe:{PASSWORD}@127.0.0.1:{port}/postgres"
    finally:
        if (data / "postmaster.pid").exists():
            run("pg_ctl", "-D", str(data), "-m", "immediate", "stop")
        shutil.rmtree(folder)


@contextmanager
def mlflow_server(database: str, artifacts: Path) -> Iterator[str]:
    """The URL of an MLflow server that keeps runs in `database` and hands artifacts on to `artifacts`."""
    port = free_port()
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("PYTHONPATH", "MLFLOW_"))},
        "MLFLOW_BACKEND_STORE_URI": database,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    log = (artifacts.parent / "server.log").open("w")
    server = subprocess.Popen(
        [python_with_mlflow(), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
         "--workers", "1", "--artifacts-destination", artifacts.as_uri()],
        env=environment, stdout=log, stderr=log, cwd=artifacts.parent, start_new_session=True,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{url}/health", server, Path(log.name))
        yield url
    finally:
        if server.poll() is None:
            os.killpg(server.pid, 15)
            try:
                server.wait(timeout=10)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, 9)
                server.wait()
        log.close()


def _wait_for(url: str, server: subprocess.Popen, log: Path) -> None:
    for _ in range(600):
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"no answer from {url}: {log.read_text()[-3000:]}")


def _unprivileged() -> str | None:
    import pwd

    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        return None
