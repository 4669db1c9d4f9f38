"""The page of a FreqAI backtest: its windows, the gate's decisions, and what was traded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from freqtrade_mlpipe.reports.blocks import Chart, Section, Table, axis, number, short
from freqtrade_mlpipe.reports.data import ReportData
from freqtrade_mlpipe.reports.money import figures_table, pairs_table
from freqtrade_mlpipe.reports.page import write_page

_SHOWN = {
    "pair": "Pair", "trained_at": "Trained", "accepted": "Serves", "log_loss": "Log-loss",
    "squared_error": "Squared error", "roc_auc": "ROC AUC", "coverage": "Predicted",
    "n_train_rows": "Rows", "train_seconds": "Seconds",
}  # fmt: skip
_LOSSES = ("log_loss", "squared_error")


def write_freqai_report(
    path: Path,
    *,
    title: str,
    windows: pd.DataFrame,
    figures: Mapping[str, float],
    pairs: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
    now: datetime,
) -> Path:
    """Write the page and return its path.

    Parameters
    ----------
    windows
        A row for each window that was trained, as `windows.csv` of the run.
    figures, pairs
        freqtrade's own, of all pairs and of each.
    """
    sections = [
        Section("windows", "Windows", [_loss_chart(windows), _window_table(windows)], _sentence(windows)),
        Section("decisions", "Decisions of the gate", [_decisions(windows)]),
        Section("backtest", "Backtest", [figures_table(figures), pairs_table(pairs)]),
    ]  # fmt: skip
    report = ReportData(
        title=f"FreqAI backtest of {title}",
        verdict=[_sentence(windows)],
        badge="Sliding window",
        summary=dict(settings.get("backtest", {})),
        backtest=dict(figures),
        config=dict(settings),
        generated_at=now,
    )
    return write_page(report, sections, path)


def _sentence(windows: pd.DataFrame) -> str:
    if windows.empty:
        return "All predictions were found in the cache: no window was trained."
    refused = int((~windows["accepted"].astype(bool)).sum())
    return (
        f"{len(windows):,} windows of {windows['pair'].nunique()} pairs were trained; in {refused:,} the model before "
        "went on, because the fresh one was refused or failed."
    )


def _window_table(windows: pd.DataFrame) -> Table:
    names = [name for name in _SHOWN if name in windows]
    rows = [[number(row[name]) for name in names] for _, row in windows.iterrows()]
    return Table(
        "Window by window", [_SHOWN[name] for name in names], rows, "No window was trained."
    )


def _decisions(windows: pd.DataFrame) -> Table:
    rows = [
        [f"{row['pair']} {row['trained_at']}", str(row["gate"])] for _, row in windows.iterrows()
    ]
    return Table("In words", ["Window", "Reason"], rows, "No window was trained.")


def _loss_chart(windows: pd.DataFrame) -> Chart:
    title = "Loss on the newest rows, which the model has not seen"
    loss = next((name for name in _LOSSES if name in windows), None)
    if loss is None:
        return Chart("window-loss", title, note="No window was judged.")
    data = [
        {
            "type": "scatter", "mode": "lines+markers", "name": str(pair),
            "x": [str(moment) for moment in part["trained_at"]], "y": short(part[loss]),
        }
        for pair, part in windows.groupby("pair", sort=False)
    ]  # fmt: skip
    layout = {"xaxis": axis("Trained at (UTC)"), "yaxis": axis(loss.replace("_", " "))}
    return Chart("window-loss", title, {"data": data, "layout": layout})
