"""The readings table: what was found at each look, by the bot or by the command."""

from __future__ import annotations

from typing import Literal

import pandas as pd

from freqtrade_mlpipe.exceptions import DataError
from freqtrade_mlpipe.monitoring.checks import Reading
from freqtrade_mlpipe.monitoring.journal import LiveJournal
from freqtrade_mlpipe.monitoring.looks import Look
from freqtrade_mlpipe.monitoring.models import WatchedModel

Source = Literal["bot", "command", "action"]

_MOST_ROWS = 200_000
_INSERT = "INSERT INTO readings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_FORGET = f"DELETE FROM readings WHERE rowid <= (SELECT max(rowid) FROM readings) - {_MOST_ROWS} AND ? = ?"


def write_look(journal: LiveJournal, model: WatchedModel, look: Look, source: Source) -> None:
    """Queue the readings of a look for the journal's file; nothing is raised."""
    at = int(look.at.value // 1_000_000)
    rows = [
        (at, model.name, model.digest, r.check, r.family, r.state, r.value, r.limit, r.n, r.sentence, source)
        for r in look.readings
    ]  # fmt: skip
    journal.database.submit(_INSERT, rows)
    journal.database.submit(_FORGET, [(1, 1)])


def write_action(
    journal: LiveJournal, model: WatchedModel, at: pd.Timestamp, policy: str, sentence: str
) -> None:
    """Queue that a policy acted on the alarm that began at `at`."""
    done = Reading(policy, "action", "bad", float("nan"), float("nan"), 0, sentence)
    write_look(journal, model, Look(at, (done,)), "action")


def read_looks(journal: LiveJournal, digest: str, source: Source, n: int = 1_000) -> list[Look]:
    """The last `n` looks at a bundle, by time.

    Raises
    ------
    DataError
        There is no journal, or it is damaged.
    """
    query = (
        "SELECT at, check_name, family, state, value, threshold, n, sentence FROM readings "
        "WHERE digest = ? AND source = ? AND at IN (SELECT DISTINCT at FROM readings WHERE digest = ? AND source = ? "
        "ORDER BY at DESC LIMIT ?) ORDER BY at, rowid"
    )
    with journal.database.reading() as connection:
        found = connection.execute(query, (digest, source, digest, source, n)).fetchall()
    nan = float("nan")
    looks: dict[int, dict[str, Reading]] = {}
    for at, check, family, state, value, limit, count, sentence in found:
        numbers = (nan if value is None else value, nan if limit is None else limit)
        looks.setdefault(at, {})[check] = Reading(check, family, state, *numbers, count, sentence)
    return [
        Look(pd.Timestamp(at, unit="ms", tz="UTC"), tuple(readings.values()))
        for at, readings in looks.items()
    ]


def known_looks(journal: LiveJournal, digest: str) -> list[Look]:
    """Looks of the bot at a bundle, without them those of the command; empty where there is no usable journal."""
    try:
        return read_looks(journal, digest, "bot") or read_looks(journal, digest, "command")
    except DataError:
        return []
