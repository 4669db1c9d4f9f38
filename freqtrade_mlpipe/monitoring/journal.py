"""What the bot predicted, candle by candle: the journal that drift, shadow reports and parity read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from freqtrade_mlpipe.monitoring.database import MAX_BYTES, Database, Report, Row

Role = Literal["production", "challenger"]

FOLDER = "live"
_NUMBERS = ("proba", "edge", "signal", "do_predict", "latency_ms", "close", "proba_short", "value")
_REPEATED = ("repeats", "repeat_version", "repeat_edge")
_COLUMNS = ("pair", "date", "role", "version", "digest", *_NUMBERS)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS predictions (
    pair TEXT NOT NULL, date INTEGER NOT NULL, role TEXT NOT NULL, version TEXT NOT NULL, digest TEXT NOT NULL,
    proba REAL, edge REAL, signal INTEGER, do_predict INTEGER, latency_ms REAL, close REAL, proba_short REAL,
    value REAL, features BLOB,
    repeats INTEGER NOT NULL DEFAULT 0, repeat_version TEXT, repeat_edge REAL,
    PRIMARY KEY (pair, date, role)
);
CREATE TABLE IF NOT EXISTS readings (
    at INTEGER NOT NULL, model TEXT NOT NULL, digest TEXT NOT NULL, check_name TEXT NOT NULL, family TEXT NOT NULL,
    state TEXT NOT NULL, value REAL, threshold REAL, n INTEGER NOT NULL, sentence TEXT NOT NULL, source TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS readings_of ON readings (digest, source, at);
"""
"""Dates are milliseconds since 1970 in UTC. One file holds both tables, so that one thing has to be kept."""

_INSERT = f"""
INSERT INTO predictions ({", ".join(_COLUMNS)}, features) VALUES ({", ".join("?" * (len(_COLUMNS) + 1))})
ON CONFLICT (pair, date, role) DO UPDATE SET
    repeats = repeats + 1, repeat_version = excluded.version, repeat_edge = excluded.edge
"""


@dataclass(frozen=True)
class LivePrediction:
    """One candle of one pair as a live model answered it.

    Attributes
    ----------
    date : Timestamp (UTC)
        Open time of the candle, the last closed one when the model spoke.
    version, digest
        Of the bundle that spoke.
    proba, edge : NaN without an answer.
    proba_short : with three classes; value : of a regression, the predicted log return. NaN otherwise.
    do_predict : 1 usable, 0 not predictable, -1 masked.
    latency_ms : time that features and prediction of this candle took.
    close : price at which the candle closed.
    features : the values of the model's kept columns as computed live, in their order, as float32; None: not kept.
    """

    pair: str
    date: pd.Timestamp
    version: str
    digest: str
    role: Role
    proba: float
    edge: float
    signal: int
    do_predict: int
    latency_ms: float
    close: float
    features: tuple[float, ...] | None = None
    proba_short: float = math.nan
    value: float = math.nan


