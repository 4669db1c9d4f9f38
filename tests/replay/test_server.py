"""The loopback server: what ccxt's own Binance client sees, what is refused, and how it starts and ends."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import ccxt.pro
import pytest

from freqtrade_mlpipe.config import ReplayConfig
from freqtrade_mlpipe.main import main
from freqtrade_mlpipe.replay.api import ReplayApi
from freqtrade_mlpipe.replay.candles import CandleStore
from freqtrade_mlpipe.replay.server import Server, client_settings
from tests.replay.markets_on_disk import PERPETUALS, SPOT_PAIRS, write_futures, write_spot

ROOT = Path(__file__).parents[2]
NOW_MS = 1_795_000_000_000


class Clock:
    """A clock that tests move, 50 ms before a minute."""

    ms = NOW_MS - NOW_MS % 60_000 + 59_950

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def candles(tmp_path: Path) -> Path:
    write_spot(tmp_path / "candles")
    return write_futures(tmp_path / "candles")


@pytest.fixture
def api(candles: Path) -> ReplayApi:
    live = ReplayConfig(replay_speed=60, replay_timeframe="1h")
    return ReplayApi(CandleStore(candles), clock=Clock(), live=live)


@contextlib.asynccontextmanager
async def serving(api: ReplayApi) -> AsyncIterator[int]:
    """A server in this event loop; ended by the signal that Ctrl-C sends."""
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    server = asyncio.create_task(Server(api, 0, push_seconds=0.02)._run(port.set_result))
    try:
        yield await port
    finally:
        os.kill(os.getpid(), signal.SIGINT)
        assert await server == 130


def with_server(api: ReplayApi, use: Callable[[int], Any]) -> Any:
    async def run() -> Any:
        async with serving(api) as port:
            return await asyncio.wait_for(use(port), 30)

    return asyncio.run(run())


@contextlib.asynccontextmanager
async def binance(port: int, *, futures: bool) -> AsyncIterator[Any]:
    settings = client_settings(port, [], futures=futures)["exchange"]["ccxt_config"]
    client = ccxt.pro.binance(settings)
    client.options["defaultType"] = "swap" if futures else "spot"
    try:
        yield client
    finally:
        await client.close()


@pytest.mark.parametrize("futures", [False, True])
def test_ccxt_s_binance_client_reads_everything_a_bot_asks_for(
    api: ReplayApi, futures: bool
) -> None:
    pair = PERPETUALS[0] if futures else SPOT_PAIRS[0]
    market = next(market for market in api.markets if market.pair == pair)

    async def use(port: int) -> None:
        async with binance(port, futures=futures) as client:
            assert set(await client.load_markets()) == set(PERPETUALS if futures else SPOT_PAIRS)
            assert await client.fetch_time() == api.now_ms()
            rows = await client.fetch_ohlcv(pair, "1m", limit=50)
            assert len(rows) == 50
            book = await client.fetch_order_book(pair, 5)
            assert book["bids"][0][0] == rows[-1][4] == api.feed.quote(market).price
            assert book["asks"][0][0] > book["bids"][0][0]
            assert (await client.fetch_ticker(pair))["last"] == rows[-1][4]
            trades = await client.fetch_trades(pair, limit=10)
            assert len({trade["id"] for trade in trades}) == 10
            if futures:
                history = await client.fetch_funding_rate_history(pair, limit=3)
                assert [entry["fundingRate"] for entry in history] == [
                    rate for (rate,) in api.feed.funding_rates(market, _last(3)).values.tolist()
                ]
                assert (await client.fetch_funding_rate(pair))["markPrice"] == rows[-1][4]
                assert len(await client.fetch_bids_asks()) == 2

    with_server(api, use)


def _last(limit: int) -> Any:
    from freqtrade_mlpipe.replay.feed import Window

    return Window(None, None, limit)


@pytest.mark.parametrize("futures", [False, True])
def test_a_stream_sends_the_finished_candle_and_then_the_next(
    api: ReplayApi, futures: bool
) -> None:
    pair = PERPETUALS[0] if futures else SPOT_PAIRS[0]

    async def use(port: int) -> Any:
        async with binance(port, futures=futures) as client:
            (first,) = await client.watch_ohlcv(pair, "1m")
            api._clock.ms += 200
            while len(client.ohlcvs[pair]["1m"]) < 2:
                await client.watch_ohlcv(pair, "1m")
            stored = [list(row) for row in client.ohlcvs[pair]["1m"]]
            await client.un_watch_ohlcv(pair, "1m")
            return first, stored, await client.fetch_ohlcv(pair, "1m", limit=2)

    first, stored, fetched = with_server(api, use)
    assert stored[0][0] == first[0]
    assert (
        stored == fetched
    )  # what was streamed is what is fetched, the finished candle to the digit


def test_streams_answer_requests_they_do_not_know(api: ReplayApi) -> None:
    sent = [
        ("not json", "Expected JSON"),
        ('{"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 1}', "isn't served"),
        ('{"method": "SUBSCRIBE", "params": ["nope@kline_1m"], "id": 2}', "NOPE"),
        ('{"method": "SUBSCRIBE", "params": ["btcusdt@kline_7m"], "id": 3}', "7m"),
        ('{"method": "order.place", "params": ["btcusdt"], "id": 4}', "Unknown method"),
        ("[]", "Expected JSON"),
    ]

    async def use(port: int) -> list[str]:
        address = f"http://127.0.0.1:{port}/stream/ws/0"
        answers = []
        async with aiohttp.ClientSession() as session, session.ws_connect(address) as stream:
            for text, _ in sent:
                await stream.send_str(text)
                answers.append(json.dumps(await stream.receive_json()))
        return answers

    for answer, (_, message) in zip(with_server(api, use), sent, strict=True):
        assert message in answer


def test_orders_and_unknown_addresses_are_refused_and_the_server_goes_on(api: ReplayApi) -> None:
    async def use(port: int) -> list[tuple[int, str]]:
        base = f"http://127.0.0.1:{port}"
        found = []
        async with aiohttp.ClientSession() as session:
            for method, path in (
                ("POST", "/api/v3/order"),
                ("DELETE", "/api/v3/order"),
                ("PUT", "/fapi/v1/leverage"),
                ("GET", "/api/v3/account"),
                ("GET", "/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=-1"),
                (
                    "GET",
                    "/api/v3/klines?symbol=BTCUSDT&interval=1m&startTime=9999999999999999999999999999",
                ),
                ("GET", "/api/v3/time"),
            ):
                async with session.request(method, base + path) as answer:
                    found.append((answer.status, await answer.text()))
        return found

    *refused, (status, text) = with_server(api, use)
    assert [status for status, _ in refused] == [403, 403, 403, 404, 400, 400]
    assert all("can't place, change or cancel a real order" in text for _, text in refused[:3])
    assert status == 200
    assert json.loads(text) == {"serverTime": api.now_ms()}


def test_a_taken_port_is_named(candles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert main(["replay", "--port", str(port), "--datadir", str(candles)]) == 2
    said = capsys.readouterr()
    assert f"Port {port} of 127.0.0.1 can't be used: another program listens on it" in said.err
    assert said.out == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--pairs", "DOGE/USDT"], "Nothing is recorded for DOGE/USDT"),
        (["--speed", "1000000"], "Set at most"),
        (["--speed", "0"], "expected at least 1"),
        (["--port", "70000"], "expected at most 65535"),
        (["--timeframe", "1m"], "recorded timeframes: 5m, 1h"),
        (["--datadir", "nowhere"], "the directory does not exist"),
        (["--pairs", "BTC/USDT", "--print-config", "futures"], "No futures candles"),
    ],
)
def test_wrong_options_end_with_2_and_say_why(
    candles: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["replay", "--datadir", str(candles), *options]) == 2
    assert message in capsys.readouterr().err


def test_a_corrupt_candle_file_is_named_at_the_start(
    candles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (candles / "BTC_USDT-5m.feather").write_bytes(b"ARROW1 and then nothing")
    assert main(["replay", "--datadir", str(candles), "--port", "0"]) == 2
    assert "BTC/USDT 5m: nothing could be read" in capsys.readouterr().err
    assert main(["replay", "--datadir", str(candles), "--pairs", "ETH/USDT", "--print-config"]) == 0


def test_print_config_is_json_for_a_configuration_file(
    candles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", "--datadir", str(candles), "--port", "8123", "--print-config"]) == 0
    spot = json.loads(capsys.readouterr().out)
    assert spot == client_settings(8123, list(SPOT_PAIRS), futures=False)
    assert main(["replay", "--datadir", str(candles), "--print-config", "futures"]) == 0
    futures = json.loads(capsys.readouterr().out)
    assert futures["margin_mode"] == "isolated"
    assert futures["exchange"]["pair_whitelist"] == list(PERPETUALS)
    assert "8900" in futures["exchange"]["ccxt_config"]["urls"]["api"]["fapiPublic"]


@pytest.mark.slow
def test_the_command_ends_quietly_on_a_signal_and_its_port_is_free_at_once(candles: Path) -> None:
    command = [sys.executable, "-m", "freqtrade_mlpipe.main", "replay", "--datadir", str(candles)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([os.environ["PYTHONPATH"], str(ROOT)]),
    }
    port = 0
    for number, code in ((signal.SIGTERM, 0), (signal.SIGINT, 130)):
        # The reader leaves after two lines, as `| head -2` does; the server goes on.
        server = subprocess.Popen(
            [*command, "--port", str(port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
        )
        assert "Replaying BTC/USDT" in server.stdout.readline()
        port = int(server.stdout.readline().split()[1].rpartition(":")[2])
        server.stdout.close()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v3/time") as answer:
            assert abs(json.load(answer)["serverTime"] / 1000 - time.time()) < 60
        server.send_signal(number)
        assert server.wait(20) == code
        assert server.stderr.read() == ""
        server.stderr.close()
