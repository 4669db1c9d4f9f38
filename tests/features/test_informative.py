"""Other pairs and longer timeframes: joined on candle close, against freqtrade's own merge and pandas' ranks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from freqtrade.strategy import merge_informative_pair
from hypothesis import given, settings
from hypothesis import strategies as st

from freqtrade_mlpipe.config import FeatureConfig
from freqtrade_mlpipe.exceptions import ConfigError, DataError
from freqtrade_mlpipe.features import FeatureEngineer, Frames, LiveFrames
from freqtrade_mlpipe.features.causality import audit_causality
from freqtrade_mlpipe.features.parts import last_closed
from tests.features.market import random_walk, real

PAIRS = ("ADA/USDT", "BTC/USDT", "ETH/USDT")
SMALL = {
    "include": ("return_1", "hour_sin"), "exclude": (), "informative_features": ("return_7", "range_position"),
}  # fmt: skip


def resampled(df: pd.DataFrame, timeframe: str) -> pd.DataFrame:
    """Complete candles of a longer timeframe, as freqtrade builds them."""
    rule = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    days = timeframe.replace("d", "D")
    candles = df.resample(days, on="date").agg(rule).dropna().reset_index()
    end = df["date"].iloc[-1] + df["date"].diff().median()
    return candles[candles["date"] + pd.Timedelta(days) <= end]


def market(n: int = 2_000) -> dict[tuple[str, str], pd.DataFrame]:
    frames = {}
    for seed, pair in enumerate(PAIRS):
        base = random_walk(n, seed=seed)
        for timeframe in ("4h", "1d"):
            frames[pair, timeframe] = resampled(base, timeframe)
        frames[pair, "1h"] = base
    return frames


MARKET = market()


def engineer(**changes: object) -> FeatureEngineer:
    return FeatureEngineer(FeatureConfig(**{**SMALL, **changes}), timeframe="1h", pairs=PAIRS)


def features(of: FeatureEngineer, pair: str = "ADA/USDT", **frames: object) -> pd.DataFrame:
    return of.transform(MARKET[pair, "1h"], pair=pair, frames=Frames.of(MARKET))


def test_columns_are_named_alike_for_every_pair():
    found = engineer(
        informative_timeframes=("4h",),
        informative_pairs=("BTC/USDT",),
        include_shifted_candles=1,
        rank_features=("return_7",),
    )
    assert found.get_feature_names() == [
        "return_1",
        "hour_sin",
        "return_1_shift-1",
        *("return_7_4h", "range_position_7_4h", "range_position_50_4h"),
        *("return_7_shift-1_4h", "range_position_7_shift-1_4h", "range_position_50_shift-1_4h"),
        *(f"{name}_BTC/USDT_1h" for name in ("return_7", "range_position_7", "range_position_50")),
        *(f"{name}_shift-1_BTC/USDT_1h" for name in ("return_7", "range_position_7", "range_position_50")),
        *(f"{name}_BTC/USDT_4h" for name in ("return_7", "range_position_7", "range_position_50")),
        *(f"{name}_shift-1_BTC/USDT_4h" for name in ("return_7", "range_position_7", "range_position_50")),
        "rank_return_7",
    ]  # fmt: skip
    for pair in PAIRS:
        assert list(features(found, pair).columns) == found.get_feature_names()


@pytest.mark.parametrize("timeframe", ["4h", "1d"])
@pytest.mark.parametrize("source", [None, "BTC/USDT"])
def test_join_is_that_of_freqtrade(timeframe: str, source: str | None):
    found = features(
        engineer(informative_timeframes=(timeframe,), informative_pairs=(source,) if source else ())
    )
    other = MARKET[source or "ADA/USDT", timeframe]
    alone = FeatureEngineer(FeatureConfig(include=SMALL["informative_features"], exclude=()))
    columns = alone.get_feature_names()
    values = pd.concat([other[["date"]], alone.transform(other)], axis=1)
    merged = merge_informative_pair(MARKET["ADA/USDT", "1h"], values, "1h", timeframe, ffill=True)
    suffix = f"_{source}_{timeframe}" if source else f"_{timeframe}"
    covered = slice(None, len(merged) - 24)  # freqtrade fills forward beyond the last candle
    for name in columns:
        np.testing.assert_array_equal(
            found[name + suffix][covered],
            merged[f"{name}_{timeframe}"].astype(np.float32)[covered],
        )


@pytest.mark.parametrize("timeframe", ["4h", "1d"])
def test_value_appears_with_the_candle_that_closes_when_its_own_does(timeframe: str):
    found = features(engineer(informative_timeframes=(timeframe,)))[f"return_7_{timeframe}"]
    changed = found.ne(found.shift()) & found.notna()
    closes = MARKET["ADA/USDT", "1h"]["date"][changed] + pd.Timedelta("1h")
    assert (closes == closes.dt.floor(timeframe.replace("d", "D"))).all()


def test_every_join_and_rank_is_the_same_without_later_candles():
    of = engineer(
        informative_timeframes=("4h", "1d"), informative_pairs=("BTC/USDT",), include_shifted_candles=2,
        rank_features=("return_7", "volume_ratio"),
    )  # fmt: skip
    frames = Frames.of(MARKET)

    def compute(df: pd.DataFrame) -> pd.DataFrame:
        return of.transform(
            df, pair="ADA/USDT", frames=frames.until(df["date"].iloc[-1] + pd.Timedelta("1h"))
        )

    assert audit_causality(
        compute, MARKET["ADA/USDT", "1h"], startup_candles=1_400, seed=1, n_cuts=30
    ) == []  # fmt: skip


def test_audit_sees_a_join_on_candle_open():
    frames = Frames.of(MARKET)

    def joined_on_open(df: pd.DataFrame) -> pd.DataFrame:
        day = frames.until(df["date"].iloc[-1] + pd.Timedelta("1h")).candles("ADA/USDT", "1d")
        return df[["date"]].merge(day[["date", "close"]], how="left", on="date").ffill()[["close"]]

    candles = MARKET["ADA/USDT", "1h"]
    found = audit_causality(joined_on_open, candles, startup_candles=200, seed=1, n_cuts=30)
    assert found == ["close"]


@settings(max_examples=40, deadline=None)
@given(
    start=st.integers(-500, 500),
    n=st.integers(1, 300),
    ratio=st.sampled_from([1, 4, 24]),
    holes=st.sets(st.integers(0, 60), max_size=20),
)
def test_last_closed_is_the_newest_candle_that_had_closed(
    start: int, n: int, ratio: int, holes: set[int]
):
    hour = 3_600
    dates = pd.to_datetime(np.arange(n) * hour, unit="s", utc=True)
    opens = start * hour + np.arange(61) * ratio * hour
    opens = np.delete(opens, sorted(holes))
    row = last_closed(
        pd.Series(dates), hour, pd.Series(pd.to_datetime(opens, unit="s", utc=True)), ratio * hour
    )
    for i in range(n):
        close = (i + 1) * hour
        closed = np.flatnonzero(opens + ratio * hour <= close)
        newest = closed[-1] if len(closed) else -1
        if newest >= 0 and close >= opens[newest] + 2 * ratio * hour:
            newest = -1  # a later one should have closed, and is not there
        assert row[i] == newest


def test_pair_that_describes_the_market_gets_its_own_values():
    found = features(
        engineer(informative_pairs=("BTC/USDT",), include_shifted_candles=1), "BTC/USDT"
    )
    np.testing.assert_array_equal(found["return_1_shift-1"][1:], found["return_1"][:-1])
    own = FeatureEngineer(FeatureConfig(include=("return_7",))).transform(MARKET["BTC/USDT", "1h"])
    np.testing.assert_array_equal(found["return_7_BTC/USDT_1h"], own["return_7"])


def test_shift_is_in_candles_of_the_informative_timeframe():
    found = features(engineer(informative_timeframes=("4h",), include_shifted_candles=2))
    steps = found[["return_7_4h", "return_7_shift-2_4h"]].iloc[200:].reset_index(drop=True)
    np.testing.assert_array_equal(
        steps["return_7_shift-2_4h"].iloc[8:], steps["return_7_4h"].shift(8).iloc[8:]
    )


def test_missing_newest_informative_candle_is_nan_not_an_old_value():
    frames = {**MARKET, ("ADA/USDT", "4h"): MARKET["ADA/USDT", "4h"].iloc[:-10]}
    found = engineer(informative_timeframes=("4h",)).transform(
        MARKET["ADA/USDT", "1h"], pair="ADA/USDT", frames=Frames.of(frames)
    )
    last_close = frames["ADA/USDT", "4h"]["date"].iloc[-1] + pd.Timedelta("4h")
    closes = MARKET["ADA/USDT", "1h"]["date"] + pd.Timedelta("1h")
    late = closes >= last_close + pd.Timedelta("4h")
    assert found["return_7_4h"][late].isna().all()
    assert found["return_7_4h"][~late].iloc[200:].notna().all()
    assert found["return_1"].iloc[1:].notna().all()


def test_short_informative_history_is_nan_not_an_error():
    frames = {**MARKET, ("ADA/USDT", "1d"): MARKET["ADA/USDT", "1d"].tail(3)}
    found = engineer(informative_timeframes=("1d",)).transform(
        MARKET["ADA/USDT", "1h"], pair="ADA/USDT", frames=Frames.of(frames)
    )
    assert found["return_7_1d"].isna().all()


def test_missing_frame_is_named():
    with pytest.raises(DataError, match="BTC/USDT: no 4h candles, which a feature needs"):
        engineer(informative_timeframes=("4h",), informative_pairs=("BTC/USDT",)).transform(
            MARKET["ADA/USDT", "1h"],
            pair="ADA/USDT",
            frames=Frames.of({k: f for k, f in MARKET.items() if k != ("BTC/USDT", "4h")}),
        )


def test_invalid_informative_candles_are_refused_by_name():
    broken = MARKET["ADA/USDT", "4h"].assign(close=np.nan)
    with pytest.raises(DataError, match="ADA/USDT 4h"):
        engineer(informative_timeframes=("4h",)).transform(
            MARKET["ADA/USDT", "1h"],
            pair="ADA/USDT",
            frames=Frames.of({("ADA/USDT", "4h"): broken}),
        )


def test_ranks_are_those_of_pandas():
    of = engineer(rank_features=("return_7", "volume_ratio_14"))
    values = {
        pair: FeatureEngineer(FeatureConfig(include=("return_7", "volume_ratio_14"))).transform(
            frame
        )
        for (pair, timeframe), frame in MARKET.items()
        if timeframe == "1h"
    }
    for name in ("return_7", "volume_ratio_14"):
        table = pd.DataFrame({pair: frame[name] for pair, frame in values.items()})
        expected = (table.rank(axis=1) - 1) / 2
        for pair in PAIRS:
            np.testing.assert_allclose(features(of, pair)[f"rank_{name}"], expected[pair])


def test_rank_ignores_pairs_without_a_candle_and_is_nan_alone():
    of = engineer(rank_features=("return_7",))
    later = MARKET["BTC/USDT", "1h"].iloc[500:]
    frames = {("BTC/USDT", "1h"): later, ("ETH/USDT", "1h"): MARKET["ETH/USDT", "1h"].iloc[1_000:]}
    ranks = of.transform(MARKET["ADA/USDT", "1h"], pair="ADA/USDT", frames=Frames.of(frames))[
        "rank_return_7"
    ]
    assert ranks.iloc[:507].isna().all()
    assert set(ranks.iloc[507:1_007]) == {0.0, 1.0}
    assert set(ranks.iloc[1_007:]) == {0.0, 0.5, 1.0}


def test_equal_values_share_their_rank():
    same = MARKET["ADA/USDT", "1h"]
    ranks = engineer(rank_features=("return_7",)).transform(
        same, pair="ADA/USDT", frames=Frames.of({(pair, "1h"): same for pair in PAIRS})
    )["rank_return_7"]
    assert set(ranks.iloc[7:]) == {0.5}


def test_frames_that_features_need_are_listed():
    of = engineer(informative_timeframes=("4h",), informative_pairs=("BTC/USDT",))
    assert of.frame_keys(["ETH/USDT"]) == [
        ("BTC/USDT", "1h"), ("BTC/USDT", "4h"), ("ETH/USDT", "4h"),
    ]  # fmt: skip
    assert of.frame_keys(["BTC/USDT"]) == [("BTC/USDT", "4h")]
    assert engineer().frame_keys(PAIRS) == []
    ranked = engineer(rank_features=("return_7",))
    assert ranked.frame_keys(["ADA/USDT"]) == [("BTC/USDT", "1h"), ("ETH/USDT", "1h")]


def test_own_timeframe_among_the_informative_ones_adds_nothing():
    assert engineer(informative_timeframes=("1h",)).get_feature_names() == ["return_1", "hour_sin"]


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"informative_timeframes": ("15m",)}, "15m is shorter than the candles' 1h"),
        ({"informative_timeframes": ("4x",)}, "'4x' is no timeframe of fixed length"),
        ({"informative_timeframes": ("1M",)}, "'1M' is no timeframe of fixed length"),
        ({"informative_timeframes": ("4h", "4h")}, "names one twice"),
        ({"informative_pairs": (".*/USDT",)}, "no full pair name"),
        ({"informative_pairs": ("BTC",)}, "no full pair name"),
        ({"informative_features": ("rsi_15",), "informative_timeframes": ("4h",)}, "Did you mean"),
        ({"rank_features": ("retrun_7",)}, "Did you mean"),
        ({"include_shifted_candles": -1}, "greater than or equal to 0"),
    ],
)
def test_impossible_settings_are_refused(changes: dict, said: str):
    with pytest.raises(ConfigError, match=said):
        engineer(**changes)


def test_informative_features_without_a_timeframe_say_how():
    with pytest.raises(ConfigError, match='timeframe="1h"'):
        FeatureEngineer(FeatureConfig(informative_timeframes=("4h",)))


def test_real_candles_of_two_timeframes():
    base = real("binance/BTC_USDT-1h", 0, 4_000)
    frames = {("BTC/USDT", "4h"): resampled(base, "4h"), ("BTC/USDT", "1d"): resampled(base, "1d")}
    of = FeatureEngineer(
        FeatureConfig(informative_timeframes=("4h", "1d"), include_shifted_candles=1),
        timeframe="1h",
    )
    found = of.transform(base, pair="BTC/USDT", frames=Frames.of(frames))
    complete = found.iloc[-1_000:].notna().all(axis=1)
    assert complete.iloc[:-24].all()


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), cut=st.integers(300, 700), untraded=st.sampled_from([0.0, 0.3])
)
def test_prefix_of_any_market_gives_the_same_newest_row(seed: int, cut: int, untraded: float):
    frames = {}
    for offset, pair in enumerate(PAIRS):
        base = random_walk(701, seed=(seed + offset) % 2**32, untraded_share=untraded)
        frames |= {(pair, "1h"): base, (pair, "4h"): resampled(base, "4h")}
    of = engineer(
        informative_timeframes=("4h",), informative_pairs=("ETH/USDT",), include_shifted_candles=2,
        rank_features=("return_7",), include=("return_1", "volatility_7", "mfi"),
    )  # fmt: skip
    known = Frames.of(frames)
    df = frames["ADA/USDT", "1h"]
    early = df.head(cut)
    now = known.until(early["date"].iloc[-1] + pd.Timedelta("1h"))
    np.testing.assert_array_equal(
        of.transform(early, pair="ADA/USDT", frames=now).iloc[-1],
        of.transform(df, pair="ADA/USDT", frames=known).iloc[cut - 1],
    )


class TestLiveFrames:
    """A bot's window slides on; what it gets equals a computation on everything since the start."""

    OF = engineer(
        informative_timeframes=("4h",), informative_pairs=("BTC/USDT",), include_shifted_candles=2,
        rank_features=("return_7",), include=(), informative_features=("rsi", "return_7"),
    )  # fmt: skip
    WINDOW = 900

    def bot(self) -> tuple[LiveFrames, dict[tuple[str, str], pd.DataFrame]]:
        """Frames, and the mapping they look up, which a test fills."""
        seen: dict[tuple[str, str], pd.DataFrame] = {}
        return LiveFrames(lambda pair, timeframe: seen.get((pair, timeframe))), seen

    def at(self, end: int) -> dict[tuple[str, str], pd.DataFrame]:
        """What freqtrade holds when candle `end` - 1 has closed."""
        now = Frames.of(MARKET).until(
            MARKET["ADA/USDT", "1h"]["date"].iloc[end - 1] + pd.Timedelta("1h")
        )
        return {key: now.candles(*key).tail(self.WINDOW).reset_index(drop=True) for key in MARKET}

    def ask(self, live: LiveFrames, seen: dict, frames: dict, pair: str) -> pd.DataFrame:
        seen.clear()
        seen.update(frames)
        live.refresh()
        return self.OF.transform(frames[pair, "1h"], pair=pair, frames=live)

    def test_every_pair_gets_what_a_batch_gives(self):
        live, seen = self.bot()
        first = self.at(1_500)
        start = {key: frame["date"].iloc[0] for key, frame in first.items()}
        for end in range(1_500, 1_530):
            frames = self.at(end)
            since = {
                key: frame[
                    (frame["date"] >= start[key]) & (frame["date"] <= frames[key]["date"].iloc[-1])
                ]
                for key, frame in MARKET.items()
            }
            for pair in PAIRS:
                found = self.ask(live, seen, frames, pair)
                batch = self.OF.transform(since[pair, "1h"], pair=pair, frames=Frames.of(since))
                np.testing.assert_array_equal(found.to_numpy()[-8:], batch.to_numpy()[-8:])
        assert all(block.n_opened == 1 for block in live._live.values())

    @pytest.mark.parametrize("n", [1, 2, 7])
    def test_newest_rows_are_the_last_of_a_whole_frame(self, n):
        of = engineer(
            informative_timeframes=("4h",), informative_pairs=("BTC/USDT",), include_shifted_candles=2,
            rank_features=("return_7",), include=("rsi", "return_7"), informative_features=("rsi",),
        )  # fmt: skip
        (live, seen), (whole, also_seen) = self.bot(), self.bot()
        for end in range(1_500, 1_504):
            frames = self.at(end)
            seen.update(frames)
            also_seen.update(frames)
            for pair in ("ADA/USDT", "BTC/USDT"):
                live.refresh()
                whole.refresh()
                df = frames[pair, "1h"]
                found = of.newest(df, n, pair=pair, frames=live)
                expected = of.transform(df, pair=pair, frames=whole).to_numpy()[-n:]
                np.testing.assert_array_equal(found, expected)

    def test_pairs_that_advance_together_have_the_same_values(self):
        of = engineer(rank_features=("return_7",), include=("rsi", "return_7"))
        (together, seen), (alone, also_seen) = self.bot(), self.bot()
        for end in range(1_500, 1_506):
            frames = self.at(end)
            seen.update(frames)
            also_seen.update(frames)
            candles = {pair: frames[pair, "1h"] for pair in PAIRS}
            if end == 1_503:
                wrong = candles["ADA/USDT"] = candles["ADA/USDT"].copy()
                wrong.loc[len(wrong) - 1, "low"] = -1.0
            together.refresh()
            of.advance(candles.items(), together)
            for pair, df in candles.items():
                alone.refresh()
                if end == 1_503 and pair == "ADA/USDT":
                    for live in (together, alone):
                        with pytest.raises(DataError, match="low"):
                            of.newest(df, 2, pair=pair, frames=live)
                    continue
                found = of.newest(df, 2, pair=pair, frames=together)
                np.testing.assert_array_equal(found, of.newest(df, 2, pair=pair, frames=alone))
                later = df.iloc[5:]  # another frame than the one that was advanced
                np.testing.assert_array_equal(
                    of.newest(later, 2, pair=pair, frames=together), found
                )
        opened = {place: live.n_opened for place, live in together._live.items()}
        assert set(opened.values()) == {1}

    def test_revised_candle_of_another_frame_is_seen(self):
        live, seen = self.bot()
        frames = self.at(1_500)
        before = self.ask(live, seen, frames, "ADA/USDT")
        revised = frames["BTC/USDT", "4h"].copy()
        revised.loc[len(revised) - 1, "close"] *= 1.01
        revised["high"] = revised[["high", "close"]].max(axis=1)
        after = self.ask(live, seen, {**frames, ("BTC/USDT", "4h"): revised}, "ADA/USDT")
        changed = (before.iloc[-1] != after.iloc[-1]) & before.iloc[-1].notna()
        assert set(changed[changed].index) == {
            "return_7_BTC/USDT_4h", "rsi_7_BTC/USDT_4h", "rsi_14_BTC/USDT_4h",
        }  # fmt: skip

    def test_young_pair_with_few_candles_of_a_longer_timeframe_is_followed(self):
        live, seen = self.bot()
        for end in (1_500, 1_501, 1_504):
            frames = self.at(end)
            frames["ADA/USDT", "4h"] = frames["ADA/USDT", "4h"].tail(20)
            found = self.ask(live, seen, frames, "ADA/USDT")
            assert np.isnan(found["rsi_14_4h"].iloc[-1])
            assert np.isfinite(found["return_7_4h"].iloc[-1])

    def test_rotating_pairlist_does_not_pile_up(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("freqtrade_mlpipe.features.frames._MOST_FOLLOWED", 3)
        live, seen = self.bot()
        for end in (1_500, 1_501):
            for pair in PAIRS:
                found = self.ask(live, seen, self.at(end), pair)
                assert np.isfinite(found["rank_return_7"].iloc[-1])
                assert len(live._live) == 3

    def test_what_failed_starts_anew(self):
        live, seen = self.bot()
        frames = self.at(1_500)
        self.ask(live, seen, frames, "ADA/USDT")
        broken = frames["ADA/USDT", "1h"].assign(close=np.nan)
        with pytest.raises(DataError):
            self.ask(live, seen, {**frames, ("ADA/USDT", "1h"): broken}, "ADA/USDT")
        assert np.isfinite(self.ask(live, seen, self.at(1_501), "ADA/USDT")["return_1"].iloc[-1])
