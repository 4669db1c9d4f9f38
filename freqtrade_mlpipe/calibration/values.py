"""Calibration of predicted returns: a straight line, shrunk towards what the model says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from freqtrade_mlpipe.calibration.binary import CalibratorKind
from freqtrade_mlpipe.exceptions import BundleError, TrainingError

Floats = NDArray[np.float64]

_KIND = "line"
PRIOR_SLOPE_SD, PRIOR_INTERCEPT_SD = 0.5, 0.05
"""How far a line may leave the identity without evidence, the intercept in standard deviations of the label. The mean
return of a month or two is mostly that month's luck."""


@dataclass(frozen=True)
class ValueCalibrator:
    """The map ``slope · raw + intercept`` from a model's output to a predicted return, slope ≥ 0.

    Raises
    ------
    BundleError
        When the numbers do not describe such a map (a damaged file).
    """

    slope: float = 1.0
    intercept: float = 0.0

    def __post_init__(self) -> None:
        if not (np.isfinite([self.slope, self.intercept]).all() and self.slope >= 0):
            raise BundleError(
                "A calibrator of values needs a finite slope ≥ 0 and a finite intercept, "
                f"found {self.slope} and {self.intercept}."
            )

    def apply(self, value: ArrayLike) -> Floats:
        """Predicted returns, float64 in the shape of `value`; NaN stays NaN."""
        return self.slope * np.asarray(value, dtype=np.float64) + self.intercept

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; `from_dict` gives back an equal calibrator, to the last bit."""
        return {"kind": _KIND, "slope": self.slope, "intercept": self.intercept}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ValueCalibrator:
        """Read what `to_dict` wrote.

        Raises
        ------
        BundleError
            For unknown or missing keys, wrong types or numbers that describe no calibrator.
        """
        if set(values) != {"kind", "slope", "intercept"} or values["kind"] != _KIND:
            raise BundleError(f"Calibrator of values with keys {sorted(values)} is malformed.")
        try:
            return cls(slope=float(values["slope"]), intercept=float(values["intercept"]))
        except (TypeError, ValueError) as error:
            raise BundleError(
                f"Calibrator holds something that is not a number: {error}"
            ) from error


def fit_value_calibrator(
    kind: CalibratorKind,
    value: ArrayLike,
    y: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    n_effective: float,
    scale: float,
) -> ValueCalibrator:
    """The line that fits a model's output to the returns.

    Parameters
    ----------
    kind : {"sigmoid", "none"}
        "none": what the model says, times `scale`. Else a line; there is no isotonic form.
    value : array-like of shape (n,)
        Output of a model that was fitted to returns divided by `scale`, on rows it has not seen.
    y : array-like of shape (n,)
        Returns.
    weight : array-like of shape (n,), optional
        Non-negative sample weights.
    n_effective : float
        Number of independent outcomes among the rows, as for `fit_calibrator`.
    scale : float
        Standard deviation of the returns that the model was fitted to.

    Raises
    ------
    TrainingError
        For NaN.

    Notes
    -----
    The mode of the posterior of slope and intercept under independent normal priors around 1 and 0, the noise being
    that of the returns: ridge regression. A negative slope becomes 0: a constant.
    """
    if kind == "none":
        return ValueCalibrator(slope=scale)
    x, target = np.asarray(value, dtype=np.float64), np.asarray(y, dtype=np.float64) / scale
    share = np.ones(len(x)) if weight is None else np.asarray(weight, dtype=np.float64)
    if not (np.isfinite(x).all() and np.isfinite(target).all() and share.sum() > 0):
        raise TrainingError("Calibration needs finite values and returns, and rows with weight.")
    w = share * (n_effective / share.sum())
    design = np.column_stack([x, np.ones(len(x))])
    precision = np.diag([PRIOR_SLOPE_SD**-2, PRIOR_INTERCEPT_SD**-2])
    pull = np.array([PRIOR_SLOPE_SD**-2, 0.0])
    curve = design.T @ (w[:, None] * design) + precision
    slope, intercept = np.linalg.solve(curve, design.T @ (w * target) + pull)
    if slope < 0:
        slope, intercept = 0.0, (w @ target) / curve[1, 1]
    return ValueCalibrator(slope=float(slope) * scale, intercept=float(intercept) * scale)
