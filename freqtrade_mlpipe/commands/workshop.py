"""What a retraining works with: candles, the part of them that epochs may see, the space and the objective."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import pandas as pd

from freqtrade_mlpipe.commands.context import Context, load_context, load_strategy, require_mixin
from freqtrade_mlpipe.commands.lifecycle import training_data
from freqtrade_mlpipe.config import FeatureConfig, timeframe_length
from freqtrade_mlpipe.dataset import TrainingData
from freqtrade_mlpipe.exceptions import ConfigError, DataError
from freqtrade_mlpipe.features import FeatureEngineer
from freqtrade_mlpipe.features.frames import closed_by
from freqtrade_mlpipe.integration.data import CandleSource
from freqtrade_mlpipe.integration.features import StrategyFeatures
from freqtrade_mlpipe.integration.results import SERVED_KEY
from freqtrade_mlpipe.pipeline import final_window_start
from freqtrade_mlpipe.registry.files import sha256
from freqtrade_mlpipe.retraining import (
    Epoch,
    MetricObjective,
    Objective,
    Rehearsal,
    SearchSpace,
    named_spaces,
)
from freqtrade_mlpipe.retraining.search import evaluate
from freqtrade_mlpipe.retraining.spaces import Params
from freqtrade_mlpipe.retraining.study import searched_settings
from freqtrade_mlpipe.retraining.units import Unit
from freqtrade_mlpipe.tracking.environment import package_versions

if TYPE_CHECKING:
    from freqtrade.strategy import IStrategy

_NOT_OF_THE_SEARCH = (
    "mlpipe",
    SERVED_KEY,
    "config_files",
    "internals",
    "bot_name",
    "telegram",
    "api_server",
    "discord",
    "webhook",
)
"""Blocks of freqtrade's configuration that no backtest looks at, or that are looked at separately."""


@dataclass(frozen=True)
class Job:
    """What another process needs to open the same workshop: the command's options, the unit, and its candles' hash."""

    arguments: str
    unit: Unit
    data_hash: str


@dataclass(frozen=True, eq=False)
class Workshop:
    """One unit's retraining.

    Attributes
    ----------
    context : with the unit's model name.
    market : all candles, with the longest warm-up of the space.
    window : first candle of the final window (UTC).
    """

    context: Context
    arguments: dict[str, Any]
    unit: Unit
    strategy: IStrategy
    market: TrainingData
    window: pd.Timestamp
    space: SearchSpace

    @property
    def job(self) -> Job:
        """How another process opens it."""
        return Job(_as_text(self.arguments), self.unit, self.market.data_hash)

    @cached_property
    def rehearsal(self) -> Rehearsal:
        """On the candles before the final window, and no others."""
        return Rehearsal(_before(self.market, self.window), self.compute_of)

    @cached_property
    def objective(self) -> Objective:
        """What epochs are judged by."""
        min_trades = int(self.arguments["hyperopt_min_trades"])
        if not self.arguments.get("hyperopt_loss"):
            return MetricObjective(self.arguments["metric"], min_trades)
        from freqtrade_mlpipe.integration.rehearsal import BacktestObjective

        return BacktestObjective(
            self.context.freqtrade,
            pairs=self.unit.pairs,
            start=self.rehearsal.judged_from(self.context.mlpipe.model),
            end=self.window - self.market.candle,
            min_trades=min_trades,
        )

    def compute_of(self, features: FeatureConfig) -> StrategyFeatures:
        """The strategy's features under a configuration."""
        return StrategyFeatures(
            self.strategy,
            FeatureEngineer(features, timeframe=self.market.timeframe, pairs=self.unit.pairs),
        )

    def evaluate(self, number: int, params: Params) -> Epoch:
        """Rehearse and judge one epoch."""
        return evaluate(self.rehearsal, self.objective, self.space, number, params)

    def check(self) -> None:
        """Refuse what no epoch could work with, before work starts.

        Raises
        ------
        ConfigError
            A metric that suits neither labels nor spaces, or a strategy that cannot trade a model.
        FreqtradeException
            A HyperOptLoss that freqtrade does not find.
        """
        require_mixin(self.strategy)
        if isinstance(self.objective, MetricObjective):
            self.objective.check(self.context.mlpipe, self.space.spaces)

    def identity(self) -> dict[str, Any]:
        """All that decides the epochs and what they are worth, but for how many there are."""
        original = self.context.freqtrade.get("original_config", {})
        files = [self.strategy.__file__, getattr(self.objective, "file", None)]
        return {
            "settings": searched_settings(self.context.mlpipe),
            "data": self.market.data_hash,
            "final_window": self.window.isoformat(),
            "pairs": self.unit.pairs,
            "spaces": self.space.spaces,
            "objective": self.objective.name,
            "min_trades": self.arguments["hyperopt_min_trades"],
            "freqtrade": {k: v for k, v in original.items() if k not in _NOT_OF_THE_SEARCH},
            "code": [sha256(Path(name).read_bytes()) for name in files if name],
            "versions": package_versions(),
        }


