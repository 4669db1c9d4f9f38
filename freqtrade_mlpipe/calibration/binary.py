"""The map from a raw score to the probability of class 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from freqtrade_mlpipe.exceptions import BundleError, TrainingError

Floats = NDArray[np.float64]
CalibratorKind = Literal["sigmoid", "isotonic", "none"]

MARGIN = 1e-6
"""Calibrated probabilities stay this far from 0 and 1, so that no log-loss is infinite."""


@dataclass(frozen=True)
class Calibrator:
    """A non-decreasing map from raw to calibrated class-1 probability.

    Attributes
    ----------
    kind : {"sigmoid", "isotonic", "none"}
    slope, intercept : float
        Of ``sigmoid``: p = 1 / (1 + exp(-(slope · logit(raw) + intercept))), slope ≥ 0.
    knots, levels : tuple of float
        Of ``isotonic``: ascending raw scores and their non-decreasing probabilities, joined by
        straight lines.

    Raises
    ------
    BundleError
        When the numbers do not describe such a map (a damaged file).
    """

    kind: CalibratorKind = "none"
    slope: float = 1.0
    intercept: float = 0.0
    knots: tuple[float, ...] = ()
    levels: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in get_args(CalibratorKind):
            raise BundleError(
                f"Unknown calibrator kind {self.kind!r}; "
                f"valid: {', '.join(get_args(CalibratorKind))}."
            )
        if not (np.isfinite([self.slope, self.intercept]).all() and self.slope >= 0):
            raise BundleError(
                "A calibrator needs a finite slope ≥ 0 and a finite intercept, "
                f"found {self.slope} and {self.intercept}."
            )
        if self.kind == "isotonic":
            knots, levels = np.asarray(self.knots), np.asarray(self.levels)
            if not (
                len(knots) == len(levels) > 0
                and np.isfinite(knots).all()
                and (np.diff(knots) > 0).all()
                and (np.diff(levels) >= 0).all()
                and levels[0] >= 0
                and levels[-1] <= 1
            ):
                raise BundleError(
                    "An isotonic calibrator needs ascending knots and as many non-decreasing "
                    "levels in [0, 1]."
                )

    def apply(self, p: ArrayLike) -> Floats:
        """Calibrated probabilities, float64 in [1e-6, 1 - 1e-6], shape of `p`; NaN stays NaN."""
        raw = np.asarray(p, dtype=np.float64)
        if self.kind == "sigmoid":
            calibrated = _sigmoid(self.slope * _logit(raw) + self.intercept)
        elif self.kind == "isotonic":
            calibrated = np.interp(raw, self.knots, self.levels)
        else:
            calibrated = raw
        return np.clip(calibrated, MARGIN, 1.0 - MARGIN)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; `from_dict` gives back an equal calibrator, to the last bit."""
        if self.kind == "sigmoid":
            return {"kind": self.kind, "slope": self.slope, "intercept": self.intercept}
        if self.kind == "isotonic":
            return {"kind": self.kind, "knots": list(self.knots), "levels": list(self.levels)}
        return {"kind": self.kind}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Calibrator:
        """Read what `to_dict` wrote.

        Raises
        ------
        BundleError
            For unknown or missing keys, wrong types or numbers that describe no calibrator.
        """
        expected = {"sigmoid": {"slope", "intercept"}, "isotonic": {"knots", "levels"}}
        kind = values.get("kind")
        found = set(values) - {"kind"}
        if not isinstance(kind, str) or found != expected.get(kind, set()):
            raise BundleError(
                f"Calibrator of kind {kind!r} with keys {sorted(found)} is malformed."
            )
        try:
            return cls(
                kind=cast(CalibratorKind, kind),
                slope=float(values.get("slope", 1.0)),
                intercept=float(values.get("intercept", 0.0)),
                knots=tuple(float(value) for value in values.get("knots", ())),
                levels=tuple(float(value) for value in values.get("levels", ())),
            )
        except (TypeError, ValueError) as error:
            raise BundleError(
                f"Calibrator holds something that is not a number: {error}"
            ) from error


PRIOR_LOG_SLOPE_SD, PRIOR_INTERCEPT_SD = 0.75, 0.1
"""How far a sigmoid may leave the identity without evidence. Over- or underconfidence by a factor of two is
ordinary; forests need more, and get it where there is evidence for it. The base rate of a month or two of overlapping
labels is mostly that month's luck: an intercept fitted to it freely makes the next month worse."""


def fit_calibrator(
    kind: CalibratorKind,
    p: ArrayLike,
    y: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    n_effective: float | None = None,
    offset: float = 0.0,
) -> Calibrator:
    """The calibrator of `kind` that fits scores to outcomes.

    Parameters
    ----------
    kind : {"sigmoid", "isotonic", "none"}
    p : array-like of shape (n,)
        Raw class-1 scores in [0, 1] on rows the model was not fitted on.
    y : array-like of shape (n,)
        0 or 1.
    weight : array-like of shape (n,), optional
        Non-negative sample weights.
    n_effective : float, optional
        Number of independent outcomes among the rows: overlapping labels of horizon h count about
        n / h. A sigmoid is then shrunk towards the identity by as much as so few outcomes leave
        open. None: rows are independent and the fit is free.
    offset : float, default 0
        With `n_effective`: added to logit(p) to give the score that is right without any evidence,
        so that class weights used in fitting are undone.

    Returns
    -------
    Calibrator
        A sigmoid's slope is 0 (a constant probability) where the scores order the outcomes the
        wrong way round.

    Raises
    ------
    TrainingError
        For one class, fewer than two rows, or NaN (not for "none", which learns nothing).

    Notes
    -----
    The free sigmoid is fitted on logit(p) to Platt's smoothed targets (Platt 1999; Lin, Lin & Weng
    2007), which keep it finite on separable data. The shrunk one is the mode of the posterior under
    independent normal priors on the logarithm of the slope and on the intercept, both around 0.
    """
    if kind == "none":
        return Calibrator()
    if kind not in get_args(CalibratorKind):
        raise ValueError(f"kind must be one of {get_args(CalibratorKind)}, found {kind!r}.")
    raw, target, share = _checked(p, y, weight)
    if kind == "sigmoid" and n_effective is not None:
        return _fit_shrunk(raw, target, share * n_effective / share.sum(), offset)
    return _FIT[kind](raw, target, share)


