from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from freqtrade_mlpipe.exceptions import DataError
from freqtrade_mlpipe.features import GapSummary, summarise_gaps, validate_candles
from tests.features.market import PRICES, random_walk, real


@pytest.fixture
def candles() -> pd.DataFrame:
    return random_walk(50)


def refused(df: pd.DataFrame, match: str) -> None:
    with pytest.raises(DataError, match=match):
        validate_candles(df, pair="BTC/USDT")


def test_valid_candles_come_back_unchanged(candles: pd.DataFrame) -> None:
    assert validate_candles(candles) is candles


def test_datetime_index_becomes_a_date_column(candles: pd.DataFrame) -> None:
    checked = validate_candles(candles.set_index("date"))
    assert list(checked["date"]) == list(candles["date"])


@pytest.mark.parametrize(
    "name", ["binance/BTC_USDT-1h", "kraken/ETH_USD-1h", "binance/futures/ADA_USDT_USDT-5m-futures"]
)
def test_real_candles_are_valid(name: str) -> None:
    validate_candles(real(name))


def test_message_names_the_pair_and_missing_columns(candles: pd.DataFrame) -> None:
    refused(
        candles.drop(columns=["open", "volume"]),
        r"BTC/USDT: candles lack open, volume; found date, high",
    )


def test_index_without_dates_is_refused(candles: pd.DataFrame) -> None:
    refused(
        candles.drop(columns="date"),
        "neither a date column nor a DatetimeIndex; found an index of RangeIndex",
    )


def test_no_candles_are_refused(candles: pd.DataFrame) -> None:
    refused(candles.iloc[:0], "no candles")


def test_duplicate_columns_are_refused(candles: pd.DataFrame) -> None:
    refused(pd.concat([candles, candles[["close"]]], axis=1), "duplicate column names")


def test_naive_dates_are_refused(candles: pd.DataFrame) -> None:
    refused(candles.assign(date=candles["date"].dt.tz_localize(None)), "no time zone.*tz_localize")
    refused(
        candles.set_index(candles["date"].dt.tz_localize(None)).drop(columns="date"), "no time zone"
    )


def test_other_time_zones_are_refused(candles: pd.DataFrame) -> None:
    refused(
        candles.assign(date=candles["date"].dt.tz_convert("Europe/Berlin")),
        "Europe/Berlin, not UTC",
    )


@pytest.mark.parametrize("values", [lambda d: d.astype(str), lambda d: d.astype("int64")])
def test_dates_of_another_type_are_refused(candles: pd.DataFrame, values) -> None:
    refused(candles.assign(date=values(candles["date"])), "not a UTC datetime")


def test_missing_dates_are_refused(candles: pd.DataFrame) -> None:
    candles.loc[3, "date"] = pd.NaT
    refused(candles, "1 dates are missing")


def test_unsorted_dates_are_refused_with_the_first_place(candles: pd.DataFrame) -> None:
    swapped = candles.iloc[[0, 1, 3, 2, *range(4, 50)]]
    refused(swapped, re.escape(f"not ascending at 1 places, first {candles['date'][2]} after"))


def test_duplicate_dates_are_refused_with_count_and_first(candles: pd.DataFrame) -> None:
    doubled = candles.iloc[[0, 1, 1, 2, 3, 3, *range(4, 50)]]
    refused(doubled, re.escape(f"2 dates are duplicated, first {candles['date'][1]}"))


@pytest.mark.parametrize("kind", [str, object, bool, "Float64"])
@pytest.mark.parametrize("name", ["close", "volume"])
def test_columns_that_are_not_numpy_numbers_are_refused(
    candles: pd.DataFrame, name: str, kind
) -> None:
    refused(
        candles.assign(**{name: candles[name].astype(kind)}), f"column {name} is .*, not numeric"
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", [*PRICES, "volume"])
def test_non_finite_values_are_refused_with_count_and_date(
    candles: pd.DataFrame, name: str, value: float
) -> None:
    candles.loc[[7, 9], name] = value
    refused(
        candles, re.escape(f"2 candles have NaN or infinite {name}, first at {candles['date'][7]}")
    )


@pytest.mark.parametrize("value", [0.0, -1.0])
@pytest.mark.parametrize("name", PRICES)
def test_prices_of_zero_or_less_are_refused(candles: pd.DataFrame, name: str, value: float) -> None:
    candles.loc[7, name] = value
    refused(candles, f"1 candles have a {name} of zero or less")


def test_negative_volume_is_refused(candles: pd.DataFrame) -> None:
    candles.loc[7, "volume"] = -1.0
    refused(candles, "1 candles have negative volume")


def test_high_below_low_is_refused(candles: pd.DataFrame) -> None:
    candles.loc[7, "high"] = candles.loc[7, "low"] * 0.99
    refused(candles, "1 candles have high below low")


def test_gaps_are_counted(candles: pd.DataFrame) -> None:
    holed = candles.drop(index=[5, 6, 7, 20]).reset_index(drop=True)
    assert summarise_gaps(holed, 60) == GapSummary(4, 2, 3, candles["date"][4])
    assert summarise_gaps(holed.set_index("date"), 60) == GapSummary(4, 2, 3, candles["date"][4])
    assert summarise_gaps(candles, 60) == GapSummary(0, 0, 0, None)
    with pytest.raises(ValueError, match="must be positive"):
        summarise_gaps(candles, 0)
