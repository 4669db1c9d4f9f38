"""Dry-run bots on the replay exchange: real freqtrade processes, all started at once, then looked at one by one."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from freqtrade_mlpipe.config import ReplayConfig
from freqtrade_mlpipe.replay.api import ReplayApi
from freqtrade_mlpipe.replay.candles import CandleStore
from tests.e2e.live import (
    MLPIPE,
    Bot,
    Clock,
    ReplayServer,
    bot_config,
    free_port,
    in_process_config,
    pricing,
    stop_together,
)
from tests.replay.markets_on_disk import PERPETUALS, SPOT_PAIRS, write_futures, write_spot

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SPEED = 60
PACE = 10  # a candle of a minute passes in six seconds
FUTURES = {"trading_mode": "futures", "margin_mode": "isolated", **pricing("other")}


@dataclass(frozen=True)
class Fleet:
    """The bots; every server and bot has a folder of its own."""

    candles: Path
    real: Bot
    patient: Bot
    perpetuals: Bot
    in_process: Bot
    interrupted: Bot
    paced: ReplayServer

    def klines(
        self, path: str, pair: str, interval: str, begin: float, end: float
    ) -> list[list[float]]:
        """Open, high, low and close between two moments (seconds), from the exchange in this process."""
        live = ReplayConfig(replay_speed=SPEED)
        api = ReplayApi(CandleStore(self.candles), clock=lambda: int(end * 1000), live=live)
        span = {
            "startTime": str(int(begin * 1000)),
            "endTime": str(int(end * 1000)),
            "limit": "1000",
        }
        symbol = pair.partition(":")[0].replace("/", "")
        rows = api.get(f"{path}/klines", {"symbol": symbol, "interval": interval, **span})
        return [[float(price) for price in row[1:5]] for row in rows]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("live")
    candles = write_futures(write_spot(folder / "candles"))
    for path in candles.glob("*-5m.feather"):
        path.unlink()
    own = folder / "own-candles"
    shutil.copytree(candles, own, copy_function=shutil.copyfile)
    clock, fast = Clock(), Clock(pace=PACE)
    own_config = in_process_config(
        own, PERPETUALS, pace=PACE, exchange={"replay_speed": SPEED}, **FUTURES
    )
    in_process = Bot(folder / "in-process", own_config, "BothSides", clock=fast, command=MLPIPE)
    server = ReplayServer(candles, clock=clock, speed=SPEED, folder=folder / "server")
    paced = ReplayServer(candles, clock=fast, speed=SPEED, folder=folder / "paced")
    programs = [in_process, server, paced]
    try:
        in_process.start()
        for launched in (server, paced):
            launched.launch()
        for launched in (server, paced):
            launched.start()
        spot = bot_config(server, SPOT_PAIRS)
        real = Bot(
            folder / "real", spot, "EveryCandle", clock=clock, api_port=free_port(), options=("-v",)
        )
        waiting = bot_config(paced, SPOT_PAIRS, custom_price_max_distance_ratio=0.5)
        waiting["exchange"]["enable_ws"] = False
        both = bot_config(paced, PERPETUALS, futures=True, **pricing("other"))
        # freqtrade has streams switched off for Binance's perpetuals.
        both["exchange"]["_ft_has_params"] = {"ws_enabled": True}
        bots = [
            Bot(folder / "patient", waiting, "Patient", clock=fast),
            Bot(folder / "perpetuals", both, "BothSides", clock=fast, options=("-v",)),
            in_process,
            Bot(folder / "interrupted", bot_config(paced, SPOT_PAIRS), "EveryCandle", clock=fast),
        ]
        programs = [real, *bots, server, paced]
        for bot in (real, *bots):
            if bot.process is None:
                bot.start()
        yield Fleet(candles, real, *bots, paced)
    finally:
        stop_together(programs)


def seconds(text: str) -> float:
    """freqtrade stores UTC without saying so."""
    return pd.Timestamp(text, tz="UTC").timestamp()


def closed_trades(bot: Bot, pairs: tuple[str, ...]) -> list[dict[str, Any]]:
    """The bot's closed trades, as soon as each of the pairs has one."""

    def closed() -> list[dict[str, Any]]:
        trades = bot.trades(closed=True)
        return trades if {trade["pair"] for trade in trades} >= set(pairs) else []

    found: list[dict[str, Any]] = bot.wait_until(closed, f"closed trades of {', '.join(pairs)}")
    return found


def streamed(bot: Bot, pair: str) -> None:
    """Wait for a candle that came by a stream; the first ones of a bot may come too late for it, and are asked for."""
    message = f"reuse watch result for {pair}"
    bot.wait_until(lambda: message in bot.log, "candle from a stream")


