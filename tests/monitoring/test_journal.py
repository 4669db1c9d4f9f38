"""The live journal: complete, bounded, and never in the bot's way, whatever happens to its file."""

from __future__ import annotations

import math
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from freqtrade_mlpipe.exceptions import DataError
from freqtrade_mlpipe.monitoring import database as database_module
from freqtrade_mlpipe.monitoring.journal import LiveJournal, LivePrediction, journal_path
from tests.monitoring.rows import START, live


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(database_module, "_RETRY_SECONDS", (0.05,))
    monkeypatch.setattr(database_module, "_BUSY_SECONDS", 0.1)
    opened = LiveJournal(tmp_path / "live" / "bot.sqlite")
    yield opened
    opened.close()


def wait_until(true, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def test_reads_back_what_was_recorded_to_the_last_bit(journal: LiveJournal):
    features = (0.1, -3.5e-7, math.nan, 12.0)
    rows = [
        live(1, proba=0.123456789012345, features=features, role="challenger", version="4"),
        live(0, proba=math.nan, edge=math.nan, signal=0, do_predict=0, pair="ETH/USDT"),
    ]
    journal.record(rows)
    found = journal.read(features=True)
    assert found["date"].tolist() == [START, START + pd.Timedelta(hours=1)]
    assert str(found["date"].dt.tz) == "UTC"
    assert found["pair"].tolist() == ["ETH/USDT", "BTC/USDT"]
    assert found["proba"].tolist()[1] == 0.123456789012345
    assert np.isnan(found["proba"].tolist()[0])
    assert found["features"][0] is None
    np.testing.assert_array_equal(found["features"][1], np.asarray(features, np.float32))
    assert found["role"].tolist() == ["production", "challenger"]
    assert set(found.columns) > set(LivePrediction.__dataclass_fields__) - {"features"}


def test_selects_by_time_role_and_digest(journal: LiveJournal):
    journal.record([live(hour, role=role) for hour in range(5) for role in ("production", "challenger")])  # fmt: skip
    journal.record([live(9, digest="e" * 64)])
    hours = [START + pd.Timedelta(hours=h) for h in range(5)]
    found = journal.read(start=hours[1], end=hours[3], role="challenger")
    assert found["date"].tolist() == hours[1:4]
    assert len(journal.read(digest="e" * 64)) == 1


def test_second_prediction_of_a_candle_is_counted_and_the_first_one_stays(journal: LiveJournal):
    journal.record([live(0, edge=0.1)])
    journal.record([live(0, edge=0.3, version="4")])
    journal.record([live(0, edge=0.2, version="5")])
    row = journal.read().iloc[0]
    assert (row["edge"], row["version"]) == (0.1, "3")
    assert (row["repeats"], row["repeat_version"], row["repeat_edge"]) == (2, "5", 0.2)


def test_no_journal_is_an_error_that_names_the_file(tmp_path: Path):
    with pytest.raises(DataError, match=r"nobody\.sqlite"):
        LiveJournal(tmp_path / "nobody.sqlite").read()
    assert not list(tmp_path.iterdir())


def test_record_does_not_raise_and_says_once_what_is_wrong(journal: LiveJournal, caplog):
    wrong = live(0, date=pd.Timestamp("2026-01-01"))
    journal.record([wrong])
    journal.record([wrong])
    assert len([r for r in caplog.records if "no time zone" in r.message]) == 1


def test_recording_takes_microseconds_while_the_file_is_locked(journal: LiveJournal, caplog):
    journal.record([live(0)])
    assert journal.flush()
    holder = sqlite3.connect(journal.path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    started = time.process_time()
    for hour in range(1, 101):
        journal.record([live(hour)])
    assert time.process_time() - started < 0.5
    wait_until(lambda: journal.database.problem is not None)
    assert "locked" in journal.database.problem
    holder.execute("ROLLBACK")
    holder.close()
    wait_until(lambda: journal.database.problem is None)
    assert len(journal.read()) == 101
    assert journal.database.n_lost == 0
    said = [r.message for r in caplog.records if "bot.sqlite" in r.message]
    assert len(said) == 2, said


@pytest.mark.parametrize("damage", ["junk", "middle", "empty header"])
def test_damaged_file_is_set_aside_and_a_new_one_begun(tmp_path: Path, damage: str):
    path = tmp_path / "bot.sqlite"
    first = LiveJournal(path)
    first.record([live(hour, features=(1.0,) * 200) for hour in range(500)])
    first.close()
    content = bytearray(path.read_bytes())
    if damage == "junk":
        content = bytearray(os.urandom(20_000))
    elif damage == "middle":
        content[4096 * 3 : 4096 * 20] = os.urandom(4096 * 17)
    else:
        content[:100] = bytes(100)
    path.write_bytes(content)
    again = LiveJournal(path)
    again.record([live(7)])
    wait_until(again.flush)
    assert again.read()["date"].tolist() == [START + pd.Timedelta(hours=7)]
    again.close()
    assert (tmp_path / "bot.sqlite.corrupt-1").read_bytes() == bytes(content)


def test_damaged_files_that_are_kept_do_not_fill_the_disk(tmp_path: Path):
    path = tmp_path / "bot.sqlite"
    for number in range(6):
        path.write_bytes(b"no database" * 1000 + bytes([number]))
        database_module.set_aside(path)
    assert len(list(tmp_path.iterdir())) == 3


def test_full_disk_keeps_predictions_in_memory_until_there_is_room(journal: LiveJournal):
    journal.record([live(0)])
    assert journal.flush()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, limits[1]))
        journal.record([live(hour, features=(1.0,) * 300) for hour in range(1, 400)])
        wait_until(lambda: journal.database.problem is not None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    wait_until(lambda: journal.database.problem is None)
    assert len(journal.read()) == 400


def test_waiting_predictions_are_bounded_and_losses_counted(journal: LiveJournal, monkeypatch):
    journal.path.parent.parent.joinpath("live").write_text("a file where the folder should be")
    for start in range(0, 30_000, 1_000):
        journal.record([live(hour) for hour in range(start, start + 1_000)])
    wait_until(lambda: journal.database.problem is not None)
    # Rows that are being written count as lost when they come back and find no room.
    wait_until(lambda: journal.database.n_lost >= 10_000)
    assert not journal.flush(0.1)


def test_file_stays_below_its_limit_and_the_newest_stay(tmp_path: Path):
    limit = 600_000
    journal = LiveJournal(tmp_path / "bot.sqlite", max_bytes=limit)
    for start in range(0, 10_000, 500):
        journal.record([live(h, features=(0.5,) * 50) for h in range(start, start + 500)])
        assert journal.flush()
    found = journal.read()
    journal.close()
    assert (tmp_path / "bot.sqlite").stat().st_size < 3 * limit
    assert 500 < len(found) < 5_000
    assert found["date"].max() == START + pd.Timedelta(hours=9_999)
    assert found["date"].is_monotonic_increasing


def test_killed_bot_loses_no_prediction_that_was_written(tmp_path: Path):
    path = tmp_path / "bot.sqlite"
    script = f"""
import sys
from freqtrade_mlpipe.monitoring.journal import LiveJournal
from tests.monitoring.rows import live
journal = LiveJournal({str(path)!r})
for hour in range(10_000):
    journal.record([live(hour, features=(1.0,) * 100)])
    if hour % 50 == 49:
        journal.flush()
        print(hour, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 499:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    journal = LiveJournal(path)
    found = journal.read(features=True)
    assert len(found) >= 500
    assert len(set(found["date"])) == len(found)
    journal.record([live(20_000)])
    assert len(journal.read()) == len(found) + 1
    journal.close()


def test_two_bots_of_one_name_write_to_one_file(tmp_path: Path):
    one, two = (LiveJournal(tmp_path / "bot.sqlite") for _ in range(2))
    for hour in range(0, 200, 2):
        one.record([live(hour)])
        two.record([live(hour + 1)])
    one.close()
    two.close()
    assert len(one.read()) == 200


def test_name_of_a_bot_cannot_leave_the_folder(tmp_path: Path):
    path = journal_path(tmp_path, "../../etc/bot")
    assert path.parent == tmp_path / "live"
    assert journal_path(tmp_path, None).name == "freqtrade.sqlite"
