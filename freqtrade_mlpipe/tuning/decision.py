"""From raw scores to decisions: calibration and thresholds, learned on the last part of a training slice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from freqtrade_mlpipe.calibration import (
    Calibrator,
    ClassCalibrator,
    ValueCalibrator,
    fit_calibrator,
    fit_class_calibrator,
    fit_value_calibrator,
)
from freqtrade_mlpipe.config import CLASSES, ModelConfig, Task
from freqtrade_mlpipe.member import SideThresholds, Thresholds
from freqtrade_mlpipe.tuning.data import Floats
from freqtrade_mlpipe.tuning.scoring import choose_thresholds

AnyCalibrator = Calibrator | ClassCalibrator | ValueCalibrator
AnyThresholds = Thresholds | SideThresholds


@dataclass(frozen=True, eq=False)
class DecisionSlice:
    """Rows that the model did not learn from, and what was known of those it did; arrays of shape (n,).

    The calibrator and the thresholds share these rows: a sigmoid has two parameters, so that thresholds chosen on the
    rows it was fitted on are hardly flattered by it. Nothing here depends on the model's parameters, and nothing that
    `decide` reads of the configuration changes the model: many settings can be tried on one fit.

    Attributes
    ----------
    y, weight : labels and sample weights.
    returns, shorts : gross returns of long and short trades; None without.
    class_weights : weight of each class in the fit, in ascending order.
    label_scale : what labels were divided by for the fit.
    seen : of `config.CLASSES`, which occurred in the fit.
    """

    y: Floats
    weight: Floats
    returns: Floats | None
    shorts: Floats | None
    round_trip_cost: float
    horizon_candles: int
    class_weights: Floats
    label_scale: float
    seen: tuple[bool, ...]
    task: Task

    def decide(self, raw: Floats, config: ModelConfig) -> tuple[AnyCalibrator, AnyThresholds]:
        """The calibrator and the thresholds for a model's raw scores of these rows."""
        calibrator = self._calibrator(raw, config)
        thresholds = choose_thresholds(
            calibrator.apply(raw),
            self.y,
            self.returns,
            round_trip_cost=self.round_trip_cost,
            horizon_candles=self.horizon_candles,
            short_return=self.shorts,
            task=self.task,
            n_errors=config.threshold_caution,
            max_fraction=config.threshold_max_share,
        )
        return calibrator, thresholds

    def _calibrator(self, raw: Floats, config: ModelConfig) -> AnyCalibrator:
        kind, rows = config.calibration, (raw, self.y, self.weight)
        n_effective = len(raw) / self.horizon_candles
        if self.task == "regression":
            return fit_value_calibrator(
                kind, *rows, n_effective=n_effective, scale=self.label_scale
            )
        if self.task == "three_class":
            return fit_class_calibrator(
                kind,
                *rows,
                n_effective=n_effective,
                class_weights=self.class_weights.tolist(),
                seen=list(self.seen),
            )
        offset = -float(np.log(self.class_weights[1] / self.class_weights[0]))
        return fit_calibrator(kind, *rows, n_effective=n_effective, offset=offset)


def seen_classes(y: Floats) -> tuple[bool, ...]:
    """Of `config.CLASSES`, which occur."""
    return tuple(bool((y == value).any()) for value in CLASSES)


def plain_decision(task: Task, label_scale: float) -> tuple[AnyCalibrator, AnyThresholds]:
    """Nothing learned: scores as they are (of a regression times `label_scale`), and thresholds in the middle.

    Those of a regression are 0, of two classes 0.5, of three 0.5 for each side.
    """
    if task == "regression":
        return ValueCalibrator(slope=label_scale), Thresholds(enter=0.0, exit=0.0)
    if task == "three_class":
        return ClassCalibrator((Calibrator(),) * len(CLASSES)), SideThresholds(long=0.5, short=0.5)
    return Calibrator(), Thresholds(enter=0.5, exit=0.5)
