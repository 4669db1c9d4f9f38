"""The ccxt classes: same unified API, no network, no orders."""

import asyncio
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import ccxt
import ccxt.async_support
import ccxt.pro
import pandas as pd
import pytest

from freqtrade_mlpipe.replay import register
from tests.replay import netguard
from tests.replay.markets_on_disk import PERPETUALS, SPOT_PAIRS

register()


def settings(directory: Path, **more: Any) -> dict[str, Any]:
    return {"options": {"replay": {"directory": str(directory)}}, **more}


@pytest.fixture
def rest(spot_candles: Path) -> Any:
    return ccxt.replay(settings(spot_candles))


def test_registering_twice_lists_the_exchange_once() -> None:
    register()
    for module in (ccxt, ccxt.async_support, ccxt.pro):
        assert module.exchanges.count("replay") == 1


def test_spot_markets_carry_precision_limits_and_fees(rest: Any) -> None:
    markets = rest.load_markets()
    assert set(markets) == set(SPOT_PAIRS)
    btc = markets["BTC/USDT"]
    assert btc["precision"]["price"] == 0.01
    assert btc["limits"]["cost"]["min"] == 5
    assert (btc["taker"], btc["maker"]) == (0.001, 0.001)
    assert btc["active"]


def test_perpetuals_are_linear_swaps_with_futures_fees(futures_candles: Path) -> None:
    markets = ccxt.replay(settings(futures_candles)).load_markets()
    assert set(markets) == set(PERPETUALS)
    for market in markets.values():
        assert market["swap"]
        assert market["linear"]
        assert market["contractSize"] == 1
        assert (market["taker"], market["maker"]) == (0.0005, 0.0002)


def test_currencies_are_not_renamed(tmp_path: Path) -> None:
    from tests.replay.markets_on_disk import random_walk, write

    start = pd.Timestamp("2024-01-01", tz="UTC")
    write(random_walk(start, start + pd.Timedelta(days=1), "1h"), tmp_path, "XBT_USD-1h")
    assert set(ccxt.replay(settings(tmp_path)).load_markets()) == {"XBT/USD"}


@pytest.mark.parametrize("module", [ccxt.async_support, ccxt.pro])
def test_async_classes_answer_like_the_sync_one(module: Any, rest: Any, spot_candles: Path) -> None:
    async def fetch() -> tuple[Any, Any]:
        exchange = module.replay(settings(spot_candles))
        try:
            candles = await exchange.fetch_ohlcv("ETH/USDT", "1h", since=0, limit=50)
            return candles, await exchange.fetch_tickers()
        finally:
            await exchange.close()

    candles, tickers = asyncio.run(fetch())
    assert candles == rest.fetch_ohlcv("ETH/USDT", "1h", since=0, limit=50)
    assert len(candles) == 50
    assert set(tickers) == set(SPOT_PAIRS)


def test_errors_of_the_core_become_ccxt_s(rest: Any) -> None:
    rest.load_markets()
    with pytest.raises(ccxt.BadSymbol, match="recorded timeframes: 5m, 1h"):
        rest.fetch_ohlcv("BTC/USDT", "1m")


def test_without_a_directory_it_says_what_to_set() -> None:
    with pytest.raises(ccxt.ExchangeError, match="no candle directory"):
        ccxt.replay().load_markets()


KEYS = {"apiKey": "key", "secret": "secret"}


@pytest.mark.parametrize(
    "call",
    [
        lambda e: e.create_order("BTC/USDT", "limit", "buy", 1, 1000),
        lambda e: e.cancel_order("1", "BTC/USDT"),
        lambda e: e.fetch_balance(),
        lambda e: e.fetch_open_orders("BTC/USDT"),
        lambda e: e.withdraw("BTC", 1, "address"),
        lambda e: e.fetch_leverage_tiers(),
        lambda e: e.request("order", "private", "POST", {"symbol": "BTCUSDT"}),
        lambda e: e.fetch("https://api.binance.com/api/v3/order", "DELETE"),
        lambda e: e.sapiGetAccountStatus(),
    ],
)
@pytest.mark.parametrize("credentials", [{}, KEYS], ids=["no keys", "keys"])
def test_orders_and_accounts_are_refused(
    spot_candles: Path, call: Any, credentials: dict[str, str]
) -> None:
    exchange = ccxt.replay(settings(spot_candles, **credentials))
    with pytest.raises(ccxt.PermissionDenied, match="replay:"):
        call(exchange)


def test_websockets_are_refused_orders_through_them_too(spot_candles: Path) -> None:
    async def run(name: str, *arguments: Any) -> None:
        exchange = ccxt.pro.replay(settings(spot_candles, **KEYS))
        try:
            await getattr(exchange, name)(*arguments)
        finally:
            await exchange.close()

    with pytest.raises(ccxt.NotSupported, match="websockets are refused"):
        asyncio.run(run("watch_ohlcv", "BTC/USDT", "1h"))
    with pytest.raises(ccxt.BaseError, match="refused"):
        asyncio.run(run("create_order_ws", "BTC/USDT", "limit", "buy", 1, 1000))
    described = ccxt.pro.replay().has
    assert not any(value for name, value in described.items() if name.startswith("watch"))


def test_no_address_of_a_real_exchange_is_left() -> None:
    def addresses(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [found for item in value.values() for found in addresses(item)]
        return [value]

    for module in (ccxt, ccxt.async_support, ccxt.pro):
        urls = module.replay().urls
        for name in ("api", "test", "demo"):
            assert all(url.startswith("https://replay.invalid/") for url in addresses(urls[name]))


def test_the_guard_of_these_tests_sees_network_use_here_and_in_children(tmp_path: Path) -> None:
    report = tmp_path / "network-report"
    with pytest.raises(netguard.NetworkUsedError):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    attempt = "import urllib.request; urllib.request.urlopen('http://example.invalid')"
    child = subprocess.run([sys.executable, "-c", attempt], capture_output=True, check=False)
    assert b"NetworkUsedError" in child.stderr
    assert len(report.read_text().splitlines()) == 2
    report.unlink()
