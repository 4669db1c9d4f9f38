"""Labels against literal, row by row re-readings of their definitions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from freqtrade_mlpipe.config import LabelConfig
from freqtrade_mlpipe.exceptions import DataError
from freqtrade_mlpipe.labels import (
    NEVER,
    OPEN,
    average_uniqueness,
    make_labels,
    return_attribution,
)

HOUR = pd.Timedelta("1h")
KINDS = ["direction", "threshold", "triple_barrier"]
CONFIGS = [
    LabelConfig(kind="direction", horizon_candles=5),
    LabelConfig(kind="threshold", horizon_candles=5),
    LabelConfig(kind="threshold", horizon_candles=1, min_return=0.0),
    LabelConfig(kind="forward_return", horizon_candles=5),
    LabelConfig(kind="triple_barrier", horizon_candles=8),
    LabelConfig(kind="triple_barrier", horizon_candles=8, barrier_unit="percent", stop_loss=1.0),
]
BOTH_SIDES = [
    config.model_copy(update={"classes": 3}) for config in CONFIGS if config.task == "binary"
]


def candles(n: int, seed: int = 0, gaps: bool = False) -> pd.DataFrame:
    """A random walk whose candles open where the last one closed, or anywhere near it."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, n)))
    start = np.r_[100.0, close[:-1]] * (np.exp(rng.normal(0, 0.01, n)) if gaps else 1.0)
    wick = np.exp(np.abs(rng.normal(0, 0.005, (2, n))))
    return pd.DataFrame(
        {
            "date": pd.date_range("2024-01-01", periods=n, freq="1h", tz="UTC"),
            "open": start,
            "high": np.maximum(start, close) * wick[0],
            "low": np.minimum(start, close) / wick[1],
            "close": close,
            "volume": rng.lognormal(size=n),
        }
    )


def flat_candles(n: int, **changes: dict[int, float]) -> pd.DataFrame:
    """Candles at 100 throughout, with single prices replaced."""
    dates = pd.date_range("2024-01-01", periods=n, freq="1h", tz="UTC")
    df = pd.DataFrame({"date": dates, "open": 100.0, "high": 100.5, "low": 99.5, "close": 100.0})
    for column, values in changes.items():
        for row, value in values.items():
            df.loc[row, column] = value
    return df


def literal_triple_barrier(
    df: pd.DataFrame, config: LabelConfig, unit: np.ndarray
) -> tuple[list[float], list[float], list[int]]:
    """(y, gross return, last row) of each row, one candle after the other."""
    result: tuple[list[float], list[float], list[int]] = ([], [], [])
    for t in range(len(df)):
        y, gross, end = np.nan, np.nan, -1
        if t + 1 < len(df) and np.isfinite(unit[t]):
            entry = df.open[t + 1]
            profit = entry + config.take_profit * unit[t]
            stop = entry - config.stop_loss * unit[t]
            for s in range(t + 1, min(t + config.horizon_candles, len(df) - 1) + 1):
                if df.low[s] <= stop:
                    y, gross, end = 0.0, min(stop, df.open[s]) / entry - 1, s
                elif df.high[s] >= profit:
                    y, gross, end = 1.0, profit / entry - 1, s
                elif s == t + config.horizon_candles:
                    gross, end = df.close[s] / entry - 1, s
                    y = float(gross > 2 * config.fee)
                if end >= 0:
                    break
        for column, value in zip(result, (y, gross, end), strict=True):
            column.append(value)
    return result


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("unit", ["percent", "atr"])
def test_triple_barrier_equals_literal_reading(unit: str, gaps: bool) -> None:
    import talib

    df = candles(400, seed=3, gaps=gaps)
    config = LabelConfig(
        kind="triple_barrier",
        horizon_candles=10,
        barrier_unit=unit,
        take_profit=2.5,
        stop_loss=1.5,
        barrier_atr_period=7,
    )
    size = (
        df.open.shift(-1).to_numpy() / 100
        if unit == "percent"
        else talib.ATR(df.high, df.low, df.close, 7).to_numpy()
    )
    y, gross, end = literal_triple_barrier(df, config, size)
    labels = make_labels(df, config)
    np.testing.assert_array_equal(labels.y, y)
    np.testing.assert_allclose(labels.forward_return, gross, rtol=1e-12, atol=1e-15)
    expected = [df.date[s] if s >= 0 else pd.NaT for s in end]
    assert labels.known_at.tolist() == expected
    assert {0.0, 1.0} <= set(labels.y.dropna())
    assert labels.known_at.sub(df.date).nunique() > 3


