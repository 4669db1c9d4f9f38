"""Lines for cron and systemd that retrain by themselves."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal

from freqtrade_mlpipe.config import timeframe_length
from freqtrade_mlpipe.exceptions import ConfigError

Every = Literal["hour", "day", "week"]

_CRON = {
    "hour": "{minute} * * * *",
    "day": "{minute} {hour} * * *",
    "week": "{minute} {hour} * * 0",
}
_CALENDAR = {
    "hour": "*-*-* *:{minute:02d}:00",
    "day": "*-*-* {hour:02d}:{minute:02d}:00",
    "week": "Sun *-*-* {hour:02d}:{minute:02d}:00",
}


@dataclass(frozen=True)
class Schedule:
    """A command, and when it runs: every hour, day or week (on Sunday), by the machine's clock."""

    command: tuple[str, ...]
    folder: Path
    every: Every
    hour: int
    minute: int

    def crontab(self) -> str:
        """A line for `crontab -e`.

        cron reads an unescaped per cent sign as the end of the line (crontab(5)).
        """
        when = _CRON[self.every].format(hour=self.hour, minute=self.minute)
        line = f"cd {shlex.quote(str(self.folder))} && {shlex.join(self.command)}"
        return f"{when} {line} >> retrain.log 2>&1".replace("%", r"\%")

    def service(self) -> str:
        """A systemd unit that runs the command once.

        Refused by the gates (3) is no failure; SIGINT lets the command say what it keeps.
        """
        words = " ".join(_systemd_word(word) for word in self.command)
        return "\n".join(
            [
                "[Unit]", "Description=Retrain the model, and deploy it if the gates let it pass",
                "After=network-online.target", "",
                "[Service]", "Type=oneshot", f"WorkingDirectory={_systemd_path(self.folder)}", f"ExecStart={words}",
                "SuccessExitStatus=3", "KillSignal=SIGINT", "Nice=10", "Environment=OMP_WAIT_POLICY=passive",
            ]
        )  # fmt: skip

    def timer(self) -> str:
        """The systemd timer of the unit; a run that was missed while the machine was off is made up for."""
        when = _CALENDAR[self.every].format(hour=self.hour, minute=self.minute)
        return "\n".join(
            ["[Unit]", "Description=When to retrain", "", "[Timer]", f"OnCalendar={when}", "Persistent=true", "",
             "[Install]", "WantedBy=timers.target"]
        )  # fmt: skip


def clock_time(text: str) -> tuple[int, int]:
    """Hour and minute of ``HH:MM``.

    Raises
    ------
    ConfigError
        For anything else.

    Examples
    --------
    >>> clock_time("03:30")
    (3, 30)
    """
    found = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", text)
    if found is None:
        raise ConfigError(f"--at takes a time of the day such as 03:30, found '{text}'.")
    return int(found[1]), int(found[2])


def age(text: str) -> timedelta:
    """A length such as 12h, 7d or 2w.

    Raises
    ------
    ConfigError
        For anything else.

    Examples
    --------
    >>> age("7d")
    datetime.timedelta(days=7)
    """
    try:
        return timeframe_length(text)
    except ConfigError:
        raise ConfigError(
            f"An age is a number of m, h, d or w, such as 7d, found '{text}'."
        ) from None


def absolute_files(words: Sequence[str]) -> list[str]:
    """The words of a command, those that are existing paths made absolute: cron starts elsewhere."""
    return [
        str(Path(word).resolve()) if "/" in word and Path(word).exists() else word for word in words
    ]


def _systemd_word(word: str) -> str:
    """Quoted as systemd.service(5) reads command lines, with no specifier and no variable in it."""
    plain = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return plain if re.fullmatch(r"[\w./:=,@+%-]+", plain) else f'"{plain}"'


def _systemd_path(path: Path) -> str:
    return str(path).replace("%", "%%")
