"""The audit finds every way of peeking that people really ship, and clears what is causal."""

import numpy as np
import pandas as pd
import pytest

from freqtrade_mlpipe.exceptions import DataError
from freqtrade_mlpipe.features import FeatureEngineer
from freqtrade_mlpipe.features.causality import audit_causality
from freqtrade_mlpipe.synthetic import Market, generate_market

CANDLES = generate_market(Market(pairs=("SYNA/USDT",), n_candles=900, seed=5))["SYNA/USDT"]
STARTUP = 100


def causal(df: pd.DataFrame) -> pd.DataFrame:
    close = df["close"]
    return pd.DataFrame(
        {
            "change": close.pct_change(),
            "mean": close / close.rolling(20).mean(),
            "ema": close / close.ewm(span=10, adjust=False).mean(),
            "hour": df["date"].dt.hour,
        }
    )


PEEKING = {
    "the next close": lambda df: df["close"].shift(-1),
    "the next return": lambda df: df["close"].pct_change().shift(-1),
    "scaling by the global mean": lambda df: df["close"] / df["close"].mean(),
    "scaling by the global maximum": lambda df: df["volume"] / df["volume"].max(),
    "ranks over everything": lambda df: df["close"].rank(pct=True),
    "a centred window": lambda df: df["close"].rolling(5, center=True).mean(),
    "filling backwards": lambda df: df["close"].where(df["close"].diff() > 0).bfill(),
    "interpolation": lambda df: df["close"].where(df["close"].diff() > 0).interpolate(),
    "a window running backwards": lambda df: df["close"][::-1].rolling(10).mean()[::-1],
    "the whole day's high, from its first hour on": lambda df: df.groupby(df["date"].dt.floor("D"))[
        "high"
    ].transform("max"),
    "a local extreme known five candles later": lambda df: (
        df["high"] == df["high"].rolling(11, center=True, min_periods=1).max()
    ).astype(float),
}


@pytest.mark.parametrize("peek", PEEKING.values(), ids=PEEKING)
def test_peeking_feature_is_named_among_causal_ones(peek):
    def compute(df):
        return causal(df).assign(peek=peek(df))

    assert audit_causality(compute, CANDLES, startup_candles=STARTUP, seed=0) == ["peek"]


def test_causal_features_pass():
    assert audit_causality(causal, CANDLES, startup_candles=STARTUP, seed=0) == []


def test_whole_catalogue_passes():
    engineer = FeatureEngineer()
    startup = engineer.startup_candles
    candles = generate_market(Market(pairs=("SYNA/USDT",), n_candles=startup + 250, seed=8))
    found = audit_causality(
        engineer.transform, candles["SYNA/USDT"], startup_candles=startup, seed=1
    )
    assert found == []


def test_nan_at_the_same_places_is_agreement():
    def compute(df):
        return pd.DataFrame({"gappy": df["close"].where(df["date"].dt.hour > 3)})

    assert audit_causality(compute, CANDLES, startup_candles=STARTUP, seed=0) == []


def test_nan_that_later_candles_fill_is_peeking():
    def compute(df):
        return pd.DataFrame({"late": df["close"].where(df.index < len(df) - 3)})

    assert audit_causality(compute, CANDLES, startup_candles=STARTUP, seed=0) == ["late"]


def test_column_that_needs_the_future_to_exist_is_named():
    def compute(df):
        frame = causal(df)
        return frame.assign(late=1.0) if len(df) == len(CANDLES) else frame

    assert audit_causality(compute, CANDLES, startup_candles=STARTUP, seed=0) == ["late"]


def test_column_that_the_future_takes_away_is_named():
    def compute(df):
        frame = causal(df)
        return frame if len(df) == len(CANDLES) else frame.assign(early=1.0)

    assert audit_causality(compute, CANDLES, startup_candles=STARTUP, seed=0) == ["early"]


def test_candles_handed_in_are_not_changed():
    before = CANDLES.copy()

    def compute(df):
        df["close"] = np.nan
        return pd.DataFrame({"constant": np.ones(len(df))})

    audit_causality(compute, CANDLES, startup_candles=STARTUP, seed=0)
    pd.testing.assert_frame_equal(CANDLES, before)


@pytest.mark.parametrize("n_candles", [STARTUP, STARTUP + 1])
def test_too_few_candles_to_take_any_away_is_an_error_not_a_pass(n_candles):
    with pytest.raises(DataError, match=str(STARTUP + 2)):
        audit_causality(causal, CANDLES.head(n_candles), startup_candles=STARTUP, seed=0)


def test_fewest_candles_that_can_be_audited_are_audited():
    def compute(df):
        return causal(df).assign(peek=df["close"].shift(-1))

    few = CANDLES.head(STARTUP + 2)
    assert audit_causality(compute, few, startup_candles=STARTUP, seed=0) == ["peek"]
