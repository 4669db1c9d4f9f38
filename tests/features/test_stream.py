"""A stream gives, bit for bit, what `transform` gives on all candles since it was opened."""

from __future__ import annotations

import copy
from dataclasses import replace

import cloudpickle
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freqtrade_mlpipe.config import FeatureConfig
from freqtrade_mlpipe.exceptions import DataError
from freqtrade_mlpipe.features import FeatureEngineer, FeatureStream
from freqtrade_mlpipe.features import _program as program
from freqtrade_mlpipe.features._windows import lag, rolling_sum
from freqtrade_mlpipe.features.indicator import Candles, FeatureColumn
from freqtrade_mlpipe.features.stream import _FEWEST_TOGETHER, Candle, update_together
from freqtrade_mlpipe.synthetic import Market, generate_market
from tests.features.market import PRICES, flat, markets, needs_handles, random_walk, real

ENGINEER = FeatureEngineer()
NEEDED = ENGINEER.startup_candles + 1
SMALL = FeatureConfig(short_period=3, medium_period=5, long_period=9)


def candles_of(df: pd.DataFrame) -> list[Candle]:
    """Rows of the frame as a stream takes them."""
    seconds = df["date"].dt.as_unit("s").astype(np.int64).tolist()
    return list(zip(seconds, *(df[name].tolist() for name in (*PRICES, "volume")), strict=True))


def assert_streams(
    df: pd.DataFrame, n_window: int = NEEDED + 3, engineer: FeatureEngineer = ENGINEER
) -> None:
    """Open on the first candles, go on with the others, alone and with others: all rows are those of the whole."""
    whole = engineer.transform(df).to_numpy()
    stream = FeatureStream(engineer.columns)
    block = stream.open(df.iloc[:n_window])
    rows = [stream.update(candle) for candle in candles_of(df)[n_window:]]
    found = np.concatenate([block, np.array(rows)])
    same = (found == whole) | (np.isnan(found) & np.isnan(whole))
    names = engineer.get_feature_names()
    assert not {name for name, good in zip(names, same.all(axis=0), strict=True) if not good}
    assert found.dtype == np.float32
    assert np.isfinite(found[n_window:]).all()
    assert_together(df, n_window, engineer, whole)


def assert_together(
    df: pd.DataFrame, n_window: int, engineer: FeatureEngineer, whole: np.ndarray
) -> None:
    """Streams that were opened one candle after the other: first alone, then together."""
    streams = []
    for end in range(n_window, len(df)):
        if len(streams) < 2 * _FEWEST_TOGETHER:
            streams.append(FeatureStream(engineer.columns))
            streams[-1].open(df.iloc[:end])
        rows = update_together(streams, candles_of(df.iloc[end : end + 1]) * len(streams))
        np.testing.assert_array_equal(rows, [whole[end]] * len(streams))


def with_dates(df: pd.DataFrame) -> pd.DataFrame:
    return df.assign(date=pd.date_range("2024-02-20", periods=len(df), freq="h", tz="UTC"))


MARKETS = {
    "walk": random_walk(NEEDED + 500, seed=1),
    "untraded": random_walk(NEEDED + 500, seed=2, untraded_share=0.3, burst=10.0),
    "tiny": random_walk(NEEDED + 300, seed=3, level=1e-8),
    "coarse grid": random_walk(NEEDED + 300, seed=4, level=1e-6, tick=1e-8),
    "wild": random_walk(NEEDED + 300, seed=5, volatility=0.5),
    "still": random_walk(NEEDED + 300, seed=6, volatility=1e-15),
    "daily": random_walk(NEEDED + 300, seed=7, minutes=1440),
    "flat": flat(NEEDED + 150),
    "flat, traded": flat(NEEDED + 150, price=60_000.0, volume=3.3),
    "no volume": random_walk(NEEDED + 150).assign(volume=0.0),
    "extreme volume": random_walk(NEEDED + 151).assign(
        volume=([1e300, 1e-300] * NEEDED)[: NEEDED + 151]
    ),
    "volume begins": random_walk(NEEDED + 300).assign(
        volume=[0.0] * (NEEDED + 50) + [1e-30, 0.0, 7.7e9] * 83 + [1.0]
    ),
    "then flat": with_dates(pd.concat([random_walk(NEEDED + 20), flat(200, price=97.3)])),
    "from flat": with_dates(pd.concat([flat(NEEDED + 20, price=97.3), random_walk(300)])),
    "with gaps": random_walk(NEEDED + 400).drop(index=[NEEDED + 9, *range(NEEDED + 30, NEEDED + 90)]),
    "integers": random_walk(NEEDED + 150, level=1000.0, tick=1.0).astype(dict.fromkeys(PRICES, int)),
}  # fmt: skip


@pytest.mark.parametrize("name", MARKETS)
def test_every_column_of_a_stream_equals_transform(name: str) -> None:
    assert_streams(MARKETS[name])


@pytest.mark.parametrize("signal", [0.0, 1.0])
def test_stream_of_a_synthetic_market_equals_transform(signal: float) -> None:
    for df in generate_market(Market(pairs=("A", "B"), n_candles=1200, signal=signal)).values():
        assert_streams(df, 700)


