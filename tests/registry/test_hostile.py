"""Hostile bundles end in our error, or in a bundle that passes its own self-test; nothing else happens.

Each is loaded twice in a worker process: with the digest the registry knows (an attacker must not get past it),
and without one (the parsers must stand the bytes).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from freqtrade_mlpipe.exceptions import BundleError
from freqtrade_mlpipe.registry import ModelRegistry
from tests.registry.conftest import Written
from tests.registry.mutations import CANARY, MUTATIONS

N_ALL, N_QUICK = 1_000, 3 * len(MUTATIONS)
MAX_CPU_SECONDS = 2.0
HANGS_AFTER_SECONDS = 60.0

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs links and pipes")


def run(directory: Path, first: int, last: int) -> list[dict[str, Any]]:
    """The rows of all seeds; a worker that dies or hangs gives a row too, and the next one goes on."""
    rows: list[dict[str, Any]] = []
    while first < last:
        command = [
            sys.executable,
            "-m",
            "tests.registry.mutations",
            str(directory),
            str(first),
            str(last),
        ]
        errors = directory / f"errors-{first}"
        with errors.open("w") as sink:
            worker = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=sink, text=True, cwd=directory,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])},
            )  # fmt: skip
            seed = _follow(worker, rows)
        if seed is None:
            assert worker.returncode == 0, errors.read_text()[-2000:]
            return rows
        rows.append({"seed": seed, "died": worker.returncode, "stderr": errors.read_text()[-500:]})
        first = seed + 1
    return rows


def _follow(worker: subprocess.Popen[str], rows: list[dict[str, Any]]) -> int | None:
    """Collect rows; the seed at which the worker ended, None if it finished."""
    pending: int | None = -1
    assert worker.stdout is not None
    while True:
        watchdog = threading.Timer(HANGS_AFTER_SECONDS, worker.kill)
        watchdog.start()
        line = worker.stdout.readline()
        watchdog.cancel()
        if not line:
            worker.wait()
            return None if worker.returncode == 0 or pending == -1 else pending
        if not line.startswith("{"):
            continue  # a library's warning
        row = json.loads(line)
        if "what" in row:
            rows.append(row)
        pending = row["seed"]


@pytest.mark.parametrize(
    "n", [pytest.param(N_ALL, marks=pytest.mark.slow, id="1000"), pytest.param(N_QUICK, id="some")]
)
def test_hostile_bundle_is_refused_or_harmless(n: int, tmp_path: Path) -> None:
    rows = run(tmp_path, 0, n)
    assert len(rows) == n
    assert [row for row in rows if "died" in row] == []
    assert [row for row in rows if row["violations"]] == []
    assert [row for row in rows if row["registered"] not in ("refused", "identical")] == []
    allowed = (
        "refused",
        "identical",
        "other",
    )  # "other": another model that passes its own self-test
    assert [row for row in rows if row["unregistered"] not in allowed] == []
    assert [row for row in rows if row["seconds"] > MAX_CPU_SECONDS] == []
    outcomes = Counter(row["unregistered"] for row in rows)
    assert outcomes["refused"] > 0.8 * n
    assert outcomes["other"] < 0.01 * n
    assert {row["what"].split()[1] for row in rows} == {mutation.__name__ for mutation in MUTATIONS}
    assert not list(tmp_path.rglob(CANARY))
    assert not (tmp_path.parent / "outside").exists()


def test_mlmodel_file_of_an_attacker_is_never_looked_at(
    registry: ModelRegistry, bundle: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's flavors run what such a file names; inside a bundle it is one file too many."""
    (tmp_path / "attack").mkdir()
    (tmp_path / "attack" / "evil_loader.py").write_text(
        f"import os\nos.mkdir({str(tmp_path / CANARY)!r})\ndef _load_pyfunc(path): pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "attack"))
    text = "flavors:\n  python_function:\n    loader_module: evil_loader\n    env: {}\n"
    version = registry.register_model(model_name="m", model_path=bundle.path)
    stored = registry.directory / "artifacts" / version.run_id / "artifacts"
    (stored / "MLmodel").write_text(text)
    (stored / "mlpipe" / "MLmodel").write_text(text)
    assert registry.load_bundle("m", 1).digest == bundle.digest
    registry.promote_to_production("m", 1, force_reason="test")

    (stored / version.artifact_path / "MLmodel").write_text(text)
    with pytest.raises(BundleError, match="not listed MLmodel"):
        registry.signer_of("m", 1)
    assert not (tmp_path / CANARY).exists()
    assert "evil_loader" not in sys.modules
