"""Lines for cron and systemd: what the shell, cron and systemd make of them is the command that was meant."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from freqtrade_mlpipe.exceptions import ConfigError
from freqtrade_mlpipe.retraining.schedule import Schedule, absolute_files, age, clock_time

AWKWARD = ("python", "retrain", "--strategy", "My Strategy", "100%", "it's", 'a"b', "$HOME")


def schedule(command=("python", "retrain"), every="day", folder=Path("/srv/bot")) -> Schedule:
    return Schedule(tuple(command), folder, every, 3, 30)


@pytest.mark.parametrize(
    "every, when", [("hour", "30 * * * *"), ("day", "30 3 * * *"), ("week", "30 3 * * 0")]
)
def test_crontab_says_when(every, when):
    assert schedule(every=every).crontab().startswith(f"{when} cd /srv/bot && ")


def test_cron_and_the_shell_run_the_command_as_given(tmp_path):
    """cron takes the backslash from a per cent sign, then hands the rest to sh."""
    folder = tmp_path / "my bot"
    folder.mkdir()
    line = schedule(("printf", "%s\\n", *AWKWARD), folder=folder).crontab()
    command = line.split(" ", 5)[5].replace(r"\%", "%")
    subprocess.run(["sh", "-c", command], check=True)
    assert (folder / "retrain.log").read_text().splitlines() == list(AWKWARD)


def test_systemd_units_say_what_and_when():
    service, timer = schedule(AWKWARD).service(), schedule(every="week").timer()
    (line,) = [line for line in service.splitlines() if line.startswith("ExecStart=")]
    read = line.removeprefix("ExecStart=").replace("%%", "%").replace("$$", "$")
    assert shlex.split(read) == list(AWKWARD)
    assert "SuccessExitStatus=3" in service
    assert "OnCalendar=Sun *-*-* 03:30:00" in timer
    assert "Persistent=true" in timer


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
@pytest.mark.parametrize("every", ["hour", "day", "week"])
def test_systemd_understands_the_calendar(every):
    (line,) = [x for x in schedule(every=every).timer().splitlines() if x.startswith("OnCalendar")]
    subprocess.run(["systemd-analyze", "calendar", line.partition("=")[2]], check=True)


def test_paths_are_absolute_and_other_words_as_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "config.json").write_text("{}")
    words = ["-c", "sub/config.json", "--pairs", "BTC/USDT"]
    assert absolute_files(words) == ["-c", str(tmp_path / "sub" / "config.json"), *words[2:]]


@pytest.mark.parametrize("text", ["7", "d", "7 days", "1M", ""])
def test_an_age_that_is_none_is_refused(text):
    with pytest.raises(ConfigError, match="such as 7d"):
        age(text)


@pytest.mark.parametrize("text", ["24:00", "3", "03:60", "noon"])
def test_a_time_of_the_day_that_is_none_is_refused(text):
    with pytest.raises(ConfigError, match="such as 03:30"):
        clock_time(text)
