"""Scores of the probabilities of three classes, in plain numpy: tuning calls them in each trial and fold."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from freqtrade_mlpipe.config import CLASSES
from freqtrade_mlpipe.metrics.scores import expected_calibration_error, roc_auc

Floats = NDArray[np.float64]


def three_class_scores(y: ArrayLike, proba: ArrayLike, decided: ArrayLike) -> dict[str, float]:
    """Scores of probabilities of short, flat and long, and of decisions for one of them.

    Parameters
    ----------
    y, decided : array-like of shape (n,)
        -1, 0 or 1.
    proba : array-like of shape (n, 3)
        In the order of `config.CLASSES`.

    Returns
    -------
    dict of str to float
        Of the decisions accuracy; precision, recall and f1, each the mean over the classes that occur in `y` or
        `decided` (macro, 0 where undefined); mcc (Gorodkin 2004, 0 where undefined). Of the probabilities roc_auc, the
        mean of each class against the rest over those that occur in `y` (NaN with one); log_loss; brier (sum over the
        classes, 0 … 2); expected_calibration_error, the mean over the classes.

    Raises
    ------
    ValueError
        For no rows, other shapes, NaN or other labels.

    Examples
    --------
    >>> p = [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]]
    >>> scores = three_class_scores([-1, 0, 1], p, [-1, 0, 0])
    >>> round(scores["accuracy"], 3), round(scores["recall"], 3), scores["roc_auc"]
    (0.667, 0.667, 1.0)
    """
    truth, p, choice = _checked(y, proba, decided)
    table = np.array([[((truth == a) & (choice == b)).sum() for b in CLASSES] for a in CLASSES])
    hits, actual, chosen = np.diag(table), table.sum(axis=1), table.sum(axis=0)
    occurs = (actual + chosen) > 0
    one_vs_rest = [(truth == label).astype(np.float64) for label in CLASSES]
    areas = [roc_auc(hit, p[:, k]) for k, hit in enumerate(one_vs_rest) if 0 < hit.sum() < len(hit)]
    errors = [expected_calibration_error(hit, p[:, k]) for k, hit in enumerate(one_vs_rest)]
    return {
        "accuracy": float(hits.sum() / len(truth)),
        "precision": _macro(hits, chosen, occurs),
        "recall": _macro(hits, actual, occurs),
        "f1": _macro(2 * hits, actual + chosen, occurs),
        "mcc": _mcc(table),
        "roc_auc": float(np.mean(areas)) if areas else float("nan"),
        "log_loss": float(class_log_losses(truth, p).mean()),
        "brier": float(((p - np.column_stack(one_vs_rest)) ** 2).sum(axis=1).mean()),
        "expected_calibration_error": float(np.mean(errors)),
    }


def class_log_losses(y: ArrayLike, proba: ArrayLike) -> Floats:
    """Cross-entropy of each row in nats, shape (n,), from probabilities of shape (n, 3) kept off 0."""
    truth, p = np.asarray(y, dtype=np.float64), np.asarray(proba, dtype=np.float64)
    column = np.searchsorted(CLASSES, truth)
    right = p[np.arange(len(truth)), column]
    return np.asarray(-np.log(np.clip(right, np.finfo(np.float64).eps, 1.0)))


def _macro(part: NDArray[np.int64], whole: NDArray[np.int64], occurs: NDArray[np.bool_]) -> float:
    return float((part / np.maximum(whole, 1))[occurs].mean())


def _mcc(table: NDArray[np.int64]) -> float:
    """The R_K statistic of a confusion table, actual × chosen."""
    counts = table.astype(np.float64)
    n, actual, chosen = counts.sum(), counts.sum(axis=1), counts.sum(axis=0)
    spread = np.sqrt(n**2 - actual @ actual) * np.sqrt(n**2 - chosen @ chosen)
    return float((n * np.trace(counts) - actual @ chosen) / spread) if spread > 0 else 0.0


def _checked(y: ArrayLike, proba: ArrayLike, decided: ArrayLike) -> tuple[Floats, Floats, Floats]:
    truth, p = np.asarray(y, dtype=np.float64), np.asarray(proba, dtype=np.float64)
    choice = np.asarray(decided, dtype=np.float64)
    if not (len(truth) and truth.shape == choice.shape and p.shape == (len(truth), len(CLASSES))):
        raise ValueError(
            "y and decided must have one shape (n,) with n > 0 and proba (n, 3), found "
            f"{truth.shape}, {choice.shape} and {p.shape}."
        )
    if not (np.isin(truth, CLASSES).all() and np.isin(choice, CLASSES).all()):
        raise ValueError("y and decided must hold -1, 0 and 1 only. Drop unlabelled rows first.")
    if np.isnan(p).any():
        raise ValueError("proba must not be NaN.")
    return truth, p, choice
