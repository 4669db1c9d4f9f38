"""Labels of one pair: what is predicted, when it is known, its weight and forward return."""

from freqtrade_mlpipe.labels.make import Labels, make_labels
from freqtrade_mlpipe.labels.outcomes import held_return
from freqtrade_mlpipe.labels.weights import (
    NEVER,
    OPEN,
    average_uniqueness,
    concurrency,
    return_attribution,
)

__all__ = [
    "NEVER",
    "OPEN",
    "Labels",
    "average_uniqueness",
    "concurrency",
    "held_return",
    "make_labels",
    "return_attribution",
]
