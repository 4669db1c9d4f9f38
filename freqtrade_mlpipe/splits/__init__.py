"""Splits by time that respect label intervals.

Rows are given by `dates` and `known_at` only; rows of several pairs that share a date always fall
on the same side. A label occupies the candles [date, known_at]. A training row may stand

- before a test block iff ``known_at < first test date`` (less the embargo in a walk-forward);
- after a test block iff ``date > last known_at of the block + embargo``.

Test rows are never purged.

References
----------
López de Prado (2018), Advances in Financial Machine Learning, chapters 7 and 12.
"""

from freqtrade_mlpipe.splits.factory import make_splitter, walk_forward
from freqtrade_mlpipe.splits.fold import Fold, Splitter
from freqtrade_mlpipe.splits.kfold import CombinatorialPurgedKFold, PurgedKFold
from freqtrade_mlpipe.splits.slices import slices_of, tail_slices
from freqtrade_mlpipe.splits.walk_forward import PurgedWalkForward

__all__ = [
    "CombinatorialPurgedKFold",
    "Fold",
    "PurgedKFold",
    "PurgedWalkForward",
    "Splitter",
    "make_splitter",
    "slices_of",
    "tail_slices",
    "walk_forward",
]
