"""freqtrade's own `Backtesting`, run for one registered version over one window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import pandas as pd
from freqtrade.enums import RunMode
from freqtrade.exceptions import FreqtradeException

from freqtrade_mlpipe.exceptions import DataError
from freqtrade_mlpipe.registry.evidence import BacktestSummary


@dataclass(frozen=True)
class BacktestOutcome:
    """What a backtest said.

    Attributes
    ----------
    summary : the figures the gates read.
    results : freqtrade's result mapping, as `show_backtest_results` takes it.
    trades : one row a trade, freqtrade's columns; dates UTC.
    equity : account value after each closed trade divided by the starting balance; index UTC, starts at 1.
    pairs : one mapping a pair with freqtrade's figures.
    market : mean close of the pairs divided by its first value, one value a candle; index UTC.
    closes : close of each candle, a column a pair; index UTC.
    """

    summary: BacktestSummary
    results: dict[str, Any]
    trades: pd.DataFrame
    equity: pd.Series
    market: pd.Series
    closes: pd.DataFrame
    pairs: list[dict[str, Any]]


def run_backtest(
    config: Mapping[str, Any],
    *,
    pairs: Sequence[str],
    model_name: str,
    version: str,
    start: pd.Timestamp,
    end: pd.Timestamp | None = None,
) -> BacktestOutcome:
    """Backtest the configured strategy with a pinned version between two candle dates (UTC); None: to the last candle.

    Nothing is written: freqtrade's result files and cache are switched off.

    Raises
    ------
    DataError
        When freqtrade cannot run the backtest; the message is freqtrade's.
    """
    from freqtrade.optimize.backtesting import Backtesting
    from freqtrade.optimize.optimize_reports import generate_backtest_stats

    settings = pinned(config, pairs, start, end)
    block = settings["mlpipe"]
    block["model_name"] = model_name
    block["serving"] = {**block.get("serving", {}), "version": version, "on_missing": "raise"}
    backtesting = None
    try:
        backtesting = Backtesting(settings)
        candles, timerange = backtesting.load_bt_data()
        strategy = backtesting.strategylist[0]
        first, last = backtesting.backtest_one_strategy(strategy, candles, timerange)
        results = generate_backtest_stats(
            candles, backtesting.all_bt_content, min_date=first, max_date=last
        )
    except FreqtradeException as error:
        raise DataError(f"The backtest of version {version} could not run: {error}") from error
    finally:
        if backtesting is not None:
            backtesting.cleanup()
    stats = results["strategy"][strategy.get_strategy_name()]
    trades = _trades(stats)
    window = {pair: frame[frame["date"].between(first, last)] for pair, frame in candles.items()}
    closes = pd.DataFrame(
        {pair: frame.set_index("date")["close"] for pair, frame in window.items()}
    )
    return BacktestOutcome(
        summary=_summary(stats),
        results=dict(results),
        trades=trades,
        equity=_equity(trades, float(stats["starting_balance"]), pd.Timestamp(first)),
        market=_market(closes),
        closes=closes,
        pairs=[dict(row) for row in stats["results_per_pair"] if row["key"] != "TOTAL"],
    )


def pinned(
    config: Mapping[str, Any], pairs: Sequence[str], start: pd.Timestamp, end: pd.Timestamp | None
) -> dict[str, Any]:
    """A configuration of its own for a backtest of some pairs between two candle dates that writes nothing."""
    settings: dict[str, Any] = deepcopy(dict(config))
    settings["exchange"]["pair_whitelist"] = list(pairs)
    settings.setdefault("mlpipe", {})["scope"] = (
        "pooled"  # one model is judged, whatever a bot serves
    )
    if (
        "freqai" in settings
    ):  # the mixin reads its features' parameters; FreqAI itself would train anew
        settings["freqai"]["enabled"] = False
    settings.update(
        timerange=f"{int(start.timestamp())}-{int(end.timestamp()) if end else ''}",
        runmode=RunMode.BACKTEST,
        export="none",
        backtest_cache="none",
        enable_protections=settings.get("enable_protections", False),
    )
    return settings


def _summary(stats: Mapping[str, Any]) -> BacktestSummary:
    return BacktestSummary(
        sharpe=float(stats["sharpe"]),
        sortino=float(stats["sortino"]),
        calmar=float(stats["calmar"]),
        n_trades=int(stats["total_trades"]),
        max_drawdown=float(stats["max_drawdown_account"]),
        profit_factor=float(stats["profit_factor"]),
        profit_total=float(stats["profit_total"]),
        market_change=float(stats["market_change"]),
        start=pd.Timestamp(stats["backtest_start"], tz="UTC"),
        end=pd.Timestamp(stats["backtest_end"], tz="UTC"),
    )


def _trades(stats: Mapping[str, Any]) -> pd.DataFrame:
    trades = stats["trades"]
    frame = trades if isinstance(trades, pd.DataFrame) else pd.DataFrame(trades)
    if frame.empty:
        return pd.DataFrame({"close_date": pd.to_datetime([], utc=True), "profit_abs": []})
    return frame.sort_values("close_date", ignore_index=True)


def _equity(trades: pd.DataFrame, balance: float, start: pd.Timestamp) -> pd.Series:
    steps = trades.groupby("close_date")["profit_abs"].sum().cumsum()
    begin = pd.Series([0.0], index=pd.DatetimeIndex([start]))
    account: pd.Series = 1 + pd.concat([begin, steps]) / balance
    return account


def _market(closes: pd.DataFrame) -> pd.Series:
    relative: pd.Series = (closes.ffill() / closes.bfill().iloc[0]).mean(axis=1)
    return relative
