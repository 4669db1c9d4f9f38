"""Putting the page together and writing it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd

from freqtrade_mlpipe.reports.blocks import Chart, Section, number
from freqtrade_mlpipe.reports.data import ReportData
from freqtrade_mlpipe.reports.learning import (
    fold_chart,
    fold_table,
    importance_chart,
    search_chart,
    timeline,
)
from freqtrade_mlpipe.reports.money import equity_chart, figures_table, pairs_table, trades_chart
from freqtrade_mlpipe.reports.scores import score_charts
from freqtrade_mlpipe.tracking.flatten import plain

_BADGES = {True: "Promoted", False: "Refused", None: "Not decided"}


def render_report(report: ReportData, path: Path) -> Path:
    """Write the report as one HTML page that needs nothing else, and return its path.

    The page makes no request (its content policy forbids any), follows the reader's light or dark
    scheme, and can be read on a phone and printed.

    Parameters
    ----------
    path
        The file to write; its folder is made if missing. Written whole or not at all.

    Returns
    -------
    Path
        Absolute.
    """
    from jinja2 import Environment, StrictUndefined
    from plotly.offline import get_plotlyjs

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = files("freqtrade_mlpipe.reports").joinpath("report.html.j2").read_text("utf-8")
    sections = build_sections(report)
    figures = {
        block.key: block.figure
        for section in sections
        for block in section.blocks
        if isinstance(block, Chart) and block.figure is not None
    }
    page = environment.from_string(template).render(
        report=report,
        badge=_BADGES[report.promoted],
        summary=[(label, number(value)) for label, value in report.summary.items()],
        gates=[_gate(check) for check in report.gates],
        gates_sentence=_gates_sentence(report),
        sections=sections,
        config=json.dumps(plain(report.config), indent=2, ensure_ascii=False),
        figures=figures,
        plotly=get_plotlyjs(),
    )
    target = path.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.unfinished")
    unfinished.write_text(page, encoding="utf-8")
    unfinished.replace(target)
    return target


def build_sections(report: ReportData) -> list[Section]:
    """Everything between the gates and the configuration, in the order of the page."""
    roc, calibration, distribution, returns = score_charts(report.oos, report.round_trip_cost)
    return [
        Section("walk-forward", "Walk-forward", [timeline(report.folds, _last_date(report))]),
        Section("folds", "Fold by fold", [fold_chart(report.folds), fold_table(report.folds)]),
        Section(
            "scores",
            "Out-of-sample scores",
            [roc, calibration, distribution, returns],
            _scores_sentence(report.oos),
        ),
        Section("features", "Features", [importance_chart(report.feature_importance)]),
        Section(
            "backtest",
            "Backtest",
            [
                equity_chart(report.equity, report.market),
                figures_table(report.backtest),
                pairs_table(report.backtest.get("pairs")),
                trades_chart(report.trades),
            ],
        ),
        Section("search", "Search", [search_chart(report.trials, report.metric, report.direction)]),
    ]


def _gate(check: Mapping[str, Any]) -> dict[str, Any]:
    name = str(check.get("name", "")).replace("_", " ")
    return {
        "name": name[:1].upper() + name[1:],
        "value": number(check.get("value")),
        "threshold": number(check.get("threshold")),
        "passed": bool(check.get("passed")),
        "sentence": str(check.get("sentence") or ""),
    }


def _gates_sentence(report: ReportData) -> str:
    if not report.gates:
        return "No gate has been run on this version."
    passed = sum(bool(check.get("passed")) for check in report.gates)
    return f"{passed} of {len(report.gates)} checks passed."


def _scores_sentence(oos: pd.DataFrame | None) -> str:
    if oos is None or oos.empty:
        return ""
    text = f"{len(oos):,} predictions, each by a model that had not seen its candle"
    if "signal" in oos:
        text += f"; {int((oos['signal'] == 1).sum()):,} of them said enter"
    return f"{text}."


def _last_date(report: ReportData) -> Any:
    if report.oos is None or report.oos.empty:
        return None
    index = report.oos.index
    dates = index.get_level_values("date") if "date" in index.names else index
    return dates.max() if isinstance(dates, pd.DatetimeIndex) else None
