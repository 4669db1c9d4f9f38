"""A FreqAI strategy's features come out as FreqAI computes them, but causal and of one schema for all pairs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from freqtrade_mlpipe.config import ExpansionConfig
from freqtrade_mlpipe.exceptions import ConfigError, DataError
from freqtrade_mlpipe.features.expansion import (
    CorrelatedTables,
    column_name,
    expand_candles,
    expand_features,
)
from tests.features.freqai_strategies import (
    FREQAI_STRATEGIES,
    BasicOnly,
    FreqaiExampleStrategy,
    Light,
    OddTables,
    OddTypes,
    Strategy,
)
from tests.features.market import random_walk, real

OWN, CORRELATED, FUTURE = "AAA/USDT", "BBB/USDT", "AAA/USDT:USDT"
FIVE_MINUTES = {"5m": "5min", "15m": "15min", "1h": "1h"}
OHLCV = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
Market = dict[tuple[str, str], pd.DataFrame]


def freqtrade_config(timeframe: str, timeframes: list[str], pairs: list[str]) -> dict[str, Any]:
    return {
        "timeframe": timeframe,
        "exchange": {"pair_whitelist": [OWN]},
        "user_data_dir": Path("user_data"),
        "freqai_backtest_live_models": True,
        "freqai": {
            "identifier": "test",
            "feature_parameters": {
                "include_timeframes": timeframes,
                "include_corr_pairlist": pairs,
                "indicator_periods_candles": [3, 5],
                "include_shifted_candles": 2,
                "label_period_candles": 4,
            },
        },
    }


CONFIG = freqtrade_config("5m", list(FIVE_MINUTES), [CORRELATED, FUTURE])
SLOW_CONFIG = freqtrade_config("1d", ["1d", "3d", "1w"], [CORRELATED])


def resampled(df: pd.DataFrame, rule: str) -> pd.DataFrame:
    return df.resample(rule, on="date").agg(OHLCV).dropna().reset_index()


def market(n: int = 360, *, pairs: tuple[str, ...] = (OWN, CORRELATED, FUTURE)) -> Market:
    walks = {pair: random_walk(n, seed=seed, minutes=5) for seed, pair in enumerate(pairs)}
    return {
        (pair, name): resampled(df, rule)
        for pair, df in walks.items()
        for name, rule in FIVE_MINUTES.items()
    }


def changed(**change: Callable[[pd.DataFrame], pd.DataFrame]) -> Market:
    """The market with the tables of one timeframe, of all pairs, or only of some, changed."""
    found = market()
    for key, edit in change.items():
        tables = {
            "base": [(OWN, "5m")],
            "correlated": [(CORRELATED, name) for name in FIVE_MINUTES],
            "hours": [key for key in found if key[1] == "1h"],
            "quarters": [key for key in found if key[1] == "15m"],
        }[key]
        for table in tables:
            found[table] = edit(found[table]).reset_index(drop=True)
    return found


def without(*rows: int) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda df: df.drop(index=[row for row in rows if row < len(df)])


def slow_market() -> Market:
    """Days, three days and weeks."""
    found: Market = {}
    for seed, pair in enumerate((OWN, CORRELATED)):
        days = random_walk(400, seed=seed)
        days["date"] = pd.date_range("2023-01-01", periods=400, freq="D", tz="UTC")
        found[pair, "1d"] = days
        found[pair, "3d"] = days.iloc[2::3].reset_index(drop=True)
        found[pair, "1w"] = days.iloc[1::7].reset_index(drop=True)
    return found


MARKETS = {
    "aligned": market,
    "base starts within an hour": lambda: changed(base=lambda df: df.iloc[103:]),
    "slower candles start later": lambda: changed(
        hours=lambda df: df.iloc[9:], quarters=lambda df: df.iloc[50:]
    ),
    "slower candles end earlier": lambda: changed(
        hours=lambda df: df.iloc[:-9], quarters=lambda df: df.iloc[:20]
    ),
    "slower candles missing": lambda: changed(hours=without(4, 5, 20), quarters=without(30, 31)),
    "correlated candles missing": lambda: changed(correlated=without(0, 7, 8, 40)),
    "correlated pair listed later": lambda: changed(correlated=lambda df: df[df["date"] > LISTED]),
    "base candles missing": lambda: changed(base=without(*range(150, 180), 211, 311)),
    "a correlated pair that has ended": lambda: changed(correlated=lambda df: df.iloc[:5]),
}
LISTED = pd.Timestamp("2023-12-30 00:00", tz="UTC")


def ours(
    kind: type[Strategy], candles: Market, *, pair: str = OWN, config: dict[str, Any] = CONFIG
) -> pd.DataFrame:
    return expand_features(
        kind(config),
        candles[pair, config["timeframe"]],
        pair=pair,
        timeframe=config["timeframe"],
        config=ExpansionConfig.from_freqtrade(config),
        candles=lambda pair, timeframe: candles[pair, timeframe],
    )


def freqai(kind: type[Strategy], candles: Market, config: dict[str, Any] = CONFIG) -> pd.DataFrame:
    """Features of the own pair by freqtrade's own code."""
    pytest.importorskip("datasieve", reason="FreqAI imports datasieve, which is not installed")
    from freqtrade.freqai.data_kitchen import FreqaiDataKitchen

    class Provider:
        def get_pair_dataframe(self, pair: str, timeframe: str) -> pd.DataFrame:
            return candles[pair, timeframe].copy()

    strategy = kind(config)
    strategy.dp = Provider()
    frame = FreqaiDataKitchen(config, pair=OWN).use_strategy_to_populate_indicators(
        strategy, pair=OWN, prediction_dataframe=candles[OWN, config["timeframe"]]
    )
    return frame[[name for name in frame.columns if name.startswith("%")]]


