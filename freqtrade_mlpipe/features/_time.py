"""Time rows: the candle's open time (UTC) on circles, and trading sessions at fixed UTC hours."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from freqtrade_mlpipe.features._windows import FloatArray, IntArray, look_up
from freqtrade_mlpipe.features.indicator import Candles, Indicator, within

_DAY_MINUTES = 1440


@lru_cache
def _circle(function: np.ufunc, cycle: int) -> FloatArray:
    table: FloatArray = function(2 * np.pi * np.arange(cycle) / cycle)
    table.flags.writeable = False
    return table


def _sine(position: IntArray, cycle: int) -> FloatArray:
    return look_up(position, _circle(np.sin, cycle))


def _cosine(position: IntArray, cycle: int) -> FloatArray:
    return look_up(position, _circle(np.cos, cycle))


def _session(c: Candles, start_hour: int, end_hour: int) -> FloatArray:
    minute = c.minute_of_day
    return ((minute >= start_hour * 60) & (minute < end_hour * 60)).astype(np.float64)


def _row(
    name: str,
    compute: Callable[[Candles], FloatArray],
    measures: str,
    source: str = "calendar, UTC",
) -> Indicator:
    return Indicator(name, "time", ("date",), ((),), compute, within(), measures, source)


ROWS: tuple[Indicator, ...] = (
    _row("hour_sin", lambda c: _sine(c.minute_of_day, _DAY_MINUTES), "Sine of the time of day."),
    _row(
        "hour_cos", lambda c: _cosine(c.minute_of_day, _DAY_MINUTES), "Cosine of the time of day."
    ),
    _row("weekday_sin", lambda c: _sine(c.weekday, 7), "Sine of the weekday, Monday 0."),
    _row("weekday_cos", lambda c: _cosine(c.weekday, 7), "Cosine of the weekday, Monday 0."),
    _row("day_sin", lambda c: _sine(c.day_of_month, 31), "Sine of the day of the month."),
    _row("day_cos", lambda c: _cosine(c.day_of_month, 31), "Cosine of the day of the month."),
    _row("month_sin", lambda c: _sine(c.month, 12), "Sine of the month, January 0."),
    _row("month_cos", lambda c: _cosine(c.month, 12), "Cosine of the month, January 0."),
    _row(
        "asia_session",
        lambda c: _session(c, 0, 9),
        "1 from 00:00 to 09:00 UTC.",
        "Tokyo 09:00 to 18:00",
    ),
    _row(
        "europe_session",
        lambda c: _session(c, 7, 16),
        "1 from 07:00 to 16:00 UTC, without daylight saving.",
        "London 08:00 to 17:00 summer time",
    ),
    _row(
        "us_session",
        lambda c: _session(c, 13, 21),
        "1 from 13:00 to 21:00 UTC, without daylight saving.",
        "New York 09:00 to 17:00 summer time",
    ),
    _row(
        "weekend",
        lambda c: (c.weekday >= 5).astype(np.float64),
        "1 on Saturday and Sunday, UTC.",
    ),
)
