"""Windows of candles against the training data: how far the values of each feature have moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_PSEUDO_COUNT = 0.5


@dataclass(frozen=True, eq=False)
class Bins:
    """Quantile bins of some columns; a last bin holds missing values.

    Attributes
    ----------
    names : of the columns, F of them.
    edges : shape (F, n_bins - 2), ascending, padded with +inf; value v is in bin i when edges[i-1] < v <= edges[i].
    reference : rows of the training data in each bin, shape (F, n_bins).
    """

    names: tuple[str, ...]
    edges: Floats
    reference: Floats

    @property
    def n_bins(self) -> int:
        """Bins of a column, that of missing values included."""
        return int(self.reference.shape[1])

    @classmethod
    def from_baseline(cls, baseline: Mapping[str, Any], names: Sequence[str]) -> Bins:
        """From what `registry.baseline.drift_baseline` gave, the columns in the order of `names`.

        Raises
        ------
        KeyError, TypeError, ValueError
            It is something else.
        """
        features = {name: baseline["features"][name] for name in names}  # its JSON is sorted
        n_edges = max((len(column["edges"]) for column in features.values()), default=0)
        edges = np.full((len(features), n_edges), np.inf)
        reference = np.zeros((len(features), n_edges + 2))
        for k, column in enumerate(features.values()):
            missing = float(column["missing"])
            shares = np.asarray(column["frequencies"], dtype=np.float64) * (1.0 - missing)
            edges[k, : len(column["edges"])] = column["edges"]
            reference[k, : len(shares)] = shares
            reference[k, -1] = missing
        return cls(tuple(names), edges, reference * float(baseline["n_rows"]))

    def scores(self) -> Floats:
        """Normal score of each bin, shape (F, n_bins); 0 for missing values.

        The normal quantile of the middle of the bin's share, so that a mean of them is a robust mean.
        """
        shares = self.reference[:, :-1] / np.maximum(
            self.reference[:, :-1].sum(axis=1, keepdims=True), 1
        )
        middle = np.cumsum(shares, axis=1) - shares / 2
        found = ndtri(np.clip(middle, 1e-4, 1 - 1e-4))
        return np.concatenate([found, np.zeros((len(found), 1))], axis=1)

    def codes(self, X: NDArray[Any]) -> NDArray[np.uint8]:
        """Bin of each value, of an array of shape (n, F); the same shape."""
        found = np.empty(X.shape, dtype=np.uint8, order="F")
        for k, edges in enumerate(self.edges):
            column = X[:, k]
            found[:, k] = np.searchsorted(edges, column, side="left")
            found[np.isnan(column), k] = self.n_bins - 1
        return found

    def counts(self, codes: NDArray[np.uint8], unit: Ints, n_units: int) -> Floats:
        """Rows a unit, column and bin, from bins of shape (n, F) and the unit of each row: (n_units, F, n_bins)."""
        cells = self.n_bins
        table = np.zeros((n_units, len(self.names), cells))
        for k in range(len(self.names)):
            flat = np.bincount(unit * cells + codes[:, k], minlength=n_units * cells)
            table[:, k] = flat.reshape(n_units, cells)
        return table


def units_of(dates: pd.DatetimeIndex, candle: pd.Timedelta, step_candles: int) -> Ints:
    """Number of the stretch of `step_candles` candles since 1970 that each open time (UTC) lies in, shape (n,).

    Examples
    --------
    >>> dates = pd.DatetimeIndex(["1970-01-01 23:00", "1970-01-02 00:00"], tz="UTC")
    >>> units_of(dates, pd.Timedelta("1h"), 24).tolist()
    [0, 1]
    """
    length = candle.value * step_candles
    return np.asarray(dates.as_unit("ns").asi8 // length, dtype=np.int64)


def moved(now: Floats, then: Floats) -> tuple[Floats, Floats]:
    """Population stability index and Kolmogorov-Smirnov distance between two sets of binned rows.

    Parameters
    ----------
    now, then : rows a bin, shape (..., n_bins), broadcast against each other.

    Returns
    -------
    tuple of ndarray
        Each of shape (...). The index is the sum over the bins of (share now - share then) * ln(share now / share
        then), with half a row added to each bin so that an empty one counts little in a small window; the distance is
        the largest difference of cumulated shares, of the bins without the last (missing values), as fractions of all.

    References
    ----------
    Siddiqi (2006), Credit Risk Scorecards, for the index. Lin (1991), Divergence Measures Based on the Shannon
    Entropy, IEEE Trans. Inf. Theory 37: it is the symmetric Kullback-Leibler divergence.
    """
    cells = now.shape[-1]
    n_now, n_then = now.sum(axis=-1, keepdims=True), then.sum(axis=-1, keepdims=True)
    p = (now + _PSEUDO_COUNT) / (n_now + _PSEUDO_COUNT * cells)
    q = (then + _PSEUDO_COUNT) / (n_then + _PSEUDO_COUNT * cells)
    index = ((p - q) * np.log(p / q)).sum(axis=-1)
    gap = now / np.maximum(n_now, 1) - then / np.maximum(n_then, 1)
    return index, np.abs(np.cumsum(gap, axis=-1)[..., :-1]).max(axis=-1)


@dataclass(frozen=True, eq=False)
class Directions:
    """How features move together: the largest principal components of their normal scores, the rest alike.

    Attributes
    ----------
    vectors : shape (K, F), orthonormal rows.
    variances : shape (K,), of the scores along them.
    rest : variance along any other direction.
    """

    vectors: Floats
    variances: Floats
    rest: float

    @classmethod
    def of(cls, scores: Floats, most: int = 20) -> Directions:
        """Of rows of scores, shape (n, F)."""
        correlation = np.atleast_2d(np.cov(scores, rowvar=False))
        values, vectors = np.linalg.eigh(correlation)
        kept = min(most, len(values))
        values, vectors = values[::-1], vectors[:, ::-1].T
        rest = float(values[kept:].mean()) if kept < len(values) else float(values[-1])
        least = 0.02 * float(values.mean()) + 1e-9
        return cls(vectors[:kept], np.maximum(values[:kept], least), max(rest, least))

    def length(self, z: Floats) -> Floats:
        """Squared Mahalanobis length a feature of vectors of shape (n, F)."""
        along = z @ self.vectors.T
        left = np.maximum((z**2).sum(axis=1) - (along**2).sum(axis=1), 0.0)
        total = (along**2 / self.variances).sum(axis=1) + left / self.rest
        return np.asarray(total / z.shape[1])

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "vectors": np.round(self.vectors, 5).tolist(),
            "variances": self.variances.tolist(),
            "rest": self.rest,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Directions:
        """What `to_dict` was made of."""
        vectors, variances = (
            np.asarray(content[k], dtype=np.float64) for k in ("vectors", "variances")
        )
        return cls(vectors, variances, float(content["rest"]))


def least_index(n_bins: int, n_rows: float) -> float:
    """About the stability index that chance alone gives `n_rows` independent rows: nothing is measured below it."""
    return (n_bins - 1) / max(n_rows, 1.0)
