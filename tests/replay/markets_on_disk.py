"""Small synthetic freqtrade data directories: seeded random walks on a price grid."""

from pathlib import Path

import numpy as np
import pandas as pd
from freqtrade.exchange import Exchange

START = pd.Timestamp("2024-01-01", tz="UTC")
END = pd.Timestamp("2024-03-01", tz="UTC")
SPOT_PAIRS = ("BTC/USDT", "ETH/USDT")
PERPETUALS = ("BTC/USDT:USDT", "NEWCOIN/USDT:USDT")
# 1h, before freqtrade 2026 8h: the names that mark prices and funding rates are looked for under.
MARK_TIMEFRAME = Exchange._ft_has_default["mark_ohlcv_timeframe"]
FUNDING_TIMEFRAME = Exchange._ft_has_default["funding_fee_timeframe"]
_PRICES = {"BTC/USDT": 42_000.0, "ETH/USDT": 2_300.0}


def random_walk(
    start: pd.Timestamp,
    end: pd.Timestamp,
    frequency: str,
    *,
    price: float = 100.0,
    decimals: int = 2,
    seed: int = 0,
) -> pd.DataFrame:
    """Return consistent candles: each opens at the last close, prices on the grid of `decimals`."""
    rng = np.random.default_rng(seed)
    dates = pd.date_range(start, end, freq=frequency, inclusive="left").as_unit("ms")
    path = price * np.exp(np.cumsum(rng.normal(0, 0.006, len(dates) + 1)))
    opened, close = path[:-1].round(decimals), path[1:].round(decimals)
    spread = np.abs(rng.normal(0, 0.002, (2, len(dates))))
    return pd.DataFrame(
        {
            "date": dates,
            "open": opened,
            "high": (np.maximum(opened, close) * (1 + spread[0])).round(decimals),
            "low": (np.minimum(opened, close) * (1 - spread[1])).round(decimals),
            "close": close,
            "volume": rng.uniform(1, 100, len(dates)).round(3),
        }
    )


def write(frame: pd.DataFrame, directory: Path, name: str) -> Path:
    path = directory / f"{name}.feather"
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_feather(path)
    return path


def write_spot(directory: Path) -> Path:
    """Write two pairs, 1h for two months and 5m for the first three days of February."""
    for seed, pair in enumerate(SPOT_PAIRS):
        name = pair.replace("/", "_")
        write(
            random_walk(START, END, "1h", price=_PRICES[pair], seed=seed), directory, f"{name}-1h"
        )
        fine = random_walk(
            pd.Timestamp("2024-02-01", tz="UTC"),
            pd.Timestamp("2024-02-04", tz="UTC"),
            "5min",
            price=_PRICES[pair],
            seed=seed + 10,
        )
        write(fine, directory, f"{name}-5m")
    return directory


def write_futures(directory: Path) -> Path:
    """Write two perpetuals with mark prices and eight-hourly funding rates."""
    for seed, pair in enumerate(PERPETUALS):
        name = "futures/" + pair.replace("/", "_").replace(":", "_")
        candles = random_walk(START, END, "1h", price=500.0, seed=seed + 20)
        write(candles, directory, f"{name}-1h-futures")
        mark = candles.assign(volume=0.0)
        if MARK_TIMEFRAME != "1h":
            mark = mark[mark["date"].dt.hour % 8 == 0].reset_index(drop=True)
        write(mark, directory, f"{name}-{MARK_TIMEFRAME}-mark")
        write(funding(seed), directory, f"{name}-{FUNDING_TIMEFRAME}-funding_rate")
    return directory


def funding(seed: int = 0) -> pd.DataFrame:
    """Return funding rates in the layout that every freqtrade reads: the rate in `open`."""
    dates = pd.date_range(START, END, freq="8h", inclusive="left").as_unit("ms")
    rates = np.random.default_rng(seed).normal(0.0001, 0.00005, len(dates)).round(8)
    zeros = dict.fromkeys(("high", "low", "close", "volume"), 0.0)
    return pd.DataFrame({"date": dates, "open": rates, **zeros})
