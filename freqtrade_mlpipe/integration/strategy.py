"""The `IStrategy` mixin: predicts with the production model, honestly in backtests, never in the way of a bot."""

from __future__ import annotations

import logging
import uuid
import weakref
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pandas as pd
from freqtrade.enums import OPTIMIZE_MODES, TRADE_MODES, CandleType, RunMode, SignalDirection
from freqtrade.exceptions import OperationalException
from freqtrade.exchange import timeframe_to_seconds
from freqtrade.strategy import IStrategy

from freqtrade_mlpipe.config import MLPipeConfig
from freqtrade_mlpipe.exceptions import MLPipeError, RegistryError
from freqtrade_mlpipe.features import (
    NO_FRAMES,
    FeatureEngineer,
    FrameKey,
    Frames,
    LiveFrames,
)
from freqtrade_mlpipe.integration.features import StrategyFeatures, frames_of
from freqtrade_mlpipe.integration.live import LiveServing
from freqtrade_mlpipe.integration.results import SERVED_KEY, hide_passwords, log_at_exit
from freqtrade_mlpipe.integration.serving import Served, engineer_for, load_served, resolve_served
from freqtrade_mlpipe.integration.voice import Voice
from freqtrade_mlpipe.integration.watching import start_watching
from freqtrade_mlpipe.integration.window import empty_columns, said_columns, with_columns
from freqtrade_mlpipe.registry.cache import ResolvedVersion
from freqtrade_mlpipe.registry.files import sha256
from freqtrade_mlpipe.registry.names import model_name_for

logger = logging.getLogger(__name__)


class ServingError(OperationalException, ValueError):
    """No model can be served.

    Also a `ValueError`: freqtrade's wrapper around `bot_start` logs those as one line, without a traceback.
    """


_SELECTIONS = 3
"""Of features of the same candles at most: a pair's own, those that describe the market, those that are ranked."""


