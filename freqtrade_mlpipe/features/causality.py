"""The causality audit: no feature may change when later candles are taken away."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from freqtrade_mlpipe.exceptions import DataError

N_CUTS = 6
_TAIL = 32
_TOLERANCE = 1e-6


def audit_causality(
    compute: Callable[[pd.DataFrame], pd.DataFrame],
    candles: pd.DataFrame,
    *,
    startup_candles: int,
    seed: int,
    n_cuts: int = N_CUTS,
) -> list[str]:
    """Names of the features whose value at some candle depends on candles after it.

    Features are computed on the whole frame and again on frames that end early, at `n_cuts` random
    candles; the last rows before each cut must agree (relative 1e-6, NaN equal to NaN).

    Parameters
    ----------
    compute : candles → features, one row a candle.
    candles : one pair's candles, at least two more than `startup_candles`.
    startup_candles : warm-up of the features, in candles.
    seed : of the choice of cuts.

    Raises
    ------
    DataError
        When there are too few candles to take any away.

    Examples
    --------
    >>> candles = pd.DataFrame({"close": np.arange(100.0)})
    >>> audit_causality(
    ...     lambda df: pd.DataFrame({"past": df["close"].diff(), "future": df["close"].shift(-1)}),
    ...     candles, startup_candles=1, seed=0,
    ... )
    ['future']
    """
    if len(candles) < startup_candles + 2:
        raise DataError(
            f"Whether features look ahead cannot be told from {len(candles)} candles: "
            f"at least {startup_candles + 2} are needed."
        )
    whole = compute(candles.copy())
    rng = np.random.default_rng(seed)
    ends = np.unique(rng.integers(startup_candles + 1, len(candles), size=n_cuts))
    peeking: set[str] = set()
    for end in ends:
        early = compute(candles.iloc[:end].copy())
        rows = slice(max(startup_candles, end - _TAIL), end)
        peeking |= _differing(whole.iloc[rows], early.iloc[rows])
    ordered = [str(name) for name in whole.columns if name in peeking]
    return ordered + sorted(peeking.difference(ordered))


def _differing(a: pd.DataFrame, b: pd.DataFrame) -> set[str]:
    missing = set(a.columns).symmetric_difference(b.columns)
    common = [name for name in a.columns if name in b.columns]
    x, y = a[common].to_numpy(np.float64), b[common].to_numpy(np.float64)
    scale = np.maximum(np.abs(x), np.abs(y))
    with np.errstate(invalid="ignore"):
        same = (np.abs(x - y) <= _TOLERANCE * scale + 1e-12) | (np.isnan(x) & np.isnan(y))
    wrong = {name for name, column in zip(common, same.T, strict=True) if not column.all()}
    return wrong | missing
