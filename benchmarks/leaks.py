"""What the whole training says of markets where nothing can be known, for every label, split and estimator.

Candles are driftless random walks; the labels overlap, and the features are slow, so that they tell which rows are
neighbours in time. Search, selection, calibration and scaling are on. Printed for each combination are the means over
seeds, with 95 % t intervals, of the out-of-sample score and of the best score of the search: AUC (of three classes the
mean of each against the rest), of forward returns (1 + rank correlation) / 2. Without a leak the first is 0.5, and one
interval in twenty misses it by chance. The second is a best of several, and above 0.5 for that reason.

About a second a training on an idle core; without options there are 112 combinations::

    python benchmarks/leaks.py --seeds 12
"""

from __future__ import annotations

import argparse
import itertools
import math

import numpy as np
import pandas as pd
from scipy.stats import t as student

from freqtrade_mlpipe.config import LabelConfig, ModelConfig
from freqtrade_mlpipe.labels import make_labels
from freqtrade_mlpipe.models import MODELS
from freqtrade_mlpipe.trainer import ModelTrainer

HORIZON = 12
MARK = "  does not hold 0.5"
CANDLE = pd.Timedelta("1h")
LABELS = {
    **{
        f"{kind}-{classes}": (kind, classes)
        for kind in ("direction", "threshold", "triple_barrier")
        for classes in (2, 3)
    },
    "forward_return": ("forward_return", 2),
}
SPLITS = {
    "timeseries": {},
    "sliding": {"cv_method": "timeseries", "train_window_candles": 800},
    "purged_kfold": {"cv_method": "purged_kfold"},
    "cpcv": {"cv_method": "cpcv"},
}


def random_walk(rng: np.random.Generator, n: int) -> pd.DataFrame:
    """Candles of a driftless walk that open where the last one closed."""
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, n)))
    start = np.r_[100.0, close[:-1]]
    wick = np.exp(np.abs(rng.normal(0, 0.004, (2, n))))
    return pd.DataFrame(
        {
            "open": start,
            "high": np.maximum(start, close) * wick[0],
            "low": np.minimum(start, close) / wick[1],
            "close": close,
        },
        index=pd.date_range("2024-01-01", periods=n, freq=CANDLE, tz="UTC"),
    )


def slow_features(rng: np.random.Generator, index: pd.Index) -> pd.DataFrame:
    """Time itself, and noise of different memory."""
    columns: dict[str, np.ndarray] = {"time": np.arange(len(index), dtype=float)}
    for name, memory in (("slow", 0.995), ("medium", 0.97), ("fast", 0.8)):
        noise = pd.Series(rng.normal(size=len(index)))
        columns[name] = noise.ewm(alpha=1 - memory).mean().to_numpy()
    return pd.DataFrame(columns, index=index).astype(np.float32)


def skill(
    kind: str, classes: int, split: str, model: str, seed: int, n_candles: int, n_trials: int
) -> tuple[float, float]:
    """Out-of-sample score and best score of the search; 0.5 is chance for both."""
    config = LabelConfig(kind=kind, classes=classes, horizon_candles=HORIZON)
    returns = config.task == "regression"
    rng = np.random.default_rng(seed)
    candles = random_walk(rng, n_candles)
    labels = make_labels(candles, config)
    settings = {
        "model_type": model, "cv_folds": 3, "embargo_candles": HORIZON, "n_trials": n_trials, "n_jobs": 1,
        "feature_selection": True, "calibration": "sigmoid" if returns else "isotonic",
        "optimization_metric": "spearman" if returns else "roc_auc", "random_state": seed,
        "parameters": {"n_estimators": 40}, **SPLITS[split],
    }  # fmt: skip
    _, metrics = ModelTrainer(ModelConfig(**settings)).train(
        slow_features(rng, candles.index),
        labels.y,
        known_at=labels.known_at,
        weight=labels.weight,
        forward_return=labels.forward_return,
        short_return=labels.short_return,
        round_trip_cost=labels.round_trip_cost,
        horizon_candles=HORIZON,
        task=config.task,
    )
    if returns:
        return 0.5 * (1 + metrics["spearman"]), 0.5 * (1 + metrics["tuning_score"])
    return metrics["roc_auc"], metrics["tuning_score"]


def interval(values: list[float], mark: str = "") -> str:
    """Mean and 95 % t interval over seeds, marked where it does not hold 0.5."""
    mean, n = float(np.mean(values)), len(values)
    half = float(student.ppf(0.975, n - 1)) * float(np.std(values, ddof=1)) / math.sqrt(n)
    if mean - half <= 0.5 <= mean + half:
        mark = ""
    return f"{mean:.4f} [{mean - half:.4f}, {mean + half:.4f}]{mark}"


def main() -> None:
    """Print one line a combination, and all of them together."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--candles", type=int, default=2500)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--splits", nargs="+", choices=list(SPLITS), default=list(SPLITS))
    parser.add_argument("--labels", nargs="+", default=list(LABELS), choices=list(LABELS))
    arguments = parser.parse_args()
    pooled: list[list[float]] = [[] for _ in range(arguments.seeds)]
    for name, split, model in itertools.product(
        arguments.labels, arguments.splits, arguments.models
    ):
        kind, classes = LABELS[name]
        found = [
            skill(kind, classes, split, model, seed, arguments.candles, arguments.trials)
            for seed in range(arguments.seeds)
        ]
        scores, searched = map(list, zip(*found, strict=True))
        for of_seed, score in zip(pooled, scores, strict=True):
            of_seed.append(score)
        print(
            f"{name:18} {split:12} {model:14} "
            f"out of sample {interval(scores, MARK)} · search {interval(searched)}",
            flush=True,
        )
    print(
        "all, a seed being one value:",
        interval([float(np.mean(scores)) for scores in pooled], MARK),
    )


if __name__ == "__main__":
    main()