def test_perpetuals_trade_both_ways_with_leverage(fleet: Fleet) -> None:
    for bot, leverage in ((fleet.perpetuals, 1.0), (fleet.in_process, 3.0)):
        trades = closed_trades(bot, PERPETUALS)
        # NEWCOIN isn't in freqtrade's table of Binance's leverage tiers; only `replay` knows better.
        assert {(trade["pair"], trade["is_short"], trade["leverage"]) for trade in trades} == {
            (PERPETUALS[0], 0, 3.0),
            (PERPETUALS[1], 1, leverage),
        }
        for trade in trades:
            if trade["leverage"] > 1:
                beyond = trade["liquidation_price"] - trade["open_rate"]
                assert beyond > 0 if trade["is_short"] else beyond < 0
    streamed(fleet.perpetuals, PERPETUALS[0])


def test_every_process_sees_the_same_market(fleet: Fleet) -> None:
    """Bots on the server and in their own process trade at the prices that are computed here."""
    for bot in (fleet.perpetuals, fleet.in_process):
        closed_trades(bot, PERPETUALS)
        for order in bot.orders("closed"):
            placed, filled = seconds(order["order_date"]), seconds(order["order_filled_date"])
            around = fleet.klines("/fapi/v1", order["ft_pair"], "1s", placed - 2, filled + 2)
            lowest, highest = min(row[2] for row in around), max(row[1] for row in around)
            assert lowest * 0.999 <= order["average"] <= highest * 1.001, order


def test_limit_orders_fill_wait_and_time_out(fleet: Fleet) -> None:
    bot = fleet.patient

    def waited() -> list[dict[str, Any]]:
        bought = [order for order in bot.orders("closed") if order["ft_order_side"] == "buy"]
        return [o for o in bought if seconds(o["order_filled_date"]) > seconds(o["order_date"]) + 2]

    for order in bot.wait_until(waited, "buy order that waited and filled"):
        assert order["ft_pair"] == "BTC/USDT"
        # It filled when the market had come down to it.
        placed, filled = seconds(order["order_date"]), seconds(order["order_filled_date"])
        rows = fleet.klines("/api/v3", order["ft_pair"], "1s", placed, filled)
        assert min(row[2] for row in rows) < order["price"]

    # freqtrade forgets a trade whose entry was cancelled; its log has when and at what price.
    cancelled = r"(\S+ \S+),\d+ - \S+ - INFO - Buy order cancelled due to timeout for Trade\([^)]*pair=ETH/USDT"
    told = cancelled + r"[^)]*open_rate=([\d.]+)"

    def timed_out() -> re.Match[str] | None:
        return re.search(told, " ".join(bot.log.split()))  # freqtrade wraps long lines

    found = bot.wait_until(timed_out, "order that timed out")
    ended, limit = seconds(found[1]), float(found[2])
    rows = fleet.klines("/api/v3", "ETH/USDT", "1s", ended - 60, ended)
    assert min(row[2] for row in rows) > limit
    assert {trade["pair"] for trade in closed_trades(bot, SPOT_PAIRS[:1])} == {"BTC/USDT"}
    assert "reuse watch" not in bot.log


def test_the_bot_goes_on_after_its_exchange_was_killed_and_came_back(fleet: Fleet) -> None:
    bot, server = fleet.interrupted, fleet.paced
    closed_trades(bot, SPOT_PAIRS)
    server.kill()
    before = len(bot.log)
    bot.wait_until(lambda: "ExchangeNotAvailable" in bot.log[before:], "outage")
    back = bot.clock.now()
    server.start()

    def opened_afterwards() -> list[dict[str, Any]]:
        return [trade for trade in bot.trades(closed=True) if seconds(trade["open_date"]) > back]

    assert bot.wait_until(opened_afterwards, "trade after the exchange came back")


def test_the_unmodified_executable_trades_in_real_time(fleet: Fleet) -> None:
    bot = fleet.real
    trade = closed_trades(bot, SPOT_PAIRS)[0]
    assert trade["exchange"] == "binance"
    shown = bot.wait_until(lambda: bot.get("trades"), "answer of the bot's REST API")["trades"][0]
    assert (shown["trade_id"], shown["close_rate"]) == (trade["id"], trade["close_rate"])
    opened = seconds(trade["open_date"])
    rows = fleet.klines("/api/v3", trade["pair"], "1s", opened - 20, opened)
    # A limit order at the bid fills at its price once the ask has come down to it.
    assert min(row[2] for row in rows) <= trade["open_rate"] <= max(row[1] for row in rows)
    streamed(bot, trade["pair"])
