"""A live frame slides on: its features equal `transform` on all candles since the last opening."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import cloudpickle
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freqtrade_mlpipe.config import FeatureConfig
from freqtrade_mlpipe.exceptions import DataError
from freqtrade_mlpipe.features import FeatureEngineer, LiveBlock
from freqtrade_mlpipe.features.indicator import Candles, FeatureColumn
from freqtrade_mlpipe.features.live import follow_together
from tests.features.market import PRICES, markets, needs_handles, random_walk, real

ENGINEER = FeatureEngineer()
NEEDED = ENGINEER.startup_candles + 1
SMALL = FeatureEngineer(FeatureConfig(short_period=3, medium_period=5, long_period=9))
WINDOW = SMALL.startup_candles + 40


def since(df: pd.DataFrame, engineer: FeatureEngineer, n: int) -> np.ndarray:
    """The last n rows of `transform`."""
    return engineer.transform(df).to_numpy()[-n:]


@pytest.fixture
def live() -> LiveBlock:
    return LiveBlock(SMALL.columns)


@pytest.fixture
def candles() -> pd.DataFrame:
    return random_walk(2 * WINDOW + 50, seed=21, untraded_share=0.05, burst=10.0)


def test_whole_catalogue_over_hundreds_of_candles() -> None:
    df, live, n = real("binance/BTC_USDT-1h", 4000, 1400), LiveBlock(ENGINEER.columns), 999
    for end in range(n, len(df) + 1):
        block = live.block(df.iloc[end - n : end])
        if end in (n, n + 1, n + 250, n + 251, n + 260, len(df)):
            np.testing.assert_array_equal(block, since(df.iloc[:end], ENGINEER, n))
    assert live.n_opened == 1


@needs_handles
def test_rows_that_slide_out_of_the_warmup_keep_their_values(
    live: LiveBlock, candles: pd.DataFrame
) -> None:
    for end in range(WINDOW, len(candles)):
        block = live.block(candles.iloc[end - WINDOW : end])
    assert np.isfinite(block).all()
    assert live.n_opened == 1


def test_frame_may_grow_or_stand_still_or_lose_candles_at_the_front(
    live: LiveBlock, candles: pd.DataFrame
) -> None:
    for start, end in ((0, 0), (0, 1), (0, 1), (3, 1), (3, 8), (5, 8), (20, 9), (20, 29)):
        frame = candles.iloc[start : WINDOW + end]
        block = live.block(frame)
        np.testing.assert_array_equal(block, since(candles.iloc[: WINDOW + end], SMALL, len(frame)))
    assert live.n_opened == 1


def revised(df: pd.DataFrame, row: int, name: str) -> pd.DataFrame:
    changed = df.copy()
    changed.loc[changed.index[row], name] *= 1.0000001
    return changed


CHANGES: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "revised last candle": lambda df: revised(df.iloc[:WINDOW], -1, "high"),
    "revised last candle, and a new one": lambda df: revised(df.iloc[: WINDOW + 1], -2, "volume"),
    "revised old candle": lambda df: revised(df.iloc[: WINDOW + 1], 5, "close"),
    "gap": lambda df: df.iloc[: WINDOW + 5].drop(index=[WINDOW + 1, WINDOW + 2]),
    "gap at the end": lambda df: df.iloc[: WINDOW + 5].drop(index=[WINDOW]),
    "candle filled in": lambda df: df.iloc[: WINDOW + 1].drop(index=[WINDOW - 9]),
    "long absence": lambda df: df.iloc[60 : WINDOW + 60],
    "nothing in common": lambda df: df.iloc[WINDOW + 10 : 2 * WINDOW + 10],
    "older": lambda df: df.iloc[: WINDOW - 1],
    "longer history": lambda df: pd.concat(
        [df.iloc[:1].assign(date=df["date"].iloc[0] - pd.Timedelta("1h")), df.iloc[: WINDOW + 1]]
    ),
    "other pair": lambda df: df.iloc[:WINDOW].assign(**{p: df[p] * 3 for p in PRICES}),
    "other unit of dates": lambda df: df.iloc[: WINDOW + 1].assign(
        date=df["date"].iloc[: WINDOW + 1].dt.as_unit("s")
    ),
    "other type of volume": lambda df: df.iloc[: WINDOW + 1].astype({"volume": np.float32}),
    "price out of range": lambda df: df.iloc[: WINDOW + 1].assign(
        **{p: [*df[p].iloc[:WINDOW], 1e200] for p in PRICES}
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_anything_but_new_candles_opens_again(
    live: LiveBlock, candles: pd.DataFrame, what: str
) -> None:
    live.block(candles.iloc[:WINDOW])
    frame = CHANGES[what](candles)
    np.testing.assert_array_equal(live.block(frame), since(frame, SMALL, len(frame)))
    assert live.n_opened == 2
    np.testing.assert_array_equal(live.block(frame), since(frame, SMALL, len(frame)))
    assert live.n_opened == 2


@pytest.mark.parametrize(
    "spoil",
    [
        lambda df: df.drop(columns="volume"),
        lambda df: df.drop(columns="date"),
        lambda df: df.assign(close=df["close"].where(df.index < df.index[-1])),
        lambda df: df.assign(low=df["low"].where(df.index < df.index[-1], -1.0)),
        lambda df: df.assign(high=df["high"].where(df.index < df.index[-1], df["low"] * 0.5)),
        lambda df: df.assign(volume=df["volume"].astype(str)),
        lambda df: df.assign(date=df["date"].dt.tz_localize(None)),
        lambda df: df.assign(date=df["date"].dt.tz_convert("Europe/Berlin")),
        lambda df: df.assign(date=df["date"].where(df.index < df.index[-1])),
        lambda df: pd.concat([df, df.iloc[-1:]]),
        lambda df: df.iloc[::-1],
        lambda df: df.iloc[50:],
        lambda df: df.iloc[:0],
        lambda df: pd.concat([df, df["close"]], axis=1),
    ],
)  # fmt: skip
def test_unsuitable_frame_is_refused_as_by_transform_and_the_next_one_opens_again(
    live: LiveBlock, candles: pd.DataFrame, spoil: Callable[[pd.DataFrame], pd.DataFrame]
) -> None:
    live.block(candles.iloc[:WINDOW])
    bad = spoil(candles.iloc[: WINDOW + 1])
    with pytest.raises(DataError) as expected:
        SMALL.transform(bad, pair="ETH/USDT")
    with pytest.raises(DataError) as found:
        live.block(bad, pair="ETH/USDT")
    assert str(found.value) == str(expected.value)
    good = candles.iloc[1 : WINDOW + 2]
    np.testing.assert_array_equal(live.block(good), since(good, SMALL, len(good)))


def test_datetime_index_works_as_a_date_column(live: LiveBlock, candles: pd.DataFrame) -> None:
    for end in (0, 1, 2):
        block = live.block(candles.iloc[: WINDOW + end].set_index("date"))
    np.testing.assert_array_equal(block, since(candles.iloc[: WINDOW + 2], SMALL, WINDOW + 2))
    assert live.n_opened == 1


def test_blocks_given_out_never_change_and_cannot_be_written_to(
    live: LiveBlock, candles: pd.DataFrame
) -> None:
    blocks = [live.block(candles.iloc[k : WINDOW + k]) for k in range(150)]
    for k, block in enumerate(blocks):
        expected = since(candles.iloc[: WINDOW + k], SMALL, WINDOW)
        np.testing.assert_array_equal(block, expected)
        assert not block.flags.writeable
    assert live.n_opened == 1


def test_frames_given_may_be_changed_afterwards(live: LiveBlock, candles: pd.DataFrame) -> None:
    frame = candles.iloc[:WINDOW].copy()
    live.block(frame)
    frame["close"].to_numpy(copy=False)
    frame.loc[:, "close"] = 1.0
    live.block(candles.iloc[: WINDOW + 1])
    assert live.n_opened == 1


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda o: cloudpickle.loads(cloudpickle.dumps(o))]
)
def test_duplicate_starts_anew(
    live: LiveBlock, candles: pd.DataFrame, duplicate: Callable[[LiveBlock], LiveBlock]
) -> None:
    live.block(candles.iloc[:WINDOW])
    other = duplicate(live)
    frame = candles.iloc[1 : WINDOW + 1]
    np.testing.assert_array_equal(other.block(frame), since(frame, SMALL, WINDOW))
    np.testing.assert_array_equal(
        live.block(frame), since(candles.iloc[: WINDOW + 1], SMALL, WINDOW)
    )


@settings(max_examples=30, deadline=None)
@given(
    df=markets(WINDOW + 120),
    steps=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), max_size=25),
)
def test_any_sliding_equals_transform(df: pd.DataFrame, steps: list[tuple[int, int]]) -> None:
    live, start, end = LiveBlock(SMALL.columns), 0, WINDOW
    live.block(df.iloc[:end])
    for off, on in steps:
        start, end = start + min(off, end + on - start - WINDOW + 20), end + on
        block = live.block(df.iloc[start:end])
        np.testing.assert_array_equal(block, since(df.iloc[:end], SMALL, end - start))
    assert live.n_opened == 1


def _closes_so_far(c: Candles, n: int) -> np.ndarray:
    """A row that can't be traced and remembers all candles."""
    return np.cumsum(np.array([value % 1.0 for value in c.close])) / n


