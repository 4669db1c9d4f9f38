"""A bot's journal of live predictions, and the watch that judges them."""

from __future__ import annotations

import logging
import weakref
from typing import TYPE_CHECKING, Any

import pandas as pd
from freqtrade.exchange import timeframe_to_seconds

from freqtrade_mlpipe.exceptions import MLPipeError, RegistryError
from freqtrade_mlpipe.integration.serving import cache_of
from freqtrade_mlpipe.registry.cache import ResolvedVersion
from freqtrade_mlpipe.registry.names import model_name_for

if TYPE_CHECKING:
    from freqtrade.strategy import IStrategy

    from freqtrade_mlpipe.config import MLPipeConfig
    from freqtrade_mlpipe.integration.live import LiveServing
    from freqtrade_mlpipe.monitoring.journal import LivePrediction
    from freqtrade_mlpipe.monitoring.models import WatchedModel

logger = logging.getLogger(__name__)

_JOURNAL = "journal"
"""The kind of trouble, see `Notifier`."""


def start_watching(live: LiveServing, strategy: IStrategy, config: MLPipeConfig) -> None:
    """Give the serving of a bot its journal and its watch; without them, if they cannot be had, it trades as well."""
    try:
        _start(live, strategy, config)
    except (MLPipeError, OSError, ValueError):
        logger.warning("Live predictions are neither written down nor watched.", exc_info=True)


def _start(live: LiveServing, strategy: IStrategy, config: MLPipeConfig) -> None:
    from freqtrade_mlpipe.monitoring.actions import retrain_action, rollback_action
    from freqtrade_mlpipe.monitoring.journal import LiveJournal, journal_path
    from freqtrade_mlpipe.monitoring.models import WatchedModel
    from freqtrade_mlpipe.monitoring.watch import Watch

    of_bot: dict[str, Any] = strategy.config
    directory = config.registry.directory
    path = journal_path(directory, of_bot.get("bot_name"))
    notifier = live.notifier  # `live` itself would never end: the journal's thread holds on to this

    def report(problem: str | None) -> None:
        if problem is None:
            notifier.over(_JOURNAL, f"{path} is written again.")
        else:
            text = f"{path} cannot be written ({problem}). Live predictions wait in memory."
            notifier.trouble(_JOURNAL, text)

    journal = LiveJournal(path, config.monitoring.max_journal_mb * 2**20, report)
    me = weakref.ref(strategy)

    def find(said: LivePrediction) -> WatchedModel:
        bundle = live.bundle(said.digest)
        if bundle is None:
            cache, name = cache_of(config), model_name_for(config, said.pair)
            place = cache.path_of(said.digest)
            bundle = cache.load(ResolvedVersion(name, said.version, said.digest, place))
        return WatchedModel.of(bundle, said.version)

    def candles(pair: str) -> pd.DataFrame:
        strategy = me()
        if strategy is None:
            raise RegistryError("The strategy is gone.")
        found: pd.DataFrame = strategy.dp.get_pair_dataframe(pair, strategy.timeframe)
        return found

    live.journal = journal
    live.watch = Watch(
        config.monitoring,
        pd.Timedelta(seconds=timeframe_to_seconds(strategy.timeframe)),
        journal,
        find=find,
        candles=candles,
        tell=live.notifier.tell,
        actions={
            "rollback": rollback_action(config.registry),
            "retrain": retrain_action(
                directory,
                of_bot.get("config_files") or [],
                ["--userdir", str(of_bot["user_data_dir"]), "--strategy", type(strategy).__name__],
            ),
        },
    )
