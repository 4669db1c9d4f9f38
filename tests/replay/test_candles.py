"""Reading candle files: slices, resampling, changed and missing files."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from freqtrade_mlpipe.exceptions import DataError
from freqtrade_mlpipe.replay.candles import OHLCV, Candles, CandleStore
from freqtrade_mlpipe.replay.resample import resample
from tests.replay.markets_on_disk import (
    FUNDING_TIMEFRAME,
    PERPETUALS,
    SPOT_PAIRS,
    funding,
    random_walk,
    write,
)

HOUR_MS = 3_600_000
MONDAY = pd.Timestamp("2024-01-01", tz="UTC")


@given(
    n=st.integers(0, 30),
    start=st.none() | st.integers(-5, 35),
    end=st.none() | st.integers(-5, 35),
    limit=st.none() | st.integers(1, 40),
)
def test_window_is_the_filter_cut_at_the_asked_for_end(
    n: int, start: int | None, end: int | None, limit: int | None
) -> None:
    candles = Candles(np.arange(n, dtype=np.int64) * 10, np.arange(n * 5.0).reshape(n, 5))
    scaled = [None if value is None else value * 10 for value in (start, end)]
    found = candles.window(*scaled, limit)
    kept = [t for t in range(n) if (start is None or t >= start) and (end is None or t <= end)]
    if limit is not None:
        kept = kept[-limit:] if start is None else kept[:limit]
    assert found.open_ms.tolist() == [10 * t for t in kept]
    assert found.values[:, 0].tolist() == [5.0 * t for t in kept]


def test_store_finds_every_recorded_series(spot_candles: Path, futures_candles: Path) -> None:
    spot, futures = CandleStore(spot_candles), CandleStore(futures_candles)
    assert spot.pairs("spot") == list(SPOT_PAIRS)
    assert spot.timeframes("BTC/USDT", "spot") == ["5m", "1h"]
    assert spot.pairs("futures") == []
    assert futures.pairs("futures") == list(PERPETUALS)
    assert futures.pairs("spot") == []
    assert futures.timeframes(PERPETUALS[0], "funding_rate") == [FUNDING_TIMEFRAME]


def test_store_reads_what_is_in_the_file(spot_candles: Path) -> None:
    frame = pd.read_feather(spot_candles / "ETH_USDT-1h.feather")
    candles = CandleStore(spot_candles).read("ETH/USDT", "1h", "spot")
    assert (candles.values == frame[list(OHLCV)].to_numpy()).all()
    assert pd.to_datetime(candles.open_ms, unit="ms", utc=True).tolist() == frame["date"].tolist()


@pytest.mark.parametrize("extension", ["parquet", "json", "json.gz"])
def test_store_reads_every_file_format_of_freqtrade(tmp_path: Path, extension: str) -> None:
    from freqtrade.data.history.datahandlers.idatahandler import get_datahandlerclass
    from freqtrade.enums import CandleType

    frame = random_walk(MONDAY, MONDAY + pd.Timedelta(days=2), "1h")
    handler = get_datahandlerclass(extension.replace(".", ""))(tmp_path)
    handler.ohlcv_store("BTC/USDT", "1h", frame, CandleType.SPOT)
    assert (tmp_path / f"BTC_USDT-1h.{extension}").exists()
    candles = CandleStore(tmp_path).read("BTC/USDT", "1h", "spot")
    assert candles.values == pytest.approx(frame[list(OHLCV)].to_numpy())


def test_store_reads_a_changed_file_again(tmp_path: Path) -> None:
    frame = random_walk(MONDAY, MONDAY + pd.Timedelta(days=2), "1h")
    path = write(frame, tmp_path, "BTC_USDT-1h")
    store = CandleStore(tmp_path)
    assert len(store.read("BTC/USDT", "1h", "spot")) == 48
    write(frame.head(20), tmp_path, "BTC_USDT-1h")
    os.utime(path, ns=(1, 1))
    assert len(store.read("BTC/USDT", "1h", "spot")) == 20


def test_store_says_so_when_a_file_disappears(tmp_path: Path) -> None:
    path = write(random_walk(MONDAY, MONDAY + pd.Timedelta(days=2), "1h"), tmp_path, "BTC_USDT-1h")
    store = CandleStore(tmp_path)
    assert store.pairs("spot") == ["BTC/USDT"]
    path.unlink()
    with pytest.raises(DataError, match="was removed"):
        store.read("BTC/USDT", "1h", "spot")


def test_store_reads_funding_rates_of_both_layouts(tmp_path: Path) -> None:
    rates = funding()
    name = f"futures/BTC_USDT_USDT-{FUNDING_TIMEFRAME}-funding_rate"
    write(rates, tmp_path, name)
    old = CandleStore(tmp_path).read("BTC/USDT:USDT", FUNDING_TIMEFRAME, "funding_rate")
    assert old.values.ravel().tolist() == rates["open"].tolist()
    pytest.importorskip("freqtrade.candle_columns", reason="needs a freqtrade with the new layout")
    current = rates.rename(columns={"open": "funding_rate"})[["date", "funding_rate"]]
    write(current, tmp_path, name)
    new = CandleStore(tmp_path).read("BTC/USDT:USDT", FUNDING_TIMEFRAME, "funding_rate")
    assert (new.values == old.values).all()


def test_store_names_what_is_recorded_instead(spot_candles: Path) -> None:
    with pytest.raises(DataError, match=r"No recorded 3m spot candles for BTC/USDT.*5m, 1h"):
        CandleStore(spot_candles).read("BTC/USDT", "3m", "spot")


@pytest.mark.parametrize("exists", [True, False])
def test_require_candles_names_the_directory(tmp_path: Path, exists: bool) -> None:
    empty = tmp_path / "empty"
    if exists:
        empty.mkdir()
    with pytest.raises(DataError, match=str(empty)):
        CandleStore(empty).require_candles()


@pytest.mark.parametrize(
    ("source", "timeframe"), [("3D", "1M"), ("2h", "3h"), ("1D", "4h"), ("7D", "1M")]
)
def test_candles_that_others_do_not_make_up_are_missing(
    tmp_path: Path, source: str, timeframe: str
) -> None:
    name = source.lower().replace("7d", "1w")
    frame = random_walk(MONDAY, MONDAY + pd.Timedelta(days=60), source)
    write(frame, tmp_path, f"BTC_USDT-{name}")
    with pytest.raises(DataError, match=f"recorded timeframes: {name}"):
        CandleStore(tmp_path).read("BTC/USDT", timeframe, "spot")


def naive_resample(frame: pd.DataFrame, floor: object, whole: object) -> list[list[float]]:
    """Group by the opening time that `floor` gives; keep groups that are `whole`."""
    groups: dict[object, list[list[float]]] = {}
    for date, *row in frame[["date", *OHLCV]].itertuples(index=False):
        groups.setdefault(floor(date), []).append(row)  # type: ignore[operator]
    result = []
    for opened, rows in groups.items():
        if whole(opened, len(rows)):  # type: ignore[operator]
            high, low = max(r[1] for r in rows), min(r[2] for r in rows)
            result.append([rows[0][0], high, low, rows[-1][3], sum(r[4] for r in rows)])
    return result


@pytest.mark.parametrize("offset_hours", [0, 1, 7])
def test_resampled_candles_are_those_fully_covered(offset_hours: int) -> None:
    start = MONDAY + pd.Timedelta(hours=offset_hours)
    frame = random_walk(start, start + pd.Timedelta(hours=50), "1h")
    open_ms = pd.DatetimeIndex(frame["date"]).as_unit("ms").asi8
    times, values = resample(open_ms, frame[list(OHLCV)].to_numpy(), "1h", "4h")
    expected = naive_resample(frame, lambda date: date.floor("4h"), lambda _, n: n == 4)
    assert values == pytest.approx(np.array(expected))
    assert (times % (4 * HOUR_MS) == 0).all()
    assert (np.diff(times) == 4 * HOUR_MS).all()


def test_weeks_begin_on_monday_and_months_on_the_first() -> None:
    frame = random_walk(MONDAY, pd.Timestamp("2024-03-15", tz="UTC"), "1D")
    open_ms = pd.DatetimeIndex(frame["date"]).as_unit("ms").asi8
    values = frame[list(OHLCV)].to_numpy()
    weeks, weekly = resample(open_ms, values, "1d", "1w")
    assert {day.day_name() for day in pd.to_datetime(weeks, unit="ms")} == {"Monday"}
    assert len(weeks) == 10  # 74 days: ten whole weeks
    assert weekly[0, 0] == values[0, 0]
    assert weekly[0, 3] == values[6, 3]
    months, monthly = resample(open_ms, values, "1d", "1M")
    assert [f"{day:%m-%d}" for day in pd.to_datetime(months, unit="ms")] == ["01-01", "02-01"]
    assert monthly[1, 3] == values[31 + 28, 3]


def test_a_span_without_candles_stays_empty_when_resampled() -> None:
    frame = random_walk(MONDAY, MONDAY + pd.Timedelta(hours=24), "1h")
    frame = pd.concat([frame.iloc[:8], frame.iloc[16:]])
    open_ms = pd.DatetimeIndex(frame["date"]).as_unit("ms").asi8
    times, _ = resample(open_ms, frame[list(OHLCV)].to_numpy(), "1h", "4h")
    assert [t // HOUR_MS % 24 for t in times] == [0, 4, 16, 20]
