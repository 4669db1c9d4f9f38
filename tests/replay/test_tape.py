"""The endless market: tiling, continuity, the path inside candles; checked against plain pandas."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freqtrade_mlpipe.exceptions import DataError
from freqtrade_mlpipe.replay.candles import OHLCV, Candles
from freqtrade_mlpipe.replay.tape import DAY_MS, HOUR_MS, Tape, make_tape
from tests.replay.markets_on_disk import random_walk

START = pd.Timestamp("2024-01-03 05:00", tz="UTC")
WEEKS = 3
MINUTE_MS = 60_000


def recording(hours: int = WEEKS * 168, **more: object) -> pd.DataFrame:
    return random_walk(START, START + pd.Timedelta(hours=hours), "1h", **more)


def as_candles(frame: pd.DataFrame) -> Candles:
    opened = pd.DatetimeIndex(frame["date"]).as_unit("ms").asi8
    return Candles(opened, frame[list(OHLCV)].to_numpy(float))


def tape_of(frame: pd.DataFrame, decimals: int = 2) -> Tape:
    return make_tape(as_candles(frame), HOUR_MS, decimals, "BTC/USDT")


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return recording()


@pytest.fixture(scope="module")
def tape(frame: pd.DataFrame) -> Tape:
    return tape_of(frame)


def detrended(frame: pd.DataFrame, decimals: int = 2) -> pd.DataFrame:
    """The same by a loop: each price times the drift that is still to come, at the last close's level."""
    n = len(frame)
    drift = np.log(frame["close"].iloc[-1] / frame["open"].iloc[0])
    rows = []
    for i, row in enumerate(frame.itertuples()):
        level = {"open": i, "high": i + 0.5, "low": i + 0.5, "close": i + 1}
        price = {
            name: round(getattr(row, name) * np.exp(drift * (1 - at / n)), decimals)
            for name, at in level.items()
        }
        highest, lowest = max(price.values()), min(price.values())
        rows.append({**price, "high": highest, "low": lowest, "volume": row.volume})
    return pd.DataFrame(rows)


def grid(first: int, count: int, length_ms: int) -> np.ndarray:
    return np.arange(first, first + count + 1, dtype=np.int64) * length_ms


