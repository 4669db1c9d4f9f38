"""Putting the page together and writing it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd

from freqtrade_mlpipe.config import Task
from freqtrade_mlpipe.reports.blocks import Chart, Section, number, percent
from freqtrade_mlpipe.reports.data import BASELINES, ReportData
from freqtrade_mlpipe.reports.features import (
    drift_chart,
    gain_chart,
    permutation_chart,
    selection_chart,
    shap_chart,
)
from freqtrade_mlpipe.reports.folds import fold_table, ranking_chart, skill_chart, timeline
from freqtrade_mlpipe.reports.money import equity_chart, figures_table, pairs_table, trades_chart
from freqtrade_mlpipe.reports.prices import price_chart
from freqtrade_mlpipe.reports.scores import score_charts
from freqtrade_mlpipe.reports.search import front_charts, parameter_chart, search_chart
from freqtrade_mlpipe.reports.values import value_charts
from freqtrade_mlpipe.tracking.flatten import plain
from freqtrade_mlpipe.trainer import BASELINE_METRICS

_OUTCOMES: Mapping[Task, str] = {
    "binary": "",
    "three_class": " The charts are about long against the rest: the score is the probability of long, and an outcome "
    "came true if it was long. The area in the fold by fold section is the mean of long, flat and short.",
    "regression": " The model predicts returns, not classes: an ROC curve, precision and calibrated probabilities do "
    "not apply to it.",
}


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
    return write_page(report, build_sections(report), path)


def write_page(report: ReportData, sections: Sequence[Section], path: Path) -> Path:
    """Write a page with sections of one's own between the gates and the configuration; see `render_report`."""
    from jinja2 import Environment, StrictUndefined
    from plotly.offline import get_plotlyjs

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["tidy"] = _tidy
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    template = files("freqtrade_mlpipe.reports").joinpath("report.html.j2").read_text("utf-8")
    page = environment.from_string(template).render(
        report=report,
        headlines=headlines(report),
        summary=[(label, number(value)) for label, value in report.summary.items()],
        gates=[_gate(check) for check in report.gates],
        gates_sentence=_gates_sentence(report),
        sections=sections,
        config=json.dumps(plain(report.config), indent=2, ensure_ascii=False),
        figures=_figures(sections),
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
    folds, oos, horizon, task = report.folds, report.oos, report.horizon_candles, report.task
    no_training, no_backtest = (report.problems.get(kind, "") for kind in ("training", "backtest"))
    return [
        Section("walk-forward", "Walk-forward", [timeline(folds, _last_date(report))], no_training),
        Section(
            "folds",
            "Fold by fold",
            [
                ranking_chart(folds, oos, horizon, task),
                skill_chart(folds, oos, horizon, task),
                fold_table(folds, oos, horizon, task),
            ],
        ),
        Section(
            "scores",
            "Out-of-sample scores",
            value_charts(oos, report.round_trip_cost)
            if task == "regression"
            else score_charts(oos, report.round_trip_cost, horizon),
            report.problems.get("oos", "") or _scores_sentence(oos, task),
        ),
        Section(
            "features",
            "Features",
            [
                gain_chart(report.feature_importance),
                permutation_chart(report.permutation, report.n_explained_rows, task),
                shap_chart(report.shap, report.contributions, report.feature_values, task),
                selection_chart(report.selection, len(folds)),
                drift_chart(report.drift, report.problems.get("drift", "")),
            ],
        ),
        Section(
            "backtest",
            "Backtest on the final window",
            [
                equity_chart(report.equity, report.market),
                price_chart(report.closes, report.trades),
                trades_chart(report.trades),
                figures_table(report.backtest),
                pairs_table(report.backtest.get("pairs")),
            ],
            no_backtest,
        ),
        Section(
            "search",
            "Search for parameters",
            [
                search_chart(report.trials, report.metric, report.direction),
                *front_charts(report.trials, report.front, report.picked, report.rule),
                parameter_chart(report.parameter_importance, len(report.trials)),
            ],
        ),
    ]


def headlines(report: ReportData) -> list[tuple[str, str, str]]:
    """The figures people look for first: label, figure, what to hold it against."""
    metrics, backtest = report.metrics, report.backtest
    name, rule = BASELINES[report.task]
    base = f"{rule.removeprefix('the ')}: {number(metrics.get(BASELINE_METRICS[name]))}"
    ranking = ("ROC AUC", number(metrics.get("roc_auc")), "0.5: a coin")
    loss = ("Log-loss", number(metrics.get("log_loss")), base)
    if report.task == "regression":
        ranking = ("Rank correlation", number(metrics.get("spearman")), "0: none")
        loss = ("Squared error", number(metrics.get("squared_error")), base)
    found = [
        ranking,
        loss,
        (
            "Profit",
            percent(backtest.get("profit_total")),
            f"buy and hold: {percent(backtest.get('market_change'))}",
        ),
        ("Sharpe ratio", number(backtest.get("sharpe")), "annual, net of fees"),
        ("Drawdown", percent(backtest.get("max_drawdown")), "at most, of the account"),
        ("Trades", number(backtest.get("n_trades")), "closed, all pairs"),
    ]
    return found if metrics or backtest else []


def _tidy(text: str) -> str:
    """No line break between a figure and its per cent sign."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%")


def _figures(sections: Sequence[Section]) -> dict[str, Any]:
    """What the page draws, by the key of the chart: a figure, or the figures to choose from."""
    return {
        block.key: {"choices": list(block.choices.values())} if block.choices else block.figure
        for section in sections
        for block in section.blocks
        if isinstance(block, Chart) and block.figure is not None
    }


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


def _scores_sentence(oos: pd.DataFrame | None, task: Task) -> str:
    if oos is None or oos.empty:
        return ""
    text = f"{len(oos):,} predictions, each by a model that had not seen its candle"
    if "signal" in oos:
        text += f"; {int((oos['signal'] == 1).sum()):,} of them said enter"
        if task == "three_class":
            text += f" long, {int((oos['signal'] == -1).sum()):,} enter short"
    return f"{text}.{_OUTCOMES[task]}"


def _last_date(report: ReportData) -> Any:
    if report.oos is None or report.oos.empty:
        return None
    index = report.oos.index
    dates = index.get_level_values("date") if "date" in index.names else index
    return dates.max() if isinstance(dates, pd.DatetimeIndex) else None
