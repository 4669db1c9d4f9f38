"""Calibration of three classes: one against the rest, then scaled to sum to 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from freqtrade_mlpipe.calibration.binary import MARGIN, Calibrator, CalibratorKind, fit_calibrator
from freqtrade_mlpipe.config import CLASSES
from freqtrade_mlpipe.exceptions import BundleError, TrainingError

Floats = NDArray[np.float64]

_KIND = "one_vs_rest"


@dataclass(frozen=True)
class ClassCalibrator:
    """A map from raw to calibrated probabilities of the classes short, flat and long.

    Attributes
    ----------
    calibrators : tuple of Calibrator or None
        One a class, in the order of `config.CLASSES`; None: the model never saw the class and does not forecast it.
    class_weights : tuple of float
        Weights of the classes in the fit; the raw probabilities are divided by them first.

    Raises
    ------
    BundleError
        When the numbers do not describe such a map (a damaged file).
    """

    calibrators: tuple[Calibrator | None, ...]
    class_weights: tuple[float, ...] = (1.0,) * len(CLASSES)

    def __post_init__(self) -> None:
        if not len(self.calibrators) == len(self.class_weights) == len(CLASSES):
            raise BundleError(
                f"{len(CLASSES)} classes need as many calibrators and weights, found "
                f"{len(self.calibrators)} and {len(self.class_weights)}."
            )
        if sum(calibrator is not None for calibrator in self.calibrators) < 2:
            raise BundleError("At least two of three classes need a calibrator.")
        weights = np.asarray(self.class_weights)
        if not (np.isfinite(weights).all() and (weights > 0).all()):
            raise BundleError(f"Class weights must be finite and > 0, found {self.class_weights}.")

    def apply(self, p: ArrayLike) -> Floats:
        """Calibrated probabilities, float64 of shape (n, 3), each row summing to 1.

        A class that was never seen has the probability 1e-6: no log-loss is infinite.
        """
        raw = _unweighted(p, self.class_weights)
        seen = [k for k, calibrator in enumerate(self.calibrators) if calibrator is not None]
        found = np.full(raw.shape, MARGIN)
        for k in seen:
            calibrator = self.calibrators[k]
            assert calibrator is not None
            found[:, k] = calibrator.apply(raw[:, k])
        left = 1.0 - MARGIN * (len(CLASSES) - len(seen))
        found[:, seen] *= left / found[:, seen].sum(axis=1, keepdims=True)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; `from_dict` gives back an equal calibrator, to the last bit."""
        return {
            "kind": _KIND,
            "class_weights": list(self.class_weights),
            "calibrators": [c if c is None else c.to_dict() for c in self.calibrators],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ClassCalibrator:
        """Read what `to_dict` wrote.

        Raises
        ------
        BundleError
            For unknown or missing keys, wrong types or numbers that describe no calibrator.
        """
        if set(values) != {"kind", "class_weights", "calibrators"} or values["kind"] != _KIND:
            raise BundleError(f"Calibrator of classes with keys {sorted(values)} is malformed.")
        try:
            return cls(
                tuple(c if c is None else Calibrator.from_dict(c) for c in values["calibrators"]),
                tuple(float(weight) for weight in values["class_weights"]),
            )
        except (TypeError, ValueError, AttributeError) as error:
            raise BundleError(f"Calibrator of classes is malformed: {error}") from error


def fit_class_calibrator(
    kind: CalibratorKind,
    p: ArrayLike,
    y: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    n_effective: float | None = None,
    class_weights: Sequence[float] = (1.0,) * len(CLASSES),
    seen: Sequence[bool] = (True,) * len(CLASSES),
) -> ClassCalibrator:
    """The calibrator of `kind` for each class against the rest.

    Parameters
    ----------
    kind : {"sigmoid", "isotonic", "none"}
    p : array-like of shape (n, 3)
        Raw probabilities on rows the model was not fitted on, in the order of `config.CLASSES`.
    y : array-like of shape (n,)
        -1, 0 or 1.
    weight, n_effective
        As for `fit_calibrator`: the sigmoid of each class is shrunk towards the identity by as much as so few
        independent outcomes leave open.
    class_weights : sequence of float
        Used in the fit; undone before anything else, so that the identity is right without any evidence.
    seen : sequence of bool
        Whether the rows of the fit held the class.

    Returns
    -------
    ClassCalibrator
        A class that the model saw, but these rows do not hold, keeps its raw probability: there is no evidence.

    Raises
    ------
    TrainingError
        As `fit_calibrator`, for labels other than -1, 0 and 1, or a row without any class.

    Notes
    -----
    Zadrozny & Elkan (2002), Transforming Classifier Scores into Accurate Multiclass Probability Estimates.
    """
    target = np.asarray(y, dtype=np.float64)
    if not np.isin(target, CLASSES).all():
        raise TrainingError("Calibration labels must be -1, 0 or 1. Drop unlabelled rows first.")
    weights = tuple(float(value) for value in class_weights)
    raw = _unweighted(p, weights)
    calibrators: list[Calibrator | None] = []
    for k, label in enumerate(CLASSES):
        hit = (target == label).astype(np.float64)
        if not seen[k]:
            calibrators.append(None)
        elif hit.min() == hit.max():
            calibrators.append(Calibrator())
        else:
            calibrators.append(
                fit_calibrator(kind, raw[:, k], hit, weight, n_effective=n_effective)
            )
    return ClassCalibrator(tuple(calibrators), weights)


def _unweighted(p: ArrayLike, class_weights: Sequence[float]) -> Floats:
    raw = np.asarray(p, dtype=np.float64)
    if raw.ndim != 2 or raw.shape[1] != len(CLASSES):
        raise ValueError(f"p must have shape (n, {len(CLASSES)}), found {raw.shape}.")
    raw = raw / np.asarray(class_weights)
    return np.asarray(raw / raw.sum(axis=1, keepdims=True))
