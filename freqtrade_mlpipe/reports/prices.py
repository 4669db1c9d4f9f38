"""Trades drawn on the prices they were made at."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from freqtrade_mlpipe.reports.blocks import (
    BAD,
    GOOD,
    REFERENCE,
    SOFT,
    Chart,
    Figure,
    axis,
    moments,
    number,
    percent,
    short,
    thinned,
)

MAX_PRICE_POINTS = 600
MAX_PAIRS = 12
MAX_TRADES = 150
_NEEDED = {"pair", "open_date", "close_date", "open_rate", "close_rate", "profit_ratio"}


def price_chart(closes: pd.DataFrame | None, trades: pd.DataFrame | None) -> Chart:
    """Closing prices of each pair with the entries and exits on them; the reader picks the pair."""
    title = "Trades on the price chart"
    if closes is None or closes.dropna(how="all").empty:
        return Chart("prices", title, note="No prices of the backtest's window were kept.")
    if trades is None or trades.empty:
        return Chart("prices", title, note="No trade was made, so there is none to draw.")
    if not set(trades.columns) >= _NEEDED:
        return Chart("prices", title, note="When and at what price trades opened was not kept.")
    counts = trades["pair"].value_counts()
    profits = trades.groupby("pair")["profit_ratio"].sum()
    most = [str(pair) for pair in counts.index if pair in closes][:MAX_PAIRS]
    if not most:
        return Chart("prices", title, note="No price of a traded pair was kept.")
    traded = sorted(most, key=lambda pair: -float(profits[pair]))
    choices = {
        f"{pair} ({counts[pair]} trades)": _figure(closes[pair].dropna(), trades, pair)
        for pair in traded
    }
    first = next(iter(choices.values()))
    left_out = len(counts) - len(traded)
    notes = []
    if len(closes) > MAX_PRICE_POINTS:
        notes.append(
            f"Prices are thinned to {MAX_PRICE_POINTS} points a pair, highs and lows kept; entries and exits stand "
            "where they were."
        )
    if left_out > 0:
        notes.append(f"{left_out} pairs with fewer trades are not drawn.")
    if int(counts.iloc[0]) > MAX_TRADES:
        notes.append(f"At most the last {MAX_TRADES} trades of a pair are drawn.")
    best, total = traded[0], percent(float(profits[traded[0]]))
    title = f"Where it bought and sold: {best} did best, its trades summing to {total}"
    return Chart("prices", title, first, " ".join(notes), height=400, choices=choices)


def _figure(prices: pd.Series[float], trades: pd.DataFrame, pair: str) -> Figure:
    own = trades[trades["pair"] == pair].sort_values("open_date").tail(MAX_TRADES)
    line = thinned(prices.astype(float), MAX_PRICE_POINTS)
    data: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "close",
            "x": moments(line.index),
            "y": short(line),
            "line": {"color": REFERENCE, "width": 1.3},
            "hovertemplate": "%{x}: %{y}<extra></extra>",
        }
    ]
    for name, color, rows in (
        ("won", GOOD, own["profit_ratio"] > 0),
        ("lost", BAD, own["profit_ratio"] <= 0),
    ):
        part = own[rows]
        data.append(_held(part, name, color))
    data.append(_points(own, "entry", "open_date", "open_rate", "triangle-up", SOFT))
    for name, color, rows in (
        ("exit, won", GOOD, own["profit_ratio"] > 0),
        ("exit, lost", BAD, own["profit_ratio"] <= 0),
    ):
        data.append(_points(own[rows], name, "close_date", "close_rate", "x", color))
    layout = {
        "xaxis": axis("Date (UTC)", type="date"),
        "yaxis": axis(f"Price ({pair.partition('/')[2].partition(':')[0] or 'quote currency'})"),
    }
    return {"data": data, "layout": layout}


def _held(trades: pd.DataFrame, name: str, color: str) -> dict[str, Any]:
    """A line from entry to exit of each trade, broken between trades."""
    x: list[str | None] = []
    y: list[Any] = []
    starts, stops = moments(trades["open_date"]), moments(trades["close_date"])
    paid, got = short(trades["open_rate"]), short(trades["close_rate"])
    for start, stop, a, b in zip(starts, stops, paid, got, strict=True):
        x += [start, stop, None]
        y += [a, b, None]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": x,
        "y": y,
        "line": {"color": color, "width": 2},
        "showlegend": False,
        "hoverinfo": "skip",
    }


def _points(
    trades: pd.DataFrame, name: str, when: str, price: str, symbol: str, color: str
) -> dict[str, Any]:
    profits = [percent(float(value)) for value in trades["profit_ratio"]]
    reasons = (
        trades["exit_reason"].astype(str).tolist()
        if "exit_reason" in trades
        else [""] * len(trades)
    )
    words = [
        f"{profit}{', ' + reason if reason else ''}"
        for profit, reason in zip(profits, reasons, strict=True)
    ]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": f"{name} ({number(len(trades))})",
        "x": moments(trades[when]),
        "y": short(trades[price].astype(np.float64)),
        "text": words,
        "marker": {"symbol": symbol, "size": 8, "color": color},
        "hovertemplate": f"{name} %{{x}} at %{{y}}: %{{text}}<extra></extra>",
    }
