"""Enters in one candle and leaves in the next, so that trades open and close within minutes."""

from typing import ClassVar

from freqtrade.strategy import IStrategy
from pandas import DataFrame


class EveryCandle(IStrategy):
    """Long only, limit orders at the best price."""

    INTERFACE_VERSION = 3
    timeframe = "1m"
    can_short = False
    minimal_roi: ClassVar[dict[str, float]] = {"0": 10}
    stoploss = -0.9
    startup_candle_count = 30
    process_only_new_candles = True

    def populate_indicators(self, dataframe: DataFrame, metadata: dict) -> DataFrame:
        dataframe["even"] = dataframe["date"].dt.minute % 2 == 0
        return dataframe

    def populate_entry_trend(self, dataframe: DataFrame, metadata: dict) -> DataFrame:
        dataframe.loc[dataframe["even"], "enter_long"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe: DataFrame, metadata: dict) -> DataFrame:
        dataframe.loc[~dataframe["even"], "exit_long"] = 1
        return dataframe
