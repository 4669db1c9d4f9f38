"""What a FreqAI strategy wants predicted: how far its targets look ahead, and its classes as numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from freqtrade_mlpipe.config import CLASSES, Task
from freqtrade_mlpipe.exceptions import TrainingError

Floats = NDArray[np.float64]
SetTargets = Callable[[pd.DataFrame], pd.DataFrame]
"""The strategy's `set_freqai_targets` for one pair."""

LABEL_PREFIX = "&"
_PROBED_CANDLES, _PROBES, _SHOCK = 4_000, 6, 3.0
_LOW = frozenset({"down", "short", "sell", "bear", "bearish", "lower", "loss"})
_MIDDLE = frozenset({"flat", "neutral", "hold", "none", "same", "sideways", "stay"})
_HIGH = frozenset({"up", "long", "buy", "bull", "bullish", "higher", "profit"})


def label_names(frame: pd.DataFrame) -> list[str]:
    """The target columns, in order."""
    return [str(name) for name in frame.columns if str(name).startswith(LABEL_PREFIX)]


def measure_horizon(set_targets: SetTargets, frame: pd.DataFrame) -> int | None:
    """How many candles ahead a target looks; None where it depends on the whole frame.

    All numbers from some candle on are made three times as large, and three times as small. The targets that differ
    between the two saw that candle. FreqAI strategies write targets that are never missing, such as
    ``np.where(close.shift(-24) > close, "up", "down")``: the last 24 rows say "down", and nothing in them shows that
    they are unknown.

    Parameters
    ----------
    frame : DataFrame
        Candles and whatever the targets are made of, on ascending rows.
    """
    frame = frame.iloc[-_PROBED_CANDLES:]  # which copies nothing, as tail does
    frame = frame.set_axis(pd.RangeIndex(len(frame)), axis=0)
    floats = [name for name, kind in frame.dtypes.items() if pd.api.types.is_float_dtype(kind)]
    numbers = frame[floats].astype(np.float64)
    others = frame[frame.columns.difference(floats, sort=False)]
    large, small = (_Shocks(others, numbers, factor) for factor in (_SHOCK, 1 / _SHOCK))
    horizons = []
    for cut in (np.linspace(0.4, 0.95, _PROBES) * len(frame)).astype(int)[::-1].tolist():
        high, low = (set_targets(shocks.from_row(cut)) for shocks in (large, small))
        differ = [
            _first_difference(high[n].iloc[:cut], low[n].iloc[:cut]) for n in label_names(high)
        ]
        seen = cut - min(differ, default=cut)
        if seen > 0.9 * cut:
            return None
        horizons.append(seen)
    return max(horizons, default=0)


class _Shocks:
    """A frame with its numbers, all float64, times `factor` from some row on: an earlier one each time it is asked.

    The numbers of all answers are one array, so that an answer holds until the next one is asked for: copying a
    hundred features twelve times took longer than all else.
    """

    def __init__(self, others: pd.DataFrame, numbers: pd.DataFrame, factor: float) -> None:
        self._others, self._names, self._factor = others, numbers.columns, factor
        self._values, self._changed = numbers.to_numpy(copy=True), len(numbers)

    def from_row(self, row: int) -> pd.DataFrame:
        self._values[row : self._changed] *= self._factor
        self._changed = row
        changed = pd.DataFrame(self._values, columns=self._names, copy=False)
        return pd.concat([self._others, changed], axis=1)


def _first_difference(a: pd.Series, b: pd.Series) -> int:
    """Position of the first row that differs, the number of rows if none does; missing is like missing."""
    differ = np.flatnonzero((a != b).to_numpy(dtype=np.bool_))
    differ = differ[~(a.isna().to_numpy() & b.isna().to_numpy())[differ]]
    return int(differ[0]) if len(differ) else len(a)


