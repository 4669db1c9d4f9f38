"""A bot without its exchange: freqtrade's strategy and data provider, iterated candle by candle as a bot does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from freqtrade.data.dataprovider import DataProvider
from freqtrade.enums import RunMode

from tests.conftest import MODEL_NAME, Workspace

N_WINDOW = 700
"""Candles in a bot's frame; the features need 577."""


class Feed:
    """Candles as an exchange has delivered them, and the whitelist; stands for freqtrade's exchange and pairlists."""

    def __init__(self, market: Mapping[str, pd.DataFrame], whitelist: Sequence[str]) -> None:
        self.market, self.whitelist = dict(market), list(whitelist)
        self.end: dict[str, int] = {}

    def klines(self, key: tuple[str, str, Any], copy: bool = True) -> pd.DataFrame:
        pair, timeframe, _ = key
        if timeframe != "1h" or pair not in self.end:
            return pd.DataFrame()
        end = self.end[pair]
        return self.market[pair].iloc[max(end - N_WINDOW, 0) : end].reset_index(drop=True)


class Iterated:
    """A started strategy of a workspace in dry-run, asked as `FreqtradeBot.process` asks it."""

    def __init__(
        self, workspace: Workspace, market: Mapping[str, pd.DataFrame],
        pairs: Sequence[str] = ("SYNA/USDT", "SYNB/USDT"), *, poll_seconds: float = 3_600, **serving: Any,
    ) -> None:  # fmt: skip
        workspace.configure(serving={"poll_seconds": poll_seconds, **serving})
        self.strategy = workspace.strategy(runmode=RunMode.DRY_RUN)
        self.feed = Feed(market, pairs)
        self.strategy.dp = DataProvider(self.strategy.config, self.feed, self.feed)
        self.strategy.ft_bot_start()

    @property
    def live(self) -> Any:
        return self.strategy._mlpipe_live

    def poll(self, name: str = MODEL_NAME) -> Any:
        """What asks the registry for a model."""
        return self.live.speakers[name].poll

    def process(self, *ends: int, pairs: Sequence[str] | None = None) -> None:
        """One iteration for each of `ends`: the number of candles there are then."""
        for end in ends:
            pairs = self.feed.whitelist if pairs is None else pairs
            self.strategy.gather_informative_pairs()
            self.feed.end |= dict.fromkeys(pairs, end)
            self.strategy.bot_loop_start(current_time=pd.Timestamp.now("UTC").to_pydatetime())
            self.strategy.analyze(list(pairs))

    def frame(self, pair: str = "SYNA/USDT") -> pd.DataFrame:
        """The analysed candles, as entries and exits are decided on."""
        return self.strategy.dp.get_analyzed_dataframe(pair, self.strategy.timeframe)[0]

    def newest(self, pair: str = "SYNA/USDT") -> pd.Series:
        return self.frame(pair).iloc[-1]

    @property
    def messages(self) -> list[str]:
        """What was given to freqtrade to send to the operator so far."""
        self.strategy._pass_on_messages(self.live)
        return list(self.strategy.dp._msg_queue)

    def journal(self) -> pd.DataFrame:
        """What is written down, by date, pair and role."""
        assert self.live.journal.flush()
        return self.live.journal.read(features=True)

    def end(self) -> None:
        self.strategy.ft_bot_cleanup()
