"""Charts of the walk-forward: what each fold learned from, and how well it did on what came after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from freqtrade_mlpipe.config import Task
from freqtrade_mlpipe.metrics import (
    ANSWER_COLUMNS,
    BLOCK_HORIZONS,
    Estimate,
    answers_of,
    losses_of,
    paired_difference,
    task_intervals,
)
from freqtrade_mlpipe.metrics.intervals import MIN_STRETCHES
from freqtrade_mlpipe.reports.blocks import (
    BAD,
    MISSING,
    MODEL,
    REFERENCE,
    Chart,
    Table,
    axis,
    day,
    moments,
    number,
    short,
)
from freqtrade_mlpipe.reports.data import BASELINES
from freqtrade_mlpipe.tracking.flatten import numbers

_INTERVALS = (
    f"Bars are 95 % intervals from resampled blocks of {BLOCK_HORIZONS} label horizons; a fold of fewer than "
    f"{MIN_STRETCHES} such blocks has none."
)
# What the table shows of each fold, in this order.
_COLUMNS = {
    "roc_auc": "ROC AUC",
    "log_loss": "Log-loss",
    "brier": "Brier score",
    "expected_calibration_error": "Calibration error",
    "spearman": "Rank correlation",
    "squared_error": "Squared error",
    "r2": "R²",
    "entry_rate": "Entries, % of rows",
    "short_rate": "Short entries, % of rows",
    "expected_profit": "Net return of an entry, %",
    "sharpe": "Sharpe ratio",
}
_PERCENT = ("entry_rate", "short_rate", "expected_profit")
_TINY = 1e-12


def timeline(folds: Sequence[Mapping[str, Any]], end: Any = None) -> Chart:
    """A bar a fold: what it learned from and what it was tested on.

    Parameters
    ----------
    end
        Where a fold without an end stops.
    """
    title = "Each model is tested only on candles after those it learned from"
    spans = [fold for fold in folds if pd.notna(fold.get("train_start"))]
    if not spans:
        return Chart("timeline", "Training and test spans", note="No folds were recorded.")
    traces, edges = [], []
    for name, first, last, color in (
        ("learned from", "train_start", "train_end", REFERENCE),
        ("tested on", "test_start", "test_end", MODEL),
    ):
        starts = [pd.Timestamp(fold[first]) for fold in spans]
        stops = [
            _stop(fold.get(last), end, start) for fold, start in zip(spans, starts, strict=True)
        ]
        pairs = list(zip(starts, stops, strict=True))
        edges += [*starts, *stops]
        traces.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": name,
                "y": fold_names(spans),
                "base": moments(starts),
                "x": [(b - a) / pd.Timedelta("1ms") for a, b in pairs],
                "text": [f"{day(a)} to {day(b)}" for a, b in pairs],
                "hovertemplate": f"%{{y}} {name} %{{text}}<extra></extra>",
                "textposition": "none",
                "marker": {"color": color},
            }
        )
    layout = {
        "barmode": "overlay",
        "bargap": 0.35,
        "xaxis": axis("Date (UTC)", type="date", range=moments([min(edges), max(edges)])),
        "yaxis": axis("", autorange="reversed"),
    }
    height = 130 + 34 * len(spans)
    return Chart("timeline", title, {"data": traces, "layout": layout}, height=height)


def ranking_chart(
    folds: Sequence[Mapping[str, Any]], oos: Any, horizon: int, task: Task = "binary"
) -> Chart:
    """ROC AUC, or a regression's rank correlation, of each fold with its interval, against a coin."""
    title = "How well each fold ranks outcomes"
    name, label, chance = ("roc_auc", "ROC AUC", 0.5)
    if task == "regression":
        name, label, chance = ("spearman", "Rank correlation", 0.0)
    found = [scores.get(name) for scores in fold_intervals(folds, oos, horizon, task)]
    if not any(found):
        found = [_recorded(fold, name) for fold in folds]
    if not any(found):
        return Chart("fold-ranking", title, note="No ranking of folds was recorded.", wide=False)
    better = sum(estimate is not None and estimate.value > chance for estimate in found)
    sure = sum(estimate is not None and estimate.low > chance for estimate in found)
    note = f"The intervals of {sure} exclude {chance:g}. {_INTERVALS}"
    title = f"{better} of {len(folds)} folds rank better than a coin"
    figure = _dots(found, label, chance, "a coin")
    return Chart("fold-ranking", title, figure, note, height=300, wide=False)


