"""Size and power of the default gates, measured as a test's are.

On markets without a signal (random walks, GARCH, regimes of volatility, trends that nothing foretells) the gates must
refuse; on markets with a planted one (quickstart's own, `freqtrade_mlpipe.synthetic`) they must accept. Each market is
run as a user runs it, `freqtrade-mlpipe quickstart` with tuning, validation by freqtrade's backtest and the gates, and
leaves one line of JSON. A run that was stopped goes on where it was; one market takes 20 to 50 seconds of one core, at
low priority::

    python benchmarks/gates.py --output gates.jsonl --null 200 --planted 100
    python benchmarks/gates.py --output gates.jsonl --report
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing import reduction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from verdicts import PROMOTED, REFUSED, wilson

from freqtrade_mlpipe.synthetic import Market, generate_market

Floats = NDArray[np.float64]

N_CANDLES, N_PAIRS = 8_760, 4
"""Of a market without a signal: a year of a few pairs, the less data, the easier noise passes for skill."""
CANDLE_VOLATILITY = 0.006
COMMON_SHARE = 0.4
PLANTED = "planted"
TIMEOUT_SECONDS = 1_800
FORKSERVER = multiprocessing.get_context("forkserver")


def random_walk(rng: np.random.Generator) -> Floats:
    """Independent normal log returns, shape (candles, pairs); a common factor as in all kinds."""
    return CANDLE_VOLATILITY * _shocks(rng, rng.standard_normal)


def garch(rng: np.random.Generator) -> Floats:
    """GARCH(1,1) with Student's t shocks: the size of a return is foretold, its sign is not."""
    shocks = _shocks(rng, lambda shape: rng.standard_t(5, shape) * np.sqrt(3 / 5))
    alpha, beta = 0.08, 0.9
    variance = np.full(N_PAIRS, CANDLE_VOLATILITY**2)
    floor = CANDLE_VOLATILITY**2 * (1 - alpha - beta)
    returns = np.empty_like(shocks)
    for t, shock in enumerate(shocks):
        returns[t] = np.clip(np.sqrt(variance) * shock, -0.25, 0.25)
        variance = floor + alpha * returns[t] ** 2 + beta * variance
    return returns


def regimes(rng: np.random.Generator) -> Floats:
    """Calm and turbulent stretches of ten days on average, common to all pairs."""
    switch = rng.random(N_CANDLES) < 1 / 240
    turbulent = np.cumsum(switch) % 2 == 1
    scale = np.where(turbulent, 1.8, 0.5)[:, None]
    returns: Floats = CANDLE_VOLATILITY * scale * _shocks(rng, rng.standard_normal)
    return returns


def trending(rng: np.random.Generator) -> Floats:
    """A steady drift of each pair, up to a doubling a year or down to a half: nothing says when."""
    drift = rng.uniform(-1, 1, N_PAIRS) * np.log(2) / 8_760
    returns: Floats = random_walk(rng) + drift
    return returns


NULL: dict[str, Callable[[np.random.Generator], Floats]] = {
    "random_walk": random_walk,
    "garch": garch,
    "regimes": regimes,
    "trending": trending,
}


def _shocks(rng: np.random.Generator, draw: Callable[[tuple[int, int]], Floats]) -> Floats:
    own, common = draw((N_CANDLES, N_PAIRS)), draw((N_CANDLES, 1))
    shocks: Floats = np.sqrt(1 - COMMON_SHARE) * own + np.sqrt(COMMON_SHARE) * common
    return shocks


def candles_of(kind: str, seed: int) -> dict[str, pd.DataFrame]:
    """The candles of a market by pair; prices without a signal are martingales but for the trend."""
    if kind == PLANTED:
        return generate_market(Market(seed=seed))
    rng = np.random.default_rng([seed, sorted(NULL).index(kind)])
    returns = NULL[kind](rng)
    returns -= CANDLE_VOLATILITY**2 / 2
    dates = pd.date_range("2023-01-01", periods=N_CANDLES, freq="h", tz="UTC")
    names = Market().pairs[:N_PAIRS]
    return {name: _candles(rng, dates, returns[:, k]) for k, name in enumerate(names)}


def _candles(rng: np.random.Generator, dates: pd.DatetimeIndex, returns: Floats) -> pd.DataFrame:
    close = 10 ** rng.uniform(0, 3) * np.exp(np.cumsum(returns))
    open_ = np.concatenate((close[:1], close[:-1]))
    wicks = CANDLE_VOLATILITY * rng.exponential(0.5, (2, len(close)))
    turnover = np.exp(
        13 + 0.3 * np.abs(returns) / CANDLE_VOLATILITY + 0.4 * rng.standard_normal(len(close))
    )
    frame = pd.DataFrame(
        {
            "date": dates,
            "open": open_,
            "high": np.maximum(open_, close) * (1 + wicks[0]),
            "low": np.minimum(open_, close) / (1 + wicks[1]),
            "close": close,
            "volume": turnover / close,
        }
    )
    prices = ["open", "high", "low", "close"]
    frame[prices] = frame[prices].map(lambda price: float(f"{price:.7g}"))
    return frame


