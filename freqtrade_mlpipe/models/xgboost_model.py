"""XGBoost through its native interface: UBJSON files, histogram trees, one thread."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from freqtrade_mlpipe.config import N_OUTPUTS, Task
from freqtrade_mlpipe.exceptions import BundleError
from freqtrade_mlpipe.models.spec import (
    FitData,
    FittedModel,
    Matrix,
    ModelSpec,
    SearchRange,
    Vector,
    class_numbers,
    normalised,
)
from freqtrade_mlpipe.models.xgboost_ubj import check_xgboost_ubj

_FORCED: dict[str, Any] = {
    "tree_method": "hist",
    "device": "cpu",
    "nthread": 1,
    "verbosity": 0,
}
_TASK: Mapping[str, dict[str, Any]] = {
    "binary": {"objective": "binary:logistic", "eval_metric": "logloss"},
    "three_class": {"objective": "multi:softprob", "eval_metric": "mlogloss", "num_class": 3},
    "regression": {"objective": "reg:squarederror", "eval_metric": "rmse"},
}
_TASK_OF: Mapping[str, Task] = {
    "binary:logistic": "binary",
    "multi:softprob": "three_class",
    "reg:squarederror": "regression",
}
_HESSIAN = {"binary": 0.25, "three_class": 4 / 9, "regression": 1.0}
"""Of a row before the first tree, classes in balance; XGBoost doubles that of `multi:softprob`."""


class XGBoostModel:
    """A booster cut to the rounds it keeps."""

    def __init__(self, raw: bytes) -> None:
        import xgboost as xgb

        self._raw = raw
        self._booster = xgb.Booster(params={"nthread": 1})
        self._booster.load_model(bytearray(raw))
        learner = json.loads(self._booster.save_config())["learner"]
        objective = learner["objective"]["name"]
        n_outputs = max(1, int(learner["learner_model_param"]["num_class"]))
        if objective not in _TASK_OF or n_outputs != N_OUTPUTS[_TASK_OF[objective]]:
            raise BundleError(
                f"The XGBoost model has the objective {objective} and {n_outputs} outputs, which is none of ours."
            )
        self._task = _TASK_OF[objective]

    @property
    def n_features(self) -> int:
        """Number of columns."""
        return int(self._booster.num_features())

    @property
    def n_rounds(self) -> int:
        """Number of rounds, each one tree or one a class."""
        return int(self._booster.num_boosted_rounds())

    @property
    def task(self) -> Task:
        """What it was fitted for."""
        return self._task

    def predict_proba(self, X: Matrix) -> Vector:
        """Probability of class 1, shape (n,), or of each class, shape (n, 3), or values, shape (n,)."""
        if len(X) == 0:
            return np.empty((0, 3) if self._task == "three_class" else 0)
        return np.asarray(self._booster.inplace_predict(X), dtype=np.float64)

    def importance(self) -> Vector:
        """Share of the total gain, shape (n_features,)."""
        gain = np.zeros(self.n_features)
        for name, value in self._booster.get_score(importance_type="total_gain").items():
            gain[int(name.removeprefix("f"))] = value
        return normalised(gain)

    def contributions(self, X: Matrix) -> Vector:
        """What each column adds to each row's log-odds, shape (n, n_features), or (n, 3, n_features)."""
        import xgboost as xgb

        terms = self._booster.predict(xgb.DMatrix(X, nthread=1), pred_contribs=True)
        return np.asarray(terms, dtype=np.float64)[..., :-1]

    def to_bytes(self) -> bytes:
        """The UBJSON file."""
        return self._raw


def _train(params: Mapping[str, Any], data: FitData, seed: int, patience: int) -> FittedModel:
    import xgboost as xgb

    settings = dict(params)
    rounds = int(settings.pop("n_estimators"))
    leaf = float(settings.pop("min_leaf_fraction"))
    settings.setdefault("min_child_weight", max(1.0, leaf * _HESSIAN[data.task] * len(data.y)))
    settings |= _FORCED | _TASK[data.task] | {"seed": seed, "max_bin": settings.get("max_bin", 64)}
    if data.monotone is not None:
        settings["monotone_constraints"] = data.monotone
    train, stop = _matrices(data, int(settings["max_bin"]))
    booster = xgb.train(
        settings,
        train,
        num_boost_round=rounds,
        evals=[] if stop is None else [(stop, "stop")],
        early_stopping_rounds=None if stop is None else patience,
        verbose_eval=False,
    )
    if stop is not None:
        booster = booster[: booster.best_iteration + 1]
        booster.set_attr(best_iteration=None, best_score=None)
    return XGBoostModel(bytes(booster.save_raw(raw_format="ubj")))


def _matrices(data: FitData, max_bin: int) -> tuple[Any, Any | None]:
    key = f"xgboost_{max_bin}"
    if key not in data.native:
        import xgboost as xgb

        train = xgb.QuantileDMatrix(
            data.X, class_numbers(data.y, data.task), weight=data.weight, max_bin=max_bin, nthread=1
        )
        stop = None
        if data.X_stop is not None:
            stop = xgb.QuantileDMatrix(
                data.X_stop,
                None if data.y_stop is None else class_numbers(data.y_stop, data.task),
                weight=data.weight_stop,
                ref=train,
                max_bin=max_bin,
                nthread=1,
            )
        data.native[key] = (train, stop)
    pair: tuple[Any, Any | None] = data.native[key]
    return pair


def _load(data: bytes) -> FittedModel:
    import xgboost as xgb

    check_xgboost_ubj(data)
    try:
        return XGBoostModel(data)
    except xgb.core.XGBoostError as error:
        raise BundleError(f"The XGBoost model file cannot be read: {error}") from error


SPEC = ModelSpec(
    name="xgboost",
    file_suffix=".ubj",
    stops_early=True,
    defaults={
        "n_estimators": 500,
        "learning_rate": 0.1,
        "max_depth": 3,
        "min_leaf_fraction": 0.01,
        "colsample_bytree": 0.5,
        "subsample": 0.6,
        "reg_lambda": 5.0,
    },
    space={
        "learning_rate": SearchRange(0.06, 0.2, log=True),
        "max_depth": SearchRange(2, 5, integer=True),
        "min_leaf_fraction": SearchRange(0.002, 0.05, log=True),
        "colsample_bytree": SearchRange(0.2, 0.7),
        "subsample": SearchRange(0.3, 0.8),
        "reg_lambda": SearchRange(0.1, 100.0, log=True),
    },
    other_parameters=frozenset(
        {
            "max_bin",
            "max_leaves",
            "grow_policy",
            "min_child_weight",
            "gamma",
            "colsample_bylevel",
            "colsample_bynode",
            "reg_alpha",
            "max_delta_step",
        }
    ),
    train=_train,
    load_native=_load,
)
