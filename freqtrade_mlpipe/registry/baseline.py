"""What the features looked like in training: the baseline that drift is measured against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from freqtrade_mlpipe.features.quantiles import quantiles_of_sorted, sort_in_place

BASELINE_FILE = "drift_baseline.json"
_LEAST_SHARE = 1e-4
_COLUMNS_AT_ONCE = 64


def drift_baseline(
    X: pd.DataFrame, n_bins: int = 10, *, columns: Sequence[str] | None = None
) -> dict[str, object]:
    """Quantile bins of each column, as plain JSON types.

    Parameters
    ----------
    X
        The training rows of the kept features, shape (rows, features). NaN is counted apart.
    n_bins
        Number of quantile bins; equal quantiles are merged, so a column may get fewer.
    columns
        Names of the columns to describe; None: all.

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
    names = list(map(str, X.columns))
    wanted = names if columns is None else list(columns)
    place = {name: k for k, name in enumerate(names)}
    rows = X.to_numpy(np.float32).T
    features: dict[str, object] = {}
    for start in range(0, len(wanted), _COLUMNS_AT_ONCE):
        part = wanted[start : start + _COLUMNS_AT_ONCE]
        block = np.ascontiguousarray(rows[[place[name] for name in part]])
        block[np.isinf(block)] = np.nan
        counts = sort_in_place(block)
        features |= zip(part, _bins(block, counts, n_bins), strict=True)
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


def _bins(columns: np.ndarray, counts: np.ndarray, n_bins: int) -> list[dict[str, Any]]:
    """Bins of columns that `sort_in_place` sorted."""
    n_rows = columns.shape[1]
    shares = np.linspace(0, 1, n_bins + 1)[1:-1]
    edges = quantiles_of_sorted(columns, counts, shares)
    below = np.zeros((len(columns), n_bins + 1), dtype=np.int64)
    below[:, 1:-1] = _counts_up_to(columns, counts, edges, shares)
    below[:, -1] = counts
    frequencies = np.diff(below, axis=1) / np.maximum(counts, 1)[:, None]
    missing = 1.0 - counts / n_rows if n_rows else np.ones(len(columns))
    # Equal edges have nothing between them.
    first = np.ones(edges.shape, dtype=np.bool_)
    first[:, 1:] = edges[:, 1:] > edges[:, :-1]
    first[counts == 0] = False
    kept = np.c_[first, counts > 0]
    found = [
        {"edges": e, "frequencies": f, "missing": m}
        for e, f, m in zip(edges.tolist(), frequencies.tolist(), missing.tolist(), strict=True)
    ]
    for k in np.flatnonzero(~kept.all(axis=1)):
        found[k]["edges"] = edges[k, first[k]].tolist()
        found[k]["frequencies"] = frequencies[k, kept[k]].tolist()
    return found


def _counts_up_to(
    columns: np.ndarray, counts: np.ndarray, quantiles: np.ndarray, shares: np.ndarray
) -> np.ndarray:
    """How many numbers of each sorted column are at most each of its quantiles, shape (k, n_shares)."""
    if not columns.shape[1]:
        return np.zeros(quantiles.shape, dtype=np.int64)
    # A quantile lies between two neighbours, unless it is one of them or they are equal.
    found: np.ndarray = np.floor(np.maximum(counts - 1, 0)[:, None] * shares).astype(np.int64) + 1
    at_most = np.take_along_axis(columns, found - 1, axis=1) <= quantiles
    beyond = np.take_along_axis(columns, np.minimum(found, columns.shape[1] - 1), axis=1)
    exact = at_most & ((beyond > quantiles) | (found >= counts[:, None]))
    for k in np.flatnonzero(~exact.all(axis=1)):
        numbers = columns[k, : counts[k]].astype(np.float64)
        found[k] = numbers.searchsorted(quantiles[k], side="right")
    return found
