"""Strategies that trade within minutes: what the tests of live trading run."""

from datetime import datetime
from typing import Any, ClassVar

from freqtrade.persistence import Trade
from freqtrade.strategy import IStrategy
from pandas import DataFrame

MARKET_ORDERS = {
    "entry": "market",
    "exit": "market",
    "stoploss": "market",
    "stoploss_on_exchange": False,
}


class EveryCandle(IStrategy):
    """Enters at every candle and leaves in the next minute; long, limit orders at the best price."""

    INTERFACE_VERSION = 3
    timeframe = "1m"
    can_short = False
    minimal_roi: ClassVar[dict[str, float]] = {"0": 10}
    stoploss = -0.9
    startup_candle_count = 30
    process_only_new_candles = True

    def populate_indicators(self, dataframe: DataFrame, metadata: dict) -> DataFrame:
        return dataframe

    def populate_entry_trend(self, dataframe: DataFrame, metadata: dict) -> DataFrame:
        dataframe["enter_long"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe: DataFrame, metadata: dict) -> DataFrame:
        return dataframe

    def custom_exit(
        self,
        pair: str,
        trade: Trade,
        current_time: datetime,
        current_rate: float,
        current_profit: float,
        **kwargs: Any,
    ) -> str | None:
        opened = trade.open_date_utc
        return "a minute later" if current_time.minute != opened.minute else None


class Patient(EveryCandle):
    """Bids 0.05 % below the market, for ETH 10 %: one order waits and fills, the other never does."""

    def custom_entry_price(
        self,
        pair: str,
        trade: Trade | None,
        current_time: datetime,
        proposed_rate: float,
        entry_tag: str | None,
        side: str,
        **kwargs: Any,
    ) -> float:
        return proposed_rate * (0.9 if pair.startswith("ETH") else 0.9995)


class BothSides(EveryCandle):
    """Perpetuals with market orders and leverage: BTC long, everything else short."""

    can_short = True
    order_types: ClassVar[dict[str, Any]] = MARKET_ORDERS

    def populate_entry_trend(self, dataframe: DataFrame, metadata: dict) -> DataFrame:
        side = "enter_long" if metadata["pair"].startswith("BTC") else "enter_short"
        dataframe[side] = 1
        return dataframe

    def leverage(
        self,
        pair: str,
        current_time: datetime,
        current_rate: float,
        proposed_leverage: float,
        max_leverage: float,
        entry_tag: str | None,
        side: str,
        **kwargs: Any,
    ) -> float:
        return 3.0
