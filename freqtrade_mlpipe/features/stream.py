"""Features candle by candle: what `FeatureEngineer.transform` gives for the newest candle, in microseconds."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, NamedTuple, NoReturn

import numpy as np
import pandas as pd

from freqtrade_mlpipe.exceptions import DataError
from freqtrade_mlpipe.features._block import Block, bound, sufficient_candles, write_column
from freqtrade_mlpipe.features._plan import Carried
from freqtrade_mlpipe.features._program import Inputs, Program, compile_program
from freqtrade_mlpipe.features._trace import FloatArray
from freqtrade_mlpipe.features.candles import COLUMNS, validate_candles
from freqtrade_mlpipe.features.indicator import Candles, FeatureColumn, scale_exponent

_RANGE = 1e100
"""A price this many times the first one, or this part of it, ends a stream: TA-Lib's handles refuse infinity."""

_FEWEST_TOGETHER = 5
"""Fewer streams are quicker one by one."""

Candle = tuple[int, float, float, float, float, float]
"""Open time in seconds since 1970 (UTC), open, high, low, close, volume."""


class _Accepted(NamedTuple):
    """A candle that a stream can be taken on to, its numbers as the code has them, and the exponents of their scale."""

    candle: Candle
    carried: Carried
    inputs: Inputs
    exponents: tuple[int, int | None]


class FeatureStream:
    """Features of one pair, carried from candle to candle.

    All values equal, bit for bit, those that `FeatureEngineer.transform` computes on all candles
    since the stream was opened. It is for one pair and one thread; a copy or a pickle is not open.

    Parameters
    ----------
    columns : tuple of FeatureColumn
        See `FeatureEngineer.columns`.

    Examples
    --------
    >>> from freqtrade_mlpipe.features import FeatureEngineer
    >>> from freqtrade_mlpipe.synthetic import Market, generate_market
    >>> candles = generate_market(Market(n_candles=700))["SYNA/USDT"]
    >>> engineer = FeatureEngineer()
    >>> stream = FeatureStream(engineer.columns)
    >>> stream.open(candles.iloc[:-1]).shape
    (699, 188)
    >>> date, *newest = candles.iloc[-1][["date", "open", "high", "low", "close", "volume"]]
    >>> row = stream.update((int(date.timestamp()), *newest))
    >>> bool((row == engineer.transform(candles).iloc[-1]).all())
    True
    """

    def __init__(self, columns: tuple[FeatureColumn, ...]) -> None:
        self.columns = columns
        self._carried: Carried | None = None
        self._history: list[Candle] = []

    @cached_property
    def _program(self) -> Program:
        return compile_program(self.columns)

    @property
    def recomputed(self) -> tuple[FeatureColumn, ...]:
        """Columns that can't be carried, but are computed anew on all candles since the opening.

        Those of rows that do more than what `_trace` knows and, with a TA-Lib before 0.8 (which has
        no handles), of rows that call it.
        """
        return tuple(self.columns[place] for place in self._program.untraced)

    def open(self, df: pd.DataFrame, *, pair: str = "") -> Block:
        """Start, or start again, from a window of candles.

        Parameters
        ----------
        df : DataFrame
            Candles of one pair, see `validate_candles`; more than the longest warm-up.
        pair : str
            Named in error messages.

        Returns
        -------
        array of shape (n_candles, n_columns), float32, column-major
            What `FeatureEngineer.transform` gives: NaN in a feature's warm-up rows, else finite.

        Raises
        ------
        DataError
            For invalid candles, or too few.
        """
        checked = sufficient_candles(df, self.columns, pair=pair)
        candles = Candles(checked)
        block = np.empty((len(checked), len(self.columns)), dtype=np.float32, order="F")
        with np.errstate(all="ignore"):
            self._carried = self._program.resume(candles, block)
            self._recompute(candles, block)
        self._exponents = candles.price_exponent, candles.volume_exponent
        self._last = int(candles.seconds[-1])
        if self._program.untraced:
            quoted = (checked[name].tolist() for name in COLUMNS)
            self._history = list(zip(candles.seconds.tolist(), *quoted, strict=True))
        return block

    def update(self, candle: Candle) -> Block:
        """Features of the next candle.

        Parameters
        ----------
        candle : tuple
            Open time in seconds since 1970 (UTC), later than the last one; open, high, low, close,
            volume as quoted.

        Returns
        -------
        array of shape (n_columns,), float32
            All finite.

        Raises
        ------
        DataError
            For an invalid candle, one whose numbers are to the first ones as 1e100 to 1, or a stream
            that is not open; nothing has changed then.
        """
        accepted = self._accepted(candle)
        with np.errstate(all="ignore"):
            return self._taken(accepted, self._program.update(accepted.carried, accepted.inputs))

    def _accepted(self, candle: Candle) -> _Accepted:
        """The candle, if it can be the next one; raises as `update`."""
        if self._carried is None:
            raise DataError("The stream is not open. Open it with a window of candles.")
        seconds, *prices, volume = candle
        if not (seconds > self._last and _is_valid(candle)):
            _refuse(candle, self._last)
        price_exponent, volume_exponent = self._exponents
        if volume_exponent is None and volume:
            # All volumes so far were 0, and 0 is 0 on any scale.
            volume_exponent = scale_exponent(volume)
        scaled = [_scaled(price, price_exponent) for price in prices]
        scaled_volume = _scaled(volume, volume_exponent or 0)
        within = 1 / _RANGE < min(scaled) <= max(scaled) < _RANGE
        if not (within and scaled_volume < math.inf):
            raise DataError(
                f"The candle {candle} is too far from the first: open the stream again."
            )
        inputs = (*scaled, scaled_volume, float(prices[3]), *_calendar(seconds))
        return _Accepted(candle, self._carried, inputs, (price_exponent, volume_exponent))

    def _taken(self, accepted: _Accepted, found: FloatArray) -> Block:
        """The row of the candle, for which the code found these values."""
        candle = accepted.candle
        self._exponents, self._last = accepted.exponents, candle[0]
        if not self._program.untraced:
            row = found.astype(np.float32)
        else:
            row = np.empty(len(self.columns), dtype=np.float32)
            row[list(self._program.traced)] = found
            self._history.append(candle)
            self._recompute(Candles(_frame(self._history)), row[np.newaxis])
        if not np.isfinite(row).all():
            bound(row)
        return row

    def _recompute(self, candles: Candles, block: Block) -> None:
        """The columns that can't be carried, for the last candles."""
        first = len(candles) - len(block)
        for place, column in zip(self._program.untraced, self.recomputed, strict=True):
            values = column.compute(candles)[first:]
            write_column(block[:, place], values, max(column.warmup - first, 0))
            bound(block[:, place])

    def __getstate__(self) -> dict[str, Any]:
        """The columns: TA-Lib's handles can't be pickled."""
        return {"columns": self.columns}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["columns"])  # type: ignore[misc]


