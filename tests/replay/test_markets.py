"""Markets worked out from candles."""

from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from freqtrade_mlpipe.replay.candles import CandleStore
from freqtrade_mlpipe.replay.markets import amount_step, find_markets, price_tick
from tests.replay.markets_on_disk import PERPETUALS, SPOT_PAIRS, random_walk, write

MONDAY = pd.Timestamp("2024-01-01", tz="UTC")


@given(
    ticks=st.lists(st.integers(1, 10**7), min_size=1, max_size=50),
    decimals=st.integers(0, 8),
)
def test_tick_is_the_largest_power_of_ten_that_divides_all_prices(
    ticks: list[int], decimals: int
) -> None:
    exact = [Decimal(number).scaleb(-decimals) for number in ticks]
    tick = price_tick(np.array([float(price) for price in exact]))
    assert all(price % tick == 0 for price in exact)
    assert tick == 1 or any(price % (tick * 10) != 0 for price in exact)


@pytest.mark.parametrize("price", [1e-9, 0.0037, 1.0, 63_000.0])
def test_tick_of_computed_prices_is_fine_but_tradable(price: float) -> None:
    prices = price * np.exp(np.random.default_rng(0).normal(0, 0.01, 100))
    tick = float(price_tick(prices))
    assert 1e-11 < tick <= max(price * 1e-5, 1e-10)


@pytest.mark.parametrize(
    ("price", "notional", "step"),
    [(60_000, "5", "0.00001"), (2_300, "5", "0.0001"), (0.1, "5", "1"), (0.05, "0.0001", "0.0001")],
)
def test_amount_step_is_a_small_part_of_the_smallest_order(
    price: float, notional: str, step: str
) -> None:
    found = amount_step(np.array([price, price / 2]), Decimal(notional))
    assert found == Decimal(step)


def test_recorded_and_configured_pairs_are_markets_and_patterns_are_not(
    spot_candles: Path,
) -> None:
    markets = find_markets(
        CandleStore(spot_candles), ["SOL/USDT", "BTC/USDT", ".*/USDT", "(A|B)/C"]
    )
    assert [market.pair for market in markets] == sorted([*SPOT_PAIRS, "SOL/USDT"])
    assert {market.pair: market.tick_size for market in markets}["BTC/USDT"] == Decimal("0.01")


def test_only_linear_perpetuals_are_futures_markets(
    futures_candles: Path, caplog: pytest.LogCaptureFixture
) -> None:
    inverse = random_walk(MONDAY, MONDAY + pd.Timedelta(days=1), "1h")
    write(inverse, futures_candles, "futures/BTC_USD_BTC-1h-futures")
    markets = find_markets(CandleStore(futures_candles), [])
    assert [market.pair for market in markets] == list(PERPETUALS)
    assert all(market.settle == "USDT" for market in markets)
    assert "BTC/USD:BTC" in caplog.text


def test_markets_with_the_same_letters_get_different_ids(tmp_path: Path) -> None:
    frame = random_walk(MONDAY, MONDAY + pd.Timedelta(days=1), "1h")
    for name in ("AB_CD-1h", "ABC_D-1h"):
        write(frame, tmp_path, name)
    markets = find_markets(CandleStore(tmp_path), [])
    assert len({market.id for market in markets}) == 2


def test_real_prices_have_the_exchange_s_ticks(real_candles: Path) -> None:
    ticks = {m.pair: str(m.tick_size) for m in find_markets(CandleStore(real_candles), [])}
    assert ticks == {"BTC/USDT": "0.01", "ETH/USDT": "0.01", "BTC/USDT:USDT": "0.1"}
