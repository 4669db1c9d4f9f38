"""What serving costs a bot: latency per pair and candle, `analyze_ticker` against an empty strategy, swap, memory.

Trains a small model of each kind on synthetic candles, then lets freqtrade's own strategy objects and data provider
follow a market candle by candle, as a bot does. Figures are a pair's share of an iteration: medians and 99 % quantiles
of one run, of the wall clock or, on a busy machine, of the thread's own processor time (``--cpu``); compare them as
ratios. ``--freqai`` adds what FreqAI takes for the features of freqtrade's template strategy, with one timeframe and
period and as the template's documentation configures it, on a window of as many candles; its prediction is not
counted. Needs `datasieve`::

    python benchmarks/live.py --models lightgbm xgboost random_forest --pairs 20 --candles 200 --freqai
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
from freqtrade.data.dataprovider import DataProvider
from freqtrade.enums import CandleType, RunMode
from freqtrade.strategy import IStrategy

from freqtrade_mlpipe.commands.context import load_context
from freqtrade_mlpipe.integration.answering import Answering
from freqtrade_mlpipe.integration.live import LiveServing
from freqtrade_mlpipe.main import main as mlpipe
from freqtrade_mlpipe.synthetic import Market, generate_market

PAIRS = ("SYNA/USDT", "SYNB/USDT")
N_WINDOW = 999
"""Candles that freqtrade keeps for a bot on Binance."""


class Feed:
    """Candles as an exchange has delivered them, and the whitelist; stands for freqtrade's exchange and pairlists."""

    def __init__(self, market: Mapping[str, pd.DataFrame], pairs: Sequence[str]) -> None:
        self.market, self.whitelist = market, list(pairs)
        self.frames: dict[str, pd.DataFrame] = {}

    def move_to(self, end: int) -> None:
        """The windows up to this many candles. Pairs beyond the market's look at other times of it."""
        known = list(self.market)
        for place, pair in enumerate(self.whitelist):
            frame = self.market[known[place % len(known)]]
            last = end + place // len(known)
            self.frames[pair] = frame.iloc[last - N_WINDOW : last].reset_index(drop=True)

    def klines(self, key: tuple[object, ...], copy: bool = True) -> pd.DataFrame:
        frame = self.frames.get(str(key[0]), pd.DataFrame())
        return frame.copy() if copy else frame


class Empty(IStrategy):
    """The floor: a strategy that adds nothing."""

    timeframe, stoploss, startup_candle_count = "1h", -0.1, 0

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


def bot_of(user_data: Path, feed: Feed) -> Any:
    """The strategy as a bot has it, started; it neither enters nor leaves, like the empty one."""
    from freqtrade.resolvers import StrategyResolver

    context = load_context({"user_data_dir": str(user_data)}, backtest=True)
    config = {**context.freqtrade, "runmode": RunMode.DRY_RUN}
    config["mlpipe"]["serving"] = {"poll_seconds": 3_600}
    strategy = StrategyResolver.load_strategy(config)
    strategy.dp = DataProvider(config, feed, feed)
    strategy.ft_bot_start()
    strategy.populate_entry_trend = strategy.populate_exit_trend = lambda df, metadata: df
    return strategy


def empty_bot(config: dict[str, Any], feed: Feed) -> Any:
    """The floor, with a data provider of its own."""
    strategy = Empty({**config, "candle_type_def": CandleType.SPOT})
    strategy.dp = DataProvider(config, feed, feed)
    return strategy


CLOCK: list[Callable[[], float]] = [time.perf_counter]


class Stopwatch:
    """Milliseconds of the calls of some methods since the last `lap`."""

    def __init__(self, owner: type, names: Iterable[str]) -> None:
        self._spent = 0.0
        self._is_inside = False
        for name in names:
            setattr(owner, name, self._timed(getattr(owner, name)))

    def _timed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            if self._is_inside:
                return method(*arguments)
            self._is_inside, started = True, CLOCK[0]()
            try:
                return method(*arguments)
            finally:
                self._spent += (CLOCK[0]() - started) * 1000
                self._is_inside = False

        return timed

    def lap(self) -> float:
        spent, self._spent = self._spent, 0.0
        return spent


def milliseconds(call: Callable[[], object]) -> float:
    started = CLOCK[0]()
    call()
    return (CLOCK[0]() - started) * 1000


def shown(name: str, found: Sequence[float]) -> None:
    median, p99 = np.quantile(found, [0.5, 0.99])
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


