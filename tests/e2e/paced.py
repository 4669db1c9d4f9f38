"""Runs a program with a clock that shows more seconds than pass: `paced.py PACE MONOTONIC SHOWN MODULE ARGS…`.

At the instant MONOTONIC (seconds of the machine's monotonic clock) the clock shows SHOWN (seconds since the epoch);
from then on PACE seconds are shown for each that passes. Programs started with the same three numbers agree.
Sleeps and time-outs of sockets last as long as ever. MODULE's `main` gets ARGS.
"""

import sys
import threading
import time
from importlib import import_module

import time_machine


def run(pace: float, monotonic: float, shown: float) -> None:
    def now() -> float:
        return shown + pace * (time.monotonic() - monotonic)

    clock = time_machine.travel(now(), tick=True).start()

    def advance() -> None:
        while True:
            clock.shift(max(now() - time.time(), 0))
            time.sleep(0.01)

    threading.Thread(target=advance, daemon=True).start()


if __name__ == "__main__":
    run(*(float(word) for word in sys.argv[1:4]))
    sys.exit(import_module(sys.argv[4]).main(sys.argv[5:]))