def assert_equal_bits(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    assert list(found.columns) == list(expected.columns)
    assert len(found) == len(expected)
    for name in expected.columns:
        a, b = (
            frame[name].to_numpy(dtype=np.float64, na_value=np.nan) for frame in (found, expected)
        )
        np.testing.assert_array_equal(np.isnan(a), np.isnan(b), err_msg=name)
        there = ~np.isnan(a)
        np.testing.assert_array_equal(a[there].view("i8"), b[there].view("i8"), err_msg=name)


def assert_freqais(
    kind: type[Strategy], candles: Market, config: dict[str, Any] = CONFIG
) -> pd.DataFrame:
    expected = freqai(kind, candles, config)
    expected.columns = [column_name(name, OWN) for name in expected.columns]
    found = ours(kind, candles, config=config)
    assert_equal_bits(found, expected)
    assert set(found.dtypes) == {np.dtype("float64")}
    return found


@pytest.mark.e2e
@pytest.mark.parametrize("kind", FREQAI_STRATEGIES)
@pytest.mark.parametrize("candles", MARKETS.values(), ids=MARKETS)
def test_values_and_order_are_freqais_to_the_bit(kind, candles) -> None:
    found = assert_freqais(kind, candles())
    assert found.notna().any().any()


@pytest.mark.e2e
@pytest.mark.parametrize("kind", FREQAI_STRATEGIES)
def test_days_and_weeks_join_as_in_freqai(kind) -> None:
    found = assert_freqais(kind, slow_market(), SLOW_CONFIG)
    assert found.filter(like="1w").notna().any().any()


@pytest.mark.e2e
@pytest.mark.parametrize("n_shifts, periods", [(0, [4]), (7, [1, 2]), (1, [])])
def test_shifts_and_periods_are_freqais(n_shifts, periods) -> None:
    config = freqtrade_config("5m", ["1h", "5m"], [])
    config["freqai"]["feature_parameters"].update(
        include_shifted_candles=n_shifts, indicator_periods_candles=periods
    )
    assert_freqais(Light, market(120), config)


@pytest.mark.e2e
def test_real_candles_of_several_pairs_agree_with_freqai() -> None:
    config = freqtrade_config("1h", ["1h", "4h", "1d"], ["ETH/USDT", "SOL/USDT"])
    names = {OWN: "BTC_USDT", "ETH/USDT": "ETH_USDT", "SOL/USDT": "SOL_USDT"}
    candles = {
        (pair, name): real(f"binance/{file}-{name}")
        for pair, file in names.items()
        for name in ("1h", "4h", "1d")
    }
    candles[OWN, "1h"] = candles[OWN, "1h"].iloc[-2_000:].reset_index(drop=True)
    found = assert_freqais(FreqaiExampleStrategy, candles, config)
    assert found.iloc[300:].notna().all().all()


@pytest.mark.parametrize("kind", FREQAI_STRATEGIES)
def test_all_pairs_have_the_same_columns(kind) -> None:
    candles = market()
    schemas = [list(ours(kind, candles, pair=pair).columns) for pair in (OWN, CORRELATED, FUTURE)]
    assert schemas[0] == schemas[1] == schemas[2]
    assert len(set(schemas[0])) == len(schemas[0])


def test_pairs_of_a_run_share_what_was_computed_of_correlated_pairs() -> None:
    kind, candles = FREQAI_STRATEGIES[0], market()
    loaded: list[str] = []

    def source(pair: str, timeframe: str) -> pd.DataFrame:
        loaded.append(pair)
        return candles[pair, timeframe]

    shared: CorrelatedTables = {}
    for pair in (OWN, FUTURE):
        found = expand_candles(
            kind(CONFIG), candles[pair, "5m"], pair=pair, timeframe="5m",
            config=ExpansionConfig.from_freqtrade(CONFIG), candles=source, correlated=shared,
        ).features  # fmt: skip
        assert_equal_bits(found, ours(kind, candles, pair=pair))
    assert loaded.count(CORRELATED) == len(FIVE_MINUTES)


@pytest.mark.parametrize("kind", [FreqaiExampleStrategy, Light, OddTypes, BasicOnly])
def test_correlated_pair_that_is_the_own_pair_repeats_its_own_columns(kind) -> None:
    candles = market()
    found = ours(kind, candles, pair=CORRELATED)
    seen_by_another = ours(kind, candles, pair=OWN)
    again = [name for name in found.columns if f"_{CORRELATED}_" in name]
    assert again
    own = found[[column_name(name, CORRELATED) for name in again]].set_axis(again, axis=1)
    assert_equal_bits(found[again], own)
    assert_equal_bits(found[again], seen_by_another[again])


def test_own_columns_among_the_correlated_are_those_before_the_standard_method() -> None:
    candles = market()
    found, seen = (ours(OddTables, candles, pair=pair) for pair in (CORRELATED, OWN))
    again = [
        name
        for name in found.columns
        if name.endswith(tuple(f"{CORRELATED}_{tf}" for tf in FIVE_MINUTES))
    ]
    assert (found["%-position_gen_5m"] == -1).sum() > 0
    assert_equal_bits(found[again], seen[again])


def test_pair_names_that_contain_each_other_stay_apart() -> None:
    columns = set(ours(Light, market()).columns)
    assert {"%-body_gen_5m", f"%-body_gen_{FUTURE}_5m", f"%-body_gen_{CORRELATED}_5m"} <= columns
    assert not [name for name in columns if name.endswith(f"_{OWN}_5m")]
    assert f"%-body_gen_{OWN}_5m" in ours(
        Light, market(), pair=FUTURE, config=freqtrade_config("5m", ["5m"], [OWN, FUTURE])
    )


@pytest.mark.parametrize("candles", MARKETS.values(), ids=MARKETS)
@pytest.mark.parametrize("all_end", [False, True], ids=["base ends", "everything ends"])
@pytest.mark.parametrize("kind", [OddTypes, OddTables])
def test_no_value_depends_on_later_candles(kind, all_end, candles) -> None:
    """The strategies look back only, so a change could come from nothing but the joins and shifts."""
    candles = candles()
    whole = ours(kind, candles)
    base = candles[OWN, "5m"]
    rng = np.random.default_rng(5)
    for end in [1, 2, 7, *rng.integers(10, len(base), 6)]:
        early = dict(candles)
        if all_end:
            now = base["date"].iloc[end - 1] + pd.Timedelta("5min")
            early = {
                (pair, name): df[df["date"] + pd.Timedelta(FIVE_MINUTES[name]) <= now]
                for (pair, name), df in candles.items()
            }
            if any(df.empty for df in early.values()):
                continue
        early[OWN, "5m"] = base.iloc[:end]
        assert_equal_bits(ours(kind, early), whole.iloc[:end])


def test_slower_candle_is_seen_from_its_close_on_and_not_before() -> None:
    config = freqtrade_config("5m", ["5m", "1h"], [])
    candles = market(72)
    found = ours(BasicOnly, candles, config=config)["%-range_gen_1h"]
    hours, base = candles[OWN, "1h"], candles[OWN, "5m"]
    closes = base["date"] + pd.Timedelta("5min")
    for row, now in enumerate(closes):
        closed = hours[hours["date"] + pd.Timedelta("1h") <= now]
        expected = (closed["high"] / closed["low"]).iloc[-1] if len(closed) else np.nan
        assert found.iloc[row] == expected or (np.isnan(expected) and np.isnan(found.iloc[row]))


@pytest.mark.e2e
def test_gap_before_the_first_match_does_not_show_a_candle_that_is_still_open() -> None:
    """FreqAI fills these rows with the hour that closes in the gap, up to an hour ahead of it."""
    config = freqtrade_config("5m", ["5m", "1h"], [])
    candles = market()
    base = candles[OWN, "5m"].iloc[100:].reset_index(drop=True)
    closing = base.index[base["date"].dt.minute == 55][0]
    candles[OWN, "5m"] = base.drop(index=closing).reset_index(drop=True)
    before = slice(0, closing)
    expected, found = (
        freqai(BasicOnly, candles, config)[f"%-range_gen_{OWN}_1h"].iloc[before],
        ours(BasicOnly, candles, config=config)["%-range_gen_1h"].iloc[before],
    )
    hours = candles[OWN, "1h"].set_index("date")
    hour = base["date"].iloc[0].floor("h")
    ratio = hours["high"] / hours["low"]
    assert (expected == ratio[hour]).all()
    assert (found == ratio[hour - pd.Timedelta("1h")]).all()


class Vandal(Light):
    """Writes over everything that it gets, and still returns features of it."""

    def _wreck(self, dataframe, kept):
        frame = kept.copy()
        for name in dataframe.columns:
            dataframe.loc[:, name] = dataframe[name].iloc[0]
        dataframe.insert(0, "%-nothing", 0.0)
        return frame

    def feature_engineering_expand_all(self, dataframe, period, metadata, **kwargs):
        kept = super().feature_engineering_expand_all(dataframe.copy(), period, metadata)
        return self._wreck(dataframe, kept)

    def feature_engineering_expand_basic(self, dataframe, metadata, **kwargs):
        kept = super().feature_engineering_expand_basic(dataframe.copy(), metadata)
        return self._wreck(dataframe, kept)

    def feature_engineering_standard(self, dataframe, metadata, **kwargs):
        kept = super().feature_engineering_standard(dataframe.copy(), metadata)
        return self._wreck(dataframe, kept)


def test_a_method_that_writes_over_its_frame_changes_no_candle_and_no_feature() -> None:
    candles = market()
    before = {key: df.copy() for key, df in candles.items()}
    found = ours(Vandal, candles)
    for key, df in candles.items():
        pd.testing.assert_frame_equal(df, before[key])
    assert_equal_bits(found, ours(Light, candles))


def test_columns_of_the_result_can_be_written_one_by_one() -> None:
    """Lags share their values in memory until somebody writes."""
    found = ours(Light, market())
    expected = found.copy()
    found.loc[10:20, "%-body_gen_1h"] = 7.0
    found["%-body_gen_shift-1_5m"] = 8.0
    rest = found.columns.difference(["%-body_gen_1h", "%-body_gen_shift-1_5m"])
    assert_equal_bits(found[rest], expected[rest])
    assert (found["%-body_gen_1h"].iloc[10:21] == 7.0).all()


def test_methods_see_candles_only_and_the_index_is_kept() -> None:
    seen = []

    class Curious(Light):
        def feature_engineering_expand_basic(self, dataframe, metadata, **kwargs):
            seen.append(list(dataframe.columns))
            return super().feature_engineering_expand_basic(dataframe, metadata)

    candles = market(100)
    expected = ours(Light, candles)
    frame = candles[OWN, "5m"].assign(mlpipe_proba=0.5, **{"%-mine": 1.0})
    candles[OWN, "5m"] = frame.set_index(pd.DatetimeIndex(frame["date"])).drop(columns="date")
    found = ours(Curious, candles)
    assert {tuple(names) for names in seen} == {("date", "open", "high", "low", "close", "volume")}
    assert found.index.equals(candles[OWN, "5m"].index)
    assert_equal_bits(found, expected)


def test_columns_do_not_depend_on_the_candles() -> None:
    for kind in FREQAI_STRATEGIES:
        schemas = {tuple(ours(kind, market(n)).columns) for n in (60, 61, 400)}
        assert len(schemas) == 1


def broken(method: str, result: Callable[[pd.DataFrame], Any]) -> type[Strategy]:
    def spoil(self, dataframe, *args, metadata, **kwargs):
        return result(getattr(Light, method)(self, dataframe, *args, metadata=metadata))

    return type("Broken", (Light,), {method: spoil})


def fails(frame: pd.DataFrame) -> pd.DataFrame:
    raise KeyError("missing_column")


MISTAKES = {
    "raises": (fails, "failed: KeyError: 'missing_column'"),
    "returns nothing": (lambda df: None, "returned NoneType"),
    "returns a column": (lambda df: df["close"], "returned Series"),
    "drops rows": (lambda df: df.iloc[3:], "rows for"),
    "drops the dates": (lambda df: df.drop(columns="date"), "the dates"),
    "reorders the rows": (lambda df: df[::-1], "the dates"),
    "makes the dates text": (lambda df: df.assign(date=df["date"].astype(str)), "the dates"),
    "repeats a column": (lambda df: pd.concat([df, df[["close"]]], axis=1), "close twice"),
    "gives text": (lambda df: df.assign(**{"%-side": "long"}), "%-side of type"),
    "gives objects": (lambda df: df.assign(**{"%-side": [None, {}] + [1] * (len(df) - 2)}), "%-side of type object"),
    "gives dates": (lambda df: df.assign(**{"%-side": df["date"]}), "%-side of type datetime64"),
    "gives categories": (
        lambda df: df.assign(**{"%-side": pd.Categorical(["up"] * len(df))}),
        "%-side of type category",
    ),
    "gives complex numbers": (lambda df: df.assign(**{"%-side": 1j}), "%-side of type complex128"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("method", ["expand_all", "expand_basic", "standard"])
def test_mistake_of_a_method_is_named_with_pair_and_timeframe(method, mistake) -> None:
    result, told = MISTAKES[mistake]
    kind = broken(f"feature_engineering_{method}", result)
    with pytest.raises(ConfigError) as caught:
        ours(kind, market(60))
    assert told in str(caught.value)
    assert f"{OWN} 5m: feature_engineering_{method} of Broken" in str(caught.value)


def test_mistake_on_a_correlated_pair_names_that_pair_and_its_timeframe() -> None:
    class Partial(Light):
        def feature_engineering_expand_basic(self, dataframe, metadata, **kwargs):
            late = metadata == {"pair": CORRELATED, "tf": "1h"}
            return dataframe.iloc[1:] if late else dataframe

    with pytest.raises(
        ConfigError, match=f"{CORRELATED} 1h: feature_engineering_expand_basic of Partial"
    ):
        ours(Partial, market(60))


def test_strategy_without_features_is_refused() -> None:
    with pytest.raises(ConfigError, match="Strategy gave no features"):
        ours(Strategy, market(60))


def test_two_features_of_one_name_are_refused() -> None:
    kind = broken(
        "feature_engineering_standard", lambda df: df.assign(**{"%-body_gen_1h": df["close"]})
    )
    with pytest.raises(ConfigError, match="two features of the name %-body_gen_1h"):
        ours(kind, market(60))


@pytest.mark.parametrize("slow", ["1m", "5s", "fast", "0h", "1M"])
def test_timeframe_that_is_none_or_too_fast_is_named(slow) -> None:
    with pytest.raises(ConfigError, match=slow):
        ours(Light, market(60), config=freqtrade_config("5m", ["5m", slow], []))


def test_own_timeframe_comes_first_when_it_is_not_listed() -> None:
    def columns(names: list[str]) -> list[str]:
        return list(ours(Light, market(60), config=freqtrade_config("5m", names, [])).columns)

    assert columns(["1h"]) == columns(["5m", "1h"])
    assert columns(["1h", "5m"]) != columns(["5m", "1h"])


def test_unusable_candles_of_another_pair_are_named() -> None:
    candles = market(60)
    candles[CORRELATED, "15m"] = candles[CORRELATED, "15m"].iloc[:0]
    with pytest.raises(DataError, match=f"{CORRELATED} 15m: no candles"):
        ours(Light, candles)
