from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from freqtrade_mlpipe.features.quantiles import quantiles_of_sorted, sort_in_place
from freqtrade_mlpipe.registry.baseline import drift_baseline

SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
blocks = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12),
    elements=st.floats(-1e6, 1e6, width=32) | st.sampled_from([np.nan, 0.0, 1.0]),
)


@settings(deadline=None, max_examples=50)
@given(blocks)
def test_quantiles_are_numpys_to_the_bit_where_values_are_missing_too(block):
    columns = block.T.copy()
    counts = sort_in_place(columns)
    found = quantiles_of_sorted(columns, counts, SHARES)
    for column, count, row in zip(block.T, counts, found, strict=True):
        values = column[~np.isnan(column)].astype(np.float64)
        assert count == len(values)
        expected = np.quantile(values, SHARES) if len(values) else np.full(len(SHARES), np.nan)
        np.testing.assert_array_equal(row, expected)


@settings(deadline=None, max_examples=50)
@given(blocks)
def test_drift_baseline_counts_the_finite_values_between_quantiles(block):
    X = pd.DataFrame(block, columns=[f"f{k}" for k in range(block.shape[1])])
    baseline = drift_baseline(X, n_bins=4)
    for name, found in baseline["features"].items():
        values = X[name].dropna().to_numpy(np.float64)
        assert found["missing"] == 1 - len(values) / len(X)
        if not len(values):
            assert found["edges"] == found["frequencies"] == []
            continue
        edges = np.unique(np.quantile(values, [0.25, 0.5, 0.75]))
        np.testing.assert_array_equal(found["edges"], edges)
        bins = pd.cut(values, [-np.inf, *edges, np.inf], labels=False)
        expected = np.bincount(bins, minlength=len(edges) + 1) / len(values)
        np.testing.assert_array_equal(found["frequencies"], expected)
