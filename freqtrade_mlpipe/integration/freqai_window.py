"""One training window of FreqAI: its models, and what they predict."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from freqtrade_mlpipe.exceptions import TrainingError
from freqtrade_mlpipe.integration.freqai_evidence import judged_columns
from freqtrade_mlpipe.integration.freqai_outliers import OutlierGuard
from freqtrade_mlpipe.integration.freqai_rows import (
    Judged,
    Plan,
    WindowRows,
    guard_of,
    split_rows,
)
from freqtrade_mlpipe.integration.freqai_targets import Target
from freqtrade_mlpipe.member import Member, Signs
from freqtrade_mlpipe.metrics import LOSS_METRICS, losses_of
from freqtrade_mlpipe.models import MODELS, Parameters
from freqtrade_mlpipe.splits import slices_of, walk_forward
from freqtrade_mlpipe.trainer.evaluation import importance_of, scores_of
from freqtrade_mlpipe.trainer.inputs import Extras, check_inputs
from freqtrade_mlpipe.trainer.members import fit_member, fit_whole_member
from freqtrade_mlpipe.tuning import TrainingData, slice_shares, take_rows, tune

logger = logging.getLogger(__name__)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class WindowModel:
    """The models of one pair and window, one a target, and how they did.

    Attributes
    ----------
    statistics : mean and standard deviation of each numeric target over the training rows; 0 and 0 of classes.
    metrics : of the judged rows, by name; of several targets with the target's name before it.
    parameters : what each member was fitted with, by target.
    judged : `judged_columns` of a model with one target, until it is saved.
    """

    targets: tuple[Target, ...]
    members: tuple[Member, ...]
    feature_names: tuple[str, ...]
    horizon_candles: int
    statistics: Mapping[str, tuple[float, float]]
    metrics: Mapping[str, float] = field(default_factory=dict)
    parameters: Mapping[str, Parameters] = field(default_factory=dict)
    guard: OutlierGuard | None = None
    n_trials: int = 0
    judged: Mapping[str, Any] | None = None

    def predict(self, features: pd.DataFrame) -> tuple[pd.DataFrame, NDArray[np.int_], Floats]:
        """Prediction columns as FreqAI names them, `do_predict` (1 usable, 0 not) and dissimilarity indexes.

        A classifier gives the likeliest class under the target's name and a column of probabilities for each class.
        Rows without an answer are missing, not 0.
        """
        columns, usable, index = self.answers(features)
        return pd.DataFrame(columns), usable, index

    def answers(self, features: pd.DataFrame) -> tuple[dict[str, Any], NDArray[np.int_], Floats]:
        """As `predict`, the columns by name."""
        columns: dict[str, Any] = {}
        usable = np.ones(len(features), dtype=np.bool_)
        for target, member in zip(self.targets, self.members, strict=True):
            found = member.predict_proba(features)
            usable &= np.isfinite(found.reshape(len(found), -1)).all(axis=1)
            if target.task == "regression":
                columns[target.name] = found
                continue
            proba = target.class_probabilities(found)
            columns[target.name] = target.decided(proba)
            columns |= dict(zip(map(str, target.classes), proba.T, strict=True))
        index = np.zeros(len(features))
        if self.guard is not None:
            schema = features[list(self.feature_names)].to_numpy(np.float64)
            inside, index = self.guard.inspect(schema)
            usable &= inside
        return columns, usable.astype(np.int_), index

    def losses(self, judged: Judged) -> Floats:
        """Mean loss over the targets of each judged row, shape (n,)."""
        losses = [
            losses_of(
                target.task, judged.labels[target.name], member.predict_proba(judged.features)
            )
            for target, member in zip(self.targets, self.members, strict=True)
        ]
        return np.asarray(np.mean(losses, axis=0))

    def importance(self) -> pd.Series[float]:
        """Mean share of the gain of each feature."""
        shares = [importance_of(member, self.feature_names) for member in self.members]
        return pd.concat(shares, axis=1).mean(axis=1).rename("importance")


def train_window(rows: WindowRows, plan: Plan) -> tuple[WindowModel, Judged]:
    """Train on a window.

    The newest rows are set aside and judged on; training rows whose targets reach into them are left out. Early
    stopping, calibration and thresholds have slices of their own within the rest, purged likewise. Rows with a missing
    feature or target are not learned from.

    Raises
    ------
    TrainingError
        When the rows cannot be learned from.
    """
    split = split_rows(rows, plan)
    features, labels, numbers = split.features, split.labels, split.numbers
    guard = guard_of(split, plan)
    train, judge = split.kept_by(guard)
    parameters = plan.freqai["feature_parameters"]
    weight = _weights(len(features), float(parameters.get("weight_factor") or 0))
    members: list[Member] = []
    metrics: dict[str, float] = {}
    found: dict[str, Parameters] = {}
    n_trials, table = 0, None
    for target in rows.targets:
        data = check_inputs(
            features,
            numbers[target.name],
            Extras(
                known_at=split.known_at, weight=weight, candle=plan.candle,
                horizon_candles=rows.horizon_candles, task=target.task,
            ),
            label_candles=rows.horizon_candles,
        ).data  # fmt: skip
        # Nothing looks at the index from here on, and rows of a counted one are cut out much faster than of dates.
        data = replace(data, X=data.X.set_axis(pd.RangeIndex(len(data)), axis=0))
        member, params, tried = _fit(data, train, plan, rows.span)
        members.append(member)
        found[target.name] = params
        n_trials += tried
        prefix = f"{target.name} " if len(rows.targets) > 1 else ""
        if not len(judge):
            continue
        proba = member.predict_proba(take_rows(data.X, judge))
        position = member.thresholds.positions(proba)
        scores = _scores(data, judge, proba, position)
        metrics |= {f"{prefix}{k}": v for k, v in scores.items()}
        if split.forward is not None and len(rows.targets) == 1:
            table = judged_columns(data, (train, judge), proba, position, split.forward)
    metrics |= {"n_train_rows": len(train), "n_judged_rows": len(judge)}
    model = WindowModel(
        targets=rows.targets,
        members=tuple(members),
        feature_names=tuple(map(str, features.columns)),
        horizon_candles=rows.horizon_candles,
        statistics=_statistics(rows.targets, labels, train),
        metrics=metrics,
        parameters=found,
        guard=guard,
        n_trials=n_trials,
        judged=table,
    )
    return model, split.judged(judge)


def _weights(n: int, factor: float) -> Floats:
    """FreqAI's `set_weights_higher_recent`."""
    if factor <= 0:
        return np.ones(n)
    return np.asarray(np.exp(-np.arange(n) / (factor * n))[::-1])


