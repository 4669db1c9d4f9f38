"""FreqAI's outlier checks: the one-class SVM and the dissimilarity index, kept as plain arrays."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from freqtrade_mlpipe.exceptions import BundleError, TrainingError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_CHUNK = 512
_DEFAULT_SVM = {"shuffle": False, "nu": 0.01}
_ARRAYS = ("low", "high", "coef", "offset", "reference", "mean_distance", "threshold")


@dataclass(frozen=True, eq=False)
class OutlierGuard:
    """What says that a row is unlike the training rows.

    Attributes
    ----------
    low, high : ndarray of shape (n_features,)
        Least and largest training value of each feature: rows are scaled to [-1, 1], constant features left out.
    coef, offset : ndarray of shape (n_varying,) and (1,)
        Of the SVM; empty without one.
    reference : ndarray of float32, shape (n_rows, n_varying)
        Scaled training rows for the dissimilarity index; empty without one.
    mean_distance, threshold : ndarray of shape (1,)
        Mean distance between them, and `DI_threshold`.
    """

    low: Floats
    high: Floats
    coef: Floats
    offset: Floats
    reference: NDArray[np.float32]
    mean_distance: Floats
    threshold: Floats

    @classmethod
    def fit(cls, X: Floats, parameters: Mapping[str, Any], *, seed: int) -> OutlierGuard | None:
        """Learn from finite training rows what `feature_parameters` ask for; None where that is nothing.

        Parameters
        ----------
        parameters
            FreqAI's `feature_parameters`: `use_SVM_to_remove_outliers`, `svm_params`, `DI_threshold`.

        Raises
        ------
        TrainingError
            When nothing varies, or the SVM calls everything an outlier.
        """
        svm = bool(parameters.get("use_SVM_to_remove_outliers"))
        limit = float(parameters.get("DI_threshold") or 0)
        if not svm and limit <= 0:
            return None
        none = np.empty(0)
        guard = cls(X.min(axis=0), X.max(axis=0), none, none, np.empty((0, 0), np.float32), none,
                    np.array([limit]))  # fmt: skip
        scaled = guard._scaled(X)
        if not scaled.shape[1]:
            raise TrainingError("No feature varies over the training rows.")
        coef, offset = none, none
        if svm:
            from sklearn.linear_model import SGDOneClassSVM

            settings = {**_DEFAULT_SVM, **dict(parameters.get("svm_params") or {})}
            machine = SGDOneClassSVM(**{"random_state": seed, **settings}).fit(scaled)
            coef, offset = np.ravel(machine.coef_), np.ravel(machine.offset_)
            scaled = scaled[_svm_inside(scaled, coef, offset)]
            if len(scaled) < 2:
                raise TrainingError(
                    "The SVM calls every training row an outlier: lower svm_params.nu."
                )
        reference, mean = np.empty((0, 0), np.float32), none
        if limit > 0:
            reference = np.ascontiguousarray(scaled, dtype=np.float32)
            mean = np.array([_mean_distance(reference.astype(np.float64))])
        return cls(guard.low, guard.high, coef, offset, reference, mean, guard.threshold)

    def keeps(self, X: Floats) -> Bools:
        """Training rows that the SVM keeps, shape (n,)."""
        if not len(self.coef):
            return np.ones(len(X), dtype=np.bool_)
        return _svm_inside(self._scaled(X), self.coef, self.offset)

    def inspect(self, X: Floats) -> tuple[Bools, Floats]:
        """Whether each row is like the training rows, and its dissimilarity index (0 without one); (n,), (n,).

        Rows with NaN are not, and their index is NaN.
        """
        whole = np.isfinite(X).all(axis=1)
        inside, index = np.zeros(len(X), dtype=np.bool_), np.full(len(X), np.nan)
        scaled = self._scaled(X[whole])
        inside[whole] = _svm_inside(scaled, self.coef, self.offset) if len(self.coef) else True
        index[whole] = 0.0
        if len(self.reference) and len(scaled):
            index[whole] = self._dissimilarity(scaled)
            inside &= index < self.threshold[0]
        return inside, index

    def to_bytes(self) -> bytes:
        """An .npz archive without pickled parts."""
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **{name: getattr(self, name) for name in _ARRAYS})
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> OutlierGuard:
        """Read what `to_bytes` wrote. The caller has checked the digest.

        Raises
        ------
        BundleError
            It cannot be read.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                return cls(**{name: arrays[name] for name in _ARRAYS})
        except (ValueError, KeyError, OSError) as error:
            raise BundleError(
                f"The outlier checks cannot be read: {error}. Train again."
            ) from error

    def _scaled(self, X: Floats) -> Floats:
        varying = self.high > self.low
        low, high = self.low[varying], self.high[varying]
        return (X[:, varying] - low) / (high - low) * 2 - 1

    def _dissimilarity(self, scaled: Floats) -> Floats:
        reference = self.reference.astype(np.float64)
        parts = [
            _squared_distances(scaled[start : start + _CHUNK], reference).min(axis=1)
            for start in range(0, len(scaled), _CHUNK)
        ]
        return np.asarray(np.sqrt(np.concatenate(parts)) / self.mean_distance[0])


def _svm_inside(scaled: Floats, coef: Floats, offset: Floats) -> Bools:
    return np.asarray(scaled @ coef - offset[0] >= 0) if len(scaled) else np.zeros(0, np.bool_)


def _squared_distances(a: Floats, b: Floats) -> Floats:
    found = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    return np.asarray(np.maximum(found, 0.0))


def _mean_distance(rows: Floats) -> float:
    total = sum(
        float(np.sqrt(_squared_distances(rows[start : start + _CHUNK], rows)).sum())
        for start in range(0, len(rows), _CHUNK)
    )
    return total / (len(rows) * (len(rows) - 1))
