"""Synthetic markets: seeded OHLCV candles whose predictability is known because it was planted.

The generator is for demonstrations, tests and benchmarks. Prices are a martingale with clustered, heavy-tailed
volatility and a common factor, to which `signal` adds a drift that follows a slowly changing "pressure". The pressure
leaves its marks on volume and on candle wicks whatever `signal` is: with ``signal=0`` every pattern is still there,
but none of them says anything about the future.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from freqtrade_mlpipe.exceptions import ConfigError

FloatArray = NDArray[np.float64]

_CANDLE_VOLATILITY = 0.006
_PRESSURE_LIFE_CANDLES = 24.0
_DRIFT_PER_SIGNAL = 0.14
"""Drift of a candle, in units of its volatility, at one standard deviation of pressure and `signal` 1."""
_PRICE_STEPS = 1e5
_BURN_IN = 500


@dataclass(frozen=True)
class Market:
    """What to generate.

    Parameters
    ----------
    pairs : names of the pairs, freqtrade style.
    n_candles : candles per pair.
    timeframe : candle length such as "1h" or "5min".
    start : first candle's open time; naive times are UTC.
    signal : strength of the planted drift; 0 is an unpredictable market.
    seed : draws another market.
    """

    pairs: tuple[str, ...] = tuple(f"SYN{letter}/USDT" for letter in "ABCDEF")
    n_candles: int = 14_600
    timeframe: str = "1h"
    start: str = "2023-01-01"
    signal: float = 1.0
    seed: int = 42

    def __post_init__(self) -> None:
        if not self.pairs or len(set(self.pairs)) != len(self.pairs):
            raise ConfigError(f"Market: pairs must be given and distinct, found {self.pairs}.")
        if self.n_candles < 2:
            raise ConfigError(f"Market: n_candles must be at least 2, found {self.n_candles}.")
        if not np.isfinite(self.signal) or self.signal < 0:
            raise ConfigError(
                f"Market: signal must be a number of at least 0, found {self.signal}."
            )
        if self.seed < 0:
            raise ConfigError(f"Market: seed must be at least 0, found {self.seed}.")
        try:
            length = pd.Timedelta(self.timeframe)
        except ValueError as error:
            raise ConfigError(
                f"Market: timeframe must be a length such as 1h or 5min, found {self.timeframe!r}."
            ) from error
        if not length > pd.Timedelta(0):
            raise ConfigError(f"Market: timeframe must be positive, found {self.timeframe!r}.")
        try:
            pd.Timestamp(self.start)
        except ValueError as error:
            raise ConfigError(f"Market: start must be a date, found {self.start!r}.") from error


def generate_market(market: Market) -> dict[str, pd.DataFrame]:
    """Candles of each pair: date (UTC, open time), open, high, low, close, volume (base currency).

    The same `Market` gives the same candles. No value is NaN; volume is above 0.

    Examples
    --------
    >>> candles = generate_market(Market(n_candles=48, seed=1))
    >>> sorted(candles)[0], len(candles["SYNA/USDT"])
    ('SYNA/USDT', 48)
    """
    rng = np.random.default_rng(market.seed)
    n_pairs, n = len(market.pairs), market.n_candles + _BURN_IN
    pressure = _autoregression(rng, n, n_pairs, life=_PRESSURE_LIFE_CANDLES)
    volatility = _volatility(rng, n, n_pairs)
    returns = _returns(rng, volatility, pressure, market.signal)
    dates = pd.date_range(
        pd.to_datetime(market.start, utc=True),
        periods=market.n_candles,
        freq=pd.Timedelta(market.timeframe),
        unit="ns",
    )
    keep = slice(_BURN_IN, None)
    return {
        pair: _candles(rng, dates, returns[keep, k], volatility[keep, k], pressure[keep, k])
        for k, pair in enumerate(market.pairs)
    }


def _autoregression(rng: np.random.Generator, n: int, n_series: int, *, life: float) -> FloatArray:
    """AR(1) series of unit variance, shape (n, n_series), with an autocorrelation that falls to 1/e in `life`."""
    decay = float(np.exp(-1.0 / life))
    shocks = rng.standard_normal((n, n_series)) * np.sqrt(1 - decay**2)
    out: FloatArray = np.empty_like(shocks)
    out[0] = rng.standard_normal(n_series)
    for t in range(1, n):
        out[t] = decay * out[t - 1] + shocks[t]
    return out


def _volatility(rng: np.random.Generator, n: int, n_pairs: int) -> FloatArray:
    """Per-candle volatility: a common and an own log-AR(1) part on a daily rhythm, shape (n, n_pairs)."""
    common = _autoregression(rng, n, 1, life=240.0)
    own = _autoregression(rng, n, n_pairs, life=72.0)
    rhythm = 0.15 * np.sin(2 * np.pi * np.arange(n) / 24.0)[:, None]
    scale = rng.uniform(0.8, 1.4, n_pairs)
    out: FloatArray = _CANDLE_VOLATILITY * scale * np.exp(0.30 * common + 0.20 * own + rhythm)
    return out


def _returns(
    rng: np.random.Generator, volatility: FloatArray, pressure: FloatArray, signal: float
) -> FloatArray:
    """Log returns: heavy-tailed noise, half of it common, plus the drift planted by the previous candle's pressure."""
    n, n_pairs = volatility.shape
    dof = 5.0
    unit = np.sqrt((dof - 2) / dof)
    common = rng.standard_t(dof, (n, 1)) * unit
    own = rng.standard_t(dof, (n, n_pairs)) * unit
    noise = volatility * (np.sqrt(0.4) * common + np.sqrt(0.6) * own)
    drift = np.zeros_like(noise)
    drift[1:] = signal * _DRIFT_PER_SIGNAL * volatility[1:] * pressure[:-1]
    out: FloatArray = np.clip(noise, -0.25, 0.25) + drift - volatility**2 / 2
    return out


