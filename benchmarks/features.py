"""What features cost: against raw TA-Lib calls, with the number of candles, in memory, live, and when pruned.

All figures are ratios measured in one run, of CPU time, best of several, on one thread unless said. Raw TA-Lib is the
same calls written into a reused float32 column-major block::

    python benchmarks/features.py
    python benchmarks/features.py --only raw live
"""

from __future__ import annotations

import argparse
import os
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import talib
from rich.console import Console
from rich.table import Table

from freqtrade_mlpipe.config import FeatureConfig
from freqtrade_mlpipe.features import FeatureEngineer, FeatureStream, LiveBlock, Preprocessor
from freqtrade_mlpipe.features._program import compile_program
from freqtrade_mlpipe.features.candles import COLUMNS
from freqtrade_mlpipe.features.indicator import Candles
from freqtrade_mlpipe.synthetic import Market, generate_market

YEAR_5M = 105_120
Figure = tuple[str, str, str, str]

RAW: dict[str, Callable[[Any], Any]] = {
    "roc_10": lambda c: talib.ROC(c.close, 10),
    "roc_20": lambda c: talib.ROC(c.close, 20),
    "trix_14": lambda c: talib.TRIX(c.close, 14),
    "aroon_up_25": lambda c: talib.AROON(c.high, c.low, 25)[1],
    "aroon_down_25": lambda c: talib.AROON(c.high, c.low, 25)[0],
    "aroon_oscillator_25": lambda c: talib.AROONOSC(c.high, c.low, 25),
}
"""The columns that are one call of TA-Lib and nothing else."""
TYPICAL: tuple[Callable[[Any], Any], ...] = (
    *RAW.values(),
    *(lambda c, n=n: talib.RSI(c.close, n) for n in (7, 14)),
    *(lambda c, n=n: talib.EMA(c.close, n) for n in (7, 14, 50)),
    *(lambda c, n=n: talib.ATR(c.high, c.low, c.close, n) for n in (7, 14)),
    lambda c: talib.CCI(c.high, c.low, c.close, 20),
    lambda c: talib.ADX(c.high, c.low, c.close, 14),
    lambda c: talib.SAR(c.high, c.low, 0.02, 0.2),
    lambda c: talib.MFI(c.high, c.low, c.close, c.volume, 14),
    lambda c: talib.WILLR(c.high, c.low, c.close, 14),
    lambda c: talib.STDDEV(c.close, 20),
    lambda c: talib.LINEARREG_SLOPE(c.close, 14),
)
"""A raw cell costs what these cost on average."""


def candles_of(n: int) -> pd.DataFrame:
    """Candles of a synthetic market."""
    (df,) = generate_market(Market(pairs=("A/USDT",), n_candles=n, timeframe="5min")).values()
    return df


def seconds(
    call: Callable[[], Any], repeats: int, clock: Callable[[], float] = time.process_time
) -> float:
    """The quickest of some calls."""
    return min(_measured(call, clock) for _ in range(repeats))


def _measured(call: Callable[[], Any], clock: Callable[[], float]) -> float:
    start = clock()
    call()
    return clock() - start


