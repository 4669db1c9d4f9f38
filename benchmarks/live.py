"""What serving costs a bot: latency per pair and candle, `analyze_ticker` against an empty strategy, swap, memory.

Trains a small model of each kind on synthetic candles, then lets freqtrade's own strategy objects follow a market
candle by candle, as a bot does. Figures are medians and 99 % quantiles of one run, of the wall clock or, on a busy
machine, of the thread's own processor time (``--cpu``); compare them as ratios::

    python benchmarks/live.py --models lightgbm xgboost random_forest --candles 400
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
from freqtrade.enums import RunMode
from freqtrade.strategy import IStrategy

from freqtrade_mlpipe.commands.context import load_context
from freqtrade_mlpipe.integration.voice import Voice
from freqtrade_mlpipe.main import main as mlpipe
from freqtrade_mlpipe.synthetic import Market, generate_market

PAIRS = ("SYNA/USDT", "SYNB/USDT")
N_WINDOW = 999
"""Candles that freqtrade keeps for a bot on Binance."""


class Provider:
    """What a strategy asks of freqtrade's data provider while a frame is analysed."""

    def current_whitelist(self) -> list[str]:
        return list(PAIRS)

    def send_msg(self, message: str, *, always_send: bool = False) -> None:
        print("  told:", message)

    def get_pair_dataframe(self, pair: str, timeframe: str) -> pd.DataFrame:
        return pd.DataFrame()


class Empty(IStrategy):
    """The floor: a strategy that adds nothing."""

    timeframe, stoploss = "1h", -0.1

    def populate_indicators(self, dataframe: pd.DataFrame, metadata: dict) -> pd.DataFrame:
        return dataframe

    populate_entry_trend = populate_exit_trend = populate_indicators


def prepare(folder: Path, model_type: str, candles: dict[str, pd.DataFrame]) -> Path:
    """A user directory with two versions of a model, the first in production."""
    user_data = folder / model_type
    run = ["--userdir", str(user_data)]
    assert mlpipe(["init", *run]) == 0
    config_file = user_data / "config.json"
    config = json.loads(config_file.read_text())
    config["exchange"] = {"name": "replay", "pair_whitelist": list(PAIRS), "pair_blacklist": []}
    config["mlpipe"]["model"] = {
        "model_type": model_type,
        "optimize_hyperparams": False,
        "cv_folds": 2,
    }
    config_file.write_text(json.dumps(config))
    data = user_data / "data" / "replay"
    data.mkdir(parents=True, exist_ok=True)
    for pair, frame in candles.items():
        frame.head(3_500).to_feather(data / f"{pair.replace('/', '_')}-1h.feather")
    for seed in ("1", "2"):
        assert mlpipe(["train", *run, "--random-state", seed]) == 0
    assert mlpipe(["promote", *run, "--model-version", "1", "--force-reason", "benchmark"]) == 0
    return user_data


def strategy_of(user_data: Path) -> Any:
    from freqtrade.resolvers import StrategyResolver

    context = load_context({"user_data_dir": str(user_data)}, backtest=True)
    config = {**context.freqtrade, "runmode": RunMode.DRY_RUN}
    config["mlpipe"]["serving"] = {"poll_seconds": 3_600}
    strategy = StrategyResolver.load_strategy(config)
    strategy.dp = Provider()
    strategy.ft_bot_start()
    strategy.gather_informative_pairs()
    return strategy


def windows(frame: pd.DataFrame, first: int, n: int) -> Iterator[pd.DataFrame]:
    """The bot's frame as it slides on."""
    for end in range(first, first + n):
        yield frame.iloc[end - N_WINDOW : end].reset_index(drop=True)


CLOCK: list[Callable[[], float]] = [time.perf_counter]


def timed(call: Callable[[pd.DataFrame], object], frames: Iterator[pd.DataFrame]) -> np.ndarray:
    """Milliseconds of each call."""
    spent = []
    for frame in frames:
        started = CLOCK[0]()
        call(frame)
        spent.append((CLOCK[0]() - started) * 1000)
    return np.array(spent)


def shown(name: str, milliseconds: np.ndarray) -> None:
    median, p99 = np.quantile(milliseconds, [0.5, 0.99])
    print(f"  {name:<58} median {median:7.3f} ms   p99 {p99:7.3f} ms")