@pytest.mark.parametrize("horizon", [1, 7])
def test_direction_compares_closes_and_is_known_at_the_horizon(horizon: int) -> None:
    df = candles(60)
    labels = make_labels(df, LabelConfig(kind="direction", horizon_candles=horizon))
    for t in range(60 - horizon):
        assert labels.y[t] == float(df.close[t + horizon] > df.close[t])
        assert labels.known_at[t] == df.date[t + horizon]


def test_equal_closes_are_not_up() -> None:
    labels = make_labels(flat_candles(5), LabelConfig(kind="direction", horizon_candles=2))
    assert labels.y[:3].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("kind", ["direction", "threshold"])
def test_forward_return_is_next_open_to_last_close(kind: str) -> None:
    df = candles(50, gaps=True)
    labels = make_labels(df, LabelConfig(kind=kind, horizon_candles=4))
    expected = df.close.shift(-4) / df.open.shift(-1) - 1
    np.testing.assert_allclose(labels.forward_return, expected, rtol=1e-12)


def test_threshold_defaults_to_both_fees() -> None:
    df = candles(200, gaps=True)
    config = LabelConfig(kind="threshold", horizon_candles=3, fee=0.004)
    labels = make_labels(df, config)
    known = labels.y.notna()
    assert labels.round_trip_cost == 0.008
    pd.testing.assert_series_equal(
        labels.y[known], (labels.forward_return[known] > 0.008).astype(float), check_names=False
    )
    lower = make_labels(df, config.model_copy(update={"min_return": 0.0}))
    assert lower.y.sum() > labels.y.sum()


@pytest.mark.parametrize("config", CONFIGS + BOTH_SIDES, ids=lambda config: config.kind)
def test_missing_future_is_nan_not_zero(config: LabelConfig) -> None:
    labels = make_labels(candles(80), config)
    unknown = labels.y.isna()
    assert unknown.iloc[-1]
    assert not unknown.iloc[20 : -config.horizon_candles].any()
    for series in (labels.known_at, labels.weight, labels.forward_return):
        pd.testing.assert_series_equal(series.isna(), unknown, check_names=False)


@pytest.mark.parametrize("config", CONFIGS + BOTH_SIDES, ids=lambda config: config.kind)
def test_label_never_changes_once_known(config: LabelConfig) -> None:
    df = candles(120, gaps=True)
    full = make_labels(df, config)
    for n in range(1, 120, 7):
        prefix = make_labels(df.iloc[:n], config)
        known = (full.known_at[:n] <= df.date[n - 1]) & full.y[:n].notna()
        assert prefix.y.notna().equals(known)
        for name in ("y", "known_at", "forward_return"):
            now, later = getattr(prefix, name)[known], getattr(full, name)[:n][known]
            pd.testing.assert_series_equal(now, later, check_dtype=False)


@pytest.mark.parametrize("config", CONFIGS + BOTH_SIDES, ids=lambda config: config.kind)
def test_label_ignores_candles_after_it_is_known(config: LabelConfig) -> None:
    df = candles(120)
    changed = df.copy()
    changed.loc[60:, ["open", "high", "low", "close"]] *= 3.0
    before, after = make_labels(df, config), make_labels(changed, config)
    known = before.known_at < df.date[60]
    pd.testing.assert_series_equal(before.y[known], after.y[known])
    pd.testing.assert_series_equal(before.forward_return[known], after.forward_return[known])


def percent(**changes: float) -> LabelConfig:
    values = {"horizon_candles": 3, "take_profit": 5.0, "stop_loss": 5.0, **changes}
    return LabelConfig(kind="triple_barrier", barrier_unit="percent", **values)


def test_candle_touching_both_barriers_is_a_stop() -> None:
    df = flat_candles(8, high={2: 110.0}, low={2: 90.0})
    labels = make_labels(df, percent())
    assert labels.y[0] == 0.0
    assert labels.forward_return[0] == pytest.approx(-0.05)
    assert labels.known_at[0] == df.date[2]


def test_entry_candle_can_touch_a_barrier() -> None:
    df = flat_candles(8, high={1: 105.0})
    labels = make_labels(df, percent())
    assert labels.y[0] == 1.0
    assert labels.forward_return[0] == pytest.approx(0.05)
    assert labels.known_at[0] == df.date[1]


def test_reaching_a_barrier_exactly_touches_it() -> None:
    df = flat_candles(8, low={2: 95.0})
    assert make_labels(df, percent()).known_at[0] == df.date[2]


