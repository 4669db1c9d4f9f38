"""Out-of-sample predictions of the walk-forward members, and the scores computed from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from freqtrade_mlpipe.config import CLASSES, Task
from freqtrade_mlpipe.member import Member, Signs, answer_columns
from freqtrade_mlpipe.metrics import (
    baseline_log_losses,
    classification_scores,
    expected_calibration_error,
    expected_profit,
    last_known_outcome,
    losses_of,
    sharpe_ratio,
    three_class_scores,
    value_scores,
)
from freqtrade_mlpipe.splits import Fold
from freqtrade_mlpipe.tuning import TrainingData, portfolio_returns, traded_returns

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_YEAR = pd.Timedelta(days=365)
_CLASSES: Mapping[Task, tuple[float, ...]] = {"binary": (0.0, 1.0), "three_class": CLASSES}

BASELINE_METRICS = {
    "class_prior": "baseline_log_loss",
    "last_value": "baseline_last_value_log_loss",
    "mean": "baseline_mean_squared_error",
    "zero": "baseline_zero_squared_error",
}
"""Baseline → the metric with its loss: of class frequency and frequency after the last outcome the log-loss, of a
regression the squared error of the training mean and of 0."""

SHORT_COLUMNS = ("proba_short", "proba_flat", "edge_short")
"""What three classes add to the out-of-sample rows, in the order of `member.answer_columns`."""


def out_of_sample(
    data: TrainingData, folds: Sequence[Fold], members: Sequence[Member]
) -> pd.DataFrame:
    """Predictions of each fold's test rows by its member; columns as `TrainingReport.oos`.

    The column `row` holds the position in `data`.
    """
    last = last_known_outcome(data.y, data.dates, data.known_at, data.pairs)
    parts = []
    for number, (fold, member) in enumerate(zip(folds, members, strict=True)):
        rows = fold.test
        proba = member.predict_proba(data.X.iloc[rows])
        answers = answer_columns(proba, member.thresholds)
        returns, shorts = data.returns_of(rows), data.shorts_of(rows)
        part = {
            "y": data.y[rows],
            "prediction" if data.task == "regression" else "proba": answers[:, 0],
            "edge": answers[:, 1],
            "signal": member.thresholds.signals(proba),
            "position": member.thresholds.positions(proba),
            "forward_return": np.nan if returns is None else returns,
            "weight": data.weight[rows],
            "fold": number,
            "known_at": data.known_at[rows],
            "row": rows,
            "loss": losses_of(data.task, data.y[rows], proba),
        }
        part |= {
            f"loss_{name}": losses
            for name, losses in baseline_losses(data, fold.train, rows, last).items()
        }
        if data.task == "three_class":
            part |= dict(zip(SHORT_COLUMNS, answers[:, 2:].T, strict=True))
            part["short_return"] = np.nan if shorts is None else shorts
        index = pd.MultiIndex.from_arrays(
            [data.pairs[rows], data.dates[rows]], names=["pair", "date"]
        )
        parts.append(pd.DataFrame(part, index=index))
    return pd.concat(parts)


def baseline_losses(data: TrainingData, train: Ints, test: Ints, last: Floats) -> dict[str, Floats]:
    """Loss of each test row under forecasts that need no model; `last`: `last_known_outcome` of all rows."""
    y = data.y[test]
    if data.task == "regression":
        return {"mean": (y - data.y[train].mean()) ** 2, "zero": y**2}
    return baseline_log_losses(data.y[train], y, last[train], last[test], _CLASSES[data.task])


def scores_of(data: TrainingData, rows: Ints, proba: Floats, position: Signs) -> dict[str, float]:
    """Scores of probabilities and trades (1 long, -1 short, 0 none) on some rows of the data.

    accuracy, precision, recall, f1, mcc of the trades as decisions for a class; roc_auc, log_loss,
    brier and expected_calibration_error of the probabilities; with forward returns expected_profit
    (mean net return of a trade), sharpe (annualised) and sharpe_per_candle of the trades. Every row
    counts once. A score that is not defined is absent.
    """
    y = data.y[rows]
    if data.task == "regression":
        scores = value_scores(y, proba)
    elif data.task == "three_class":
        scores = three_class_scores(y, proba, position)
        scores["negative_rate"] = float((y == -1).mean())
        scores["short_rate"] = float((position == -1).mean())
    else:
        scores = classification_scores(y, position.astype(np.float64))
        scores |= {
            name: value
            for name, value in classification_scores(y, proba).items()
            if name in ("roc_auc", "log_loss", "brier")
        }
        scores["expected_calibration_error"] = expected_calibration_error(y, proba)
    scores["positive_rate"] = float(((y > 0) if data.task == "regression" else (y == 1)).mean())
    scores["entry_rate"] = float((position != 0).mean())
    if data.forward_return is not None:
        booked = portfolio_returns(data, rows, position)
        scores["expected_profit"] = expected_profit(
            position != 0, traded_returns(data, rows, position), data.round_trip_cost
        )
        scores["sharpe"] = sharpe_ratio(booked, periods_per_year=_YEAR / data.candle)
        scores["sharpe_per_candle"] = sharpe_ratio(booked)
    return defined(scores)


def defined(scores: Mapping[str, float]) -> dict[str, float]:
    """The scores that are numbers."""
    return {name: float(value) for name, value in scores.items() if math.isfinite(value)}


def baseline_scores(oos: pd.DataFrame) -> dict[str, float]:
    """Mean loss of the baselines, named as in `BASELINE_METRICS`."""
    means = {name: oos.get(f"loss_{name}") for name in BASELINE_METRICS}
    return {
        BASELINE_METRICS[name]: float(loss.mean())
        for name, loss in means.items()
        if loss is not None
    }


def importance_of(member: Member, feature_names: Sequence[str]) -> pd.Series[float]:
    """Share of the gain of every feature, 0 for those the member does not use."""
    gain = pd.Series(member.model.importance(), index=list(member.preprocessor.kept_columns))
    return gain.reindex(list(feature_names), fill_value=0.0).rename("importance")


def selection_shares(members: Sequence[Member], feature_names: Sequence[str]) -> pd.Series[float]:
    """Share of the members that use each feature, in the order of the names."""
    kept = [set(member.preprocessor.kept_columns) for member in members]
    shares = [sum(name in used for used in kept) / len(kept) for name in feature_names]
    return pd.Series(shares, index=list(feature_names), name="selection")


def selection_stability(shares: pd.Series[float], n_members: int) -> float:
    """How much more alike the members' feature sets are than sets of the same sizes drawn by chance.

    1: the same set everywhere; 0: chance. NaN with one member, or where all or none are used.

    Notes
    -----
    Nogueira, Sechidis & Brown (2018), On the Stability of Feature Selection Algorithms, JMLR 18.
    """
    share = shares.to_numpy()
    used = float(share.mean())
    if n_members < 2 or used in (0.0, 1.0):
        return math.nan
    variance = n_members / (n_members - 1) * share * (1 - share)
    return 1 - float(variance.mean()) / (used * (1 - used))


def importance_stability(importances: Sequence[pd.Series[float]]) -> float:
    """Mean Spearman correlation of feature importances over all pairs of folds.

    1: the same ranking everywhere; about 0: chance. NaN with one fold or feature, or where a fold
    ranks nothing.
    """
    ranks = pd.concat(list(importances), axis=1).rank().to_numpy()
    if ranks.shape[0] < 2 or ranks.shape[1] < 2 or (ranks.std(axis=0) == 0).any():
        return math.nan
    matrix = np.corrcoef(ranks, rowvar=False)
    return float(matrix[np.triu_indices(len(matrix), k=1)].mean())
