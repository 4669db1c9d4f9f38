"""What a run says about a training: data, scores inside and outside the training rows, folds, trials, curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from freqtrade_mlpipe.config import MLPipeConfig, ModelConfig
from freqtrade_mlpipe.metrics import classification_scores, three_class_scores, value_scores
from freqtrade_mlpipe.tracking import ExperimentTracker
from freqtrade_mlpipe.trainer import TrainedModel
from freqtrade_mlpipe.trainer.evaluation import importance_of

_PAIRS_SHOWN = 20
_SPAN = ("train_start", "train_end", "test_start", "test_end", "n_train", "n_test")


def record_data(tracker: ExperimentTracker, X: pd.DataFrame, window: pd.Timestamp) -> None:
    """Which rows there are, by pair, and where the final window begins.

    Parameters
    ----------
    X : index (pair, date UTC), the rows that are learned from; all before the final window.
    """
    dates = X.index.to_frame(index=False).groupby("pair")["date"].agg(["min", "max", "count"])
    spans = {
        str(pair): {"first": first.isoformat(), "last": last.isoformat(), "n_rows": int(count)}
        for pair, first, last, count in dates.itertuples()
    }
    tracker.log_params(
        {
            "data": {
                "pairs": sorted(spans),
                "first": dates["min"].min().isoformat(),
                "last": dates["max"].max().isoformat(),
                "n_rows": len(X),
                "n_features": X.shape[1],
                "final_window_start": window.isoformat(),
            }
        }
    )
    tracker.log_json("data.json", {"final_window_start": window.isoformat(), "pairs": spans})
    tracker.log_json("features.json", [str(name) for name in X.columns])


def record_training(
    tracker: ExperimentTracker,
    model: TrainedModel,
    metrics: Mapping[str, float],
    config: ModelConfig,
    X: pd.DataFrame,
    y: pd.Series,
) -> None:
    """Everything the trainer measured.

    Metrics without a prefix are out of sample: members on the test rows that followed their training. `train/…` are
    the production member's on its own training rows, to see how much it fits; `validation/…` is the search's mean score
    over its folds.

    Parameters
    ----------
    X, y : what the model was trained from; y NaN where a label is unknown.
    """
    if tracker.backend == "none":
        return
    report = model.report
    tracker.log_metrics(metrics)
    tracker.log_metrics(_in_sample(model, X, y), prefix="train/")
    if "tuning_score" in report.metrics:
        score: dict[str, float] = {config.metrics[0]: report.metrics["tuning_score"]}
        tracker.log_metrics(score, prefix="validation/")
    tracker.log_params({"best_params": report.best_params})
    _record_folds(tracker, model)
    tracker.log_trials(report.trials, direction=config.direction)
    tracker.log_feature_importance(report.feature_importance)
    tracker.log_importance_stability(_importances(model))
    oos = report.oos[report.oos["loss"].notna()]
    if "proba" not in oos:
        return
    tracker.log_confusion_matrix(oos["y"], oos["position"])
    # Of three classes the curves are those of long against the rest.
    came_true = (oos["y"] == 1).astype(np.float64)
    # `roc_auc` is the mean over folds; that of the pooled curve is another number.
    tracker.log_roc_curve(came_true, oos["proba"], metric="pooled_roc_auc")
    tracker.log_pr_curve(came_true, oos["proba"])
    tracker.log_calibration_curve(came_true, oos["proba"])


DESCRIBED_METRICS = {
    "roc_auc": "ROC AUC",
    "log_loss": "Log-loss",
    "baseline_log_loss": "Log-loss of the class prior",
    "brier": "Brier score",
    "expected_calibration_error": "Calibration error",
    "spearman": "Rank correlation of predicted and true returns",
    "rmse": "Root mean squared error",
    "f1": "F1",
    "sharpe": "Sharpe ratio of the signals, annual",
    "n_oos_rows": "Out-of-sample rows",
    "n_trials": "Trials",
}


def describe_version(
    config: MLPipeConfig,
    model: TrainedModel,
    metrics: Mapping[str, float],
    pairs: Sequence[str],
    window: pd.Timestamp,
) -> str:
    """Markdown that introduces a version to whoever opens it in the MLflow UI."""
    production = model.production
    shown = ", ".join(pairs[:_PAIRS_SHOWN])
    more = f" and {len(pairs) - _PAIRS_SHOWN} more" if len(pairs) > _PAIRS_SHOWN else ""
    rows = "\n".join(
        f"| {label} | {metrics[name]:.6g} |"
        for name, label in DESCRIBED_METRICS.items()
        if name in metrics
    )
    return (
        f"**{config.model.model_type}** on {len(model.feature_names)} features; label: {config.labels.kind}, "
        f"{config.labels.horizon_candles} candles ahead.\n\n"
        f"Pairs: {shown}{more}.\n\n"
        f"Trained on {production.train_start:%Y-%m-%d} to {production.train_end:%Y-%m-%d} "
        f"({production.n_train_rows:,} rows); the final window from {window:%Y-%m-%d %H:%M} UTC was left untouched.\n\n"
        f"| Out of sample | |\n|---|---|\n{rows}\n\n"
        "Curves, folds, trials and the report page are with the source run."
    )


def _in_sample(model: TrainedModel, X: pd.DataFrame, y: pd.Series) -> dict[str, float]:
    proba = model.predict_proba(X)
    known = y.notna().to_numpy() & ~np.isnan(proba.reshape(len(proba), -1)).any(axis=1)
    truth, proba = y.to_numpy()[known], proba[known]
    enter = model.production.thresholds.positions(proba).astype(np.float64)
    if model.production.model.task == "regression":
        return value_scores(truth, proba)
    if proba.ndim == 2:
        return three_class_scores(truth, proba, enter)
    decided = classification_scores(truth, enter)
    ranked = classification_scores(truth, proba)
    return decided | {n: v for n, v in ranked.items() if n in ("roc_auc", "log_loss", "brier")}


def _record_folds(tracker: ExperimentTracker, model: TrainedModel) -> None:
    """As series over folds in the run itself, and each fold as a run below it."""
    for number, fold in enumerate(model.report.folds):
        tracker.log_metrics(fold["metrics"], step=number, prefix="fold/")
        params: dict[str, Any] = {name: fold[name] for name in _SPAN}
        thresholds = ("enter", "exit", "long", "short")
        params |= {name: fold[name] for name in (*thresholds, "n_trees") if name in fold}
        tracker.log_fold_run(
            f"fold {number + 1}",
            params | {"model": model.report.best_params},
            fold["metrics"],
            {"mlpipe.fold": number},
        )


def _importances(model: TrainedModel) -> pd.DataFrame:
    names = list(model.feature_names)
    folds = model.members[:-1]
    return pd.DataFrame(
        {f"fold_{n + 1}": importance_of(member, names) for n, member in enumerate(folds)}
    )
