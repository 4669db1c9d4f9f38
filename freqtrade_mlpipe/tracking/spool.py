"""What could not be sent to the store is kept in a file, one JSON object a line."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


class Spool:
    """The unsent operations of one run, under `directory/spool`."""

    def __init__(self, directory: Path, run_id: str) -> None:
        self.path = directory / "spool" / f"{run_id}.jsonl"
        self._files = directory / "spool" / run_id

    def write(self, operation: str, payload: dict[str, Any]) -> None:
        """Append one operation. A full disk loses it with a debug message, nothing more."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            line = json.dumps({"operation": operation, **payload}, default=str)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
        except (OSError, TypeError, ValueError) as error:
            logger.debug("Lost %s of a run: %s", operation, error)

    def keep(self, source: Path, folder: str) -> None:
        """Copy files, which may be temporary, and note where they belong."""
        target = self._files / folder
        try:
            target.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
            else:
                shutil.copy2(source, target)
        except OSError as error:
            logger.debug("Lost files of a run: %s", error)
            return
        name = "" if source.is_dir() else source.name
        self.write("log_files", {"source": str(target / name), "folder": folder})