@pytest.mark.parametrize("hours", [1, 4, 7, 24, 600])
def test_candles_of_whole_recorded_ones_are_those_of_the_repeated_recording(
    tape: Tape, frame: pd.DataFrame, hours: int
) -> None:
    turns = 6 if hours < 600 else 12
    repeated = pd.concat([detrended(frame)] * turns, ignore_index=True)
    groups = repeated.groupby(np.arange(len(repeated)) // hours)
    expected = groups.agg(
        {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    ).to_numpy()[:-1]
    found = tape.candles(grid(0, len(expected), hours * HOUR_MS))
    assert found[:, :4].tolist() == expected[:, :4].tolist()
    assert found[:, 4] == pytest.approx(expected[:, 4])
    before = tape.candles(grid(0, len(expected), hours * HOUR_MS) - 5 * tape.length_ms)
    assert before[:, :4].tolist() == expected[:, :4].tolist()


def test_no_jump_at_the_seam(tape: Tape, frame: pd.DataFrame) -> None:
    assert abs(np.log(frame["close"].iloc[-1] / frame["open"].iloc[0])) > 0.03  # else no test
    around = tape.candles(grid(len(tape) - 1, 2, HOUR_MS))
    assert around[0, 3] == pytest.approx(around[1, 0], abs=0.011)
    assert around[1, 0] == pytest.approx(frame["close"].iloc[-1], abs=0.011)


def test_jumps_between_candles_are_the_recorded_ones(tape: Tape, frame: pd.DataFrame) -> None:
    found = tape.candles(grid(0, len(tape), HOUR_MS))
    recorded = frame["open"].to_numpy()[1:] / frame["close"].to_numpy()[:-1]
    assert found[1:, 0] / found[:-1, 3] == pytest.approx(recorded, abs=3e-4)


def test_a_price_depends_on_the_moment_only(tape: Tape) -> None:
    moments = [0, 1, 59_999, 17 * HOUR_MS + 123_456, tape.length_ms - 1]
    for at in moments:
        assert (
            tape.price(at) == tape.price(at + tape.length_ms) == tape.price(at - 3 * tape.length_ms)
        )
    together = tape.candles(grid(50, 100, 7 * MINUTE_MS))
    alone = [tape.candles(grid(50 + i, 1, 7 * MINUTE_MS))[0] for i in range(100)]
    assert np.array_equal(together, np.array(alone))


def fingerprint(seed: int) -> str:
    tape = tape_of(recording(seed=seed))
    values = tape.candles(grid(28_000_000, 3000, 7 * MINUTE_MS))
    return hashlib.sha256(values.tobytes()).hexdigest()


def test_every_process_computes_the_same_candles() -> None:
    code = "from tests.replay.test_tape import fingerprint; print(fingerprint(4))"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root,
        env={"PYTHONPATH": str(root), "PYTHONHASHSEED": "7"},
    )  # fmt: skip
    assert done.stdout.strip() == fingerprint(4)
    assert fingerprint(5) != fingerprint(4)


@settings(max_examples=60, deadline=None)
@given(
    begin=st.integers(-(10**10), 10**13),
    length=st.sampled_from([1, 1_000, MINUTE_MS, 7 * MINUTE_MS, 90 * MINUTE_MS, DAY_MS + 12_345]),
    parts=st.integers(1, 12),
)
def test_short_candles_add_up_to_long_ones(tape: Tape, begin: int, length: int, parts: int) -> None:
    edges = begin + np.arange(parts + 1, dtype=np.int64) * length
    short, (whole,) = tape.candles(edges), tape.candles(edges[[0, -1]])
    assert whole[0] == short[0, 0]
    assert whole[1] == short[:, 1].max()
    assert whole[2] == short[:, 2].min()
    assert whole[3] == short[-1, 3]
    assert whole[4] == pytest.approx(short[:, 4].sum(), rel=1e-6, abs=1e-6)
    assert (short[:, 1] >= short[:, [0, 3]].max(axis=1)).all()
    assert (short[:, 2] <= short[:, [0, 3]].min(axis=1)).all()


def test_the_unfinished_candle_grows_into_the_finished_one(tape: Tape) -> None:
    begin = 77 * HOUR_MS
    moments = begin + np.arange(0, HOUR_MS + 1, 10_000)
    growing = np.array([tape.candles(np.array([begin, now]))[0] for now in moments])
    assert (growing[:, 0] == growing[0, 0]).all()
    assert (np.diff(growing[:, 1]) >= 0).all()
    assert (np.diff(growing[:, 2]) <= 0).all()
    assert (np.diff(growing[:, 4]) >= 0).all()
    assert growing[-1].tolist() == tape.candles(grid(77, 1, HOUR_MS))[0].tolist()
    # The price moves, up and down, and is what the unfinished candle closes at.
    steps = np.diff([tape.price(int(now)) for now in moments[:-1]])
    assert (steps > 0).sum() > 10
    assert (steps < 0).sum() > 10
    assert growing[1:-1, 3].tolist() == [tape.price(int(now)) for now in moments[1:-1]]
    assert growing[0].tolist() == [*growing[0, :1].tolist() * 4, 0.0]


def test_extremes_are_reached_within_the_candle_and_never_passed(tape: Tape) -> None:
    hours = tape.candles(grid(0, 200, HOUR_MS))
    minutes = tape.candles(grid(0, 200 * 60, MINUTE_MS)).reshape(200, 60, 5)
    assert minutes[:, :, 1].max(axis=1).tolist() == hours[:, 1].tolist()
    assert minutes[:, :, 2].min(axis=1).tolist() == hours[:, 2].tolist()
    # Not a straight line: minutes within an hour go both ways.
    ups = (minutes[:, :, 3] > minutes[:, :, 0]).mean(axis=1)
    assert (ups > 0.1).all()
    assert (ups < 0.9).all()


@pytest.mark.parametrize(("price", "decimals"), [(60_000.0, 2), (0.00002, 8), (1.0, 4)])
@pytest.mark.parametrize("factor", [1e-4, 1.0, 1e4])
def test_prices_are_positive_on_the_grid_and_without_trend(
    price: float, decimals: int, factor: float
) -> None:
    hours = WEEKS * 168
    frame = recording(price=price, decimals=12)
    trend = factor ** (np.arange(hours + 1) / hours)
    for name, at in (("open", 0), ("close", 1)):
        frame[name] *= trend[at : hours + at]
    frame["high"] = frame[["open", "high", "close"]].max(axis=1)
    frame["low"] = frame[["open", "close"]].min(axis=1)
    tape = tape_of(frame, decimals)
    values = tape.candles(grid(0, 4 * hours * 4, 15 * MINUTE_MS))
    assert (values[:, :4] > 0).all()
    assert values[:, :4] == pytest.approx(values[:, :4].round(decimals), rel=1e-12)
    turns = values[:, 3].reshape(4, -1)
    assert np.array_equal(turns[0], turns[3])
    jump = np.abs(np.log(values[1:, 0] / values[:-1, 3])).max()
    assert jump < 0.001 + 3 * 10.0**-decimals / values[:, 2].min()


def test_missing_candles_are_flat_and_without_volume(frame: pd.DataFrame) -> None:
    holes = [3, 100, 101, 102, 250]
    tape = tape_of(frame.drop(index=holes))
    values = tape.candles(grid(0, len(frame), HOUR_MS))
    for hole in holes:
        assert values[hole, 4] == 0
        # Flat but for the drift that was taken out.
        assert values[hole, :4] == pytest.approx([values[hole - 1, 3]] * 4, rel=1e-3)
    assert len(tape) == len(frame)
    assert (values[:, 4] == 0).sum() == len(holes)


def test_nothing_is_played_from_before_a_long_gap(frame: pd.DataFrame) -> None:
    early = frame.assign(date=frame["date"] - pd.Timedelta(days=60))
    alone, both = tape_of(frame), tape_of(pd.concat([early, frame], ignore_index=True))
    assert both.start_ms == alone.start_ms
    assert np.array_equal(both.ohlc, alone.ohlc)


def test_whole_weeks_are_played_the_latest_ones() -> None:
    frame = recording(hours=2 * 168 + 50)
    tape = tape_of(frame)
    assert tape.length_ms == 14 * DAY_MS
    assert pd.Timestamp(tape.start_ms, unit="ms", tz="UTC") == frame["date"].iloc[50]
    short = tape_of(recording(hours=5 * 24 + 7))
    assert short.length_ms == 5 * DAY_MS


def test_prices_that_cannot_be_count_as_missing(frame: pd.DataFrame) -> None:
    broken = frame.copy()
    broken.loc[40, "low"] = 0.0
    broken.loc[41, ["open", "close"]] = -5.0
    tape, without = tape_of(broken), tape_of(frame.drop(index=[40, 41]))
    assert np.array_equal(tape.ohlc, without.ohlc)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda frame: frame.iloc[::-1], "not ascending"),
        (lambda frame: pd.concat([frame, frame]), "not ascending"),
        (lambda frame: frame.head(99), "99 recorded candles"),
        (lambda frame: frame.head(0), "nothing could be read"),
        (lambda frame: frame.assign(close=0.0), "nothing could be read"),
    ],
)
def test_recordings_that_cannot_be_played_say_why(
    frame: pd.DataFrame, damage: object, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        tape_of(damage(frame))
