"""What every command starts from: freqtrade's configuration, our block of it, the strategy, the registry."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from freqtrade_mlpipe.config import MLPipeConfig
from freqtrade_mlpipe.exceptions import ConfigError

if TYPE_CHECKING:
    from freqtrade.strategy import IStrategy

    from freqtrade_mlpipe.registry import ModelRegistry
    from freqtrade_mlpipe.retraining.units import Unit
    from freqtrade_mlpipe.tracking import ExperimentTracker

logger = logging.getLogger(__name__)

_SWEEP_SECONDS, _SWEEP_SECONDS_ON_A_SERVER = 1.0, 0.2
_FREQAI_IS_ON = (
    "FreqAI is switched on, and would train its own models instead of trading ours. Set freqai.enabled to false: its "
    "feature_parameters are read all the same."
)
_CHATTY_LOGGERS = ("alembic", "mlflow", "optuna", "ccxt")


@dataclass(frozen=True)
class Context:
    """A prepared freqtrade configuration and the parsed `mlpipe` block."""

    freqtrade: dict[str, Any]
    mlpipe: MLPipeConfig

    @property
    def user_data(self) -> Path:
        """freqtrade's user directory."""
        return Path(self.freqtrade["user_data_dir"])

    def with_model_name(self, name: str) -> Context:
        """The same with another model's name."""
        return Context(self.freqtrade, self.mlpipe.model_copy(update={"model_name": name}))

    def for_unit(self, unit: Unit) -> Context:
        """The same for one unit of work: its model's name, and no pairs but its own."""
        mlpipe = self.mlpipe.model_copy(update={"model_name": unit.model_name, "scope": "pooled"})
        return Context({**self.freqtrade, "pairs": list(unit.pairs)}, mlpipe)

    def registry(self) -> ModelRegistry:
        """The model registry of the configuration, opened once."""
        return self._registry

    @cached_property
    def _registry(self) -> ModelRegistry:
        from freqtrade_mlpipe.registry import ModelRegistry

        settings = self.mlpipe.registry
        registry = ModelRegistry.of(settings)
        _look_after_killed_runs(settings.tracking_uri, settings.directory)
        return registry

    def tracker(self) -> ExperimentTracker:
        """The experiment tracker of the configuration."""
        from freqtrade_mlpipe.tracking import ExperimentTracker

        tracking, registry = self.mlpipe.tracking, self.mlpipe.registry
        return ExperimentTracker(
            tracking.project,
            tracking.backend,
            tracking_uri=registry.tracking_uri,
            directory=registry.directory,
        )


@cache
def _look_after_killed_runs(tracking_uri: str | None, directory: Path) -> None:
    """Close the runs that killed processes left open, and say what is unsent.

    Once a process, and without waiting for a server that is away.
    """
    from freqtrade_mlpipe.tracking import unsent

    waiting = unsent(directory)
    if waiting:
        logger.warning(
            "%d runs have not reached the experiment store. `freqtrade-mlpipe sync` sends them.",
            waiting,
        )

    def sweep() -> None:
        from freqtrade_mlpipe.mlflow_store import open_store
        from freqtrade_mlpipe.run_owner import close_orphans

        try:
            close_orphans(open_store(tracking_uri, directory))
        except Exception as error:  # noqa: BLE001 - tidying up must not fail the command
            logger.debug("Runs of killed processes were not looked for: %r", error)

    thread = Thread(target=sweep, name="mlpipe-sweep", daemon=True)
    thread.start()
    away = (tracking_uri or "").startswith("http")
    thread.join(_SWEEP_SECONDS_ON_A_SERVER if away else _SWEEP_SECONDS)


def load_context(arguments: dict[str, Any], *, backtest: bool = False) -> Context:
    """Read the configuration as freqtrade reads it, with the replay exchange known to it.

    Raises
    ------
    ConfigError
        For a missing configuration file or data directory, or an invalid `mlpipe` block.
    """
    from freqtrade.configuration import setup_utils_configuration
    from freqtrade.enums import RunMode
    from freqtrade.exceptions import ConfigurationError
    from freqtrade.loggers import setup_logging_pre

    from freqtrade_mlpipe.replay import register

    register()
    _require_datadir(arguments.get("datadir"))
    setup_logging_pre()
    # It doubts every exchange that is not freqtrade's own, at each reading; a level would be reset by freqtrade.
    logging.getLogger("freqtrade.exchange.check_exchange").addFilter(_not_about_replay)
    arguments = {**arguments, "config": _config_files(arguments)}
    mode = RunMode.BACKTEST if backtest else RunMode.UTIL_NO_EXCHANGE
    with _quiet(arguments):
        try:
            config = setup_utils_configuration(arguments, mode)
        except ConfigurationError as error:
            if backtest and "FreqAI" in str(error):
                raise ConfigError(_FREQAI_IS_ON) from error
            raise
    if backtest and config.get("freqai", {}).get("enabled"):
        raise ConfigError(_FREQAI_IS_ON)
    overrides = _overrides(arguments)
    if overrides:
        block = config.setdefault("mlpipe", {})
        for section, values in overrides.items():
            _merge(block, section, values)
    return Context(config, MLPipeConfig.from_freqtrade(config))


