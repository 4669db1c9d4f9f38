"""From features and labels to a trained model with honest out-of-sample predictions."""

from freqtrade_mlpipe.trainer.evaluation import BASELINE_METRICS
from freqtrade_mlpipe.trainer.explanation import Explanation, explain
from freqtrade_mlpipe.trainer.report import TrainedModel, TrainingReport
from freqtrade_mlpipe.trainer.trainer import ModelTrainer

__all__ = [
    "BASELINE_METRICS",
    "Explanation",
    "ModelTrainer",
    "TrainedModel",
    "TrainingReport",
    "explain",
]
