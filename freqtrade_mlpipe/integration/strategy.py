"""The `IStrategy` mixin: predicts with the production model, honestly in backtests, never in the way of a bot."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

import pandas as pd
from freqtrade.enums import OPTIMIZE_MODES, TRADE_MODES
from freqtrade.exceptions import OperationalException, StrategyError
from freqtrade.exchange import timeframe_to_seconds
from freqtrade.strategy import IStrategy

from freqtrade_mlpipe.config import MLPipeConfig
from freqtrade_mlpipe.exceptions import MLPipeError, RegistryError
from freqtrade_mlpipe.features import FeatureEngineer
from freqtrade_mlpipe.integration.serving import Served, load_served, resolve_served

logger = logging.getLogger(__name__)

USER_FEATURE_PREFIX = "%-"


class ServingError(OperationalException, ValueError):
    """No model can be served.

    Also a `ValueError`: freqtrade's wrapper around `bot_start` logs those as one line, without a traceback.
    """


class MLPipeMixin(IStrategy):
    """Adds a registered model's predictions to a strategy: ``class MyStrategy(MLPipeMixin, IStrategy)``.

    `populate_indicators` adds these columns; a strategy that overrides it calls `mlpipe_predict` itself.

    - ``mlpipe_proba``: calibrated probability that the label is 1; NaN where there is no prediction.
    - ``mlpipe_edge``: that probability minus the entry threshold the model chose when it was trained.
    - ``mlpipe_signal``: 1 enter, -1 exit, 0 neither, by the model's thresholds.
    - ``mlpipe_do_predict``: 1 usable; 0 not predictable (warm-up, NaN inputs, no model); -1 masked, because every
      member of the model has seen the candle in training.
    - ``mlpipe_version``: the registered version that spoke.

    In a backtest each candle is predicted by the walk-forward member that was trained strictly before it.

    Notes
    -----
    It derives from `IStrategy` because hyperopt pickles the modules of all other bases by value, up to `object`'s:
    a mixin on `object` would make it pickle the builtins, and fail.
    https://github.com/freqtrade/freqtrade/blob/2026.9/freqtrade/optimize/hyperopt/hyperopt_optimizer.py
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        try:
            self.mlpipe = MLPipeConfig.from_freqtrade(config)
        except MLPipeError as error:
            raise OperationalException(str(error)) from error
        self._mlpipe_engineer = FeatureEngineer(self.mlpipe.features)
        self._mlpipe_served: Served | None = None
        self._mlpipe_warned: set[str] = set()
        self.startup_candle_count: int = max(
            self.startup_candle_count, self._mlpipe_engineer.startup_candles
        )
        if config.get("runmode") in OPTIMIZE_MODES:
            self._pin_version(config)

    def _pin_version(self, config: dict[str, Any]) -> None:
        """Fix the version for the whole run, and in freqtrade's backtest cache key: another model, another result."""
        try:
            resolved = resolve_served(self.mlpipe)
        except MLPipeError:
            return  # bot_start raises it, or serves no entries
        config["mlpipe_digest"] = resolved.digest
        serving = self.mlpipe.serving.model_copy(update={"version": resolved.version})
        self.mlpipe = self.mlpipe.model_copy(update={"serving": serving})

    def __getstate__(self) -> dict[str, Any]:
        """Hyperopt sends the strategy to its workers; they load the model from the cache themselves."""
        return {**self.__dict__, "_mlpipe_served": None}

    def bot_start(self, **kwargs: Any) -> None:
        """Resolve, verify, load and self-test the model.

        Raises
        ------
        ServingError
            When there is no usable model and `serving.on_missing` is "raise".
        """
        super().bot_start(**kwargs)
        self._mlpipe_served = None
        try:
            self._mlpipe_served = self._load()
        except RegistryError as error:
            if self.mlpipe.serving.on_missing == "raise":
                raise ServingError(str(error)) from error
            logger.warning("No entries will be made: %s", error)
        except MLPipeError as error:
            raise ServingError(str(error)) from error

    def _load(self) -> Served:
        served = load_served(self.mlpipe, resolve_served(self.mlpipe), self.timeframe)
        served.bundle.self_test(
            lambda candles, pair: self.mlpipe_compute(candles, {"pair": pair}, served.engineer)
        )
        needed = served.engineer.startup_candles
        if needed > self.startup_candle_count:
            self._warn_once(
                f"{served.resolved.name} version {served.resolved.version} needs {needed} startup candles, the "
                f"strategy has {self.startup_candle_count}: copy the model's `features` into the mlpipe block."
            )
        logger.info(
            "Serving %s version %s, trained on candles before %s.",
            served.resolved.name, served.resolved.version, served.bundle.members[-1].train_end,
        )  # fmt: skip
        return served

    def mlpipe_features(self, dataframe: pd.DataFrame, metadata: dict[str, Any]) -> pd.DataFrame:
        """Add causal features of your own in columns that start with ``%-``; override it, the default adds none.

        The same method runs in training and in the bot. A row may use candles up to itself only.
        """
        return dataframe

    def mlpipe_compute(
        self,
        dataframe: pd.DataFrame,
        metadata: dict[str, Any],
        engineer: FeatureEngineer | None = None,
    ) -> pd.DataFrame:
        """Features of every candle: the catalogue's and `mlpipe_features`', float32, NaN during warm-up.

        Raises
        ------
        DataError
            When the candles are unusable or fewer than the warm-up.
        StrategyError
            When `mlpipe_features` fails, or does not give one row of numbers a candle.
        """
        engineer = engineer or self._mlpipe_engineer
        features = engineer.transform(dataframe)
        try:
            extra = _own_columns(self.mlpipe_features(dataframe.copy(), metadata), len(dataframe))
        except Exception as error:
            raise StrategyError(
                f"{metadata['pair']}: mlpipe_features of {type(self).__name__} failed: {type(error).__name__}: {error}"
            ) from error
        if extra.empty:
            return features
        return pd.concat([features, extra.set_axis(features.index)], axis=1)

    def populate_indicators(
        self, dataframe: pd.DataFrame, metadata: dict[str, Any]
    ) -> pd.DataFrame:
        """Add the prediction columns."""
        return self.mlpipe_predict(dataframe, metadata)

    def mlpipe_predict(self, dataframe: pd.DataFrame, metadata: dict[str, Any]) -> pd.DataFrame:
        """Return the candles with the prediction columns added.

        A trading bot never sees an exception from here: rows that cannot be predicted get ``mlpipe_do_predict`` 0.
        """
        dataframe["mlpipe_proba"] = float("nan")
        dataframe["mlpipe_edge"] = float("nan")
        dataframe["mlpipe_signal"] = 0
        dataframe["mlpipe_do_predict"] = 0
        dataframe["mlpipe_version"] = ""
        try:
            served = self._mlpipe_served or self._reload()
            if served is None:
                return dataframe
            if len(dataframe) <= served.engineer.startup_candles:
                self._warn_once(
                    f"{metadata['pair']}: {len(dataframe)} candles are fewer than the "
                    f"{served.engineer.startup_candles} that the features need; no predictions."
                )
                return dataframe
            features = self.mlpipe_compute(dataframe, metadata, served.engineer)
            prediction = served.bundle.predict(features, pd.DatetimeIndex(dataframe["date"]))
        except Exception as error:
            if self.config.get("runmode") not in TRADE_MODES:
                raise
            self._warn_once(f"{metadata['pair']}: no predictions, {type(error).__name__}: {error}")
            return dataframe
        dataframe["mlpipe_proba"] = prediction.proba
        dataframe["mlpipe_edge"] = prediction.edge
        dataframe["mlpipe_signal"] = prediction.signal
        dataframe["mlpipe_do_predict"] = prediction.do_predict
        dataframe["mlpipe_version"] = served.resolved.version
        return dataframe

    def mlpipe_horizon_passed(self, open_date: datetime, current_time: datetime) -> bool:
        """Whether a trade opened at `open_date` (UTC) has been held for the label's horizon."""
        served = self._mlpipe_served or self._reload()
        if served is None:
            return False
        horizon = served.bundle.manifest.label_config().horizon_candles
        held = (current_time - open_date).total_seconds()
        candle = float(timeframe_to_seconds(self.timeframe))
        return held >= horizon * candle

    def _reload(self) -> Served | None:
        """A strategy that was sent to another process loads its pinned version again."""
        if self.config.get("runmode") not in OPTIMIZE_MODES:
            return None
        try:
            self._mlpipe_served = self._load()
        except RegistryError:
            if self.mlpipe.serving.on_missing == "raise":
                raise
        return self._mlpipe_served

    def _warn_once(self, message: str) -> None:
        if message not in self._mlpipe_warned:
            self._mlpipe_warned.add(message)
            logger.warning(message)


def _own_columns(frame: Any, n_candles: int) -> pd.DataFrame:
    """The user's features as float32, infinities as NaN."""
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"it must return the dataframe, found {type(frame).__name__}")
    if len(frame) != n_candles:
        raise ValueError(f"it must keep every row, found {len(frame)} rows for {n_candles} candles")
    columns = [name for name in frame.columns if str(name).startswith(USER_FEATURE_PREFIX)]
    own = frame[columns].astype("float32")
    return own.where(own.abs() != float("inf"))
