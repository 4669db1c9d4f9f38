"""What a page needs later, as records that a version keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from freqtrade_mlpipe.config import LabelConfig, ModelConfig
from freqtrade_mlpipe.registry.baseline import stability_index
from freqtrade_mlpipe.registry.evidence import BacktestSummary
from freqtrade_mlpipe.registry.facts import (
    BacktestFacts,
    DriftFacts,
    FoldFacts,
    TrainingFacts,
    TrialFacts,
)
from freqtrade_mlpipe.registry.record import Record
from freqtrade_mlpipe.tracking.flatten import flatten, plain
from freqtrade_mlpipe.trainer import Explanation, TrainedModel
from freqtrade_mlpipe.tuning import parameter_importance

DRIFT_WINDOW = pd.Timedelta(days=30)
_DRIFT_WINDOWS = 12
_OOS_COLUMNS = {
    "y": np.float32, "proba": np.float32, "proba_flat": np.float32, "proba_short": np.float32,
    "prediction": np.float32, "loss_class_prior": np.float32, "loss_mean": np.float32,
    "forward_return": np.float32, "short_return": np.float32, "signal": np.int8, "fold": np.int16,
}  # fmt: skip
_TRADE_COLUMNS = {
    "pair": str, "open_date": None, "close_date": None, "open_rate": float, "close_rate": float,
    "profit_ratio": float, "profit_abs": float, "is_short": float, "exit_reason": str,
}  # fmt: skip


def training_record(
    model: TrainedModel,
    explanation: Explanation,
    drift: DriftFacts,
    *,
    labels: LabelConfig,
    settings: ModelConfig,
    timeframe: str,
    candle: pd.Timedelta,
    pairs: Sequence[str],
    data_hash: str,
    final_window_start: pd.Timestamp | None,
    round_trip_cost: float,
    recorded: Mapping[str, Any],
) -> Record:
    """Out-of-sample predictions, folds, trials and explanations of a training.

    Parameters
    ----------
    recorded
        Everything that was configured, and `data_note`; values that look like credentials are left
        out.
    """
    report, production = model.report, model.production
    settings_only = {key: value for key, value in recorded.items() if key != "data_note"}
    facts = TrainingFacts(
        estimator=production.model_type,
        task=production.model.task,
        timeframe=timeframe,
        candle_seconds=candle.total_seconds(),
        horizon_candles=labels.horizon_candles,
        round_trip_cost=round_trip_cost,
        label=labels.model_dump(mode="json"),
        train_start=production.train_start,
        train_end=production.train_end,
        final_window_start=final_window_start,
        n_train_rows=production.n_train_rows,
        n_features=len(model.feature_names),
        pairs=tuple(pairs),
        data_hash=data_hash,
        data_note=str(recorded.get("data_note") or ""),
        metric=settings.metrics[0],
        direction=settings.direction,
        folds=tuple(FoldFacts(**row) for row in plain_floats(report.folds)),
        trials=_trial_facts(report.trials),
        front=tuple(report.front),
        picked=report.picked,
        rule=report.rule,
        selection=_by_name(report.selection),
        parameter_importance=parameter_importance(production.model_type, report.trials),
        gain=_by_name(report.feature_importance),
        permutation=_by_name(explanation.permutation),
        shap=_by_name(explanation.shap),
        n_explained_rows=explanation.n_rows,
        drift=drift,
        settings=plain(settings_only),
        parameters=flatten({**settings_only, "found": report.best_params}),
    )
    tables = {"oos": _compact(report.oos.reset_index())}
    if len(explanation.contributions):
        tables |= {
            "contributions": explanation.contributions.astype(np.float32),
            "values": explanation.values.astype(np.float32),
        }
    return Record(facts.to_json(), tables)


def backtest_record(
    summary: BacktestSummary,
    pairs: Sequence[Mapping[str, Any]],
    trades: pd.DataFrame,
    equity: pd.Series,
    market: pd.Series,
    closes: pd.DataFrame,
) -> Record:
    """freqtrade's backtest on the final window: figures, trades, account, market and prices.

    Parameters
    ----------
    pairs
        freqtrade's figures by pair.
    trades
        freqtrade's columns; dates UTC.
    equity, market
        Account value and buy-and-hold relative to their start; index UTC.
    closes
        A column a pair; index UTC.
    """
    numbers = asdict(summary)
    facts = BacktestFacts(
        summary={k: v for k, v in numbers.items() if isinstance(v, int | float)},
        pairs=tuple(
            {str(k): v for k, v in row.items() if isinstance(v, int | float | str)} for row in pairs
        ),
        start=summary.start,
        end=summary.end,
    )
    kept = {
        name: trades[name] if kind is None else trades[name].astype(kind)
        for name, kind in _TRADE_COLUMNS.items()
        if name in trades
    }
    tables = {
        "trades": pd.DataFrame(kept),
        "equity": _dated(equity.to_frame("value")),
        "market": _dated(market.to_frame("value").astype(np.float32)),
        "closes": _dated(closes.astype(np.float32)),
    }
    return Record(facts.to_json(), tables)


def drift_reference(
    baseline: Mapping[str, Any] | None, X: pd.DataFrame, window: pd.Timedelta = DRIFT_WINDOW
) -> DriftFacts:
    """How far each feature strays from its own baseline in the last months of the training itself.

    Parameters
    ----------
    baseline
        `drift_baseline` of X; None: nothing to compare with.
    X
        Training rows, index (pair, date UTC), ordered by date.
    """
    dates = pd.DatetimeIndex(X.index.get_level_values("date"))
    days = window / pd.Timedelta(days=1)
    found: list[pd.Series] = []
    end = dates[-1]
    while baseline is not None and len(found) < _DRIFT_WINDOWS and end - window >= dates[0]:
        first, last = (dates.searchsorted(t, side="right") for t in (end - window, end))
        if last > first:
            found.append(stability_index(baseline, X.iloc[first:last]))
        end = end - window
    if not found:
        return DriftFacts(window_days=days)
    highest = pd.concat(found, axis=1).max(axis=1)
    return DriftFacts(window_days=days, n_windows=len(found), highest=_by_name(highest))


def _trial_facts(trials: Sequence[Mapping[str, Any]]) -> tuple[TrialFacts, ...]:
    rows = [
        {
            **trial,
            "scores": {name: np.mean(of) for name, of in trial["fold_scores"].items() if len(of)},
        }
        for trial in trials
    ]
    return tuple(TrialFacts(**row) for row in plain_floats(rows))


def plain_floats(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Mappings whose floats that are not finite are None, as JSON has it."""
    return [{str(k): _finite(v) for k, v in row.items()} for row in rows]


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value


def _by_name(values: pd.Series) -> dict[str, float | None]:
    return {str(k): float(f"{v:.6g}") if np.isfinite(v) else None for k, v in values.items()}


def _compact(oos: pd.DataFrame) -> pd.DataFrame:
    """The columns that pages and comparisons read, in the smallest types that hold them."""
    kinds = {name: kind for name, kind in _OOS_COLUMNS.items() if name in oos}
    return oos[["pair", "date", *kinds]].astype(kinds)


def _dated(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.rename_axis("date").reset_index()
