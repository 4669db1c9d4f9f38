"""The report page of a version that was just trained and validated."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freqtrade_mlpipe.commands.context import Context
from freqtrade_mlpipe.reports import ReportData, render_report

if TYPE_CHECKING:
    from freqtrade_mlpipe.integration.backtest import BacktestOutcome
    from freqtrade_mlpipe.pipeline import TrainingOutcome
    from freqtrade_mlpipe.registry import GateReport, ModelVersion


def write_report(
    context: Context,
    version: ModelVersion,
    outcome: TrainingOutcome,
    report: GateReport,
    backtest: BacktestOutcome,
    *,
    note: str,
) -> Path:
    """Render the page below the registry's folder."""
    training = outcome.model.report
    metric = context.mlpipe.model.optimization_metric
    return render_report(
        ReportData(
            title=f"{version.name}, version {version.version}",
            verdict=_verdict(version, report),
            promoted=report.passed,
            summary=_summary(version, outcome),
            data_note=note,
            gates=[check.to_dict() for check in report.checks],
            folds=training.folds,
            oos=training.oos,
            round_trip_cost=2 * context.mlpipe.labels.fee,
            feature_importance=training.feature_importance,
            trials=training.trials,
            metric=metric,
            direction=context.mlpipe.model.direction,
            backtest={**asdict(backtest.summary), "pairs": backtest.pairs},
            equity=backtest.equity,
            market=backtest.market,
            trades=backtest.trades,
            config=context.mlpipe.model_dump(mode="json"),
            generated_at=datetime.now(UTC),
        ),
        context.mlpipe.registry.directory / "reports" / f"{version.name}-v{version.version}.html",
    )


def _verdict(version: ModelVersion, report: GateReport) -> str:
    if report.passed:
        return (
            f"Version {version.version} passed all {len(report.checks)} gates and may serve. That says it beat honest "
            "baselines on candles it had never seen, not that it will earn money."
        )
    reasons = " ".join(check.sentence for check in report.failures)
    return f"Version {version.version} was refused by {len(report.failures)} of {len(report.checks)} gates. {reasons}"


def _summary(version: ModelVersion, outcome: TrainingOutcome) -> dict[str, Any]:
    production = outcome.model.production
    return {
        "Model": version.name,
        "Version": version.version,
        "Status": str(version.status),
        "Estimator": production.model_type,
        "Trained on": f"{production.train_start:%Y-%m-%d} to {production.train_end:%Y-%m-%d}",
        "Final window from": f"{outcome.final_window_start:%Y-%m-%d %H:%M} UTC",
        "Training rows": production.n_train_rows,
        "Features": len(outcome.model.feature_names),
        "Data hash": outcome.model.report.data_hash,
        "Bundle digest": version.digest,
        "Run": version.run_id,
    }
