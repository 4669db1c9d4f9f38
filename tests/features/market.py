"""Candles for the feature tests: random walks with the awkward parts of real markets, and real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import talib
import talib.stream
from hypothesis import strategies as st

needs_handles = pytest.mark.skipif(
    not hasattr(talib.stream, "Stream"), reason="this TA-Lib has no handles; 0.8 has"
)
REAL = Path(__file__).parents[3] / "shared" / "data"
PRICES = ["open", "high", "low", "close"]


def random_walk(
    n: int,
    *,
    seed: int = 0,
    volatility: float = 0.01,
    level: float = 100.0,
    untraded_share: float = 0.0,
    burst: float = 1.0,
    minutes: int = 60,
    tick: float = 0.0,
) -> pd.DataFrame:
    """Hourly candles; untraded ones are as freqtrade fills them: flat at the previous close, volume 0.

    `burst` multiplies the volatility of a random tenth, in runs. Prices are multiples of `tick`.
    """
    rng = np.random.default_rng(seed)
    scale = np.full(n, volatility)
    scale[np.repeat(rng.random(n // 20 + 1) < 0.1, 20)[:n]] *= burst
    close = level * np.exp(np.cumsum(rng.normal(0, scale)))
    previous = np.concatenate([[level], close[:-1]])
    open_ = previous * np.exp(rng.normal(0, 0.1 * scale))
    high = np.maximum(open_, close) * np.exp(np.abs(rng.normal(0, 0.5 * scale)))
    low = np.minimum(open_, close) * np.exp(-np.abs(rng.normal(0, 0.5 * scale)))
    volume = np.exp(rng.normal(5, 1.5, n))
    df = pd.DataFrame(
        {
            "date": pd.date_range("2023-12-29 05:00", periods=n, freq=f"{minutes}min", tz="UTC"),
            "open": open_,
            "high": high,
            "low": low,
            "close": close,
            "volume": volume,
        }
    )
    if tick:
        df[PRICES] = (df[PRICES] / tick).round().clip(lower=1.0) * tick
    if untraded_share:
        starts = rng.random(n) < untraded_share / 4
        untraded = np.convolve(starts, np.ones(4), "full")[:n] > 0
        untraded[0] = False
        last = df["close"].where(~untraded).ffill()
        for name in PRICES:
            df.loc[untraded, name] = last[untraded]
        df.loc[untraded, "volume"] = 0.0
    return df


def flat(n: int, *, price: float = 0.1, volume: float = 0.0) -> pd.DataFrame:
    """Candles without any movement."""
    df = random_walk(n)
    df[PRICES] = price
    df["volume"] = volume
    return df


def real(name: str, start: int = 0, n: int | None = None) -> pd.DataFrame:
    """Rows of a recorded market; skips the test where the data is absent."""
    path = REAL / f"{name}.feather"
    if not path.exists():
        pytest.skip(f"real candles are not here: {path.name}")
    df = pd.read_feather(path)
    return df.iloc[start : None if n is None else start + n].reset_index(drop=True)


@st.composite
def markets(draw: st.DrawFn, n: int) -> pd.DataFrame:
    """Random walks of any seed, price level, volatility, with or without untraded candles and bursts."""
    return random_walk(
        n,
        seed=draw(st.integers(0, 2**32 - 1)),
        volatility=draw(st.sampled_from([1e-4, 1e-3, 0.01, 0.05])),
        level=draw(st.sampled_from([1e-8, 1e-3, 1.0, 60_000.0])),
        untraded_share=draw(st.sampled_from([0.0, 0.05, 0.5])),
        burst=draw(st.sampled_from([1.0, 10.0])),
    )
