"""What was said about the candles of a pair's window: said once, and kept until the candle has left the window."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from freqtrade_mlpipe.config import Task

if TYPE_CHECKING:
    from freqtrade_mlpipe.member import Prediction

Columns = dict[str, NDArray[Any]]

PROBA, EDGE, SIGNAL, DO_PREDICT, VERSION = (
    "mlpipe_proba", "mlpipe_edge", "mlpipe_signal", "mlpipe_do_predict", "mlpipe_version",
)  # fmt: skip
SHORT_PROBA, FLAT_PROBA, SHORT_EDGE = "mlpipe_proba_short", "mlpipe_proba_flat", "mlpipe_edge_short"
VALUE = "mlpipe_prediction"
_MORE: Mapping[Task, tuple[str, ...]] = {
    "binary": (),
    "three_class": (SHORT_PROBA, FLAT_PROBA, SHORT_EDGE),
    "regression": (VALUE,),
}
Empty = Mapping[str, float | int | str]
"""Columns, and what they hold where there is no answer."""
NOTHING: Empty = {
    PROBA: np.nan, EDGE: np.nan, SIGNAL: 0, DO_PREDICT: 0, VERSION: "",
}  # fmt: skip
"""Columns of every model, and what they hold for a candle without an answer."""
_TYPES = {SIGNAL: np.int8, DO_PREDICT: np.int8, VERSION: object}


@lru_cache(maxsize=16)
def empty_columns(*tasks: Task) -> Empty:
    """The columns of models of some tasks."""
    more = [name for task in sorted(set(tasks)) for name in _MORE[task]]
    return {**NOTHING, **dict.fromkeys(more, np.nan)}


def said_columns(said: Prediction, version: str) -> dict[str, Any]:
    """The prediction columns of what a model of a version said."""
    columns: dict[str, Any] = {
        PROBA: said.proba, EDGE: said.edge, SIGNAL: said.signal, DO_PREDICT: said.do_predict, VERSION: version,
    }  # fmt: skip
    if said.value is not None:
        columns[VALUE] = said.value
    if said.short is not None:
        columns |= {
            SHORT_PROBA: said.short.proba,
            FLAT_PROBA: said.short.proba_flat,
            SHORT_EDGE: said.short.edge,
        }
    return columns


class Window:
    """Answers by candle of one pair. It never forgets or changes one while the candle is in the bot's frame."""

    def __init__(self) -> None:
        self._seconds = np.empty(0, dtype=np.int64)
        self._columns: Columns = {}

    def __len__(self) -> int:
        return len(self._seconds)

    def knows(self, second: int) -> bool:
        """Whether the newest answer is that for the candle that opened at `second`."""
        return len(self._seconds) > 0 and int(self._seconds[-1]) == second

    def over(self, seconds: NDArray[np.int64], names: Empty) -> tuple[Columns, NDArray[np.intp]]:
        """The answers for candles that opened at `seconds`, and the places of those that have none.

        Parameters
        ----------
        names
            The columns wanted, and what they hold where there is no answer.
        """
        held = self._seconds
        start = int(np.searchsorted(held, seconds[0])) if len(seconds) else len(held)
        n_known = len(held) - start
        place: Any = slice(start, None)
        known: Any = slice(n_known)
        rows = np.arange(n_known, len(seconds))
        if n_known > len(seconds) or held[start:].tobytes() != seconds[:n_known].tobytes():
            # Not simply the same candles and some new ones.
            places = np.searchsorted(held, seconds)
            inside = np.flatnonzero(places < len(held))
            known = inside[held[places[inside]] == seconds[inside]]
            place = places[known]
            rows = np.delete(np.arange(len(seconds)), known)
        columns = {}
        for name, nothing in names.items():
            column = np.empty(len(seconds), dtype=_TYPES.get(name, np.float64))
            if len(rows):
                column.fill(nothing)
            if name in self._columns:
                column[known] = self._columns[name][place]
            else:
                column.fill(nothing)
            columns[name] = column
        return columns, rows

    def keep(self, seconds: NDArray[np.int64], columns: Columns) -> None:
        """Keep the answers to all these candles, in ascending order."""
        self._seconds, self._columns = seconds, columns


def with_columns(dataframe: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """The candles with columns added or replaced, all at once: each column alone costs as much as all together."""
    there = [name for name in columns if name in dataframe.columns]
    version = columns[VERSION]
    if len(version) and (version == version[-1]).all():
        columns = {**columns, VERSION: _repeated(version[-1], len(version))}
    added = pd.DataFrame(columns, index=dataframe.index)
    return pd.concat([dataframe.drop(columns=there) if there else dataframe, added], axis=1)


@lru_cache(maxsize=32)
def _repeated(version: str, n: int) -> Any:
    """A column of one version, as pandas keeps strings: to make it takes as long as all other columns."""
    return pd.Series(np.full(n, version, dtype=object)).array
