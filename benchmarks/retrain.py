"""What `retrain` costs and finds: ratios measured in one run, on synthetic markets.

``epochs``   an epoch against the bare fits in it, and against one FreqAI backtest (4 pairs x 15,000 candles, LightGBM).
``units``    what one epoch of one pair costs, for plans.
``workers``  epochs of two workers against one, wall time; wants two idle cores.
``search``   60 epochs against the best of a space that is searched whole: out-of-sample expected profit.
``refuse``   how often `retrain --promote` deploys on markets without any signal.

::

    python benchmarks/retrain.py epochs search
    python benchmarks/retrain.py workers
    python benchmarks/retrain.py refuse --seeds 5
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from freqtrade_mlpipe.config import FeatureConfig, MLPipeConfig
from freqtrade_mlpipe.dataset import TrainingData
from freqtrade_mlpipe.features import FeatureEngineer
from freqtrade_mlpipe.models import MODELS
from freqtrade_mlpipe.retraining import (
    EpochLog,
    MetricObjective,
    Plan,
    Proposals,
    Rehearsal,
    SearchSpace,
    search,
)
from freqtrade_mlpipe.retraining.search import evaluate
from freqtrade_mlpipe.retraining.workers import Inline, Remote, processes
from freqtrade_mlpipe.synthetic import Market, generate_market

PAIRS = ("SYNA/USDT", "SYNB/USDT", "SYNC/USDT", "SYND/USDT")
N_CANDLES = 15_000
CHOICES: dict[str, tuple[Any, ...]] = {
    "labels.horizon_candles": (6, 12, 24, 48),
    "model.model_type": ("lightgbm",),
    "lightgbm.learning_rate": (0.1,), "lightgbm.min_leaf_fraction": (0.01,), "lightgbm.feature_fraction": (0.5,),
    "lightgbm.bagging_fraction": (0.6,), "lightgbm.lambda_l2": (5.0,), "lightgbm.num_leaves": (4, 16),
    "model.calibration": ("sigmoid", "isotonic", "none"),
    "model.threshold_caution": (0.0, 0.5, 1.0, 2.0),
    "model.threshold_max_share": (0.02, 0.05, 0.1, 0.2, 0.5),
}  # fmt: skip
"""A small space: 480 configurations, 8 fits."""

FREQAI_STRATEGY = '''
import numpy as np
from freqtrade.strategy import IStrategy
from freqtrade_mlpipe import FeatureEngineer


class FreqaiEpoch(IStrategy):
    """The features and the label of our epochs, in FreqAI's way."""

    timeframe = "1h"
    minimal_roi = {"0": 10.0}
    stoploss = -0.15
    startup_candle_count = 400
    process_only_new_candles = True

    def feature_engineering_standard(self, dataframe, metadata, **kwargs):
        found = FeatureEngineer().transform(dataframe[["date", "open", "high", "low", "close", "volume"]])
        for name in found.columns:
            dataframe[f"%-{name}"] = found[name].to_numpy()
        return dataframe

    def set_freqai_targets(self, dataframe, metadata, **kwargs):
        self.freqai.class_names = ["no", "yes"]
        gain = dataframe["close"].shift(-24) / dataframe["close"] - 1
        dataframe["&s-pays"] = np.where(gain > 0.002, "yes", "no")
        return dataframe

    def populate_indicators(self, dataframe, metadata):
        return self.freqai.start(dataframe, metadata, self)

    def populate_entry_trend(self, dataframe, metadata):
        dataframe.loc[(dataframe["do_predict"] == 1) & (dataframe["&s-pays"] == "yes"), "enter_long"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        dataframe.loc[dataframe["&s-pays"] == "no", "exit_long"] = 1
        return dataframe
'''


def compute_of(features: FeatureConfig) -> Any:
    """The catalogue's features."""
    engineer = FeatureEngineer(features)
    return lambda frame, pair, frames: engineer.transform(frame, pair=pair, frames=frames)


def rehearsal_of(n_pairs: int, n_candles: int, signal: float, seed: int) -> Rehearsal:
    """A rehearsal on a synthetic market."""
    market = Market(pairs=PAIRS[:n_pairs], n_candles=n_candles, signal=signal, seed=seed)
    startup = FeatureEngineer().startup_candles
    candles = generate_market(market)
    return Rehearsal(
        TrainingData(candles, "1h", pd.Timedelta("1h"), compute_of(FeatureConfig()), startup, ""),
        compute_of,
    )


def cpu_of(action: Callable[[], object]) -> float:
    """CPU seconds of this process; the other load of the machine is not in them."""
    started = time.process_time()
    action()
    return time.process_time() - started


def measure_epochs() -> None:
    """An epoch that changes only `model`, and one that changes only `signal`, against the fits of the former."""
    rehearsal, base = rehearsal_of(4, N_CANDLES, 1.0, 42), MLPipeConfig()
    objective, space = MetricObjective("sharpe", 1), SearchSpace(base, ("model", "signal"))
    spec = MODELS["lightgbm"]

    def epoch(**values: Any) -> float:
        return cpu_of(
            lambda: evaluate(
                rehearsal, objective, space, 1, {"model.model_type": "lightgbm", **values}
            )
        )

    first = epoch()
    (tasks,) = rehearsal.slices._items.values()
    leaves, usual = (5, 9, 13), {**spec.defaults, **spec.while_searching}
    fits = [
        cpu_of(lambda p={**usual, "num_leaves": n}: [task.prepared.fit_model(p) for task in tasks])
        for n in leaves
    ]
    whole = [epoch(**{"lightgbm.num_leaves": n}) for n in leaves]
    signal = [
        epoch(**{"lightgbm.num_leaves": 13, "model.threshold_caution": c}) for c in (0.3, 0.6)
    ]
    fit, model = float(np.mean(fits)), float(np.mean(whole))
    print(
        f"4 pairs x {N_CANDLES} candles, {len(tasks)} folds, CPU seconds: first epoch {first:.2f}; fits {fit:.2f}; an "
        f"epoch that changes `model` {model:.2f} = {model / fit:.2f} x its fits; `signal` {np.mean(signal):.3f}",
        flush=True,
    )
    ours, theirs = backtests_of_an_epoch()
    print(
        f"a HyperOptLoss adds {ours:.2f} CPU seconds, {theirs:.2f} where freqtrade's Backtesting leaves nothing out: "
        f"an epoch that changes `model` is {(model + ours) / fit:.2f} x its fits, not {(model + theirs) / fit:.2f} x",
        flush=True,
    )
    freqai = freqai_backtest()
    print(
        f"one FreqAI backtest, 5 windows a pair, stock LightGBMClassifier: {freqai:.1f} CPU seconds = "
        f"{freqai / model:.1f} x an epoch that changes `model`, {freqai / first:.1f} x one that changes everything",
        flush=True,
    )


def backtests_of_an_epoch() -> tuple[float, float]:
    """CPU seconds of judging an epoch of the same market by freqtrade: by our loop, and by its own."""
    from copy import deepcopy

    from freqtrade.optimize.backtesting import Backtesting

    from freqtrade_mlpipe.commands.context import load_context
    from freqtrade_mlpipe.commands.units import units
    from freqtrade_mlpipe.commands.workshop import open_workshop
    from freqtrade_mlpipe.integration.lean_backtesting import LeanBacktesting
    from freqtrade_mlpipe.integration.rehearsal import _Stage

    with tempfile.TemporaryDirectory() as folder:
        user_data = Path(folder) / "user_data"
        mlpipe("init", "--userdir", str(user_data))
        write_market(user_data, Market(pairs=PAIRS, n_candles=N_CANDLES, signal=1.0, seed=42))
        arguments = {
            "user_data_dir": str(user_data), "config": [str(user_data / "config.json")], "hyperopt_min_trades": 1,
            "hyperopt_loss": "SharpeHyperOptLossDaily", "retrain_spaces": ["signal"],
        }  # fmt: skip
        context = load_context(arguments, backtest=True)
        workshop = open_workshop(arguments, units(context)[0], context)
        rehearsed = workshop.rehearsal.rehearse(workshop.context.mlpipe)
        seconds = []
        for kind in (LeanBacktesting, Backtesting):
            workshop.objective._stage = _Stage(deepcopy(workshop.objective._settings), kind)
            workshop.objective.judge(rehearsed)
            seconds.append(
                min(cpu_of(lambda: workshop.objective.judge(rehearsed)) for _ in range(3))
            )
        return seconds[0], seconds[1]


def measure_units(n_folds: int = 24) -> None:
    """What one unit of a large plan costs: epochs of one pair, and the database's part of each."""
    import resource

    from freqtrade_mlpipe.retraining.shared import Board

    rehearsal = rehearsal_of(1, N_CANDLES, 1.0, 42)
    base = MLPipeConfig(model={"cv_folds": n_folds})
    objective, space = MetricObjective("sharpe", 1), SearchSpace(base, ("model",))

    def epoch(leaves: int) -> float:
        params = {"model.model_type": "lightgbm", "lightgbm.num_leaves": leaves}
        return cpu_of(lambda: evaluate(rehearsal, objective, space, 1, params))

    first, later = epoch(7), float(np.mean([epoch(n) for n in (5, 9, 13)]))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    with tempfile.TemporaryDirectory() as folder:
        board = Board(f"sqlite:///{folder}/board.db", "study", "worker")
        sample = evaluate(rehearsal, objective, space, 1, {"model.model_type": "lightgbm"})
        started = time.perf_counter()
        for number in range(1, 101):
            board.claim(number)
            board.finish(replace(sample, number=number))
        a_row = (time.perf_counter() - started) / 100
        read = time.perf_counter()
        board.finished()
        read = time.perf_counter() - read
    print(
        f"1 pair x {N_CANDLES} candles, {n_folds} folds: first epoch {first:.2f} CPU seconds, later ones {later:.2f}; "
        f"peak memory of the process {memory:.0f} MB; claiming and finishing an epoch in SQLite {1000 * a_row:.1f} ms, "
        f"reading 100 epochs {1000 * read:.1f} ms",
        flush=True,
    )


def freqai_backtest() -> float:
    """CPU seconds of a FreqAI backtest over the period that our folds test, imports not counted."""
    script = (
        "import sys, time; from freqtrade_mlpipe.replay.run import main; import lightgbm, datasieve\n"
        "import freqtrade.optimize.backtesting, freqtrade.freqai.prediction_models.LightGBMClassifier\n"
        "t = time.process_time()\n"
        "code = main(sys.argv[1:])\n"
        "print('CPU', time.process_time() - t)\n"
        "sys.exit(code)"
    )
    with tempfile.TemporaryDirectory() as folder:
        user_data = Path(folder) / "user_data"
        mlpipe("init", "--userdir", str(user_data))
        write_market(user_data, Market(pairs=PAIRS, n_candles=N_CANDLES, signal=1.0, seed=42))
        (user_data / "strategies" / "FreqaiEpoch.py").write_text(FREQAI_STRATEGY)
        config = json.loads((user_data / "config.json").read_text())
        days = N_CANDLES / 24
        config["freqai"] = {
            "enabled": True, "identifier": "epoch", "train_period_days": int(days * 0.3),
            "backtest_period_days": round(days * 0.7 / 5, 1), "purge_old_models": 2,
            "data_split_parameters": {"test_size": 0.15, "shuffle": False},
            "model_training_parameters": {"n_jobs": 1, "verbosity": -1},
            "feature_parameters": {
                "include_timeframes": ["1h"], "include_corr_pairlist": [], "label_period_candles": 24,
                "include_shifted_candles": 0, "indicator_periods_candles": [10], "DI_threshold": 0,
            },
        }  # fmt: skip
        (user_data / "config.json").write_text(json.dumps(config))
        first = pd.Timestamp("2023-01-01") + pd.Timedelta(days=days * 0.3 + 20)
        last = pd.Timestamp("2023-01-01") + pd.Timedelta(days=days - 1)
        options = ["--userdir", str(user_data), "-c", str(user_data / "config.json"), "--strategy", "FreqaiEpoch",
                   "--freqaimodel", "LightGBMClassifier", "--export", "none", "--cache", "none",
                   "--timerange", f"{first:%Y%m%d}-{last:%Y%m%d}"]  # fmt: skip
        command = [sys.executable, "-c", script, "backtesting", *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or "raised exception" in done.stderr + done.stdout:
            raise SystemExit(done.stdout[-3000:] + done.stderr[-3000:])
        return float(done.stdout.rpartition("CPU ")[2].split()[0])


_REHEARSALS: dict[int, Rehearsal] = {}


def work(job: int, number: int, params: Any) -> Any:
    """One epoch, in whatever process."""
    if job not in _REHEARSALS:
        _REHEARSALS[job] = rehearsal_of(2, 6_000, 1.0, job)
    space = SearchSpace(MLPipeConfig(), ("model", "signal"))
    return evaluate(_REHEARSALS[job], MetricObjective("sharpe", 1), space, number, params)


def make_ready(job: int, params: Any) -> None:
    """Make candles, features and slices, and stay busy until the other processes have begun to do so, too."""
    work(job, 0, params)
    time.sleep(10)


def measure_workers(n_epochs: int) -> None:
    """Wall time of the same epochs by one process and by two, once all of them have their candles."""
    choices = {"model.model_type": ("lightgbm",)}
    space = SearchSpace(MLPipeConfig(retrain={"choices": choices}), ("model", "signal"))
    seconds, found = {}, {}
    for n in (1, 2):
        with processes(n) as pool, tempfile.TemporaryDirectory() as folder:
            workers = Remote(pool, work, 42)
            ready = [pool.submit(make_ready, workers.job, space.present()) for _ in range(n)]
            [future.result() for future in ready]
            started = time.monotonic()
            plan = Plan(n_epochs, ahead=8, seed=1)
            found[n] = search(
                plan,
                Proposals(space, 1),
                workers,
                EpochLog(Path(folder) / "log"),
                lambda epoch: None,
            )
            seconds[n] = time.monotonic() - started
    same = [(e.params, e.loss) for e in found[1]] == [(e.params, e.loss) for e in found[2]]
    print(
        f"{n_epochs} epochs, wall seconds: one process {seconds[1]:.1f}, two {seconds[2]:.1f}: "
        f"{seconds[1] / seconds[2]:.2f} x as fast; the same epochs: {same}",
        flush=True,
    )


def measure_search(seeds: int, n_epochs: int = 60) -> None:
    """The best of 60 epochs against the best of the whole small space."""
    base = MLPipeConfig(retrain={"choices": CHOICES})
    space = SearchSpace(base, ("model", "labels", "signal"))
    objective = MetricObjective("expected_profit", 30)
    every = [
        dict(zip(CHOICES, values, strict=True)) for values in itertools.product(*CHOICES.values())
    ]
    ratios = []
    for seed in range(1, seeds + 1):
        rehearsal = rehearsal_of(2, 8_000, 1.0, seed)
        losses = [evaluate(rehearsal, objective, space, 0, params).loss for params in every]
        best = -min(losses)

        def one(number: int, params: Any, rehearsal: Rehearsal = rehearsal) -> Any:
            return evaluate(rehearsal, objective, space, number, params)

        with tempfile.TemporaryDirectory() as folder:
            log = EpochLog(Path(folder) / "log")
            plan = Plan(n_epochs, ahead=8, seed=seed)
            found = search(plan, Proposals(space, seed), Inline(one), log, lambda epoch: None)
        reached = -min(epoch.loss for epoch in found)
        ratios.append(reached / best)
        middle = -float(np.median(losses))
        print(
            f"seed {seed}: {len(every)} configurations, best {best:.5f}, median {middle:.5f}; {n_epochs} epochs reach "
            f"{reached:.5f} = {ratios[-1]:.1%}",
            flush=True,
        )
    good = sum(ratio >= 0.9 for ratio in ratios)
    print(
        f"at least 90 % of the best on {good} of {len(ratios)} markets; worst {min(ratios):.1%}",
        flush=True,
    )


def measure_refusals(seeds: int, n_epochs: int) -> None:
    """Exit codes of `retrain --promote` on markets without signal: 3 is right, 0 is wrong."""
    codes = []
    for seed in range(1, seeds + 1):
        with tempfile.TemporaryDirectory() as folder:
            user_data = Path(folder) / "user_data"
            mlpipe("init", "--userdir", str(user_data))
            write_market(user_data, Market(pairs=PAIRS, n_candles=8_000, signal=0.0, seed=seed))
            done = mlpipe("retrain", "--userdir", str(user_data), "--epochs", str(n_epochs), "--promote", "-j", "1",
                          "--model-type", "lightgbm", "--print-json")  # fmt: skip
            codes.append(done.returncode)
            why = (
                json.loads(done.stdout)["refused_by"]
                if done.stdout.startswith("{")
                else done.stderr[-300:]
            )
            print(f"seed {seed}: exit code {done.returncode}, refused by {why}", flush=True)
    print(f"promoted on {codes.count(0)} of {len(codes)} markets without signal", flush=True)


def write_market(user_data: Path, market: Market) -> None:
    """Candle files for the replay exchange, and a configuration that trades them."""
    datadir = user_data / "data" / "replay"
    datadir.mkdir(parents=True, exist_ok=True)
    for pair, frame in generate_market(market).items():
        frame.to_feather(datadir / f"{pair.replace('/', '_')}-1h.feather")
    path = user_data / "config.json"
    config = json.loads(path.read_text())
    config["exchange"] = {
        "name": "replay",
        "pair_whitelist": list(market.pairs),
        "pair_blacklist": [],
    }
    path.write_text(json.dumps(config))


def mlpipe(*words: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own."""
    command = [sys.executable, "-m", "freqtrade_mlpipe.main", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def main() -> None:
    """Measure what is asked for, and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "parts", nargs="+", choices=["epochs", "units", "workers", "search", "refuse"]
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=30, help="of workers and refuse")
    arguments = parser.parse_args()
    if "epochs" in arguments.parts:
        measure_epochs()
    if "units" in arguments.parts:
        measure_units()
    if "workers" in arguments.parts:
        measure_workers(arguments.epochs)
    if "search" in arguments.parts:
        measure_search(arguments.seeds)
    if "refuse" in arguments.parts:
        measure_refusals(arguments.seeds, arguments.epochs)


if __name__ == "__main__":
    main()
