"""What expanding a FreqAI strategy's features costs here, as a ratio of what it costs in FreqAI.

Two strategies, freqtrade's own `FreqaiExampleStrategy` and a light one, over 105,120 candles of 5m,
timeframes 5m, 15m and 1h, two correlated pairs, three periods and two shifts. Each measurement is a
process of its own, FreqAI's and ours in turn; the least of the repetitions counts. Time is CPU time,
also without the strategy's own methods, which both call equally often. Memory is the peak beyond what
the process held with its candles loaded (Linux only). Our shifted columns share memory until they are
copied: "float32" copies them all, as training does. Needs `datasieve`, which FreqAI imports::

    python benchmarks/expansion.py --repeat 3
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from freqtrade.freqai.data_kitchen import FreqaiDataKitchen
from freqtrade.strategy import IStrategy
from freqtrade.templates.FreqaiExampleStrategy import FreqaiExampleStrategy

from freqtrade_mlpipe.config import ExpansionConfig
from freqtrade_mlpipe.features.expansion import expand_features
from freqtrade_mlpipe.synthetic import Market, generate_market

PAIR, TIMEFRAME = "SYNA/USDT", "5m"
TIMEFRAMES = {"5m": "5min", "15m": "15min", "1h": "1h"}
CONFIG: dict[str, Any] = {
    "timeframe": TIMEFRAME,
    "exchange": {"pair_whitelist": [PAIR]},
    "user_data_dir": Path("user_data"),
    "freqai_backtest_live_models": True,  # no training windows are cut
    "freqai": {
        "identifier": "benchmark",
        "feature_parameters": {
            "include_timeframes": list(TIMEFRAMES),
            "include_corr_pairlist": ["SYNB/USDT", "SYNC/USDT"],
            "indicator_periods_candles": [10, 20, 50],
            "include_shifted_candles": 2,
        },
    },
}
Candles = dict[tuple[str, str], pd.DataFrame]


class LightStrategy(IStrategy):
    """Three features a period, all of them cheap."""

    def feature_engineering_expand_all(
        self, dataframe: pd.DataFrame, period: int, metadata: dict[str, Any], **kwargs: Any
    ) -> pd.DataFrame:
        close = dataframe["close"]
        dataframe["%-change-period"] = close / close.shift(period) - 1
        dataframe["%-volume-period"] = dataframe["volume"] / dataframe["volume"].shift(period)
        dataframe["%-range-period"] = (dataframe["high"] - dataframe["low"]) / close.shift(period)
        return dataframe

    def populate_indicators(
        self, dataframe: pd.DataFrame, metadata: dict[str, Any]
    ) -> pd.DataFrame:
        return dataframe


STRATEGIES: dict[str, type[IStrategy]] = {
    "template": FreqaiExampleStrategy,
    "light": LightStrategy,
}


def load(n_candles: int) -> Candles:
    """Candles of three pairs, the slower timeframes resampled from the fastest."""
    pairs = (PAIR, *CONFIG["freqai"]["feature_parameters"]["include_corr_pairlist"])
    market = generate_market(Market(pairs=pairs, n_candles=n_candles, timeframe="5min"))
    rule = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    return {
        (pair, name): frame.resample(length, on="date").agg(rule).reset_index()
        for pair, frame in market.items()
        for name, length in TIMEFRAMES.items()
    }


class Provider:
    """The one method of freqtrade's data provider that FreqAI calls here; copies, as the real one's."""

    def __init__(self, candles: Candles) -> None:
        self.candles = candles

    def get_pair_dataframe(self, pair: str, timeframe: str) -> pd.DataFrame:
        return self.candles[pair, timeframe].copy()


def freqai(strategy: IStrategy, candles: Candles) -> pd.DataFrame:
    strategy.dp = Provider(candles)
    kitchen = FreqaiDataKitchen(CONFIG, pair=PAIR)
    return kitchen.use_strategy_to_populate_indicators(
        strategy, pair=PAIR, prediction_dataframe=candles[PAIR, TIMEFRAME]
    )


def ours(strategy: IStrategy, candles: Candles) -> pd.DataFrame:
    return expand_features(
        strategy,
        candles[PAIR, TIMEFRAME],
        pair=PAIR,
        timeframe=TIMEFRAME,
        config=ExpansionConfig.from_freqtrade(CONFIG),
        candles=lambda pair, timeframe: candles[pair, timeframe],
    )


def float32(strategy: IStrategy, candles: Candles) -> pd.DataFrame:
    return ours(strategy, candles).astype("float32")


Runner = Callable[[IStrategy, Candles], pd.DataFrame]
RUNNERS: dict[str, Runner] = {"freqai": freqai, "ours": ours, "float32": float32}


class Clock:
    """Counts the CPU seconds spent inside a strategy's feature methods."""

    def __init__(self, strategy: IStrategy) -> None:
        self.seconds = 0.0
        for name in ("expand_all", "expand_basic", "standard"):
            self._wrap(strategy, f"feature_engineering_{name}")

    def _wrap(self, strategy: IStrategy, name: str) -> None:
        method = getattr(strategy, name)

        def timed(*args: Any, **kwargs: Any) -> pd.DataFrame:
            started = time.process_time()
            try:
                return method(*args, **kwargs)
            finally:
                self.seconds += time.process_time() - started

        setattr(strategy, name, timed)


