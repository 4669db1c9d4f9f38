"""What holds for every feature: causality, bounded memory, scale freedom, finiteness, declared inputs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from freqtrade_mlpipe.config import FeatureConfig
from freqtrade_mlpipe.features import CATALOGUE, FeatureEngineer
from tests.features.market import PRICES, flat, markets, random_walk, real

ENGINEER = FeatureEngineer()
STARTUP = ENGINEER.startup_candles
SMALL = FeatureEngineer(FeatureConfig(short_period=3, medium_period=5, long_period=9))
REAL_MARKETS = [
    "binance/BTC_USDT-1h",
    "binance/SOL_USDT-5m",
    "kraken/ETH_USD-1h",
    "binance/BTC_USDT-15m",
]
BRIEF = settings(max_examples=15, deadline=None)


def assert_same(
    found: pd.DataFrame, expected: pd.DataFrame, deviation: np.ndarray, tolerance: float
) -> None:
    """Differences within `tolerance` of the value or of the feature's standard deviation, whichever is larger."""
    a, b = found.to_numpy(dtype=float), expected.to_numpy(dtype=float)
    assert (np.isnan(a) == np.isnan(b)).all()
    allowed = tolerance * np.maximum(np.abs(b), deviation) + 1e-30
    wrong = (np.abs(a - b) > allowed) & ~np.isnan(b)
    names = [name for name, bad in zip(expected.columns, wrong.any(axis=0), strict=True) if bad]
    assert not names


def deviations(features: pd.DataFrame) -> np.ndarray:
    return features.std().fillna(0.0).to_numpy(dtype=float)


def assert_prefix_invariant(df: pd.DataFrame, cuts: list[int]) -> None:
    whole = ENGINEER.transform(df)
    for cut in cuts:
        early = ENGINEER.transform(df.iloc[:cut])
        pd.testing.assert_frame_equal(early, whole.iloc[:cut], check_exact=True)


@BRIEF
@given(df=markets(STARTUP + 60), cut=st.integers(STARTUP + 1, STARTUP + 59))
def test_no_feature_changes_when_later_candles_are_taken_away(df: pd.DataFrame, cut: int) -> None:
    assert_prefix_invariant(df, [cut])


@pytest.mark.parametrize("name", REAL_MARKETS)
def test_no_feature_of_a_real_market_changes_when_later_candles_are_taken_away(name: str) -> None:
    df = real(name, 2000, STARTUP + 1200)
    assert_prefix_invariant(df, [STARTUP + k for k in (1, 2, 65, 300, 701, 1199)])


def assert_forgets(df: pd.DataFrame, starts: list[int], n_rows: int = 40) -> None:
    whole = ENGINEER.transform(df)
    deviation = deviations(whole)
    for start in starts:
        window = ENGINEER.transform(df.iloc[start : start + STARTUP + n_rows]).iloc[STARTUP:]
        assert_same(window, whole.loc[window.index], deviation, 1e-6)


@BRIEF
@given(df=markets(2 * STARTUP + 400), start=st.integers(STARTUP, STARTUP + 300))
def test_features_of_a_window_equal_those_of_the_long_history(df: pd.DataFrame, start: int) -> None:
    # An exponential average forgets by factors: not as fast as a market that falls ten-thousandfold.
    assume(df["close"].max() < 1000 * df["close"].min())
    assert_forgets(df, [start])


@pytest.mark.parametrize("name", REAL_MARKETS)
def test_features_of_a_real_window_equal_those_of_the_long_history(name: str) -> None:
    df = real(name, 5000, 15_000)
    starts = np.random.default_rng(1).integers(1, len(df) - STARTUP - 40, 25)
    assert_forgets(df, [int(start) for start in starts])


def test_a_flash_crash_just_before_the_window_is_forgotten() -> None:
    df = real("kraken/ETH_USD-1h")
    crash = int(np.argmax((df["high"] / df["low"]).to_numpy()))
    df = df.iloc[crash - 1500 : crash + 1500].reset_index(drop=True)
    assert_forgets(df, [1490, 1499, 1500, 1501, 1502, 1510])


