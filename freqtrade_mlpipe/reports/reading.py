"""From a registered version and its records to what a page shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from freqtrade_mlpipe.config import Task
from freqtrade_mlpipe.exceptions import RegistryError
from freqtrade_mlpipe.metrics import ANSWER_COLUMNS
from freqtrade_mlpipe.registry import ModelRegistry, ModelStatus, ModelVersion, Record
from freqtrade_mlpipe.registry.facts import (
    BacktestFacts,
    TrainingFacts,
    column_types,
    oos_columns,
)
from freqtrade_mlpipe.registry.record import RecordKind
from freqtrade_mlpipe.reports.data import Drift, ReportData, Tone
from freqtrade_mlpipe.reports.words import verdict_of

T = TypeVar("T")

_BADGES: dict[ModelStatus, tuple[str, Tone]] = {
    ModelStatus.PRODUCTION: ("In production", "good"),
    ModelStatus.FAILED: ("Refused", "bad"),
    ModelStatus.ARCHIVED: ("Archived", ""),
}
_TRADES = {"pair": "text", "close_date": "time", "profit_ratio": "number"}
_CURVE = {"date": "time", "value": "number"}


@dataclass(frozen=True, eq=False)
class VersionRecords:
    """The records of one version as far as they can be read; `problems` says why not, by kind."""

    training: TrainingFacts | None
    training_tables: Mapping[str, pd.DataFrame]
    backtest: BacktestFacts | None
    backtest_tables: Mapping[str, pd.DataFrame]
    problems: Mapping[str, str]


def read_records(registry: ModelRegistry, version: ModelVersion) -> VersionRecords:
    """Both records of a version. A damaged or missing one is a sentence, not an error."""
    problems: dict[str, str] = {}

    def read(kind: RecordKind, facts: Callable[[Record], T], missing: str) -> tuple[T | None, Any]:
        try:
            record = registry.read_record(version, kind)
            if record is not None:
                return facts(record), record.tables
            problems[kind] = missing
        except RegistryError as error:
            problems[kind] = f"What {kind} measured cannot be shown. {error}"
        return None, {}

    training, training_tables = read(
        "training",
        TrainingFacts.of,
        "Nothing was kept of this version's training: it was registered as a bundle, not by `train`.",
    )
    backtest, backtest_tables = read(
        "backtest",
        BacktestFacts.of,
        "No backtest yet: `freqtrade-mlpipe validate` runs freqtrade's on the final window.",
    )
    return VersionRecords(training, training_tables, backtest, backtest_tables, problems)


def report_data(
    version: ModelVersion,
    records: VersionRecords,
    *,
    now: datetime,
    drift: Drift | None = None,
    drift_problem: str = "",
) -> ReportData:
    """Everything about a version that a page shows.

    Parameters
    ----------
    now
        When the page is made (UTC).
    drift
        Features of recent candles against the training data; None: `drift_problem` says why not.
    """
    problems = {**records.problems, "drift": drift_problem}

    def table(
        kind: str, tables: Mapping[str, pd.DataFrame], name: str, needed: Mapping[str, str]
    ) -> pd.DataFrame | None:
        if kind in problems:
            return None
        try:
            return column_types(tables.get(name), needed, name)
        except RegistryError as error:
            problems[name] = str(error)
            return None

    task = records.training.task if records.training else "binary"
    oos = table("training", records.training_tables, "oos", oos_columns(task))
    trades = table("backtest", records.backtest_tables, "trades", {"pair": "text"})
    if trades is not None and len(trades):
        trades = table("backtest", records.backtest_tables, "trades", _TRADES)
    curves = {
        name: table("backtest", records.backtest_tables, name, _CURVE)
        for name in ("equity", "market")
    }
    training, backtest = records.training, records.backtest
    badge, tone = _badge(version)
    return ReportData(
        title=f"{version.name}, version {version.version}",
        task=task,
        badge=badge,
        tone=tone,
        verdict=verdict_of(version, training, backtest),
        summary=_summary(version, training),
        data_note=training.data_note if training else "",
        gates=[check.to_dict() for check in version.report.checks] if version.report else [],
        folds=[fold.model_dump() for fold in training.folds] if training else [],
        oos=None if oos is None else _oos(oos, task),
        horizon_candles=training.horizon_candles if training else 1,
        round_trip_cost=training.round_trip_cost if training else 0.0,
        feature_importance=_series(training.gain if training else None),
        permutation=_series(training.permutation if training else None),
        shap=_series(training.shap if training else None),
        n_explained_rows=training.n_explained_rows if training else 0,
        contributions=records.training_tables.get("contributions"),
        feature_values=records.training_tables.get("values"),
        drift=drift,
        trials=[trial.model_dump() for trial in training.trials] if training else [],
        front=training.front if training else (),
        picked=training.picked if training else None,
        rule=training.rule if training else "",
        selection=_series(training.selection if training else None),
        parameter_importance=_series(training.parameter_importance if training else None),
        metric=training.metric if training else "value",
        direction=training.direction if training else "maximize",
        backtest={**backtest.summary, "pairs": list(backtest.pairs)} if backtest else {},
        equity=_curve(curves["equity"]),
        market=_curve(curves["market"]),
        closes=_closes(records.backtest_tables.get("closes")),
        trades=trades,
        config=training.settings if training else {},
        metrics=version.metrics,
        problems=problems,
        generated_at=now,
    )


def _badge(version: ModelVersion) -> tuple[str, Tone]:
    if version.status in _BADGES:
        return _BADGES[version.status]
    return ("Passed the gates", "good") if version.report else ("Not validated", "")


def _summary(version: ModelVersion, training: TrainingFacts | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "Model": version.name,
        "Version": version.version,
        "Status": str(version.status),
        "Registered": f"{version.created_at:%Y-%m-%d %H:%M} UTC",
    }
    if training:
        start = training.final_window_start
        found |= {
            "Estimator": training.estimator,
            "Timeframe": training.timeframe,
            "Trained on": f"{training.train_start:%Y-%m-%d} to {training.train_end:%Y-%m-%d}",
            "Final window from": None if start is None else f"{start:%Y-%m-%d %H:%M} UTC",
            "Training rows": training.n_train_rows,
            "Features": training.n_features,
            "Horizon": f"{training.horizon_candles} candles",
            "Fees in and out": f"{100 * training.round_trip_cost:g} %",
            "Pairs": list(training.pairs),
            "Data hash": training.data_hash,
        }
    return {**found, "Bundle digest": version.digest, "Run": version.run_id}


def _series(values: Mapping[str, float | None] | None) -> pd.Series[float] | None:
    return pd.Series(dict(values), dtype=float) if values else None


def _oos(table: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Rows whose answers can be: probabilities from 0 to 1, or finite returns; NaN is unknown."""
    answers = table[list(ANSWER_COLUMNS[task])]
    low, high = (-np.inf, np.inf) if task == "regression" else (0.0, 1.0)
    possible = answers.isna() | (answers.ge(low) & answers.le(high) & np.isfinite(answers))
    return table[possible.all(axis=1)].set_index(["pair", "date"])


def _curve(table: pd.DataFrame | None) -> pd.Series[float] | None:
    return None if table is None else table.set_index("date")["value"].astype(float)


def _closes(table: pd.DataFrame | None) -> pd.DataFrame | None:
    if (
        table is None
        or "date" not in table
        or not isinstance(table["date"].dtype, pd.DatetimeTZDtype)
    ):
        return None
    return table.set_index("date").select_dtypes(np.number)
