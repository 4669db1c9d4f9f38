"""A FreqAI strategy for MLPipeClassifier: causal features without price levels, a target that may be unknown.

`freqtrade backtesting --strategy MLFreqaiStrategy --freqaimodel MLPipeClassifier -c config.json -c freqai.json`
"""

import numpy as np
import talib.abstract as ta
from freqtrade.strategy import DecimalParameter, IStrategy
from pandas import DataFrame


class MLFreqaiStrategy(IStrategy):
    INTERFACE_VERSION = 3

    timeframe = "1h"
    process_only_new_candles = True
    startup_candle_count = 100

    minimal_roi = {"0": 10.0}
    stoploss = -0.10
    use_exit_signal = True

    # `freqtrade hyperopt --spaces buy sell` tunes both on cached predictions.
    enter_above = DecimalParameter(0.50, 0.75, default=0.55, decimals=3, space="buy")
    exit_below = DecimalParameter(0.25, 0.50, default=0.45, decimals=3, space="sell")

    def feature_engineering_expand_all(
        self, dataframe: DataFrame, period: int, metadata: dict, **kwargs
    ) -> DataFrame:
        close, volume = dataframe["close"], dataframe["volume"]
        dataframe["%-rsi-period"] = ta.RSI(dataframe, timeperiod=period)
        dataframe["%-adx-period"] = ta.ADX(dataframe, timeperiod=period)
        dataframe["%-return-period"] = close.pct_change(period)
        dataframe["%-volatility-period"] = close.pct_change().rolling(period).std()
        dataframe["%-sma_distance-period"] = close / close.rolling(period).mean() - 1
        dataframe["%-volume_ratio-period"] = volume / volume.rolling(period).mean()
        return dataframe

    def feature_engineering_expand_basic(
        self, dataframe: DataFrame, metadata: dict, **kwargs
    ) -> DataFrame:
        dataframe["%-change"] = dataframe["close"].pct_change()
        dataframe["%-range"] = (dataframe["high"] - dataframe["low"]) / dataframe["close"]
        return dataframe

    def feature_engineering_standard(
        self, dataframe: DataFrame, metadata: dict, **kwargs
    ) -> DataFrame:
        dataframe["%-hour"] = dataframe["date"].dt.hour
        return dataframe

    def set_freqai_targets(self, dataframe: DataFrame, metadata: dict, **kwargs) -> DataFrame:
        ahead = self.freqai_info["feature_parameters"]["label_period_candles"]
        later = dataframe["close"].shift(-ahead)
        rises = np.where(later > dataframe["close"], "up", "down")
        # Where the future is unknown the target is missing, not "down".
        dataframe["&s-up_or_down"] = np.where(later.isna(), None, rises)
        return dataframe

    def populate_indicators(self, dataframe: DataFrame, metadata: dict) -> DataFrame:
        return self.freqai.start(dataframe, metadata, self)

    def populate_entry_trend(self, dataframe: DataFrame, metadata: dict) -> DataFrame:
        usable = dataframe["do_predict"] == 1
        dataframe.loc[usable & (dataframe["up"] > self.enter_above.value), "enter_long"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe: DataFrame, metadata: dict) -> DataFrame:
        usable = dataframe["do_predict"] == 1
        dataframe.loc[usable & (dataframe["up"] < self.exit_below.value), "exit_long"] = 1
        return dataframe
