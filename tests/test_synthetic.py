"""The generated market is a valid one, reproducible, and predictable exactly as far as was planted."""

import numpy as np
import pandas as pd
import pytest

from freqtrade_mlpipe.exceptions import ConfigError
from freqtrade_mlpipe.features import validate_candles
from freqtrade_mlpipe.synthetic import Market, generate_market

PAIRS = ("SYNA/USDT", "SYNB/USDT", "SYNC/USDT")
HORIZON = 24
SEEDS = range(12)


def small(**changes) -> Market:
    return Market(**{"pairs": PAIRS, "n_candles": 400, "seed": 3, **changes})


def test_same_market_gives_identical_candles():
    first, second = generate_market(small()), generate_market(small())
    assert list(first) == list(second) == list(PAIRS)
    for pair in PAIRS:
        pd.testing.assert_frame_equal(first[pair], second[pair], check_exact=True)


def test_global_random_state_has_no_say():
    np.random.seed(1)  # noqa: NPY002
    first = generate_market(small())["SYNA/USDT"]
    np.random.seed(2)  # noqa: NPY002
    second = generate_market(small())["SYNA/USDT"]
    pd.testing.assert_frame_equal(first, second, check_exact=True)


def test_every_seed_and_every_pair_is_another_market():
    closes = [
        tuple(frame["close"].pct_change().dropna())
        for seed in (1, 2, 3)
        for frame in generate_market(small(seed=seed)).values()
    ]
    assert len(set(closes)) == len(closes)


@pytest.mark.parametrize("signal", [0.0, 1.0, 5.0])
@pytest.mark.parametrize("seed", [0, 42, 2**31])
def test_candles_are_valid(signal, seed):
    for pair, frame in generate_market(small(signal=signal, seed=seed, n_candles=2_000)).items():
        validate_candles(frame, pair=pair)
        body = frame[["open", "close"]]
        assert (frame["high"] >= body.max(axis=1)).all()
        assert (frame["low"] <= body.min(axis=1)).all()
        assert (frame["low"] > 0).all()
        assert (frame["volume"] > 0).all()
        assert frame["open"].iloc[1:].to_numpy() == pytest.approx(
            frame["close"].iloc[:-1].to_numpy()
        )
        assert frame["close"].nunique() > 1_000


@pytest.mark.parametrize("timeframe, step", [("1h", "1h"), ("5min", "5min"), ("1D", "24h")])
def test_dates_are_consecutive_utc_from_the_start(timeframe, step):
    market = small(timeframe=timeframe, start="2022-03-05 07:00")
    for frame in generate_market(market).values():
        assert list(frame.columns) == ["date", "open", "high", "low", "close", "volume"]
        assert str(frame["date"].dt.tz) == "UTC"
        assert frame["date"].iloc[0] == pd.Timestamp("2022-03-05 07:00", tz="UTC")
        assert (frame["date"].diff().dropna() == pd.Timedelta(step)).all()
        assert len(frame) == market.n_candles
        assert isinstance(frame.index, pd.RangeIndex)


def imbalance(frame: pd.DataFrame) -> np.ndarray:
    """What a trader can see of the pressure: volume above its past, lower wicks longer than upper ones."""
    body_top, body_bottom = (
        frame[["open", "close"]].max(axis=1),
        frame[["open", "close"]].min(axis=1),
    )
    wicks = ((body_bottom - frame["low"]) - (frame["high"] - body_top)) / frame["close"]
    volume = np.log(frame["volume"] * frame["close"])
    surprise = volume - volume.rolling(240).mean()
    wicks_mean, surprise_mean = wicks.rolling(12).mean(), surprise.rolling(12).mean()
    return (wicks_mean / wicks_mean.std() + surprise_mean / surprise_mean.std()).to_numpy()


def correlation_z(signal: float, seed: int) -> float:
    """Correlation of the imbalance with the return over the next horizon, in standard errors.

    One row a horizon, so that no two returns overlap; returns are divided by past volatility, so
    that a loud month does not count as many.
    """
    market = Market(pairs=("SYNA/USDT",), n_candles=6_000, signal=signal, seed=seed)
    frame = generate_market(market)["SYNA/USDT"]
    log_close = np.log(frame["close"])
    volatility = log_close.diff().rolling(240).std()
    ahead = ((log_close.shift(-HORIZON) - log_close) / volatility).to_numpy()
    rows = slice(288, len(frame) - HORIZON, HORIZON)
    correlation = np.corrcoef(imbalance(frame)[rows], ahead[rows])[0, 1]
    return float(correlation * np.sqrt(len(ahead[rows])))


def test_without_signal_past_imbalance_says_nothing_about_the_future():
    z = np.array([correlation_z(0.0, seed) for seed in SEEDS])
    assert abs(z.mean()) * np.sqrt(len(z)) < 3.3
    assert z.std(ddof=1) < 1.8
    assert np.abs(z).max() < 4


def test_planted_signal_shows_in_every_market():
    z = np.array([correlation_z(1.0, seed) for seed in SEEDS])
    assert z.mean() > 3
    assert (z > 0).all()


def test_stronger_signal_is_easier_to_see():
    means = [np.mean([correlation_z(signal, seed) for seed in range(4)]) for signal in (0, 1, 3)]
    assert means == sorted(means)


def test_pattern_in_volume_and_wicks_is_there_without_signal_too():
    """The market without signal differs in its returns only: same volatility, same marks of pressure."""
    autocorrelation = [
        pd.Series(
            imbalance(generate_market(small(signal=signal, n_candles=3_000))["SYNA/USDT"])
        ).autocorr(24)
        for signal in (0.0, 1.0)
    ]
    assert autocorrelation[0] == pytest.approx(autocorrelation[1], abs=0.1)
    assert autocorrelation[0] > 0.1


def test_prices_without_signal_have_no_drift():
    steps = [
        np.diff(np.log(frame["close"]))
        for seed in SEEDS
        for frame in generate_market(small(signal=0.0, seed=seed, n_candles=3_000)).values()
    ]
    growth = np.array([np.expm1(step).mean() / np.expm1(step).std() for step in steps])
    assert abs(growth.mean()) < 4 / np.sqrt(3_000 * len(SEEDS))


@pytest.mark.parametrize(
    "wrong, named",
    [
        ({"pairs": ()}, "pairs"),
        ({"pairs": ("A/B", "A/B")}, "pairs"),
        ({"n_candles": 1}, "n_candles"),
        ({"signal": -0.1}, "signal"),
        ({"signal": float("nan")}, "signal"),
        ({"signal": float("inf")}, "signal"),
        ({"seed": -1}, "seed"),
        ({"timeframe": "1 parsec"}, "timeframe"),
        ({"timeframe": "-1h"}, "timeframe"),
        ({"start": "yesterday-ish"}, "start"),
    ],
)
def test_impossible_market_is_refused_by_name(wrong, named):
    with pytest.raises(ConfigError, match=named):
        generate_market(small(**wrong))


def test_start_with_another_time_zone_means_that_moment():
    frame = generate_market(small(start="2022-03-05 07:00+02:00"))["SYNA/USDT"]
    assert frame["date"].iloc[0] == pd.Timestamp("2022-03-05 05:00", tz="UTC")
