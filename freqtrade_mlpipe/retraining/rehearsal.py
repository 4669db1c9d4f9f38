"""A configuration rehearsed: trained and judged by walk-forward on candles that end where the final window begins.

Each step is kept by what it depends on, so that an epoch repeats only the steps whose settings it changes: features,
labels, preparation of the training slices, fits, and last calibration and thresholds.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from freqtrade_mlpipe.config import FeatureConfig, MLPipeConfig, ModelConfig, Section
from freqtrade_mlpipe.dataset import TrainingData as Market
from freqtrade_mlpipe.dataset import join_labels, pool_features, pool_labels, pool_rows
from freqtrade_mlpipe.member import Signs, answer_columns
from freqtrade_mlpipe.models import MODELS
from freqtrade_mlpipe.registry.selftest import ComputeFeatures
from freqtrade_mlpipe.retraining.shelf import Shelf
from freqtrade_mlpipe.splits import Fold, walk_forward
from freqtrade_mlpipe.trainer.inputs import Extras, check_inputs
from freqtrade_mlpipe.tuning import (
    Floats,
    PreparedFold,
    Recipe,
    TrainingData,
    prepare_fold,
)
from freqtrade_mlpipe.tuning.decision import AnyThresholds, DecisionSlice

_PREPARATION = frozenset(
    {"scale_features", "scaling_method", "remove_correlated", "correlation_threshold", "correlation_method"}
)  # fmt: skip
"""Settings of features that only matter inside training slices."""
_BUDGET = frozenset(
    {"optimize_hyperparams", "n_trials", "timeout_seconds", "pruner", "optimization_metric",
     "optimization_metrics", "n_jobs"}
)  # fmt: skip
_DECISION = frozenset({"calibration", "threshold_caution", "threshold_max_share"})
"""Settings of a model that are applied to finished fits."""


@dataclass(frozen=True, eq=False)
class _FoldFit:
    fold: Fold
    decision: DecisionSlice
    raw_calibrate: Floats
    raw_test: Floats


@dataclass(frozen=True, eq=False)
class FoldAnswer:
    """Out-of-sample answers of one fold: its rows, their calibrated probabilities, and the thresholds."""

    fold: Fold
    proba: Floats
    thresholds: AnyThresholds

    @property
    def position(self) -> Signs:
        """Trades: 1 long, -1 short, 0 none."""
        return self.thresholds.positions(self.proba)


@dataclass(frozen=True, eq=False)
class Rehearsed:
    """A configuration's out-of-sample answers.

    Attributes
    ----------
    config : what was rehearsed.
    data : labelled rows.
    answers : one a fold, in order of time.
    """

    config: MLPipeConfig
    data: TrainingData
    answers: tuple[FoldAnswer, ...]

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """Positions in `data` of all test rows."""
        return np.concatenate([answer.fold.test for answer in self.answers])

    @cached_property
    def position(self) -> Signs:
        """Trades of `rows`."""
        return np.concatenate([answer.position for answer in self.answers])

    def predictions(self) -> pd.DataFrame:
        """What the strategy mixin would have said, index (pair, date UTC): its prediction columns, all usable."""
        task, parts = self.data.task, []
        for answer in self.answers:
            rows, columns = answer.fold.test, answer_columns(answer.proba, answer.thresholds)
            part = {
                "mlpipe_proba": np.nan if task == "regression" else columns[:, 0],
                "mlpipe_edge": columns[:, 1],
                "mlpipe_signal": answer.thresholds.signals(answer.proba),
                "mlpipe_do_predict": np.int8(1),
            }
            if task == "regression":
                part["mlpipe_prediction"] = columns[:, 0]
            if task == "three_class":
                names = ("mlpipe_proba_short", "mlpipe_proba_flat", "mlpipe_edge_short")
                part |= dict(zip(names, columns[:, 2:].T, strict=True))
            index = pd.MultiIndex.from_arrays(
                [self.data.pairs[rows], self.data.dates[rows]], names=["pair", "date"]
            )
            parts.append(pd.DataFrame(part, index=index))
        return pd.concat(parts)


class Rehearsal:
    """Rehearses configurations on one market; not for several threads at once.

    Parameters
    ----------
    market : candles that end where the final window begins; its `startup_candles` are those of the longest warm-up,
        so that every configuration is judged on the same rows. Its `compute` is not used.
    compute_of : what computes a configuration's features.
    """

    def __init__(
        self, market: Market, compute_of: Callable[[FeatureConfig], ComputeFeatures]
    ) -> None:
        self.market = market
        self._compute_of = compute_of
        self.features = Shelf[pd.DataFrame](room=4)
        self.labels = Shelf[pd.DataFrame](room=16)
        self.rows = Shelf[TrainingData](room=2)
        self.slices = Shelf[list[PreparedFold]](room=2)
        self.fits = Shelf[list[_FoldFit]](room=32)

    def judged_from(self, config: ModelConfig) -> pd.Timestamp:
        """First candle date (UTC) that every configuration answers out of sample, whatever its labels."""
        dates = pd.DatetimeIndex(pool_rows(self.market).index.get_level_values("date"))
        folds = walk_forward(config, self.market.candle).split(dates, dates)
        return folds[0].test_start

    def rehearse(self, config: MLPipeConfig) -> Rehearsed:
        """Out-of-sample answers of a configuration.

        Raises
        ------
        MLPipeError
            When it cannot be learned from the candles.
        """
        with threadpool_limits(1):  # the same figures in one process and in many
            data = self._rows(config)
            fits = self._fits(config, data)
            return Rehearsed(config, data, tuple(_answer(fit, config) for fit in fits))

    def _rows(self, config: MLPipeConfig) -> TrainingData:
        features, labels = self._features_key(config), _key(config.labels)
        key = (features, labels, config.model.embargo_candles)
        return self.rows.get(key, lambda: self._make_rows(config, features, labels))

    def _features_key(self, config: MLPipeConfig) -> Hashable:
        return _key(config.features, _PREPARATION)

    def _make_rows(
        self, config: MLPipeConfig, features: Hashable, labels: Hashable
    ) -> TrainingData:
        market = replace(self.market, compute=self._compute_of(config.features))
        dataset = join_labels(
            self.features.get(features, lambda: pool_features(market, pool_rows(market))),
            self.labels.get(labels, lambda: pool_labels(market, config.labels)),
            config.labels,
        )
        extras = Extras(
            **dataset.extras(),
            candle=market.candle,
            horizon_candles=config.labels.horizon_candles,
            task=config.labels.task,
        )
        return check_inputs(
            dataset.X, dataset.y, extras, label_candles=config.model.embargo_candles
        ).data

    def _slices(self, config: MLPipeConfig, data: TrainingData) -> list[PreparedFold]:
        recipe = Recipe(config.model, config.features)
        folds = walk_forward(config.model, data.candle).split(data.dates, data.known_at)
        return [prepare_fold(data, recipe, fold) for fold in folds]

    def _fits(self, config: MLPipeConfig, data: TrainingData) -> list[_FoldFit]:
        slices = (
            _key(config.features),
            _key(config.labels),
            _key(config.model, _BUDGET | _DECISION | {"parameters"}),
        )
        spec = MODELS[config.model.model_type]
        params = {**spec.defaults, **spec.while_searching, **config.model.parameters}
        key = (*slices, tuple(sorted(params.items())))

        def fit() -> list[_FoldFit]:
            spec.check_parameters(config.model.parameters)
            tasks = self.slices.get(slices, lambda: self._slices(config, data))
            return [_fit(task, params) for task in tasks]

        return self.fits.get(key, fit)


def _fit(task: PreparedFold, params: dict[str, float | int | str | bool]) -> _FoldFit:
    model, prepared = task.prepared.fit_model(params), task.prepared
    return _FoldFit(
        task.fold,
        prepared.decision,
        model.predict_proba(prepared.X_calibrate),
        model.predict_proba(task.X_test),
    )


def _answer(fit: _FoldFit, config: MLPipeConfig) -> FoldAnswer:
    calibrator, thresholds = fit.decision.decide(fit.raw_calibrate, config.model)
    return FoldAnswer(fit.fold, calibrator.apply(fit.raw_test), thresholds)


def _key(section: Section, without: frozenset[str] = frozenset()) -> str:
    return section.model_dump_json(exclude=set(without))