class LiveJournal:
    """Live predictions in a SQLite file, one a (pair, date, role); nothing here ever raises into or delays the bot.

    The first prediction of a candle stays as it was. A second one, of a restarted bot or by mistake, is counted in
    ``repeats``, with the version and edge of the last one in ``repeat_version`` and ``repeat_edge``.

    Parameters
    ----------
    path
        ``user_data/mlpipe/live/<bot name>.sqlite``, see `journal_path`.
    max_bytes
        Beyond it the oldest predictions are forgotten.
    report
        See `Database`.

    Examples
    --------
    >>> import tempfile
    >>> journal = LiveJournal(Path(tempfile.mkdtemp()) / "bot.sqlite")
    >>> date = pd.Timestamp("2026-01-01 00:00", tz="UTC")
    >>> journal.record([LivePrediction("BTC/USDT", date, "1", "d", "production", 0.6, 0.1, 1, 1, 0.2, 90e3)])
    >>> journal.read()[["pair", "proba", "repeats"]].to_dict("records")
    [{'pair': 'BTC/USDT', 'proba': 0.6, 'repeats': 0}]
    >>> journal.close()
    """

    def __init__(
        self, path: Path | str, max_bytes: int = MAX_BYTES, report: Report | None = None
    ) -> None:
        self.database = Database(Path(path), _SCHEMA, "predictions", max_bytes, report)

    @property
    def path(self) -> Path:
        """The file."""
        return self.database.path

    def record(self, rows: Sequence[LivePrediction]) -> None:
        """Queue predictions for the journal's own thread; returns within microseconds and never raises."""
        try:
            self.database.submit(_INSERT, [_to_row(row) for row in rows])
        except Exception as error:  # noqa: BLE001 - a callback of the bot
            _say_once(f"{type(error).__name__}: {error}")

    def read(
        self,
        *,
        start: pd.Timestamp | None = None,
        end: pd.Timestamp | None = None,
        role: Role | None = None,
        digest: str | None = None,
        features: bool = False,
    ) -> pd.DataFrame:
        """Predictions by date, then pair.

        Parameters
        ----------
        start, end
            First and last open time (UTC), both included; None: without end.
        features
            Add the column `features`: arrays of float32, or None where they were not kept.

        Returns
        -------
        DataFrame
            The attributes of `LivePrediction` with `date` in UTC, and `repeats`, `repeat_version`, `repeat_edge`.

        Raises
        ------
        DataError
            There is no journal, or it is damaged.
        """
        wanted = {"date >= ?": _ms(start), "date <= ?": _ms(end), "role = ?": role, "digest = ?": digest}  # fmt: skip
        given = {clause: value for clause, value in wanted.items() if value is not None}
        columns = (*_COLUMNS, *_REPEATED, *(("features",) if features else ()))
        query = f"SELECT {', '.join(columns)} FROM predictions"
        if given:
            query += f" WHERE {' AND '.join(given)}"
        with self.database.reading() as connection:
            found = connection.execute(f"{query} ORDER BY date, pair, role", list(given.values()))
            frame = pd.DataFrame(found.fetchall(), columns=list(columns))
        return _typed(frame)

    def flush(self, timeout_seconds: float = 5.0) -> bool:
        """Wait until all predictions are in the file; False when it took too long."""
        return self.database.flush(timeout_seconds)

    def close(self) -> None:
        """Write what waits and end the thread."""
        self.database.close()


def journal_path(directory: Path, bot_name: str | None) -> Path:
    """The journal of a bot below the registry's folder; the name is freqtrade's `bot_name`.

    Examples
    --------
    >>> journal_path(Path("user_data/mlpipe"), "freqtrade/1").as_posix()
    'user_data/mlpipe/live/freqtrade%2F1.sqlite'
    """
    from urllib.parse import quote

    return directory / FOLDER / f"{quote(bot_name or 'freqtrade', safe=' ')}.sqlite"


_said: set[str] = set()


def _say_once(problem: str) -> None:
    import logging

    if problem not in _said:
        _said.add(problem)
        logging.getLogger(__name__).warning("A live prediction is not journalled: %s", problem)


def _to_row(row: LivePrediction) -> Row:
    features = None if row.features is None else np.asarray(row.features, np.float32).tobytes()
    return (
        row.pair, _ms(row.date), row.role, row.version, row.digest, float(row.proba), float(row.edge),
        int(row.signal), int(row.do_predict), float(row.latency_ms), float(row.close), float(row.proba_short),
        float(row.value), features,
    )  # fmt: skip


def _ms(date: pd.Timestamp | None) -> int | None:
    if date is None:
        return None
    if date.tzinfo is None:
        raise ValueError(f"{date} has no time zone; dates are in UTC")
    return int(date.value // 1_000_000)


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    frame["date"] = pd.to_datetime(frame["date"], unit="ms", utc=True)
    for name in (*_NUMBERS, "repeat_edge"):
        frame[name] = frame[name].astype(np.float64)
    for name in ("signal", "do_predict"):
        frame[name] = frame[name].fillna(0).astype(np.int8)
    if "features" in frame:
        kept = [
            None if blob is None else np.frombuffer(blob, np.float32) for blob in frame["features"]
        ]
        frame["features"] = pd.Series(kept, index=frame.index, dtype=object)
    return frame
