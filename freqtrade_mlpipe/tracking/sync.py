"""Sending later what the store did not take when it was said."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from freqtrade_mlpipe.exceptions import TrackingError
from freqtrade_mlpipe.tracking.backends import (
    BackendSettings,
    Batch,
    RunStart,
    TrackingBackend,
    open_backend,
)
from freqtrade_mlpipe.tracking.secrets import redact
from freqtrade_mlpipe.tracking.spool import FOLDER, Journal, batch_from_plain, journals

logger = logging.getLogger(__name__)

Outcome = Literal["sent", "kept", "open"]


@dataclass(frozen=True)
class Synced:
    """What became of one journal.

    Attributes
    ----------
    key : of the run, also its tag `mlpipe.run_key`.
    outcome : `sent`; `kept`, because of `reason`; `open`: its process is still at it.
    run_id : of the run in the store; None unless it was sent.
    """

    key: str
    name: str
    outcome: Outcome
    run_id: str | None = None
    reason: str = ""


def sync(
    directory: Path,
    tracking_uri: str | None = None,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Synced]:
    """Send every journal below `directory`, oldest first.

    It can be repeated and interrupted at will: a journal goes only when all of it has arrived, and what had arrived
    before is recognised. What cannot be sent stays.

    Raises
    ------
    TrackingError
        Another process is sending.
    """
    found = journals(directory)
    if not found:
        return []
    try:
        with FileLock(directory / f"{FOLDER}.lock", timeout=0):
            done = []
            for journal in found:
                done.append(_send(journal, directory, tracking_uri))
                if on_progress is not None:
                    on_progress(len(done), len(found))
            return done
    except Timeout as error:
        raise TrackingError(
            f"Another process is sending what is in {directory / FOLDER}. Try again later."
        ) from error


def _send(journal: Journal, directory: Path, tracking_uri: str | None) -> Synced:
    key = name = journal.path.stem
    try:
        opened = journal.opened()
        name = opened.start.name or key
        if journal.is_being_written():
            return Synced(key, name, "open", reason="The process that writes it is running.")
        settings = BackendSettings(opened.project, directory, tracking_uri, resending=True)
        backend = open_backend(opened.backend, settings)
        backend.connect()
        run_id = _replay(journal, backend, opened.start, opened.run_id)
    except Exception as error:
        logger.debug("Journal %s", journal.path, exc_info=True)
        reason = f"{type(error).__name__}: {redact(str(error)).partition(chr(10))[0]}"
        return Synced(key, name, "kept", reason=reason)
    journal.remove()
    return Synced(key, name, "sent", run_id)


def _replay(journal: Journal, backend: TrackingBackend, start: RunStart, run_id: str | None) -> str:
    """Say everything again; one write for all parameters, metrics and tags."""
    if run_id is None:
        run_id = backend.start_run(start)
    else:
        backend.resume_run(run_id)
    entries = list(journal.read())
    batch = Batch()
    for entry in entries:
        if entry["operation"] == "batch":
            batch = batch + batch_from_plain(entry)
    if batch:
        backend.log_batch(batch)
    for entry in entries:
        if entry["operation"] == "files":
            backend.log_files(journal.files / entry["part"], "")
        elif entry["operation"] == "child":
            child = RunStart(entry["key"], entry["name"], entry["tags"])
            backend.log_child(child, batch_from_plain(entry["batch"]))
    endings = [entry["status"] for entry in entries if entry["operation"] == "finish"]
    # Without an ending the process was killed; a run that was only added to keeps the status it has.
    backend.finish_run(endings[-1] if endings else None if journal.opened().run_id else "KILLED")
    return run_id
