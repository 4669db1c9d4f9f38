"""What training costs beside the bare libraries, as ratios measured in one run.

`fit`: one fit on one 100,000 x 100 float32 matrix, against the library's own interface with the same parameters on one
thread. Ratios of CPU time (median over repeats, ours and theirs by turns), and the memory each adds to the process at
its peak, in a process of its own, in units of the matrix::

    python benchmarks/training.py fit

`tune`: a search with LightGBM, 50 trials over 5 purged folds, against the loop everybody writes first: the same
folds and search space, TPE, `lgb.train` with a fresh data set, all rounds of every trial and no pruner. The rows that
the pipeline keeps for early stopping and calibration are training rows of the loop. CPU and wall ratios, and the AUC on
later rows of both winners over seeds. Wall times mean something on idle cores only: the load is printed::

    python benchmarks/training.py tune --seeds 3
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from freqtrade_mlpipe.config import FeatureConfig, ModelConfig
from freqtrade_mlpipe.models import MODELS, FitData
from freqtrade_mlpipe.splits import PurgedWalkForward
from freqtrade_mlpipe.tuning import Recipe, TrainingData, n_cores, tune

N_ROWS, N_FEATURES = 100_000, 100
N_LATER = 30_000
HOUR = pd.Timedelta("1h")

Matrix = NDArray[np.float32]


def sample(n: int, k: int, seed: int) -> tuple[Matrix, NDArray[np.float64]]:
    """Independent features, three of which matter, and labels."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, k), dtype=np.float32)
    odds = 0.3 * X[:, 0] + 0.2 * X[:, 1] * X[:, 2]
    return X, (rng.random(n) < 1 / (1 + np.exp(-odds))).astype(np.float64)


def bare_lightgbm(X: Matrix, y: NDArray[np.float64], params: dict[str, Any]) -> None:
    """`lgb.train` with the same settings."""
    import lightgbm as lgb

    own = {k: v for k, v in params.items() if k not in ("n_estimators", "min_leaf_fraction")}
    own |= {"min_data_in_leaf": round(params["min_leaf_fraction"] * len(y)), "bagging_freq": 1}
    own |= {"objective": "binary", "max_bin": 63, "num_threads": 1, "verbosity": -1, "seed": 1}
    own |= {"deterministic": True, "force_col_wise": True}
    lgb.train(own, lgb.Dataset(X, y), num_boost_round=params["n_estimators"])


def bare_xgboost(X: Matrix, y: NDArray[np.float64], params: dict[str, Any]) -> None:
    """`xgb.train` with the same settings."""
    import xgboost as xgb

    own = {k: v for k, v in params.items() if k not in ("n_estimators", "min_leaf_fraction")}
    own |= {"min_child_weight": params["min_leaf_fraction"] * len(y) / 4, "max_bin": 64}
    own |= {"objective": "binary:logistic", "tree_method": "hist", "nthread": 1, "seed": 1}
    data = xgb.QuantileDMatrix(X, y, max_bin=64, nthread=1)
    xgb.train(own, data, num_boost_round=params["n_estimators"])


def bare_forest(X: Matrix, y: NDArray[np.float64], params: dict[str, Any]) -> None:
    """scikit-learn's forest with the same settings."""
    from sklearn.ensemble import RandomForestClassifier

    rows = min(round(params["max_samples"] * len(y)), params["max_rows"])
    RandomForestClassifier(
        n_estimators=params["n_estimators"],
        max_features=params["max_features"],
        max_samples=rows,
        min_samples_leaf=round(params["min_leaf_fraction"] * rows),
        n_jobs=1,
        random_state=1,
    ).fit(X, y)


BARE: dict[str, Callable[[Matrix, NDArray[np.float64], dict[str, Any]], None]] = {
    "lightgbm": bare_lightgbm,
    "xgboost": bare_xgboost,
    "random_forest": bare_forest,
}


def our_fit(name: str, X: Matrix, y: NDArray[np.float64], params: dict[str, Any]) -> None:
    """The estimator's row of the table."""
    MODELS[name].fit(params, FitData(X, y, np.ones(len(y))), seed=1)


def cpu_seconds(work: Callable[[], None]) -> float:
    """CPU time of the process."""
    gc.collect()
    started = time.process_time()
    work()
    return time.process_time() - started


def peak_growth(name: str, ours: bool, params: dict[str, Any]) -> float:
    """Peak memory that a fit adds, in units of the matrix; to be called in a fresh process."""
    import lightgbm  # noqa: F401
    import sklearn.ensemble  # noqa: F401
    import xgboost  # noqa: F401

    X, y = sample(N_ROWS, N_FEATURES, 0)
    small = {**params, "n_estimators": 2}
    (our_fit(name, X[:500], y[:500], small) if ours else BARE[name](X[:500], y[:500], small))
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = kilobytes("VmHWM")
    (our_fit(name, X, y, params) if ours else BARE[name](X, y, params))
    return (kilobytes("VmHWM") - before) * 1024 / X.nbytes


def kilobytes(field: str) -> int:
    """A figure of Linux about this process; `ru_maxrss` would be that of the parent where it was larger."""
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith(field)).split()[1])