def test_return_must_exceed_the_threshold() -> None:
    config = LabelConfig(kind="threshold", horizon_candles=2, min_return=0.0)
    assert make_labels(flat_candles(4), config).y[:2].tolist() == [0.0, 0.0]


def test_candle_of_the_signal_touches_nothing() -> None:
    df = flat_candles(8, high={2: 110.0}, low={2: 90.0})
    assert make_labels(df, percent()).known_at[2] == df.date[5]


def test_stop_jumped_over_is_left_at_the_open() -> None:
    df = flat_candles(8, open={2: 90.0}, low={2: 89.0}, high={2: 91.0}, close={2: 90.0})
    assert make_labels(df, percent()).forward_return[0] == pytest.approx(-0.10)


def test_time_barrier_compares_the_return_with_the_fees() -> None:
    df = flat_candles(8, close={3: 100.25, 4: 100.15})
    labels = make_labels(df, percent(fee=0.001))
    assert labels.y[:2].tolist() == [1.0, 0.0]
    assert labels.known_at[0] == df.date[3]


def test_touch_before_the_data_ends_is_known() -> None:
    df = flat_candles(5, high={4: 110.0})
    labels = make_labels(df, percent())
    assert labels.y[3] == 1.0
    assert np.isnan(labels.y[4])


def indicator_matrix(end: np.ndarray) -> np.ndarray:
    """Candle × label, 1 where the label spans the candle: López de Prado (2018), snippet 4.3."""
    n = len(end)
    last = np.where(end == OPEN, n - 1, end)
    return np.array([[t < s <= last[t] for t in range(n)] for s in range(n)], dtype=float)


def literal_uniqueness(end: np.ndarray) -> np.ndarray:
    """López de Prado (2018), snippet 4.4."""
    indicator = indicator_matrix(end)
    concurrent = indicator.sum(axis=1, keepdims=True)
    shares = np.divide(indicator, concurrent, where=concurrent > 0, out=np.zeros_like(indicator))
    weight = np.full(len(end), np.nan)
    for t in np.flatnonzero(end >= 0):
        weight[t] = shares[indicator[:, t] > 0, t].mean()
    return weight


def literal_attribution(end: np.ndarray, close: np.ndarray) -> np.ndarray:
    """López de Prado (2018), snippet 4.10, before its scaling."""
    returns = pd.Series(np.log(close)).diff()
    concurrent = pd.Series(indicator_matrix(end).sum(axis=1))
    weight = np.full(len(end), np.nan)
    for t in np.flatnonzero(end >= 0):
        weight[t] = abs((returns[t + 1 : end[t] + 1] / concurrent[t + 1 : end[t] + 1]).sum())
    return weight


def random_ends(seed: int, n: int = 70) -> np.ndarray:
    rng = np.random.default_rng(seed)
    end = np.arange(n) + rng.integers(1, 12, n)
    end[end >= n] = OPEN
    end[rng.uniform(size=n) < 0.2] = NEVER
    return end


@pytest.mark.parametrize("seed", range(5))
def test_uniqueness_equals_indicator_matrix(seed: int) -> None:
    end = random_ends(seed)
    np.testing.assert_allclose(average_uniqueness(end), literal_uniqueness(end), rtol=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_return_attribution_equals_literal_reading(seed: int) -> None:
    end, close = random_ends(seed), candles(70, seed).close.to_numpy()
    found, expected = return_attribution(end, close), literal_attribution(end, close)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-14)


def test_label_that_overlaps_nothing_is_unique() -> None:
    weight = average_uniqueness(np.array([1, 9, 9, 9, 9, 9, 9, 9, 9, NEVER]))
    assert weight[0] == 1.0
    assert (weight[1:9] < 1.0).all()


