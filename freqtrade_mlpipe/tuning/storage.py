"""Where the trials of a search are kept, so that a search can be interrupted, killed and gone on with."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from freqtrade_mlpipe.exceptions import ConfigError, TrainingError


class _HeldLock:
    """In place of Optuna's lock: ours is held already, and theirs turns Ctrl-C while it is released into an error."""

    def acquire(self) -> bool:
        """True: nobody else can be at work."""
        return True

    def release(self) -> None:
        """Nothing to do."""


@contextmanager
def open_storage(storage: str | Path | None, study_name: str) -> Iterator[Any]:
    """The storage for `optuna.create_study`: None, a URL, or a journal that nobody else writes to.

    Parameters
    ----------
    storage : str, Path or None
        None: in memory. A URL (``sqlite:///…``) is handed to Optuna. A folder: one journal a
        study in it, named after the study. Any other path: the journal itself. A journal is ten
        times cheaper a trial than SQLite.

    Raises
    ------
    ConfigError
        When the folder does not exist.
    TrainingError
        When another process is at work on the same journal.

    Notes
    -----
    The lock belongs to the process and goes with it, however it ends. Whoever holds it may therefore
    clean up after a killed one: a last line that was cut off. Optuna's own lock, whose file a killed
    process leaves behind, is not needed then.
    """
    if storage is None or "://" in str(storage):
        yield None if storage is None else str(storage)
        return
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    path = Path(storage)
    if path.is_dir():
        path = path / f"{study_name}.journal"
    if not path.parent.is_dir():
        raise ConfigError(f"The folder of the tuning journal does not exist: {path.parent}.")
    try:
        with FileLock(path.with_name(f"{path.name}.busy"), timeout=0):
            _drop_unfinished_line(path)
            yield JournalStorage(JournalFileBackend(str(path), lock_obj=_HeldLock()))
    except Timeout as error:
        raise TrainingError(
            f"Another process is searching with the same data and settings ({path}): wait for it, or "
            "search with another random_state."
        ) from error


def _drop_unfinished_line(path: Path) -> None:
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)
