"""Every catalogue row against a second implementation, on a market without flat or untraded candles."""

from __future__ import annotations

import numpy as np
import pandas as pd
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


@pytest.fixture(scope="module")
def candles() -> pd.DataFrame:
    return random_walk(ENGINEER.startup_candles + 200, seed=7)


@pytest.fixture(scope="module")
def features(candles: pd.DataFrame) -> pd.DataFrame:
    return ENGINEER.transform(candles)


def test_every_row_has_an_oracle() -> None:
    assert set(ORACLES) == {row.name for row in CATALOGUE}


@pytest.mark.parametrize("column", ENGINEER.columns, ids=lambda column: column.name)
def test_feature_agrees_with_second_implementation(
    column: FeatureColumn, candles: pd.DataFrame, features: pd.DataFrame
) -> None:
    expected = ORACLES[column.indicator.name](candles, *column.periods).to_numpy(dtype=float)
    rows = slice(column.warmup, None)
    assert np.isfinite(expected[rows]).all()
    found = features[column.name].to_numpy(dtype=float)[rows]
    scale = max(float(np.std(expected[rows])), 1e-12)
    np.testing.assert_allclose(found, expected[rows], rtol=1e-6, atol=2e-6 * scale)
