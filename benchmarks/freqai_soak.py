"""A bot that trains anew hundreds of times: what it raised, how long a training took, what it left behind.

An unmodified `freqtrade trade` in dry-run with MLPipeClassifier on the live replay server, under a clock that runs
`--pace` times as fast: a one-minute candle passes in a second or two, and with it every pair is due again. Two
generated pairs, a small LightGBM, registry and tracking as they are by default. It ends after so many retrainings, and
fails if one raised anything::

    python benchmarks/freqai_soak.py --retrainings 200
"""

from __future__ import annotations

import argparse
import re
import statistics
import tempfile
import time
from pathlib import Path

from freqtrade_mlpipe.commands.setup import write_user_directory
from freqtrade_mlpipe.registry import ModelRegistry
from freqtrade_mlpipe.synthetic import Market, generate_market
from tests.conftest import write_candle_file
from tests.e2e.live import Bot, Clock, ReplayServer, freqai_config

PAIRS = ("SYNA/USDT", "SYNB/USDT")
TRAINED = re.compile(r"/USDT: trained in ([\d.]+) s")


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--retrainings", type=int, default=200)
    parser.add_argument("--pace", type=float, default=40)
    parser.add_argument("--minutes", type=float, default=40, help="give up after so long")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        soak(Path(name), arguments.retrainings, arguments.pace, 60 * arguments.minutes)


def soak(folder: Path, wanted: int, pace: float, patience: float) -> None:
    """Let the bot train, then read its log, folders and registry."""
    candles, userdir = folder / "candles", folder / "user_data"
    candles.mkdir()
    for pair, frame in generate_market(Market(pairs=PAIRS, n_candles=3500, seed=42)).items():
        write_candle_file(candles, pair, frame)
    write_user_directory(userdir)
    clock, started = Clock(pace=pace), time.monotonic()
    with (
        ReplayServer(candles, clock=clock, speed=60) as server,
        Bot(
            folder / "bot", freqai_config(server, PAIRS, "soak", n_estimators=20), "MLFreqaiStrategy",
            clock=clock, userdir=userdir, strategy_path=userdir / "strategies",
        ) as bot,
    ):  # fmt: skip
        while len(TRAINED.findall(bot.log)) < wanted and time.monotonic() - started < patience:
            bot.check_alive()
            time.sleep(5)
        log = bot.log  # SIGTERM in a database call leaves freqtrade's clean-up with a traceback
    minutes = (time.monotonic() - started) / 60
    report(log, userdir, minutes)
    if len(TRAINED.findall(log)) < wanted:
        raise SystemExit(f"only {len(TRAINED.findall(log))} of {wanted} retrainings")


def report(log: str, userdir: Path, minutes: float) -> None:
    """Print what was found; an exception ends the program with its lines."""
    seconds = [float(found) for found in TRAINED.findall(log)]
    raised = [line for line in log.splitlines() if "raised exception" in line]
    print(
        f"{len(seconds)} retrainings in {minutes:.1f} minutes, {len(raised)} exceptions, {log.count('Traceback')} "
        f"tracebacks; {log.count('It serves from now on')} serve, {log.count('The model before it goes on')} refused"
    )
    tenth = max(1, len(seconds) // 10)
    print(
        f"seconds of a training, median of the first and last tenth: {statistics.median(seconds[:tenth]):.2f}, "
        f"{statistics.median(seconds[-tenth:]):.2f}"
    )
    registry = ModelRegistry(directory=userdir / "mlpipe")
    for pair in PAIRS:
        slug = pair.replace("/", "_")
        folders = len(list((userdir / "models" / "soak").glob(f"sub-train-{slug}_*")))
        versions = registry.get_all_versions(f"freqai.soak.{slug}")
        print(f"{pair}: {folders} models on disk, {len(versions)} versions in the registry")
    for what in ("models", "mlpipe"):
        size = sum(f.stat().st_size for f in (userdir / what).rglob("*") if f.is_file())
        print(f"user_data/{what}: {size / 1e6:.1f} MB")
    if raised or "Traceback" in log:
        at = log.find("Traceback")
        raise SystemExit(
            "\n".join([*raised[:5], log[max(0, at - 500) : at + 3000] if at >= 0 else ""])
        )


if __name__ == "__main__":
    main()
