"""Runs a program with a clock that shows more seconds than pass: `paced.py PACE MONOTONIC SHOWN JUMP MODULE ARGS…`.

At the instant MONOTONIC (seconds of the machine's monotonic clock) the clock shows SHOWN (seconds since the epoch);
from then on PACE seconds are shown for each that passes. Programs started with the same three numbers agree.
`time.sleep` counts shown seconds; time-outs of sockets and of threads last as long as ever. While the file JUMP exists,
the clock is wrong by the seconds that it holds. MODULE's `main` gets ARGS.
"""

import sys
import threading
import time
from importlib import import_module
from pathlib import Path

import time_machine


def run(pace: float, monotonic: float, shown: float, jump: str) -> None:
    pause = time.sleep

    def now() -> float:
        return shown + pace * (time.monotonic() - monotonic) + wrong_by(jump)

    clock = time_machine.travel(now(), tick=True).start()

    def advance() -> None:
        while True:
            ahead = now() - time.time()
            if ahead > 0 or ahead < -pace:  # a clock that is right never goes back
                clock.shift(ahead)
            pause(0.01)

    time.sleep = lambda seconds: pause(seconds / pace)
    threading.Thread(target=advance, daemon=True).start()


def wrong_by(path: str) -> float:
    """Seconds that the file holds, 0 where there is none."""
    try:
        return float(Path(path).read_text(encoding="ascii")) if path else 0.0
    except FileNotFoundError:
        return 0.0


if __name__ == "__main__":
    run(*(float(word) for word in sys.argv[1:4]), sys.argv[4])
    sys.exit(import_module(sys.argv[5]).main(sys.argv[6:]))
