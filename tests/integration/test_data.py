"""Candle files as people really have them: each fault is named, with what was found and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from freqtrade.configuration import TimeRange
from freqtrade.enums import CandleType

from freqtrade_mlpipe.exceptions import ConfigError, DataError
from freqtrade_mlpipe.integration.data import (
    MAX_GAP_FRACTION,
    CandleSource,
    load_candles,
    store_candles,
    whitelist,
)
from freqtrade_mlpipe.synthetic import Market, generate_market
from tests.conftest import write_candle_file

PAIR = "SYNA/USDT"
N = 600

Load = Callable[..., dict[str, pd.DataFrame]]


@pytest.fixture(scope="module")
def good() -> pd.DataFrame:
    return generate_market(Market(pairs=(PAIR,), n_candles=N, start="2024-01-01"))[PAIR]


@pytest.fixture
def source(tmp_path: Path) -> CandleSource:
    return CandleSource(tmp_path, "1h", CandleType.SPOT)


@pytest.fixture
def load(source: CandleSource) -> Load:
    """Writes the frames given, by pair, and loads the pairs asked for (default: all of them)."""

    def run(
        frames: dict[str, pd.DataFrame],
        pairs: list[str] | None = None,
        timerange: str | None = None,
    ) -> dict[str, pd.DataFrame]:
        for pair, frame in frames.items():
            write_candle_file(source.datadir, pair, frame)
        parsed = TimeRange.parse_timerange(timerange) if timerange else None
        return load_candles(source, pairs or list(frames), parsed, startup_candles=50)

    return run


def test_sound_file_comes_back_as_it_is(load, good):
    found = load({PAIR: good})[PAIR]
    pd.testing.assert_frame_equal(found, good, check_dtype=False, check_freq=False)
    assert str(found["date"].dt.tz) == "UTC"


def test_what_is_stored_loads_the_same(source, good):
    store_candles(source, {PAIR: good})
    found = load_candles(source, [PAIR], None, startup_candles=0)[PAIR]
    np.testing.assert_array_equal(found.drop(columns="date"), good.drop(columns="date"))
    assert (found["date"] == good["date"]).all()


def test_timerange_keeps_the_warm_up_before_it(load, good):
    found = load({PAIR: good}, timerange="20240110-20240115")[PAIR]
    assert found["date"].iloc[0] == pd.Timestamp("2024-01-10", tz="UTC") - pd.Timedelta("50h")
    assert found["date"].iloc[-1] == pd.Timestamp("2024-01-15", tz="UTC")


def test_unknown_pair_names_those_there_are_and_how_to_get_it(load, good):
    with pytest.raises(DataError) as caught:
        load({PAIR: good, "SYNB/USDT": good}, ["DOGE/USDT"])
    message = str(caught.value)
    assert message.startswith("DOGE/USDT: no 1h candles")
    assert "SYNA/USDT, SYNB/USDT" in message
    assert "freqtrade download-data --pairs DOGE/USDT --timeframes 1h" in message


def test_candles_of_another_timeframe_do_not_count(source, good):
    write_candle_file(source.datadir, PAIR, good, timeframe="4h")
    with pytest.raises(DataError, match="no 1h candles") as caught:
        load_candles(source, [PAIR], None, startup_candles=0)
    assert "There are" not in str(caught.value)


def test_timerange_outside_the_file_names_what_the_file_has(load, good):
    with pytest.raises(DataError) as caught:
        load({PAIR: good}, timerange="20250101-20250201")
    message = str(caught.value)
    assert "2024-01-01 00:00 to 2024-01-25 23:00 UTC" in message
    assert "--timerange" in message


@pytest.mark.parametrize("column", ["open", "high", "low", "close", "volume"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_value_that_is_no_number_is_refused_with_pair_column_and_date(load, good, column, value):
    bad = good.copy()
    bad.loc[123, column] = value
    with pytest.raises(DataError) as caught:
        load({PAIR: bad})
    message = str(caught.value)
    assert message.startswith(PAIR)
    assert column in message
    assert str(good["date"].iloc[123]) in message


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_price_of_zero_or_less_is_refused(load, good, value):
    bad = good.copy()
    bad.loc[5, ["low", "close"]] = value
    with pytest.raises(DataError, match="zero or less"):
        load({PAIR: bad})


def test_bad_value_outside_the_timerange_and_its_warm_up_does_no_harm(load, good):
    bad = good.copy()
    bad.loc[2, "close"] = np.nan
    assert load({PAIR: bad}, timerange="20240110-")[PAIR].notna().all().all()


def test_bad_value_in_the_warm_up_before_the_timerange_is_refused(load, good):
    bad = good.copy()
    bad.loc[9 * 24 - 10, "close"] = np.nan
    with pytest.raises(DataError, match=PAIR):
        load({PAIR: bad}, timerange="20240110-")


def test_duplicate_dates_are_refused_though_freqtrade_would_merge_them(load, good):
    bad = pd.concat([good.iloc[:101], good.iloc[100:]])
    with pytest.raises(DataError) as caught:
        load({PAIR: bad})
    assert "duplicated" in str(caught.value)
    assert str(good["date"].iloc[100]) in str(caught.value)


def test_unsorted_dates_are_refused_though_freqtrade_would_sort_them(load, good):
    bad = pd.concat([good.iloc[200:400], good.iloc[:200], good.iloc[400:]])
    with pytest.raises(DataError, match="not ascending"):
        load({PAIR: bad})


def without(good: pd.DataFrame, n_missing: int) -> pd.DataFrame:
    return good.drop(index=range(100, 100 + n_missing))


def test_too_many_missing_candles_are_refused_with_the_numbers(load, good):
    n_missing = int(MAX_GAP_FRACTION * N) + 1
    with pytest.raises(DataError) as caught:
        load({PAIR: without(good, n_missing)})
    assert f"{n_missing} of {N} 1h candles are missing" in str(caught.value)


def test_few_missing_candles_are_filled_flat_with_a_warning(load, good, logged):
    n_missing = int(MAX_GAP_FRACTION * N)
    found = load({PAIR: without(good, n_missing)})[PAIR]
    assert (found["date"].diff().dropna() == pd.Timedelta("1h")).all()
    assert len(found) == N
    filled = found.iloc[100 : 100 + n_missing]
    assert (filled[["open", "high", "low", "close"]] == good["close"].iloc[99]).all().all()
    assert (filled["volume"] == 0).all()
    assert [text for text in logged() if f"{n_missing} of {N}" in text and PAIR in text]


def test_complete_candles_load_without_a_warning(load, good, logged):
    load({PAIR: good})
    assert logged() == []


def test_several_bad_pairs_are_reported_in_one_message(load, good):
    with pytest.raises(DataError) as caught:
        load(
            {
                "GAPS/USDT": without(good, 200),
                "GOOD/USDT": good,
                "NANS/USDT": good.assign(close=np.nan),
                "TWICE/USDT": pd.concat([good, good.tail(1)]),
            },
            ["GAPS/USDT", "GONE/USDT", "GOOD/USDT", "NANS/USDT", "TWICE/USDT"],
        )
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "GAPS/USDT",
        "GONE/USDT",
        "NANS/USDT",
        "TWICE/USDT",
    ]


def test_gaps_are_counted_within_the_timerange_only(load, good):
    bad = without(good, 200)
    assert len(load({PAIR: bad}, timerange="20240116-")[PAIR]) > 9 * 24


def test_pairs_with_dots_digits_and_settlement_are_names():
    pairs = ["1000SHIB/USDT:USDT", "BTC/USDT:USDT-240628", "XBT.M/EUR"]
    assert whitelist({"pairs": pairs}) == sorted(pairs)


def test_empty_file_is_no_candles(load, good):
    with pytest.raises(DataError, match="no 1h candles"):
        load({PAIR: good.iloc[:0]})


def test_damaged_file_is_refused_by_name(source, good, load):
    path = source.datadir / "SYNA_USDT-1h.feather"
    good.to_feather(path)
    path.write_bytes(path.read_bytes()[:1_000])
    with pytest.raises(DataError, match=PAIR):
        load({}, [PAIR])


def test_file_without_the_candle_columns_is_refused_by_name(source, load):
    pd.DataFrame({"a": [1.0]}).to_feather(source.datadir / "SYNA_USDT-1h.feather")
    with pytest.raises(DataError, match=PAIR):
        load({}, [PAIR])


def test_refusing_leaves_the_files_as_they_were(load, good, source):
    bad = good.assign(close=np.nan)
    with pytest.raises(DataError):
        load({PAIR: bad})
    found = pd.read_feather(source.datadir / "SYNA_USDT-1h.feather")
    pd.testing.assert_frame_equal(found, bad, check_freq=False)


class TestWhitelist:
    def test_pairs_given_come_before_the_configured_ones(self):
        config = {"pairs": ["B/USDT", "A/USDT"], "exchange": {"pair_whitelist": ["C/USDT"]}}
        assert whitelist(config) == ["A/USDT", "B/USDT"]

    def test_pair_given_twice_counts_once(self):
        assert whitelist({"pairs": ["A/USDT", "A/USDT"]}) == ["A/USDT"]

    @pytest.mark.parametrize("config", [{}, {"exchange": {}}, {"exchange": {"pair_whitelist": []}}])
    def test_no_pairs_say_how_to_give_them(self, config):
        with pytest.raises(ConfigError, match="--pairs"):
            whitelist(config)

    @pytest.mark.parametrize("pair", [".*/USDT", "BTC", "BTC/.*", "(BTC|ETH)/USDT"])
    def test_pattern_is_refused_by_name(self, pair):
        with pytest.raises(ConfigError) as caught:
            whitelist({"pairs": ["ETH/USDT", pair]})
        assert pair in str(caught.value)


class TestSource:
    def test_missing_timeframe_says_where_to_set_it(self, tmp_path):
        with pytest.raises(ConfigError, match="--timeframe"):
            CandleSource.from_config({"datadir": tmp_path})

    @pytest.mark.parametrize("timeframe", ["7x", "h", "1hour", "0h"])
    def test_impossible_timeframe_is_refused_by_name(self, tmp_path, timeframe):
        with pytest.raises(ConfigError, match=timeframe):
            CandleSource.from_config({"datadir": tmp_path, "timeframe": timeframe})

    def test_missing_directory_is_named(self, tmp_path):
        with pytest.raises(ConfigError, match="nowhere"):
            CandleSource.from_config({"datadir": tmp_path / "nowhere", "timeframe": "1h"})

    def test_candle_has_the_length_of_the_timeframe(self, tmp_path):
        source = CandleSource.from_config({"datadir": tmp_path, "timeframe": "5m"})
        assert source.candle == pd.Timedelta("5min")