def measure(user_data: Path, market: Mapping[str, pd.DataFrame], n_pairs: int, n: int) -> None:
    feed = Feed(market, [*PAIRS, *(f"P{k}/USDT" for k in range(n_pairs))][:n_pairs])
    strategy = bot_of(user_data, feed)
    floor, live, pairs = empty_bot(strategy.config, feed), strategy._mlpipe_live, feed.whitelist
    live.journal.close()
    live.journal = live.watch = None
    ends = iter(range(3_600, 15_000))

    def iterate() -> None:
        strategy.gather_informative_pairs()
        strategy.analyze(pairs)

    def answer() -> None:
        strategy.gather_informative_pairs()
        live.answering.answer(pairs, strategy._candles, strategy._frames())

    def follow(n_candles: int, iterate: Callable[[], None] = iterate) -> list[float]:
        """A pair's share of features and prediction, for each candle."""
        found = []
        for end in islice(ends, n_candles):
            feed.move_to(end)
            iterate()
            found.append(predicting.lap() / n_pairs)
        return found

    predicting = Stopwatch(Answering, ("_address", "_advance", "_look", "_answer"))
    follow(20)
    shown("features + prediction", follow(n))
    shown("features + prediction, no analysis in between", follow(n, answer))
    with training_beside():
        shown("features + prediction, a thread training beside", follow(n))
    ours, empty = [], []
    for end in islice(ends, n):  # in turn, so that both see the same machine
        feed.move_to(end)
        empty.append(milliseconds(lambda: floor.analyze(pairs)) / n_pairs)
        ours.append(milliseconds(lambda: strategy.analyze(pairs)) / n_pairs)
    shown("analyze, empty strategy", empty)
    shown("analyze, the mixin on the same", ours)
    print(f"  the mixin takes {np.median(ours) / np.median(empty):.2f} times the empty strategy")
    swap(user_data, live)
    for name in ("iteration with the swap", "the next one"):
        feed.move_to(next(ends))
        shown(f"{name}, a pair", [milliseconds(iterate) / n_pairs])
    strategy.ft_bot_cleanup()


FREQAI: dict[str, dict[str, Any]] = {
    "small": {
        "include_timeframes": ["5m"], "include_corr_pairlist": [], "indicator_periods_candles": [10],
        "include_shifted_candles": 0,
    },
    "as documented": {
        "include_timeframes": ["5m", "15m", "4h"], "include_corr_pairlist": list(PAIRS),
        "indicator_periods_candles": [10, 20], "include_shifted_candles": 2,
    },
}  # fmt: skip


def freqai(market: Mapping[str, pd.DataFrame], n: int) -> None:
    """FreqAI's features of a pair, all of a window for each new candle, as in a bot."""
    from freqtrade.freqai.data_kitchen import FreqaiDataKitchen
    from freqtrade.templates.FreqaiExampleStrategy import FreqaiExampleStrategy

    pair, feed = PAIRS[0], Feed(market, PAIRS)
    for name, parameters in FREQAI.items():
        config: dict[str, Any] = {
            "timeframe": "5m",
            "exchange": {"pair_whitelist": [pair]},
            "user_data_dir": Path("user_data"),
            "freqai_backtest_live_models": True,  # no training windows are cut
            "freqai": {"identifier": "benchmark", "feature_parameters": parameters},
            "candle_type_def": CandleType.SPOT,
        }
        strategy = FreqaiExampleStrategy(config)
        strategy.dp = type(
            "Provider", (), {"get_pair_dataframe": lambda _, pair, timeframe: feed.klines((pair,))}
        )()
        found = []
        for end in range(3_600, 3_600 + n):
            feed.move_to(end)
            frame, kitchen = feed.klines((pair,)), FreqaiDataKitchen(config, pair=pair)
            populate = kitchen.use_strategy_to_populate_indicators
            found.append(
                milliseconds(lambda: populate(strategy, pair=pair, prediction_dataframe=frame))  # noqa: B023
            )
        shown(f"features, {name}", found)


def swap(user_data: Path, live: LiveServing) -> None:
    """Promote the version that does not speak, and let the bot find it."""
    (speakers,) = live.speakers.values()
    other = {"1": "2", "2": "1"}[speakers.poll.production.resolved.version]
    command = ["promote", "--userdir", str(user_data), "--model-version", other]
    assert mlpipe([*command, "--force-reason", "swap"]) == 0
    print(f"  swap, off the loop: {milliseconds(speakers.poll.round):.0f} ms")


def memory(user_data: Path, market: Mapping[str, pd.DataFrame], n: int) -> None:
    """Resident memory while a bot follows `n` candles of a pair."""
    feed = Feed(market, PAIRS[:1])
    strategy, process = bot_of(user_data, feed), psutil.Process()
    start = len(market[PAIRS[0]]) - n - 1
    for place in range(n):
        feed.move_to(start + place)
        strategy.gather_informative_pairs()
        strategy.analyze(feed.whitelist)
        if place % (n // 5) == n // 5 - 1:
            print(f"  {place + 1:6d} candles: {process.memory_info().rss / 2**20:7.1f} MiB")
    strategy.ft_bot_cleanup()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["lightgbm", "xgboost", "random_forest"])
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--candles", type=int, default=200)
    parser.add_argument("--memory-candles", type=int, default=10_000, help="0: skip")
    parser.add_argument("--folder", type=Path, help="keep what was trained here, and use it again")
    parser.add_argument(
        "--cpu", action="store_true", help="processor time instead of the wall clock"
    )
    parser.add_argument("--freqai", action="store_true", help="FreqAI's features as well")
    arguments = parser.parse_args()
    CLOCK[0] = time.thread_time if arguments.cpu else time.perf_counter
    candles = generate_market(Market(pairs=PAIRS, n_candles=16_000, signal=3.0, seed=42))
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        for model_type in arguments.models:
            place = folder / model_type
            user_data = place if place.exists() else prepare(folder, model_type, candles)
            print(model_type)
            measure(user_data, candles, arguments.pairs, arguments.candles)
        if arguments.freqai:
            print("FreqAI")
            freqai(candles, max(arguments.candles // 10, 5))
        if arguments.memory_candles:
            print("memory")
            memory(user_data, candles, arguments.memory_candles)


if __name__ == "__main__":
    main()