class MLPipeMixin(IStrategy):
    """Adds a registered model's predictions to a strategy: ``class MyStrategy(MLPipeMixin, IStrategy)``.

    `populate_indicators` adds these columns; a strategy that overrides it calls `mlpipe_predict` itself.

    - ``mlpipe_proba``: calibrated probability that the label is 1; NaN where there is no prediction.
    - ``mlpipe_edge``: that probability minus the entry threshold the model chose when it was trained.
    - ``mlpipe_signal``: 1 enter, -1 exit, 0 neither, by the model's thresholds.
    - ``mlpipe_do_predict``: 1 usable; 0 not predictable (warm-up, NaN inputs, no model); -1 masked, because every
      member of the model has seen the candle in training.
    - ``mlpipe_version``: the registered version that spoke.

    A model of three classes (``labels.classes`` 3) speaks of both sides: ``mlpipe_proba`` and ``mlpipe_edge`` are those
    of long, ``mlpipe_signal`` is 1 long, -1 short, 0 none, and there are also ``mlpipe_proba_short``,
    ``mlpipe_proba_flat`` and ``mlpipe_edge_short``. A model of ``forward_return`` labels has no probability:
    ``mlpipe_prediction`` is the log return it predicts, before fees, and ``mlpipe_edge`` that minus its threshold.

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
            # freqtrade sets the final timeframe only later; warm-ups, in candles, do not depend on it.
            warm_up = FeatureEngineer(self.mlpipe.features, timeframe="1m").startup_candles
        except MLPipeError as error:
            raise OperationalException(str(error)) from error
        self._mlpipe_pinned: dict[str, str] = {}
        self._mlpipe_served: dict[str, Served | None] = {}
        self._mlpipe_missing: dict[str, RegistryError] = {}
        self._mlpipe_frames: Frames | None = None
        self._mlpipe_live: LiveServing | None = None
        self._mlpipe_warned: set[str] = set()
        self.startup_candle_count: int = max(self.startup_candle_count, warm_up)
        if config.get("runmode") in OPTIMIZE_MODES:
            hide_passwords(config)
            self._pin_version(config)

    def _pin_version(self, config: dict[str, Any]) -> None:
        """Fix what is served for the whole run, and in freqtrade's backtest cache key: other models, other results."""
        resolved, digests = [], []
        for name in self._model_names(config.get("exchange", {}).get("pair_whitelist", [])):
            try:
                resolved.append(self._resolve(name))
                digests.append(resolved[-1].digest)
            except MLPipeError:
                digests.append(uuid.uuid4().hex)  # bot_start says why; there may be a model by then
        if not resolved:
            return
        served = resolved[0]
        if self.mlpipe.scope == "pooled":
            config["mlpipe_digest"] = served.digest
            # What freqtrade stores with its result: https://github.com/freqtrade/freqtrade/blob/2026.9/freqtrade/optimize/optimize_reports/bt_storage.py
            config.setdefault("original_config", {})[SERVED_KEY] = {
                "name": served.name, "version": served.version, "digest": served.digest,
            }  # fmt: skip
        else:
            config["mlpipe_digest"] = sha256(" ".join(digests).encode())

    def _model_names(self, pairs: Sequence[str]) -> list[str]:
        """Names of the models that speak for pairs."""
        if self.mlpipe.scope == "pooled":
            return [self.mlpipe.model_name]
        return [model_name_for(self.mlpipe, pair) for pair in pairs]

    def _whitelist(self) -> list[str]:
        try:
            return list(self.dp.current_whitelist())
        except (AttributeError, OperationalException):  # by itself, or in a worker of hyperopt
            return list(self.config.get("exchange", {}).get("pair_whitelist", []))

    def _resolve(self, name: str) -> ResolvedVersion:
        """The version of a model that is served; in a backtest it stays the same from then on."""
        version = self._mlpipe_pinned.get(name, self.mlpipe.serving.version)
        resolved = resolve_served(self.mlpipe, name, version)
        self._mlpipe_pinned[name] = resolved.version
        return resolved

    def __getstate__(self) -> dict[str, Any]:
        """Hyperopt sends the strategy to its workers; they load the model from the cache themselves."""
        return {
            **self.__dict__,
            "_mlpipe_served": {},
            "_mlpipe_frames": None,
            "_mlpipe_live": None,
        }

    def bot_start(self, **kwargs: Any) -> None:
        """Resolve, verify, load and self-test the model; in a bot, go on asking the registry in the background.

        Raises
        ------
        ServingError
            When there is no usable model and `serving.on_missing` is "raise".
        """
        super().bot_start(**kwargs)
        if self.config.get("runmode") in TRADE_MODES:
            self._start_live()
            return
        wanted = self.mlpipe.tracking.log_backtests and self.mlpipe.scope == "pooled"
        if wanted and self.config.get("runmode") == RunMode.BACKTEST:  # of one version
            log_at_exit(self.config)
        self._mlpipe_served = {}
        self._mlpipe_frames = None
        names = self._model_names(self._whitelist())
        missing = [name for name in names if self._served_under(name) is None]
        if missing and missing == names and self.mlpipe.serving.on_missing == "raise":
            error = self._mlpipe_missing[names[0]]
            raise ServingError(str(error)) from error

    def _start_live(self) -> None:
        self._stop_live()
        me = weakref.ref(self)
        live = self._mlpipe_live = LiveServing(
            self.mlpipe, lambda resolved: _alive(me)._load(resolved), self._voice
        )
        start_watching(live, self, self.mlpipe)
        try:
            live.start(self, self._whitelist())
        except MLPipeError as error:
            if self.mlpipe.serving.on_missing == "raise":
                self._stop_live()
                raise ServingError(str(error)) from error
            logger.warning("No entries will be made: %s", error)

    def _stop_live(self) -> None:
        live, self._mlpipe_live, self._mlpipe_frames = self._mlpipe_live, None, None
        if live is not None:
            live.stop()

    def ft_bot_cleanup(self) -> None:
        """freqtrade's end of a bot, also before its configuration is loaded anew."""
        self._stop_live()
        super().ft_bot_cleanup()

    def _voice(self, served: Served) -> Voice:
        return Voice(served, StrategyFeatures(self, served.engineer))

    def _load(self, resolved: ResolvedVersion) -> Served:
        served = load_served(self.mlpipe, resolved, self.timeframe)
        served.bundle.self_test(StrategyFeatures(self, served.engineer))
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

    def mlpipe_compute(self, dataframe: pd.DataFrame, metadata: dict[str, Any]) -> pd.DataFrame:
        """Features of every candle: the catalogue's, `mlpipe_features`' and FreqAI methods', float32, NaN in warm-up.

        Those of the model that is served; without one, those of the configuration.

        Raises
        ------
        DataError
            When the candles are unusable or fewer than the warm-up.
        StrategyError
            When `mlpipe_features` fails, or does not give one row of numbers a candle.
        """
        pair, frames = metadata["pair"], self._frames()
        frames.refresh()
        return self._features(self._current(pair))(dataframe, pair, frames)

    def _features(self, served: Served | None) -> StrategyFeatures:
        if served is not None:
            return StrategyFeatures(self, served.engineer)
        pairs = self.config.get("exchange", {}).get("pair_whitelist", [])
        return StrategyFeatures(self, engineer_for(self.mlpipe.features, self.timeframe, pairs))

    def _current(self, pair: str) -> Served | None:
        """The model that speaks for a pair, if there is one."""
        if self._mlpipe_live is not None:
            return self._mlpipe_live.served(pair)
        name = model_name_for(self.mlpipe, pair)
        if self.config.get("runmode") in OPTIMIZE_MODES:
            return self._served_under(name)  # also in a process that the strategy was sent to
        return self._mlpipe_served.get(name)

    def _frames(self) -> Frames:
        """Candles of other pairs and timeframes; they stand still in a backtest, and move on in a bot."""
        if getattr(self, "dp", None) is None:
            return NO_FRAMES
        if self._mlpipe_frames is None:
            live = self.config.get("runmode") in TRADE_MODES
            self._mlpipe_frames = frames_of(self.dp, live=live)
        return self._mlpipe_frames

    def informative_pairs(self) -> list[tuple[str, str]]:
        """Pair and timeframe of the candles that features need besides those of the whitelist."""
        served = self._current("") if self.mlpipe.scope == "pooled" else None  # see `_turn`
        return list(self._features(served).frame_keys(self.dp.current_whitelist()))

    def gather_informative_pairs(self) -> list[tuple[str, str, CandleType]]:
        """freqtrade's list; ours stay in it when a strategy's own `informative_pairs` does not call this one."""
        found: list[tuple[str, str, CandleType]] = super().gather_informative_pairs()
        kind = self.config.get("candle_type_def", CandleType.SPOT)
        keys = [*MLPipeMixin.informative_pairs(self), *self._turn()]
        return list(dict.fromkeys([*found, *((*key, kind) for key in keys)]))

    def _turn(self) -> list[FrameKey]:
        """Called once an iteration, before candles are fetched: those that models need which may speak from now on."""
        live = self._mlpipe_live
        if live is None:
            return []
        turned = live.turn(self.dp.current_whitelist())
        self._pass_on_messages(live)
        found, n_frames = [], 0
        for served, pairs in turned:
            keys = StrategyFeatures(self, served.engineer).frame_keys(pairs)
            n_frames += _SELECTIONS * (len(pairs) + len(keys))
            found += keys
        frames = self._frames()
        if isinstance(frames, LiveFrames):
            frames.need(n_frames)
        return found

    def analyze(self, pairs: list[str]) -> None:
        """freqtrade's analysis of all pairs of a bot, which are predicted before; then that is written down."""
        live = self._mlpipe_live
        if live is not None:
            live.answering.answer(pairs, self._candles, self._frames())
        super().analyze(pairs)
        if live is not None:
            live.hand_over()

    def _candles(self, pair: str) -> pd.DataFrame:
        """What freqtrade will analyse of a pair; not to be changed."""
        kind = self.config.get("candle_type_def", CandleType.SPOT)
        found: pd.DataFrame = self.dp.ohlcv(pair, self.timeframe, copy=False, candle_type=kind)
        return found

    def _pass_on_messages(self, live: LiveServing) -> None:
        if getattr(self, "dp", None) is not None:
            live.notifier.flush(lambda message: self.dp.send_msg(message, always_send=True))

    def populate_indicators(
        self, dataframe: pd.DataFrame, metadata: dict[str, Any]
    ) -> pd.DataFrame:
        """Add the prediction columns."""
        return self.mlpipe_predict(dataframe, metadata)

    def mlpipe_predict(self, dataframe: pd.DataFrame, metadata: dict[str, Any]) -> pd.DataFrame:
        """Return the candles with the prediction columns added.

        A trading bot never sees an exception from here: rows that cannot be predicted get ``mlpipe_do_predict`` 0.
        There a candle is answered once, by the version that spoke when it was new, and keeps that answer.
        """
        live = self._mlpipe_live
        if live is not None:
            columns = live.answering.columns(dataframe, metadata["pair"], self._frames())
            self._pass_on_messages(live)
            return with_columns(dataframe, columns)
        try:
            served = self._current(metadata["pair"])
            tasks = {self.mlpipe.labels.task}
            if served is not None:
                tasks.add(served.bundle.members[-1].model.task)
            for name, nothing in empty_columns(*sorted(tasks)).items():
                dataframe[name] = nothing
            if served is None:
                return dataframe
            if len(dataframe) <= served.engineer.startup_candles:
                self._warn_once(
                    f"{metadata['pair']}: {len(dataframe)} candles are fewer than the "
                    f"{served.engineer.startup_candles} that the features need; no predictions."
                )
                return dataframe
            features = self.mlpipe_compute(dataframe, metadata)
            prediction = served.bundle.predict(features, pd.DatetimeIndex(dataframe["date"]))
        except MLPipeError as error:
            raise ServingError(f"{metadata['pair']}: no predictions: {error}") from error
        for name, values in said_columns(prediction, served.resolved.version).items():
            dataframe[name] = values
        return dataframe

    def get_entry_signal(
        self, pair: str, timeframe: str, dataframe: pd.DataFrame
    ) -> tuple[SignalDirection | None, str | None]:
        """freqtrade's entry signal; none while a policy pauses entries. Exits go on."""
        if self._mlpipe_live is not None and self._mlpipe_live.entries_paused(pair):
            return None, None
        found: tuple[SignalDirection | None, str | None] = super().get_entry_signal(
            pair, timeframe, dataframe
        )
        return found

    def mlpipe_horizon_passed(
        self, open_date: datetime, current_time: datetime, pair: str = ""
    ) -> bool:
        """Whether a trade of a pair opened at `open_date` (UTC) has been held for the horizon of its model's label.

        The pair matters only with one model a pair.
        """
        served = self._current(pair)
        if served is None:
            return False
        horizon = served.bundle.manifest.label_config().horizon_candles
        held = (current_time - open_date).total_seconds()
        candle = float(timeframe_to_seconds(self.timeframe))
        return held >= horizon * candle

    def _served_under(self, name: str) -> Served | None:
        """The model of this name, loaded once in each process, not for bots; None where there is none.

        Raises
        ------
        ServingError
            It cannot be served.
        """
        if name not in self._mlpipe_served:
            self._mlpipe_served[name] = None
            try:
                self._mlpipe_served[name] = self._load(self._resolve(name))
            except RegistryError as error:
                self._mlpipe_missing[name] = error
                where = "" if self.mlpipe.scope == "pooled" else f" with {name}"
                logger.warning("No entries will be made%s: %s", where, error)
            except MLPipeError as error:
                raise ServingError(str(error)) from error
        return self._mlpipe_served[name]

    def _warn_once(self, message: str) -> None:
        if message not in self._mlpipe_warned:
            self._mlpipe_warned.add(message)
            logger.warning(message)


def _alive(reference: weakref.ref[MLPipeMixin]) -> MLPipeMixin:
    strategy = reference()
    if strategy is None:
        raise ServingError("The strategy is gone.")
    return strategy
