"""What each task predicts and is judged by: columns, losses and intervals of out-of-sample predictions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from freqtrade_mlpipe.config import Task
from freqtrade_mlpipe.metrics.classes import class_log_losses
from freqtrade_mlpipe.metrics.intervals import Estimate, score_intervals, value_intervals
from freqtrade_mlpipe.metrics.scores import log_losses

Floats = NDArray[np.float64]

ANSWER_COLUMNS: Mapping[Task, tuple[str, ...]] = {
    "binary": ("proba",),
    "three_class": ("proba_short", "proba_flat", "proba"),
    "regression": ("prediction",),
}
"""Columns of out-of-sample rows that hold what a model said, in the order of its outputs."""

LOSS_METRICS: Mapping[Task, str] = {
    "binary": "log_loss", "three_class": "log_loss", "regression": "squared_error"
}  # fmt: skip
"""The metric that is the mean of `losses_of`."""


def answers_of(oos: pd.DataFrame, task: Task) -> Floats:
    """What a model said, as a member says it: shape (n,), or (n, 3) of three classes."""
    found = oos[list(ANSWER_COLUMNS[task])].to_numpy(dtype=np.float64)
    return found if task == "three_class" else found[:, 0]


def losses_of(task: Task, y: ArrayLike, answers: ArrayLike) -> Floats:
    """Loss of each row, shape (n,): log-loss in nats, or the squared error of a regression.

    Parameters
    ----------
    y : array-like of shape (n,)
        Outcomes of the task, no NaN.
    answers : array-like of shape (n,) or (n, 3)
        As of `answers_of`, no NaN.

    Examples
    --------
    >>> losses_of("regression", [0.1, -0.1], [0.2, -0.1]).round(3).tolist()
    [0.01, 0.0]
    """
    if task == "regression":
        return (np.asarray(y, dtype=np.float64) - np.asarray(answers, dtype=np.float64)) ** 2
    return log_losses(y, answers) if task == "binary" else class_log_losses(y, answers)


def task_intervals(
    task: Task,
    y: ArrayLike,
    answers: ArrayLike,
    dates: pd.DatetimeIndex,
    block: float,
    *,
    group: ArrayLike | None = None,
) -> dict[str, Estimate]:
    """Scores that suit the task, with intervals; parameters as of `score_intervals`."""
    measure = value_intervals if task == "regression" else score_intervals
    return measure(y, answers, dates, block, group=group)
