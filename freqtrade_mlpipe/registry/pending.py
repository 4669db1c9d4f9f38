"""Bundles whose registry did not answer when their training ended: kept, and registered later."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from freqtrade_mlpipe.registry.record import Record, read_record, write_record
from freqtrade_mlpipe.registry.store import ModelRegistry
from freqtrade_mlpipe.registry.verification import verify_bundle
from freqtrade_mlpipe.registry.versions import ModelVersion, encode_float

FOLDER = "unregistered"
_DESCRIPTION = "registration.json"
_RECORD = "record"


def keep_pending(
    directory: Path, bundle: Path, described: Mapping[str, Any], run: str, record: Record
) -> Path:
    """Copy a bundle and the record of its training below `directory`, whole or not at all; where it is.

    Parameters
    ----------
    described
        The other arguments of `ModelRegistry.register_model`, as JSON types.
    run
        Id or key of the training's run.
    record
        What training measured.
    """
    _, digest, _ = verify_bundle(bundle)
    target = directory / FOLDER / digest[:16]
    unfinished = target.with_name(f".{target.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(bundle, unfinished / "bundle")
    (unfinished / _RECORD).mkdir()
    write_record(record, unfinished / _RECORD)
    metrics = {name: encode_float(value) for name, value in described["metrics"].items()}
    text = json.dumps({"run": run, "arguments": {**described, "metrics": metrics}})
    (unfinished / _DESCRIPTION).write_text(text, encoding="utf-8")
    shutil.rmtree(target, ignore_errors=True)
    unfinished.rename(target)
    return target


def register_pending(registry: ModelRegistry, runs: Mapping[str, str]) -> list[ModelVersion]:
    """Register what `keep_pending` kept, oldest first; the versions. What is registered already is only tidied away.

    Parameters
    ----------
    runs
        Key of a run → its id in the store: the files go there, as they would have. A bundle of another run gets a run
        of its own.

    Raises
    ------
    RegistryError
        The registry does not answer, still; nothing is lost.
    """
    versions = []
    folders = (path.parent for path in (registry.directory / FOLDER).glob(f"[!.]*/{_DESCRIPTION}"))
    for folder in sorted(folders, key=lambda path: path.stat().st_mtime):
        kept = json.loads((folder / _DESCRIPTION).read_text(encoding="utf-8"))
        described, run_id = kept["arguments"], runs.get(kept["run"])
        _, digest, _ = verify_bundle(folder / "bundle")
        version = _registered(registry, described["model_name"], digest)
        if version is None:
            described["metrics"] = {n: float(value) for n, value in described["metrics"].items()}
            version = registry.register_model(
                model_path=folder / "bundle",
                run_id=run_id,
                record=read_record(folder / _RECORD),
                **described,
            )
        versions.append(version)
        shutil.rmtree(folder)
    return versions


def _registered(registry: ModelRegistry, name: str, digest: str) -> ModelVersion | None:
    if name not in registry.get_model_names():
        return None
    return next((v for v in registry.get_all_versions(name) if v.digest == digest), None)
