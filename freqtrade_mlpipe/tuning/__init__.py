"""Hyperparameter search over purged folds, and the fit of one training slice."""

from freqtrade_mlpipe.tuning.data import Floats, Ints, TrainingData, row_totals, take_rows
from freqtrade_mlpipe.tuning.ordered import in_order, n_cores
from freqtrade_mlpipe.tuning.parameters import parameter_importance
from freqtrade_mlpipe.tuning.prepared import (
    Fitted,
    PreparedFold,
    PreparedSlice,
    Recipe,
    check_slice,
    fit_whole,
    prepare_fold,
    prepare_slice,
    slice_shares,
)
from freqtrade_mlpipe.tuning.scoring import NEEDS_RETURNS, portfolio_returns, traded_returns
from freqtrade_mlpipe.tuning.study import Progress, tune
from freqtrade_mlpipe.tuning.trials import Trial, TuningResult

__all__ = [
    "NEEDS_RETURNS",
    "Fitted",
    "Floats",
    "Ints",
    "PreparedFold",
    "PreparedSlice",
    "Progress",
    "Recipe",
    "TrainingData",
    "Trial",
    "TuningResult",
    "check_slice",
    "fit_whole",
    "in_order",
    "n_cores",
    "parameter_importance",
    "portfolio_returns",
    "prepare_fold",
    "prepare_slice",
    "row_totals",
    "slice_shares",
    "take_rows",
    "traded_returns",
    "tune",
]
