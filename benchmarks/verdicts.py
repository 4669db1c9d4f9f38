"""How often the gates accept a market with a planted signal, and refuse one without.

Runs `freqtrade-mlpipe quickstart` for each seed and signal and counts the exit codes (0 promoted, 3 refused), with 95 %
Wilson intervals (Wilson 1927). About half a minute a run on two idle cores::

    python benchmarks/verdicts.py --seeds 20 --signals 0 1
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

PROMOTED, REFUSED = 0, 3


def wilson(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a proportion."""
    centre, spread = hits + z**2 / 2, z * math.sqrt(hits * (n - hits) / n + z**2 / 4)
    return (centre - spread) / (n + z**2), (centre + spread) / (n + z**2)


def mlpipe(*words: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own."""
    command = [sys.executable, "-m", "freqtrade_mlpipe.main", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def verdict(signal: float, seed: int) -> tuple[int, list[str]]:
    """The exit code of a quickstart, and the gates that refused."""
    with tempfile.TemporaryDirectory() as folder:
        userdir = str(Path(folder) / "user_data")
        done = mlpipe(
            "quickstart", "--userdir", userdir, "--signal", f"{signal}", "--seed", f"{seed}"
        )
        if done.returncode not in (PROMOTED, REFUSED):
            raise SystemExit(done.stderr)
        (version,) = json.loads(mlpipe("list-models", "--userdir", userdir, "--json").stdout)
    refusing = [check["name"] for check in version["report"]["checks"] if not check["passed"]]
    return done.returncode, refusing


def main() -> None:
    """Count verdicts and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seeds", type=int, default=20, help="seeds 1 to N, and the default seed 42"
    )
    parser.add_argument("--signals", type=float, nargs="+", default=[0.0, 1.0])
    arguments = parser.parse_args()
    seeds = [42, *range(1, arguments.seeds + 1)]
    for signal in arguments.signals:
        promoted, gates, started = 0, Counter[str](), time.perf_counter()
        for seed in seeds:
            code, refusing = verdict(signal, seed)
            promoted += code == PROMOTED
            gates.update(refusing)
            print(
                f"signal {signal:g} seed {seed}: {'promoted' if code == PROMOTED else refusing}",
                flush=True,
            )
        low, high = wilson(promoted, len(seeds))
        seconds = (time.perf_counter() - started) / len(seeds)
        print(
            f"signal {signal:g}: promoted {promoted} of {len(seeds)} (95 % interval {low:.1%} to {high:.1%}); "
            f"{seconds:.0f} s a run; gates that refused: {dict(gates.most_common())}"
        )


if __name__ == "__main__":
    main()
