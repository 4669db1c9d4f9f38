"""FreqAI's data kitchen and data drawer with injective names, our feature engine, and files that survive a kill."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
from freqtrade.freqai.data_drawer import FreqaiDataDrawer
from freqtrade.freqai.data_kitchen import FreqaiDataKitchen
from freqtrade.strategy import IStrategy

from freqtrade_mlpipe.config import ExpansionConfig
from freqtrade_mlpipe.exceptions import BundleError, ConfigError
from freqtrade_mlpipe.features.expansion import CorrelatedTables, expand_candles
from freqtrade_mlpipe.integration.freqai_store import pair_slug, read_window, window_folder
from freqtrade_mlpipe.integration.freqai_targets import label_names
from freqtrade_mlpipe.integration.freqai_window import WindowModel
from freqtrade_mlpipe.registry.files import write_atomically

logger = logging.getLogger(__name__)

EXPIRED = 2
"""FreqAI's `do_predict` of a model older than `expiration_hours`."""
FEATURE_PREFIX, PLOTTED_PREFIX = "%", "%%"
Dataframes = Mapping[Any, Any]


class MLPipeKitchen(FreqaiDataKitchen):
    """One pair's data at one time; FreqAI makes a new one whenever it trains or predicts.

    Attributes
    ----------
    correlated : features of correlated pairs that all pairs of a backtest share; None: computed each time.
    """

    full_df: pd.DataFrame
    plotted: pd.DataFrame = pd.DataFrame()
    correlated: CorrelatedTables | None = None

    def set_paths(self, pair: str, trained_timestamp: int | None = None) -> None:
        """FreqAI's, but no two pairs share a folder."""
        self.full_path = self.get_full_models_path(self.config)
        self.data_path = window_folder(self.full_path, pair, trained_timestamp)

    def set_new_model_names(self, pair: str, timestamp_id: int) -> None:
        """FreqAI's, but no two pairs share a name."""
        self.data_path = window_folder(self.full_path, pair, timestamp_id)
        self.model_filename = f"{pair_slug(pair)}_{timestamp_id}"

    def remove_special_chars_from_feature_names(self, dataframe: pd.DataFrame) -> pd.DataFrame:
        """Nothing: models know columns by position, and names without ``:`` could collide."""
        return dataframe

    def use_strategy_to_populate_indicators(
        self,
        strategy: IStrategy,
        corr_dataframes: Dataframes | None = None,
        base_dataframes: Dataframes | None = None,
        pair: str = "",
        prediction_dataframe: pd.DataFrame | None = None,
        do_corr_pairs: bool = True,
    ) -> pd.DataFrame:
        """Candles with the strategy's features, by our own engine: FreqAI's values, without its merges and copies.

        Feature names do not hold the pair itself, so that a model can be handed over to `MLPipeMixin`. A bot's frame
        also gets the targets.
        """
        expansion = ExpansionConfig.from_freqtrade(self.config)
        if expansion is None:
            raise ConfigError("config: freqai.feature_parameters is missing.")
        own, correlated = base_dataframes or {}, corr_dataframes or {}
        timeframe = str(self.config["timeframe"])
        dataframe = prediction_dataframe
        if dataframe is None or dataframe.empty:
            dataframe = own[timeframe]

        def candles(other: str, tf: str) -> pd.DataFrame:
            found = (own if other == pair else correlated.get(other, {})).get(tf)
            if found is None or found.empty:
                found = strategy.dp.get_pair_dataframe(pair=other, timeframe=tf)
            return with_dates(found)

        base = with_dates(dataframe).reset_index(drop=True)
        expansion = expansion.model_copy(
            update={"include_corr_pairlist": tuple(p for p in expansion.include_corr_pairlist if p != pair)}
        )  # fmt: skip
        found = expand_candles(
            strategy, base, pair=pair, timeframe=timeframe, config=expansion, candles=candles,
            correlated=self.correlated,
        )  # fmt: skip
        left = [n for n in found.others.columns if n not in base.columns]
        plotted = [name for name in left if name.startswith(PLOTTED_PREFIX)]
        self.plotted = pd.concat([base["date"], found.others[plotted]], axis=1)
        others = found.others[[name for name in left if name not in plotted]]
        base = base.drop(columns=feature_names(base))
        frame = pd.concat([base, others, found.features], axis=1)
        if self.live:
            frame = strategy.set_freqai_targets(frame.copy(), metadata={"pair": pair})
            self.find_labels(frame)
        return frame

    def fill_predictions(self, dataframe: pd.DataFrame) -> None:
        """The frame with predictions joined by date; candles without one have none, and do_predict 0."""
        kept = [name for name in dataframe.columns if not name.startswith(("&", PLOTTED_PREFIX))]
        kept = [name for name in kept if name == "date" or name not in self.full_df.columns]
        joined = dataframe[kept].merge(self.full_df, how="left", on="date")
        joined["do_predict"] = joined["do_predict"].fillna(0).astype(int)
        self.return_dataframe = joined
        self.full_df = pd.DataFrame()

    def remove_features_from_df(self, dataframe: pd.DataFrame) -> pd.DataFrame:
        """FreqAI's: what starts with ``%%`` stays, by FreqAI's names."""
        kept = dataframe[
            [name for name in dataframe.columns if not name.startswith(FEATURE_PREFIX)]
        ]
        if self.plotted.shape[1] < 2:
            return kept
        return kept.merge(self.plotted, how="left", on="date")

    def find_features(self, dataframe: pd.DataFrame) -> None:
        """Columns that start with ``%``: a target or candle with a ``%`` elsewhere in its name is none."""
        self.training_features_list = feature_names(dataframe)

    def find_labels(self, dataframe: pd.DataFrame) -> None:
        """Columns that start with ``&``."""
        self.label_list = label_names(dataframe)