@contextmanager
def training_beside() -> Iterator[None]:
    """A thread that trains on one core, again and again."""
    import lightgbm as lgb

    rng = np.random.default_rng(0)
    X = rng.normal(size=(20_000, 100)).astype(np.float32)
    y = (X[:, 0] > 0).astype(float)
    over = threading.Event()

    def train() -> None:
        while not over.is_set():
            lgb.train(
                {"objective": "binary", "num_threads": 1, "verbosity": -1}, lgb.Dataset(X, y), 50
            )

    thread = threading.Thread(target=train, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def measure(user_data: Path, frame: pd.DataFrame, n: int) -> None:
    strategy, floor = strategy_of(user_data), Empty({})
    live = strategy._mlpipe_live
    live.journal.close()
    live.journal = live.watch = None
    speak, spent = Voice.speak, []

    def timed_speak(*arguments: Any) -> Any:
        started = CLOCK[0]()
        spoken = speak(*arguments)
        spent.append((CLOCK[0]() - started) * 1000)
        return spoken

    Voice.speak = timed_speak
    pair = {"pair": PAIRS[0]}
    first = 3_600

    def answer(df: pd.DataFrame) -> None:
        strategy.populate_indicators(df, pair)

    def latencies() -> np.ndarray:
        found = np.array(spent)
        spent.clear()
        return found

    timed(answer, windows(frame, first, 20))
    latencies()
    timed(answer, windows(frame, first + 20, n))
    shown("features + prediction", latencies())
    with training_beside():
        timed(answer, windows(frame, first + 20 + n, n))
    shown("features + prediction, a thread training beside", latencies())
    first += 20 + 2 * n
    strategy.populate_entry_trend = strategy.populate_exit_trend = lambda df, metadata: df
    ours, empty = [], []
    for df in windows(frame, first, n):  # in turn, so that both see the same machine
        empty.append(timed(lambda df: floor.analyze_ticker(df, pair), iter([df.copy()]))[0])
        ours.append(timed(lambda df: strategy.analyze_ticker(df, pair), iter([df]))[0])
    shown("analyze_ticker, empty strategy", np.array(empty))
    shown("analyze_ticker, the mixin on the same", np.array(ours))
    first += n
    assert (
        mlpipe(
            [
                "promote",
                "--userdir",
                str(user_data),
                "--model-version",
                "2",
                "--force-reason",
                "swap",
            ]
        )
        == 0
    )
    started = CLOCK[0]()
    live.poll.round()
    print(f"  swap, off the loop: {(CLOCK[0]() - started) * 1000:.0f} ms")
    shown(
        "iteration with the swap",
        timed(lambda df: (strategy._turn(), answer(df)), windows(frame, first, 1)),
    )
    shown(
        "the next one",
        timed(lambda df: (strategy._turn(), answer(df)), windows(frame, first + 1, 1)),
    )
    Voice.speak = speak
    strategy.ft_bot_cleanup()


def memory(user_data: Path, frame: pd.DataFrame, n: int) -> None:
    """Resident memory while a bot follows `n` candles."""
    strategy, process = strategy_of(user_data), psutil.Process()
    live = strategy._mlpipe_live
    start = len(frame) - n - 1
    for place, df in enumerate(windows(frame, start, n)):
        strategy.populate_indicators(df, {"pair": PAIRS[0]})
        live.hand_over()
        if place % (n // 5) == n // 5 - 1:
            print(f"  {place + 1:6d} candles: {process.memory_info().rss / 2**20:7.1f} MiB")
    strategy.ft_bot_cleanup()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["lightgbm", "xgboost", "random_forest"])
    parser.add_argument("--candles", type=int, default=400)
    parser.add_argument("--memory-candles", type=int, default=10_000, help="0: skip")
    parser.add_argument("--folder", type=Path, help="keep what was trained here, and use it again")
    parser.add_argument(
        "--cpu", action="store_true", help="processor time instead of the wall clock"
    )
    arguments = parser.parse_args()
    CLOCK[0] = time.thread_time if arguments.cpu else time.perf_counter
    candles = generate_market(Market(pairs=PAIRS, n_candles=16_000, signal=3.0, seed=42))
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        for model_type in arguments.models:
            place = folder / model_type
            user_data = place if place.exists() else prepare(folder, model_type, candles)
            print(model_type)
            measure(user_data, candles[PAIRS[0]], arguments.candles)
        if arguments.memory_candles:
            print("memory")
            memory(user_data, candles[PAIRS[0]], arguments.memory_candles)


if __name__ == "__main__":
    main()
