"""What is fitted on training rows before a model sees them: which columns stay, and their
scales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from freqtrade_mlpipe.config import FeatureConfig
from freqtrade_mlpipe.exceptions import BundleError, DataError
from freqtrade_mlpipe.features._correlation import correlate, correlate_each, rank_columns
from freqtrade_mlpipe.features.quantiles import quantiles_of_sorted, sort_in_place

Block = NDArray[np.float32]
FloatArray = NDArray[np.float64]
_ROWS_AT_ONCE = 256
"""So many rows are scaled at a time: in double precision they still fit into the processor's cache."""
_SORTED_VALUES = 4_000_000
"""So many values are sorted at a time."""


@dataclass(frozen=True)
class Preprocessor:
    """Column selection and scaling, fitted on training rows: (X - center) / scale of the kept
    columns.

    Make one with `Preprocessor.fit`.

    Attributes
    ----------
    input_columns : tuple of str
        Columns that `transform` asks for.
    kept_columns : tuple of str
        Columns of its result, in the order of `input_columns`.
    center, scale : tuple of float
        One number for each kept column; 0 and 1 without scaling.
    dropped_constant : tuple of str
        Columns with fewer than two distinct values in the training rows.
    dropped_correlated : dict of str to str
        Each pruned column with the better-ranked kept column it follows.
    """

    input_columns: tuple[str, ...]
    kept_columns: tuple[str, ...]
    center: tuple[float, ...]
    scale: tuple[float, ...]
    dropped_constant: tuple[str, ...]
    dropped_correlated: dict[str, str]

    @classmethod
    def fit(
        cls, X: pd.DataFrame, config: FeatureConfig, y: Sequence[float] | FloatArray | None = None
    ) -> Preprocessor:
        """Learn from training rows, and nothing else.

        Constant columns are dropped. With `remove_correlated`, columns are taken from the best to
        the worst by their absolute correlation with `y` (in their own order without `y`); one whose
        absolute correlation with an already kept column exceeds `correlation_threshold` is dropped.
        Then the scales of the kept columns are measured.

        Parameters
        ----------
        X : DataFrame of shape (n, k)
            Features. NaN is skipped, in correlations pair by pair.
        config : FeatureConfig
        y : array of shape (n,), optional
            Labels that rank correlated columns; NaN rows are skipped.

        Raises
        ------
        DataError
            For fewer than two rows, duplicate names, infinite values, `y` of another length, or if no column varies.
        """
        names = tuple(map(str, X.columns))
        if len(set(names)) < len(names):
            raise DataError("Training rows have duplicate feature names; each must be there once.")
        values = _values(X)
        if values.shape[0] < 2:
            raise DataError(f"Preprocessing needs at least 2 training rows, found {len(values)}.")
        low, high = _extremes(values)
        infinite = np.isinf(low) | np.isinf(high)
        if infinite.any():
            shown = ", ".join(names[i] for i in np.flatnonzero(infinite)[:5])
            raise DataError(
                f"Training rows hold infinite features: {shown}. Check those that you added yourself."
            )
        target = None if y is None else np.asarray(y, dtype=np.float64)
        if target is not None and target.shape != (len(values),):
            raise DataError(
                f"y has shape {target.shape}, X has {len(values)} rows; they must match."
            )
        constant = ~(high > low)
        candidates = np.flatnonzero(~constant)
        if not len(candidates):
            raise DataError(
                f"None of {len(names)} features varies over {len(values)} training rows."
            )
        followers: dict[int, int] = {}
        if config.remove_correlated:
            followers = _follow_better(values, candidates, target, config)
        kept = np.array([i for i in candidates if i not in followers])
        center, scale = _scales(values, kept, config)
        return cls(
            input_columns=names,
            kept_columns=tuple(names[i] for i in kept),
            center=tuple(map(float, center)),
            scale=tuple(map(float, scale)),
            dropped_constant=tuple(names[i] for i in np.flatnonzero(constant)),
            dropped_correlated={names[i]: names[j] for i, j in sorted(followers.items())},
        )

    def transform(self, X: pd.DataFrame) -> Block:
        """The kept columns, scaled.

        Parameters
        ----------
        X : DataFrame of shape (n, k)
            All `input_columns`, in any order; others are ignored.

        Returns
        -------
        array of shape (n, n_kept)
            float32, C-contiguous. NaN stays NaN.

        Raises
        ------
        DataError
            If columns are missing.
        """
        if tuple(X.columns) == self.input_columns:
            values = _values(X)
            every = len(self.kept_columns) == len(self.input_columns)
            return self.scale_kept(values if every else values[:, self._kept])
        missing = [name for name in self.input_columns if name not in X.columns]
        if missing:
            shown = ", ".join(missing[:5]) + (" …" if len(missing) > 5 else "")
            raise DataError(
                f"{len(missing)} of {len(self.input_columns)} features are missing: {shown}. "
                "Compute them with the feature configuration that the model was trained with."
            )
        return self.scale_kept(_block(X, self.kept_columns))

    def scale_kept(self, values: Block) -> Block:
        """What `transform` gives, from the values of the kept columns, shape (n, n_kept)."""
        center, divisor = self._arrays
        scaled = np.empty(values.shape, dtype=np.float32)
        for start in range(0, len(values), _ROWS_AT_ONCE):
            part = values[start : start + _ROWS_AT_ONCE].astype(np.float64, order="C")
            part -= center
            part /= divisor
            scaled[start : start + _ROWS_AT_ONCE] = part
        return scaled

    @cached_property
    def _arrays(self) -> tuple[FloatArray, FloatArray]:
        return np.asarray(self.center, dtype=np.float64), np.asarray(self.scale, dtype=np.float64)

    @cached_property
    def _kept(self) -> NDArray[np.intp]:
        """Positions of the kept columns among the inputs."""
        place = {name: k for k, name in enumerate(self.input_columns)}
        return np.array([place[name] for name in self.kept_columns], dtype=np.intp)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; floats survive `json` unchanged."""
        return {
            "input_columns": list(self.input_columns),
            "kept_columns": list(self.kept_columns),
            "center": list(self.center),
            "scale": list(self.scale),
            "dropped_constant": list(self.dropped_constant),
            "dropped_correlated": dict(self.dropped_correlated),
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Preprocessor:
        """The inverse of `to_dict`.

        Raises
        ------
        BundleError
            If keys are missing, lengths differ, a scale is not positive and finite, or a kept
            column is not an input.
        """
        try:
            found = cls(
                input_columns=tuple(map(str, content["input_columns"])),
                kept_columns=tuple(map(str, content["kept_columns"])),
                center=tuple(map(float, content["center"])),
                scale=tuple(map(float, content["scale"])),
                dropped_constant=tuple(map(str, content["dropped_constant"])),
                dropped_correlated={
                    str(k): str(v) for k, v in content["dropped_correlated"].items()
                },
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BundleError(f"Preprocessing cannot be read: {error!r}. Train again.") from error
        if not len(found.kept_columns) == len(found.center) == len(found.scale):
            raise BundleError(
                "Preprocessing is inconsistent: columns, centers and scales differ in number."
            )
        if not set(found.kept_columns) <= set(found.input_columns):
            raise BundleError(
                "Preprocessing is inconsistent: it keeps columns that are not inputs."
            )
        if not (
            np.isfinite(found.center).all()
            and np.isfinite(found.scale).all()
            and min(found.scale, default=1) > 0
        ):
            raise BundleError(
                "Preprocessing is inconsistent: a center or scale is not a usable number."
            )
        return found


def _block(X: pd.DataFrame, columns: tuple[str, ...]) -> Block:
    return _values(X if tuple(X.columns) == columns else X[list(columns)])


def _values(frame: pd.DataFrame) -> Block:
    try:
        return np.asarray(frame.to_numpy(dtype=np.float32, na_value=np.nan))
    except (TypeError, ValueError) as error:
        raise DataError(f"Features must be numeric: {error}.") from error


def _extremes(values: Block) -> tuple[Block, Block]:
    """Smallest and largest number of each column, NaN for an empty one."""
    return np.fmin.reduce(values, axis=0), np.fmax.reduce(values, axis=0)


def _follow_better(
    values: Block, candidates: NDArray[np.intp], y: FloatArray | None, config: FeatureConfig
) -> dict[int, int]:
    """Each redundant column with the better-ranked kept column that it correlates with most."""
    columns = values if len(candidates) == values.shape[1] else values[:, candidates]
    spearman = config.correlation_method == "spearman"
    ranked = rank_columns(columns) if spearman else columns
    order = np.arange(len(candidates))
    if y is None:
        matrix = correlate(ranked, ranked)
    else:
        known = np.isfinite(y)
        target = y[known].astype(np.float32)[:, None]
        target = rank_columns(target) if spearman else target
        if known.all():
            matrix, relevance = correlate_each(ranked, ranked, target)
        else:
            rows = rank_columns(columns[known]) if spearman else columns[known]
            matrix, relevance = correlate(ranked, ranked), correlate(rows, target)
        order = np.argsort(-np.abs(relevance[:, 0]), kind="stable")
    np.abs(matrix, out=matrix)
    followers: dict[int, int] = {}
    redundant = np.zeros(len(order), dtype=np.bool_)
    close = matrix > config.correlation_threshold
    kept: list[int] = []
    for position in order.tolist():
        if redundant[position]:
            strongest = kept[int(matrix[position][kept].argmax())]
            followers[int(candidates[position])] = int(candidates[strongest])
        else:
            kept.append(position)
            redundant |= close[position]
    return followers


def _scales(
    values: Block, kept: NDArray[np.intp], config: FeatureConfig
) -> tuple[FloatArray, FloatArray]:
    center, scale = np.zeros(len(kept)), np.ones(len(kept))
    if not config.scale_features or config.scaling_method == "none":
        return center, scale
    if config.scaling_method == "robust":
        return _robust_scales(values, kept)
    for position, source in enumerate(kept):
        column = values[:, source].astype(np.float64)
        column = column[~np.isnan(column)]
        center[position], scale[position] = _center_and_spread(column, config.scaling_method)
    return center, scale


def _robust_scales(values: Block, kept: NDArray[np.intp]) -> tuple[FloatArray, FloatArray]:
    """Medians and interquartile ranges; the standard deviation of a column whose quartiles are one."""
    at_once = max(1, _SORTED_VALUES // len(values))
    quartiles = []
    for start in range(0, len(kept), at_once):
        columns = np.ascontiguousarray(values.T[kept[start : start + at_once]])
        counts = sort_in_place(columns)
        quartiles.append(quantiles_of_sorted(columns, counts, (0.25, 0.5, 0.75)))
    low, center, high = np.concatenate(quartiles).T
    scale = high - low
    for position in np.flatnonzero(~(high > low)):
        column = values[:, kept[position]].astype(np.float64)
        scale[position] = column[~np.isnan(column)].std()
    return center, scale


def _center_and_spread(column: FloatArray, method: str) -> tuple[float, float]:
    if method == "minmax":
        return float(column.min()), float(column.max() - column.min())
    if method == "symmetric":
        low, high = float(column.min()), float(column.max())
        return (low + high) / 2, (high - low) / 2
    return float(column.mean()), float(column.std())
