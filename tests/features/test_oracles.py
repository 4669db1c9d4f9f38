"""Every catalogue row against a second implementation."""

from __future__ import annotations

import numpy as np
import pytest

from freqtrade_mlpipe.features import CATALOGUE, FeatureEngineer
from freqtrade_mlpipe.features.indicator import FeatureColumn
from tests.features.market import random_walk
from tests.features.oracles_momentum_volatility import MOMENTUM, VOLATILITY
from tests.features.oracles_price_volume import PRICE, TIME, VOLUME, Oracle
from tests.features.oracles_trend_statistics import STATISTICS, TREND

ORACLES: dict[str, Oracle] = {
    **PRICE,
    **VOLUME,
    **MOMENTUM,
    **VOLATILITY,
    **TREND,
    **STATISTICS,
    **TIME,
}
ENGINEER = FeatureEngineer()


N_CANDLES = ENGINEER.startup_candles + 200
MARKETS = {
    "continuous prices": random_walk(N_CANDLES, seed=7),
    # Whole numbers of ticks: an oracle's sums are exact, so ties are ties in it too.
    "ties and candles without range": random_walk(
        N_CANDLES, seed=8, level=1_000.0, volatility=0.002, tick=1.0
    ),
}
FEATURES = {name: ENGINEER.transform(candles) for name, candles in MARKETS.items()}


def test_every_row_has_an_oracle() -> None:
    assert set(ORACLES) == {row.name for row in CATALOGUE}


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize("column", ENGINEER.columns, ids=lambda column: column.name)
def test_feature_agrees_with_second_implementation(column: FeatureColumn, market: str) -> None:
    with np.errstate(divide="ignore", invalid="ignore"):
        values = ORACLES[column.indicator.name](MARKETS[market], *column.periods)
    expected = values.to_numpy(dtype=float)[column.warmup :]
    found = FEATURES[market][column.name].to_numpy(dtype=float)[column.warmup :]
    known = np.isfinite(expected)  # 0 / 0 where a candle or window has no range
    assert known.all() or (market != "continuous prices" and known.mean() > 0.5)
    scale = max(float(np.std(expected[known])), 1e-12)
    np.testing.assert_allclose(found[known], expected[known], rtol=1e-6, atol=2e-6 * scale)