@pytest.mark.parametrize(
    "name", ["binance/BTC_USDT-1h", "binance/SOL_USDT-5m", "kraken/ETH_USD-1h", "binance/BTC_USDT-15m"]
)  # fmt: skip
def test_stream_of_a_real_market_equals_transform(name: str) -> None:
    assert_streams(real(name, 3000, 2000), 999)


@settings(max_examples=25, deadline=None)
@given(df=markets(NEEDED + 80), n_window=st.integers(NEEDED, NEEDED + 60))
def test_stream_of_any_market_equals_transform(df: pd.DataFrame, n_window: int) -> None:
    assert_streams(df, n_window)


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        FeatureConfig(short_period=2, medium_period=3, long_period=4),
        FeatureConfig(short_period=10, medium_period=30, long_period=120),
        FeatureConfig(short_period=12, medium_period=24, long_period=64),
        FeatureConfig(include=("rsi", "hour_sin", "volume_rank")),
        FeatureConfig(include=("weekend",)),
        FeatureConfig(exclude=("psar_distance", "rsi"), include_time_features=False),
    ],
    ids=["3-5-9", "2-3-4", "10-30-120", "12-24-64", "some", "one", "without"],
)
def test_stream_follows_the_configuration(config: FeatureConfig) -> None:
    engineer = FeatureEngineer(config)
    needed = engineer.startup_candles + 1
    df = random_walk(needed + 200, seed=8, untraded_share=0.05, burst=10.0)
    assert_streams(df, needed, engineer)


@pytest.mark.parametrize("column", ENGINEER.columns, ids=lambda column: column.name)
def test_column_alone_streams_from_its_own_warmup(column: FeatureColumn) -> None:
    engineer = FeatureEngineer(FeatureConfig(include=(column.name,)))
    df = random_walk(column.warmup + 151, seed=9, untraded_share=0.1, burst=10.0)
    assert_streams(df, column.warmup + 1, engineer)


@needs_handles
@pytest.mark.parametrize("config", [FeatureConfig(), SMALL], ids=["default", "3-5-9"])
def test_no_column_of_the_catalogue_is_recomputed(config: FeatureConfig) -> None:
    recomputed = FeatureStream(FeatureEngineer(config).columns).recomputed
    assert [column.name for column in recomputed] == []


def _last_digit(c: Candles, n: int) -> np.ndarray:
    """A row that takes its arrays apart, and remembers all of them."""
    return np.cumsum(np.array([float(str(value)[-1]) for value in c.close])) % n


@needs_handles
def test_row_that_cannot_be_traced_is_recomputed() -> None:
    engineer = FeatureEngineer(FeatureConfig(include=("return", "roc")))
    odd = replace(engineer.columns[0].indicator, name="odd", compute=_last_digit)
    columns = (engineer.columns[0], FeatureColumn("odd_7", odd, (7,), 13), *engineer.columns[1:])
    df = random_walk(400, seed=1)
    stream = FeatureStream(columns)
    block = stream.open(df.iloc[:300])
    rows = np.array([stream.update(candle) for candle in candles_of(df)[300:]])
    assert [column.name for column in stream.recomputed] == ["odd_7"]
    found = np.concatenate([block, rows])
    expected = _last_digit(Candles(df), 7).astype(np.float32)
    np.testing.assert_array_equal(found[13:, 1], expected[13:])
    assert np.isnan(found[:13, 1]).all()
    np.testing.assert_array_equal(np.delete(found, 1, axis=1), engineer.transform(df).to_numpy())


def test_without_handles_of_talib_its_columns_are_recomputed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(program, "carried", lambda kernel: not kernel.name.startswith("talib."))
    program.compile_program.cache_clear()
    try:
        engineer = FeatureEngineer(SMALL)
        stream = FeatureStream(engineer.columns)
        names = {column.name for column in stream.recomputed}
        assert {"rsi_3", "ema_distance_5", "range_width_9"} < names
        assert not {"return_1", "volatility_9", "hour_sin"} & names
        assert_streams(
            random_walk(engineer.startup_candles + 40), engineer.startup_candles + 9, engineer
        )
    finally:
        program.compile_program.cache_clear()


def test_values_that_float32_cannot_hold_become_its_largest() -> None:
    df = random_walk(NEEDED + 60, seed=2)
    df.loc[NEEDED + 20, ["close", "high"]] *= 1e60
    df.loc[NEEDED + 30 :, PRICES] *= 1e50
    assert_streams(df)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"close": np.nan}, "NaN or infinite close"),
        ({"volume": np.inf}, "NaN or infinite volume"),
        ({"open": 0.0}, "open of zero or less"),
        ({"high": 1.0}, "high below low"),
        ({"volume": -1.0}, "negative volume"),
        ({"close": 1e-300, "low": 1e-300}, "too far from the first"),
        ({"close": 1e308, "high": 1e308}, "too far from the first"),
    ],
)  # fmt: skip
def test_invalid_candle_is_refused_and_changes_nothing(change: dict, message: str) -> None:
    df = random_walk(NEEDED + 2)
    stream = FeatureStream(ENGINEER.columns)
    stream.open(df.iloc[:-2])
    bad = df.copy()
    for name, value in change.items():
        bad.loc[NEEDED, name] = value
    with pytest.raises(DataError, match=message):
        stream.update(candles_of(bad)[-2])
    rows = [stream.update(candle) for candle in candles_of(df)[-2:]]
    np.testing.assert_array_equal(rows, ENGINEER.transform(df).to_numpy()[-2:])


