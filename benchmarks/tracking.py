"""What tracking costs a training, as ratios to MLflow's own fastest way, measured in one run.

The reference is one run written with `MlflowClient` in one batch: the same parameters, metrics, tags and files that our
run of a small training holds. Times are CPU seconds of this process (all threads), medians over rounds in which each
way takes its turn::

    python benchmarks/tracking.py --rounds 15
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.entities import Metric, Param, RunTag

from freqtrade_mlpipe.config import MLPipeConfig, ModelConfig
from freqtrade_mlpipe.dataset import TrainingData, build_dataset
from freqtrade_mlpipe.features import FeatureEngineer
from freqtrade_mlpipe.mlflow_store import experiment_id, open_store
from freqtrade_mlpipe.registry import ModelRegistry, save_model
from freqtrade_mlpipe.synthetic import Market, generate_market
from freqtrade_mlpipe.tracking import ExperimentTracker
from freqtrade_mlpipe.tracking.channel import RunChannel
from freqtrade_mlpipe.trainer import ModelTrainer, TrainedModel
from freqtrade_mlpipe.training_record import record_data, record_training

N_TRIALS = 50
HEAVY = ("mlflow", "wandb", "optuna", "sklearn", "sqlalchemy", "psutil")


def small_training() -> tuple[TrainedModel, pd.DataFrame, pd.Series, MLPipeConfig]:
    """A trained model with what it was trained from."""
    config = MLPipeConfig(
        model=ModelConfig(optimize_hyperparams=False, cv_folds=5, parameters={"num_leaves": 7})
    )
    engineer = FeatureEngineer(config.features)
    candles = generate_market(
        Market(pairs=("SYNA/USDT", "SYNB/USDT"), n_candles=6_000, signal=2.0, seed=1)
    )
    data = TrainingData(
        candles, "1h", pd.Timedelta("1h"), lambda frame, pair, frames: engineer.transform(frame),
        engineer.startup_candles, "",
    )  # fmt: skip
    rows = build_dataset(data, config)
    model, _ = ModelTrainer(config.model, config.features).train(
        rows.X, rows.y, known_at=rows.known_at, forward_return=rows.forward_return,
        round_trip_cost=rows.round_trip_cost, candle=data.candle, horizon_candles=config.labels.horizon_candles,
    )  # fmt: skip
    return model, rows.X, rows.y, config


def trials() -> list[dict[str, Any]]:
    """Records of a search."""
    return [
        {"number": i, "value": 0.7 - i / 1000, "state": "complete", "seconds": 1.0, "sharpe": 0.1, "error": "",
         "params": {f"p{j}": i * j / 7 for j in range(8)}}
        for i in range(N_TRIALS)
    ]  # fmt: skip


class Ways:
    """The ways to be compared, on one store."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.client = open_store(None, directory)
        self.model, self.X, self.y, self.config = small_training()
        self.tracker = ExperimentTracker("ours", directory=directory)
        self.sending = self.preparing = 0.0
        self._time_sending()
        self.model.report.trials.extend(trials())
        self.reference = self._content_of(self.ours())

    def _time_sending(self) -> None:
        """Count the CPU time that the sending thread spends in the backend."""
        send = RunChannel._send

        def timed(channel: RunChannel, taken: Any) -> None:
            start = time.thread_time()
            send(channel, taken)
            self.sending += time.thread_time() - start

        RunChannel._send = timed  # type: ignore[method-assign]

    def ours(self, *, folds: bool = True) -> str:
        """A training's run; without its folds' runs if asked."""
        tracker = self.tracker
        if not folds:
            tracker.log_fold_run = lambda *_: None  # type: ignore[method-assign]
        start, self.sending = time.process_time(), 0.0
        window = self.X.index.get_level_values("date").max()
        with tracker.start_run("n", self.config, data_hash="abc") as run_id:
            record_data(tracker, self.X, window)
            tracker.flush()
            record_training(
                tracker, self.model, self.model.report.metrics, self.config.model, self.X, self.y
            )
            tracker.set_tags({"mlpipe.model_version": "1"})
        if not folds:
            del tracker.log_fold_run
        self.preparing = time.process_time() - start - self.sending
        return str(run_id)

    def one_batch(self) -> None:
        """The same content by MLflow alone, ready made."""
        params, metrics, tags, files = self.reference
        experiment = experiment_id(self.client, "reference", self.directory)
        run_id = self.client.create_run(experiment, run_name="n").info.run_id
        self.client.log_batch(run_id, params=params[:100], metrics=metrics, tags=tags)
        if params[100:]:
            self.client.log_batch(run_id, params=params[100:])
        self.client.log_artifacts(run_id, str(files))
        self.client.set_terminated(run_id)

    def _content_of(self, run_id: str) -> tuple[list[Param], list[Metric], list[RunTag], Path]:
        run = self.client.get_run(run_id)
        params = [Param(k, v) for k, v in run.data.params.items()]
        metrics = [
            Metric(m.key, m.value, m.timestamp, m.step)
            for key in run.data.metrics
            for m in self.client.get_metric_history(run_id, key)
        ]
        tags = [RunTag(k, v) for k, v in run.data.tags.items()]
        files = self.directory / "files"
        shutil.copytree(run.info.artifact_uri.removeprefix("file://"), files)
        return params, metrics, tags, files


