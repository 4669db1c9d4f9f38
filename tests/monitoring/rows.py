"""Live predictions for tests."""

from __future__ import annotations

from typing import Any

import pandas as pd

from freqtrade_mlpipe.monitoring.journal import LivePrediction

START = pd.Timestamp("2026-01-01", tz="UTC")


def live(hour: int = 0, pair: str = "BTC/USDT", **changed: Any) -> LivePrediction:
    """A prediction of the 1h candle `hour` after 2026-01-01."""
    values: dict[str, Any] = {
        "pair": pair, "date": START + pd.Timedelta(hours=hour), "version": "3", "digest": "d" * 64,
        "role": "production", "proba": 0.6, "edge": 0.1, "signal": 1, "do_predict": 1, "latency_ms": 0.2,
        "close": 90_000.0,
    }  # fmt: skip
    return LivePrediction(**{**values, **changed})
