"""What freqtrade's backtest says: key figures, equity against buy-and-hold, trades."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from freqtrade_mlpipe.reports.blocks import (
    BAD,
    GOOD,
    MAX_POINTS,
    MODEL,
    OTHER,
    Chart,
    Table,
    axis,
    moments,
    moved,
    number,
    percent,
    short,
    thinned,
)

_LABELS = {
    "profit_total": "Profit",
    "profit_total_abs": "Profit (stake currency)",
    "market_change": "Buy and hold",
    "sharpe": "Sharpe ratio",
    "sortino": "Sortino ratio",
    "calmar": "Calmar ratio",
    "max_drawdown": "Maximum drawdown",
    "max_drawdown_account": "Maximum drawdown",
    "profit_factor": "Profit factor",
    "trades": "Trades",
    "n_trades": "Trades",
    "key": "Pair",
    "wins": "Won",
    "losses": "Lost",
    "draws": "Drawn",
    "total_trades": "Trades",
    "winrate": "Winning trades",
    "cagr": "Yearly growth",
    "profit_mean": "Mean profit of a trade",
    "duration_avg": "Mean duration",
}
_RATIOS = ("profit_total", "market_change", "max_drawdown", "winrate", "cagr", "profit_mean")
_NOT_RATIOS = ("profit_total_abs",)
_PAIR_COLUMNS = (
    "key", "trades", "profit_total", "profit_mean", "winrate", "profit_factor", "max_drawdown_account",
    "sharpe", "duration_avg",
)  # fmt: skip


def figures_table(backtest: Mapping[str, Any]) -> Table:
    """The key figures, a row each."""
    title = "Key figures, net of fees"
    known = {
        key: value
        for key, value in backtest.items()
        if not isinstance(value, Mapping | list | tuple | pd.DataFrame)
    }
    if not known:
        return Table(title, note="No backtest was recorded.", wide=False)
    ordered = sorted(known, key=lambda key: (*_LABELS, key).index(key))
    rows = [[_label(key), _written(key, known[key])] for key in ordered]
    note = (
        "freqtrade's own figures. Its drawdown is the one at the largest loss in currency; the chart above "
        "shows relative ones."
    )
    return Table(title, ["", "Value"], rows, note, wide=False)


def pairs_table(pairs: Sequence[Mapping[str, Any]] | None) -> Table:
    """A row a pair."""
    title = "Pair by pair"
    if not pairs:
        return Table(title, note="No results by pair were recorded.")
    found = dict.fromkeys(key for row in pairs for key in row)
    columns = [key for key in _PAIR_COLUMNS if key in found] or list(found)
    rows = [[_written(key, row.get(key)) for key in columns] for row in pairs]
    return Table(title, [_label(key) for key in columns], rows)


def equity_chart(equity: pd.Series[float] | None, market: pd.Series[float] | None) -> Chart:
    """Growth of the account and of the market on top, how far each is below its peak beneath."""
    title = "Equity against buy-and-hold"
    account, hold = _growth(equity), _growth(market)
    if account is None:
        note = "No equity curve was recorded, or it is not positive throughout."
        return Chart("equity", title, note=note)
    data = []
    for name, curve, color, width in (
        ("model, net of fees", account, MODEL, 2.5),
        ("buy and hold", hold, OTHER, 1.2),
    ):
        if curve is None:
            continue
        depth = 100 * (curve / curve.cummax() - 1)
        line = {"color": color, "width": width}
        data += [
            _curve(thinned(100 * (curve - 1)), name, line, "y"),
            {**_curve(thinned(depth), name, line, "y2"), "showlegend": False}
            | ({"fill": "tozeroy", "fillcolor": f"{color}-fill"} if color == MODEL else {}),
        ]
    layout = {
        "xaxis": axis("Date (UTC)", type="date", anchor="y2"),
        "yaxis": axis("Gain since start (%)", domain=[0.4, 1]),
        "yaxis2": axis("Below peak (%)", domain=[0, 0.32], rangemode="tozero"),
        "hovermode": "x unified",
    }
    gain, worst = float(account.iloc[-1] - 1), float((account / account.cummax() - 1).min())
    title = f"The account {moved(gain)} and was at most {percent(-worst)} below a peak"
    if hold is not None:
        title += f"; buying and holding {moved(float(hold.iloc[-1] - 1))}"
    note = "" if hold is not None else "Buy-and-hold was not recorded and is not drawn."
    return Chart("equity", title, {"data": data, "layout": layout}, note, height=460)


def trades_chart(trades: pd.DataFrame | None) -> Chart:
    """Profit of each trade over time."""
    title = "Trades"
    if trades is None or not {"close_date", "profit_ratio"} <= set(trades.columns):
        return Chart("trades", title, note="No list of trades was recorded.", wide=False)
    closed = trades.dropna(subset=["close_date", "profit_ratio"]).sort_values("close_date")
    if closed.empty:
        return Chart("trades", title, note="Not a single trade was closed.", wide=False)
    profit = closed["profit_ratio"].astype(float)
    won = int((profit > 0).sum())
    title = f"{won} of {len(profit)} trades won; the average trade {moved(profit.mean())}"
    shown = closed.tail(MAX_POINTS)
    data = []
    for name, rows, color, symbol in (
        ("won", shown["profit_ratio"] > 0, GOOD, "circle"),
        ("lost", shown["profit_ratio"] <= 0, BAD, "x"),
    ):
        part = shown[rows]
        pairs = part["pair"].astype(str) if "pair" in part else pd.Series("", index=part.index)
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "x": moments(part["close_date"]),
                "y": short(100 * part["profit_ratio"], 4),
                "text": pairs.tolist(),
                "marker": {"color": color, "size": 7, "symbol": symbol, "opacity": 0.8},
                "hovertemplate": "%{text} %{x}: %{y:.2f} %<extra></extra>",
            }
        )
    layout = {
        "xaxis": axis("Closed (UTC)", type="date"),
        "yaxis": axis("Profit of the trade, net (%)"),
    }
    note = f"Only the last {MAX_POINTS:,} are drawn." if len(closed) > MAX_POINTS else ""
    return Chart("trades", title, {"data": data, "layout": layout}, note, height=380, wide=False)


def _growth(curve: pd.Series[float] | None) -> pd.Series[float] | None:
    """The curve relative to its start; None if there is none or it is not positive."""
    if curve is None:
        return None
    known = curve.dropna().astype(float)
    if len(known) < 2 or not (np.isfinite(known) & (known > 0)).all():
        return None
    return known / known.iloc[0]


def _curve(values: pd.Series[float], name: str, line: Any, yaxis: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "legendgroup": name,
        "x": moments(values.index),
        "y": short(values),
        "line": line,
        "yaxis": yaxis,
        "hovertemplate": "%{y:.2f} %",
    }


def _label(key: str) -> str:
    return _LABELS.get(key, key.replace("_", " ").capitalize())


def _written(key: str, value: Any) -> str:
    ratio = key.startswith(_RATIOS) and key not in _NOT_RATIOS
    return percent(value) if ratio else number(value)
