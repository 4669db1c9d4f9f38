"""freqtrade's exchange class: what it refuses, leverage tiers, where candles come from."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from freqtrade.exceptions import OperationalException

from freqtrade_mlpipe.config import ReplayConfig
from freqtrade_mlpipe.replay import register
from freqtrade_mlpipe.replay.exchange import Replay, fallback_tiers, source_directory


def test_freqtrade_resolves_the_name() -> None:
    import freqtrade.exchange

    register()
    assert freqtrade.exchange.Replay is Replay


def test_maintenance_margin_of_the_fallback_is_continuous_and_leverage_falls() -> None:
    tiers = fallback_tiers("NEWCOIN/USDC:USDC")
    assert {tier["currency"] for tier in tiers} == {"USDC"}
    assert tiers[0]["minNotional"] == 0

    def margin(tier: dict[str, Any], notional: float) -> float:
        return float(notional * tier["maintenanceMarginRate"] - tier["info"]["cum"])

    for lower, upper in itertools.pairwise(tiers):
        edge = lower["maxNotional"]
        assert upper["minNotional"] == edge
        assert margin(lower, edge) == pytest.approx(margin(upper, edge))
        assert upper["maxLeverage"] < lower["maxLeverage"]


@pytest.mark.parametrize(
    ("exchange", "expected"),
    [
        ({}, "/data/replay"),
        ({"replay_source": "/elsewhere"}, "/elsewhere"),
        ({"replay_source": "data/binance"}, "/user_data/data/binance"),
    ],
)
def test_candles_come_from_the_source_else_from_the_data_directory(
    exchange: dict[str, str], expected: str
) -> None:
    config = {"datadir": Path("/data/replay"), "user_data_dir": Path("/user_data")}
    assert source_directory(config, ReplayConfig.from_exchange(exchange)) == Path(expected)


def test_without_any_directory_it_says_what_to_set() -> None:
    with pytest.raises(OperationalException, match="replay_source"):
        source_directory({}, ReplayConfig())
