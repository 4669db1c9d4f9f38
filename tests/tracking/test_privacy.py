"""Nothing secret is written anywhere, and nothing calls home."""

import logging
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from freqtrade_mlpipe.tracking import ExperimentTracker
from freqtrade_mlpipe.tracking.secrets import redact

SECRET = "hunter2-Zq8vT"
FROM_ENVIRONMENT = "wq9-Jx7-environment"
CONFIG = {
    "exchange": {
        "name": "binance",
        "key": SECRET,
        "secret": SECRET,
        "ccxt_config": {"uid": SECRET},
    },
    "api_server": {"jwt_secret_key": SECRET, "password": SECRET, "ws_token": [SECRET]},
    "telegram": {"token": SECRET, "chat_id": 6543210987},
    "discord": {"webhook_url": f"https://discord/{SECRET}"},
    "registry": {"tracking_uri": f"postgresql://me:{SECRET}@host/db"},
    "mirror": f"https://{SECRET}@host/simple",
    "odbc": f"server=x;password={SECRET};database=y",
    "header": f"Authorization: Bearer {SECRET}",
}


def say_secrets(tracker: ExperimentTracker) -> None:
    tracker.log_config(CONFIG)
    tracker.log_params({"url": f"http://a:{SECRET}@h/", "nested": CONFIG})
    tracker.log_params({"long": f"http://a:{SECRET}@h/" + "x" * 1000})
    tracker.set_tags(
        {"token": SECRET, "source": f"http://a:{SECRET}@h/", "note": os.environ["MY_API_KEY"]}
    )
    tracker.log_trials(
        [{"number": 0, "value": 1.0, "error": f"connect to http://a:{SECRET}@h/ failed"}]
    )
    tracker.log_fold_run("fold", {"api_key": SECRET}, {"f1": 1.0}, {"password": SECRET})
    tracker.log_json("x.json", CONFIG)
    tracker.log_backtest_results({"sharpe": 1.0, "config": CONFIG})
    tracker.log_roc_curve([f"http://a:{SECRET}@h/"], [0.5])  # a value that ends up in a warning


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", FROM_ENVIRONMENT)


@pytest.mark.parametrize("uri", [None, f"http://user:{SECRET}@127.0.0.1:9"])
def test_no_file_and_no_log_line_holds_a_secret(
    uri: str | None, store_directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = ExperimentTracker("project", tracking_uri=uri, directory=store_directory)

    def train() -> None:
        with tracker.start_run("n", CONFIG, {"secret": SECRET}):
            say_secrets(tracker)
            raise RuntimeError(f"login at http://a:{SECRET}@h/ failed")

    with caplog.at_level(logging.DEBUG, "freqtrade_mlpipe"), pytest.raises(RuntimeError):
        train()
    ours = [r.getMessage() for r in caplog.records if r.name.startswith("freqtrade_mlpipe")]
    assert ours
    files = [path for path in store_directory.rglob("*") if path.is_file()]
    assert any(b"binance" in path.read_bytes() for path in files)
    for secret in (SECRET, FROM_ENVIRONMENT, "6543210987"):
        assert [path for path in files if secret.encode() in path.read_bytes()] == []
        assert secret not in "\n".join(ours)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nothing to see at sqlite:///a/b.db", "nothing to see at sqlite:///a/b.db"),
        ("postgresql+psycopg2://u:p%40ss@h:5432/d", "postgresql+psycopg2://u:[redacted]@h:5432/d"),
        ('{"password": "x y"}', '{"password": "[redacted] y"}'),
        ("max_tokens: 5 trees", "max_tokens: 5 trees"),
        ("mail me@example.org", "mail me@example.org"),
    ],
)
def test_redaction_leaves_the_rest_alone(text: str, expected: str) -> None:
    assert redact(text) == expected


def test_redaction_of_a_long_text_takes_no_time() -> None:
    import time

    text = "a-" * 50_000 + "token " * 5_000
    start = time.process_time()
    redact(text)
    assert time.process_time() - start < 2


RUN = """
import sys
from pathlib import Path
from freqtrade_mlpipe.tracking import ExperimentTracker
tracker = ExperimentTracker("project", sys.argv[1], directory=sys.argv[2])
with tracker.start_run("n", {"seed": 1}):
    tracker.log_metrics({"f1": 0.5})
    tracker.log_json("a.json", {"a": 1})
    tracker.log_fold_run("fold 1", {"depth": 3}, {"f1": 0.5})
"""
# MLflow keeps quiet by itself where it believes to be in a test or a build.
_HINTS = (
    "PYTEST",
    "CI",
    "GITHUB",
    "JENKINS",
    "TRAVIS",
    "GITLAB",
    "MLFLOW",
    "DO_NOT_TRACK",
    "DISABLE_TELEMETRY",
)


def run_traced(backend: str, directory: Path, report: Path, code: str = RUN) -> list[str]:
    """Addresses beyond this machine's that a process, and its children, talked to."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: apt-get install strace")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(_HINTS)}
    done = subprocess.run(
        ["strace", "-f", "-qq", "-o", str(report), "-e", "trace=connect,sendto,sendmsg,sendmmsg",
         sys.executable, "-c", code, backend, str(directory)],
        capture_output=True, text=True, check=False, env=environment | {"WANDB_MODE": "offline"},
    )  # fmt: skip
    if "ptrace" in done.stderr.lower() and done.returncode:
        pytest.skip(f"strace may not trace here: {done.stderr.strip()[:200]}")
    assert done.returncode == 0, done.stderr
    talked = [line for line in report.read_text().splitlines() if "sa_family=AF_INET" in line]
    return [line for line in talked if not re.search(r'"127\.|"::1"', line)]


def test_the_trace_sees_what_leaves_the_machine(tmp_path: Path) -> None:
    code = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
        "s.connect(('192.0.2.1', 9))"
    )
    assert len(run_traced("none", tmp_path, tmp_path / "trace", code)) == 1


@pytest.mark.parametrize(
    "backend",
    [
        "mlflow",
        pytest.param(
            "wandb",
            marks=pytest.mark.skipif(
                find_spec("wandb") is None, reason="wandb is not installed: pip install '.[wandb]'"
            ),
        ),
    ],
)
def test_nothing_is_sent_beyond_this_machine(
    backend: str, store_directory: Path, tmp_path: Path
) -> None:
    assert run_traced(backend, store_directory, tmp_path / "trace") == []
    written = (
        "wandb/offline-run-*/*.wandb" if backend == "wandb" else "artifacts/*/artifacts/a.json"
    )
    assert len(list(store_directory.glob(written))) == 1  # else there was nothing to send


@pytest.mark.parametrize(
    ("environment", "netrc", "mode"),
    [
        ({}, "", "offline"),
        ({"WANDB_API_KEY": "k" * 40}, "", "online"),
        ({}, "machine api.wandb.ai login user password secret", "online"),
        ({}, "machine elsewhere.example login user password secret", "offline"),
        ({"WANDB_BASE_URL": "https://elsewhere.example"}, "machine elsewhere.example login u password p", "online"),
        ({"WANDB_API_KEY": "k" * 40, "WANDB_MODE": "offline"}, "", "offline"),
        ({}, "this is no netrc {", "offline"),
    ],
)  # fmt: skip
def test_wandb_goes_online_only_where_somebody_logged_in(
    environment, netrc, mode, tmp_path, monkeypatch
):
    from freqtrade_mlpipe.tracking.backends import BackendSettings
    from freqtrade_mlpipe.tracking.backends.wandb import WandbBackend

    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "netrc").write_text(netrc)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert WandbBackend(BackendSettings("p", tmp_path, None)).mode == mode
