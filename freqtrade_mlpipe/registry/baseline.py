"""What the features looked like in training: the baseline that drift is measured against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from freqtrade_mlpipe.features.quantiles import quantiles_of_sorted, sorted_columns

BASELINE_FILE = "drift_baseline.json"
_LEAST_SHARE = 1e-4
_COLUMNS_AT_ONCE = 64


def drift_baseline(X: pd.DataFrame, n_bins: int = 10) -> dict[str, object]:
    """Quantile bins of each column, as plain JSON types.

    Parameters
    ----------
    X
        The training rows of the kept features, shape (rows, features). NaN is counted apart.
    n_bins
        Number of quantile bins; equal quantiles are merged, so a column may get fewer.

    Returns
    -------
    dict
        `n_rows`, and for each feature `edges` (inner edges, ascending), `frequencies` (one more
        than edges, of the finite values, sum 1; value v is in bin i when
        edges[i-1] < v <= edges[i]) and `missing` (share of NaN).

    Examples
    --------
    >>> baseline = drift_baseline(pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0]}), n_bins=2)
    >>> baseline["features"]["a"]["edges"]
    [1.5]
    """
    shares = np.linspace(0, 1, n_bins + 1)[1:-1]
    features: dict[str, object] = {}
    for start in range(0, X.shape[1], _COLUMNS_AT_ONCE):
        part = X.iloc[:, start : start + _COLUMNS_AT_ONCE]
        block = part.to_numpy(np.float32)
        columns, counts = sorted_columns(np.where(np.isfinite(block), block, np.nan))
        edges = quantiles_of_sorted(columns, counts, shares)
        for name, column, count, cuts in zip(part.columns, columns, counts, edges, strict=True):
            features[str(name)] = _bins(column[:count], len(X), cuts)
    return {"n_rows": len(X), "features": features}


def stability_index(baseline: Mapping[str, Any], X: pd.DataFrame) -> pd.Series[float]:
    """Population stability index of each feature of a baseline: how far its values have moved.

    The sum over the baseline's bins of (share now - share then) * ln(share now / share then), shares
    held above 0.0001. 0: the same distribution. It rises with autocorrelation and falls with the number
    of rows, so that no limit suits every feature: compare with what it was between stretches of the
    training data.

    Parameters
    ----------
    baseline
        What `drift_baseline` gave.
    X
        Rows with the baseline's features, shape (n, n_features); NaN does not count.

    Returns
    -------
    Series
        By feature, in the baseline's order; NaN where there is no finite value.
    """
    found = {}
    for name, then in baseline["features"].items():
        values = X[name].to_numpy(np.float64)
        values = values[np.isfinite(values)]
        expected = np.asarray(then["frequencies"], dtype=np.float64)
        if not len(values) or not len(expected):
            found[str(name)] = float("nan")
            continue
        bins = np.searchsorted(np.asarray(then["edges"]), values, side="left")
        shares = np.bincount(bins, minlength=len(expected)) / len(values)
        now, before = np.maximum(shares, _LEAST_SHARE), np.maximum(expected, _LEAST_SHARE)
        found[str(name)] = float(((now - before) * np.log(now / before)).sum())
    return pd.Series(found, dtype=np.float64)


def _bins(ordered: np.ndarray, n_rows: int, edges: np.ndarray) -> dict[str, object]:
    """Bins of a column's finite values in ascending order."""
    missing = 1.0 - len(ordered) / n_rows if n_rows else 1.0
    if not len(ordered):
        return {"edges": [], "frequencies": [], "missing": missing}
    edges = edges[np.r_[True, edges[1:] > edges[:-1]]]
    below = np.searchsorted(ordered.astype(np.float64), edges, side="right")
    counts = np.diff(below, prepend=0, append=len(ordered))
    return {
        "edges": edges.tolist(),
        "frequencies": (counts / len(ordered)).tolist(),
        "missing": missing,
    }
