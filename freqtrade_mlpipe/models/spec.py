"""What every estimator must offer, and the checks they share."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from freqtrade_mlpipe.config import Task
from freqtrade_mlpipe.exceptions import BundleError, ConfigError, TrainingError

Parameters = dict[str, float | int | str | bool]
Matrix = NDArray[np.float32]
Vector = NDArray[np.float64]


class FittedModel(Protocol):
    """A fitted estimator that predicts on one thread and saves itself without pickle."""

    @property
    def n_features(self) -> int:
        """Number of columns `predict_proba` expects."""

    @property
    def n_rounds(self) -> int:
        """Number of trees kept."""

    @property
    def task(self) -> Task:
        """What it was fitted for."""

    def predict_proba(self, X: Matrix) -> Vector:
        """Probabilities of the rows of a finite C-contiguous matrix of shape (n, n_features).

        Of class 1, shape (n,); of three classes, shape (n, 3) in the order of `config.CLASSES`. A regressor gives its
        predicted values, shape (n,).
        """

    def importance(self) -> Vector:
        """Gain of each column, shape (n_features,), non-negative and summing to 1 (all 0 without splits)."""

    def contributions(self, X: Matrix) -> Vector | None:
        """What each column adds to each row's log-odds (exact TreeSHAP), shape (n, n_features).

        Of three classes what it adds to the scores before softmax, shape (n, 3, n_features) in the order of
        `config.CLASSES`; of a regression to the predicted value. None where the library does not compute it.
        """

    def to_bytes(self) -> bytes:
        """The native file; the same model gives the same bytes, and `ModelSpec.load` reads them back."""


@dataclass(frozen=True)
class SearchRange:
    """One searched parameter: a closed interval, on a log scale if `log`."""

    low: float
    high: float
    log: bool = False
    integer: bool = False

    def suggest(self, trial: Any, name: str) -> float | int:
        """Draw a value from an Optuna trial."""
        if self.integer:
            return int(trial.suggest_int(name, int(self.low), int(self.high), log=self.log))
        return float(trial.suggest_float(name, self.low, self.high, log=self.log))


@dataclass(frozen=True)
class FitData:
    """A training slice and, for early stopping, a later slice; matrices of shape (n, n_features).

    `y` holds the labels of the `task`: 0 and 1; `config.CLASSES`, of which one may be absent; or values of about unit
    variance (estimators ignore smaller gains than rounding explains).

    `monotone` holds for each column 1 (the probability of class 1, or the value, may only rise with it), -1 (only
    fall) or 0.
    `native` keeps what an estimator builds from the matrices once, for example a binned data set, so
    that many parameter sets can be fitted on it. One `FitData` must not be fitted from two threads at once.
    """

    X: Matrix
    y: Vector
    weight: Vector
    X_stop: Matrix | None = None
    y_stop: Vector | None = None
    weight_stop: Vector | None = None
    task: Task = "binary"
    monotone: tuple[int, ...] | None = None
    native: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        if np.unique(self.y).size < 2:
            raise TrainingError(
                f"The training slice has one class or value only ({len(self.y)} rows): lengthen the data or change "
                "the label."
            )


@dataclass(frozen=True)
class ModelSpec:
    """One estimator.

    Attributes
    ----------
    name
        The `model_type` of the configuration.
    file_suffix
        Of the native file, with the dot.
    stops_early
        Whether a stop slice is used to choose the number of trees.
    defaults
        Parameters of an untuned fit. `n_estimators` is the (largest) number of trees; `min_leaf_fraction`
        the smallest share of the rows a tree is grown on in a leaf, so that one value suits slices of any size.
    space
        What Optuna searches.
    other_parameters
        Further names that `ModelConfig.parameters` may set.
    train
        `(params, data, seed, early_stopping_rounds) -> FittedModel`.
    load_native
        `(data) -> FittedModel`, without the checks of `load`.
    while_searching
        Cheaper settings that rank parameters as well; the final fit takes the defaults again.
    kept_rounds
        `(model) -> parameters` under which a fit without a stop slice makes as many trees as the model kept.
    """

    name: str
    file_suffix: str
    stops_early: bool
    defaults: Mapping[str, float | int | str | bool]
    space: Mapping[str, SearchRange]
    other_parameters: frozenset[str]
    train: Callable[[Mapping[str, Any], FitData, int, int], FittedModel]
    load_native: Callable[[bytes], FittedModel]
    while_searching: Mapping[str, float | int | str | bool] = field(default_factory=dict)
    kept_rounds: Callable[[FittedModel], Parameters] = lambda model: {
        "n_estimators": model.n_rounds
    }

    def check_parameters(self, fixed: Mapping[str, Any]) -> None:
        """Refuse parameter names the estimator does not have.

        Raises
        ------
        ConfigError
            Naming the nearest valid parameter.
        """
        valid = {*self.defaults, *self.space, *self.other_parameters}
        for name in fixed:
            if name not in valid:
                near = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
                hint = (
                    f"Did you mean '{near[0]}'?" if near else f"Valid: {', '.join(sorted(valid))}."
                )
                raise ConfigError(
                    f"model.parameters: {self.name} has no parameter '{name}'. {hint}"
                )

    def suggest(self, trial: Any, fixed: Mapping[str, Any] | None = None) -> Parameters:
        """Parameters of an Optuna trial: the defaults, then what is searched, then what is fixed."""
        fixed = fixed or {}
        drawn = {n: r.suggest(trial, n) for n, r in self.space.items() if n not in fixed}
        return {**self.defaults, **self.while_searching, **drawn, **fixed}

    def after_search(
        self, params: Mapping[str, Any], fixed: Mapping[str, Any] | None = None
    ) -> Parameters:
        """Parameters of the final fit, from those of the best trial."""
        full = {name: self.defaults[name] for name in self.while_searching}
        return {**params, **full, **(fixed or {})}

    def fit(
        self,
        params: Mapping[str, Any],
        data: FitData,
        *,
        seed: int,
        early_stopping_rounds: int = 50,
    ) -> FittedModel:
        """Fit on one thread; the same input and seed give the same bytes.

        Parameters
        ----------
        params
            Of the defaults, the search space or `other_parameters`; missing ones take the defaults.
        data
            With a stop slice, an estimator that `stops_early` keeps the number of trees with the least
            log-loss there and gives up after `early_stopping_rounds` trees without improvement.

        Raises
        ------
        TrainingError
            When a parameter value is refused by the estimator.
        """
        try:
            return self.train({**self.defaults, **params}, data, seed, early_stopping_rounds)
        except (ValueError, TypeError) as error:
            raise TrainingError(
                f"{self.name} refused its parameters {dict(params)}: {error}"
            ) from error

    def load(self, data: bytes, n_features: int) -> FittedModel:
        """Read a native file whose digest the caller has verified: the parsers are not safe on damaged bytes.

        Raises
        ------
        BundleError
            When the file cannot be read or expects another number of columns than `n_features`.
        """
        model = self.load_native(data)
        if model.n_features != n_features:
            raise BundleError(
                f"The {self.name} model expects {model.n_features} columns, its schema has {n_features}: "
                "the files do not belong together; register the version again."
            )
        return model


def class_numbers(y: Vector, task: Task) -> Vector:
    """Labels as the boosters want them: classes counted from 0."""
    return y + 1.0 if task == "three_class" else y


def normalised(gain: NDArray[Any]) -> Vector:
    """Scale to sum 1; all 0 stays 0."""
    gain = np.asarray(gain, dtype=np.float64)
    total = float(gain.sum())
    return gain / total if total > 0 else gain
