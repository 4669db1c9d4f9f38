"""Scores, baselines, bootstrap inference, Sharpe statistics and net-of-fee trading measures."""

from freqtrade_mlpipe.metrics.baselines import baseline_log_losses, last_known_outcome
from freqtrade_mlpipe.metrics.bootstrap import (
    BLOCK_HORIZONS,
    automatic_block_length,
    block_bootstrap_interval,
    block_bootstrap_means,
    block_bootstrap_p_value,
)
from freqtrade_mlpipe.metrics.classes import class_log_losses, three_class_scores
from freqtrade_mlpipe.metrics.intervals import (
    Difference,
    Estimate,
    paired_difference,
    score_intervals,
    value_intervals,
)
from freqtrade_mlpipe.metrics.overfitting import probability_of_backtest_overfitting
from freqtrade_mlpipe.metrics.scores import (
    classification_scores,
    expected_calibration_error,
    log_losses,
    roc_auc,
)
from freqtrade_mlpipe.metrics.sharpe import (
    ReturnMoments,
    deflated_sharpe_ratio,
    expected_maximum_sharpe,
    probabilistic_sharpe_ratio,
    return_moments,
    sharpe_ratio,
)
from freqtrade_mlpipe.metrics.tasks import (
    ANSWER_COLUMNS,
    LOSS_METRICS,
    answers_of,
    losses_of,
    task_intervals,
)
from freqtrade_mlpipe.metrics.thresholds import ThresholdChoice, choose_threshold
from freqtrade_mlpipe.metrics.trading import expected_profit, strategy_returns, trades_taken
from freqtrade_mlpipe.metrics.values import value_scores

__all__ = [
    "ANSWER_COLUMNS",
    "BLOCK_HORIZONS",
    "LOSS_METRICS",
    "Difference",
    "Estimate",
    "ReturnMoments",
    "ThresholdChoice",
    "answers_of",
    "automatic_block_length",
    "baseline_log_losses",
    "block_bootstrap_interval",
    "block_bootstrap_means",
    "block_bootstrap_p_value",
    "choose_threshold",
    "class_log_losses",
    "classification_scores",
    "deflated_sharpe_ratio",
    "expected_calibration_error",
    "expected_maximum_sharpe",
    "expected_profit",
    "last_known_outcome",
    "log_losses",
    "losses_of",
    "paired_difference",
    "probabilistic_sharpe_ratio",
    "probability_of_backtest_overfitting",
    "return_moments",
    "roc_auc",
    "score_intervals",
    "sharpe_ratio",
    "strategy_returns",
    "task_intervals",
    "three_class_scores",
    "trades_taken",
    "value_intervals",
    "value_scores",
]