@dataclass(frozen=True)
class Target:
    """One target column: its task and, of a classifier, its classes from low to high."""

    name: str
    task: Task
    classes: tuple[Any, ...] = ()

    def numbers(self, values: pd.Series) -> Floats:
        """Labels as the trainer wants them, shape (n,); NaN stays NaN.

        Raises
        ------
        TrainingError
            For a class that is none of `classes`.
        """
        if self.task == "regression":
            found = pd.to_numeric(values, errors="coerce").to_numpy(np.float64, na_value=np.nan)
            return np.where(np.isfinite(found), found, np.nan)
        classes = pd.Index(list(self.classes), dtype=object)
        codes = classes.get_indexer(pd.Index(values, dtype=object))
        unknown = values.to_numpy(dtype=object)[codes < 0]
        strange = unknown[~pd.isna(unknown)]
        if len(strange):
            raise TrainingError(
                f"{self.name} has the class {strange[0]!r}, which is none of {list(self.classes)}. Name all of "
                "them in mlpipe.freqai.classes."
            )
        first = CLASSES[0] if self.task == "three_class" else 0.0
        return np.where(codes < 0, np.nan, codes + first)

    def decided(self, proba: Floats) -> pd.Series:
        """The likeliest class of each row of `class_probabilities`; missing where those are NaN."""
        names = np.asarray(self.classes, dtype=object)[np.nan_to_num(proba).argmax(axis=1)]
        names[np.isnan(proba[:, 0])] = np.nan
        found = pd.Series(names, dtype=object)
        return found.infer_objects() if isinstance(self.classes[0], str) else found.astype(float)

    def class_probabilities(self, proba: Floats) -> Floats:
        """Columns in the order of `classes`, shape (n, n_classes), from what a member predicts."""
        return proba if proba.ndim == 2 else np.column_stack([1 - proba, proba])


def classifier_targets(labels: pd.DataFrame, ordered: Sequence[Any]) -> tuple[Target, ...]:
    """The targets of a classifier, from the labels known so far.

    Parameters
    ----------
    ordered
        `mlpipe.freqai.classes`, or none.

    Raises
    ------
    TrainingError
        For one class, or more than three.
    """
    return tuple(_classifier_target(labels[name], ordered) for name in label_names(labels))


def _classifier_target(values: pd.Series, ordered: Sequence[Any]) -> Target:
    known = [_plain(value) for value in values.unique() if not pd.isna(value)]
    names = list(ordered) if ordered and set(known) <= set(ordered) else _low_to_high(known)
    if len(names) not in (2, 3):
        shown = ", ".join(map(str, names[:6])) or "none"
        advice = (
            "It is a number: use --freqaimodel MLPipeRegressor."
            if len(names) > 3 and not isinstance(names[0], str)
            else "MLPipeClassifier predicts two or three."
        )
        raise TrainingError(
            f"{values.name} has {len(names)} classes so far: {shown}{' …' if len(names) > 6 else ''}. {advice}"
        )
    task: Task = "binary" if len(names) == 2 else "three_class"
    return Target(str(values.name), task, tuple(names))


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _low_to_high(classes: Sequence[Any]) -> list[Any]:
    """Down, flat, up by their usual names, else sorted."""

    def side(name: Any) -> int | None:
        words = str(name).lower().rstrip("0123456789").replace("-", "_").split("_")
        groups: Mapping[int, frozenset[str]] = {0: _LOW, 1: _MIDDLE, 2: _HIGH}
        found = {k for k, words_of in groups.items() if words_of.intersection(words)}
        return found.pop() if len(found) == 1 else None

    sides = [side(name) for name in classes]
    if None not in sides and len(set(sides)) == len(sides):
        return [
            name for _, name in sorted(zip(sides, classes, strict=True), key=lambda p: p[0] or 0)
        ]
    return sorted(classes, key=lambda name: (isinstance(name, str), name))


def regression_targets(labels: pd.DataFrame) -> tuple[Target, ...]:
    """The targets of a regressor.

    Raises
    ------
    TrainingError
        For a target that is no number.
    """
    for name in label_names(labels):
        if not pd.api.types.is_numeric_dtype(labels[name].dtype):
            raise TrainingError(
                f"{name} holds {labels[name].dropna().iloc[0]!r}, no numbers: use --freqaimodel MLPipeClassifier."
            )
    return tuple(Target(name, "regression") for name in label_names(labels))
