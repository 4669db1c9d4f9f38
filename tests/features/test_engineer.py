from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from freqtrade_mlpipe.config import FeatureConfig
from freqtrade_mlpipe.exceptions import DataError
from freqtrade_mlpipe.features import FeatureEngineer
from tests.features.market import random_walk

ENGINEER = FeatureEngineer(FeatureConfig(short_period=3, medium_period=5, long_period=8))


@pytest.fixture
def candles() -> pd.DataFrame:
    return random_walk(ENGINEER.startup_candles + 20)


def test_features_are_one_float32_block_on_the_index_of_the_candles(candles: pd.DataFrame) -> None:
    candles.index = pd.RangeIndex(100, 100 + len(candles))
    features = ENGINEER.transform(candles)
    assert features.index.equals(candles.index)
    assert set(features.dtypes) == {np.dtype(np.float32)}
    assert features.to_numpy().base is not None
    assert list(features.columns) == ENGINEER.get_feature_names()


def test_candles_are_left_untouched(candles: pd.DataFrame) -> None:
    before = candles.copy(deep=True)
    ENGINEER.transform(candles)
    pd.testing.assert_frame_equal(candles, before)


def test_datetime_index_gives_the_same_features_as_a_date_column(candles: pd.DataFrame) -> None:
    indexed = candles.set_index("date")
    found = ENGINEER.transform(indexed)
    assert found.index.equals(indexed.index)
    np.testing.assert_array_equal(found.to_numpy(), ENGINEER.transform(candles).to_numpy())


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_unit_of_the_dates_does_not_matter(candles: pd.DataFrame, unit: str) -> None:
    other = candles.assign(date=candles["date"].dt.as_unit(unit))
    np.testing.assert_array_equal(
        ENGINEER.transform(other).to_numpy(), ENGINEER.transform(candles).to_numpy()
    )


def test_integer_and_float32_columns_are_accepted(candles: pd.DataFrame) -> None:
    other = candles.assign(
        volume=candles["volume"].round().astype(int), close=candles["close"].astype(np.float32)
    )
    other["high"] = other[["high", "close"]].max(axis=1)
    assert np.isfinite(ENGINEER.transform(other).iloc[-1].to_numpy()).all()


def test_too_few_candles_are_refused_with_the_number_needed(candles: pd.DataFrame) -> None:
    needed = ENGINEER.startup_candles + 1
    assert ENGINEER.transform(candles.iloc[:needed]).iloc[-1].notna().all()
    with pytest.raises(
        DataError, match=rf"BTC/USDT: {needed - 1} candles are too few: at least {needed}"
    ):
        ENGINEER.transform(candles.iloc[: needed - 1], pair="BTC/USDT")


def test_invalid_candles_are_refused(candles: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="lack volume"):
        ENGINEER.transform(candles.drop(columns="volume"))


def test_extra_columns_are_ignored(candles: pd.DataFrame) -> None:
    other = candles.assign(enter_long=1, note="text")
    np.testing.assert_array_equal(
        ENGINEER.transform(other).to_numpy(), ENGINEER.transform(candles).to_numpy()
    )


def test_gaps_are_allowed(candles: pd.DataFrame) -> None:
    longer = random_walk(len(candles) + 30).drop(index=range(40, 60))
    assert np.isfinite(ENGINEER.transform(longer).iloc[-1].to_numpy()).all()
