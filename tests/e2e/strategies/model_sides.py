"""A strategy that trades both sides of perpetuals by a model of three classes, often enough to be watched."""

import logging
import time
from typing import Any, ClassVar

from freqtrade.strategy import IStrategy
from pandas import DataFrame

from freqtrade_mlpipe import MLPipeMixin

_SETTLED_SECONDS = 360
"""freqtrade asks a second after a candle's end, when a stream has told of it; on a clock that is paced too soon."""


class ModelSides(MLPipeMixin, IStrategy):
    """Takes the side that the model leans to more than it mostly does; a trade ends in the next iteration."""

    INTERFACE_VERSION = 3
    timeframe = "1h"
    can_short = True
    process_only_new_candles = True
    minimal_roi: ClassVar[dict[str, float]] = {"0": -1}
    stoploss = -0.9
    order_types: ClassVar[dict[str, Any]] = {
        "entry": "market",
        "exit": "market",
        "stoploss": "market",
        "stoploss_on_exchange": False,
    }

    def bot_start(self, **kwargs: Any) -> None:
        super().bot_start(**kwargs)
        logging.getLogger("freqtrade.exchange.exchange").setLevel(
            logging.DEBUG
        )  # whence candles come

    def gather_informative_pairs(self) -> Any:
        """Called just before candles are asked for."""
        into_candle = time.time() % 3600
        time.sleep(max(0.0, _SETTLED_SECONDS - into_candle))
        return super().gather_informative_pairs()

    def mlpipe_features(self, dataframe: DataFrame, metadata: dict[str, Any]) -> DataFrame:
        dataframe["%-range"] = (dataframe["high"] - dataframe["low"]) / dataframe["close"]
        return dataframe

    def populate_entry_trend(self, dataframe: DataFrame, metadata: dict[str, Any]) -> DataFrame:
        usable = dataframe["mlpipe_do_predict"] == 1
        leaning = dataframe["mlpipe_proba"] - dataframe["mlpipe_proba_short"]
        up = leaning >= leaning.median()
        dataframe.loc[usable & up, "enter_long"] = 1
        dataframe.loc[usable & ~up, "enter_short"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe: DataFrame, metadata: dict[str, Any]) -> DataFrame:
        return dataframe
