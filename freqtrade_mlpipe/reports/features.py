"""Charts of the features: which matter, in which direction, and which have moved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from freqtrade_mlpipe.config import Task
from freqtrade_mlpipe.reports.blocks import (
    BAD,
    HIGH,
    LOW,
    MODEL,
    OTHER,
    REFERENCE,
    Chart,
    axis,
    day,
    number,
    short,
)
from freqtrade_mlpipe.reports.data import Drift

TOP_FEATURES = 20
SWARM_FEATURES = 12
_DRIFT_SHOWN = 15
_NEGLIGIBLE = 0.02
_PUSHES: Mapping[Task, tuple[str, str, float, str]] = {
    "binary": ("scores", "log-odds", 1.0, "before calibration "),
    "three_class": (
        "scores of long",
        "log-odds",
        1.0,
        "before softmax and calibration, against the mean of the three classes, ",
    ),
    "regression": ("predictions", "basis points", 10_000.0, ""),
}
"""What contributions add to, their unit, the factor to it, and where in the model they are taken."""


def gain_chart(importance: pd.Series[float] | None) -> Chart:
    """The most used features by share of gain, the first on top."""
    if importance is None or importance.dropna().empty or not importance.dropna().any():
        note = "No feature importance was recorded."
        return Chart("gain", "What the model was built from", note=note, wide=False)
    ranked = importance.dropna().sort_values(ascending=False)
    top = ranked.head(TOP_FEATURES)
    share = float(top.sum() / ranked.sum())
    title = f"{len(top)} of {len(ranked)} features carry {100 * share:.0f} % of the gain"
    if len(top) == len(ranked):
        title = f"What the model relies on most: {top.index[0]}"
    note = "Gain: how much a feature's splits reduced the loss on the training rows."
    return Chart(
        "gain", title, _bars(100 * top / ranked.sum(), "Share of total gain (%)", "%{x:.2f} %"),
        note, _height(len(top)), wide=False,
    )  # fmt: skip


def selection_chart(selection: pd.Series[float] | None, n_members: int) -> Chart:
    """How many features every walk-forward member uses, how many only some, how many none."""
    title = "Which features the members agree on"
    if selection is None or selection.dropna().empty or not n_members:
        note = "What the walk-forward members use was not recorded."
        return Chart("selection", title, note=note)
    used = (selection.dropna() * n_members).round().astype(int)
    counts = used.value_counts().reindex(range(n_members + 1), fill_value=0)
    title = f"{counts[n_members]} of {len(used)} features are used by each of {n_members} members"
    trace = {
        "type": "bar",
        "x": [int(n) for n in counts.index],
        "y": [int(n) for n in counts],
        "marker": {"color": [OTHER] * n_members + [MODEL]},
        "hovertemplate": "%{y} features are used by %{x} members<extra></extra>",
    }
    layout = {
        "xaxis": axis("Walk-forward members that use a feature", dtick=1),
        "yaxis": axis("Features", rangemode="tozero"),
        "bargap": 0.25,
    }
    note = (
        "Each member prunes and selects on its own training slice. A feature that comes and goes with the slice "
        "carries little that lasts."
    )
    return Chart("selection", title, {"data": [trace], "layout": layout}, note, height=260)


def permutation_chart(
    permutation: pd.Series[float] | None, n_rows: int, task: Task = "binary"
) -> Chart:
    """What shuffling a feature costs out of sample."""
    title = "What shuffling a feature costs"
    if permutation is None or permutation.dropna().empty:
        note = "Permutation importance was not recorded."
        return Chart("permutation", title, note=note, wide=False)
    top = permutation.dropna().sort_values(ascending=False).head(TOP_FEATURES)
    helpful = int((permutation > 0).sum())
    title = f"Shuffling {top.index[0]} costs most out of sample"
    if not helpful:
        title = "Shuffling any one feature costs nothing out of sample"
    note = (
        f"On {n_rows:,} out-of-sample rows. {helpful} of {len(permutation)} features tried help; features that say "
        "the same stand in for each other, so that each alone costs little."
    )
    figure = _bars(1000 * top, "Nats per 1,000 rows", "%{x:.3g}")
    if task == "regression":
        figure = _bars(10_000**2 * top, "Squared error added (basis points²)", "%{x:.3g}")
    return Chart("permutation", title, figure, note, _height(len(top)), wide=False)


def shap_chart(
    shap: pd.Series[float] | None,
    contributions: pd.DataFrame | None,
    values: pd.DataFrame | None,
    task: Task = "binary",
) -> Chart:
    """A dot a row and feature: how far it pushed the score, coloured by the feature's value."""
    title = "Which way each feature pushes the score"
    if shap is None or shap.dropna().empty:
        note = "No SHAP values: this estimator has none of its own, or they were not recorded."
        return Chart("shap", title, note=note)
    target, unit, scale, stage = _PUSHES[task]
    ranked = scale * shap.dropna().sort_values(ascending=False)
    names = [
        name
        for name in ranked.index[:SWARM_FEATURES]
        if contributions is not None and values is not None
        and name in contributions and name in values and len(contributions) == len(values)
    ]  # fmt: skip
    if not names or contributions is None or values is None:
        label = f"Mean absolute change of {target} ({unit})"
        figure = _bars(ranked.head(TOP_FEATURES), label, "%{x:.4g}")
        return Chart("shap", title, figure, height=_height(min(TOP_FEATURES, len(ranked))))
    x, y, color, text = [], [], [], []
    for row, name in enumerate(names):
        pushed = scale * contributions[name].to_numpy(dtype=float)
        x += short(pushed, 3)
        y += short(row + _spread(pushed), 4)
        color += short(values[name].rank(pct=True).fillna(0.5), 2)
        text += [number(float(value)) for value in values[name]]
    trace = {
        "type": "scatter",
        "mode": "markers",
        "showlegend": False,
        "x": x,
        "y": y,
        "text": text,
        "customdata": [name for name in names for _ in range(len(contributions))],
        "hovertemplate": "%{customdata} = %{text}: %{x:+.3f}<extra></extra>",
        "marker": {
            "size": 4.5,
            "opacity": 0.75,
            "color": color,
            "cmin": 0,
            "cmax": 1,
            "colorscale": [[0, LOW], [0.5, REFERENCE], [1, HIGH]],
        },
    }
    legend = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": name,
            "x": [None],
            "y": [None],
            "showlegend": True,
            "marker": {"color": end, "size": 8},
        }
        for name, end in (("low value of the feature", LOW), ("high value", HIGH))
    ]
    layout = {
        "xaxis": axis(f"Added to {target} ({unit})", zeroline=True),
        "yaxis": axis(
            "", tickvals=list(range(len(names))), ticktext=names, zeroline=False,
            range=[len(names) - 0.4, -0.6],
        ),
        "hovermode": "closest",
    }  # fmt: skip
    title = f"{names[0]} moves {target} most, by {number(float(ranked.iloc[0]))} {unit} on average"
    note = (
        f"SHAP values {stage}of {len(contributions):,} sampled out-of-sample rows, a dot each; "
        f"the {len(names)} strongest features."
    )
    return Chart(
        "shap", title, {"data": [trace, *legend], "layout": layout}, note, 120 + 34 * len(names)
    )


