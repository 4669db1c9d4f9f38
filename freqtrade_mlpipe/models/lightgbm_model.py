"""LightGBM through its native interface: text files, one thread, deterministic."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from freqtrade_mlpipe.config import N_OUTPUTS, Task
from freqtrade_mlpipe.exceptions import BundleError
from freqtrade_mlpipe.models.lightgbm_text import check_lightgbm_text
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

if TYPE_CHECKING:
    import lightgbm as lgb

# Settings of the binned data set: they cannot differ between fits on one data set.
_DATASET = {
    "max_bin": 63,
    # Bins need no more rows than this; sorting all of them took a third of an untuned fit.
    "bin_construct_sample_cnt": 10_000,
    "feature_pre_filter": False,
    "verbosity": -1,
    "num_threads": 1,
}
_FORCED: dict[str, Any] = {
    "deterministic": True,
    "force_col_wise": True,
    "bagging_freq": 1,
}
_TASK: Mapping[str, dict[str, Any]] = {
    "binary": {"objective": "binary", "metric": "binary_logloss"},
    "three_class": {"objective": "multiclass", "metric": "multi_logloss", "num_class": 3},
    "regression": {"objective": "regression", "metric": "l2"},
}
_OBJECTIVE = re.compile(r"^objective=(\w+)", re.MULTILINE)
_PER_ROUND = re.compile(r"^num_tree_per_iteration=(\d+)$", re.MULTILINE)
_LAST_FEATURE = re.compile(r"^max_feature_idx=(\d+)$", re.MULTILINE)
_TASK_OF: Mapping[str, Task] = {
    "binary": "binary", "multiclass": "three_class", "regression": "regression"
}  # fmt: skip


class LightGBMModel:
    """A booster cut to the rounds it keeps."""

    _trained: lgb.Booster | None = None

    def __init__(self, text: str) -> None:
        self._text = text
        objective = _OBJECTIVE.search(text)
        name = "none" if objective is None else objective[1]
        if name not in _TASK_OF or _number(_PER_ROUND, text) != N_OUTPUTS[_TASK_OF[name]]:
            raise BundleError(
                f"The LightGBM model has the objective {name}, which is none of ours."
            )
        self._task = _TASK_OF[name]

    @classmethod
    def trained(cls, booster: lgb.Booster, task: Task) -> LightGBMModel:
        """Of a booster that was just trained; its text is written when it is first asked for.

        The fit that finds the number of rounds is asked for nothing else.
        """
        model = cls.__new__(cls)
        model._task, model._trained = task, booster
        return model

    @cached_property
    def _text(self) -> str:
        booster, self._trained = self._trained, None
        assert booster is not None
        return str(booster.model_to_string(num_iteration=booster.best_iteration))

    @cached_property
    def _booster(self) -> lgb.Booster:
        import lightgbm as lgb

        return lgb.Booster(model_str=self._text)

    @property
    def n_features(self) -> int:
        """Number of columns."""
        return _number(_LAST_FEATURE, self._text) + 1

    @property
    def n_rounds(self) -> int:
        """Number of rounds, each one tree or one a class."""
        if self._trained is None:
            return self._text.count("\nTree=") // N_OUTPUTS[self._task]
        n_rounds = int(self._trained.current_iteration())
        return min(n_rounds, self._trained.best_iteration or n_rounds)

    @property
    def task(self) -> Task:
        """What it was fitted for."""
        return self._task

    def predict_proba(self, X: Matrix) -> Vector:
        """Probability of class 1, shape (n,), or of each class, shape (n, 3), or values, shape (n,)."""
        if len(X) == 0:
            return np.empty((0, 3) if self._task == "three_class" else 0)
        return np.asarray(self._booster.predict(X, num_threads=1), dtype=np.float64)

    def importance(self) -> Vector:
        """Share of the total gain, shape (n_features,)."""
        return normalised(self._booster.feature_importance(importance_type="gain"))

    def contributions(self, X: Matrix) -> Vector:
        """What each column adds to each row's log-odds, shape (n, n_features), or (n, 3, n_features)."""
        terms = self._booster.predict(X, pred_contrib=True, num_threads=1)
        by_output = np.asarray(terms, dtype=np.float64).reshape(
            len(X), N_OUTPUTS[self._task], self.n_features + 1
        )
        columns = by_output[:, :, :-1]
        return columns if self._task == "three_class" else columns[:, 0]

    def to_bytes(self) -> bytes:
        """The text file."""
        return self._text.encode()


