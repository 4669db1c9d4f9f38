"""Splitters: properties that hold for any rows, and skfolio as an independent oracle."""

from __future__ import annotations

from itertools import pairwise
from math import comb

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from freqtrade_mlpipe.config import ModelConfig
from freqtrade_mlpipe.exceptions import TrainingError
from freqtrade_mlpipe.splits import (
    CombinatorialPurgedKFold,
    Fold,
    PurgedKFold,
    PurgedWalkForward,
    Splitter,
    make_splitter,
    tail_slices,
    walk_forward,
)

HOUR = pd.Timedelta("1h")
START = pd.Timestamp("2024-01-01", tz="UTC")


def hourly(n: int, horizon: int) -> tuple[pd.DatetimeIndex, pd.DatetimeIndex]:
    dates = pd.date_range(START, periods=n, freq="1h")
    return dates, dates + horizon * HOUR


@st.composite
def pooled_rows(draw: st.DrawFn) -> tuple[pd.DatetimeIndex, pd.DatetimeIndex]:
    """Rows of up to three pairs in any order, with missing candles and label ends that vary."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, n_pairs = draw(st.integers(40, 120)), draw(st.integers(1, 3))
    longest = draw(st.integers(1, 10))
    hours = np.concatenate(
        [
            np.sort(rng.choice(n, size=rng.integers(n // 2, n + 1), replace=False))
            for _ in range(n_pairs)
        ]
    )
    hours = rng.permutation(hours)
    dates = pd.DatetimeIndex(START + pd.to_timedelta(hours, unit="h"))
    ends = pd.to_timedelta(rng.integers(1, longest + 1, len(hours)), unit="h")
    return dates, dates + ends


def test_settled_rows_are_those_known_before_the_next_period():
    dates, known_at = hourly(100, 5)
    folds = PurgedWalkForward(3, embargo=0 * HOUR).split(dates, known_at)
    for fold in folds[:-1]:
        settled = fold.test[fold.settled(known_at)]
        assert known_at[settled].max() < fold.test_end
        assert len(fold.test) - len(settled) == 5
    assert folds[-1].settled(known_at).all()


splitters = st.one_of(
    st.builds(
        PurgedWalkForward,
        st.integers(1, 5),
        embargo=st.integers(0, 4).map(lambda hours: hours * HOUR),
        min_train_fraction=st.sampled_from([0.3, 0.4, 0.5]),
        max_train=st.sampled_from([None, 24 * HOUR]),
    ),
    st.builds(
        PurgedKFold, st.integers(2, 5), embargo=st.integers(0, 4).map(lambda hours: hours * HOUR)
    ),
    st.builds(
        CombinatorialPurgedKFold,
        st.integers(3, 5),
        st.integers(1, 2),
        embargo=st.integers(0, 4).map(lambda hours: hours * HOUR),
    ),
)


def split_or_none(
    splitter: Splitter, dates: pd.DatetimeIndex, known_at: pd.DatetimeIndex
) -> list[Fold] | None:
    try:
        return splitter.split(dates, known_at)
    except TrainingError:
        return None


@settings(max_examples=150, deadline=None)
@given(pooled_rows(), splitters)
def test_no_training_label_overlaps_a_test_label(rows, splitter) -> None:
    dates, known_at = rows
    for fold in split_or_none(splitter, dates, known_at) or []:
        for row in fold.test:
            overlaps = (dates[fold.train] <= known_at[row]) & (known_at[fold.train] >= dates[row])
            assert not overlaps.any()


@settings(max_examples=150, deadline=None)
@given(pooled_rows(), splitters)
def test_training_row_before_a_test_row_is_known_before_it(rows, splitter) -> None:
    dates, known_at = rows
    for fold in split_or_none(splitter, dates, known_at) or []:
        for date in dates[fold.test].unique():
            earlier = dates[fold.train] < date
            assert (known_at[fold.train][earlier] < date).all()


@settings(max_examples=100, deadline=None)
@given(pooled_rows(), splitters, st.integers(0, 2**32))
def test_row_order_does_not_matter(rows, splitter, seed) -> None:
    dates, known_at = rows
    order = np.random.default_rng(seed).permutation(len(dates))
    straight = split_or_none(splitter, dates, known_at)
    shuffled = split_or_none(splitter, dates[order], known_at[order])
    assert (straight is None) == (shuffled is None)
    for one, other in zip(straight or [], shuffled or [], strict=True):
        np.testing.assert_array_equal(one.train, np.sort(order[other.train]))
        np.testing.assert_array_equal(one.test, np.sort(order[other.test]))


@settings(max_examples=100, deadline=None)
@given(pooled_rows(), splitters)
def test_fold_times_describe_its_rows(rows, splitter) -> None:
    dates, known_at = rows
    for fold in split_or_none(splitter, dates, known_at) or []:
        assert (np.diff(fold.train) > 0).all()
        assert (np.diff(fold.test) > 0).all()
        assert fold.train_start == dates[fold.train].min()
        assert fold.train_end == known_at[fold.train].max()
        assert fold.test_start == dates[fold.test].min()
        if fold.test_end is None:
            assert dates.max() in dates[fold.test]
        else:
            assert dates[fold.test].max() < fold.test_end


@settings(max_examples=100, deadline=None)
@given(pooled_rows(), st.integers(1, 5), st.integers(0, 4))
def test_walk_forward_trains_on_all_it_may_and_tests_each_row_once(rows, n_folds, embargo) -> None:
    dates, known_at = rows
    folds = split_or_none(PurgedWalkForward(n_folds, embargo * HOUR), dates, known_at) or []
    for fold in folds:
        allowed = known_at < fold.test_start - embargo * HOUR
        np.testing.assert_array_equal(fold.train, np.flatnonzero(allowed))
    if folds:
        tested = np.concatenate([fold.test for fold in folds])
        expected = np.flatnonzero(dates >= folds[0].test_start)
        np.testing.assert_array_equal(np.sort(tested), expected)
    for one, following in pairwise(folds):
        assert one.test_end == following.test_start
        assert set(one.train) <= set(following.train)


@settings(max_examples=100, deadline=None)
@given(pooled_rows(), st.integers(2, 5), st.integers(0, 4))
def test_kfold_trains_on_all_it_may_and_tests_every_row_once(rows, n_folds, embargo) -> None:
    dates, known_at = rows
    folds = split_or_none(PurgedKFold(n_folds, embargo * HOUR), dates, known_at) or []
    for fold in folds:
        after = known_at[fold.test].max() + embargo * HOUR
        allowed = (known_at < dates[fold.test].min()) | (dates > after)
        np.testing.assert_array_equal(fold.train, np.flatnonzero(allowed))
    if folds:
        tested = np.concatenate([fold.test for fold in folds])
        np.testing.assert_array_equal(np.sort(tested), np.arange(len(dates)))


@pytest.mark.parametrize("expanding", [True, False])
@pytest.mark.parametrize("horizon", [1, 3, 7])
def test_walk_forward_equals_skfolio(horizon: int, expanding: bool) -> None:
    oracle = pytest.importorskip("skfolio.model_selection", reason="skfolio is the oracle")
    dates, known_at = hourly(100, horizon)
    size = 40 - horizon
    theirs = list(
        oracle.WalkForward(
            test_size=20, train_size=size, purged_size=horizon, expand_train=expanding
        ).split(np.zeros((100, 1)))
    )
    # Their window holds `size` rows after the purge; ours spans the purge too.
    window = None if expanding else 40 * HOUR
    ours = PurgedWalkForward(3, min_train_fraction=0.4, max_train=window).split(dates, known_at)
    assert len(ours) == len(theirs) == 3
    for fold, (train, test) in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(fold.train, train)
        np.testing.assert_array_equal(fold.test, test)


@pytest.mark.parametrize("embargo", [0, 1, 4])
@pytest.mark.parametrize("horizon", [1, 3])
@pytest.mark.parametrize(("n_folds", "n_test_folds"), [(4, 2), (6, 2), (6, 3), (5, 4)])
def test_combinatorial_equals_skfolio(
    n_folds: int, n_test_folds: int, horizon: int, embargo: int
) -> None:
    skfolio = pytest.importorskip("skfolio.model_selection", reason="skfolio is the oracle")
    dates, known_at = hourly(120, horizon)
    oracle = skfolio.CombinatorialPurgedCV(
        n_folds=n_folds, n_test_folds=n_test_folds, purged_size=horizon, embargo_size=embargo
    )
    splitter = CombinatorialPurgedKFold(n_folds, n_test_folds, embargo * HOUR)
    theirs = list(oracle.split(np.zeros((120, 1))))
    ours = splitter.split(dates, known_at)
    assert len(ours) == comb(n_folds, n_test_folds)
    assert splitter.n_paths == oracle.n_test_paths
    for fold, (train, tests) in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(fold.train, train)
        np.testing.assert_array_equal(fold.test, np.sort(np.concatenate(tests)))


def test_combinatorial_keeps_training_rows_between_separate_test_blocks() -> None:
    dates, known_at = hourly(60, 2)
    folds = CombinatorialPurgedKFold(6, 2, embargo=HOUR).split(dates, known_at)
    first_and_third = next(fold for fold in folds if {0, 20} <= set(fold.test))
    assert set(first_and_third.train) & set(range(10, 20)) == set(range(13, 18))


def test_embargo_begins_after_the_last_test_label() -> None:
    dates, known_at = hourly(40, 3)
    fold = PurgedKFold(4, embargo=2 * HOUR).split(dates, known_at)[1]
    assert fold.test.tolist() == list(range(10, 20))
    assert fold.train.tolist() == [*range(7), *range(25, 40)]


def test_label_ends_that_vary_are_purged_one_by_one() -> None:
    dates, _ = hourly(20, 1)
    known_at = pd.DatetimeIndex(dates + HOUR).to_series().reset_index(drop=True)
    known_at[2] = dates[12]
    fold = PurgedWalkForward(1, min_train_fraction=0.5).split(dates, pd.DatetimeIndex(known_at))[0]
    assert fold.train.tolist() == [0, 1, 3, 4, 5, 6, 7, 8]


def test_label_known_in_the_first_test_candle_is_purged() -> None:
    dates, known_at = hourly(20, 4)
    fold = PurgedWalkForward(1, min_train_fraction=0.5).split(dates, known_at)[0]
    assert fold.test.tolist() == list(range(10, 20))
    assert fold.train.tolist() == list(range(6))


def test_test_rows_are_never_purged() -> None:
    dates, known_at = hourly(100, 15)
    for splitter in (PurgedWalkForward(4, embargo=5 * HOUR), PurgedKFold(4, embargo=5 * HOUR)):
        for fold in splitter.split(dates, known_at):
            assert (np.diff(fold.test) == 1).all()


def test_walk_forward_periods_have_equal_length_in_time_not_in_rows() -> None:
    hours = np.r_[np.arange(0, 200), np.arange(200, 400, 4)]
    dates = pd.DatetimeIndex(START + pd.to_timedelta(hours, unit="h"))
    folds = PurgedWalkForward(4, min_train_fraction=0.5).split(dates, dates + HOUR)
    starts = [fold.test_start for fold in folds]
    for earlier, later in pairwise(starts):
        assert 46 * HOUR <= later - earlier <= 54 * HOUR


@pytest.mark.parametrize("n", [97, 100, 1000, 8760])
@pytest.mark.parametrize("n_folds", [3, 5, 7])
def test_periods_of_regular_candles_differ_by_one_row_at_most(n: int, n_folds: int) -> None:
    dates, known_at = hourly(n, 1)
    sizes = [len(fold.test) for fold in PurgedKFold(n_folds).split(dates, known_at)]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("n", [40, 70, 110, 1010])
@pytest.mark.parametrize("n_folds", [3, 6, 7, 10])
@pytest.mark.parametrize("tenths", [1, 3, 4, 7])
def test_periods_begin_at_the_exact_candle(n: int, n_folds: int, tenths: int) -> None:
    dates, known_at = hourly(n, 1)
    folds = PurgedWalkForward(n_folds, min_train_fraction=tenths / 10).split(dates, known_at)
    tested, first = n * (10 - tenths), n * tenths
    exact = [-(-(first * n_folds + tested * k) // (10 * n_folds)) for k in range(n_folds)]
    assert [fold.test[0] for fold in folds] == exact


def test_pairs_that_share_a_date_fall_on_one_side() -> None:
    dates, known_at = hourly(100, 5)
    pooled, known = dates.repeat(3), known_at.repeat(3)
    single = PurgedWalkForward(4).split(dates, known_at)
    for one, three in zip(single, PurgedWalkForward(4).split(pooled, known), strict=True):
        np.testing.assert_array_equal(three.test, (one.test[:, None] * 3 + range(3)).ravel())
        np.testing.assert_array_equal(three.train, (one.train[:, None] * 3 + range(3)).ravel())


def test_sliding_window_is_purged_too() -> None:
    dates, known_at = hourly(200, 6)
    for fold in PurgedWalkForward(4, embargo=2 * HOUR, max_train=30 * HOUR).split(dates, known_at):
        assert fold.train_start == fold.test_start - 32 * HOUR
        assert fold.train_end == fold.test_start - 3 * HOUR


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_unit_of_the_index_does_not_matter(unit: str) -> None:
    dates, known_at = hourly(60, 2)
    expected = PurgedKFold(3, HOUR).split(dates, known_at)
    for one, other in zip(
        expected, PurgedKFold(3, HOUR).split(dates.as_unit(unit), known_at), strict=True
    ):
        np.testing.assert_array_equal(one.train, other.train)
        assert one.test_start == other.test_start


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("timeseries", PurgedWalkForward(4, embargo=30 * pd.Timedelta("5min"))),
        ("purged_kfold", PurgedKFold(4, embargo=30 * pd.Timedelta("5min"))),
        ("cpcv", CombinatorialPurgedKFold(4, 2, embargo=30 * pd.Timedelta("5min"))),
    ],
)
def test_configuration_names_the_splitter(method: str, expected: Splitter) -> None:
    config = ModelConfig(cv_method=method, cv_folds=4, embargo_candles=30)
    assert make_splitter(config, pd.Timedelta("5min")) == expected


@pytest.mark.parametrize("method", ["timeseries", "purged_kfold", "cpcv"])
def test_two_folds_are_enough_for_each_method(method: str) -> None:
    splitter = make_splitter(ModelConfig(cv_method=method, cv_folds=2), HOUR)
    assert len(splitter.split(*hourly(500, 5))) == 2


@settings(max_examples=100, deadline=None)
@given(
    pooled_rows(), st.sampled_from([(0.7, 0.15, 0.15), (0.5, 0.5), (1.0,), (0.6, 0.3, 0.05, 0.05)])
)
def test_slices_are_chronological_and_purged(rows, fractions) -> None:
    dates, known_at = rows
    try:
        slices = tail_slices(dates, known_at, fractions)
    except TrainingError:
        return
    assert len(slices) == len(fractions)
    for earlier, later in pairwise(slices):
        assert known_at[earlier].max() < dates[later].min()
    rest = np.flatnonzero(dates >= dates[slices[-1]].min())
    np.testing.assert_array_equal(slices[-1], rest)


def test_slices_have_the_shares_asked_for() -> None:
    slices = tail_slices(*hourly(1000, 10), (0.7, 0.2, 0.1))
    assert [len(rows) for rows in slices] == [690, 190, 100]
    gapped = tail_slices(*hourly(1000, 10), (0.7, 0.2, 0.1), embargo=5 * HOUR)
    assert [len(rows) for rows in gapped] == [685, 185, 100]


@pytest.mark.parametrize("fractions", [(), (0.5, 0.4), (1.2, -0.2), (0.0, 1.0)])
def test_slices_refuse_shares_that_do_not_sum_to_one(fractions) -> None:
    with pytest.raises(ValueError, match="sum to 1"):
        tail_slices(*hourly(100, 1), fractions)


def test_slice_swallowed_by_the_purge_is_an_error() -> None:
    with pytest.raises(TrainingError, match="Slice 2 of 3"):
        tail_slices(*hourly(100, 20), (0.7, 0.15, 0.15))


@pytest.mark.parametrize(
    ("splitter", "n", "horizon", "message"),
    [
        (PurgedWalkForward(3), 0, 1, "no labelled rows"),
        (PurgedWalkForward(5), 4, 1, "more than 5 different dates, found 4"),
        (PurgedWalkForward(3), 60, 30, "Fold 1 has no training rows"),
        (PurgedKFold(2, embargo=90 * HOUR), 100, 60, "no training rows"),
        (CombinatorialPurgedKFold(3, 2), 30, 15, "no training rows"),
    ],
)
def test_too_little_data_is_a_clear_error(splitter, n, horizon, message) -> None:
    with pytest.raises(TrainingError, match=message):
        splitter.split(*hourly(n, horizon))


def test_period_that_falls_into_a_gap_is_a_clear_error() -> None:
    hours = np.r_[np.arange(50), np.arange(400, 450)]
    dates = pd.DatetimeIndex(START + pd.to_timedelta(hours, unit="h"))
    with pytest.raises(TrainingError, match="gaps"):
        PurgedKFold(5).split(dates, dates + HOUR)


def test_rows_without_a_known_label_are_refused() -> None:
    dates, known_at = hourly(50, 1)
    with pytest.raises(TrainingError, match="1 of 50 rows have no date or no known label"):
        PurgedKFold(3).split(dates, known_at.where(np.arange(50) != 7))


def test_labels_known_before_their_row_are_refused() -> None:
    dates, known_at = hourly(50, -1)
    with pytest.raises(TrainingError, match="known before the date"):
        PurgedKFold(3).split(dates, known_at)


@pytest.mark.parametrize(
    "build",
    [
        lambda: PurgedWalkForward(0),
        lambda: PurgedWalkForward(3, embargo=-HOUR),
        lambda: PurgedWalkForward(3, min_train_fraction=1.0),
        lambda: PurgedWalkForward(3, max_train=pd.Timedelta(0)),
        lambda: PurgedKFold(1),
        lambda: CombinatorialPurgedKFold(4, 4),
        lambda: CombinatorialPurgedKFold(4, 0),
        lambda: make_splitter(ModelConfig(), pd.Timedelta(0)),
    ],
)
def test_impossible_settings_are_refused(build) -> None:
    with pytest.raises(ValueError, match="must"):
        build()


def test_window_of_the_configuration_slides_in_candles() -> None:
    config = ModelConfig(cv_method="cpcv", cv_folds=4, embargo_candles=30, train_window_candles=100)
    candle = pd.Timedelta("5min")
    expected = PurgedWalkForward(4, embargo=30 * candle, max_train=100 * candle)
    assert walk_forward(config, candle) == expected
    assert make_splitter(config.model_copy(update={"cv_method": "timeseries"}), candle) == expected


@settings(max_examples=60, deadline=None)
@given(pooled_rows(), st.integers(10, 60))
def test_sliding_window_is_the_expanding_one_cut_by_time_for_every_pair(rows, hours) -> None:
    dates, known_at = rows
    sliding = split_or_none(PurgedWalkForward(3, max_train=hours * HOUR), dates, known_at)
    expanding = split_or_none(PurgedWalkForward(3), dates, known_at)
    assume(sliding is not None and expanding is not None)
    for cut, whole in zip(sliding, expanding, strict=True):
        young = dates[whole.train] >= whole.test_start - hours * HOUR
        np.testing.assert_array_equal(cut.train, whole.train[young])
        np.testing.assert_array_equal(cut.test, whole.test)
