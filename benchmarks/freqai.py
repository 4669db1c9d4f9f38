"""What a FreqAI backtest with MLPipeClassifier costs, as a ratio of one with freqtrade's own LightGBMClassifier.

The same strategy (the shipped MLFreqaiStrategy), candles, windows and estimator parameters, the search off. Each
measurement is a process of its own, freqtrade's and ours in turn, the least of the repetitions counts. Measured is
`IFreqaiModel.start`, everything FreqAI does: its wall and CPU time, both also beyond LightGBM's own training, binning
and prediction ("overhead"), and the bytes below `user_data/models`. "beyond wrapper" counts what LightGBM's
scikit-learn classifier does around them to freqtrade's bare fits, too; ours does not use it. Everything uses one
thread. Tracking is off; freqtrade's model has no counterpart.

"corrected" is the default: slices for early stopping and calibration, which is two fits a window. "plain" is one fit
a window on the rows freqtrade's model has. Needs recorded 1h and 4h candles of BTC/USDT and the pairs, which are
copied::

    python benchmarks/freqai.py --datadir DIRECTORY --pairs ETH/USDT SOL/USDT --repeat 2
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PARAMETERS = {"n_estimators": 200, "learning_rate": 0.05, "num_leaves": 31, "n_jobs": 1}
OURS = {
    "feature_fraction": 1.0,
    "bagging_fraction": 1.0,
    "lambda_l2": 0.0,
    "min_data_in_leaf": 20,
    "max_bin": 255,
}
CANDIDATES: dict[str, tuple[str, dict[str, Any]]] = {
    "freqtrade": ("LightGBMClassifier", {}),
    "corrected": ("MLPipeClassifier", {"freqai": {"gate": "not_worse"}}),
    "plain": ("MLPipeClassifier", {
        "freqai": {"gate": "always", "stop_and_calibrate": False}, "model": {"calibration": "none"},
    }),
}  # fmt: skip


class Clock:
    """Time spent in a function, nested calls counted once."""

    def __init__(self) -> None:
        self.cpu = self.wall = 0.0
        self._depth = 0

    def around(self, owner: Any, name: str) -> None:
        """Let `owner.name` be measured from now on."""
        inner: Callable[..., Any] = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            self._depth += 1
            cpu, wall = time.process_time(), time.perf_counter()
            try:
                return inner(*args, **kwargs)
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self.cpu += time.process_time() - cpu
                    self.wall += time.perf_counter() - wall

        setattr(owner, name, timed)


def measure(userdir: Path, model: str, timerange: str) -> None:
    """In a process of its own: run the backtest and print what it cost."""
    import lightgbm as lgb
    from freqtrade.freqai.freqai_interface import IFreqaiModel

    from freqtrade_mlpipe.integration import freqai as ours
    from freqtrade_mlpipe.replay.run import main

    native, wrapped, whole = Clock(), Clock(), Clock()
    for owner, name in (
        (lgb, "train"), (lgb.sklearn, "train"), (lgb.Dataset, "construct"), (lgb.Booster, "predict")
    ):  # fmt: skip
        native.around(owner, name)
        wrapped.around(owner, name)
    for name in ("fit", "predict", "predict_proba"):
        wrapped.around(lgb.LGBMClassifier, name)
    for owner in (IFreqaiModel, ours.MLPipeFreqaiModel):
        whole.around(owner, "start")
    code = main(
        ["backtesting", "--userdir", str(userdir), "-c", str(userdir / "config.json"), "--strategy", "MLFreqaiStrategy",
         "--freqaimodel", model, "--timerange", timerange, "--cache", "none", "--export", "none"]
    )  # fmt: skip
    if code:
        raise SystemExit(code)
    size = sum(f.stat().st_size for f in (userdir / "models").rglob("*") if f.is_file())
    found = {
        "wall": whole.wall, "overhead": whole.wall - native.wall, "beyond wrapper": whole.wall - wrapped.wall,
        "cpu": whole.cpu, "overhead cpu": whole.cpu - native.cpu, "bytes": size,
    }  # fmt: skip
    print("MEASURED " + json.dumps(found))


def prepare(
    userdir: Path, datadir: Path, pairs: list[str], mlpipe: dict[str, Any], own: bool
) -> None:
    """A user directory with copies of the candles."""
    from freqtrade_mlpipe.commands.setup import write_user_directory

    write_user_directory(userdir)
    target = userdir / "data" / "replay"
    target.mkdir(parents=True)
    for pair in {*pairs, "BTC/USDT"}:
        for timeframe in ("1h", "4h"):
            name = f"{pair.replace('/', '_')}-{timeframe}.feather"
            shutil.copyfile(datadir / name, target / name)
    config = json.loads((userdir / "config.json").read_text())
    freqai = json.loads((userdir / "freqai.json").read_text())["freqai"]
    freqai |= {
        "train_period_days": 60, "backtest_period_days": 7, "save_backtest_models": True,
        "data_split_parameters": {"test_size": 0.1, "shuffle": False},
        "model_training_parameters": {**PARAMETERS, **(OURS if own else {"verbosity": -1})},
    }  # fmt: skip
    freqai["feature_parameters"] |= {"shuffle_after_split": False, "buffer_train_data_candles": 0}
    config |= {"freqai": freqai, "timeframe": "1h"}
    config["exchange"] = {"name": "replay", "pair_whitelist": pairs, "pair_blacklist": []}
    config["mlpipe"] = {"tracking": {"backend": "none"}, **mlpipe}
    (userdir / "config.json").write_text(json.dumps(config))


def run(name: str, arguments: argparse.Namespace) -> dict[str, float]:
    """What one candidate cost."""
    model, mlpipe = CANDIDATES[name]
    with tempfile.TemporaryDirectory() as folder:
        userdir = Path(folder) / "user_data"
        prepare(userdir, arguments.datadir, arguments.pairs, mlpipe, own=name != "freqtrade")
        command = [
            sys.executable,
            __file__,
            "--measure",
            str(userdir),
            model,
            "--timerange",
            arguments.timerange,
        ]
        one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=one_thread)
    found = [line for line in done.stdout.splitlines() if line.startswith("MEASURED ")]
    if done.returncode or not found or "raised exception" in done.stderr + done.stdout:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    measured: dict[str, float] = json.loads(found[0].removeprefix("MEASURED "))
    return measured


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--datadir", type=Path)
    parser.add_argument("--pairs", nargs="+", default=["ETH/USDT", "SOL/USDT"])
    parser.add_argument("--timerange", default="20240401-20240801")
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--measure", nargs=2, metavar=("USERDIR", "MODEL"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(Path(arguments.measure[0]), arguments.measure[1], arguments.timerange)
        return
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in CANDIDATES}
    for _ in range(arguments.repeat):
        for name, found in runs.items():
            found.append(run(name, arguments))
    best = {
        name: {key: min(one[key] for one in found) for key in found[0]} for name, found in runs.items()
    }  # fmt: skip
    stock = best["freqtrade"]
    print("            " + "".join(f"{key:>22}" for key in stock))
    for name, found in best.items():
        cells = "".join(
            f"{value:>14,.2f} ({value / stock[key]:4.2f})" for key, value in found.items()
        )
        print(f"{name:<12}{cells}")


if __name__ == "__main__":
    main()
