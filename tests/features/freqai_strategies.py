"""FreqAI strategies with everything that their feature methods are allowed to do."""

from __future__ import annotations

import numpy as np
import pandas as pd
from freqtrade.strategy import IStrategy
from freqtrade.templates.FreqaiExampleStrategy import FreqaiExampleStrategy


class Strategy(IStrategy):
    """freqtrade's own feature methods: they add nothing."""

    def populate_indicators(self, dataframe: pd.DataFrame, metadata: dict) -> pd.DataFrame:
        return dataframe


class Light(Strategy):
    def feature_engineering_expand_all(self, dataframe, period, metadata, **kwargs):
        dataframe["%-change-period"] = dataframe["close"] / dataframe["close"].shift(period) - 1
        return dataframe

    def feature_engineering_expand_basic(self, dataframe, metadata, **kwargs):
        dataframe["%-body"] = dataframe["close"] / dataframe["open"] - 1
        return dataframe

    def feature_engineering_standard(self, dataframe, metadata, **kwargs):
        dataframe["%-hour"] = dataframe["date"].dt.hour
        return dataframe


class OddTypes(Strategy):
    """Every type that holds numbers, gaps and infinities, columns of some timeframes or periods only."""

    def feature_engineering_expand_all(self, dataframe, period, metadata, **kwargs):
        close = dataframe["close"]
        dataframe["%-integer-period"] = np.arange(len(close)) % period
        dataframe["%-single-period"] = close.pct_change(period).astype("float32")
        dataframe["%-gappy-period"] = close.where(close > close.rolling(period).mean())
        dataframe["note-period"] = "text"
        if metadata["tf"] == "1h" and period > 3:
            dataframe["%-hourly-period"] = close.diff(period)
        return dataframe

    def feature_engineering_expand_basic(self, dataframe, metadata, **kwargs):
        close, volume = dataframe["close"], dataframe["volume"]
        dataframe["%-up"] = close > close.shift()
        dataframe["%-was_up"] = (close > close.shift()).shift(2)
        dataframe["%-nullable"] = (
            (volume * 100).round().astype("Int64").where(close > close.shift())
        )
        dataframe["%-infinite"] = 1 / (close - close.shift()).round(1)
        dataframe["%-nothing"] = np.nan
        dataframe["%%-plotted"] = close.ewm(span=5).mean() / close
        dataframe["when"] = dataframe["date"]
        return dataframe


class OddTables(Strategy):
    """Other candles changed, other indexes, and a last method that works on what the first ones made."""

    def feature_engineering_expand_all(self, dataframe, period, metadata, **kwargs):
        dataframe[f"%-high-period_{metadata['pair']}"] = dataframe["high"].rolling(period).max()
        dataframe["middle-period"] = dataframe["close"].rolling(period).mean()
        dataframe["close"] = 0.0
        return dataframe.set_index(pd.Index(range(7, 7 + len(dataframe))))

    def feature_engineering_expand_basic(self, dataframe, metadata, **kwargs):
        return pd.DataFrame(
            {"%-position": np.arange(len(dataframe)) + 0.5, "date": dataframe["date"]}
        ).join(dataframe.drop(columns="date"))

    def feature_engineering_standard(self, dataframe, metadata, **kwargs):
        own = f"{metadata['pair']}_{self.config['timeframe']}"
        first = f"%-position_gen_{own}"
        dataframe["%-relative"] = dataframe[f"middle-period_5_{own}"] / dataframe["close"]
        for name in [name for name in dataframe.columns if name.startswith("%-high-")]:
            dataframe[f"{name}_squared"] = dataframe[name] ** 2
        dataframe[f"{first}_twice"] = 2 * dataframe[first]
        dataframe.loc[dataframe.index[::3], first] = -1.0
        return dataframe.drop(columns=f"%-position_gen_shift-1_{own}")


class BasicOnly(Strategy):
    def feature_engineering_expand_basic(self, dataframe, metadata, **kwargs):
        dataframe["%-range"] = dataframe["high"] / dataframe["low"]
        return dataframe


FREQAI_STRATEGIES = (FreqaiExampleStrategy, Light, OddTypes, OddTables, BasicOnly)