@pytest.mark.parametrize("weighting", ["uniqueness", "return", "none"])
@pytest.mark.parametrize("config", CONFIGS + BOTH_SIDES, ids=lambda config: config.kind)
def test_weight_never_changes_once_the_label_is_known(config: LabelConfig, weighting: str) -> None:
    config = config.model_copy(update={"weighting": weighting})
    df = candles(120, gaps=True)
    full = make_labels(df, config)
    for n in range(20, 120, 7):
        prefix = make_labels(df.iloc[:n], config)
        known = prefix.y.notna()
        pd.testing.assert_series_equal(prefix.weight[known], full.weight[:n][known])


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kind)
def test_net_return_is_what_freqtrade_books_for_the_trade(config: LabelConfig) -> None:
    """A market order at the next open, left at the trade's exit; less the product of return and fees."""
    trade = pytest.importorskip("freqtrade.persistence", reason="needs freqtrade").Trade
    df = candles(200, seed=2, gaps=True)
    labels = make_labels(df, config)
    for t in np.flatnonzero(labels.y.notna())[::17]:
        entry, gross = df.open[t + 1], labels.forward_return[t]
        booked = trade(
            pair="A/USDT", open_rate=entry, amount=1.0, stake_amount=entry, is_short=False,
            leverage=1.0, fee_open=config.fee, fee_close=config.fee, open_date=df.date[t + 1].to_pydatetime(),
        ).calc_profit_ratio(entry * (1 + gross))  # fmt: skip
        net = gross - labels.round_trip_cost
        assert booked == pytest.approx(net, abs=2 * config.fee * (abs(gross) + config.fee) + 1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_dates_may_be_the_index(kind: str) -> None:
    df = candles(80)
    column = make_labels(df, LabelConfig(kind=kind, horizon_candles=6))
    index = make_labels(df.set_index("date"), LabelConfig(kind=kind, horizon_candles=6))
    assert index.y.index.equals(pd.DatetimeIndex(df.date))
    np.testing.assert_array_equal(column.y, index.y)
    assert column.known_at.tolist() == index.known_at.tolist()


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_known_at_is_utc_nanoseconds_whatever_the_input_unit(unit: str) -> None:
    df = candles(30)
    df["date"] = df["date"].dt.as_unit(unit)
    known_at = make_labels(df, LabelConfig(horizon_candles=2)).known_at
    assert str(known_at.dtype) == "datetime64[ns, UTC]"
    assert known_at[0] == df["date"][2]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [0, 1, 2, 6])
def test_fewer_candles_than_the_horizon_give_no_labels(kind: str, n: int) -> None:
    labels = make_labels(flat_candles(n), LabelConfig(kind=kind, horizon_candles=6))
    assert len(labels.y) == n
    assert labels.y.isna().all()


def test_rows_stay_on_the_callers_index() -> None:
    df = candles(40).set_index(pd.Index(range(100, 140)))
    assert make_labels(df, LabelConfig(horizon_candles=3)).y.index.tolist() == list(range(100, 140))


def test_input_is_left_alone() -> None:
    df = candles(60)
    copy = df.copy(deep=True)
    make_labels(df, LabelConfig(kind="triple_barrier"))
    pd.testing.assert_frame_equal(df, copy)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda df: df.drop(columns="high"), "high"),
        (lambda df: df.drop(columns="date"), "date"),
        (lambda df: df.assign(date=df.date.dt.tz_localize(None)), "UTC"),
        (lambda df: df.iloc[::-1], "ascending"),
        (lambda df: pd.concat([df, df.tail(1)]), "unique"),
        (lambda df: df.assign(close=df.close.where(df.index != 4)), "'close'.*nan at row 4"),
        (lambda df: df.assign(open=df.open.where(df.index != 3, np.inf)), "'open'.*inf at row 3"),
        (lambda df: df.assign(low=df.low.where(df.index != 2, 0.0)), "'low'.*0.0 at row 2"),
        (lambda df: df.assign(open="a"), "numbers"),
    ],
)
def test_bad_candles_are_refused_with_what_was_found(spoil, message) -> None:
    with pytest.raises(DataError, match=message):
        make_labels(spoil(candles(20)))


def test_forward_return_label_is_the_log_return_of_the_trade() -> None:
    df = candles(60, gaps=True)
    labels = make_labels(df, LabelConfig(kind="forward_return", horizon_candles=5))
    expected = np.log(df.close.shift(-5) / df.open.shift(-1))
    np.testing.assert_allclose(labels.y, expected, rtol=1e-9)
    np.testing.assert_allclose(labels.forward_return, np.expm1(expected), rtol=1e-9)
    assert labels.known_at[0] == df.date[5]


def three(config: LabelConfig) -> LabelConfig:
    return config.model_copy(update={"classes": 3})


