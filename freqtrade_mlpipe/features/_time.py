"""Time rows: the candle's open time (UTC) on circles, and trading sessions at fixed UTC hours."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from freqtrade_mlpipe.features._windows import FloatArray
from freqtrade_mlpipe.features.indicator import Candles, Indicator, within

_DAY_MINUTES = 1440
IntArray = NDArray[np.int64]


def _minute_of_day(c: Candles) -> IntArray:
    return np.asarray((c.seconds // 60) % _DAY_MINUTES)


def _weekday(c: Candles) -> IntArray:
    return np.asarray((c.seconds // 86_400 + 3) % 7)


def _dates(c: Candles) -> NDArray[np.datetime64]:
    return (c.seconds // 86_400).astype("datetime64[D]")


def _day_of_month(c: Candles) -> IntArray:
    days = _dates(c)
    return np.asarray((days - days.astype("datetime64[M]")).astype(np.int64))


def _month(c: Candles) -> IntArray:
    return np.asarray(_dates(c).astype("datetime64[M]").astype(np.int64) % 12)


def _sine(position: IntArray, cycle: int) -> FloatArray:
    table: FloatArray = np.sin(2 * np.pi * np.arange(cycle) / cycle)
    return table[position]


def _cosine(position: IntArray, cycle: int) -> FloatArray:
    table: FloatArray = np.cos(2 * np.pi * np.arange(cycle) / cycle)
    return table[position]


def _session(c: Candles, start_hour: int, end_hour: int) -> FloatArray:
    minute = _minute_of_day(c)
    return ((minute >= start_hour * 60) & (minute < end_hour * 60)).astype(np.float64)


def _row(
    name: str,
    compute: Callable[[Candles], FloatArray],
    measures: str,
    source: str = "calendar, UTC",
) -> Indicator:
    return Indicator(name, "time", ("date",), ((),), compute, within(), measures, source)


ROWS: tuple[Indicator, ...] = (
    _row("hour_sin", lambda c: _sine(_minute_of_day(c), _DAY_MINUTES), "Sine of the time of day."),
    _row(
        "hour_cos", lambda c: _cosine(_minute_of_day(c), _DAY_MINUTES), "Cosine of the time of day."
    ),
    _row("weekday_sin", lambda c: _sine(_weekday(c), 7), "Sine of the weekday, Monday 0."),
    _row("weekday_cos", lambda c: _cosine(_weekday(c), 7), "Cosine of the weekday, Monday 0."),
    _row("day_sin", lambda c: _sine(_day_of_month(c), 31), "Sine of the day of the month."),
    _row("day_cos", lambda c: _cosine(_day_of_month(c), 31), "Cosine of the day of the month."),
    _row("month_sin", lambda c: _sine(_month(c), 12), "Sine of the month, January 0."),
    _row("month_cos", lambda c: _cosine(_month(c), 12), "Cosine of the month, January 0."),
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
        lambda c: (_weekday(c) >= 5).astype(np.float64),
        "1 on Saturday and Sunday, UTC.",
    ),
)
