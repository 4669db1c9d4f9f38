"""Enter where the production model sees an edge, leave when its horizon has passed and the edge is gone."""

from datetime import datetime

from freqtrade.persistence import Trade
from freqtrade.strategy import DecimalParameter, IStrategy
from pandas import DataFrame

from freqtrade_mlpipe import MLPipeMixin


class MLStrategy(MLPipeMixin, IStrategy):
    INTERFACE_VERSION = 3

    timeframe = "1h"
    process_only_new_candles = True

    # The model's horizon ends a trade; the stop is for what no model has seen.
    minimal_roi = {"0": 10.0}
    stoploss = -0.15
    use_exit_signal = True

    # Added to the entry threshold that the model chose when it was trained.
    # `freqtrade hyperopt --spaces buy sell` tunes both on cached predictions.
    entry_margin = DecimalParameter(-0.05, 0.10, default=0.0, decimals=3, space="buy")
    exit_margin = DecimalParameter(-0.20, 0.00, default=-0.10, decimals=3, space="sell")

    def __init__(self, config: dict) -> None:
        super().__init__(config)
        # Shorts need a futures market and a model of three classes: short, flat, long.
        self.can_short = config.get("trading_mode") == "futures" and self.mlpipe.labels.classes == 3

    # Your own causal features, in columns that start with "%-". For example:
    # def mlpipe_features(self, dataframe: DataFrame, metadata: dict) -> DataFrame:
    #     dataframe["%-range"] = (dataframe["high"] - dataframe["low"]) / dataframe["close"]
    #     return dataframe

    def populate_entry_trend(self, dataframe: DataFrame, metadata: dict) -> DataFrame:
        usable = dataframe["mlpipe_do_predict"] == 1
        dataframe.loc[
            usable & (dataframe["mlpipe_edge"] >= self.entry_margin.value), "enter_long"
        ] = 1
        if self.can_short:
            short = dataframe["mlpipe_edge_short"]
            wanted = usable & (short >= self.entry_margin.value)
            # Where both sides are wanted, the one with the larger edge: freqtrade enters neither otherwise.
            dataframe.loc[wanted & (short > dataframe["mlpipe_edge"]), "enter_short"] = 1
            dataframe.loc[wanted & (short >= dataframe["mlpipe_edge"]), "enter_long"] = 0
        return dataframe

    def populate_exit_trend(self, dataframe: DataFrame, metadata: dict) -> DataFrame:
        usable = dataframe["mlpipe_do_predict"] == 1
        dataframe.loc[usable & (dataframe["mlpipe_edge"] < self.exit_margin.value), "exit_long"] = 1
        if self.can_short:
            gone = dataframe["mlpipe_edge_short"] < self.exit_margin.value
            dataframe.loc[usable & gone, "exit_short"] = 1
        return dataframe

    def custom_exit(
        self,
        pair: str,
        trade: Trade,
        current_time: datetime,
        current_rate: float,
        current_profit: float,
        **kwargs,
    ) -> str | None:
        if not self.mlpipe_horizon_passed(trade.open_date_utc, current_time, pair):
            return None
        candles, _ = self.dp.get_analyzed_dataframe(pair, self.timeframe)
        edge = "mlpipe_edge_short" if trade.is_short else "mlpipe_edge"
        if len(candles) and candles[edge].iloc[-1] >= self.entry_margin.value:
            return None
        return "mlpipe_horizon"