def measure_fit(repeats: int) -> None:
    """Print the ratio of CPU times, and the peak memory."""
    X, y = sample(N_ROWS, N_FEATURES, 0)
    for name in BARE:
        params: dict[str, Any] = {**MODELS[name].defaults, "n_estimators": 100}
        ratios = []
        for _ in range(repeats):
            ours = cpu_seconds(lambda: our_fit(name, X, y, params))  # noqa: B023 - called at once
            bare = cpu_seconds(lambda: BARE[name](X, y, params))  # noqa: B023
            ratios.append(ours / bare)
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            jobs = [(name, ours, params) for ours in (True, False)]
            grown = pool.starmap(peak_growth, jobs, chunksize=1)
        print(
            f"{name:14s} fit {np.median(ratios):.2f} x the bare library's CPU ({min(ratios):.2f} to "
            f"{max(ratios):.2f}), last one {bare:.1f} s; peak memory + {grown[0]:.2f} matrices, bare + {grown[1]:.2f}",
            flush=True,
        )


def naive_search(data: TrainingData, folds: list[Any], n_trials: int, seed: int) -> dict[str, Any]:
    """The winner of the loop everybody writes first."""
    import lightgbm as lgb
    import optuna

    spec = MODELS["lightgbm"]
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def objective(trial: Any) -> float:
        params = spec.suggest(trial)
        losses = []
        for fold in folds:
            rows = fold.train
            booster = naive_fit(lgb, data.X.iloc[rows], data.y[rows], params)
            p = np.clip(booster.predict(data.X.iloc[fold.test], num_threads=1), 1e-6, 1 - 1e-6)
            y = data.y[fold.test]
            losses.append(-np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)))
        trial.set_user_attr("params", params)
        return float(np.mean(losses))

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(objective, n_trials=n_trials)
    return dict(study.best_trial.user_attrs["params"])


def naive_fit(lgb: Any, X: pd.DataFrame, y: NDArray[np.float64], params: dict[str, Any]) -> Any:
    """All rounds on a fresh data set."""
    own = {k: v for k, v in params.items() if k not in ("n_estimators", "min_leaf_fraction")}
    own |= {"min_data_in_leaf": max(5, round(params["min_leaf_fraction"] * len(y)))}
    own |= {"objective": "binary", "bagging_freq": 1, "num_threads": 1, "verbosity": -1}
    return lgb.train(own, lgb.Dataset(X, y), num_boost_round=params["n_estimators"])


def measure_tune(n_seeds: int, n_rows: int, n_trials: int) -> None:
    """Print the ratios of CPU and wall time, and the AUC of both winners on later rows."""
    import lightgbm as lgb
    from sklearn.metrics import roc_auc_score

    for seed in range(n_seeds):
        values, y = sample(n_rows + N_LATER, 40, seed)
        names = [f"f{k}" for k in range(values.shape[1])]
        dates = pd.date_range("2010-01-01", periods=len(y), freq="1h", tz="UTC", unit="ns")
        X = pd.DataFrame(values, columns=names, index=dates)
        data = TrainingData(
            X=X[:n_rows], y=y[:n_rows], weight=np.ones(n_rows), dates=dates[:n_rows],
            known_at=dates[:n_rows] + HOUR, pairs=np.full(n_rows, "A", dtype=object), candle=HOUR,
            horizon_candles=1,
        )  # fmt: skip
        folds = PurgedWalkForward(5).split(data.dates, data.known_at)
        config = ModelConfig(n_trials=n_trials, random_state=seed, n_jobs=2)
        started = time.process_time(), time.perf_counter()
        found = tune(data, folds, Recipe(config, FeatureConfig()))
        middle = time.process_time(), time.perf_counter()
        naive = naive_search(data, folds, n_trials, seed)
        ended = time.process_time(), time.perf_counter()
        ours = prepared_auc(data, found.best_params, config, X[n_rows:], y[n_rows:])
        booster = naive_fit(lgb, data.X, data.y, naive)
        theirs = roc_auc_score(y[n_rows:], booster.predict(X[n_rows:], num_threads=1))
        cpu, wall = ((b - a) / (c - b) for a, b, c in zip(started, middle, ended, strict=True))
        print(
            f"seed {seed}: {n_trials} trials x 5 folds on {n_rows:,} x {len(names)}: CPU {cpu:.2f} x, "
            f"wall {wall:.2f} x the naive loop's {ended[0] - middle[0]:.0f} s of CPU (load "
            f"{os.getloadavg()[0]:.1f} on {n_cores()} cores); later AUC {ours:.4f}, naive {theirs:.4f}, "
            f"difference {ours - theirs:+.4f}",
            flush=True,
        )


def prepared_auc(
    data: TrainingData,
    params: dict[str, Any],
    config: ModelConfig,
    later: pd.DataFrame,
    truth: NDArray[np.float64],
) -> float:
    """AUC on later rows of a model trained as the trainer trains its members."""
    from sklearn.metrics import roc_auc_score

    from freqtrade_mlpipe.trainer.members import fit_member

    member = fit_member(
        data, np.arange(len(data)), Recipe(config, FeatureConfig()), params,
        valid_from=later.index[0], valid_to=None,
    )  # fmt: skip
    return float(roc_auc_score(truth, member.predict_proba(later)))


def main() -> None:
    """Run one of the measurements."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    fit = commands.add_parser("fit")
    fit.add_argument("--repeats", type=int, default=5)
    search = commands.add_parser("tune")
    search.add_argument("--seeds", type=int, default=3)
    search.add_argument("--rows", type=int, default=30_000)
    search.add_argument("--trials", type=int, default=50)
    arguments = parser.parse_args()
    if arguments.command == "fit":
        measure_fit(arguments.repeats)
    else:
        measure_tune(arguments.seeds, arguments.rows, arguments.trials)


if __name__ == "__main__":
    main()