def _fit(
    data: TrainingData, train: Ints, plan: Plan, span: tuple[pd.Timestamp, pd.Timestamp | None]
) -> tuple[Member, Parameters, int]:
    config = plan.recipe.model
    config.check_task(data.task)
    params: Parameters = {**MODELS[config.model_type].defaults, **config.parameters}
    n_trials = 0
    if config.optimize_hyperparams:
        seen = data.take(train)
        folds = walk_forward(config, data.candle).split(seen.dates, seen.known_at)
        tuned = tune(seen, folds, plan.recipe)
        params, n_trials = dict(tuned.best_params), len(tuned.trials)
    slices = plan.settings.stop_and_calibrate and _has_room(data, train, config.model_type)
    fit = fit_member if slices else fit_whole_member
    member = fit(data, train, plan.recipe, params, valid_from=span[0], valid_to=span[1])
    return member, params, n_trials


def _has_room(data: TrainingData, train: Ints, model_type: str) -> bool:
    """Whether slices for early stopping and calibration are longer than the targets look ahead; it is said if not."""
    try:
        date, known = (times[train] for times in data.nanoseconds)
        slices_of(date, known, slice_shares(model_type)[0])
    except TrainingError:
        logger.warning(
            "%d training rows are too few to keep some for early stopping and calibration, with a target that looks %d "
            "candles ahead: one fit on all of them, with as many trees as asked for. A longer train_period_days helps.",
            len(train), data.horizon_candles,
        )  # fmt: skip
        return False
    return True


def _scores(data: TrainingData, judge: Ints, proba: Floats, position: Signs) -> dict[str, float]:
    """Scores on the judged rows, and the loss by the name of the gate's metric."""
    scores = scores_of(data, judge, proba, position)
    loss = float(losses_of(data.task, data.y[judge], proba).mean())
    return {**scores, LOSS_METRICS[data.task]: loss}


def _statistics(
    targets: Sequence[Target], labels: pd.DataFrame, train: Ints
) -> dict[str, tuple[float, float]]:
    found: dict[str, tuple[float, float]] = {}
    for target in targets:
        if pd.api.types.is_numeric_dtype(labels[target.name].dtype):
            values = labels[target.name].to_numpy(np.float64)[train]
            found[target.name] = (float(values.mean()), float(values.std()))
        found |= {str(name): (0.0, 0.0) for name in target.classes}
    return found