def test_row_that_cannot_be_traced_opens_again_before_its_candles_become_too_many(
    candles: pd.DataFrame,
) -> None:
    roc = FeatureEngineer(FeatureConfig(include=("return_1",))).columns[0]
    odd = replace(roc.indicator, name="odd", compute=_closes_so_far)
    live, window = LiveBlock((roc, FeatureColumn("odd_2", odd, (2,), 1))), 50
    opened = 0
    for end in range(window, 220):
        block = live.block(candles.iloc[end - window : end])
        if live.n_opened > opened:
            opened, first = live.n_opened, end - window
        expected = _closes_so_far(Candles(candles.iloc[first:end]), 2)[-1]
        assert block[-1, 1] == np.float32(expected)
    assert opened == 4


def test_blocks_that_are_followed_together_have_what_each_has_alone() -> None:
    steps = [1, 1, 1, 1, 1, 1, 0, 2, 5]
    markets = [random_walk(WINDOW + 6 * step + 10, seed=k) for k, step in enumerate(steps)]
    together, alone = ([LiveBlock(SMALL.columns) for _ in steps] for _ in range(2))
    for turn in range(6):
        frames = [
            df.iloc[turn : WINDOW + step * turn] for df, step in zip(markets, steps, strict=True)
        ]
        if turn == 3:
            frames[0] = frames[0].assign(low=[*frames[0]["low"].iloc[:-1], -1.0])
        found = [(live, live.news(df)) for live, df in zip(together, frames, strict=True)]
        known = [(live, news) for live, news in found if news is not None]
        assert len(known) == (0 if turn == 0 else len(steps) - (turn == 4))
        blocks = dict(zip((live for live, _ in known), follow_together(known), strict=True))
        for place, (live, other, df) in enumerate(zip(together, alone, frames, strict=True)):
            block = blocks.get(live)
            if turn == 3 and place == 0:
                assert block is None
                with pytest.raises(DataError):
                    other.block(df)
                continue
            block = live.block(df) if block is None else block
            np.testing.assert_array_equal(block, other.block(df))
    assert [live.n_opened for live in together] == [2, *[1] * (len(steps) - 1)]
