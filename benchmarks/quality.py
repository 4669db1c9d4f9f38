"""How much of what can be known the tuned pipeline finds, and how it fares against FreqAI's stock classifier.

Planted signals: independent features, labels drawn from known log-odds, so that the ranking by those log-odds is the
best possible (Bayes-optimal) one. For each model and kind of signal, over seeds: the share of the attainable edge
(AUC - 0.5) and the expected calibration error on 50,000 later rows, each with a 95 % t-interval::

    python benchmarks/quality.py planted --seeds 5

Real candles: the same features, label, pairs and walk-forward windows for the tuned pipeline and for
`LGBMClassifier()` as FreqAI's `LightGBMClassifier` calls it: default parameters, training rows up to the test period
without a purge, no calibration (written after freqai/prediction_models/LightGBMClassifier.py and
BaseClassifierModel.py; its scaling leaves trees as they are and is left out). Per pair, AUC and log-loss out of
sample, and their differences with 95 % intervals from a block bootstrap over dates::

    python benchmarks/quality.py candles --datadir user_data/data/binance --pairs BTC/USDT ETH/USDT
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student
from sklearn.metrics import log_loss, roc_auc_score

from freqtrade_mlpipe.config import FeatureConfig, LabelConfig, ModelConfig
from freqtrade_mlpipe.features import FeatureEngineer
from freqtrade_mlpipe.labels import make_labels
from freqtrade_mlpipe.metrics import expected_calibration_error
from freqtrade_mlpipe.models import MODELS
from freqtrade_mlpipe.trainer import ModelTrainer

Floats = NDArray[np.float64]

N_ROWS, N_FEATURES, N_LATER = 20_000, 20, 50_000
BLOCK_CANDLES = 120
N_RESAMPLES = 500
STOCK_TEST_SHARE = 0.33
"""`data_split_parameters.test_size` of freqtrade's config_freqai.example.json."""


def log_odds(X: Floats, kind: str) -> Floats:
    """The planted log-odds of class 1."""
    if kind == "linear":
        return X[:, 0] + 0.5 * X[:, 1]
    return 1.5 * np.sign(X[:, 0]) * X[:, 1]


def planted(n: int, kind: str, seed: int) -> tuple[pd.DataFrame, pd.Series, Floats]:
    """Features, labels, and the log-odds that made them."""
    rng = np.random.default_rng(seed)
    index = pd.date_range("2020-01-01", periods=n, freq="1h", tz="UTC", name="date")
    values = rng.normal(size=(n, N_FEATURES)).astype(np.float32)
    odds = log_odds(values.astype(np.float64), kind)
    y = (rng.random(n) < 1 / (1 + np.exp(-odds))).astype(np.float64)
    X = pd.DataFrame(values, columns=[f"f{k}" for k in range(N_FEATURES)], index=index)
    return X, pd.Series(y, index), odds


def interval(values: list[float]) -> str:
    """Mean and 95 % t-interval."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:.4f}"
    half = float(student.ppf(0.975, len(values) - 1)) * float(np.std(values, ddof=1))
    return f"{mean:.4f} ± {half / math.sqrt(len(values)):.4f}"


def measure_planted(model_type: str, kind: str, n_seeds: int, n_trials: int) -> None:
    """Print the share of the attainable edge and the calibration error."""
    shares, errors, seconds = [], [], []
    for seed in range(n_seeds):
        X, y, _ = planted(N_ROWS, kind, seed)
        later, truth, odds = planted(N_LATER, kind, 10_000 + seed)
        started = time.process_time()
        config = ModelConfig(
            model_type=model_type, n_trials=n_trials, embargo_candles=1, random_state=seed
        )
        model, _ = ModelTrainer(config).train(X, y, known_at=X.index + pd.Timedelta("1h"))
        seconds.append(time.process_time() - started)
        proba = model.predict_proba(later)
        shares.append((roc_auc_score(truth, proba) - 0.5) / (roc_auc_score(truth, odds) - 0.5))
        errors.append(expected_calibration_error(truth.to_numpy(), proba))
    print(
        f"{model_type:14s} {kind:12s} edge found {interval(shares)}  calibration error "
        f"{interval(errors)}  {np.mean(seconds):5.0f} s of CPU a training",
        flush=True,
    )


def read_candles(datadir: Path, pair: str, timeframe: str, n_candles: int) -> pd.DataFrame:
    """The last candles of a pair, from freqtrade's feather file."""
    frame = pd.read_feather(datadir / f"{pair.replace('/', '_')}-{timeframe}.feather")
    return frame.tail(n_candles).reset_index(drop=True)


