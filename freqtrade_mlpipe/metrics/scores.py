"""Scores of class-1 probabilities, in plain numpy: tuning calls them in each trial and fold."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def classification_scores(
    y: ArrayLike, proba: ArrayLike, threshold: float = 0.5, weight: ArrayLike | None = None
) -> dict[str, float]:
    """Scores of probabilities and of the decisions ``proba >= threshold``.

    Parameters
    ----------
    y : array-like of shape (n,)
        0 or 1.
    proba : array-like of shape (n,)
        Probability of class 1.
    threshold : float, default 0.5
        Rows at or above it are decided 1 (accuracy, precision, recall, f1, mcc).
    weight : array-like of shape (n,), optional
        Non-negative sample weights.

    Returns
    -------
    dict of str to float
        accuracy, precision, recall, f1, mcc (0 where undefined), roc_auc (NaN with one class),
        log_loss, brier.

    Raises
    ------
    ValueError
        For no rows, unequal lengths, NaN, or labels other than 0 and 1.

    Examples
    --------
    >>> scores = classification_scores([0, 1, 1, 0], [0.2, 0.9, 0.4, 0.1])
    >>> scores["accuracy"], scores["precision"], scores["recall"], scores["roc_auc"]
    (0.75, 1.0, 0.5, 1.0)
    """
    truth, p, w = checked(y, proba, weight)
    up, chosen = truth == 1, p >= threshold
    tp, fp = float(w[up & chosen].sum()), float(w[~up & chosen].sum())
    fn, tn = float(w[up & ~chosen].sum()), float(w[~up & ~chosen].sum())
    total = tp + fp + fn + tn
    spread = np.sqrt(tp + fp) * np.sqrt(tp + fn) * np.sqrt(tn + fp) * np.sqrt(tn + fn)
    return {
        "accuracy": (tp + tn) / total,
        "precision": _ratio(tp, tp + fp),
        "recall": _ratio(tp, tp + fn),
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
        "mcc": _ratio(tp * tn - fp * fn, float(spread)),
        "roc_auc": roc_auc(truth, p, w),
        "log_loss": float(np.average(log_losses(truth, p), weights=w)),
        "brier": float(np.average((p - truth) ** 2, weights=w)),
    }


def roc_auc(y: ArrayLike, proba: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Probability that a row of class 1 scores above one of class 0, ties counting half.

    NaN when only one class has weight. Shapes (n,); see `classification_scores`.
    """
    truth, p, w = checked(y, proba, weight)
    order = np.argsort(p)
    p, up = p[order], w[order] * truth[order]
    down = w[order] - up
    starts = np.flatnonzero(np.r_[True, p[1:] != p[:-1]])
    up, down = np.add.reduceat(up, starts), np.add.reduceat(down, starts)
    pairs = float(up.sum() * down.sum())
    if pairs <= 0:
        return float("nan")
    below = np.cumsum(down) - 0.5 * down
    return float((up * below).sum()) / pairs


def log_losses(y: ArrayLike, proba: ArrayLike) -> Floats:
    """Cross-entropy of each row in nats, shape (n,); probabilities are kept off 0 and 1."""
    truth, p = np.asarray(y, dtype=np.float64), np.asarray(proba, dtype=np.float64)
    tiny = np.finfo(np.float64).eps
    right = np.where(truth == 1, p, 1.0 - p)
    return np.asarray(-np.log(np.clip(right, tiny, 1.0 - tiny)))


def expected_calibration_error(
    y: ArrayLike, proba: ArrayLike, weight: ArrayLike | None = None, n_bins: int = 10
) -> float:
    """Mean distance between predicted probability and observed frequency over bins of equal mass.

    Parameters
    ----------
    y, proba, weight : array-like of shape (n,)
        As in `classification_scores`.
    n_bins : int, default 10
        Bins; rows of equal probability share one, so there may be fewer.

    Notes
    -----
    Nixon et al. (2019), Measuring Calibration in Deep Learning (adaptive calibration error, class
    1). A perfectly calibrated forecast scores about ``0.8 * sqrt(p (1 - p) n_bins / n)`` by chance.

    Examples
    --------
    >>> expected_calibration_error([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5])
    0.0
    """
    if n_bins < 1:
        raise ValueError(f"n_bins must be at least 1, found {n_bins}.")
    truth, p, w = checked(y, proba, weight)
    order = np.argsort(p)
    truth, p, w = truth[order], p[order], w[order]
    starts = np.flatnonzero(np.r_[True, p[1:] != p[:-1]])
    mass = np.add.reduceat(w, starts)
    middle = (np.cumsum(mass) - 0.5 * mass) / mass.sum()
    bins = np.minimum((middle * n_bins).astype(np.int64), n_bins - 1)
    gap = np.add.reduceat(w * (p - truth), starts)
    return float(np.abs(np.bincount(bins, weights=gap)).sum() / mass.sum())


def checked(
    y: ArrayLike, proba: ArrayLike, weight: ArrayLike | None
) -> tuple[Floats, Floats, Floats]:
    """The three arrays as float64; weights default to 1.

    Raises
    ------
    ValueError
        For no rows, unequal lengths, NaN, labels other than 0 and 1, or weights that are negative
        or all 0.
    """
    truth, p = np.asarray(y, dtype=np.float64), np.asarray(proba, dtype=np.float64)
    w = np.ones(len(truth)) if weight is None else np.asarray(weight, dtype=np.float64)
    if not (truth.ndim == 1 and truth.shape == p.shape == w.shape and len(truth)):
        raise ValueError(
            "y, proba and weight must have one shape (n,) with n > 0, found "
            f"{truth.shape}, {p.shape} and {w.shape}."
        )
    if not ((truth == 0) | (truth == 1)).all():
        raise ValueError("y must hold 0 and 1 only. Drop unlabelled rows first.")
    if np.isnan(p).any() or not (w >= 0).all() or not w.sum() > 0:
        raise ValueError("proba must not be NaN; weights must be ≥ 0 and not all 0.")
    return truth, p, w


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0
