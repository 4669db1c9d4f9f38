"""What a row of the catalogue is, and the candle arrays its computation gets."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd

from freqtrade_mlpipe.config import FeatureConfig
from freqtrade_mlpipe.features._windows import FloatArray, IntArray, lag
from freqtrade_mlpipe.features.candles import column_array, column_values

Group = Literal["price", "volume", "momentum", "volatility", "trend", "statistics", "time"]
Input = Literal["date", "open", "high", "low", "close", "volume"]
Period = int | Literal["short", "medium", "long"]

GROUPS: tuple[Group, ...] = (
    "price",
    "volume",
    "momentum",
    "volatility",
    "trend",
    "statistics",
    "time",
)

HLC: tuple[Input, ...] = ("high", "low", "close")
OHLC: tuple[Input, ...] = ("open", "high", "low", "close")

_PRICE_EXPONENT = 20
"""The first close becomes about 2**20: far above the absolute 1e-14 that TA-Lib takes for zero."""


class Candles:
    """Float64 arrays of one pair's candles, and the intermediate results that indicators share.

    Prices and volumes are multiplied by a power of two, taken from the first close and the first
    traded volume, because TA-Lib compares with absolute constants (a coin at 1e-8 would count as
    constant). A power of two changes no bit of a scale-free result.

    Parameters
    ----------
    df : DataFrame
        Valid candles (see `validate_candles`) with a `date` column.
    """

    def __init__(self, df: pd.DataFrame) -> None:
        self._df = df
        self.quoted_close: FloatArray = column_values(df, "close")
        self.price_exponent = scale_exponent(float(self.quoted_close[0]))
        self._shared: dict[tuple[object, ...], FloatArray] = {}

    def __len__(self) -> int:
        return len(self.quoted_close)

    @cached_property
    def volume_exponent(self) -> int | None:
        """None if nothing was traded."""
        volume = column_values(self._df, "volume")
        first = float(volume[np.argmax(volume != 0)])
        return scale_exponent(first) if first else None

    @cached_property
    def seconds(self) -> IntArray:
        """Open times since 1970 (UTC)."""
        stamps = pd.DatetimeIndex(column_array(self._df, "date")).as_unit("ns").asi8
        return np.asarray(stamps // 1_000_000_000, dtype=np.int64)

    @cached_property
    def open(self) -> FloatArray:
        """Scaled, as the other prices and the volume."""
        return self._scaled("open", self.price_exponent)

    @cached_property
    def high(self) -> FloatArray:
        return self._scaled("high", self.price_exponent)

    @cached_property
    def low(self) -> FloatArray:
        return self._scaled("low", self.price_exponent)

    @cached_property
    def close(self) -> FloatArray:
        return self._scaled("close", self.price_exponent)

    @cached_property
    def volume(self) -> FloatArray:
        return self._scaled("volume", self.volume_exponent or 0)

    def _scaled(self, name: str, exponent: int) -> FloatArray:
        scaled: FloatArray = np.ldexp(column_values(self._df, name), exponent)
        return scaled

    @cached_property
    def minute_of_day(self) -> IntArray:
        """0 to 1439, of the open time in UTC."""
        return np.asarray((self.seconds // 60) % 1440)

    @cached_property
    def weekday(self) -> IntArray:
        """0 Monday to 6 Sunday."""
        return np.asarray((self.seconds // 86_400 + 3) % 7)

    @cached_property
    def day_of_month(self) -> IntArray:
        """0 to 30."""
        days = (self.seconds // 86_400).astype("datetime64[D]")
        return np.asarray((days - days.astype("datetime64[M]")).astype(np.int64))

    @cached_property
    def month(self) -> IntArray:
        """0 January to 11 December."""
        days = (self.seconds // 86_400).astype("datetime64[D]")
        return np.asarray(days.astype("datetime64[M]").astype(np.int64) % 12)

    def shared(self, compute: Callable[..., FloatArray], *arguments: int | str) -> FloatArray:
        """`compute(self, *arguments)`, computed once; callers must not write into it."""
        key = (compute, *arguments)
        if key not in self._shared:
            self._shared[key] = compute(self, *arguments)
        return self._shared[key]


def scale_exponent(first: float) -> int:
    """The power of two that turns a series' first number into about 2**20."""
    return _PRICE_EXPONENT - math.frexp(first)[1]


def log_close(candles: Candles) -> FloatArray:
    """Natural logarithm of the close as quoted: scaled, its rounding would depend on the first candle."""
    return np.log(candles.quoted_close)