def run_market(kind: str, seed: int) -> dict[str, Any]:
    """What the gates said of one market."""
    begin = time.perf_counter()
    described: dict[str, Any] = {"kind": kind, "seed": seed}
    with tempfile.TemporaryDirectory(prefix="mlpipe-gates-") as folder:
        data = Path(folder) / "data"
        data.mkdir()
        for pair, frame in candles_of(kind, seed).items():
            frame.to_feather(data / f"{pair.replace('/', '_')}-1h.feather")
        where = ["--userdir", f"{folder}/user_data", "--datadir", str(data)]
        code, output = _mlpipe("quickstart", *where)
        if code not in (PROMOTED, REFUSED):
            return {**described, "error": output[-500:], "code": code}
        _, listed = _mlpipe("list-models", *where, "--json")
        (version,) = json.loads(listed[listed.index("[") :])
    checks = version["report"]["checks"]
    return {
        **described,
        "promoted": code == PROMOTED,
        "refused_by": [check["name"] for check in checks if not check["passed"]],
        "values": {check["name"]: check["value"] for check in checks},
        "metrics": {
            name: version["metrics"].get(name) for name in ("roc_auc", "log_loss", "n_trials")
        },
        "seconds": round(time.perf_counter() - begin, 1),
    }


def _mlpipe(*words: str) -> tuple[int | None, str]:
    """Exit code and output of a command, in a process forked from one that has imported everything already."""
    with tempfile.TemporaryFile("w+") as output:
        process = FORKSERVER.Process(
            target=_command, args=(words, reduction.DupFd(output.fileno()))
        )
        process.start()
        process.join(TIMEOUT_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()
        output.seek(0)
        return process.exitcode, output.read()


def _command(words: tuple[str, ...], output: Any) -> None:
    from freqtrade_mlpipe import pipeline
    from freqtrade_mlpipe.commands import quickstart
    from freqtrade_mlpipe.main import main as mlpipe
    from freqtrade_mlpipe.registry import drift_baseline

    # Nothing that a gate looks at, and a third of the time: how the bot will watch for drift, and the backtest shown
    # after a promotion.
    pipeline.monitoring_baseline = lambda learned, *_, **__: drift_baseline(learned.sort_index())  # type: ignore[assignment]
    quickstart._show_backtest = lambda *_: None  # type: ignore[assignment]
    descriptor = output.detach()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.exit(mlpipe(list(words)))


def wanted(n_null: int, n_planted: int) -> list[tuple[str, int]]:
    """Kind and seed of each market, the kinds in turn, so that a part is a fair sample."""
    kinds = list(NULL)
    null = [(kinds[k % len(kinds)], 1 + k // len(kinds)) for k in range(n_null)]
    planted = [(PLANTED, seed) for seed in range(1, n_planted + 1)]
    order = [(k / len(part), market) for part in (null, planted) for k, market in enumerate(part)]
    return [market for _, market in sorted(order)]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The finished lines; one that a kill cut short is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def append(path: Path, row: dict[str, Any]) -> None:
    """Add a line, after ending one that was cut short."""
    cut = path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
    with path.open("a") as file:
        file.write(("\n" if cut else "") + json.dumps(row) + "\n")


def print_report(rows: list[dict[str, Any]]) -> None:
    """Shares promoted with 95 % Wilson intervals, and which gates decided."""
    finished = [row for row in rows if "promoted" in row]
    groups = {"no signal": [row for row in finished if row["kind"] != PLANTED]}
    groups |= {f"  {kind}": [row for row in finished if row["kind"] == kind] for kind in NULL}
    groups[PLANTED] = [row for row in finished if row["kind"] == PLANTED]
    for name, group in groups.items():
        if not group:
            continue
        hits = sum(row["promoted"] for row in group)
        low, high = wilson(hits, len(group))
        refusing = Counter(gate for row in group for gate in row["refused_by"])
        alone = Counter(row["refused_by"][0] for row in group if len(row["refused_by"]) == 1)
        print(f"{name}: promoted {hits} of {len(group)} (95 % interval {low:.1%} to {high:.1%})")
        print(
            f"    refused by {dict(refusing.most_common())}; by it alone {dict(alone.most_common())}"
        )
    errors = [row for row in rows if "error" in row]
    if errors:
        print(
            f"{len(errors)} markets ended in an error and count for nothing; the last: {errors[-1]['error']}"
        )


def main() -> None:
    """Run what is missing, then report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("gates.jsonl"))
    parser.add_argument("--null", type=int, default=200, help="markets without a signal")
    parser.add_argument("--planted", type=int, default=100, help="markets with one")
    parser.add_argument("--nice", type=int, default=15, help="priority of the runs")
    parser.add_argument("--report", action="store_true", help="only report")
    arguments = parser.parse_args()
    rows = read_rows(arguments.output)
    if not arguments.report:
        os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
        FORKSERVER.set_forkserver_preload(["freqtrade_mlpipe.commands.quickstart"])
        if hasattr(os, "nice"):
            os.nice(arguments.nice)
        done = {(row["kind"], row["seed"]) for row in rows if "promoted" in row}
        for kind, seed in wanted(arguments.null, arguments.planted):
            if (kind, seed) in done:
                continue
            row = run_market(kind, seed)
            append(arguments.output, row)
            print(json.dumps(row), flush=True)
    print_report(read_rows(arguments.output))


if __name__ == "__main__":
    main()
