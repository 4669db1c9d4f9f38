"""The facts of the two kinds of record, as types: what is not there has a default, what is wrong is refused."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from freqtrade_mlpipe.config import Direction, Task
from freqtrade_mlpipe.exceptions import RegistryError
from freqtrade_mlpipe.metrics import ANSWER_COLUMNS
from freqtrade_mlpipe.registry.comparison import Contender
from freqtrade_mlpipe.registry.record import Record
from freqtrade_mlpipe.registry.versions import ModelVersion

Scores = dict[str, float | None]


class Facts(BaseModel):
    """Facts of a record; keys of a later release are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    def to_json(self) -> dict[str, Any]:
        """JSON types, for `Record`."""
        return self.model_dump(mode="json")

    @classmethod
    def of(cls, record: Record) -> Self:
        """The facts of a record.

        Raises
        ------
        RegistryError
            They are not those of this kind of record.
        """
        try:
            return cls(**dict(record.facts))
        except (ValidationError, TypeError) as error:
            raise RegistryError(
                f"The record does not hold what it should: {str(error)[:300]}"
            ) from error


class FoldFacts(Facts):
    """One walk-forward fold (UTC); `trial` is the one whose parameters its model has, None: the defaults."""

    train_start: datetime
    train_end: datetime
    test_start: datetime
    test_end: datetime | None = None
    n_train: int | None = None
    n_test: int | None = None
    n_trees: int | None = None
    trial: int | None = None
    metrics: Scores = Field(default_factory=dict)


class TrialFacts(Facts):
    """One trial of the search; `scores` are means over its folds, by metric."""

    number: int
    value: float | None = None
    state: str = ""
    seconds: float | None = None
    scores: Scores = Field(default_factory=dict)
    params: dict[str, float | int | str | bool | None] = Field(default_factory=dict)


class DriftFacts(Facts):
    """How far each feature strayed from the whole training data in single stretches of it.

    `highest` is the largest stability index of a feature among `n_windows` windows of `window_days`.
    """

    window_days: float = 30.0
    n_windows: int = 0
    highest: Scores = Field(default_factory=dict)


class TrainingFacts(Facts):
    """What training measured. Tables: `oos`; with SHAP `contributions` and `values`.

    `front` are the trials that no other one beats in every metric, `picked` is the one whose parameters
    were taken, by `rule`. `selection` is the share of the walk-forward members that use a feature.

    `settings` is the full configuration, secrets left out; `parameters` is the same flattened, with
    the best parameters that the search found under `found.`.
    """

    estimator: str
    task: Task = "binary"
    timeframe: str
    candle_seconds: float = Field(gt=0)
    horizon_candles: int = Field(ge=1)
    round_trip_cost: float = 0.0
    label: dict[str, Any] = Field(default_factory=dict)
    train_start: datetime
    train_end: datetime
    final_window_start: datetime | None = None
    n_train_rows: int = 0
    n_features: int = 0
    pairs: tuple[str, ...] = ()
    data_hash: str = ""
    data_note: str = ""
    metric: str = "value"
    direction: Direction = "maximize"
    folds: tuple[FoldFacts, ...] = ()
    trials: tuple[TrialFacts, ...] = ()
    front: tuple[int, ...] = ()
    picked: int | None = None
    rule: str = ""
    selection: Scores = Field(default_factory=dict)
    parameter_importance: Scores = Field(default_factory=dict)
    gain: Scores = Field(default_factory=dict)
    permutation: Scores = Field(default_factory=dict)
    shap: Scores = Field(default_factory=dict)
    n_explained_rows: int = 0
    drift: DriftFacts = DriftFacts()
    settings: dict[str, Any] = Field(default_factory=dict)
    parameters: dict[str, str] = Field(default_factory=dict)


class BacktestFacts(Facts):
    """What freqtrade's backtest on the final window said. Tables: `trades`, `equity`, `closes`."""

    summary: dict[str, float | int | str | None] = Field(default_factory=dict)
    pairs: tuple[dict[str, float | int | str | None], ...] = ()
    start: datetime | None = None
    end: datetime | None = None


def contender_of(
    version: ModelVersion, training: Record | None, backtest: Record | None
) -> Contender:
    """A version as a contender, from its records.

    Raises
    ------
    RegistryError
        A record does not hold what it should.
    """
    metrics = dict(version.metrics)
    if backtest is not None:
        summary = BacktestFacts.of(backtest).summary
        metrics |= {
            f"backtest_{name}": float(value)
            for name, value in summary.items()
            if isinstance(value, int | float)
        }
    label = f"{version.name} {version.version}"
    if training is None:
        note = "nothing was kept of its training, which was not done by `train`."
        return Contender(label, metrics=metrics, note=note)
    facts = TrainingFacts.of(training)
    oos = column_types(
        training.tables.get("oos"), oos_columns(facts.task), "out-of-sample predictions"
    )
    return Contender(
        label=label,
        parameters=facts.parameters,
        metrics=metrics,
        oos=oos,
        task=facts.task,
        horizon_candles=facts.horizon_candles,
    )


def oos_columns(task: Task) -> dict[str, str]:
    """Columns that a table of out-of-sample predictions must have, and the kind of each."""
    numbers = dict.fromkeys(("y", "fold", *ANSWER_COLUMNS[task]), "number")
    return {"pair": "text", "date": "time", **numbers}


def column_types(table: pd.DataFrame | None, needed: Mapping[str, str], what: str) -> pd.DataFrame:
    """The table, if it has the columns needed, each of the kind said: "number", "time" or "text".

    Raises
    ------
    RegistryError
        It has not.
    """
    if table is None:
        raise RegistryError(f"The record has no table of {what}.")
    wrong = [
        name
        for name, kind in needed.items()
        if name not in table or _kind(table[name].dtype) != kind
    ]
    if wrong:
        raise RegistryError(f"The record's table of {what} has no usable {', '.join(wrong)}.")
    return table


def _kind(dtype: Any) -> str:
    if isinstance(dtype, pd.DatetimeTZDtype):
        return "time"
    return "number" if pd.api.types.is_numeric_dtype(dtype) else "text"
