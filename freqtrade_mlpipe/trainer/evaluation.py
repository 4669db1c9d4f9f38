"""Out-of-sample predictions of the walk-forward members, and the scores computed from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from freqtrade_mlpipe.member import Member, signals
from freqtrade_mlpipe.metrics import (
    baseline_log_losses,
    classification_scores,
    expected_calibration_error,
    expected_profit,
    last_known_outcome,
    sharpe_ratio,
)
from freqtrade_mlpipe.splits import Fold
from freqtrade_mlpipe.tuning import TrainingData, portfolio_returns

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_YEAR = pd.Timedelta(days=365)


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
        losses = baseline_log_losses(data.y[fold.train], data.y[rows], last[fold.train], last[rows])
        returns = data.returns_of(rows)
        parts.append(
            pd.DataFrame(
                {
                    "y": data.y[rows],
                    "proba": proba,
                    "edge": proba - member.thresholds.enter,
                    "signal": signals(proba, member.thresholds),
                    "forward_return": np.nan if returns is None else returns,
                    "weight": data.weight[rows],
                    "fold": number,
                    "known_at": data.known_at[rows],
                    "loss_class_prior": losses["class_prior"],
                    "loss_last_value": losses["last_value"],
                    "row": rows,
                },
                index=pd.MultiIndex.from_arrays(
                    [data.pairs[rows], data.dates[rows]], names=["pair", "date"]
                ),
            )
        )
    return pd.concat(parts)


def scores_of(
    data: TrainingData, rows: Ints, proba: Floats, enter: NDArray[np.bool_]
) -> dict[str, float]:
    """Scores of probabilities and entry decisions on some rows of the data.

    accuracy, precision, recall, f1, mcc of the entry decision; roc_auc, log_loss, brier and
    expected_calibration_error of the probability; with forward returns expected_profit (mean net
    return of an entry), sharpe (annualised) and sharpe_per_candle of the trades. Every row counts
    once. A score that is not defined is absent.
    """
    y = data.y[rows]
    scores = classification_scores(y, enter.astype(np.float64))
    scores |= {
        name: value
        for name, value in classification_scores(y, proba).items()
        if name in ("roc_auc", "log_loss", "brier")
    }
    scores["expected_calibration_error"] = expected_calibration_error(y, proba)
    scores["positive_rate"] = float(y.mean())
    scores["entry_rate"] = float(enter.mean())
    returns = data.returns_of(rows)
    if returns is not None:
        booked = portfolio_returns(data, rows, enter)
        scores["expected_profit"] = expected_profit(enter, returns, data.round_trip_cost)
        scores["sharpe"] = sharpe_ratio(booked, periods_per_year=_YEAR / data.candle)
        scores["sharpe_per_candle"] = sharpe_ratio(booked)
    return defined(scores)


def defined(scores: Mapping[str, float]) -> dict[str, float]:
    """The scores that are numbers."""
    return {name: float(value) for name, value in scores.items() if math.isfinite(value)}


def baseline_scores(oos: pd.DataFrame) -> dict[str, float]:
    """Mean log-loss of the baselines: class frequency, and frequency after the last outcome."""
    return {
        "baseline_log_loss": float(oos["loss_class_prior"].mean()),
        "baseline_last_value_log_loss": float(oos["loss_last_value"].mean()),
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
