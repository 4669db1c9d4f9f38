"""Live predictions against those that a backtest makes of the same candles."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

TOLERANCE = 1e-6
_COMPARED = ("proba", "proba_short", "value", "edge", "signal", "do_predict")


@dataclass(frozen=True)
class Mismatch:
    """A candle of which live and backtest say different things.

    Attributes
    ----------
    what : the columns that differ.
    live, again : edge of the prediction, live and recomputed (or of the second live one).
    features : names and differences of the features that differ most; empty where none do or they were not kept.
    close_moved : the candle's close in the file is not the one the bot saw.
    """

    pair: str
    date: pd.Timestamp
    version: str
    what: tuple[str, ...]
    live: float
    again: float
    features: tuple[str, ...]
    close_moved: bool


@dataclass(frozen=True)
class Parity:
    """What a replay of the journal found.

    Attributes
    ----------
    n_compared : candles whose prediction was made again.
    mismatches : beyond `TOLERANCE`; there must be none.
    repeated : candles predicted more than once, as (pair, date, times); whose later answers differ are in `mismatches`.
    missing : candles between a pair's first and last prediction that have none, as (pair, date).
    n_unchecked : predictions whose candles are not in the files, or whose version is not to be had.
    """

    n_compared: int
    mismatches: tuple[Mismatch, ...]
    repeated: tuple[tuple[str, pd.Timestamp, int], ...]
    missing: tuple[tuple[str, pd.Timestamp], ...]
    n_unchecked: int

    @property
    def sentence(self) -> str:
        """The verdict."""
        if self.mismatches:
            n = len(self.mismatches)
            return f"{n} of {self.n_compared} candles differ between live and backtest."
        return f"Live and backtest agree on all {self.n_compared} candles compared."

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "sentence": self.sentence,
            "n_compared": self.n_compared,
            "n_unchecked": self.n_unchecked,
            "mismatches": [{**asdict(m), "date": m.date.isoformat()} for m in self.mismatches],
            "repeated": [
                {"pair": pair, "date": date.isoformat(), "times": times}
                for pair, date, times in self.repeated
            ],
            "missing": [{"pair": pair, "date": date.isoformat()} for pair, date in self.missing],
        }


def compare(
    live: pd.DataFrame,
    again: pd.DataFrame,
    candle: pd.Timedelta,
    columns: dict[str, tuple[str, ...]],
) -> Parity:
    """Compare journalled predictions with predictions made again.

    Parameters
    ----------
    live : as `LiveJournal.read` gives them, with features.
    again : the same columns without the repeats, one row a (pair, date, version).
    columns : names of the features, by digest.
    """
    key = ["pair", "date", "version"]
    live = live.assign(date=live["date"].dt.as_unit("ns"))
    again = again.assign(date=again["date"].dt.as_unit("ns"))
    both = live.merge(again, on=key, suffixes=("", "_again"), how="inner")
    differs = pd.DataFrame(
        {name: _apart(both[name], both[f"{name}_again"]) for name in _COMPARED}, index=both.index
    )
    mismatches = [
        _mismatch(row, tuple(n for n in _COMPARED if differs[n].iloc[place]), columns)
        for place, row in enumerate(both.to_dict("records"))
        if differs.iloc[place].any()
    ]
    repeated = live[live["repeats"] > 0]
    changed = repeated[
        (repeated["repeat_version"] == repeated["version"])
        & _apart(repeated["repeat_edge"], repeated["edge"])
    ]
    for _, row in changed.iterrows():
        edges = float(row["edge"]), float(row["repeat_edge"])
        mismatches.append(
            Mismatch(
                row["pair"], row["date"], row["version"], ("predicted twice",), *edges, (), False
            )
        )
    return Parity(
        n_compared=len(both),
        mismatches=tuple(sorted(mismatches, key=lambda m: (m.date, m.pair))),
        repeated=tuple(
            zip(repeated["pair"], repeated["date"], (repeated["repeats"] + 1).tolist(), strict=True)
        ),
        missing=tuple(missing_candles(live, candle)),
        n_unchecked=len(live) - len(both),
    )


def missing_candles(live: pd.DataFrame, candle: pd.Timedelta) -> list[tuple[str, pd.Timestamp]]:
    """Candles between the first and last prediction of each pair that have none."""
    found = []
    for pair, part in live.groupby("pair"):
        dates = pd.DatetimeIndex(part["date"]).as_unit("ns")
        whole = pd.date_range(dates.min(), dates.max(), freq=candle)
        found += [(str(pair), date) for date in whole.difference(dates)]
    return found


def _apart(a: pd.Series[Any], b: pd.Series[Any]) -> np.ndarray:
    """Whether two values differ by more than `TOLERANCE`; two missing ones do not."""
    x, y = a.to_numpy(np.float64, na_value=np.nan), b.to_numpy(np.float64, na_value=np.nan)
    return np.asarray((np.abs(x - y) > TOLERANCE) | (np.isnan(x) != np.isnan(y)))


def _mismatch(
    row: Mapping[Hashable, Any], what: tuple[str, ...], columns: dict[str, tuple[str, ...]]
) -> Mismatch:
    x, y = row["features"], row["features_again"]
    names = columns.get(row["digest"], ())
    worst: tuple[str, ...] = ()
    if x is not None and y is not None and len(x) == len(y) == len(names):
        gap = np.abs(np.asarray(x, np.float64) - np.asarray(y, np.float64))
        gap[np.isnan(x) != np.isnan(y)] = np.inf
        gap = np.nan_to_num(gap, nan=0.0, posinf=np.inf)
        order = np.argsort(-gap, kind="stable")[:5]
        worst = tuple(f"{names[k]} by {gap[k]:.3g}" for k in order if gap[k] > 0)
    moved = bool(_apart(pd.Series([row["close"]]), pd.Series([row["close_again"]]))[0])
    return Mismatch(
        row["pair"], row["date"], row["version"], what, float(row["edge"]),
        float(row["edge_again"]), worst, moved,
    )  # fmt: skip
