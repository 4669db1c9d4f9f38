"""Markets without drift, and a model's answers to them, for tests of monitoring: those of the benchmark, smaller."""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmarks.drift import Rows, Setting, draw, train
from freqtrade_mlpipe.config import LabelConfig, MonitoringConfig
from freqtrade_mlpipe.monitoring.models import WatchedModel
from freqtrade_mlpipe.monitoring.reference import Reference

SMALL = Setting(n_training=6_000, n_features=8)
CONFIG = MonitoringConfig()
LABELS = LabelConfig(kind="direction", horizon_candles=1)
CANDLE = pd.Timedelta("1h")


def market(seed: int, n_after: int) -> tuple[Reference, Rows]:
    """What training leaves behind, and the candles that follow it."""
    rng = np.random.default_rng(seed)
    whole = draw(SMALL, SMALL.n_training + n_after, rng)
    cut = SMALL.n_training
    first = Rows(whole.X[:, :cut], whole.proba[:, :cut], whole.y[:, :cut], whole.gross[:, :cut])
    after = Rows(whole.X[:, cut:], whole.proba[:, cut:], whole.y[:, cut:], whole.gross[:, cut:])
    return train(first, SMALL, CONFIG, seed), after


def watched(reference: Reference | None, digest: str = "d" * 64) -> WatchedModel:
    """A model with this reference."""
    return WatchedModel("trend", "3", digest, LABELS, CANDLE, reference, None)