def _number(pattern: re.Pattern[str], text: str) -> int:
    found = pattern.search(text)
    if found is None:
        raise BundleError(f"The LightGBM model has no line {pattern.pattern}.")
    return int(found[1])


def _train(params: Mapping[str, Any], data: FitData, seed: int, patience: int) -> FittedModel:
    import lightgbm as lgb

    settings = dict(params)
    rounds = int(settings.pop("n_estimators"))
    leaf = float(settings.pop("min_leaf_fraction"))
    settings.setdefault("min_data_in_leaf", max(5, round(leaf * len(data.y))))
    settings |= (
        _FORCED
        | _TASK[data.task]
        | _DATASET
        | {"max_bin": settings.get("max_bin", 63), "seed": seed}
    )
    if data.monotone is not None:
        settings["monotone_constraints"] = list(data.monotone)
    train, stop = _datasets(data, int(settings["max_bin"]))
    try:
        booster = _boost(settings, rounds, train, stop, patience)
    except lgb.basic.LightGBMError as error:
        raise ValueError(str(error)) from error
    return LightGBMModel.trained(booster, data.task)


def _boost(
    settings: Mapping[str, Any], rounds: int, train: Any, stop: Any | None, patience: int
) -> Any:
    import lightgbm as lgb

    return lgb.train(
        dict(settings),
        train,
        num_boost_round=rounds,
        valid_sets=None if stop is None else [stop],
        callbacks=[] if stop is None else [lgb.early_stopping(patience, verbose=False)],
        keep_training_booster=True,
    )


def _datasets(data: FitData, max_bin: int) -> tuple[Any, Any | None]:
    key = f"lightgbm_{max_bin}"
    if key not in data.native:
        import lightgbm as lgb

        settings = _DATASET | {"max_bin": max_bin}
        train = lgb.Dataset(
            data.X, class_numbers(data.y, data.task), weight=data.weight, params=settings
        ).construct()
        stop = None
        if data.X_stop is not None:
            y_stop = None if data.y_stop is None else class_numbers(data.y_stop, data.task)
            stop = train.create_valid(
                data.X_stop, y_stop, weight=data.weight_stop, params=settings
            ).construct()
        data.native[key] = (train, stop)
    pair: tuple[Any, Any | None] = data.native[key]
    return pair


def _load(data: bytes) -> FittedModel:
    import lightgbm as lgb

    check_lightgbm_text(data)
    try:
        model = LightGBMModel(data.decode())
        _ = model._booster
        return model
    except (lgb.basic.LightGBMError, UnicodeDecodeError) as error:
        raise BundleError(f"The LightGBM model file cannot be read: {error}") from error


SPEC = ModelSpec(
    name="lightgbm",
    file_suffix=".txt",
    stops_early=True,
    defaults={
        "n_estimators": 500,
        "learning_rate": 0.1,
        "num_leaves": 8,
        "min_leaf_fraction": 0.01,
        "feature_fraction": 0.5,
        "bagging_fraction": 0.6,
        "lambda_l2": 5.0,
    },
    space={
        "learning_rate": SearchRange(0.06, 0.2, log=True),
        "num_leaves": SearchRange(3, 24, log=True, integer=True),
        "min_leaf_fraction": SearchRange(0.002, 0.05, log=True),
        "feature_fraction": SearchRange(0.2, 0.7),
        "bagging_fraction": SearchRange(0.3, 0.8),
        "lambda_l2": SearchRange(0.1, 100.0, log=True),
    },
    other_parameters=frozenset(
        {
            "max_bin",
            "max_depth",
            "min_data_in_leaf",
            "min_sum_hessian_in_leaf",
            "min_gain_to_split",
            "feature_fraction_bynode",
            "lambda_l1",
            "path_smooth",
            "extra_trees",
            "boosting",
            "max_delta_step",
        }
    ),
    train=_train,
    load_native=_load,
)
