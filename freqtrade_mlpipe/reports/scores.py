"""Charts of the out-of-sample scores: ranking, calibration, distribution, what they earned."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from freqtrade_mlpipe.metrics import BLOCK_HORIZONS, Estimate, score_intervals
from freqtrade_mlpipe.reports.blocks import (
    BAD,
    GOOD,
    MODEL,
    OTHER,
    REFERENCE,
    Chart,
    axis,
    short,
)

Floats = NDArray[np.float64]

_EMPTY = "No out-of-sample predictions with a known outcome were recorded."
_ROC_POINTS = 400


def score_charts(oos: pd.DataFrame | None, round_trip_cost: float, horizon: int = 1) -> list[Chart]:
    """ROC, precision and recall, calibration, distribution by outcome, return by score.

    Of three classes these are charts of long against the rest, and a last one of short trades by the
    probability of short.

    Parameters
    ----------
    horizon
        Candles that labels look ahead: rows closer than that are not independent.
    """
    if oos is None or not {"y", "proba"} <= set(oos.columns):
        known = pd.DataFrame({"y": [], "proba": []}, dtype=float)
    else:
        known = oos.dropna(subset=["y", "proba"])
        known = known.assign(y=(known["y"] == 1).astype(float))
    y, proba = known["y"].to_numpy(dtype=float), known["proba"].to_numpy(dtype=float)
    charts = [
        roc_chart(y, proba, _within_folds(known, horizon)),
        precision_chart(y, proba),
        calibration_chart(y, proba),
        distribution_chart(y, proba),
        return_chart(oos, round_trip_cost),
    ]
    if oos is not None and "proba_short" in oos:
        charts.append(
            return_chart(
                oos, round_trip_cost, "proba_short", "short_return", "probabilities of short"
            )
        )
    return charts


def _within_folds(known: pd.DataFrame, horizon: int) -> Estimate | None:
    if "fold" not in known or known.empty:
        return None
    dates = pd.DatetimeIndex(known.index.get_level_values("date"))
    block = BLOCK_HORIZONS * horizon
    found = score_intervals(known["y"], known["proba"], dates, block, group=known["fold"])
    return found.get("roc_auc")


def roc_points(y: Floats, proba: Floats) -> tuple[Floats, Floats, float]:
    """False and true positive rates over falling thresholds, and the area under them.

    Equal scores are one point, so that the area is that of the Mann-Whitney statistic.
    """
    order = np.argsort(-proba, kind="stable")
    hit, score = y[order] > 0.5, proba[order]
    last_of_score = np.append(score[1:] != score[:-1], True)
    true = np.concatenate([[0], np.cumsum(hit)[last_of_score]]) / hit.sum()
    false = np.concatenate([[0], np.cumsum(~hit)[last_of_score]]) / (~hit).sum()
    return false, true, float(np.trapezoid(true, false))


def roc_chart(y: Floats, proba: Floats, within: Estimate | None = None) -> Chart:
    """How well scores rank outcomes, against a coin.

    Parameters
    ----------
    within
        The mean area within folds, which the title then names: the drawn curve pools all folds, and so
        mixes ranks within a fold with differences between folds.
    """
    title = "Do higher scores go with better outcomes?"
    if len(y) == 0:
        return Chart("roc", title, note=_EMPTY, wide=False)
    if len(np.unique(y > 0.5)) < 2:
        note = "All outcomes are of one class: there is nothing to rank."
        return Chart("roc", title, note=note, wide=False)
    false, true, area = roc_points(y, proba)
    keep = np.unique(np.linspace(0, len(false) - 1, _ROC_POINTS).round().astype(int))
    data = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": f"model (area {area:.3f})",
            "x": short(false[keep], 4),
            "y": short(true[keep], 4),
            "line": {"color": MODEL, "width": 2},
        },
        _diagonal("a coin (area 0.5)"),
    ]
    layout = {
        "xaxis": axis("False alarms (share of negatives)", range=[0, 1]),
        "yaxis": axis("Hits (share of positives)", range=[0, 1]),
    }
    title = f"Scores rank outcomes {_quality(area)}: ROC AUC {area:.3f}"
    note = ""
    if within is not None:
        title = f"Scores rank outcomes {_quality(within.value)}: ROC AUC {within.value:.3f}"
        note = f"Mean within folds; the curve pools all folds (area {area:.3f})."
        if within.low <= 0.5 <= within.high:
            title = (
                f"Chance could rank outcomes as well as these scores: ROC AUC {within.value:.3f}"
            )
        if np.isfinite(within.low):
            note += f" 95 % interval {within.low:.3f} to {within.high:.3f}, from resampled blocks."
    return Chart("roc", title, {"data": data, "layout": layout}, note, height=360, wide=False)


def precision_chart(y: Floats, proba: Floats) -> Chart:
    """How often the highest scores come true, against the share of all rows that do."""
    title = "How often do the highest scores come true?"
    if len(y) == 0:
        return Chart("precision", title, note=_EMPTY, wide=False)
    hit = y > 0.5
    if not hit.any():
        note = "Not one outcome came true: there is nothing to find."
        return Chart("precision", title, note=note, wide=False)
    order = np.argsort(-proba, kind="stable")
    last = np.append(np.diff(proba[order]) != 0, True)  # equal scores are one point
    found = np.cumsum(hit[order])[last]
    told = np.flatnonzero(last) + 1
    recall, precision = found / hit.sum(), found / told
    area = float((np.diff(recall, prepend=0) * precision).sum())
    # The first points are means of a handful of rows: noise that would set the scale.
    steady = np.flatnonzero(told >= min(100, len(y) // 10))
    keep = steady[np.unique(np.linspace(0, len(steady) - 1, _ROC_POINTS).round().astype(int))]
    base = float(hit.mean())
    data = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": f"model (average precision {area:.3f})",
            "x": short(recall[keep], 4),
            "y": short(precision[keep], 4),
            "line": {"color": MODEL, "width": 2},
        },
        {
            "type": "scatter",
            "mode": "lines",
            "name": f"all rows ({base:.3f})",
            "x": [0, 1],
            "y": [base, base],
            "line": {"color": REFERENCE, "dash": "dash", "width": 1.5},
            "hoverinfo": "skip",
        },
    ]
    layout = {
        "xaxis": axis("Recall (share of positives found)", range=[0, 1]),
        "yaxis": axis("Precision (share that came true)"),
    }
    top = max(1, round(len(y) / 10))
    share = float(hit[order[:top]].mean())
    title = f"{100 * share:.0f} % of the highest tenth came true, {100 * base:.0f} % of all rows"
    return Chart("precision", title, {"data": data, "layout": layout}, height=360, wide=False)


def calibration_bins(y: Floats, proba: Floats, n_bins: int = 10) -> pd.DataFrame:
    """Mean score and observed frequency in bins of equal count, with Wilson 95 % intervals."""
    bins = pd.qcut(proba, min(n_bins, len(np.unique(proba))), labels=False, duplicates="drop")
    grouped = pd.DataFrame({"y": y > 0.5, "proba": proba}).groupby(np.asarray(bins))
    table = grouped.agg(proba=("proba", "mean"), observed=("y", "mean"), n=("y", "size"))
    z, n, p = 1.959964, table["n"], table["observed"]
    center = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return table.assign(low=center - half, high=center + half)


def calibration_chart(y: Floats, proba: Floats) -> Chart:
    """Whether a score of 0.6 comes true six times in ten."""
    title = "Do scores mean what they say?"
    if len(y) == 0:
        return Chart("calibration", title, note=_EMPTY, wide=False)
    table = calibration_bins(y, proba)
    error = float((table["n"] * (table["proba"] - table["observed"]).abs()).sum() / len(y))
    data = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": "observed, with 95 % interval",
            "x": short(table["proba"], 4),
            "y": short(table["observed"], 4),
            "error_y": {
                "type": "data",
                "symmetric": False,
                "array": short(table["high"] - table["observed"], 4),
                "arrayminus": short(table["observed"] - table["low"], 4),
                "color": MODEL,
            },
            "line": {"color": MODEL, "width": 2},
            "customdata": table["n"].tolist(),
            "hovertemplate": "score %{x:.3f}: %{y:.3f} of %{customdata} rows<extra></extra>",
        },
        _diagonal("perfect", float(table["proba"].min()), float(table["proba"].max())),
    ]
    layout = {
        "xaxis": axis("Score (mean of a tenth of the rows)"),
        "yaxis": axis("Share that came true"),
    }
    note = "Neighbouring candles are not independent: the true intervals are wider."
    title = f"Scores are off by {100 * error:.1f} percentage points on average"
    return Chart(
        "calibration", title, {"data": data, "layout": layout}, note, height=360, wide=False
    )


def distribution_chart(y: Floats, proba: Floats) -> Chart:
    """Scores of those that came true beside scores of those that did not."""
    title = "How scores are distributed"
    if len(y) == 0:
        return Chart("distribution", title, note=_EMPTY, wide=False)
    low, high = float(proba.min()), float(proba.max())
    pad = 0.01 if high == low else 0.0
    edges = np.linspace(low - pad, high + pad, 51)
    data = []
    for name, rows, color in (("came true", y > 0.5, MODEL), ("did not", y <= 0.5, OTHER)):
        counts = np.histogram(proba[rows], bins=edges)[0]
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": f"{name} ({int(rows.sum()):,} rows)",
                "x": short((edges[:-1] + edges[1:]) / 2, 4),
                "y": short(100 * counts / max(1, int(rows.sum())), 4),
                "line": {"color": color, "width": 2, "shape": "hvh"},
                **({"fill": "tozeroy", "fillcolor": f"{MODEL}-fill"} if color == MODEL else {}),
                "hovertemplate": f"{name}, score %{{x:.3f}}: %{{y:.1f}} %<extra></extra>",
            }
        )
    layout = {
        "xaxis": axis("Score (probability of class 1)"),
        "yaxis": axis("Rows of that outcome (%)", rangemode="tozero"),
    }
    up, down = proba[y > 0.5], proba[y <= 0.5]
    if len(up) and len(down):
        gap = float(up.mean() - down.mean())
        higher = "higher" if gap >= 0 else "lower"
        title = f"Rows that came true scored {100 * abs(gap):.1f} points {higher} on average"
    return Chart("distribution", title, {"data": data, "layout": layout}, height=360, wide=False)


def return_chart(
    oos: pd.DataFrame | None,
    round_trip_cost: float,
    score: str = "proba",
    gain: str = "forward_return",
    words: str = "scores",
) -> Chart:
    """What a trade earned on average, by tenth of the score.

    Parameters
    ----------
    score, gain
        Columns of `oos`: what the rows are ordered by, and the gross return of a trade.
    words
        What the title calls the scores.
    """
    key = "short-returns" if gain == "short_return" else "returns"
    title = f"What trades would have earned, by {words}"
    if oos is None or not {score, gain} <= set(oos.columns):
        return Chart(key, title, note="No forward returns were recorded.")
    known = oos[[score, gain]].dropna()
    if len(known) < 100:
        note = f"Only {len(known)} rows have a known return: too few for averages."
        return Chart(key, title, note=note)
    tenth = pd.qcut(known[score].rank(method="first"), 10, labels=False)
    mean = 10_000 * known[gain].groupby(tenth).mean()
    cost = 10_000 * round_trip_cost
    data = [
        {
            "type": "bar",
            "name": "mean gross return",
            "x": [str(i) for i in range(1, 11)],
            "y": short(mean, 4),
            "marker": {"color": [GOOD if value > cost else REFERENCE for value in mean]},
            "hovertemplate": "tenth %{x}: %{y:.1f} bp<extra></extra>",
            "showlegend": False,
        }
    ]
    if cost > 0:
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": f"fees of a round trip ({cost:.0f} bp)",
                "x": [str(i) for i in range(1, 11)],
                "y": [cost] * 10,
                "line": {"color": BAD, "dash": "dash", "width": 1.5},
            }
        )
    layout = {
        "xaxis": axis(f"Tenth of the rows by {words} (10: highest)", type="category"),
        "yaxis": axis("Mean gross return (basis points)"),
        "bargap": 0.25,
    }
    top, bottom = float(mean.iloc[-1]), float(mean.iloc[0])
    title = f"The highest tenth of {words} earned {top:.0f} bp a trade, the lowest {bottom:.0f}"
    note = "" if cost > 0 else "Fees are not known here and not drawn."
    return Chart(key, title, {"data": data, "layout": layout}, note)


def _quality(area: float) -> str:
    for limit, words in (
        (0.48, "the wrong way round"),
        (0.505, "no better than a coin"),
        (0.55, "slightly better than a coin"),
    ):
        if area < limit:
            return words
    return "clearly better than a coin"


def _diagonal(name: str, low: float = 0.0, high: float = 1.0) -> dict[str, object]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": [low, high],
        "y": [low, high],
        "line": {"color": REFERENCE, "dash": "dash", "width": 1.5},
        "hoverinfo": "skip",
    }
