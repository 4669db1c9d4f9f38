"""Which columns of a training slice are worth keeping."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binom

from freqtrade_mlpipe.config import ModelConfig
from freqtrade_mlpipe.models import FitData, FittedModel

Fit = Callable[[FitData], FittedModel]
Matrix = NDArray[np.float32]

_ALPHA = 0.05


def select_columns(
    names: Sequence[str], data: FitData, config: ModelConfig, fit: Fit, *, block: int
) -> list[str]:
    """Names that a model finds worth keeping, in their order.

    With `shadow_rounds`, columns that do not beat shuffled copies go first. Of the rest, those that
    no tree splits on go with those whose share of the gain is below `min_feature_importance`, and
    all beyond the best `max_features`. The best column always stays. A model without any split
    ranks nothing: then only `max_features` applies.

    Parameters
    ----------
    names : sequence of str
        Of the columns of `data.X`.
    data : FitData
        Fit rows, and the stop rows that choose the number of trees of the ranking model.
    config : ModelConfig
    fit : callable
        Fits the ranking model.
    block : int
        Length of the blocks of rows that shuffled copies are made of.
    """
    gain = pd.Series(fit(data).importance(), index=list(names))
    if config.shadow_rounds:
        hits = shadow_hits(data, fit, config.shadow_rounds, block=block, seed=config.random_state)
        passed = hits >= hits_needed(config.shadow_rounds)
        gain = gain[passed] if passed.any() else gain[[names[int(np.lexsort((gain, hits))[-1])]]]
    ranked = gain.sort_values(ascending=False, kind="stable")
    if ranked.iloc[0] > 0:
        enough = ranked[(ranked > 0) & (ranked >= config.min_feature_importance)]
        ranked = enough if len(enough) else ranked.iloc[:1]
    chosen = set(ranked.index[: config.max_features])
    return [name for name in names if name in chosen]


def shadow_hits(
    data: FitData, fit: Fit, n_rounds: int, *, block: int, seed: int
) -> NDArray[np.int64]:
    """In how many rounds each column gains more than the best of all shuffled copies, shape (n_features,).

    A round adds a copy of every column, shuffled in blocks of rows: a slow column keeps its memory,
    which alone lets a model find gain in it, but knows nothing of the label. All copies are shuffled
    alike, so that they are as correlated as the columns are.

    Notes
    -----
    Kursa & Rudnicki (2010), Feature Selection with the Boruta Package, without its iterations: one
    round of elimination, on whatever model is trained.
    """
    n_columns = data.X.shape[1]
    doubled = _doubled(data)
    hits = np.zeros(n_columns, dtype=np.int64)
    for number in range(n_rounds):
        rng = np.random.default_rng([seed, number])
        for own, wide in ((data.X, doubled.X), (data.X_stop, doubled.X_stop)):
            if own is not None and wide is not None:
                wide[:, n_columns:] = own[shuffled_blocks(len(own), block, rng)]
        gain = fit(replace(doubled, native={})).importance()
        hits += gain[:n_columns] > gain[n_columns:].max()
    return hits


def hits_needed(n_rounds: int) -> int:
    """Fewest hits that a coin would not reach: a one-sided binomial test at 5 %.

    Examples
    --------
    >>> hits_needed(5), hits_needed(10), hits_needed(20)
    (5, 9, 15)
    """
    return int(binom.isf(_ALPHA, n_rounds, 0.5)) + 1


def shuffled_blocks(n: int, block: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Positions 0 … n-1 with blocks of neighbours in a random order, beginning at a random offset."""
    cuts = np.arange(int(rng.integers(1, block + 1)), n, block)
    parts = np.split(np.arange(n), cuts)
    return np.concatenate([parts[k] for k in rng.permutation(len(parts))])


def _doubled(data: FitData) -> FitData:
    """The same with room for a copy of every column."""

    def wide(X: Matrix) -> Matrix:
        room = np.empty((X.shape[0], 2 * X.shape[1]), dtype=np.float32)
        room[:, : X.shape[1]] = X
        return room

    constraint = data.monotone
    return replace(
        data,
        X=wide(data.X),
        X_stop=None if data.X_stop is None else wide(data.X_stop),
        monotone=None if constraint is None else (*constraint, *[0] * len(constraint)),
        native={},
    )
