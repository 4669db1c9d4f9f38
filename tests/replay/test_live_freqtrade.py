"""freqtrade's own exchange class with the live clock, in this process: candles, orders, funding, downloads."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from freqtrade.enums import CandleType, RunMode
from freqtrade.resolvers import ExchangeResolver
from freqtrade.util import dt_now

from freqtrade_mlpipe.replay import register
from freqtrade_mlpipe.replay.run import main
from tests.replay.markets_on_disk import PERPETUALS, SPOT_PAIRS

pytestmark = pytest.mark.e2e
register()
WriteConfig = Callable[..., Path]


@contextmanager
def trading(config_file: Path, datadir: Path, **exchange: Any) -> Iterator[Any]:
    """The exchange that `freqtrade trade` would make."""
    config = json.loads(config_file.read_text())
    config["exchange"].update(exchange)
    config |= {
        "datadir": datadir,
        "runmode": RunMode.DRY_RUN,
        "user_data_dir": datadir,
        "timeframe": "1m",
    }
    made = ExchangeResolver.load_exchange(config, load_leverage_tiers=True)
    try:
        yield made
    finally:
        made.close()


def test_the_unfinished_candle_is_dropped_and_the_last_finished_one_kept(
    spot_candles: Path, write_config: WriteConfig
) -> None:
    with trading(write_config(SPOT_PAIRS), spot_candles, replay_speed=5) as exchange:
        wanted = [(pair, "1h", CandleType.SPOT) for pair in SPOT_PAIRS]
        before = dt_now()
        found = exchange.refresh_latest_ohlcv(wanted)
        hours = {pd.Timestamp(now).floor("h") for now in (before, dt_now())}
        for key in wanted:
            assert found[key]["date"].iloc[-1] + timedelta(hours=1) in hours
            assert (np.diff(found[key]["date"]) == np.timedelta64(1, "h")).all()
            assert len(found[key]) == 999


def test_dry_run_orders_fill_at_the_book_or_wait(
    spot_candles: Path, write_config: WriteConfig
) -> None:
    with trading(write_config(SPOT_PAIRS), spot_candles) as exchange:
        pair = SPOT_PAIRS[0]
        book = exchange.fetch_l2_order_book(pair, 5)
        bid, ask = book["bids"][0][0], book["asks"][0][0]

        def order(kind: str, side: str, rate: float) -> Any:
            return exchange.create_order(
                pair=pair, ordertype=kind, side=side, amount=0.01, rate=rate, leverage=1.0
            )

        for side, waits in (("buy", bid * 0.98), ("sell", ask * 1.02)):
            market = order("market", side, bid)
            assert market["status"] == "closed"
            assert market["average"] == pytest.approx(bid, rel=0.001)
            assert order("limit", side, waits)["status"] == "open"
        assert order("limit", "buy", ask * 1.005)["status"] == "closed"
        assert order("limit", "sell", bid * 0.995)["status"] == "closed"


@pytest.mark.parametrize("is_short", [False, True])
def test_a_position_pays_the_recorded_funding_rates(
    futures_candles: Path, write_config: WriteConfig, is_short: bool
) -> None:
    futures = {"trading_mode": "futures", "margin_mode": "isolated"}
    with trading(write_config(PERPETUALS, **futures), futures_candles) as exchange:
        pair, amount = PERPETUALS[0], 2.0
        opened = dt_now() - timedelta(hours=30)
        paid = exchange.get_funding_fees(
            pair=pair, amount=amount, is_short=is_short, open_date=opened
        )
        api = exchange._api._core()
        since = {"symbol": "BTCUSDT", "startTime": str(int(opened.timestamp() * 1000))}
        rates = api.get("/fapi/v1/fundingRate", since)
        assert 3 <= len(rates) <= 4
        expected = 0.0
        for entry in rates:
            at = {"startTime": str(entry["fundingTime"]), "limit": "1", "interval": "1h"}
            (mark,) = api.get("/fapi/v1/markPriceKlines", since | at)
            expected += amount * float(mark[1]) * float(entry["fundingRate"])
        assert paid == pytest.approx(expected if is_short else -expected)
        assert paid != 0


def test_download_data_copies_what_the_live_clock_shows(
    spot_candles: Path, userdir: Path, write_config: WriteConfig, tmp_path: Path
) -> None:
    """So a model can be trained on the market that the bot will see."""
    target = tmp_path / "target"
    settings = {"replay_source": str(spot_candles), "replay_clock": "live", "replay_speed": 12}
    config = write_config(SPOT_PAIRS, settings)
    argv = ["download-data", "-c", str(config), "--userdir", str(userdir), "--datadir", str(target)]
    assert main([*argv, "-t", "5m", "--days", "4"]) == 0
    found = pd.read_feather(target / "ETH_USDT-5m.feather")
    assert dt_now() - found["date"].iloc[-1] < timedelta(minutes=15)
    assert dt_now() - found["date"].iloc[0] > timedelta(days=3)
    with trading(config, spot_candles) as exchange:
        live = exchange.refresh_latest_ohlcv([("ETH/USDT", "5m", CandleType.SPOT)])
    (live,) = live.values()
    both = found.merge(live, on="date", suffixes=("", "_live"))
    assert len(both) > 900
    for name in ("open", "high", "low", "close", "volume"):
        assert both[name].tolist() == both[f"{name}_live"].tolist()