def literal_trade(
    df: pd.DataFrame, config: LabelConfig, unit: np.ndarray, t: int, side: int
) -> tuple[bool, float, int] | None:
    """(does it pay, gross return, last row) of one trade, candle after candle; None while it is open."""
    if t + 1 >= len(df) or not np.isfinite(unit[t]):
        return None
    entry = df.open[t + 1]
    profit = entry + side * config.take_profit * unit[t]
    stop = entry - side * config.stop_loss * unit[t]
    for s in range(t + 1, min(t + config.horizon_candles, len(df) - 1) + 1):
        worst, best = (df.low[s], df.high[s]) if side == 1 else (df.high[s], df.low[s])
        if side * (worst - stop) <= 0:
            left = df.open[s] if side * (df.open[s] - stop) <= 0 else stop
            return False, side * (left / entry - 1), s
        if side * (best - profit) >= 0:
            return True, side * (profit / entry - 1), s
        if s == t + config.horizon_candles:
            gross = side * (df.close[s] / entry - 1)
            return gross > 2 * config.fee, gross, s
    return None


@pytest.mark.parametrize(("profit", "stop"), [(2.0, 2.0), (2.5, 1.5), (1.0, 2.5)])
@pytest.mark.parametrize("gaps", [False, True])
def test_both_sides_of_a_triple_barrier_equal_a_literal_reading(
    profit: float, stop: float, gaps: bool
) -> None:
    df = candles(300, seed=4, gaps=gaps)
    config = LabelConfig(
        kind="triple_barrier", classes=3, horizon_candles=9, barrier_unit="percent",
        take_profit=profit, stop_loss=stop,
    )  # fmt: skip
    unit = df.open.shift(-1).to_numpy() / 100
    labels = make_labels(df, config)
    seen = set()
    for t in range(len(df)):
        long, short = (literal_trade(df, config, unit, t, side) for side in (1, -1))
        if long is None or short is None:
            assert np.isnan([labels.y[t], labels.forward_return[t], labels.short_return[t]]).all()
            assert pd.isna(labels.known_at[t])
            continue
        wins = [(end, side) for (pays, _, end), side in ((long, 1), (short, -1)) if pays]
        first = [side for end, side in wins if end == min(wins)[0]]
        expected = first[0] if len(first) == 1 else 0
        assert labels.y[t] == expected
        assert labels.forward_return[t] == pytest.approx(long[1], abs=1e-12)
        assert labels.short_return[t] == pytest.approx(short[1], abs=1e-12)
        assert labels.known_at[t] == df.date[max(long[2], short[2])]
        seen.add(expected)
    assert seen == {-1, 0, 1}


@pytest.mark.parametrize("kind", ["direction", "threshold"])
def test_sides_of_a_return_must_exceed_the_fees(kind: str) -> None:
    df = candles(200, seed=1, gaps=True)
    labels = make_labels(df, LabelConfig(kind=kind, classes=3, horizon_candles=3, fee=0.004))
    base = df.close if kind == "direction" else df.open.shift(-1)
    move = df.close.shift(-3) / base - 1
    expected = np.select([move.isna(), move > 0.008, move < -0.008], [np.nan, 1, -1], 0)
    np.testing.assert_array_equal(labels.y, expected)
    assert set(labels.y.dropna()) == {-1.0, 0.0, 1.0}
    pd.testing.assert_series_equal(labels.short_return, -labels.forward_return, check_names=False)


@pytest.mark.parametrize("kind", KINDS)
def test_mirrored_market_has_mirrored_labels(kind: str) -> None:
    """Prices 1/p: each long trade of one market is nearly a short trade of the other."""
    df = candles(400, seed=5)
    mirror = df.assign(
        open=1e4 / df.open, close=1e4 / df.close, high=1e4 / df.low, low=1e4 / df.high
    )
    config = LabelConfig(kind=kind, classes=3, horizon_candles=6, take_profit=1.5, stop_loss=1.5)
    one, other = make_labels(df, config).y, make_labels(mirror, config).y
    known = one.notna() & other.notna()
    assert known.sum() > 350
    assert (one[known] == -other[known]).mean() > 0.95


def test_sides_of_binary_labels_are_those_of_long_trades() -> None:
    df = candles(200, gaps=True)
    for config in BOTH_SIDES:
        two = make_labels(df, config.model_copy(update={"classes": 2}))
        both = make_labels(df, config)
        assert two.short_return is None
        if config.kind == "threshold":
            pd.testing.assert_series_equal(two.y == 1, both.y == 1)
        known = both.y.notna()
        pd.testing.assert_series_equal(two.forward_return[known], both.forward_return[known])


def test_candle_that_pays_both_sides_is_flat() -> None:
    df = flat_candles(8, high={2: 103.0}, low={2: 97.0})
    labels = make_labels(df, three(percent(take_profit=2.0, stop_loss=9.0)))
    assert labels.y[0] == 0.0
    assert labels.forward_return[0] == labels.short_return[0] == pytest.approx(0.02)
