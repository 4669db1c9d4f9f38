"""The rolling kernels against naive loops, and their independence of where a frame starts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from freqtrade_mlpipe.features import _windows as windows

VALUES = np.random.default_rng(0).normal(3.0, 1.0, 300)
SEED_WIDTH = (st.integers(0, 2**32 - 1), st.integers(1, 130))

KERNELS = {
    "rolling_sum": (windows.rolling_sum, np.sum),
    "rolling_mean": (windows.rolling_mean, np.mean),
    "rolling_variance": (windows.rolling_variance, np.var),
    "moments mean": (lambda x, n: windows.rolling_moments(x, n)[0], np.mean),
    "moments variance": (lambda x, n: windows.rolling_moments(x, n)[1], np.var),
    "rolling_max": (windows.rolling_max, np.max),
    "rolling_min": (windows.rolling_min, np.min),
    "rolling_drawdown": (windows.rolling_drawdown, lambda w: np.max(np.maximum.accumulate(w) - w)),
}


@pytest.mark.parametrize("kernel", KERNELS)
@settings(max_examples=25, deadline=None)
@given(seed=SEED_WIDTH[0], width=SEED_WIDTH[1])
def test_kernel_equals_a_loop_over_windows(kernel: str, seed: int, width: int) -> None:
    function, naive = KERNELS[kernel]
    values = np.random.default_rng(seed).normal(3.0, 1.0, 150)
    expected = [naive(window) for window in sliding_window_view(values, width)]
    found = function(values, width)
    assert np.isnan(found[: width - 1]).all()
    np.testing.assert_allclose(found[width - 1 :], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("width", [1, 2, 7, 14, 50, 64])
def test_kernel_is_bit_identical_wherever_the_frame_starts_or_ends(kernel: str, width: int) -> None:
    function, _ = KERNELS[kernel]
    whole, part = function(VALUES, width), function(VALUES[37:251], width)
    np.testing.assert_array_equal(part[width - 1 :], whole[37 + width - 1 : 251])


@pytest.mark.parametrize("kernel", KERNELS)
def test_kernel_on_too_few_rows_is_all_nan(kernel: str) -> None:
    function, _ = KERNELS[kernel]
    assert np.isnan(function(VALUES[:5], 6)).all()


def test_moments_of_a_high_level_keep_their_digits() -> None:
    noise = np.random.default_rng(1).normal(0, 1e-3, 200)
    variance = windows.rolling_moments(60_000.0 + noise, 50)[1]
    expected = [np.var(window) for window in sliding_window_view(noise, 50)]
    np.testing.assert_allclose(variance[49:], expected, rtol=1e-6)


def test_flat_window_has_no_variance_after_a_spike() -> None:
    values = np.concatenate([[0.1, 1e9, 0.3], np.full(60, 0.1)])
    assert (windows.rolling_moments(values, 20)[1][25:] == 0).all()
    assert (windows.rolling_variance(values, 20)[25:] == 0).all()


def test_rank_counts_ties_half() -> None:
    values = np.array([1.0, 2.0, 2.0, 3.0, 2.0])
    np.testing.assert_allclose(windows.rolling_rank(values, 3)[2:], [0.75, 1.0, 0.25])


def test_adaptive_average_equals_the_recursion() -> None:
    weight = np.random.default_rng(2).uniform(0.01, 0.5, len(VALUES))
    found = windows.adaptive_average(VALUES, weight, 37)
    for row in (37, 100, 299):
        average = VALUES[row - 37]
        for step in range(row - 36, row + 1):
            average += weight[step] * (VALUES[step] - average)
        assert found[row] == pytest.approx(average, rel=1e-12)


def test_weighted_slope_equals_least_squares() -> None:
    found = windows.rolling_weighted(VALUES, windows.slope_weights(14))
    expected = [
        np.polyfit(np.arange(14), window, 1)[0] for window in sliding_window_view(VALUES, 14)
    ]
    np.testing.assert_allclose(found[13:], expected, atol=1e-12)


def test_contrast_of_nothing_is_zero() -> None:
    zero, one = np.zeros(1), np.ones(1)
    assert windows.contrast(zero, zero) == 0
    assert windows.contrast(one, zero) == 1
    assert windows.contrast(zero, one) == -1