def repeats(n_rows: int) -> int:
    """Enough for the quickest to be free of disturbance."""
    return max(3, min(100, 300_000 // n_rows))


def fill(calls: Any, candles: Candles, block: np.ndarray) -> None:
    """Raw calls into columns of a block."""
    for place, call in enumerate(calls):
        block[:, place] = call(candles)


def raw() -> Iterator[Figure]:
    """Cells of the TA-Lib columns and of the whole catalogue against raw ones."""
    config = FeatureConfig(include=tuple(RAW))
    ours, whole = FeatureEngineer(config), FeatureEngineer()
    for n in (1_000, 10_000, YEAR_5M):
        df, count = candles_of(n), repeats(n)
        candles = Candles(df)
        block = np.zeros((n, len(TYPICAL)), dtype=np.float32, order="F")
        same = seconds(lambda: fill(RAW.values(), candles, block), count)  # noqa: B023
        target, program = block[:, : len(RAW)], compile_program(ours.columns)
        filled = seconds(lambda: program.fill(candles, target), count)  # noqa: B023
        framed = seconds(lambda: ours.transform(df), count)  # noqa: B023
        target_words = "<= 2.0" if n < 10_000 else "<= 1.2"
        yield f"TA-Lib columns, {n:,} rows", f"{filled / same:.2f} x raw calls", target_words, ""
        yield (
            "  checked, scaled and framed",
            f"{framed / same:.2f} x raw calls",
            "",
            f"{framed * 1e6:,.0f} us",
        )
        cell = seconds(lambda: fill(TYPICAL, candles, block), count) / block.size  # noqa: B023
        mean = seconds(lambda: whole.transform(df), count) / n / len(whole.columns)  # noqa: B023
        yield (
            f"whole catalogue, {n:,} rows",
            f"{mean / cell:.2f} x raw cell",
            "<= 3.0",
            f"{mean * 1e9:.1f} ns a cell",
        )


def linear() -> Iterator[Figure]:
    """Ten times the candles."""
    engineer, few, many = FeatureEngineer(), candles_of(YEAR_5M), candles_of(1_000_000)
    small = seconds(lambda: engineer.transform(few), 3) / len(few)
    large = seconds(lambda: engineer.transform(many), 2) / len(many)
    yield "cell at 1,000,000 rows", f"{large / small:.2f} x at {YEAR_5M:,}", "about 1", ""


def memory() -> Iterator[Figure]:
    """Peak of a transform over its result."""
    engineer, df = FeatureEngineer(), candles_of(YEAR_5M)
    engineer.transform(df)
    tracemalloc.start()
    block = engineer.transform(df)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    size = int(block.to_numpy().nbytes)
    yield (
        "peak memory of transform",
        f"{peak / size:.2f} x its block",
        "<= 1.5",
        f"{size / 2**20:.0f} MiB",
    )


def threads() -> Iterator[Figure]:
    """Two threads over four pairs; wall time, so only idle cores tell."""
    engineer, df = FeatureEngineer(), candles_of(YEAR_5M)

    def work(n_pairs: int) -> None:
        for _ in range(n_pairs):
            engineer.transform(df)

    def both() -> None:
        parts = [threading.Thread(target=work, args=(2,)) for _ in range(2)]
        for part in parts:
            part.start()
        for part in parts:
            part.join()

    one = seconds(lambda: work(4), 3, time.perf_counter)
    two = seconds(both, 3, time.perf_counter)
    load = f"wall; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    yield "two threads over pairs", f"{two / one:.2f} x one thread", "<= 0.6", load


def live() -> Iterator[Figure]:
    """A new candle, and a new window."""
    engineer, n = FeatureEngineer(), 1_000
    df = candles_of(n + 600)
    stamps = df["date"].dt.as_unit("s").astype(np.int64).tolist()
    rows = list(zip(stamps, *(df[name].tolist() for name in COLUMNS), strict=True))[n:]
    window = df.iloc[:n]
    stream = FeatureStream(engineer.columns)
    if stream.recomputed:
        yield (
            "new candle",
            "not carried",
            "<= 100 us",
            "TA-Lib has no handles: 0.8 or later is needed",
        )
        return
    stream.open(window)
    update = sorted(_measured(lambda: stream.update(row), time.process_time) for row in rows)  # noqa: B023
    whole = seconds(lambda: engineer.transform(window), 30)
    middle = update[len(update) // 2]
    yield (
        "new candle",
        f"{middle * 1e6:.0f} us, best {update[0] * 1e6:.0f}",
        "<= 100 us",
        f"{whole / middle:.0f} x quicker than its window",
    )
    followed = LiveBlock(engineer.columns)
    followed.block(window)
    frames = [df.iloc[k : k + n].copy() for k in range(1, 500)]
    slid = sorted(_measured(lambda: followed.block(frame), time.process_time) for frame in frames)  # noqa: B023
    yield (
        "  read and compared with a live frame",
        f"{slid[len(slid) // 2] * 1e6:.0f} us, best {slid[0] * 1e6:.0f}",
        "",
        f"{n:,} candles",
    )
    for size in (600, n):
        opened = seconds(lambda: LiveBlock(engineer.columns).block(df.iloc[:size]), 50)  # noqa: B023
        yield f"opened with {size:,} candles", f"{opened * 1e3:.1f} ms", "<= 5 ms", ""
    compile_program.cache_clear()
    first = seconds(lambda: FeatureStream(engineer.columns).open(window), 1)
    yield "  once a process: code generated", f"{first * 1e3:.0f} ms", "", ""


def pruning() -> Iterator[Figure]:
    """Correlations of 200 columns."""
    rng = np.random.default_rng(0)
    base = rng.normal(size=(100_000, 200)).astype(np.float32)
    base[:, 100:] = 0.97 * base[:, :100] + np.float32(0.2) * base[:, 100:]
    block = np.asfortranarray(base)
    X = pd.DataFrame(block, columns=[f"x{k}" for k in range(200)], copy=False)
    config = FeatureConfig(scale_features=False, correlation_threshold=0.9)
    floor = seconds(lambda: np.corrcoef(block, rowvar=False, dtype=np.float32), 5)
    for name, features in (
        ("without gaps", X),
        ("a column with gaps", X.assign(x0=X["x0"].where(X.index > 50))),
    ):
        ours = seconds(lambda: Preprocessor.fit(features, config), 5)  # noqa: B023
        found = Preprocessor.fit(features, config).dropped_correlated
        matrix = features.corr().abs()
        upper = matrix.where(np.triu(np.ones(matrix.shape, dtype=bool), k=1))
        dropped = {
            column for column in upper if (upper[column] > config.correlation_threshold).any()
        }
        same = "drops what pandas does" if dropped == set(found) else "DIFFERS from pandas"
        yield f"pruning 100,000 x 200, {name}", f"{ours / floor:.2f} x np.corrcoef", "<= 1.5", same


PARTS: dict[str, Callable[[], Iterator[Figure]]] = {
    part.__name__: part for part in (raw, linear, memory, threads, live, pruning)
}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=list(PARTS), help="default: all"
    )
    arguments = parser.parse_args()
    table = Table("what", "measured", "target", "", title="Cost of features")
    for name in arguments.only:
        for figure in PARTS[name]():
            table.add_row(*figure)
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