def update_together(
    streams: Sequence[FeatureStream], candles: Sequence[Candle]
) -> list[Block | None]:
    """`FeatureStream.update` of many streams of the same columns, a candle each; many take less time together.

    Returns
    -------
    list of array of shape (n_columns,), float32, or None
        None for a stream that refuses its candle, and has not changed.
    """
    accepted: dict[int, _Accepted] = {}
    for place, (stream, candle) in enumerate(zip(streams, candles, strict=True)):
        with suppress(DataError):
            accepted[place] = stream._accepted(candle)
    carried = [one.carried for one in accepted.values()]
    inputs = [one.inputs for one in accepted.values()]
    rows: list[Block | None] = [None] * len(streams)
    if not accepted:
        return rows
    program = streams[0]._program
    with np.errstate(all="ignore"):
        values: Iterable[FloatArray] = (
            program.update_many(carried, inputs)
            if len(accepted) >= _FEWEST_TOGETHER
            else map(program.update, carried, inputs)
        )
        for (place, one), found in zip(accepted.items(), values, strict=True):
            rows[place] = streams[place]._taken(one, found)
    return rows


def _scaled(number: float, exponent: int) -> float:
    """As np.ldexp has it, where Python raises."""
    try:
        return math.ldexp(number, exponent)
    except OverflowError:
        return math.inf


def _calendar(seconds: int) -> tuple[int, int, int, int]:
    """As `Candles` has it: minute of the day, weekday, day of the month and month, from 0."""
    moment = time.gmtime(seconds)
    minute = 60 * moment.tm_hour + moment.tm_min
    return minute, moment.tm_wday, moment.tm_mday - 1, moment.tm_mon - 1


def _is_valid(candle: Candle) -> bool:
    _, open_, high, low, close, volume = candle
    return (
        0 < low <= high < math.inf
        and 0 < open_ < math.inf
        and 0 < close < math.inf
        and 0 <= volume < math.inf
    )


def _refuse(candle: Candle, last: int) -> NoReturn:
    """Raise what `transform` would say."""
    validate_candles(_frame([(last, 1.0, 1.0, 1.0, 1.0, 0.0), candle]))
    raise DataError(f"The candle {candle} is invalid.")


def _frame(candles: list[Candle]) -> pd.DataFrame:
    df = pd.DataFrame(candles, columns=["date", *COLUMNS])
    df["date"] = pd.to_datetime(df["date"], unit="s", utc=True)
    return df
