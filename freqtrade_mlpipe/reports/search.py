"""Charts of the search for parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from freqtrade_mlpipe.reports.blocks import (
    GOOD,
    MAX_POINTS,
    MODEL,
    OTHER,
    REFERENCE,
    Chart,
    axis,
    number,
    short,
)


def search_chart(trials: Sequence[Mapping[str, Any]], metric: str, direction: str) -> Chart:
    """Every scored trial and the best complete one so far; those without a score are counted."""
    empty = "No search was made: the model has the parameters it was given."
    if not trials:
        return Chart("search", "Search for parameters", note=empty, wide=False)
    values = pd.Series(
        [_number(trial.get("value")) for trial in trials],
        index=[int(trial.get("number", i)) for i, trial in enumerate(trials)],
        dtype=float,
    )
    complete = np.array([_is_complete(trial) for trial in trials])
    scored = np.isfinite(values.to_numpy())
    done = values[scored & complete].sort_index()
    stopped = values[scored & ~complete].sort_index()
    if done.empty:
        note = f"None of the {len(trials)} trials finished."
        return Chart("search", "Search for parameters", note=note, wide=False)
    label = metric.replace("_", "-" if metric == "log_loss" else " ")
    best = done.cummax() if direction == "maximize" else done.cummin()
    last = int(best.index[best.to_numpy() == best.iloc[-1]][0])
    title = f"Best {label} of {len(trials)} trials: {number(float(best.iloc[-1]))}, in trial {last}"
    data: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": name,
            "x": part.tail(MAX_POINTS).index.tolist(),
            "y": short(part.tail(MAX_POINTS)),
            "marker": {"color": color, "size": 7},
            "hovertemplate": f"trial %{{x}}, {name}: %{{y:.5f}}<extra></extra>",
        }
        for name, part, color in (("finished", done, OTHER), ("stopped early", stopped, REFERENCE))
        if len(part)
    ]
    best = best.reindex(best.index.union([values.index.max()])).ffill().tail(MAX_POINTS)
    data.append(
        {
            "type": "scatter",
            "mode": "lines",
            "name": "best so far",
            "x": best.index.tolist(),
            "y": short(best),
            "line": {"color": MODEL, "width": 2, "shape": "hv"},
            "hovertemplate": "best up to trial %{x}: %{y:.5f}<extra></extra>",
        }
    )
    layout = {
        "xaxis": axis("Trial", tickformat="d"),
        "yaxis": axis(f"{label[:1].upper()}{label[1:]} in cross-validation"),
    }
    note = f"{_wanted(direction)[:1].upper()}{_wanted(direction)[1:]}."
    if len(stopped):
        note += " A trial stopped early is scored on the folds it reached."
    if not scored.all():
        note += f" {int((~scored).sum())} trials failed and are not drawn."
    if len(done) > MAX_POINTS:
        note += f" Only the last {MAX_POINTS:,} are drawn."
    return Chart("search", title, {"data": data, "layout": layout}, note, wide=False)


def front_charts(
    trials: Sequence[Mapping[str, Any]], front: Sequence[int], picked: int | None, rule: str
) -> list[Chart]:
    """The finished trials by the first two metrics; nothing where one metric was searched for."""
    scores = pd.DataFrame(
        {
            int(trial.get("number", i)): trial.get("scores") or {}
            for i, trial in enumerate(trials)
            if _is_complete(trial)
        },
        dtype=float,
    ).T
    if scores.shape[1] < 2:
        return []
    x, y = scores.columns[:2]
    better = scores.index.isin(list(front))
    groups = (
        ("beaten by another trial", ~better, OTHER, 7),
        ("on the front", better & (scores.index != picked), MODEL, 9),
        ("picked", scores.index == picked, GOOD, 13),
    )
    data = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": name,
            "x": short(scores.loc[rows, x]),
            "y": short(scores.loc[rows, y]),
            "text": [f"trial {n}" for n in scores.index[rows]],
            "marker": {"color": color, "size": size},
            "hovertemplate": "%{text}: %{x:.5f}, %{y:.5f}<extra></extra>",
        }
        for name, rows, color, size in groups
        if rows.any()
    ]
    layout = {"xaxis": axis(str(x).replace("_", " ")), "yaxis": axis(str(y).replace("_", " "))}
    title = f"{int(better.sum())} of {len(scores)} trials are beaten by no other in every metric"
    note = f"Picked: {rule}." if rule else ""
    if scores.shape[1] > 2:
        note += f" Drawn are the first two of {scores.shape[1]} metrics."
    figure = {"data": data, "layout": layout}
    return [Chart("front", title, figure, note.strip(), wide=False)]


def _is_complete(trial: Mapping[str, Any]) -> bool:
    return str(trial.get("state", "complete")).lower() == "complete"


def _wanted(direction: str) -> str:
    return "higher is better" if direction == "maximize" else "lower is better"


def parameter_chart(importance: pd.Series[float] | None, n_trials: int) -> Chart:
    """Share of the variation of scores that each searched parameter explains."""
    title = "Which parameters mattered"
    if importance is None or importance.dropna().empty:
        note = (
            f"Of {n_trials} trials too few ran to the end, or too much alike, to say which parameters mattered."
            if n_trials
            else "No search was made, so no parameter can have mattered."
        )
        return Chart("parameters", title, note=note, wide=False)
    top = importance.dropna().sort_values(ascending=False)
    title = f"{top.index[0]} explains {100 * float(top.iloc[0]):.0f} % of the differences between trials"
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": short(100 * top, 4),
        "y": [str(name) for name in top.index],
        "marker": {"color": MODEL},
        "hovertemplate": "%{y}: %{x:.1f} %<extra></extra>",
    }
    layout = {
        "xaxis": axis("Share of the variation (%)", rangemode="tozero"),
        "yaxis": axis("", autorange="reversed", type="category", dtick=1),
        "bargap": 0.3,
    }
    note = f"Functional ANOVA over {n_trials} trials; the fewer, the rougher."
    return Chart(
        "parameters", title, {"data": [trace], "layout": layout}, note, height=320, wide=False
    )


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float | np.number) else float("nan")
