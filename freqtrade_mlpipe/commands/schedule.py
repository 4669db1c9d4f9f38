"""`schedule`: ready lines for cron and systemd."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from freqtrade_mlpipe.commands import stdout
from freqtrade_mlpipe.commands.options import add_options
from freqtrade_mlpipe.commands.table import COMMANDS
from freqtrade_mlpipe.retraining.schedule import Every, Schedule, absolute_files, clock_time

_NAME = "mlpipe-retrain"


def start_schedule(words: Sequence[str]) -> int:
    """Print the lines; what is not an option of ours is one of `retrain`, and checked as such."""
    parser = ArgumentParser(
        prog="freqtrade-mlpipe schedule",
        description="Print a crontab line and systemd units that run `retrain` with the options given.",
        epilog="All other options are those of `freqtrade-mlpipe retrain`, such as -c config.json --if-older-than 7d "
        "--promote. Nothing is installed.",
    )
    parser.add_argument("--every", choices=get_args(Every), default="day", help="Default: day.")
    parser.add_argument(
        "--at", default="03:30", metavar="HH:MM", help="By the machine's clock (default: 03:30)."
    )
    own, rest = parser.parse_known_args(list(words))
    retrain = next(row for row in COMMANDS if row.name == "retrain")
    checked = ArgumentParser(prog="freqtrade-mlpipe schedule … retrain")
    add_options(checked, retrain.options)
    checked.parse_args(rest)
    hour, minute = clock_time(own.at)
    command = (sys.executable, "-m", "freqtrade_mlpipe.main", "retrain", *absolute_files(rest))
    stdout.write(_text(Schedule(command, Path.cwd(), own.every, hour, minute)))
    return 0


def _text(schedule: Schedule) -> str:
    units = "~/.config/systemd/user"
    return (
        "# New candles must be there first: run `freqtrade download-data` before, in the same way.\n\n"
        f"# crontab -e\n{schedule.crontab()}\n\n"
        f"# {units}/{_NAME}.service\n{schedule.service()}\n\n"
        f"# {units}/{_NAME}.timer\n{schedule.timer()}\n\n"
        f"# systemctl --user daemon-reload && systemctl --user enable --now {_NAME}.timer\n"
    )