@pytest.mark.parametrize("column", ENGINEER.columns, ids=lambda column: column.name)
def test_declared_warmup_of_each_feature_suffices_alone(column) -> None:
    engineer = FeatureEngineer(FeatureConfig(include=(column.name,)))
    df = random_walk(2000, seed=11, untraded_share=0.05, burst=10.0)
    whole = engineer.transform(df)
    assert whole[column.name].iloc[: column.warmup].isna().all()
    assert np.isfinite(whole[column.name].iloc[column.warmup :]).all()
    deviation = deviations(whole)
    for start in (700, 941, 1200):
        window = engineer.transform(df.iloc[start : start + column.warmup + 30]).iloc[
            column.warmup :
        ]
        assert_same(window, whole.loc[window.index], deviation, 1e-6)


@BRIEF
@given(
    df=markets(STARTUP + 60),
    price_exponent=st.integers(-40, 40),
    volume_exponent=st.integers(-40, 40),
)
def test_scaling_by_a_power_of_two_changes_no_feature(
    df: pd.DataFrame, price_exponent: int, volume_exponent: int
) -> None:
    scaled = df.copy()
    scaled[PRICES] *= 2.0**price_exponent
    scaled["volume"] *= 2.0**volume_exponent
    features = ENGINEER.transform(df)
    assert_same(ENGINEER.transform(scaled), features, deviations(features), 1e-6)


@pytest.mark.parametrize("factor", [1e-9, 0.37, 7.0, 12345.678])
@pytest.mark.parametrize("what", [PRICES, ["volume"]], ids=["prices", "volume"])
@pytest.mark.parametrize("tick", [0.0, 0.01, 0.3])
def test_scaling_by_any_factor_changes_no_feature(
    what: list[str], factor: float, tick: float
) -> None:
    df = random_walk(STARTUP + 1500, seed=3, untraded_share=0.05, tick=tick)
    scaled = df.copy()
    scaled[what] *= factor
    features = ENGINEER.transform(df)
    assert_same(ENGINEER.transform(scaled), features, deviations(features), 1e-5)


@pytest.mark.parametrize("name", REAL_MARKETS)
def test_scaling_a_real_market_changes_no_feature(name: str) -> None:
    df = real(name, 1000, 5000)
    features = ENGINEER.transform(df)
    scaled = df.assign(volume=df["volume"] * 3.3, **{price: df[price] * 0.37 for price in PRICES})
    assert_same(ENGINEER.transform(scaled), features, deviations(features), 1e-5)