def load_strategy(context: Context) -> IStrategy:
    """The configured strategy, loaded by freqtrade's resolver; its timeframe lands in the configuration.

    It can look up candles of the data directory through its `dp`, as in a backtest.

    Raises
    ------
    ConfigError
        When no strategy is named.
    """
    from freqtrade.data.dataprovider import DataProvider
    from freqtrade.resolvers import StrategyResolver

    from freqtrade_mlpipe.integration.data import check_timeframe

    name = context.freqtrade.get("strategy")
    if not name:
        raise ConfigError(
            'No strategy: pass --strategy MLStrategy or set "strategy" in config.json. '
            "`freqtrade-mlpipe init` writes MLStrategy into a user directory."
        )
    try:
        strategy = StrategyResolver.load_strategy(context.freqtrade)
    except ImportError as error:  # freqtrade's refusal of a strategy for this trading mode
        raise ConfigError(str(error)) from error
    if context.freqtrade.get("timeframe"):
        check_timeframe(str(context.freqtrade["timeframe"]))
    strategy.dp = DataProvider(context.freqtrade, None)
    return strategy


def require_mixin(strategy: IStrategy) -> None:
    """What trades must speak with our model.

    Raises
    ------
    ConfigError
        When the strategy does not use `MLPipeMixin`.
    """
    from freqtrade_mlpipe.integration.strategy import MLPipeMixin

    name = type(strategy).__name__
    if not isinstance(strategy, MLPipeMixin):
        raise ConfigError(
            f"Strategy {name} cannot trade our model: it must derive from MLPipeMixin, as in "
            f"`class {name}(MLPipeMixin, IStrategy)`. `freqtrade-mlpipe init` writes an example."
        )


def _require_datadir(datadir: str | None) -> None:
    """freqtrade would make it, and find no candles in it."""
    if datadir and not Path(datadir).is_dir():
        raise ConfigError(
            f"No data directory {datadir}: run `freqtrade download-data` or name another."
        )


def _config_files(arguments: dict[str, Any]) -> list[str]:
    """As freqtrade: `--config`, else config.json in the user directory, else in the current one."""
    given = arguments.get("config")
    if given:
        missing = [name for name in given if name != "-" and not Path(name).is_file()]
        if missing:
            raise ConfigError(f"No configuration file {', '.join(missing)}.")
        return list(given)
    places = [
        Path(arguments.get("user_data_dir") or "user_data") / "config.json",
        Path("config.json"),
    ]
    for place in places:
        if place.is_file():
            return [str(place)]
    raise ConfigError(
        f"No configuration: looked for {places[0]} and {places[1]}. Pass -c config.json, or write one with "
        "`freqtrade-mlpipe init`."
    )


def _overrides(arguments: dict[str, Any]) -> dict[str, Any]:
    """Command-line options that stand for keys of the `mlpipe` block."""
    from freqtrade_mlpipe.commands.options import GATE_OPTIONS

    model = {"model_type": arguments.get("model_type"), "n_trials": arguments.get("trials"),
             "timeout_seconds": arguments.get("search_seconds"),
             "random_state": arguments.get("random_seed")}  # fmt: skip
    gates: dict[str, Any] = {name: arguments.get(name) for name in GATE_OPTIONS}
    gates["min_metrics"] = dict(arguments.get("min_metric") or ()) or None
    wanted: dict[str, Any] = {
        "model_name": arguments.get("model_name"),
        "model": model,
        "gates": gates,
    }
    return _given(wanted)


def _given(values: dict[str, Any]) -> dict[str, Any]:
    cleaned = {
        key: _given(value) if isinstance(value, dict) else value for key, value in values.items()
    }
    return {key: value for key, value in cleaned.items() if value is not None and value != {}}


def _merge(block: dict[str, Any], key: str, value: Any) -> None:
    from freqtrade_mlpipe.commands.options import OFF

    if isinstance(value, dict):
        inner = block.setdefault(key, {})
        for name, item in value.items():
            _merge(inner, name, item)
    else:
        block[key] = None if value == OFF else value


def _not_about_replay(record: logging.LogRecord) -> bool:
    return '"replay"' not in record.getMessage()


@contextmanager
def _quiet(arguments: dict[str, Any]) -> Iterator[None]:
    """Our commands report by themselves: freqtrade's log lines appear with -v, or in --logfile."""
    from freqtrade.loggers.ft_rich_handler import FtRichHandler

    verbosity = arguments.get("verbosity") or 0
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbosity, 2)]
    to_file = bool(arguments.get("logfile"))
    if verbosity == 0 and not to_file:
        logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
    for handler in logging.root.handlers:
        if isinstance(handler, FtRichHandler):
            handler.setLevel(level)
    for name in _CHATTY_LOGGERS:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
