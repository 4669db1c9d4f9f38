"""freqtrade's own `Backtesting` over the out-of-sample answers of one epoch after another."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
from freqtrade.data.converter import trim_dataframes
from freqtrade.data.history import get_timerange
from freqtrade.data.metrics import calculate_market_change
from freqtrade.exceptions import FreqtradeException
from freqtrade.exchange import timeframe_to_seconds
from freqtrade.optimize.backtesting import Backtesting
from freqtrade.optimize.optimize_reports import generate_strategy_stats
from freqtrade.resolvers.hyperopt_resolver import HyperOptLossResolver
from freqtrade.util import dt_now
from freqtrade.util.dry_run_wallet import get_dry_run_wallet
from numpy.typing import NDArray

from freqtrade_mlpipe.exceptions import DataError
from freqtrade_mlpipe.integration.backtest import pinned
from freqtrade_mlpipe.integration.lean_backtesting import LeanBacktesting
from freqtrade_mlpipe.retraining import MAX_LOSS, Judgement, Rehearsed
from freqtrade_mlpipe.retraining.objective import sharpe_per_candle

_TOO_LONG = ("trades", "locks", "daily_profit", "wallet_stats", "periodic_breakdown")
_NEUTRAL = {"mlpipe_signal": 0, "mlpipe_do_predict": 0}


class BacktestObjective:
    """Judges by a freqtrade HyperOptLoss, from a backtest of the configured strategy over the out-of-sample period.

    Candles, exchange and strategy are loaded once. As in freqtrade's hyperopt, fewer trades than `min_trades` are a
    loss of `MAX_LOSS`.

    Parameters
    ----------
    config : prepared freqtrade configuration, with `hyperopt_loss`.
    pairs : what is traded.
    start, end : first and last candle that are traded (UTC); the last is the one before the final window.

    Raises
    ------
    FreqtradeException
        For a loss that freqtrade's resolver does not find.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        *,
        pairs: Sequence[str],
        start: pd.Timestamp,
        end: pd.Timestamp,
        min_trades: int,
    ) -> None:
        self._config = dict(config)
        self._settings = pinned(config, pairs, start, end)
        self.min_trades = min_trades
        self.name = str(config["hyperopt_loss"])
        self._loss = HyperOptLossResolver.load_hyperoptloss(self._config)
        self.file: str | None = getattr(self._loss, "__file__", None)
        self._stage: _Stage | None = None

    def judge(self, rehearsed: Rehearsed) -> Judgement:
        """The loss, and freqtrade's figures.

        Raises
        ------
        DataError
            When freqtrade cannot run the backtest; the message is freqtrade's.
        """
        try:
            if self._stage is None:
                self._stage = _Stage(self._settings)
            return self._judged(self._stage, rehearsed)
        except FreqtradeException as error:
            raise DataError(f"The backtest of an epoch could not run: {error}") from error

    def _judged(self, stage: _Stage, rehearsed: Rehearsed) -> Judgement:
        content, processed, stats = stage.run(rehearsed)
        loss = MAX_LOSS
        if stats["total_trades"] >= self.min_trades:
            loss = self._loss.hyperopt_loss_function(
                results=content["results"],
                trade_count=stats["total_trades"],
                min_date=stage.first,
                max_date=stage.last,
                config=stage.backtesting.config,
                processed=processed,
                backtest_stats=stats,
                starting_balance=get_dry_run_wallet(stage.backtesting.config),
            )
        figures = {name: _plain(value) for name, value in stats.items() if name not in _TOO_LONG}
        return Judgement(_usable(loss), sharpe_per_candle(rehearsed), figures)


class _Stage:
    """A backtest that is set up once and run for many models; `kind` is whose loop it is."""

    def __init__(self, settings: dict[str, Any], kind: type[Backtesting] = LeanBacktesting) -> None:
        # No model is loaded: the strategy speaks with the epoch's answers.
        settings["mlpipe"]["serving"] = {"version": "0", "on_missing": "no_entries"}
        self.backtesting = kind(settings)
        self.candles, self._timerange = self.backtesting.load_bt_data()
        self.strategy = self.backtesting.strategylist[0]
        with _unheard("freqtrade_mlpipe.integration.strategy"):  # it warns that there is no model
            self.backtesting._set_strategy(self.strategy)
        trimmed = trim_dataframes(
            dict(self.candles), self._timerange, self.backtesting.required_startup
        )
        self.first, self.last = get_timerange(trimmed)
        self._market_change = calculate_market_change(trimmed, "close")

    def run(self, rehearsed: Rehearsed) -> tuple[Any, dict[str, pd.DataFrame], dict[str, Any]]:
        """freqtrade's result, the analysed candles, and its figures."""
        _speak(self.strategy, rehearsed)
        started = dt_now()
        processed = self.strategy.advise_all_indicators(self.candles)
        content = self.backtesting.backtest(
            processed=dict(processed), start_date=self.first, end_date=self.last
        )
        content.update(
            backtest_start_time=int(started.timestamp()),
            backtest_end_time=int(dt_now().timestamp()),
        )
        stats = generate_strategy_stats(
            list(self.candles), self.strategy.get_strategy_name(), content, self.first, self.last,
            market_change=self._market_change, is_hyperopt=True,
        )  # fmt: skip
        return content, processed, stats


def _speak(strategy: Any, rehearsed: Rehearsed) -> None:
    """Let the strategy's own code read the epoch's answers where it would read those of the served model."""
    by_pair = {
        str(pair): part.droplevel("pair")
        for pair, part in rehearsed.predictions().groupby(level="pair")
    }
    held = rehearsed.config.labels.horizon_candles * timeframe_to_seconds(strategy.timeframe)
    nothing = next(iter(by_pair.values())).iloc[:0]

    def mlpipe_predict(dataframe: pd.DataFrame, metadata: dict[str, Any]) -> pd.DataFrame:
        answers = by_pair.get(metadata["pair"], nothing)
        rows, found = _where(pd.DatetimeIndex(dataframe["date"]), pd.DatetimeIndex(answers.index))
        for name in answers.columns:
            values = answers[name].to_numpy()
            said = np.full(len(dataframe), _NEUTRAL.get(name, np.nan), dtype=values.dtype)
            said[rows] = values[found]
            dataframe[name] = said
        dataframe["mlpipe_version"] = ""
        return dataframe

    strategy.mlpipe_predict = mlpipe_predict
    strategy.mlpipe_horizon_passed = lambda open_date, current_time, pair="": (
        (current_time - open_date).total_seconds() >= held
    )


def _where(
    dates: pd.DatetimeIndex, answered: pd.DatetimeIndex
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows that are answered, and the positions of their answers; both indexes ascend."""
    wanted, there = dates.as_unit("ns").asi8, answered.as_unit("ns").asi8
    position = np.searchsorted(there, wanted)
    rows = np.flatnonzero(position < len(there))
    rows = rows[there[position[rows]] == wanted[rows]]
    return rows, position[rows]


@contextmanager
def _unheard(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _usable(loss: Any) -> float:
    number = float(loss)
    return number if abs(number) < MAX_LOSS else MAX_LOSS


def _plain(value: Any) -> Any:
    """JSON types; whatever else freqtrade puts into its results as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    item = getattr(value, "item", None)
    return item() if callable(item) else str(value)
