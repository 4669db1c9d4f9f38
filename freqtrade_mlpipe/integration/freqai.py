"""`--freqaimodel MLPipeClassifier` and `MLPipeRegressor`: our trainer, gates and bundles inside FreqAI's loop.

The classes that freqtrade loads are thin subclasses in `user_data/freqaimodels`.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from freqtrade.enums import RunMode
from freqtrade.exceptions import OperationalException
from freqtrade.exchange import timeframe_to_seconds
from freqtrade.freqai.data_kitchen import FreqaiDataKitchen
from freqtrade.freqai.freqai_interface import IFreqaiModel
from freqtrade.strategy import IStrategy
from numpy.typing import NDArray

from freqtrade_mlpipe.config import MLPipeConfig
from freqtrade_mlpipe.exceptions import MLPipeError
from freqtrade_mlpipe.integration.freqai_backtest import BacktestRun
from freqtrade_mlpipe.integration.freqai_kitchen import (
    MLPipeDrawer,
    MLPipeKitchen,
    feature_matrix,
    tell_kitchen,
)
from freqtrade_mlpipe.integration.freqai_labels import Horizons, Labels, horizon_of
from freqtrade_mlpipe.integration.freqai_live import Retraining
from freqtrade_mlpipe.integration.freqai_record import RunRecord
from freqtrade_mlpipe.integration.freqai_rows import Plan
from freqtrade_mlpipe.integration.freqai_settings import check_keys, model_config
from freqtrade_mlpipe.integration.freqai_statistics import recent_statistics, rolling_statistics
from freqtrade_mlpipe.integration.freqai_targets import (
    Target,
    classifier_targets,
    regression_targets,
)
from freqtrade_mlpipe.integration.freqai_window import WindowModel
from freqtrade_mlpipe.tuning import Recipe

logger = logging.getLogger(__name__)


class MLPipeFreqaiModel(IFreqaiModel):
    """FreqAI's loop with models of ours.

    FreqAI's own keys behave as `freqai_settings.KEYS` says. Predictions that cannot be made are missing, with
    ``do_predict`` 0; the column ``mlpipe_model`` says when the model that spoke was trained (seconds since 1970).
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.dd = MLPipeDrawer(Path(self.full_path), config)
        self.dd.current_candle = self.current_candle
        self.horizons: Horizons = {}
        self._backtest: BacktestRun | None = None
        self.record = RunRecord(self.mlpipe, config)
        self.retraining = Retraining(self)

    def assert_config(self, config: dict[str, Any]) -> None:
        """Read all settings; whatever is wrong ends the command with a message."""
        super().assert_config(config)
        freqai = config["freqai"]
        try:
            self.mlpipe = MLPipeConfig.from_freqtrade(config)
            check_keys(freqai, gate=self.mlpipe.freqai.gate)
            estimator = model_config(self.mlpipe, freqai.get("model_training_parameters") or {})
        except MLPipeError as error:
            raise OperationalException(str(error)) from error
        freqai.setdefault("data_split_parameters", {})
        self.plan = Plan(
            recipe=Recipe(estimator, self.mlpipe.features),
            settings=self.mlpipe.freqai,
            freqai=freqai,
            candle=pd.Timedelta(seconds=timeframe_to_seconds(config["timeframe"])),
        )

    # --- what the two kinds of models differ in ------------------------------------------------

    @abstractmethod
    def targets_of(self, labels: pd.DataFrame) -> tuple[Target, ...]:
        """The targets, from the labels known so far."""

    # --- FreqAI's entry points -----------------------------------------------------------------

    def start(
        self, dataframe: pd.DataFrame, metadata: dict[str, Any], strategy: IStrategy
    ) -> pd.DataFrame:
        """The strategy's candles with predictions, as FreqAI's `start` gives them."""
        pair = metadata["pair"]
        self.live = strategy.dp.runmode in (RunMode.DRY_RUN, RunMode.LIVE)
        self.dd.set_pair_dict_info(metadata)
        self.data_provider = strategy.dp
        self.can_short = strategy.can_short
        self.dk = MLPipeKitchen(self.config, self.live, pair)
        try:
            if self.live:
                self.retraining.stop_if_fatal()
                self.inference_timer("start")
                dk = self.start_live(dataframe, metadata, strategy, self.dk)
                self.inference_timer("stop", pair)
            elif self.config.get("freqai_backtest_live_models", False):
                dk = self.start_backtesting_from_historic_predictions(dataframe, metadata, self.dk)
                historic: pd.DataFrame = dk.return_dataframe
                return historic
            else:
                dk = self.start_backtesting(dataframe, metadata, self.dk, strategy)
            found: pd.DataFrame = dk.remove_features_from_df(dk.return_dataframe)
            return found
        except MLPipeError as error:
            raise OperationalException(f"{pair}: {error}") from error
        finally:
            self.clean_up()

    def start_backtesting(
        self, dataframe: pd.DataFrame, metadata: dict[str, Any], dk: MLPipeKitchen, strategy: IStrategy
    ) -> MLPipeKitchen:  # fmt: skip
        """Train on each window and predict the one after it."""
        self.pair_it += 1
        if self._backtest is None:
            self._backtest = BacktestRun(self)
        frame, dk.full_df = self._backtest.predict_pair(dataframe, metadata["pair"], dk, strategy)
        self.backtesting_fit_live_predictions(dk)
        dk.fill_predictions(frame)
        if self.pair_it >= self.total_pairs:
            self._backtest.finish()
        return dk

    def start_scanning(self, strategy: IStrategy) -> None:
        """Retrain in a thread of its own for as long as the bot runs."""
        self._threads.append(self.retraining.start(strategy))

    def _on_stop(self) -> None:
        super()._on_stop()
        self.retraining.finish()

    def predict(
        self, unfiltered_df: pd.DataFrame, dk: FreqaiDataKitchen, **kwargs: Any
    ) -> tuple[pd.DataFrame, NDArray[np.int_]]:
        """Predictions of the model that serves the kitchen's pair, for a bot; it never raises."""
        model: WindowModel = self.model
        try:
            found, usable, dk.DI_values = model.predict(feature_matrix(unfiltered_df))
        except Exception as error:  # noqa: BLE001 - exits must go on
            logger.error(
                "%s: no prediction, %s: %s. It is trained anew.",
                dk.pair, type(error).__name__, error,
            )  # fmt: skip
            self.dd.pair_dict[dk.pair]["trained_timestamp"] = 0
            names = [str(name) for name in model.statistics]
            names += [t.name for t in model.targets if t.name not in names]
            found = pd.DataFrame(np.nan, index=range(len(unfiltered_df)), columns=names)
            usable = np.zeros(len(found), dtype=np.int_)
            dk.DI_values = np.full(len(found), np.nan)
        tell_kitchen(dk, model)
        dk.do_predict = usable
        return found, usable

    def train(self, unfiltered_df: pd.DataFrame, pair: str, dk: FreqaiDataKitchen, **_: Any) -> Any:
        """Not used: windows are trained by `freqai_backtest` and `freqai_live`."""
        raise NotImplementedError

    def fit(self, data_dictionary: dict[str, Any], dk: FreqaiDataKitchen, **_: Any) -> Any:
        """Not used: see `train`."""
        raise NotImplementedError

    # --- shared by backtests and bots ----------------------------------------------------------

    def labels_of(self, frame: pd.DataFrame, pair: str, strategy: IStrategy) -> Labels:
        """The targets of a pair; how far they look ahead is measured once."""

        def set_targets(candles: pd.DataFrame) -> pd.DataFrame:
            found: pd.DataFrame = strategy.set_freqai_targets(candles, metadata={"pair": pair})
            return found

        if pair not in self.horizons:
            self.horizons[pair] = horizon_of(
                pair, set_targets, frame,
                configured=self.mlpipe.freqai.horizon_candles,
                least=int(self.ft_params.get("label_period_candles") or 0),
            )  # fmt: skip
        horizon, local = self.horizons[pair]
        return Labels(set_targets, frame, horizon, local=local)

    def fit_live_predictions(self, dk: FreqaiDataKitchen, pair: str) -> None:
        """Mean and deviation of the last predictions; FreqAI's, but missing ones are left out."""
        n = self.freqai_info.get("fit_live_predictions_candles", 100)
        names = [*dk.label_list, *dk.unique_class_list]
        dk.data["labels_mean"], dk.data["labels_std"] = recent_statistics(
            self.dd.historic_predictions[pair], names or list(dk.data["labels_mean"]), n
        )

    def backtesting_fit_live_predictions(self, dk: FreqaiDataKitchen) -> None:
        """The same for every candle of a backtest: at once, unless a subclass has its own `fit_live_predictions`."""
        n = self.freqai_info.get("fit_live_predictions_candles", 0)
        if not n:
            return
        if type(self).fit_live_predictions is not MLPipeFreqaiModel.fit_live_predictions:
            super().backtesting_fit_live_predictions(dk)
            return
        extra = dk.data["extra_returns_per_train"]
        names = [c for c in dk.full_df if c in dk.label_list and c not in extra]
        dk.full_df = rolling_statistics(dk.full_df, names, n)

    def cache_corr_pairlist_dfs(
        self, dataframe: pd.DataFrame, dk: FreqaiDataKitchen
    ) -> pd.DataFrame:
        """Nothing: our engine computes correlated pairs each time, at a fraction of FreqAI's cost."""
        return dataframe


class MLPipeFreqaiClassifier(MLPipeFreqaiModel):
    """Two or three classes a target; several targets have a model each."""

    def targets_of(self, labels: pd.DataFrame) -> tuple[Target, ...]:
        """See `classifier_targets`."""
        return classifier_targets(labels, self.mlpipe.freqai.classes)


class MLPipeFreqaiRegressor(MLPipeFreqaiModel):
    """Numbers; several targets have a model each."""

    def targets_of(self, labels: pd.DataFrame) -> tuple[Target, ...]:
        """See `regression_targets`."""
        return regression_targets(labels)
