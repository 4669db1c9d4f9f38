"""What an alarm can set off: a rollback, or a retraining in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from freqtrade_mlpipe.config import RegistryConfig
from freqtrade_mlpipe.monitoring.journal import FOLDER
from freqtrade_mlpipe.monitoring.models import WatchedModel
from freqtrade_mlpipe.monitoring.watch import Act

_ACTOR = "drift monitoring"


def rollback_action(settings: RegistryConfig) -> Act:
    """Put the version before into production, if the one that drifts is still there."""

    def act(model: WatchedModel, reason: str) -> str:
        from freqtrade_mlpipe.registry import ModelRegistry

        registry = ModelRegistry.of(settings)
        present = registry.get_production_model(model.name)
        if present is None or present.digest != model.digest:
            return "not rolled back: another version is in production already."
        target = registry.rollback_to_version(model.name, reason=reason, actor=_ACTOR)
        return f"rolled back to version {target.version}."

    return act


def retrain_action(
    directory: Path, config_files: Sequence[str], options: Sequence[str] = ()
) -> Act:
    """Start ``freqtrade-mlpipe retrain`` detached from the bot, one at a time; its output goes to a file.

    Parameters
    ----------
    directory : the registry's folder.
    config_files, options : how the command is called, such as ``["--userdir", "user_data"]``.
    """
    folder = directory / FOLDER
    note, log = folder / "retrain.json", folder / "retrain.log"
    command = [sys.executable, "-m", "freqtrade_mlpipe.main", "retrain"]
    for file in config_files:
        command += ["-c", str(file)]

    def act(model: WatchedModel, reason: str) -> str:
        running = _running(note)
        if running is not None:
            return f"retraining is under way already (process {running})."
        folder.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*command, *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=os.environ | {"OMP_WAIT_POLICY": "passive"},
            )
        started = psutil.Process(process.pid).create_time()
        note.write_text(json.dumps({"pid": process.pid, "started": started, "reason": reason}))
        return f"retraining has begun (process {process.pid}, output in {log})."

    return act


def _running(note: Path) -> int | None:
    """The retraining that is noted, if it lives: a number is used again, a number and start time are not."""
    try:
        known = json.loads(note.read_text())
        process = psutil.Process(int(known["pid"]))
        alive = abs(process.create_time() - float(known["started"])) < 1.0
        return process.pid if alive and process.status() != psutil.STATUS_ZOMBIE else None
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None
