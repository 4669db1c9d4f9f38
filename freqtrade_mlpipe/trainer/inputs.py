"""Checks of what is given to `ModelTrainer.train`, before anything is learned."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from freqtrade_mlpipe.config import CLASSES, Task
from freqtrade_mlpipe.exceptions import TrainingError
from freqtrade_mlpipe.trainer.clock import Clock, clock_of, time_order
from freqtrade_mlpipe.tuning import TrainingData, row_totals

Floats = NDArray[np.float64]

_HASHED_ROWS = 8192
_VALID: Mapping[Task, tuple[float, ...]] = {"binary": (0.0, 1.0), "three_class": CLASSES}


@dataclass(frozen=True, eq=False)
class Inputs:
    """Checked rows, and how many were dropped for NaN."""

    data: TrainingData
    n_dropped_nan: int
    hashed: Callable[[], str]
    last_date: pd.Timestamp

    @cached_property
    def data_hash(self) -> str:
        """SHA-256 of all that was given."""
        return self.hashed()


@dataclass(frozen=True, eq=False)
class Extras:
    """What may accompany the rows; every array is aligned with them."""

    known_at: Any = None
    weight: Any = None
    forward_return: Any = None
    round_trip_cost: float = 0.0
    candle: pd.Timedelta | None = None
    horizon_candles: int | None = None
    task: Task = "binary"
    short_return: Any = None


def check_inputs(
    X: Any,
    y: ArrayLike,
    extras: Extras,
    *,
    label_candles: int,
    starts_after: pd.Timestamp | None = None,
) -> Inputs:
    """Rows that can be learned from, ordered by date and pair.

    Parameters
    ----------
    X : DataFrame or array-like of shape (n, n_features)
        Index (pair, date), or dates (UTC), or anything else for rows that are consecutive candles.
    y : array-like of shape (n,)
        Labels of the task; NaN where unknown.
    extras
        See `ModelTrainer.train`.
    label_candles
        After how many candles a label is taken to be known where `known_at` is not given.
    starts_after
        For rows without dates: the candle before the first one.

    Raises
    ------
    TrainingError
        Saying what was found: misaligned indexes, unsorted or duplicate rows, infinite values, a
        column without any value, labels of another task, a class without rows, no complete row.
    """
    if not (np.isfinite(extras.round_trip_cost) and extras.round_trip_cost >= 0):
        raise TrainingError(f"round_trip_cost must be ≥ 0, found {extras.round_trip_cost}.")
    if extras.horizon_candles is not None and extras.horizon_candles < 1:
        raise TrainingError(f"horizon_candles must be ≥ 1, found {extras.horizon_candles}.")
    frame = _frame(X, y)
    totals = row_totals(frame)
    if not np.isfinite(totals).all():
        _require_usable(frame)
    clock = clock_of(frame.index, extras.candle, starts_after)
    labels = _labels(_aligned(y, "y", frame.index), extras.task)
    known_at = _known_at(extras, labels, clock, frame.index, label_candles)
    weight = _weight(extras.weight, labels, frame.index)
    returns = _returns(extras.forward_return, "forward_return", frame.index)
    if returns is None and extras.task == "regression":
        returns = np.expm1(labels)
    shorts = _returns(extras.short_return, "short_return", frame.index)
    order = time_order(clock, frame.index)
    values = (clock.dates.asi8, known_at.asi8, labels, weight, returns, shorts)
    complete = ~np.isnan(labels) & ~np.isnan(totals)
    rows = order[complete[order]]
    if not len(rows):
        raise TrainingError(
            f"None of {len(frame)} rows has a label and all features. Use more candles: the first "
            "rows lack features, the last ones lack labels."
        )
    _require_all_classes(labels[rows], extras.task)
    dates, known = clock.dates[rows], known_at[rows]
    data = TrainingData(
        X=frame if np.array_equal(rows, np.arange(len(frame))) else frame.iloc[rows],
        y=labels[rows],
        weight=weight[rows],
        dates=dates,
        known_at=known,
        pairs=clock.pairs[rows],
        candle=clock.candle,
        horizon_candles=extras.horizon_candles or _typical(known - dates, clock.candle),
        forward_return=None if returns is None else returns[rows],
        round_trip_cost=float(extras.round_trip_cost),
        task=extras.task,
        short_return=None if shorts is None else shorts[rows],
    )
    return Inputs(
        data,
        len(frame) - len(rows),
        lambda: _digest(frame, clock, values, order),
        clock.dates[order[-1]],
    )


def _frame(X: Any, y: Any) -> pd.DataFrame:
    frame = X if isinstance(X, pd.DataFrame) else _from_array(X, y)
    if not frame.shape[0] or not frame.shape[1]:
        raise TrainingError(f"X must have rows and columns, found shape {frame.shape}.")
    if not frame.columns.is_unique or not all(isinstance(name, str) for name in frame.columns):
        raise TrainingError("The columns of X must have distinct names, and names must be str.")
    kinds = frame.dtypes.to_numpy()
    if set(kinds) != {np.dtype(np.float32)}:
        wrong = [name for name, kind in zip(frame, kinds, strict=True) if kind.kind not in "fiub"]
        if wrong:
            raise TrainingError(f"Columns of X must be numbers; not so: {_some(wrong)}.")
        with np.errstate(over="ignore"):
            frame = frame.astype(np.float32)
    return frame


def _from_array(X: Any, y: Any) -> pd.DataFrame:
    """An array as a frame with columns f0, f1, … on the index of y, if y has one."""
    values = np.asarray(X)
    if values.ndim != 2:
        raise TrainingError(f"X must have two dimensions, found {values.ndim}.")
    index = y.index if isinstance(y, pd.Series) and len(y) == len(values) else None
    names = [f"f{k}" for k in range(values.shape[1])]
    return pd.DataFrame(values, columns=names, index=index)


def _require_usable(frame: pd.DataFrame) -> None:
    infinite, empty = [], []
    for name in frame.columns:
        column = frame[name].to_numpy()
        if np.isinf(column).any():
            infinite.append(name)
        elif np.isnan(column).all():
            empty.append(name)
    if infinite:
        raise TrainingError(
            f"X has infinite values (or ones too large for float32) in: {_some(infinite)}. "
            "Replace them by NaN, or mend the feature."
        )
    if empty:
        raise TrainingError(f"X has columns without any value: {_some(empty)}. Drop them.")


def _aligned(values: Any, name: str, index: pd.Index) -> Any:
    """Values in the row order of X; an index of their own must be that of X."""
    if len(values) != len(index):
        raise TrainingError(f"{name} has {len(values)} rows, X has {len(index)}.")
    own = getattr(values, "index", None)
    if isinstance(own, pd.Index) and not own.equals(index):
        raise TrainingError(
            f"The indexes of X and {name} differ: give both the same index in the same order."
        )
    return values


def _labels(values: Any, task: Task) -> Floats:
    valid = _VALID.get(task, ())
    listed = f"{', '.join(f'{value:g}' for value in valid) or 'log returns'} or NaN"
    try:
        labels = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TrainingError(f"y must hold {listed}: {error}") from error
    if labels.ndim != 1:
        raise TrainingError(f"y must have one dimension, found {labels.ndim}.")
    if task == "regression":
        if np.isinf(labels).any():
            raise TrainingError(f"y must hold {listed}, found infinite values.")
        return labels
    found = np.unique(labels[~np.isnan(labels)])
    other = [f"{value:g}" for value in found if value not in valid]
    if other:
        hint = " Short, flat and long need task='three_class'." if set(other) == {"-1"} else ""
        raise TrainingError(f"y must hold {listed}, found also {_some(other)}.{hint}")
    return labels


def _require_all_classes(labels: Floats, task: Task) -> None:
    found = np.unique(labels)
    if len(found) < 2:
        what = "label" if task == "regression" else "class"
        raise TrainingError(
            f"All {len(labels)} usable rows have {what} {found[0]:g}: there is nothing to tell "
            "apart. Use more candles or change the label."
        )
    missing = [f"{value:g}" for value in _VALID.get(task, ()) if value not in found]
    if missing:
        raise TrainingError(
            f"None of {len(labels)} usable rows has class {', '.join(missing)}. Use more candles, another minimum "
            "return, or two classes."
        )


def _known_at(
    extras: Extras, labels: Floats, clock: Clock, index: pd.Index, label_candles: int
) -> pd.DatetimeIndex:
    if extras.known_at is None:
        n = max(1, extras.horizon_candles or label_candles)
        if extras.horizon_candles is None:
            warnings.warn(
                f"Neither known_at nor horizon_candles is given: labels are taken to be known {n} "
                "candles after their row (embargo_candles).",
                UserWarning,
                stacklevel=5,
            )
        return clock.dates + n * clock.candle
    if not isinstance(index, pd.MultiIndex | pd.DatetimeIndex):
        raise TrainingError(
            "known_at is given, but the rows of X have no dates to compare it with: put them in the index of X and y, "
            "for instance by candles.set_index('date') before computing features and labels."
        )
    known = pd.DatetimeIndex(_aligned(extras.known_at, "known_at", index))
    known = _utc_known(known)
    labelled = ~np.isnan(labels)
    if known.isna()[labelled].any():
        raise TrainingError("known_at is missing for rows that have a label.")
    if np.asarray(known < clock.dates)[labelled].any():
        raise TrainingError("known_at must not lie before the date of its row.")
    return known


def _utc_known(known: pd.DatetimeIndex) -> pd.DatetimeIndex:
    if known.tz is None:
        raise TrainingError("known_at has no time zone: use UTC (tz_localize('UTC')).")
    return known.tz_convert("UTC").as_unit("ns")


def _typical(waits: pd.TimedeltaIndex, candle: pd.Timedelta) -> int:
    """Candles until a label is known, at least 1."""
    return max(1, round(float(np.median(waits / candle))))


def _weight(values: Any, labels: Floats, index: pd.Index) -> Floats:
    if values is None:
        return np.ones(len(labels))
    weight = np.asarray(_aligned(values, "weight", index), dtype=np.float64)
    used = weight[~np.isnan(labels)]
    if not np.isfinite(used).all() or (used < 0).any() or not used.any():
        raise TrainingError("weight must be finite and not negative, and not 0 everywhere.")
    return weight


def _returns(values: Any, name: str, index: pd.Index) -> Floats | None:
    if values is None:
        return None
    returns = np.asarray(_aligned(values, name, index), dtype=np.float64)
    if np.isinf(returns).any():
        raise TrainingError(f"{name} has infinite values.")
    return returns


def _digest(
    frame: pd.DataFrame,
    clock: Clock,
    rows: Sequence[NDArray[Any] | None],
    order: NDArray[np.int64],
) -> str:
    digest = hashlib.sha256("\0".join(frame.columns).encode())
    digest.update("\0".join(clock.pairs[order]).encode())
    for values in rows:
        if values is not None:
            digest.update(np.ascontiguousarray(values[order]).tobytes())
    for start in range(0, len(order), _HASHED_ROWS):
        block = frame.iloc[order[start : start + _HASHED_ROWS]]
        digest.update(np.ascontiguousarray(block.to_numpy()).tobytes())
    return digest.hexdigest()


def _some(names: list[Any], limit: int = 8) -> str:
    shown = ", ".join(map(str, names[:limit]))
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
