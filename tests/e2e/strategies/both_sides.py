"""Long and short by turns, two minutes each, with leverage: for perpetuals."""

from datetime import datetime
from typing import Any, ClassVar

from freqtrade.strategy import IStrategy
from pandas import DataFrame


class BothSides(IStrategy):
    """Market orders, so that every signal becomes a position."""

    INTERFACE_VERSION = 3
    timeframe = "1m"
    can_short = True
    minimal_roi: ClassVar[dict[str, float]] = {"0": 10}
    stoploss = -0.9
    startup_candle_count = 30
    process_only_new_candles = True
    order_types: ClassVar[dict[str, Any]] = {
        "entry": "market",
        "exit": "market",
        "stoploss": "market",
        "stoploss_on_exchange": False,
    }

    def populate_indicators(self, dataframe: DataFrame, metadata: dict) -> DataFrame:
        dataframe["phase"] = dataframe["date"].dt.minute % 4
        return dataframe

    def populate_entry_trend(self, dataframe: DataFrame, metadata: dict) -> DataFrame:
        dataframe.loc[dataframe["phase"] == 0, "enter_long"] = 1
        dataframe.loc[dataframe["phase"] == 2, "enter_short"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe: DataFrame, metadata: dict) -> DataFrame:
        dataframe.loc[dataframe["phase"] == 1, "exit_long"] = 1
        dataframe.loc[dataframe["phase"] == 3, "exit_short"] = 1
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
