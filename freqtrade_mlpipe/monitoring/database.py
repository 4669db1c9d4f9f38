"""A small SQLite file that a trading bot writes to and that must never get in its way."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from freqtrade_mlpipe.exceptions import DataError

logger = logging.getLogger(__name__)

MAX_BYTES = 256 * 1024**2
"""About 2 million predictions without features, 500,000 with a hundred."""
_MAX_WAITING = 20_000
_BUSY_SECONDS = 1.0
_RETRY_SECONDS = (0.5, 1, 2, 5, 10, 30)
_ROWS_BETWEEN_TRIMS = 2_000
_MAX_SET_ASIDE = 3
_SIDE_FILES = ("", "-wal", "-shm")

Row = tuple[Any, ...]
Report = Callable[[str | None], None]
"""Told in the thread that writes: why nothing can be written, and None once it can again."""


class Database:
    """Rows written by a thread of its own, in WAL mode.

    `submit` only queues: a slow, full or locked disk never holds the caller up, rows wait in memory and are written
    when it works again. What was committed survives ``kill -9``. A file that is damaged is set aside as
    ``<name>.corrupt-1`` and a new one begun. The file stays below `max_bytes`: the oldest rows of `trimmed` go.

    Parameters
    ----------
    path
        The file; made with its folder at the first write.
    schema
        ``CREATE TABLE IF NOT EXISTS`` statements.
    trimmed
        The table that grows.
    report
        Called when trouble begins and when it is over; by default both are logged.
    """

    def __init__(
        self, path: Path, schema: str, trimmed: str, max_bytes: int = MAX_BYTES,
        report: Report | None = None,
    ) -> None:  # fmt: skip
        self.path = path
        self._schema = schema
        self._trimmed = trimmed
        self._max_bytes = max_bytes
        self._tell = report or self._log
        self._waiting: deque[tuple[str, Row]] = deque(maxlen=_MAX_WAITING)
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._connection: sqlite3.Connection | None = None
        self._closing = False
        self._writing = False
        self._since_trim = 0
        self._problem: str | None = None
        self._n_lost = 0

    @property
    def problem(self) -> str | None:
        """Why nothing can be written at present; None: all is well."""
        return self._problem

    @property
    def n_lost(self) -> int:
        """Rows given up: more waited than fit, or they could not be stored."""
        return self._n_lost

    def submit(self, statement: str, rows: Sequence[Row]) -> None:
        """Queue rows for a statement with placeholders; returns at once, whatever the disk does."""
        with self._changed:
            self._n_lost += max(0, len(self._waiting) + len(rows) - _MAX_WAITING)
            self._waiting.extend((statement, row) for row in rows)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="mlpipe-live", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self, timeout_seconds: float = 5.0) -> bool:
        """Wait until all that was submitted is written; False when it took too long."""
        with self._changed:
            return self._changed.wait_for(
                lambda: not self._waiting and not self._writing, timeout_seconds
            )

    def close(self, timeout_seconds: float = 2.0) -> None:
        """Write what waits, if that works, and end the thread."""
        self.flush(timeout_seconds)
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout_seconds)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that reads what is in the file now.

        Raises
        ------
        DataError
            There is no such file, or it is damaged or of another kind.
        """
        self.flush()
        if not self.path.is_file():
            raise DataError(f"No live predictions: there is no file {self.path}.")
        try:
            with closing(sqlite3.connect(self.path, timeout=10)) as connection:
                yield connection
        except sqlite3.Error as error:
            raise DataError(
                f"{self.path} cannot be read ({error}). A bot that writes to it sets a damaged file aside by itself."
            ) from error

    def _run(self) -> None:
        n_failures = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if self._closing and (not self._waiting or n_failures):
                    break
                rows = list(self._waiting)
                self._waiting.clear()
                self._writing = True
            try:
                self._write(rows)
                n_failures = 0
                self._report(None)
            except Exception as error:  # noqa: BLE001 - the bot goes on without its journal
                self._recover(error)
                self._put_back(rows)
                n_failures += 1
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                if n_failures:
                    delay = _RETRY_SECONDS[min(n_failures, len(_RETRY_SECONDS)) - 1]
                    self._changed.wait_for(lambda: self._closing, delay)
        self._disconnect()

    def _put_back(self, rows: Sequence[tuple[str, Row]]) -> None:
        with self._changed:
            room = _MAX_WAITING - len(self._waiting)
            self._n_lost += max(0, len(rows) - room)
            self._waiting.extendleft(reversed(rows[max(0, len(rows) - room) :]))

    def _write(self, rows: Sequence[tuple[str, Row]]) -> None:
        connection = self._connection or self._connect()
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            for statement, row in rows:
                try:
                    connection.execute(statement, row)
                except (sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.ProgrammingError,
                        sqlite3.DataError, OverflowError) as error:  # fmt: skip
                    self._n_lost += 1
                    logger.warning("A live prediction could not be stored: %s", error)
        self._since_trim += len(rows)
        if self._since_trim >= _ROWS_BETWEEN_TRIMS:
            self._trim(connection)

    def _connect(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(f"PRAGMA journal_size_limit={4 * 1024**2}")
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise sqlite3.DatabaseError(found)
            connection.executescript(self._schema)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._since_trim = _ROWS_BETWEEN_TRIMS
        return connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _recover(self, error: Exception) -> None:
        self._disconnect()
        # Its subclasses are a full disk, a lock, a folder without permission: they pass, and the file is good.
        if type(error) is sqlite3.DatabaseError:
            with suppress(OSError):
                kept = set_aside(self.path)
                logger.warning("%s was damaged (%s); it is kept as %s.", self.path, error, kept)
                return
        self._report(f"{type(error).__name__}: {error}")

    def _report(self, problem: str | None) -> None:
        """Say it once when it begins and once when it is over."""
        if bool(problem) != bool(self._problem):
            self._tell(problem)
        self._problem = problem

    def _log(self, problem: str | None) -> None:
        if problem:
            logger.warning(
                "%s cannot be written (%s); live predictions wait in memory.", self.path, problem
            )
        else:
            logger.warning("%s is written again.", self.path)

    def _trim(self, connection: sqlite3.Connection) -> None:
        """Delete the oldest tenth while the file is too large; its pages are used again, the file does not shrink."""
        self._since_trim = 0
        while _used_bytes(connection) > self._max_bytes:
            deleted = connection.execute(
                f"DELETE FROM {self._trimmed} WHERE rowid <= (SELECT min(rowid) + "
                f"(max(rowid) - min(rowid)) / 10 FROM {self._trimmed})"
            )
            if not deleted.rowcount:
                break


def _used_bytes(connection: sqlite3.Connection) -> int:
    pages, free, size = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size


def set_aside(path: Path) -> Path:
    """Rename a damaged database and its side files; of many the last place is used again."""
    number = next(
        (n for n in range(1, _MAX_SET_ASIDE) if not _named(path, n).exists()), _MAX_SET_ASIDE
    )
    for suffix in _SIDE_FILES:
        source = path.with_name(path.name + suffix)
        if source.exists():
            target = _named(path, number)
            source.replace(target.with_name(target.name + suffix))
    return _named(path, number)


def _named(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.corrupt-{number}")
