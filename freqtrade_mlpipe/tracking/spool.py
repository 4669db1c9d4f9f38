"""What the store has not confirmed yet: a journal a run, one JSON object a line, and the files beside it.

A journal is written before anything is sent and removed when all of it has arrived, so a dead server, a killed
process or a full network loses nothing: `freqtrade-mlpipe sync` sends what is left.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from freqtrade_mlpipe.run_owner import owner_is_gone, owner_tags
from freqtrade_mlpipe.tracking.backends import Batch, MetricPoint, RunStart
from freqtrade_mlpipe.tracking.secrets import redact

FOLDER = "spool"


@dataclass(frozen=True)
class Opened:
    """First line of a journal: whose run it is and where it belongs.

    Attributes
    ----------
    run_id : of the run that is added to; None: one that `start` describes.
    """

    backend: str
    project: str
    start: RunStart
    run_id: str | None
    owner: Mapping[str, str]


class Journal:
    """The unconfirmed operations of one run, under `directory/spool`."""

    def __init__(self, directory: Path, key: str) -> None:
        self.path = directory / FOLDER / f"{key}.jsonl"
        self.files = directory / FOLDER / key

    def open(self, backend: str, project: str, start: RunStart, run_id: str | None) -> None:
        """Begin it. Raises `OSError` where it cannot be written."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        opened = Opened(backend, project, start, run_id, owner_tags())
        self.write("open", **asdict(opened))

    def write(self, operation: str, **payload: Any) -> None:
        """Append one operation. Raises `OSError` where it cannot be written."""
        line = json.dumps({"operation": operation, **payload}, default=str)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def read(self) -> Iterator[dict[str, Any]]:
        """Its operations in order; a last line that was cut off by a kill is left out."""
        with self.path.open(encoding="utf-8") as file:
            for line in file:
                if line.endswith("\n"):
                    yield json.loads(line)

    def opened(self) -> Opened:
        """Its first line.

        Raises
        ------
        ValueError
            It is not there: the file is empty or damaged.
        """
        try:
            first = next(self.read())
            return Opened(
                first["backend"], first["project"], RunStart(**first["start"]), first["run_id"],
                first["owner"],
            )  # fmt: skip
        except (StopIteration, KeyError, TypeError, UnicodeDecodeError) as error:
            raise ValueError(f"{self.path} is damaged: {error!r}") from error

    def is_being_written(self) -> bool:
        """Whether a living process, as far as one can tell, has not finished the run yet."""
        if owner_is_gone(self.opened().owner):
            return False
        return not any(entry["operation"] == "finish" for entry in self.read())

    def keep(self, part: str, source: Path, folder: str) -> None:
        """Copy a file, or the content of a directory, to send it later as part of `part`."""
        target = self.files / part / folder
        target.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copy2(source, target)

    def keep_text(self, part: str, text: str, name: str) -> None:
        """As `keep`, for the file `name` (a path below the run's root) with this content; secrets are left out."""
        target = self.files / part / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(redact(text), encoding="utf-8")

    def remove(self) -> None:
        """Forget it: everything has arrived."""
        shutil.rmtree(self.files, ignore_errors=True)
        self.path.unlink(missing_ok=True)
        with suppress(OSError):  # others are in it
            self.path.parent.rmdir()


def batch_to_plain(batch: Batch) -> dict[str, Any]:
    """A batch as JSON types."""
    return {
        "params": dict(batch.params),
        "metrics": [list(point) for point in batch.metrics],
        "tags": dict(batch.tags),
    }


def batch_from_plain(values: Mapping[str, Any]) -> Batch:
    """What `batch_to_plain` was given."""
    return Batch(values["params"], [MetricPoint(*m) for m in values["metrics"]], values["tags"])


def journals(directory: Path) -> list[Journal]:
    """All journals below `directory`, oldest first."""
    paths = (directory / FOLDER).glob("*.jsonl")
    found = sorted(paths, key=lambda path: (path.stat().st_mtime, path.name))
    return [Journal(directory, path.stem) for path in found]


def unsent(directory: Path) -> int:
    """How many runs below `directory` wait to be sent; those that a living process is still writing do not count."""
    return sum(not _in_use(journal) for journal in journals(directory))


def _in_use(journal: Journal) -> bool:
    try:
        return journal.is_being_written()
    except ValueError:  # damaged: `sync` says so
        return False