def skill_chart(
    folds: Sequence[Mapping[str, Any]],
    oos: pd.DataFrame | None,
    horizon: int,
    task: Task = "binary",
) -> Chart:
    """How much lower each fold's loss is than that of the class frequency, or of a regression the mean return."""
    baseline, rule = BASELINES[task]
    title = f"How far each fold beats {rule}"
    needed = {"fold", "y", *ANSWER_COLUMNS[task], f"loss_{baseline}"}
    if oos is None or not needed <= set(oos.columns):
        return Chart("fold-skill", title, note="No losses of folds were recorded.", wide=False)
    found: list[Estimate | None] = []
    for part in _parts(folds, oos, task):
        if part is None:
            found.append(None)
            continue
        base = part[f"loss_{baseline}"].to_numpy(float)
        dates, block = _dates(part), BLOCK_HORIZONS * horizon
        losses = losses_of(task, part["y"], answers_of(part, task))
        nan = float("nan")
        low = high = nan
        if dates.nunique() >= MIN_STRETCHES * block:
            gap = paired_difference(base, losses, dates, block, n_resamples=1000)
            low, high = gap.low, gap.high
        mean = float((base - losses).mean())
        scale = 100 / max(float(base.mean()), _TINY) if task == "regression" else 1000
        found.append(Estimate(scale * mean, scale * low, scale * high))
    if not any(found):
        return Chart(
            "fold-skill", title, note="No fold has a row with a known outcome.", wide=False
        )
    better = sum(estimate is not None and estimate.value > 0 for estimate in found)
    sure = sum(estimate is not None and estimate.low > 0 for estimate in found)
    note = f"The intervals of {sure} exclude 0. {_INTERVALS}"
    title = f"{better} of {len(folds)} folds beat {rule}"
    label = "Squared error saved (%)" if task == "regression" else "Nats saved per 1,000 rows"
    figure = _dots(found, label, 0.0, rule)
    return Chart("fold-skill", title, figure, note, height=300, wide=False)


def fold_table(
    folds: Sequence[Mapping[str, Any]],
    oos: pd.DataFrame | None = None,
    horizon: int = 1,
    task: Task = "binary",
) -> Table:
    """Spans, parameters where they differ, and every score, a row a fold."""
    title = "Each fold on its own test span"
    scores = [_scores(fold) for fold in folds]
    names = [name for name in _COLUMNS if any(name in row for row in scores)]
    if not names:
        return Table(title, note="No scores of folds were recorded.")
    intervals = fold_intervals(folds, oos, horizon, task)
    tuned = any(fold.get("trial") is not None for fold in folds)
    rows = [
        [
            name,
            _date(fold.get("test_start")),
            _date(fold.get("test_end")),
            number(fold.get("n_test")),
            *([_parameters(fold)] if tuned else []),
        ]
        + [_written(score, row.get(score), estimates.get(score)) for score in names]
        for name, fold, row, estimates in zip(
            fold_names(folds), folds, scores, intervals, strict=True
        )
    ]
    found = [estimate for row in intervals for estimate in row.values()]
    sure = any(np.isfinite(estimate.low) for estimate in found)
    notes = ["Beneath: 95 % intervals from resampled blocks."] if sure else []
    if tuned:
        notes.append(
            "A fold has the parameters that the folds before it spoke for, so that the search does not flatter it."
        )
    heads = [*(["Parameters"] if tuned else []), *(_COLUMNS[name] for name in names)]
    return Table(title, ["Fold", "From", "To", "Rows", *heads], rows, " ".join(notes))


