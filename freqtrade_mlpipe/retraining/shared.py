"""One search among any number of machines: a database says which epochs are done and who is at work on which.

Every worker replays the proposals from the results, so that all of them know what each epoch tries; the database only
hands out numbers. An epoch is one row, finished once, whoever was at work on it: none is lost, none counts twice, and
the epochs are those of a search on one machine.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from freqtrade_mlpipe.exceptions import (
    MissingExtraError,
    SearchInterrupted,
    StoreUnavailableError,
    TrainingError,
)
from freqtrade_mlpipe.interruption import lasting_interrupts
from freqtrade_mlpipe.retraining.epochs import Epoch, from_line, to_line
from freqtrade_mlpipe.retraining.search import Course, InOrder, Plan, Proposals
from freqtrade_mlpipe.retraining.workers import Evaluate

logger = logging.getLogger(__name__)
Found = TypeVar("Found")

_FIRST_SECONDS = 5.0
"""A wrong address or password is told at once; a database that has answered before may be restarting."""

_NOW = {
    "postgresql": "extract(epoch from clock_timestamp())",
    "sqlite": "((julianday('now') - 2440587.5) * 86400.0)",
}
"""Seconds since 1970 by the database's own clock: those of the workers may differ."""


class Board:
    """Rows of epochs in a database: number, who is at work, when that worker was last heard of, and the result.

    Parameters
    ----------
    url : ``postgresql://user:password@host/database``, or ``sqlite:///file`` for one machine.
    study : name of the search.
    worker : this worker, unlike any other.
    beat_seconds : how often a worker says that it is alive; after three times as long its epoch is anybody's.
    patience_seconds : how long a database that does not answer is waited for.

    Raises
    ------
    MissingExtraError
        Without the driver for PostgreSQL.
    StoreUnavailableError
        For an address that is none, or a database that does not answer.
    """

    def __init__(
        self,
        url: str,
        study: str,
        worker: str,
        *,
        beat_seconds: float = 20.0,
        patience_seconds: float = 600.0,
    ) -> None:
        import sqlalchemy as sa

        self.study, self.worker, self.beat_seconds = study, worker, beat_seconds
        self._patience, self._sa = patience_seconds, sa
        try:
            self._engine = sa.create_engine(_with_driver(url), pool_pre_ping=True)
        except ImportError as error:
            raise MissingExtraError("psycopg2", "server") from error
        except sa.exc.ArgumentError as error:
            raise StoreUnavailableError(f"--storage is no database address: {error}") from error
        if self._engine.dialect.name not in _NOW:
            raise StoreUnavailableError(
                f"--storage is PostgreSQL or SQLite, found {self._engine.dialect.name}."
            )
        self._rows = sa.Table(
            "mlpipe_epochs",
            sa.MetaData(),
            sa.Column("study", sa.String(200), primary_key=True),
            sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
            sa.Column("worker", sa.String(200), nullable=False),
            sa.Column("beat", sa.Float(53), nullable=False),
            sa.Column("epoch", sa.Text),
        )
        self._now: Any = sa.literal_column(_NOW[self._engine.dialect.name])
        self._patiently(self._create, _FIRST_SECONDS)

    def finished(self) -> dict[int, Epoch]:
        """Finished epochs by number."""
        rows = self._rows.c
        query = self._sa.select(rows.epoch).where(rows.study == self.study, rows.epoch.is_not(None))
        lines = self._patiently(lambda connection: connection.execute(query).scalars().all())
        return {epoch.number: epoch for epoch in map(from_line, lines)}

    def claim(self, number: int) -> bool:
        """Be at work on an epoch; False where it is finished, or another worker that is alive is at work on it."""
        rows, stale = self._rows.c, self._now - 3 * self.beat_seconds
        new = {"study": self.study, "number": number, "worker": self.worker, "beat": self._now}
        free = rows.epoch.is_(None) & ((rows.beat < stale) | (rows.worker == self.worker))
        statement = self._insert().values(**new).on_conflict_do_update(
            index_elements=["study", "number"], set_={"worker": self.worker, "beat": self._now}, where=free
        )  # fmt: skip
        return bool(self._patiently(lambda connection: connection.execute(statement).rowcount))

    def beat(self, number: int) -> None:
        """Say that this worker is still at work on it."""
        rows = self._rows.c
        self._patiently(
            lambda connection: connection.execute(
                self._rows.update()
                .where(rows.study == self.study, rows.number == number, rows.worker == self.worker)
                .values(beat=self._now)
            )
        )

    def finish(self, epoch: Epoch) -> None:
        """Keep a result; the first one counts, should two workers have been at it."""
        rows = self._rows.c
        self._patiently(
            lambda connection: connection.execute(
                self._rows.update()
                .where(rows.study == self.study, rows.number == epoch.number, rows.epoch.is_(None))
                .values(epoch=to_line(epoch))
            )
        )

    def _create(self, connection: Any) -> None:
        """Several workers may make the table at once."""
        if not self._sa.inspect(connection).has_table(self._rows.name):
            self._rows.create(connection, checkfirst=True)

    def _insert(self) -> Any:
        from sqlalchemy.dialects import postgresql, sqlite

        kinds = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}
        return kinds[self._engine.dialect.name](self._rows)

    def _patiently(self, ask: Callable[[Any], Found], seconds: float | None = None) -> Found:
        """One transaction, repeated while the database does not answer: all of them may be."""
        deadline, pause = time.monotonic() + (self._patience if seconds is None else seconds), 0.2
        while True:
            try:
                with self._engine.begin() as connection:
                    return ask(connection)
            except self._sa.exc.DBAPIError as error:
                if time.monotonic() + pause > deadline:
                    address = self._engine.url.render_as_string(hide_password=True)
                    raise StoreUnavailableError(
                        f"The database of the search does not answer ({address}): {error.orig}. The epochs that are "
                        "finished are kept there: the same command goes on when it is back."
                    ) from error
                logger.debug("The database does not answer: %s", error)
                time.sleep(pause)
                pause = min(2 * pause, 5.0)