@pytest.mark.parametrize(
    "df",
    [
        flat(STARTUP + 50),
        flat(STARTUP + 50, price=60_000.0, volume=3.3),
        flat(STARTUP + 50, price=1e-8),
        pd.concat([random_walk(STARTUP), flat(50, price=97.3)], ignore_index=True),
        random_walk(STARTUP + 50, untraded_share=0.95),
        random_walk(STARTUP + 50, volatility=1e-15),
        random_walk(STARTUP + 50, volatility=0.5),
        random_walk(STARTUP + 50).assign(volume=0.0),
        random_walk(STARTUP + 50).assign(volume=[1e300, 1e-300] * (STARTUP // 2 + 25)),
        random_walk(STARTUP + 50, minutes=1440),
    ],
    ids=[
        "flat", "flat-traded", "flat-tiny", "then-flat", "untraded", "still", "wild", "no-volume", "extreme", "daily",
    ],
)  # fmt: skip
def test_every_value_after_the_warmup_is_finite(df: pd.DataFrame) -> None:
    df = df.assign(date=pd.date_range("2024-01-01", periods=len(df), freq="h", tz="UTC"))
    features = ENGINEER.transform(df)
    for column in ENGINEER.columns:
        values = features[column.name].to_numpy()
        assert np.isnan(values[: column.warmup]).all(), column.name
        assert np.isfinite(values[column.warmup :]).all(), column.name


NEUTRAL = {
    "range_position": 0.5, "volume_ratio": 1.0, "volume_trend": 1.0, "volume_concentration": 0.02, "mfi": 50.0,
    "up_volume": 0.5, "zero_volume_share": 1.0, "rsi": 50.0, "stochastic_k": 50.0, "stochastic_d": 50.0,
    "stochastic_rsi_k": 50.0, "stochastic_rsi_d": 50.0, "williams_r": -50.0, "ultimate_oscillator": 50.0,
    "intraday_momentum": 50.0, "return_rank": 0.5, "volume_rank": 0.5, "true_range_ratio": 1.0, "range_trend": 1.0,
    "bollinger_position": 0.5, "keltner_position": 0.5, "squeeze": 1.0, "volatility_ratio": 1.0, "volatility_rank": 0.5,
    "range_to_close": 1.0, "downside_share": 0.5, "mass_index": 25.0, "choppiness": 50.0, "relative_volatility": 50.0,
    "aroon_up": 100.0, "aroon_down": 100.0, "vortex_plus": 1.0, "vortex_minus": 1.0, "variance_ratio": 1.0,
    "hurst": 0.5, "max_return_share": 0.02, "zero_return_share": 1.0,
}  # fmt: skip
"""What a market without movement or trades gives; every other row gives 0."""


@pytest.mark.parametrize("price", [0.1, 1e-8, 63_123.45])
def test_a_dead_market_gives_the_neutral_values(price: float) -> None:
    last = ENGINEER.transform(flat(STARTUP + 200, price=price)).iloc[-1]
    for column in ENGINEER.columns:
        if column.indicator.group != "time":
            expected = NEUTRAL.get(column.indicator.name, 0.0)
            assert last[column.name] == pytest.approx(expected, abs=1e-6), column.name


@pytest.mark.parametrize("row", CATALOGUE, ids=lambda row: row.name)
def test_a_row_reads_only_the_inputs_it_declares(row) -> None:
    engineer = FeatureEngineer(FeatureConfig(include=(row.name,)))
    df = random_walk(engineer.startup_candles + 40, seed=5)
    expected = engineer.transform(df)
    other = random_walk(len(df), seed=6)
    changed = df.copy()
    changed["volume"] = df["volume"] if "volume" in row.inputs else other["volume"]
    changed["date"] = df["date"] if "date" in row.inputs else df["date"] + pd.Timedelta("417h")
    changed["open"] = df["open"] if "open" in row.inputs else df["low"]
    if "close" not in row.inputs:
        changed["close"] = df["low"]
    if "high" not in row.inputs:
        changed["high"] = df["high"] * 1.5
    if "low" not in row.inputs:
        changed["low"] = df["low"] * 0.5
    found = engineer.transform(changed)
    assert_same(found, expected, deviations(expected), 1e-6)


@pytest.mark.parametrize("periods", [(2, 3, 4), (5, 12, 30), (10, 30, 120)], ids=str)
def test_warmup_follows_the_periods(periods: tuple[int, int, int]) -> None:
    short, medium, long = periods
    engineer = FeatureEngineer(
        FeatureConfig(short_period=short, medium_period=medium, long_period=long)
    )
    startup = engineer.startup_candles
    df = random_walk(2 * startup + 900, seed=13, untraded_share=0.05, burst=10.0)
    whole = engineer.transform(df)
    assert np.isfinite(whole.iloc[startup:].to_numpy()).all()
    for start in (startup, startup + 401, startup + 777):
        window = engineer.transform(df.iloc[start : start + startup + 60]).iloc[startup:]
        assert_same(window, whole.loc[window.index], deviations(whole), 1e-6)


def test_a_candle_without_volume_leaves_no_feature_missing() -> None:
    df = random_walk(STARTUP + 100)
    row = STARTUP + 20
    df.loc[row, PRICES] = df.loc[row - 1, "close"]
    df.loc[row, "volume"] = 0.0
    assert np.isfinite(ENGINEER.transform(df).iloc[STARTUP:].to_numpy()).all()


@BRIEF
@given(df=markets(700))
def test_columns_never_depend_on_data(df: pd.DataFrame) -> None:
    assert list(ENGINEER.transform(df).columns) == ENGINEER.get_feature_names()
    assert list(SMALL.transform(df).columns) == SMALL.get_feature_names()