def open_workshop(
    arguments: dict[str, Any], unit: Unit, context: Context | None = None
) -> Workshop:
    """Read configuration, strategy and candles.

    Parameters
    ----------
    context : of the whole command, if it was read already.

    Raises
    ------
    MLPipeError
        For a configuration or candles that cannot be used.
    """
    context = (context or load_context(arguments, backtest=True)).for_unit(unit)
    context.freqtrade.update(
        {key: arguments[key] for key in ("hyperopt_loss", "hyperopt_path") if arguments.get(key)}
    )
    strategy = load_strategy(context)
    source = CandleSource.from_config(context.freqtrade)
    base = context.mlpipe
    if arguments.get("model_type"):  # asked for by name, so not searched
        chosen = {**base.retrain.choices, "model.model_type": (base.model.model_type,)}
        base = base.model_copy(
            update={"retrain": base.retrain.model_copy(update={"choices": chosen})}
        )
    space = SearchSpace(base, named_spaces(arguments.get("retrain_spaces")))

    def features(config: FeatureConfig) -> StrategyFeatures:
        return StrategyFeatures(
            strategy, FeatureEngineer(config, timeframe=source.timeframe, pairs=unit.pairs)
        )

    market = training_data(context, source, list(unit.pairs), features(space.widest()))
    window = _final_window(market, base.gates.final_window_fraction)
    return Workshop(replace(context, mlpipe=base), arguments, unit, strategy, market, window, space)


_AT_WORK = Lock()
"""A rehearsal is for one thread, and a cluster's worker may have several."""


def evaluate_elsewhere(job: Job, number: int, params: Params) -> Epoch:
    """What a worker process does: open the workshop once, then evaluate one epoch after the other."""
    with _AT_WORK:
        return _opened(job)(number, params)


@lru_cache(maxsize=1)
def _opened(job: Job) -> Callable[[int, Params], Epoch]:
    workshop = open_workshop(json.loads(job.arguments), job.unit)
    if workshop.market.data_hash != job.data_hash:
        raise DataError(
            f"The candles here are not those of the search ({workshop.market.data_hash[:12]}, not "
            f"{job.data_hash[:12]}): give every worker the same data directory, and leave it alone meanwhile."
        )
    return workshop.evaluate


def _final_window(market: TrainingData, fraction: float) -> pd.Timestamp:
    short = [p for p, frame in market.candles.items() if len(frame) <= market.startup_candles + 1]
    if short:
        raise DataError(
            f"Too few candles of {', '.join(short)}: the features need {market.startup_candles} before the first row. "
            "Widen --timerange, download more, or leave `features` out of --spaces."
        )
    dates = [frame["date"].iloc[market.startup_candles :] for frame in market.candles.values()]
    return final_window_start(pd.DatetimeIndex(pd.concat(dates)), fraction)


def _before(market: TrainingData, moment: pd.Timestamp) -> TrainingData:
    """The market as it was known at a moment."""
    candles = {
        pair: frame[frame["date"] < moment].reset_index(drop=True)
        for pair, frame in market.candles.items()
    }
    frames = {
        key: closed_by(frame, timeframe_length(key[1]), moment)
        for key, frame in market.frames.items()
    }
    return replace(market, candles=candles, frames=frames)


_PATHS = ("config", "datadir", "user_data_dir", "strategy_path", "hyperopt_path")


def _as_text(arguments: dict[str, Any]) -> str:
    """The options, with absolute paths: a worker may have been started elsewhere; it does not write to our log."""
    away = {name: _absolute(arguments[name]) for name in _PATHS if arguments.get(name)}
    if "user_data_dir" not in away and Path("user_data").is_dir():
        away["user_data_dir"] = _absolute("user_data")
    try:
        return json.dumps({**arguments, **away, "logfile": None}, sort_keys=True)
    except TypeError as error:
        raise ConfigError(f"An option cannot be handed to other processes: {error}.") from error


def _absolute(path: str | list[str]) -> str | list[str]:
    if isinstance(path, list):
        return [str(Path(each).absolute()) for each in path]
    return str(Path(path).absolute())
