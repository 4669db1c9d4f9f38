"""Backtests and reports as parts of experiments, linked with the version and, where there is one, the result file."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from freqtrade_mlpipe.commands.context import Context
from freqtrade_mlpipe.exceptions import MLPipeError
from freqtrade_mlpipe.integration.results import figures, per_pair, summary
from freqtrade_mlpipe.pipeline import version_tags

if TYPE_CHECKING:
    from freqtrade_mlpipe.integration.backtest import BacktestOutcome
    from freqtrade_mlpipe.integration.results import BacktestResult
    from freqtrade_mlpipe.registry import GateReport, ModelVersion
    from freqtrade_mlpipe.tracking import ExperimentTracker

logger = logging.getLogger(__name__)

VALIDATION = "validation"


def record_result(context: Context, version: ModelVersion, result: BacktestResult) -> str:
    """Log a stored result once; the id of its run.

    A result that is with the version already is found by its digest and not logged again.
    """
    key = f"backtest.{result.digest[:16]}"
    known = context.registry().get_annotations(version.name, version.version)
    if key in known:
        return str(known[key]["run_id"])
    tags = {"mlpipe.result_file": result.path.name, "mlpipe.result_digest": result.digest}
    return _record(
        context, version, result.stats, key=key, name=f"backtest {result.path.stem}", tags=tags
    )


def record_freqai_result(context: Context, result: BacktestResult) -> Path:
    """Log the trading result of a FreqAI backtest in its own run; the path of its report page."""
    from freqtrade_mlpipe.reports.freqai import write_freqai_report

    tracker = context.tracker()
    found = figures(result.stats)
    run_id = str(result.freqai_run)
    page = write_freqai_report(
        context.mlpipe.registry.directory / "reports" / f"freqai-{run_id}.html",
        title=result.strategy,
        windows=result.freqai_windows(),
        figures=found,
        pairs=[row for row in result.stats["results_per_pair"] if row["key"] != "TOTAL"],
        settings=_settings(result.stats),
        now=datetime.now(UTC),
    )
    with tracker.resume_run(run_id):
        tracker.log_metrics(found, prefix="backtest/")
        tracker.log_table("backtest_pairs.csv", pd.DataFrame(per_pair(result.stats)))
        tracker.log_json("backtest_results.json", summary(result.stats))
        tracker.set_tags(
            {"mlpipe.result_file": result.path.name, "mlpipe.result_digest": result.digest}
        )
        tracker.log_report(page)
    return page


def record_validation(
    context: Context, version: ModelVersion, outcome: BacktestOutcome, report: GateReport
) -> None:
    """Log the backtest behind a validation. A failure is told, and changes nothing about the verdict."""
    (stats,) = outcome.results["strategy"].values()
    tags = {
        "mlpipe.gates": "passed" if report.passed else "refused",
        "mlpipe.gates_failed": ", ".join(check.name for check in report.failures),
    }
    name = f"validation of version {version.version}"
    try:
        _record(context, version, stats, key=f"backtest.{VALIDATION}", name=name, tags=tags)
    except MLPipeError as error:
        logger.warning("The backtest of the validation is not logged: %s", error)


def record_version(context: Context, version: ModelVersion) -> None:
    """Say in the run that holds a version's files which version it is."""
    tracker = context.tracker()
    if tracker.backend == "mlflow":
        with tracker.resume_run(version.run_id):
            tracker.set_tags(version_tags(version))


def record_report(context: Context, version: ModelVersion, page: Path) -> None:
    """Put a report page with the training's run, where the MLflow UI shows it."""
    tracker = context.tracker()
    if tracker.backend == "mlflow":
        with tracker.resume_run(version.run_id):
            tracker.log_report(page)
            tracker.set_tags(version_tags(version))


def _record(
    context: Context,
    version: ModelVersion,
    stats: Mapping[str, Any],
    *,
    key: str,
    name: str,
    tags: Mapping[str, str],
) -> str:
    tracker = context.tracker()
    found = figures(stats)
    in_mlflow = tracker.backend == "mlflow"
    described = {**version_tags(version), "mlpipe.kind": "backtest", **tags}
    with tracker.start_run(
        name, _settings(stats), described, parent=version.run_id if in_mlflow else None
    ) as run_id:
        tracker.log_metrics(found, prefix="backtest/")
        tracker.log_table("backtest_pairs.csv", pd.DataFrame(per_pair(stats)))
        tracker.log_json("backtest_results.json", summary(stats))
    if in_mlflow:
        _mention(tracker, version, str(run_id), found, tags)
    note = {
        "run_id": str(run_id),
        "at": datetime.now(UTC).isoformat(),
        **tags,
        "figures": _finite(found),
    }
    context.registry().annotate(version.name, version.version, key, note)
    return str(run_id)


def _mention(
    tracker: ExperimentTracker,
    version: ModelVersion,
    run_id: str,
    found: Mapping[str, float],
    tags: Mapping[str, str],
) -> None:
    """In the training's run: the newest backtest's figures, beside the training's own."""
    with tracker.resume_run(version.run_id):
        tracker.log_metrics(found, prefix="backtest/")
        tracker.set_tags({"mlpipe.backtest_run": run_id, **version_tags(version), **tags})


def _settings(stats: Mapping[str, Any]) -> dict[str, Any]:
    names = ("strategy_name", "timeframe", "timerange", "backtest_start", "backtest_end", "trading_mode",
             "stake_currency", "starting_balance", "max_open_trades")  # fmt: skip
    return {"backtest": {name: stats[name] for name in names if name in stats}}


def _finite(found: Mapping[str, float]) -> dict[str, float | str]:
    return {
        name: value if abs(value) < float("inf") else str(value) for name, value in found.items()
    }