def log_returns(candles: Candles) -> FloatArray:
    """Log return of one candle; 0 in the first row."""
    return np.log(candles.close / lag(candles.close, 1))


def changes(candles: Candles) -> FloatArray:
    """Close minus previous close; 0 in the first row."""
    return candles.close - lag(candles.close, 1)


def true_range(candles: Candles) -> FloatArray:
    """Largest of high - low, |high - previous close|, |low - previous close|; high - low in the
    first row."""
    before = lag(candles.close, 1)
    return np.maximum(candles.high, before) - np.minimum(candles.low, before)


def spread(candles: Candles) -> FloatArray:
    """High minus low."""
    return candles.high - candles.low


def typical_price(candles: Candles) -> FloatArray:
    """(high + low + close) / 3."""
    return (candles.high + candles.low + candles.close) / 3.0


@dataclass(frozen=True, slots=True)
class Indicator:
    """One row of the catalogue.

    Attributes
    ----------
    name : str
        Base name; a column is called `<name>_<period>…`, e.g. `rsi_14`.
    group : str
        price, volume, momentum, volatility, trend, statistics or time.
    inputs : tuple of str
        Candle columns it reads.
    periods : tuple of tuples
        One column for each inner tuple; "short", "medium" and "long" stand for the configuration's
        periods.
    compute : callable
        `compute(candles, *periods)` → float64 array of shape (n_candles,). Causal, scale-free,
        finite after the warm-up on any valid candles (flat prices and candles without volume give a
        neutral value).
    warmup : callable
        `warmup(*periods)` → number of leading candles without a value: after that many a value
        computed on a window equals the one computed on a long history to 1e-6 relative.
    measures : str
        What it says about the market, its unit and its neutral value.
    source : str
        Where the formula is from.
    """

    name: str
    group: Group
    inputs: tuple[Input, ...]
    periods: tuple[tuple[Period, ...], ...]
    compute: Callable[..., FloatArray]
    warmup: Callable[..., int]
    measures: str
    source: str

    def columns(self, config: FeatureConfig) -> tuple[FeatureColumn, ...]:
        """The columns of this row under `config`, each name once."""
        found: dict[str, FeatureColumn] = {}
        for entry in self.periods:
            periods = tuple(_resolve(period, config) for period in entry)
            name = "_".join([self.name, *map(str, periods)])
            found.setdefault(name, FeatureColumn(name, self, periods, self.warmup(*periods)))
        return tuple(found.values())


@dataclass(frozen=True, slots=True)
class FeatureColumn:
    """One feature: a catalogue row with its periods filled in.

    Attributes
    ----------
    name : str
        Column name, [A-Za-z0-9_]+.
    indicator : Indicator
        The row.
    periods : tuple of int
        Arguments of `compute`, in candles unless the row says otherwise.
    warmup : int
        Leading candles without a value.
    """

    name: str
    indicator: Indicator
    periods: tuple[int, ...]
    warmup: int

    def __hash__(self) -> int:
        """Quick: selections of columns are looked up all the time."""
        return hash(self.name)

    def compute(self, candles: Candles) -> FloatArray:
        """Values on all candles, float64; the first `warmup` rows are meaningless."""
        return self.indicator.compute(candles, *self.periods)


def _resolve(period: Period, config: FeatureConfig) -> int:
    if isinstance(period, int):
        return period
    return {
        "short": config.short_period,
        "medium": config.medium_period,
        "long": config.long_period,
    }[period]


def within(extra: int = 0) -> Callable[..., int]:
    """Warm-up of a plain window: the sum of the periods, less one, plus `extra`."""
    return lambda *periods: max(sum(periods) - 1 + extra, 0)


def exactly(n: int) -> Callable[..., int]:
    """Warm-up of `n` candles whatever the periods."""
    return lambda *periods: n


def ema_memory(period: int, order: int = 1) -> int:
    """Candles after which an EMA cascade has forgotten its start to about 1e-8.

    The start's weight falls as exp(-k * 2 / (period + 1)), times k**(order - 1) for `order` EMAs in
    a row.
    """
    return order * period + round((18 + 4 * (order - 1)) * (period + 1) / 2)


def wilder_memory(period: int, order: int = 1) -> int:
    """Candles after which Wilder's smoothing (weight 1 / period) has forgotten its start to about
    1e-9.

    One digit more than for an EMA of prices: a quotient of two averages forgets a burst of
    volatility later.
    """
    return order * period + (21 + 4 * (order - 1)) * period
