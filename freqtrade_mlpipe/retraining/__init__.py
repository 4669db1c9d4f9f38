"""A search over whole configurations: features, labels, estimator, thresholds; each epoch judged out of sample."""

from freqtrade_mlpipe.retraining.epochs import MAX_LOSS, Epoch, EpochLog, Judgement
from freqtrade_mlpipe.retraining.objective import MetricObjective, Objective
from freqtrade_mlpipe.retraining.rehearsal import Rehearsal, Rehearsed
from freqtrade_mlpipe.retraining.search import Plan, Proposals, search
from freqtrade_mlpipe.retraining.spaces import (
    SPACES,
    SearchSpace,
    by_space,
    configured,
    named_spaces,
)

__all__ = [
    "MAX_LOSS",
    "SPACES",
    "Epoch",
    "EpochLog",
    "Judgement",
    "MetricObjective",
    "Objective",
    "Plan",
    "Proposals",
    "Rehearsal",
    "Rehearsed",
    "SearchSpace",
    "by_space",
    "configured",
    "named_spaces",
    "search",
]