def share(
    plan: Plan,
    proposals: Proposals,
    evaluate: Evaluate,
    board: Board,
    on_epoch: Callable[[Epoch], None],
    *,
    poll_seconds: float = 1.0,
) -> list[Epoch]:
    """All epochs of the plan, in order, made together with whoever else works on the board.

    Raises
    ------
    SearchInterrupted
        On Ctrl-C; the board keeps what is finished, and hands out what this worker was at.
    StoreUnavailableError
        When the database does not answer for too long.
    """
    course, order = Course(plan, proposals), InOrder(on_epoch)
    done: dict[int, Epoch] = {}
    try:
        with lasting_interrupts() as check:
            while True:
                check()
                course.advance(done)
                found = board.finished()
                done = {
                    number: _same(found, course, number)
                    for number in course.proposed
                    if number in found
                }
                order.report(done)
                if course.is_over(done):
                    return [done[number] for number in sorted(course.proposed)]
                if course.advance(done):
                    continue
                left = (number for number in sorted(course.proposed) if number not in done)
                mine = next((number for number in left if board.claim(number)), None)
                if mine is None:
                    time.sleep(poll_seconds)
                    continue
                with _beating(board, mine):
                    epoch = evaluate(mine, course.proposed[mine])
                board.finish(epoch)
    except KeyboardInterrupt:
        raise SearchInterrupted(len(board.finished()), plan.n_epochs, "epochs") from None


def _same(found: Mapping[int, Epoch], course: Course, number: int) -> Epoch:
    if found[number].params != course.proposed[number]:
        raise TrainingError(
            f"Epoch {number} of the shared search tried other values than are proposed here: a worker has another "
            "version of a library, or other options. Let all workers be alike."
        )
    return found[number]


@contextmanager
def _beating(board: Board, number: int) -> Iterator[None]:
    over = threading.Event()

    def run() -> None:
        while not over.wait(board.beat_seconds):
            try:
                board.beat(number)
            except StoreUnavailableError as error:
                logger.warning("%s", error)

    thread = threading.Thread(target=run, name="mlpipe-beat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()


def _with_driver(url: str) -> str:
    """SQLAlchemy 2.1 takes another driver than psycopg2 where none is named."""
    plain = ("postgresql://", "postgres://")
    return next(
        (f"postgresql+psycopg2://{url.removeprefix(start)}" for start in plain if url.startswith(start)), url
    )  # fmt: skip