def memory(what: str) -> int:
    """A line of /proc/self/status in bytes: VmRSS held now, VmHWM the most since the last reset."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{what}:")[1].split()[0]) * 1024


def measure(runner: str, strategy_name: str, n_candles: int) -> dict[str, float]:
    """CPU seconds, those in the strategy's methods, and peak bytes of one expansion in this process."""
    strategy = STRATEGIES[strategy_name](CONFIG)
    RUNNERS[runner](strategy, load(1_000))  # what loads lazily is loaded
    candles = load(n_candles)
    clock = Clock(strategy)
    Path("/proc/self/clear_refs").write_text("5")
    held, started = memory("VmRSS"), time.process_time()
    features = RUNNERS[runner](strategy, candles)
    seconds = time.process_time() - started
    n_features = sum(name.startswith("%") for name in features.columns)
    return {
        "seconds": seconds,
        "own": seconds - clock.seconds,
        "bytes": memory("VmHWM") - held,
        "features": n_features,
    }


def measure_apart(runner: str, strategy_name: str, n_candles: int) -> dict[str, float]:
    """`measure` in a process of its own."""
    words = ["--only", runner, strategy_name, "--candles", str(n_candles)]
    done = subprocess.run(
        [sys.executable, __file__, *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure both strategies and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candles", type=int, default=105_120)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", nargs=2, metavar=("RUNNER", "STRATEGY"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(measure(*arguments.only, arguments.candles)))
        return
    for strategy in STRATEGIES:
        runs = {runner: [] for runner in RUNNERS}
        for _ in range(arguments.repeat):
            for runner in RUNNERS:
                runs[runner].append(measure_apart(runner, strategy, arguments.candles))
        best = {
            runner: {key: min(run[key] for run in found) for key in found[0]}
            for runner, found in runs.items()
        }
        for runner, cost in best.items():
            print(
                f"{strategy:9} {runner:7} {cost['seconds']:6.2f} s CPU, {cost['own']:6.2f} s of it outside "
                f"the strategy's methods, {cost['bytes'] / 2**20:6.0f} MiB peak, {cost['features']:.0f} features"
            )
        for runner in ("ours", "float32"):
            ratios = {key: best[runner][key] / best["freqai"][key] for key in best[runner]}
            print(
                f"{strategy:9} {runner:7} / freqai: {ratios['seconds']:.3f} CPU, {ratios['own']:.3f} "
                f"outside the methods, {ratios['bytes']:.3f} memory",
                flush=True,
            )


if __name__ == "__main__":
    main()
