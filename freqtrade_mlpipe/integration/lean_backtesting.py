"""freqtrade's `Backtesting` without the steps that cannot change a trade, for one epoch after another.

Trades, and all figures made from them, are those of freqtrade's own loop: what is left out is candles on which a pair
has neither an open trade nor an entry signal, whole copies of a trade for callbacks that only look at it, and records
that freqtrade's hyperopt does not keep either (progress, the wallet at every candle).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from datetime import datetime, timedelta
from functools import wraps
from typing import Any

from freqtrade.optimize.backtesting import DATE_IDX, Backtesting
from freqtrade.persistence import LocalTrade
from freqtrade.strategy import IStrategy
from pandas import DataFrame

_EVERY_CANDLE = ("custom_exit", "custom_stoploss", "custom_roi", "adjust_trade_position")
"""Callbacks that freqtrade gives a copy of the trade on each candle that it is open."""


class LeanBacktesting(Backtesting):
    """Skips what can change nothing; where a strategy or an older freqtrade could see the difference, it skips nothing.

    The generators that it overrides are those of
    https://github.com/freqtrade/freqtrade/blob/2026.9/freqtrade/optimize/backtesting.py
    """

    def _set_strategy(self, strategy: IStrategy) -> None:
        for name in _EVERY_CANDLE:
            callback = getattr(strategy, name, None)
            if callback is not None and not callback.__qualname__.startswith("IStrategy."):
                setattr(strategy, name, _given_a_view(callback))
        super()._set_strategy(strategy)

    def _get_ohlcv_as_lists(self, processed: dict[str, DataFrame]) -> dict[str, Any]:
        data: dict[str, Any] = super()._get_ohlcv_as_lists(processed)
        self._spans = {pair: _Span(rows) for pair, rows in data.items() if rows}
        self._skips = self._can_skip()
        self._entries: dict[datetime, set[str]] = {}
        for pair, rows in data.items():
            for row in rows:
                if self.check_for_trade_entry(row) is not None:
                    self._entries.setdefault(row[DATE_IDX], set()).add(pair)
        return data

    def _can_skip(self) -> bool:
        """Whether nobody could tell: one row a candle, no smaller candles, and nothing of the user's in each round."""
        plain = self.strategy.bot_loop_start.__qualname__.startswith("IStrategy.")
        known = hasattr(Backtesting, "_sync_pair_index")  # older ones count the candles they visit
        whole = all(span.is_whole(self.timeframe_td) for span in self._spans.values())
        return (
            plain and known and whole and not self.timeframe_detail_td and not self.dynamic_pairlist
        )

    def _time_generator(self, start_date: datetime, end_date: datetime) -> Iterator[datetime]:
        """Candles on which something may happen, and the last one."""
        for span in self._spans.values():
            span.count_from(start_date, self.timeframe_td)
        visited = True
        for number, moment in enumerate(super()._time_generator(start_date, end_date), 1):
            busy = LocalTrade.bt_trades_open or moment in self._entries or moment == end_date
            if self._skips and not busy:
                visited = False
                continue
            self._number = number
            if not visited:
                for pair in self._spans:
                    self._show(pair, number - 1)
            visited = True
            yield moment

    def _time_pair_generator_det(
        self, current_time: datetime, pairs: list[str]
    ) -> Iterator[tuple[datetime, bool, bool, int, str]]:
        """Pairs to which something may happen, in freqtrade's order."""
        entering = self._entries.get(current_time, ())
        for step in super()._time_pair_generator_det(current_time, pairs):
            pair = step[-1]
            if not self._skips or pair in entering or LocalTrade.bt_trades_open_pp[pair]:
                yield step
            else:
                self._show(pair, self._number)

    def _sync_pair_index(
        self, data: dict[str, Any], pair: str, row_index: int, current_time: datetime
    ) -> int:
        """Position of the pair's row, which visits do not count when some are left out."""
        if not self._skips or pair not in self._spans:
            found: int = super()._sync_pair_index(data, pair, row_index, current_time)
            return found
        return max(0, self._number - self._spans[pair].first)

    def _show(self, pair: str, number: int) -> None:
        """Let callbacks see the pair's candles as far as they would after a visit on that candle."""
        span = self._spans.get(pair)
        if span is not None and number >= span.first:
            shown = min(number - span.first + 1, span.n_rows)
            self.dataprovider._set_dataframe_max_index(pair, self.required_startup + shown)

    def _set_progress_step(self, action: Any, total: float) -> None:
        pass

    def _increment_progress(self, advance: float = 1) -> None:
        pass

    def _capture_wallet(self, current_time: datetime, currency: str, price: float) -> None:
        pass


class _Span:
    """The rows of a pair; `first` is the number of its first candle, counted from the start of the backtest."""

    def __init__(self, rows: Sequence[Any]) -> None:
        self._start, self._end, self.n_rows = rows[0][DATE_IDX], rows[-1][DATE_IDX], len(rows)
        self.first = 0

    def is_whole(self, candle: timedelta) -> bool:
        """Whether no candle is missing."""
        return bool(self._end - self._start == (self.n_rows - 1) * candle)

    def count_from(self, start: datetime, candle: timedelta) -> None:
        """Count candles from `start`, which has number 0."""
        self.first = int((self._start - start) // candle)


class _View(LocalTrade):
    """A trade as it is at this moment, which nobody changes through it; orders are copied once they are asked for."""

    def __init__(self, trade: LocalTrade) -> None:
        self.__dict__.update(trade.__dict__)
        self.__dict__["_of"] = trade

    @property
    def orders(self) -> Any:
        """Copies, whose trade is this one."""
        held = self.__dict__
        trade = held.pop("_of", None)
        if trade is not None:
            held["orders"] = deepcopy(held["orders"], {id(trade): self})
        return held["orders"]

    @orders.setter
    def orders(self, orders: Any) -> None:
        self.__dict__.pop("_of", None)
        self.__dict__["orders"] = orders


def _given_a_view(callback: Callable[..., Any]) -> Callable[..., Any]:
    """The callback, given a view of the trade instead of a whole copy, which takes a tenth of a millisecond to make.

    freqtrade makes no copy for its own callbacks, and knows them by their qualified name:
    https://github.com/freqtrade/freqtrade/blob/2026.9/freqtrade/strategy/strategy_wrapper.py
    """

    @wraps(callback)
    def called(*args: Any, trade: LocalTrade, **kwargs: Any) -> Any:
        return callback(*args, trade=_View(trade), **kwargs)

    called.__qualname__ = f"IStrategy.{callback.__name__}"
    return called
