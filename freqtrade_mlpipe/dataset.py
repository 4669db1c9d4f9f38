"""Candles of many pairs → one training matrix with its labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from freqtrade_mlpipe.config import LabelConfig, MLPipeConfig
from freqtrade_mlpipe.exceptions import DataError
from freqtrade_mlpipe.features import FrameKey, Frames
from freqtrade_mlpipe.labels import make_labels
from freqtrade_mlpipe.registry.selftest import ComputeFeatures


@dataclass(frozen=True)
class TrainingData:
    """What a model is trained from.

    Attributes
    ----------
    candles : candles by pair: date (UTC, open time), open, high, low, close, volume.
    timeframe : freqtrade's name of the candle length; `candle` is the same as a Timedelta.
    compute : the strategy's features, the very function that serves.
    startup_candles : warm-up of the features, in candles of each frame.
    data_hash : SHA-256 of the candles.
    frames : candles of other pairs and timeframes that the features look at.
    """

    candles: Mapping[str, pd.DataFrame]
    timeframe: str
    candle: pd.Timedelta
    compute: ComputeFeatures
    startup_candles: int
    data_hash: str
    frames: Mapping[FrameKey, pd.DataFrame] = field(default_factory=dict)


@dataclass(frozen=True)
class Dataset:
    """The training matrix of pooled pairs; every part has the same index (pair, date UTC), ordered by date and pair."""

    X: pd.DataFrame
    y: pd.Series
    known_at: pd.Series
    weight: pd.Series
    forward_return: pd.Series
    round_trip_cost: float
    short_return: pd.Series | None = None

    def extras(self) -> dict[str, Any]:
        """What accompanies rows and labels, by the names of `ModelTrainer.train`."""
        return {
            "known_at": self.known_at,
            "weight": self.weight,
            "forward_return": self.forward_return,
            "short_return": self.short_return,
            "round_trip_cost": self.round_trip_cost,
        }

    def known_before(self, moment: pd.Timestamp) -> Dataset:
        """The rows whose label was known before a candle date: what a model that predicts from then on may learn."""
        rows = (self.known_at < moment).to_numpy()
        return Dataset(
            X=self.X[rows], y=self.y[rows], known_at=self.known_at[rows], weight=self.weight[rows],
            forward_return=self.forward_return[rows], round_trip_cost=self.round_trip_cost,
            short_return=None if self.short_return is None else self.short_return[rows],
        )  # fmt: skip


def build_dataset(data: TrainingData, config: MLPipeConfig) -> Dataset:
    """Features and labels of every pair, pooled.

    Warm-up rows are left out. Rows without a known label stay, with y NaN. At its peak it holds the matrix and the
    features of one pair.

    Raises
    ------
    DataError
        When a pair has fewer candles than features and labels need, or other feature columns than the others.
    """
    _require_enough(data, config.labels)
    return join_labels(
        pool_features(data, pool_rows(data)), pool_labels(data, config.labels), config.labels
    )


@dataclass(frozen=True, eq=False)
class PooledRows:
    """Where each pair's candles, warm-up left out, are in the matrix of all pairs.

    Attributes
    ----------
    index : (pair, date UTC), ordered by date and pair.
    pairs : names, ascending.
    places : for each pair, the positions of its rows.
    """

    index: pd.MultiIndex
    pairs: list[str]
    places: list[NDArray[np.intp]]


def pool_rows(data: TrainingData) -> PooledRows:
    """The rows that every matrix and label of these candles has."""
    pairs, warm = sorted(data.candles), slice(data.startup_candles, None)
    dates = [pd.DatetimeIndex(data.candles[pair]["date"].iloc[warm]) for pair in pairs]
    index, places = _pooled_index(pairs, dates)
    return PooledRows(index, pairs, places)


def pool_labels(data: TrainingData, config: LabelConfig) -> pd.DataFrame:
    """Labels of every pair on the rows of `pool_rows`: the columns of `Labels.table`.

    Raises
    ------
    DataError
        When a pair has fewer candles than warm-up and labels need.
    """
    _require_enough(data, config)
    rows, warm = pool_rows(data), slice(data.startup_candles, None)
    tables = [make_labels(data.candles[pair], config).table().iloc[warm] for pair in rows.pairs]
    order = np.argsort(np.concatenate(rows.places))
    return pd.concat(tables, ignore_index=True).iloc[order].set_axis(rows.index)


def join_labels(X: pd.DataFrame, labels: pd.DataFrame, config: LabelConfig) -> Dataset:
    """Features and labels of the same rows."""
    return Dataset(
        X=X,
        y=labels["y"],
        known_at=labels["known_at"],
        weight=labels["weight"],
        forward_return=labels["forward_return"],
        round_trip_cost=2 * config.fee,
        short_return=labels.get("short_return"),
    )


def _require_enough(data: TrainingData, labels: LabelConfig) -> None:
    needed = data.startup_candles + labels.horizon_candles + 1
    short = {pair: len(frame) for pair, frame in data.candles.items() if len(frame) <= needed}
    if short:
        found = ", ".join(f"{pair} has {n}" for pair, n in short.items())
        raise DataError(
            f"Too few candles: {found}; features and labels need more than {needed}. Widen --timerange, download more "
            "data, or leave the pair out."
        )


def _pooled_index(
    pairs: list[str], dates: list[pd.DatetimeIndex]
) -> tuple[pd.MultiIndex, list[NDArray[np.intp]]]:
    """The index (pair, date UTC) ordered by date and pair, and where in it each pair's rows are."""
    code = np.repeat(np.arange(len(pairs)), [len(of_pair) for of_pair in dates])
    stamps = np.concatenate([of_pair.as_unit("ns").asi8 for of_pair in dates])
    order = np.lexsort((code, stamps))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    index = pd.MultiIndex.from_arrays(
        [np.asarray(pairs)[code[order]], pd.DatetimeIndex(stamps[order], tz="UTC")],
        names=["pair", "date"],
    )
    return index, [place[code == k] for k in range(len(pairs))]


def pool_features(data: TrainingData, rows: PooledRows) -> pd.DataFrame:
    """Features of every pair as one float32 matrix on `rows.index`.

    Raises
    ------
    DataError
        When a pair has other feature columns than the others.
    """
    index, pairs, places = rows.index, rows.pairs, rows.places
    warm = slice(data.startup_candles, None)
    frames = Frames.of(data.frames)
    names: list[str] = []
    matrix = np.empty((0, 0), dtype=np.float32)
    for pair, place in zip(pairs, places, strict=True):
        features = data.compute(data.candles[pair], pair, frames)
        if not names:
            names = list(features.columns)
            matrix = np.empty((len(index), len(names)), dtype=np.float32, order="F")
        elif list(features.columns) != names:
            differing = sorted(set(names).symmetric_difference(features.columns))[:5]
            raise DataError(
                f"{pair} has other feature columns than {pairs[0]}: {', '.join(differing) or 'another order'}. "
                "A feature's column must not depend on the pair or its candles."
            )
        for position in range(len(names)):
            matrix[place, position] = features.iloc[warm, position].to_numpy()
    return pd.DataFrame(matrix, index=index, columns=names, copy=False)
