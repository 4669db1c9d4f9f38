"""The report of a training, from its members and their out-of-sample predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from freqtrade_mlpipe.member import Member
from freqtrade_mlpipe.metrics import answers_of
from freqtrade_mlpipe.splits import Fold
from freqtrade_mlpipe.trainer.evaluation import (
    baseline_scores,
    defined,
    importance_of,
    importance_stability,
    out_of_sample,
    scores_of,
    selection_shares,
    selection_stability,
)
from freqtrade_mlpipe.trainer.inputs import Inputs
from freqtrade_mlpipe.trainer.report import TrainingReport
from freqtrade_mlpipe.tuning import TrainingData, TuningResult


def make_report(
    inputs: Inputs,
    folds: Sequence[Fold],
    members: Sequence[Member],
    tuned: TuningResult,
) -> TrainingReport:
    """Score the walk-forward members (all but the last) out of sample and write everything down."""
    data = inputs.data
    oos = out_of_sample(data, folds, members[:-1])
    by_fold = [_scores(data, part) for _, part in oos.groupby("fold")]
    names = list(data.X.columns)
    picked = tuned.walk_picked or (None,) * len(folds)
    importances = [importance_of(member, names) for member in members]
    counts = {
        "n_rows": len(data),
        "n_oos_rows": len(oos),
        "n_features": len(names),
        "n_features_used": len(members[-1].preprocessor.kept_columns),
        "n_trials": len(tuned.trials),
        "n_dropped_nan": inputs.n_dropped_nan,
    }
    metrics = _scores(data, oos) | baseline_scores(oos)
    for name in ("roc_auc", "spearman"):
        metrics[name] = _mean_within_folds(name, by_fold, [len(fold.test) for fold in folds])
    metrics["importance_stability"] = importance_stability(importances[:-1])
    selection = selection_shares(members[:-1], names)
    metrics["selection_stability"] = selection_stability(selection, len(members) - 1)
    metrics["tuning_score"] = tuned.best_value
    return TrainingReport(
        best_params=tuned.best_params,
        trials=[asdict(trial) for trial in tuned.trials],
        folds=[
            {**_fold_summary(member, len(fold.train), len(fold.test), scores), "trial": trial}
            for fold, member, scores, trial in zip(
                folds, members[:-1], by_fold, picked, strict=True
            )
        ],
        oos=oos.drop(columns="row"),
        feature_importance=importances[-1].sort_values(ascending=False, kind="stable"),
        metrics=defined({**metrics, **counts}),
        trial_sharpes=[trial.sharpe for trial in tuned.trials if trial.state == "complete"],
        data_hash=inputs.data_hash,
        n_dropped_nan=inputs.n_dropped_nan,
        selection=selection.sort_values(ascending=False, kind="stable"),
        front=list(tuned.front),
        picked=tuned.picked,
        rule=tuned.rule,
    )


def _scores(data: TrainingData, oos: pd.DataFrame) -> dict[str, float]:
    return scores_of(
        data, oos["row"].to_numpy(), answers_of(oos, data.task), oos["position"].to_numpy()
    )


def _mean_within_folds(
    name: str, by_fold: Sequence[Mapping[str, float]], n_rows: Sequence[int]
) -> float:
    """A rank score within folds, weighted by their rows; folds where it is not defined do not count.

    Pooled over folds, the AUC of a model without skill is below 0.5: the class frequency in the
    training rows of a later fold rises with the labels of an earlier one, so that rows are ranked
    by fold (Forman & Scholz 2010, Apples-to-Apples in Cross-Validation Studies).
    """
    found = [(s[name], n) for s, n in zip(by_fold, n_rows, strict=True) if name in s]
    if not found:
        return float("nan")
    scores, weights = zip(*found, strict=True)
    return float(np.average(scores, weights=weights))


def validation_scores(production: Member, held_out: TrainingData) -> dict[str, float]:
    """Scores of the production member on a later period, named ``val_``."""
    proba = production.predict_proba(held_out.X)
    position = production.thresholds.positions(proba)
    scores = scores_of(held_out, np.arange(len(held_out)), proba, position)
    scores["n_rows"] = float(len(held_out))
    return {f"val_{name}": value for name, value in scores.items()}


def _fold_summary(
    member: Member, n_train: int, n_test: int, metrics: Mapping[str, float]
) -> dict[str, Any]:
    """A fold as plain values."""
    return {
        "train_start": member.train_start.isoformat(),
        "train_end": member.train_end.isoformat(),
        "test_start": member.valid_from.isoformat(),
        "test_end": None if member.valid_to is None else member.valid_to.isoformat(),
        "n_train": n_train,
        "n_test": n_test,
        "n_trees": member.model.n_rounds,
        **asdict(member.thresholds),
        "metrics": dict(metrics),
    }