def cpu(call: Callable[[], object]) -> float:
    """CPU seconds of a call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def imported_when_off() -> list[str]:
    """Heavy modules that a tracker which is off brings in."""
    code = (
        "import sys; from freqtrade_mlpipe.tracking import ExperimentTracker as T\n"
        "t = T(backend='none')\n"
        "with t.start_run('n', {'a': 1}): t.log_metrics({'a': 1}); t.log_roc_curve([0, 1], [0.1, 0.9])\n"
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found: list[str] = json.loads(done.stdout.replace("'", '"'))
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        ways = Ways(Path(folder))
        bundle = save_model(ways.model, Path(folder) / "bundle", ways.X)
        registry = ModelRegistry(directory=ways.directory)
        taken: dict[str, list[float]] = defaultdict(list)

        def log_trials() -> None:
            ways.tracker.log_trials(trials())
            ways.tracker.flush()

        def log_and_register() -> None:
            with ways.tracker.start_run("n"):
                registry.register_model(
                    model_name="m", model_path=bundle, run_id=ways.tracker.mlflow_run_id
                )

        for round_ in range(rounds + 1):  # the first one warms up
            calls: dict[str, Callable[[], object]] = {
                "one batched run": ways.one_batch,
                "our run": lambda: ways.ours(folds=False),
                "our run and its folds": ways.ours,
                "log and register": log_and_register,
                "copying the bundle": lambda: shutil.copytree(bundle, Path(folder) / "copy"),
            }
            for name, call in calls.items():
                taken[name].append(cpu(call))
                if name == "our run":
                    taken["- sending it"].append(ways.sending)
                    taken["- scores, curves, tables"].append(ways.preparing)
            shutil.rmtree(Path(folder) / "copy")
            with ways.tracker.start_run("trials"):
                taken["50 trials"].append(cpu(log_trials))
            if not round_:
                taken.clear()
    median = {name: statistics.median(values) for name, values in taken.items()}
    n_folds = len(ways.model.report.folds)
    for name, seconds in median.items():
        print(f"{name:<24}{1000 * seconds:8.1f} ms CPU")
    reference = median["one batched run"]
    fold = (median["our run and its folds"] - median["our run"]) / n_folds
    params, metrics, *_ = ways.reference
    register = median["log and register"] - median["copying the bundle"]
    print(
        f"\ncontent: {len(params)} parameters, {len(metrics)} metric points, {n_folds} folds\n"
        f"sending our run / one batched run: {median['- sending it'] / reference:.2f}\n"
        f"our run with scores, curves and tables computed / one batched run, ready made: "
        f"{median['our run'] / reference:.2f}\n"
        f"a fold's run / one batched run: {fold / reference:.2f}\n"
        f"log and register beyond copying: {1000 * register:.0f} ms\n"
        f"imported when off: {imported_when_off()}"
    )


if __name__ == "__main__":
    main()
