"""Charts of predicted returns: whether they mean what they say, and what they earned."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from freqtrade_mlpipe.reports.blocks import MODEL, REFERENCE, Chart, axis, short
from freqtrade_mlpipe.reports.scores import return_chart

Floats = NDArray[np.float64]

_EMPTY = "No out-of-sample predictions with a known outcome were recorded."


def value_charts(oos: pd.DataFrame | None, round_trip_cost: float) -> list[Chart]:
    """Predicted against true returns, and what trades earned by tenth of the prediction."""
    if oos is None or not {"y", "prediction"} <= set(oos.columns):
        known = pd.DataFrame({"y": [], "prediction": []}, dtype=float)
    else:
        known = oos.dropna(subset=["y", "prediction"])
    y, value = known["y"].to_numpy(dtype=float), known["prediction"].to_numpy(dtype=float)
    return [
        outcome_chart(y, value),
        return_chart(oos, round_trip_cost, "prediction", words="predictions"),
    ]


def outcome_bins(y: Floats, value: Floats, n_bins: int = 10) -> pd.DataFrame:
    """Mean prediction and mean outcome in bins of equal count, with normal 95 % intervals of the latter."""
    bins = pd.qcut(value, min(n_bins, len(np.unique(value))), labels=False, duplicates="drop")
    grouped = pd.DataFrame({"y": y, "value": value}).groupby(np.asarray(bins))
    table = grouped.agg(
        value=("value", "mean"), outcome=("y", "mean"), error=("y", "sem"), n=("y", "size")
    )
    return table.assign(half=1.959964 * table["error"].fillna(0.0)).drop(columns="error")


def outcome_chart(y: Floats, value: Floats) -> Chart:
    """Whether a predicted return of 20 basis points brings 20."""
    title = "Do predicted returns come true?"
    if len(y) == 0:
        return Chart("outcomes", title, note=_EMPTY)
    if np.ptp(value) == 0:
        note = "Every prediction is the same: the model found nothing to tell rows apart by."
        return Chart("outcomes", title, note=note)
    table = outcome_bins(y, value)
    bp = 10_000 * table[["value", "outcome", "half"]]
    ends = [float(bp["value"].min()), float(bp["value"].max())]
    data = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": "true, with 95 % interval",
            "x": short(bp["value"], 4),
            "y": short(bp["outcome"], 4),
            "error_y": {"type": "data", "array": short(bp["half"], 4), "color": MODEL},
            "line": {"color": MODEL, "width": 2},
            "customdata": table["n"].tolist(),
            "hovertemplate": "predicted %{x:.1f} bp: %{y:.1f} bp, %{customdata} rows<extra></extra>",
        },
        {
            "type": "scatter",
            "mode": "lines",
            "name": "perfect",
            "x": ends,
            "y": ends,
            "line": {"color": REFERENCE, "dash": "dash", "width": 1.5},
            "hoverinfo": "skip",
        },
    ]
    layout = {
        "xaxis": axis("Predicted log return (basis points, mean of a tenth of the rows)"),
        "yaxis": axis("True log return (basis points)"),
    }
    top, bottom = bp.iloc[-1], bp.iloc[0]
    title = (
        f"The highest tenth of predictions came to {top['outcome']:.0f} bp on average where {top['value']:.0f} were "
        f"predicted, the lowest to {bottom['outcome']:.0f} where {bottom['value']:.0f} were"
    )
    note = "Neighbouring candles are not independent: the true intervals are wider."
    return Chart("outcomes", title, {"data": data, "layout": layout}, note, height=380)
