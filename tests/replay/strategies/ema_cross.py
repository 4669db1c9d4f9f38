"""A plain EMA cross with one buy parameter: what the replay tests run freqtrade with."""

from typing import ClassVar

import talib.abstract as ta
from freqtrade.strategy import IntParameter, IStrategy
from pandas import DataFrame


class EmaCross(IStrategy):
    INTERFACE_VERSION = 3
    timeframe = "1h"
    can_short = False
    minimal_roi: ClassVar[dict[str, float]] = {"0": 0.05}
    stoploss = -0.1
    startup_candle_count = 240
    process_only_new_candles = True

    buy_fast = IntParameter(8, 14, default=12, space="buy")

    def populate_indicators(self, dataframe: DataFrame, metadata: dict) -> DataFrame:
        for period in self.buy_fast.range:
            dataframe[f"fast_{period}"] = ta.EMA(dataframe, timeperiod=period)
        dataframe["slow"] = ta.EMA(dataframe, timeperiod=26)
        return dataframe

    def populate_entry_trend(self, dataframe: DataFrame, metadata: dict) -> DataFrame:
        fast = dataframe[f"fast_{self.buy_fast.value}"]
        above = fast > dataframe["slow"]
        dataframe.loc[above & ~above.shift(1, fill_value=False), "enter_long"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe: DataFrame, metadata: dict) -> DataFrame:
        fast = dataframe[f"fast_{self.buy_fast.value}"]
        dataframe.loc[fast < dataframe["slow"], "exit_long"] = 1
        return dataframe
