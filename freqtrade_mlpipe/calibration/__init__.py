"""Maps from a model's raw scores to probabilities, fitted on a slice the model has not seen."""

from freqtrade_mlpipe.calibration.binary import (
    MARGIN,
    PRIOR_INTERCEPT_SD,
    PRIOR_LOG_SLOPE_SD,
    Calibrator,
    CalibratorKind,
    fit_calibrator,
)
from freqtrade_mlpipe.calibration.classes import ClassCalibrator, fit_class_calibrator
from freqtrade_mlpipe.calibration.values import ValueCalibrator, fit_value_calibrator

__all__ = [
    "MARGIN",
    "PRIOR_INTERCEPT_SD",
    "PRIOR_LOG_SLOPE_SD",
    "Calibrator",
    "CalibratorKind",
    "ClassCalibrator",
    "ValueCalibrator",
    "fit_calibrator",
    "fit_class_calibrator",
    "fit_value_calibrator",
]
