"""The transport-free core: paths and parameters in, Binance-shaped JSON out."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from freqtrade_mlpipe.exceptions import DataError
from freqtrade_mlpipe.replay.api import ApiError, ReplayApi
from freqtrade_mlpipe.replay.candles import OHLCV, CandleStore
from freqtrade_mlpipe.replay.wire import decimal_text
from tests.replay.markets_on_disk import END, START

NOW_MS = 1_700_000_000_000


@pytest.fixture
def spot(spot_candles: Path) -> ReplayApi:
    return ReplayApi(CandleStore(spot_candles), ["SOL/USDT"], clock=lambda: NOW_MS)


@pytest.fixture
def futures(futures_candles: Path) -> ReplayApi:
    return ReplayApi(CandleStore(futures_candles), clock=lambda: NOW_MS)


def klines(api: ReplayApi, path: str = "/api/v3/klines", **params: Any) -> list[list[Any]]:
    asked = {"symbol": "BTCUSDT", "interval": "1h"} | {k: str(v) for k, v in params.items()}
    rows: list[list[Any]] = api.get(path, asked)
    return rows


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_decimal_text_reads_back_and_has_no_exponent(value: float) -> None:
    text = decimal_text(value)
    assert float(text) == value
    assert "e" not in text


def test_paging_through_klines_gives_every_candle_once(spot: ReplayApi, spot_candles: Path) -> None:
    rows: list[list[Any]] = []
    since = 0
    while page := klines(spot, startTime=since, limit=1000):
        assert len(page) <= 1000
        rows += page
        since = page[-1][0] + 1
    frame = pd.read_feather(spot_candles / "BTC_USDT-1h.feather")
    assert pd.to_datetime([r[0] for r in rows], unit="ms", utc=True).tolist() == list(frame["date"])
    assert [[float(text) for text in r[1:6]] for r in rows] == frame[
        list(OHLCV)
    ].to_numpy().tolist()
    assert all(row[6] - row[0] == 3_600_000 - 1 for row in rows)


def test_klines_without_a_start_are_the_latest(spot: ReplayApi) -> None:
    rows = klines(spot, limit=3)
    assert pd.Timestamp(rows[-1][0], unit="ms", tz="UTC") == END - pd.Timedelta(hours=1)
    assert len(rows) == 3
    assert len(klines(spot)) == 500


def test_klines_after_the_recording_are_empty(spot: ReplayApi) -> None:
    assert klines(spot, startTime=int(END.timestamp() * 1000)) == []


def test_answers_are_json(spot: ReplayApi, futures: ReplayApi) -> None:
    for api, prefix in ((spot, "/api/v3"), (futures, "/fapi/v1")):
        for name in ("exchangeInfo", "time", "ping", "ticker/24hr", "ticker/bookTicker"):
            json.dumps(api.get(f"{prefix}/{name}", {}), allow_nan=False)
    json.dumps(klines(spot), allow_nan=False)


def test_time_is_the_clock_s(spot: ReplayApi) -> None:
    assert spot.get("/api/v3/time", {}) == {"serverTime": NOW_MS}


def test_exchange_info_lists_each_side_s_symbols(spot: ReplayApi, futures: ReplayApi) -> None:
    listed = spot.get("/api/v3/exchangeInfo", {})["symbols"]
    assert [entry["symbol"] for entry in listed] == ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
    assert spot.get("/fapi/v1/exchangeInfo", {})["symbols"] == []
    perpetuals = futures.get("/fapi/v1/exchangeInfo", {})["symbols"]
    assert {entry["contractType"] for entry in perpetuals} == {"PERPETUAL"}
    assert futures.get("/api/v3/exchangeInfo", {})["symbols"] == []


def test_funding_rates_page_by_time(futures: ReplayApi) -> None:
    since = int(START.timestamp() * 1000)
    first = futures.get(
        "/fapi/v1/fundingRate", {"symbol": "BTCUSDT", "startTime": str(since), "limit": "5"}
    )
    assert [entry["fundingTime"] - since for entry in first] == [
        i * 8 * 3_600_000 for i in range(5)
    ]
    latest = futures.get("/fapi/v1/fundingRate", {"symbol": "BTCUSDT"})
    assert len(latest) == 100
    assert latest[-1]["fundingTime"] > first[-1]["fundingTime"]


def test_tickers_describe_the_last_recorded_day(spot: ReplayApi, spot_candles: Path) -> None:
    day = pd.read_feather(spot_candles / "ETH_USDT-1h.feather").tail(24)
    ticker = spot.get("/api/v3/ticker/24hr", {"symbol": "ETHUSDT"})
    assert float(ticker["lastPrice"]) == day["close"].iloc[-1]
    assert float(ticker["highPrice"]) == day["high"].max()
    assert float(ticker["volume"]) == pytest.approx(day["volume"].sum())
    assert float(ticker["askPrice"]) - float(ticker["bidPrice"]) == pytest.approx(0.01)
    # SOL/USDT is only configured: without candles it has no price.
    everything = spot.get("/api/v3/ticker/24hr", {})
    assert {entry["symbol"] for entry in everything} == {"BTCUSDT", "ETHUSDT"}


@pytest.mark.parametrize(
    ("path", "params", "code", "message"),
    [
        ("/api/v3/klines", {"symbol": "NOPE", "interval": "1h"}, -1121, "NOPE"),
        ("/api/v3/klines", {"interval": "1h"}, -1121, "symbol"),
        ("/api/v3/klines", {"symbol": "BTCUSDT", "interval": "7m"}, -1120, "7m"),
        ("/api/v3/klines", {"symbol": "BTCUSDT", "interval": "1m"}, -1121, "5m, 1h"),
        ("/api/v3/klines", {"symbol": "SOLUSDT", "interval": "1h"}, -1121, "none"),
        ("/api/v3/klines", {"symbol": "BTCUSDT", "interval": "1h", "limit": "x"}, -1100, "limit"),
        ("/api/v3/klines", {"symbol": "BTCUSDT", "interval": "1h", "limit": "0"}, -1130, "limit"),
        ("/api/v3/ticker/24hr", {"symbol": "SOLUSDT"}, -1121, "SOLUSDT"),
        ("/api/v3/ticker/24hr", {"symbols": "BTCUSDT"}, -1100, "symbols"),
        ("/fapi/v1/fundingRate", {"symbol": "BTCUSDT"}, -1121, "BTCUSDT"),
        ("/api/v3/account", {}, -5000, "/api/v3/account"),
        ("/sapi/v1/capital/config/getall", {}, -5000, "sapi"),
    ],
)
def test_requests_that_cannot_be_answered_say_why(
    spot: ReplayApi, path: str, params: dict[str, str], code: int, message: str
) -> None:
    with pytest.raises(ApiError, match=message) as refused:
        spot.get(path, params)
    assert refused.value.code == code
    assert refused.value.to_json()["code"] == code


def test_an_empty_directory_is_named(tmp_path: Path) -> None:
    api = ReplayApi(CandleStore(tmp_path))
    with pytest.raises(ApiError, match=str(tmp_path)):
        api.get("/api/v3/exchangeInfo", {})
    with pytest.raises(DataError, match=str(tmp_path)):
        _ = api.markets