def _parameters(fold: Mapping[str, Any]) -> str:
    return "defaults" if fold.get("trial") is None else f"of trial {fold['trial']}"


def fold_intervals(
    folds: Sequence[Mapping[str, Any]],
    oos: pd.DataFrame | None,
    horizon: int,
    task: Task = "binary",
) -> list[dict[str, Estimate]]:
    """Scores with intervals of each fold; empty where its predictions were not kept."""
    if oos is None or not {"fold", "y", *ANSWER_COLUMNS[task]} <= set(oos.columns):
        return [{} for _ in folds]
    block = BLOCK_HORIZONS * horizon
    return [
        {}
        if part is None
        else task_intervals(task, part["y"], answers_of(part, task), _dates(part), block)
        for part in _parts(folds, oos, task)
    ]


def fold_names(folds: Sequence[Mapping[str, Any]]) -> list[str]:
    """Fold 1, Fold 2 …"""
    return [f"Fold {i}" for i in range(1, len(folds) + 1)]


def _parts(
    folds: Sequence[Mapping[str, Any]], oos: pd.DataFrame, task: Task
) -> list[pd.DataFrame | None]:
    known = oos.dropna(subset=["y", *ANSWER_COLUMNS[task]])
    groups = dict(iter(known.groupby("fold")))
    return [groups.get(number) for number in range(len(folds))]


def _dates(part: pd.DataFrame) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(part.index.get_level_values("date"))


def _recorded(fold: Mapping[str, Any], name: str) -> Estimate | None:
    value = _scores(fold).get(name, float("nan"))
    return Estimate(value, float("nan"), float("nan")) if np.isfinite(value) else None


def _scores(fold: Mapping[str, Any]) -> dict[str, float]:
    nested = fold.get("metrics")
    return numbers(nested) if isinstance(nested, Mapping) else {}


def _written(name: str, value: float | None, estimate: Estimate | None) -> str:
    if name in _PERCENT:
        return MISSING if value is None else f"{100 * value:.2f}"
    text = number(value)
    if estimate is None or not np.isfinite(estimate.low):
        return text
    return f"{text}\n{estimate.low:.3g} to {estimate.high:.3g}"


def _date(value: Any) -> str:
    return MISSING if value is None or pd.isna(value) else f"{pd.Timestamp(value):%Y-%m-%d}"


def _dots(
    found: Sequence[Estimate | None], label: str, chance: float, chance_name: str
) -> dict[str, Any]:
    """A dot and a bar a fold, and the line they should be above."""
    x = [str(i) for i in range(1, len(found) + 1)]
    nan = float("nan")
    known = [estimate or Estimate(nan, nan, nan) for estimate in found]
    value, low, high = (
        np.array([getattr(estimate, name) for estimate in known])
        for name in ("value", "low", "high")
    )
    dots = {
        "type": "scatter",
        "mode": "markers",
        "showlegend": False,
        "x": x,
        "y": short(value),
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": short(np.nan_to_num(high - value)),
            "arrayminus": short(np.nan_to_num(value - low)),
            "color": MODEL,
            "thickness": 2,
            "width": 5,
        },
        "marker": {"color": MODEL, "size": 10},
        "hovertemplate": f"fold %{{x}}: {label} %{{y:.4g}}<extra></extra>",
    }
    line = {
        "type": "scatter",
        "mode": "lines",
        "name": f"{chance_name} ({chance:g})",
        "x": x,
        "y": [chance] * len(x),
        "line": {"color": BAD, "dash": "dash", "width": 1.5},
        "hoverinfo": "skip",
        "showlegend": True,
    }
    layout = {"xaxis": axis("Walk-forward fold", type="category"), "yaxis": axis(label)}
    return {"data": [dots, line], "layout": layout}


def _stop(value: Any, end: Any, start: pd.Timestamp) -> pd.Timestamp:
    for candidate in (value, end):
        if candidate is not None and pd.notna(candidate):
            return pd.Timestamp(candidate)
    return start