def test_streams_that_are_updated_together_have_the_rows_of_each_alone() -> None:
    markets = [df.iloc[: NEEDED + 150] for df in MARKETS.values()] * 3  # more than fit one board
    together, alone = ([FeatureStream(ENGINEER.columns) for _ in markets] for _ in range(2))
    for df, *both in zip(markets, together, alone, strict=True):
        for stream in both:
            stream.open(df.iloc[: NEEDED + 3])
    for row in range(NEEDED + 3, NEEDED + 150):
        candles = [candles_of(df.iloc[row : row + 1])[0] for df in markets]
        rows = update_together(together, candles)
        expected = [stream.update(candle) for stream, candle in zip(alone, candles, strict=True)]
        np.testing.assert_array_equal(rows, expected)


def test_number_that_two_columns_remember_for_the_same_time_is_found_by_both() -> None:
    # One adds pairs of closes from two candles apart, the other takes what such a pair was two candles ago.
    computes = (lambda c: rolling_sum(c.close, 4), lambda c: lag(rolling_sum(c.close, 2), 2))
    row = ENGINEER.columns[0].indicator
    columns = tuple(
        FeatureColumn(name, replace(row, name=name, compute=compute), (), 4)
        for name, compute in zip("ab", computes, strict=True)
    )
    df = random_walk(80)
    streams = [FeatureStream(columns) for _ in range(_FEWEST_TOGETHER)]
    for stream in streams:
        stream.open(df.iloc[:60])
    for row_number in range(60, 80):
        candles = candles_of(df.iloc[row_number : row_number + 1])
        rows = update_together(streams, candles * len(streams))
        expected = [compute(Candles(df))[row_number] for compute in computes]
        np.testing.assert_array_equal(rows, [np.float32(expected)] * len(streams))


@pytest.mark.parametrize("n_good", [0, 1, 2 * _FEWEST_TOGETHER])
def test_streams_that_refuse_a_candle_are_left_out_and_have_not_changed(n_good: int) -> None:
    df = random_walk(NEEDED + 2)
    whole, (bad, good) = ENGINEER.transform(df).to_numpy(), candles_of(df)[-2:]
    streams = [FeatureStream(ENGINEER.columns) for _ in range(n_good + 2)]
    for stream in streams[1:]:
        stream.open(df.iloc[:-2])
    candles = [bad] * len(streams)
    candles[1] = (*bad[:-1], -1.0)
    rows = update_together(streams, candles)
    assert rows[:2] == [None, None]
    assert all((row == whole[-2]).all() for row in rows[2:])
    assert (streams[1].update(bad) == whole[-2]).all()
    rows = update_together(streams[1:], [good] * (n_good + 1))
    assert all((row == whole[-1]).all() for row in rows)


@pytest.mark.parametrize(("ago", "message"), [(0, "duplicated"), (3600, "not ascending")])
def test_candle_that_is_not_new_is_refused(ago: int, message: str) -> None:
    df = random_walk(NEEDED)
    stream = FeatureStream(ENGINEER.columns)
    stream.open(df)
    seconds, *numbers = candles_of(df)[-1]
    with pytest.raises(DataError, match=message):
        stream.update((seconds - ago, *numbers))


def test_stream_that_is_not_open_says_so() -> None:
    with pytest.raises(DataError, match="not open"):
        FeatureStream(ENGINEER.columns).update(candles_of(random_walk(1))[0])


def test_too_few_or_invalid_candles_are_refused_as_by_transform() -> None:
    df = random_walk(NEEDED)
    for bad in (df.iloc[1:], df.drop(columns="volume"), df.assign(low=-1.0)):
        with pytest.raises(DataError) as expected:
            ENGINEER.transform(bad, pair="BTC/USDT")
        with pytest.raises(DataError) as found:
            FeatureStream(ENGINEER.columns).open(bad, pair="BTC/USDT")
        assert str(found.value) == str(expected.value)


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda s: cloudpickle.loads(cloudpickle.dumps(s))]
)
def test_duplicate_of_an_open_stream_is_closed(duplicate) -> None:
    df = random_walk(NEEDED + 1)
    stream = FeatureStream(FeatureEngineer(SMALL).columns)
    stream.open(df.iloc[:-1])
    other = duplicate(stream)
    with pytest.raises(DataError, match="not open"):
        other.update(candles_of(df)[-1])
    np.testing.assert_array_equal(other.open(df)[-1], stream.update(candles_of(df)[-1]))