def _candles(
    rng: np.random.Generator,
    dates: pd.DatetimeIndex,
    returns: FloatArray,
    volatility: FloatArray,
    pressure: FloatArray,
) -> pd.DataFrame:
    n = len(dates)
    first = 10.0 ** rng.uniform(0, 3)
    tick = 10.0 ** np.floor(np.log10(first)) / _PRICE_STEPS
    close = first * np.exp(np.cumsum(returns))
    open_ = np.concatenate(([first], close[:-1]))
    upper = volatility * rng.exponential(0.5, n) * np.exp(-0.5 * pressure)
    lower = volatility * rng.exponential(0.5, n) * np.exp(0.5 * pressure)
    high = np.maximum(open_, close) * (1 + upper)
    low = np.minimum(open_, close) / (1 + lower)
    surprise = np.abs(returns) / volatility
    rhythm = 0.4 * np.sin(2 * np.pi * (np.arange(n) - 6) / 24.0)
    turnover = 1e6 * np.exp(
        0.3 * surprise + 0.35 * pressure + rhythm + 0.3 * rng.standard_normal(n)
    )

    def on_grid(price: FloatArray) -> FloatArray:
        rounded: FloatArray = np.maximum(np.round(price / tick), 1.0) * tick
        return rounded

    decimals = int(np.ceil(-np.log10(tick))) if tick < 1 else 0
    frame = pd.DataFrame(
        {
            "date": dates,
            "open": on_grid(open_).round(decimals),
            "high": on_grid(high).round(decimals),
            "low": on_grid(low).round(decimals),
            "close": on_grid(close).round(decimals),
            "volume": (turnover / close).round(3) + 0.001,
        }
    )
    frame["high"] = frame[["open", "high", "close"]].max(axis=1)
    frame["low"] = frame[["open", "low", "close"]].min(axis=1)
    return frame
