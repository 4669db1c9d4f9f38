"""Charts of how the model was found: folds, importance, search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from freqtrade_mlpipe.reports.blocks import (
    BAD,
    MAX_POINTS,
    MODEL,
    OTHER,
    REFERENCE,
    Chart,
    Table,
    axis,
    day,
    moments,
    number,
    short,
)
from freqtrade_mlpipe.tracking.flatten import numbers

TOP_FEATURES = 25
_SPAN = ("train_start", "train_end", "test_start", "test_end")
# The score drawn a fold, best known first, with the value that a coin would get.
_DRAWN = {"roc_auc": 0.5, "accuracy": None, "f1": None, "log_loss": None}


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
        ("Training", "train_start", "train_end", REFERENCE),
        ("Test", "test_start", "test_end", MODEL),
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
                "y": _fold_names(spans),
                "base": moments(starts),
                "x": [(b - a) / pd.Timedelta("1ms") for a, b in pairs],
                "text": [f"{day(a)} to {day(b)}" for a, b in pairs],
                "hovertemplate": f"%{{y}}, {name.lower()}: %{{text}}<extra></extra>",
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


def fold_chart(folds: Sequence[Mapping[str, Any]]) -> Chart:
    """One score a fold, against what a coin would get where that is known."""
    scores = [_scores(fold) for fold in folds]
    known = {name for row in scores for name, value in row.items() if np.isfinite(value)}
    drawn = next((name for name in _DRAWN if name in known), None)
    if drawn is None:
        return Chart("fold-scores", "Score of each fold", note="No scores of folds were recorded.")
    values = np.array([s.get(drawn, np.nan) for s in scores])
    names = _fold_names(folds)
    data = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": drawn,
            "x": names,
            "y": short(values),
            "marker": {"color": MODEL, "size": 11},
            "hovertemplate": f"%{{x}}: {drawn} %{{y:.4f}}<extra></extra>",
        }
    ]
    chance = _DRAWN[drawn]
    title = f"{drawn} of each fold: {number(np.nanmin(values))} to {number(np.nanmax(values))}"
    if chance is not None:
        data.append(_level(names, chance, f"a coin ({chance})"))
        better = int((values > chance).sum())
        title = f"{better} of {len(folds)} folds rank better than a coin ({drawn})"
    layout = {"xaxis": axis("Walk-forward fold", type="category"), "yaxis": axis(drawn)}
    return Chart("fold-scores", title, {"data": data, "layout": layout}, height=280)


def fold_table(folds: Sequence[Mapping[str, Any]]) -> Table:
    """Spans and every score, a row a fold."""
    title = "Every score, fold by fold (each on its own test span)"
    scores = [_scores(fold) for fold in folds]
    names = list(dict.fromkeys(name for row in scores for name in row))
    if not names:
        return Table(title, note="No scores of folds were recorded.")
    rows = [
        [fold_name, day(fold.get("test_start")), day(fold.get("test_end"))]
        + [number(_whole(row.get(name))) for name in names]
        for fold_name, fold, row in zip(_fold_names(folds), folds, scores, strict=True)
    ]
    return Table(
        title, ["Fold", "Test from", "to", *(name.replace("_", " ") for name in names)], rows
    )


def importance_chart(importance: pd.Series[float] | None) -> Chart:
    """The most used features, the first on top."""
    if importance is None or importance.dropna().empty or not importance.dropna().any():
        note = "No feature importance was recorded."
        return Chart("importance", "Feature importance", note=note)
    ranked = importance.dropna().sort_values(ascending=False)
    top = ranked.head(TOP_FEATURES)
    share = float(top.sum() / ranked.sum())
    shown = f"The {len(top)} most used of {len(ranked)} features"
    title = f"{shown} carry {100 * share:.0f} % of the importance"
    if len(top) == len(ranked):
        title = f"What the model relies on most: {top.index[0]}"
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "x": short(100 * top / ranked.sum(), 4),
            "y": [str(name) for name in top.index],
            "marker": {"color": MODEL},
            "hovertemplate": "%{y}: %{x:.2f} %<extra></extra>",
        }
    ]
    layout = {
        "xaxis": axis("Share of total importance (%)", rangemode="tozero"),
        "yaxis": axis("", autorange="reversed", type="category", dtick=1),
        "bargap": 0.25,
    }
    height = 100 + 22 * len(top)
    return Chart("importance", title, {"data": data, "layout": layout}, height=height)


def search_chart(trials: Sequence[Mapping[str, Any]], metric: str, direction: str) -> Chart:
    """Every finished trial and the best so far; the others are counted."""
    empty = "No search was made: the model has the parameters it was given."
    if not trials:
        return Chart("search", "Search for parameters", note=empty)
    values = pd.Series(
        [_number(trial.get("value")) for trial in trials],
        index=[int(trial.get("number", i)) for i, trial in enumerate(trials)],
        dtype=float,
    ).sort_index()
    done = values[np.isfinite(values)]
    unfinished = len(values) - len(done)
    if done.empty:
        note = f"None of the {len(trials)} trials finished."
        return Chart("search", "Search for parameters", note=note)
    best = done.cummax() if direction == "maximize" else done.cummin()
    last = int(best.index[best.to_numpy() == best.iloc[-1]][0])
    reached = number(float(best.iloc[-1]))
    title = f"Best {metric} of {len(trials)} trials: {reached}, in trial {last}"
    done, best = done.tail(MAX_POINTS), best.tail(MAX_POINTS)
    data = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": "trial",
            "x": done.index.tolist(),
            "y": short(done),
            "marker": {"color": OTHER, "size": 7},
            "hovertemplate": "trial %{x}: %{y:.5f}<extra></extra>",
        },
        {
            "type": "scatter",
            "mode": "lines",
            "name": "best so far",
            "x": best.index.tolist(),
            "y": short(best),
            "line": {"color": MODEL, "width": 2, "shape": "hv"},
            "hovertemplate": "best up to trial %{x}: %{y:.5f}<extra></extra>",
        },
    ]
    layout = {
        "xaxis": axis("Trial", tickformat="d"),
        "yaxis": axis(metric),
    }
    note = f"Scores in cross-validation, {_wanted(direction)}."
    if unfinished:
        note += f" {unfinished} failed or pruned trials are not drawn."
    return Chart("search", title, {"data": data, "layout": layout}, note)


def _wanted(direction: str) -> str:
    return "higher is better" if direction == "maximize" else "lower is better"


def _scores(fold: Mapping[str, Any]) -> dict[str, float]:
    nested = fold.get("metrics")
    flat = {key: value for key, value in fold.items() if key not in (*_SPAN, "fold", "metrics")}
    return numbers({**flat, **(nested if isinstance(nested, Mapping) else {})})


def _fold_names(folds: Sequence[Mapping[str, Any]]) -> list[str]:
    return [f"Fold {i}" for i in range(1, len(folds) + 1)]


def _stop(value: Any, end: Any, start: pd.Timestamp) -> pd.Timestamp:
    for candidate in (value, end):
        if candidate is not None and pd.notna(candidate):
            return pd.Timestamp(candidate)
    return start


def _level(x: Sequence[Any], value: float, name: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": list(x),
        "y": [value] * len(x),
        "line": {"color": BAD, "dash": "dash", "width": 1.5},
        "hoverinfo": "skip",
    }


def _whole(value: float | None) -> float | int | None:
    return (
        int(value) if value is not None and value == value and float(value).is_integer() else value
    )


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float | np.number) else float("nan")
