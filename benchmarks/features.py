"""What features cost: against raw TA-Lib calls, with the number of candles, in memory, live, and when pruned.

All figures are ratios measured in one run, of CPU time, best of several, on one thread unless said. Raw TA-Lib is the
same calls written into a reused float32 column-major block::

    python benchmarks/features.py
    python benchmarks/features.py --only raw live
"""

from __future__ import annotations

import argparse
import os
import resource
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import talib
from rich.console import Console
from rich.table import Table

from freqtrade_mlpipe.config import FeatureConfig
from freqtrade_mlpipe.features import FeatureEngineer, FeatureStream, LiveBlock, Preprocessor
from freqtrade_mlpipe.features._plan import ordered
from freqtrade_mlpipe.features._program import compile_program, trace
from freqtrade_mlpipe.features._trace import OPERATIONS, Node
from freqtrade_mlpipe.features.candles import COLUMNS
from freqtrade_mlpipe.features.indicator import Candles, FeatureColumn
from freqtrade_mlpipe.features.stream import update_together
from freqtrade_mlpipe.synthetic import Market, generate_market

YEAR_5M = 105_120
Figure = tuple[str, str, str, str]
Call = Callable[[Candles], Any]

TYPICAL: tuple[Call, ...] = (
    *(lambda c, n=n: talib.ROC(c.close, n) for n in (10, 20)),
    lambda c: talib.TRIX(c.close, 14),
    *(lambda c, k=k: talib.AROON(c.high, c.low, 25)[k] for k in (0, 1)),
    lambda c: talib.AROONOSC(c.high, c.low, 25),
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


CALLING = (
    ("TA-Lib columns, {:,} rows", 2, True),
    ("  those that are one call", 0, False),
    ("  all that call TA-Lib", 1000, False),
)
"""Columns by how much they do besides calling TA-Lib: two operations make a level scale-free, (close - x) / close; what
does more is home-made."""


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


def years(n: int) -> pd.DataFrame:
    """The candles of so many years: the same one again and again. A random walk of a million candles ends at its
    smallest price, where TA-Lib's averages of gains sink into denormal numbers, 50 times as slow."""
    df = pd.concat([candles_of(YEAR_5M)] * n, ignore_index=True)
    return df.assign(date=pd.date_range(df["date"].iloc[0], periods=len(df), freq="5min"))


def talib_calls(columns: tuple[FeatureColumn, ...], most: int) -> dict[str, list[Call]]:
    """The columns that call TA-Lib and do at most so many operations besides, with all their calls. What they call it
    with may be the result of an operation; here it is the close then."""
    found = {}
    for column, node in zip(columns, trace(columns), strict=True):
        nodes = ordered([node]) if node else []
        called = [one for one in nodes if one.kernel and one.kernel.name.startswith("talib.")]
        if called and sum(one.operation in OPERATIONS for one in nodes) <= most:
            found[column.name] = [_call(one) for one in called]
    return found


def _call(node: Node) -> Call:
    kernel = node.kernel
    assert kernel is not None
    inputs = [one.parameters[0] if one.operation == "input" else "close" for one in node.parents]

    def call(candles: Candles) -> Any:
        values = kernel.batch(*(getattr(candles, name) for name in inputs), *node.parameters)
        return values[0] if kernel.n_outputs else values

    return call


def fill_each(calls: Iterable[list[Call]], candles: Candles, block: np.ndarray) -> None:
    """All calls of each column, the last one's result into a block."""
    for place, several in enumerate(calls):
        for call in several:
            values = call(candles)
        block[:, place] = values


def fill(calls: Any, candles: Candles, block: np.ndarray) -> None:
    """Raw calls into columns of a block."""
    for place, call in enumerate(calls):
        block[:, place] = call(candles)


def raw() -> Iterator[Figure]:
    """Cells of the TA-Lib columns and of the whole catalogue against raw ones."""
    whole = FeatureEngineer()
    for n in (1_000, 10_000, YEAR_5M):
        df, count = candles_of(n), repeats(n)
        candles = Candles(df)
        for what, most, judged in CALLING:
            calls = talib_calls(whole.columns, most)
            engineer = FeatureEngineer(FeatureConfig(include=tuple(calls)))
            block = np.zeros((n, len(calls)), dtype=np.float32, order="F")
            same = seconds(lambda: fill_each(calls.values(), candles, block), count)  # noqa: B023
            ours = seconds(lambda: engineer.transform(df), count)  # noqa: B023
            yield (
                what.format(n),
                f"{ours / same:.2f} x raw calls",
                ("<= 2.0" if n < 10_000 else "<= 1.2") if judged else "",
                f"{len(calls)} columns, {(ours - same) * 1e6:+,.0f} us",
            )
        block = np.zeros((n, len(TYPICAL)), dtype=np.float32, order="F")
        cell = seconds(lambda: fill(TYPICAL, candles, block), count) / block.size  # noqa: B023
        mean = seconds(lambda: whole.transform(df), count) / n / len(whole.columns)  # noqa: B023
        yield (
            f"whole catalogue, {n:,} rows",
            f"{mean / cell:.2f} x raw cell",
            "<= 3.0" if n >= YEAR_5M else "",
            f"{mean * 1e9:.1f} ns a cell",
        )


def linear() -> Iterator[Figure]:
    """Ten times the candles, and what of it is the kernel's: zeroing the pages of a new block."""
    engineer, cells = FeatureEngineer(), []
    for n_years, count in ((1, 5), (10, 3)):
        df = years(n_years)
        measured = [_user_and_system(lambda: engineer.transform(df)) for _ in range(count)]  # noqa: B023
        user, system = min(measured, key=sum)
        cells.append((user / len(df), (user + system) / len(df)))
    (few_user, few), (many_user, many) = cells
    yield (
        f"cell at {10 * YEAR_5M:,} rows",
        f"{many / few:.2f} x at {YEAR_5M:,}",
        "about 1",
        f"{many_user / few_user:.2f} x without the kernel's new pages",
    )


def _user_and_system(call: Callable[[], Any]) -> tuple[float, float]:
    before = resource.getrusage(resource.RUSAGE_SELF)
    call()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime


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
    streams = [FeatureStream(engineer.columns) for _ in range(20)]
    for one in streams:
        one.open(window)
    together = sorted(
        _measured(lambda: update_together(streams, [row] * len(streams)), time.process_time)  # noqa: B023
        for row in rows
    )
    each = together[len(together) // 2] / len(streams)
    yield "  of 20 pairs at once", f"{each * 1e6:.0f} us a pair", "", f"{each / middle:.2f} x alone"
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