def stock_predictions(
    X: pd.DataFrame, y: pd.Series, oos: pd.DataFrame, folds: list[dict]
) -> Floats:
    """FreqAI's LightGBMClassifier over the same test periods: the rows before each one, unpurged, less its test split.

    FreqAI splits the last `STOCK_TEST_SHARE` off without shuffling and only watches the loss there.
    """
    from lightgbm import LGBMClassifier

    found = pd.Series(np.nan, oos.index)
    dates = pd.DatetimeIndex(X.index)
    for number, fold in enumerate(folds):
        train = np.asarray(dates < pd.Timestamp(fold["test_start"])) & y.notna().to_numpy()
        train &= X.notna().all(axis=1).to_numpy()
        rows = np.flatnonzero(train)
        rows = rows[: len(rows) - math.ceil(STOCK_TEST_SHARE * len(rows))]
        model = LGBMClassifier(n_jobs=1, verbose=-1).fit(X.iloc[rows], y.iloc[rows])
        asked = oos.index[oos["fold"] == number]
        found[asked] = model.predict_proba(X.loc[asked.get_level_values("date")])[:, 1]
    return found.to_numpy()


def resampled_differences(y: Floats, ours: Floats, stock: Floats, seed: int) -> NDArray[np.float64]:
    """Differences in AUC and log-loss (ours less stock) on circular block resamples, shape (n, 2)."""
    rng = np.random.default_rng(seed)
    n, found = len(y), []
    while len(found) < N_RESAMPLES:
        starts = rng.integers(n, size=math.ceil(n / BLOCK_CANDLES))
        rows = ((starts[:, None] + np.arange(BLOCK_CANDLES)).ravel() % n)[:n]
        if len(np.unique(y[rows])) == 2:
            found.append(differences(y[rows], ours[rows], stock[rows]))
    return np.array(found)


def differences(y: Floats, ours: Floats, stock: Floats) -> tuple[float, float]:
    """In AUC (more is better) and log-loss (less is better)."""
    auc = roc_auc_score(y, ours) - roc_auc_score(y, stock)
    return float(auc), float(log_loss(y, ours) - log_loss(y, stock))


def measure_candles(arguments: argparse.Namespace) -> None:
    """Print scores per pair, ours and stock, with intervals of the difference."""
    label, candle = LabelConfig(), pd.Timedelta("1h")
    for pair in arguments.pairs:
        frame = read_candles(arguments.datadir, pair, "1h", arguments.candles)
        index = pd.DatetimeIndex(frame["date"]).as_unit("ns").rename("date")
        features = FeatureEngineer(FeatureConfig()).transform(frame)
        X = features[FeatureEngineer(FeatureConfig()).get_feature_names()].set_axis(index)
        labels = make_labels(frame, label)
        y = pd.Series(labels.y.to_numpy(), index)
        config = ModelConfig(model_type=arguments.model_type, n_trials=arguments.trials)
        model, _ = ModelTrainer(config).train(
            X,
            y,
            known_at=labels.known_at.to_numpy(),
            weight=labels.weight.to_numpy(),
            candle=candle,
        )
        oos = model.report.oos
        stock = stock_predictions(X, y, oos, model.report.folds)
        truth, ours = oos["y"].to_numpy(), oos["proba"].to_numpy()
        auc, loss = differences(truth, ours, stock)
        spread = np.quantile(resampled_differences(truth, ours, stock, 0), [0.025, 0.975], axis=0)
        print(
            f"{pair:10s} {len(oos):6d} rows  AUC ours {roc_auc_score(truth, ours):.4f} stock "
            f"{roc_auc_score(truth, stock):.4f} difference {auc:+.4f} [{spread[0, 0]:+.4f}, {spread[1, 0]:+.4f}]"
            f"  log-loss ours {log_loss(truth, ours):.4f} stock {log_loss(truth, stock):.4f} difference "
            f"{loss:+.4f} [{spread[0, 1]:+.4f}, {spread[1, 1]:+.4f}]",
            flush=True,
        )


def main() -> None:
    """Run one of the two measurements."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    first = commands.add_parser("planted")
    first.add_argument("--seeds", type=int, default=5)
    first.add_argument("--trials", type=int, default=20)
    first.add_argument("--models", nargs="+", default=sorted(MODELS))
    first.add_argument("--kinds", nargs="+", default=["linear", "interaction"])
    second = commands.add_parser("candles")
    second.add_argument("--datadir", type=Path, required=True)
    second.add_argument("--pairs", nargs="+", required=True)
    second.add_argument("--candles", type=int, default=12_000, help="the last N candles of a pair")
    second.add_argument("--model-type", default="lightgbm")
    second.add_argument("--trials", type=int, default=20)
    arguments = parser.parse_args()
    if arguments.command == "candles":
        measure_candles(arguments)
        return
    for model_type in arguments.models:
        for kind in arguments.kinds:
            measure_planted(model_type, kind, arguments.seeds, arguments.trials)


if __name__ == "__main__":
    main()