def _fit_sigmoid(p: Floats, y: Floats, weight: Floats) -> Calibrator:
    weight = weight / weight.mean()
    n_up = float(weight[y == 1].sum())
    n_down = float(weight[y == 0].sum())
    target = np.where(y == 1, (n_up + 1) / (n_up + 2), 1 / (n_down + 2))
    slope, intercept = _newton(_logit(p), target, weight)
    if slope < 0:
        slope, intercept = 0.0, float(_logit(np.average(target, weights=weight)))
    return Calibrator("sigmoid", slope=slope, intercept=intercept)


def _fit_shrunk(p: Floats, y: Floats, weight: Floats, offset: float) -> Calibrator:
    from scipy.optimize import minimize

    score = _logit(p) + offset

    spread = np.array([PRIOR_LOG_SLOPE_SD, PRIOR_INTERCEPT_SD])

    def loss(theta: Floats) -> tuple[float, Floats]:
        slope = np.exp(theta[0])
        margin = slope * score + theta[1]
        pull = theta / spread
        residual = weight * (_sigmoid(margin) - y)
        gradient = np.array([slope * (residual * score).sum(), residual.sum()])
        value = _cross_entropy(margin, y, weight) + float(pull @ pull) / 2
        return value, gradient + pull / spread

    found = minimize(
        loss, np.zeros(2), jac=True, method="L-BFGS-B", bounds=[(-12.0, 12.0), (None, None)],
        options={"ftol": 1e-14, "gtol": 1e-9},
    )  # fmt: skip
    slope, intercept = float(np.exp(found.x[0])), float(found.x[1])
    return Calibrator("sigmoid", slope=slope, intercept=slope * offset + intercept)


def _newton(x: Floats, target: Floats, weight: Floats) -> tuple[float, float]:
    """Slope and intercept with the least weighted cross-entropy, by damped Newton steps."""
    centre = float(np.average(x, weights=weight))
    z = x - centre
    a, b = 0.0, float(_logit(np.average(target, weights=weight)))
    loss = _cross_entropy(a * z + b, target, weight)
    for _ in range(100):
        q = _sigmoid(a * z + b)
        gradient = np.array([(weight * (q - target) * z).sum(), (weight * (q - target)).sum()])
        if np.abs(gradient).max() < 1e-10 * len(x):
            break
        curve = weight * q * (1 - q)
        cross = (curve * z).sum()
        hessian = np.array([[(curve * z * z).sum() + 1e-12, cross], [cross, curve.sum() + 1e-12]])
        step = np.linalg.solve(hessian, gradient)
        length = 1.0
        while length > 1e-10:
            new_a, new_b = a - length * step[0], b - length * step[1]
            new_loss = _cross_entropy(new_a * z + new_b, target, weight)
            if new_loss <= loss - 1e-4 * length * float(gradient @ step):
                break
            length /= 2
        else:
            break
        a, b, loss = float(new_a), float(new_b), new_loss
    return a, b - a * centre


def _cross_entropy(margin: Floats, target: Floats, weight: Floats) -> float:
    return float((weight * (np.logaddexp(0.0, margin) - target * margin)).sum())


def _fit_isotonic(p: Floats, y: Floats, weight: Floats) -> Calibrator:
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
    fitted.fit(p, y, sample_weight=weight)
    return Calibrator(
        "isotonic",
        knots=tuple(float(value) for value in fitted.X_thresholds_),
        levels=tuple(float(value) for value in fitted.y_thresholds_),
    )


_FIT = {"sigmoid": _fit_sigmoid, "isotonic": _fit_isotonic}


def _checked(p: ArrayLike, y: ArrayLike, weight: ArrayLike | None) -> tuple[Floats, Floats, Floats]:
    raw, target = np.asarray(p, dtype=np.float64), np.asarray(y, dtype=np.float64)
    share = np.ones_like(target) if weight is None else np.asarray(weight, dtype=np.float64)
    if not (raw.shape == target.shape == share.shape and raw.ndim == 1):
        raise ValueError(
            "p, y and weight must have one shape (n,), "
            f"found {raw.shape}, {target.shape} and {share.shape}."
        )
    if not (np.isfinite(raw).all() and np.isfinite(share).all() and (share >= 0).all()):
        raise TrainingError("Calibration scores and weights must be finite, weights not negative.")
    if not np.isin(target, (0.0, 1.0)).all():
        raise TrainingError("Calibration labels must be 0 or 1. Drop unlabelled rows first.")
    kept = share > 0
    classes = np.unique(target[kept])
    if len(classes) < 2:
        raise TrainingError(
            f"The calibration slice has {int(kept.sum())} weighted rows, all of class "
            f"{classes.tolist()}; both classes are needed. Use more candles, a shorter label "
            "horizon or calibration 'none'."
        )
    return raw[kept], target[kept], share[kept]


def _logit(p: Floats | float) -> Floats:
    clipped = np.clip(p, MARGIN, 1.0 - MARGIN)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))