def feature_names(frame: pd.DataFrame) -> list[str]:
    """The feature columns, in order."""
    return [str(name) for name in frame.columns if str(name).startswith(FEATURE_PREFIX)]


def feature_matrix(frame: pd.DataFrame) -> pd.DataFrame:
    """Features as float32 on the candles' dates; infinities are missing."""
    names = feature_names(frame)
    block = np.empty((len(frame), len(names)), dtype=np.float32, order="F")
    with np.errstate(over="ignore"):
        for k, name in enumerate(names):
            column = frame[name]
            plain = column.dtype == np.float64
            block[:, k] = (
                column.to_numpy() if plain else column.to_numpy(np.float64, na_value=np.nan)
            )
    block[np.isinf(block)] = np.nan
    # Names are compared and looked up all the time: objects are, thirty times as fast as pandas' strings.
    columns = pd.Index(names, dtype=object)
    return pd.DataFrame(block, index=pd.DatetimeIndex(frame["date"]), columns=columns, copy=False)


def with_dates(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with dates of one type (UTC): joined candles of several units have dates of no type at all."""
    if isinstance(frame["date"].dtype, pd.DatetimeTZDtype):
        return frame
    return frame.assign(date=pd.to_datetime(frame["date"], utc=True).dt.as_unit("ms"))


class MLPipeDrawer(FreqaiDataDrawer):
    """What FreqAI keeps of all pairs, in memory and on disk."""

    def load_data(self, coin: str, dk: FreqaiDataKitchen) -> WindowModel | None:
        """The model that serves a pair, with what FreqAI asks of it in the kitchen; None where there is none."""
        known = self.pair_dict.get(coin)
        if not known or not known["model_filename"]:
            return None
        dk.model_filename, dk.data_path = known["model_filename"], Path(known["data_path"])
        if coin not in self.model_dictionary:
            try:
                self.model_dictionary[coin] = read_window(dk.data_path)[0]
            except BundleError as error:
                logger.error(
                    "%s: its model cannot be used, until the next training: %s", coin, error
                )
                known["model_filename"], known["trained_timestamp"] = "", 0
                return None
        model: WindowModel = self.model_dictionary[coin]
        tell_kitchen(dk, model)
        return model

    def serve(self, coin: str, model: WindowModel, dk: FreqaiDataKitchen) -> None:
        """Let a stored model serve a pair from now on."""
        with self.pair_dict_lock:
            self.model_dictionary[coin] = model
        self.name(coin, dk, self.pair_dict[coin]["trained_timestamp"])

    def name(self, coin: str, dk: FreqaiDataKitchen, trained_timestamp: int) -> None:
        """Note on disk which stored model serves a pair."""
        with self.pair_dict_lock:
            known = self.pair_dict[coin]
            known["model_filename"], known["data_path"] = dk.model_filename, str(dk.data_path)
            known["trained_timestamp"] = trained_timestamp
        self.save_drawer_to_disk()

    def save_drawer_to_disk(self) -> None:
        """FreqAI's file, whole whatever happens."""
        with self.save_lock:
            text = json.dumps(self.pair_dict, default=self.np_encoder)
            write_atomically(self.pair_dictionary_path, text.encode())

    def save_historic_predictions_to_disk(self) -> None:
        """FreqAI's own file, in its own format, whole whatever happens."""
        data = cloudpickle.dumps(self.historic_predictions)
        write_atomically(self.historic_predictions_path, data)
        backup = self.historic_predictions_bkp_path
        unfinished = backup.with_name(f".unfinished-{backup.name}")
        unfinished.unlink(missing_ok=True)
        os.link(self.historic_predictions_path, unfinished)
        unfinished.replace(backup)

    def update_historic_data(self, strategy: IStrategy, dk: FreqaiDataKitchen) -> None:
        """FreqAI's, with candles of one unit: milliseconds and microseconds do not join."""
        with self.history_lock:
            for pair, frames in self.historic_data.items():
                for timeframe, known in frames.items():
                    fresh = strategy.dp.get_pair_dataframe(pair, timeframe)
                    if len(fresh):
                        dates = with_dates(known)["date"].dt.as_unit(fresh["date"].dt.unit)
                        frames[timeframe] = known.assign(date=dates)
        super().update_historic_data(strategy, dk)

    def set_initial_return_values(
        self, pair: str, pred_df: pd.DataFrame, dataframe: pd.DataFrame
    ) -> None:
        """FreqAI's, but candles without a prediction have none, not 0."""
        known = self.historic_predictions[pair]["date_pred"].max()
        super().set_initial_return_values(pair, pred_df, dataframe)
        for frame in (self.historic_predictions[pair], self.model_return_values[pair]):
            _forget(frame, frame["date_pred"] > known)

    def append_model_predictions(
        self, pair: str, predictions: pd.DataFrame, do_preds: Any, dk: FreqaiDataKitchen,
        strat_df: pd.DataFrame,
    ) -> None:  # fmt: skip
        """FreqAI's, but candles that the bot skipped, or whose model has expired, have no prediction, not 0."""
        if do_preds[-1] == EXPIRED:
            predictions = self._nothing_of(pair, dk)
        known = self.historic_predictions[pair]["date_pred"].max()
        super().append_model_predictions(pair, predictions, do_preds, dk, strat_df)
        frame = self.historic_predictions[pair]
        skipped = (frame["date_pred"] > known) & (frame["date_pred"] < frame["date_pred"].max())
        if skipped.any():
            _forget(frame, skipped)
            self.model_return_values[pair] = frame.tail(len(strat_df)).reset_index(drop=True)

    def _nothing_of(self, pair: str, dk: FreqaiDataKitchen) -> pd.DataFrame:
        names = [*dk.label_list, *dk.data["labels_mean"]]
        known = self.historic_predictions[pair].columns
        return pd.DataFrame({name: [np.nan] for name in names if name in known})

    def return_null_values_to_strategy(
        self, dataframe: pd.DataFrame, dk: FreqaiDataKitchen
    ) -> None:
        """No model yet: no predictions, and do_predict 0."""
        dk.find_features(dataframe)
        dk.find_labels(dataframe)
        classes = set()
        for label in dk.label_list:
            if not pd.api.types.is_numeric_dtype(dataframe[label].dtype):
                classes |= set(map(str, dataframe[label].dropna().unique()))
        nothing: dict[str, Any] = {}
        for label in [*dk.label_list, *sorted(classes)]:
            nothing |= {label: np.nan, f"{label}_mean": np.nan, f"{label}_std": np.nan}
        nothing |= dict.fromkeys(dk.data["extra_returns_per_train"], np.nan)
        nothing |= {"do_predict": 0, "DI_values": np.nan}
        dk.return_dataframe = dataframe.assign(**nothing)


def tell_kitchen(dk: FreqaiDataKitchen, model: WindowModel) -> None:
    """What FreqAI reads in a kitchen: the model's columns and the statistics of its targets."""
    dk.training_features_list = list(model.feature_names)
    dk.label_list = [target.name for target in model.targets]
    dk.data["labels_mean"] = {name: mean for name, (mean, _) in model.statistics.items()}
    dk.data["labels_std"] = {name: std for name, (_, std) in model.statistics.items()}


def _forget(frame: pd.DataFrame, rows: pd.Series) -> None:
    for name in frame.columns:
        if name == "do_predict":
            frame.loc[rows, name] = 0
        elif not name.startswith("date"):
            values = frame[name]
            if pd.api.types.is_integer_dtype(values.dtype):
                frame[name] = values.astype(np.float64)
            frame.loc[rows, name] = np.nan