def drift_chart(drift: Drift | None, problem: str) -> Chart:
    """Stability index of recent candles' features, beside what is usual within the training data."""
    title = "Have the features moved since training?"
    if drift is None or drift.recent.dropna().empty:
        return Chart("drift", title, note=problem or "No recent candles were looked at.")
    recent = drift.recent.dropna()
    usual = drift.usual.reindex(recent.index)
    beyond = (recent > usual) & (recent > _NEGLIGIBLE)
    ratio = recent / usual.fillna(recent.median()).clip(lower=1e-6)
    ranked = pd.DataFrame({"beyond": beyond, "notable": recent > _NEGLIGIBLE, "ratio": ratio})
    order = ranked.sort_values(["beyond", "notable", "ratio"], ascending=False, kind="stable")
    shown = order.index[:_DRIFT_SHOWN]
    span = f"{day(drift.start)} to {day(drift.end)}"
    title = f"{int(beyond.sum())} of {len(recent)} features are further from training than usual"
    dots = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": name,
            "x": short(recent[rows]),
            "y": [str(feature) for feature in rows],
            "marker": {"size": 10, "color": color},
            "hovertemplate": "%{y}: %{x:.3f}<extra></extra>",
        }
        for name, color, rows in (
            ("recent candles, beyond it", BAD, [n for n in shown if beyond[n]]),
            ("recent candles, within it", MODEL, [n for n in shown if not beyond[n]]),
        )
        if rows
    ]
    bars: dict[str, Any] = {
        "type": "bar",
        "orientation": "h",
        "name": "usual: the most within training",
        "x": short(usual[shown]),
        "y": [str(name) for name in shown],
        "marker": {"color": REFERENCE, "opacity": 0.55},
        "hovertemplate": "%{y}: %{x:.3f} at most within training<extra></extra>",
    }
    layout = {
        "xaxis": axis("Stability index (PSI)", rangemode="tozero"),
        "yaxis": axis(
            "",
            autorange="reversed",
            type="category",
            dtick=1,
            categoryorder="array",
            categoryarray=[str(name) for name in shown],
        ),
        "bargap": 0.45,
    }
    note = (
        f"{drift.n_rows:,} rows, {span}, against the training rows; the {len(shown)} furthest. "
        f"Bars: the largest value in {drift.n_windows} stretches of training as long as that. Values below "
        f"{_NEGLIGIBLE:g} count as none; with many features a few are beyond their bar by chance."
    )
    if not drift.n_windows:
        title = f"{shown[0]} has moved most since training"
        note = f"{drift.n_rows:,} rows, {span}. Training was too short to say how much is usual."
        dots = [{**dot, "name": "recent candles"} for dot in dots]
        bars = {**bars, "x": [], "y": [], "showlegend": False}
    return Chart(
        "drift", title, {"data": [bars, *dots], "layout": layout}, note, _height(len(shown))
    )


def _spread(values: np.ndarray[Any, np.dtype[np.float64]], width: float = 0.38) -> Any:
    """Offsets that pile up dots of nearly equal x symmetrically, as in a beeswarm."""
    low, high = float(values.min()), float(values.max())
    bins = np.minimum((values - low) / ((high - low) or 1.0) * 60, 59).astype(int)
    seen = np.zeros(60, dtype=int)
    place = np.empty(len(values))
    for i, b in enumerate(bins):
        place[i] = (seen[b] + 1) // 2 * (-1) ** seen[b]
        seen[b] += 1
    return place * min(0.06, 2 * width / max(1, seen.max()))


def _bars(values: pd.Series[float], label: str, shown: str) -> dict[str, Any]:
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": short(values, 4),
        "y": [str(name) for name in values.index],
        "marker": {"color": [MODEL if value > 0 else OTHER for value in values]},
        "hovertemplate": f"%{{y}}: {shown}<extra></extra>",
    }
    layout = {
        "xaxis": axis(label, rangemode="tozero"),
        "yaxis": axis("", autorange="reversed", type="category", dtick=1),
        "bargap": 0.25,
    }
    return {"data": [trace], "layout": layout}


def _height(n: int) -> int:
    return 110 + 22 * n
