"""`train`, `validate`, `promote`, `rollback`."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from freqtrade_mlpipe.commands.context import Context, load_context, load_strategy
from freqtrade_mlpipe.commands.display import (
    console,
    print_gates,
    print_training,
    print_version,
    progress_bar,
)
from freqtrade_mlpipe.exceptions import GateRefusedError, RegistryError

if TYPE_CHECKING:
    from freqtrade_mlpipe.integration.backtest import BacktestOutcome
    from freqtrade_mlpipe.pipeline import TrainingOutcome
    from freqtrade_mlpipe.registry import GateReport, ModelRegistry, ModelVersion


def start_train(arguments: dict[str, Any]) -> int:
    """Train and register a version; says what to type next."""
    context = load_context(arguments)
    outcome = train_version(context)
    print_training(outcome)
    version = outcome.version
    console.print(
        f"\nNext: freqtrade-mlpipe validate --model-name {version.name} --model-version {version.version}",
        highlight=False,
        soft_wrap=True,
    )
    return 0


def start_validate(arguments: dict[str, Any]) -> int:
    """Run the gates; exit code 3 when they refuse."""
    context = load_context(arguments, backtest=True)
    version = wanted_version(context, arguments.get("model_version"))
    report, _ = validate_version(context, version)
    if arguments.get("print_json"):
        sys.stdout.write(json.dumps(report.to_dict(), indent=2) + "\n")
    else:
        print_gates(report, version)
    if not report.passed:
        return GateRefusedError.exit_code
    if not arguments.get("print_json"):
        console.print(
            f"\nNext: freqtrade-mlpipe promote --model-name {version.name} --model-version {version.version}",
            highlight=False,
            soft_wrap=True,
        )
    return 0


def start_promote(arguments: dict[str, Any]) -> int:
    """Promote a validated version; refuses with exit code 3."""
    context = load_context(arguments)
    version = wanted_version(context, arguments.get("model_version"))
    promoted = context.registry().promote_to_production(
        version.name,
        version.version,
        notes=arguments.get("notes") or "",
        force_reason=arguments.get("force_reason"),
    )
    print_version(promoted, "is in production")
    return 0


def start_rollback(arguments: dict[str, Any]) -> int:
    """Put an earlier version back into production."""
    context = load_context(arguments)
    restored = context.registry().rollback_to_version(
        context.mlpipe.model_name,
        arguments.get("model_version"),
        reason=arguments.get("notes") or "",
    )
    print_version(restored, "is back in production")
    return 0


def train_version(context: Context) -> TrainingOutcome:
    """Candles from freqtrade's data directory → a registered version."""
    from freqtrade.configuration import TimeRange

    from freqtrade_mlpipe.integration import data as candle_data
    from freqtrade_mlpipe.pipeline import TrainingData, train
    from freqtrade_mlpipe.tracking import ExperimentTracker

    strategy = load_strategy(context)
    source = candle_data.CandleSource.from_config(context.freqtrade)
    text = context.freqtrade.get("timerange")
    startup = strategy.startup_candle_count
    candles = candle_data.load_candles(
        source,
        candle_data.whitelist(context.freqtrade),
        TimeRange.parse_timerange(text) if text else None,
        startup_candles=startup,
    )
    config = context.mlpipe
    registry = context.registry()
    tracker = ExperimentTracker(
        config.tracking.project,
        config.tracking.backend,
        tracking_uri=config.registry.tracking_uri,
        directory=config.registry.directory,
    )
    with progress_bar() as on_progress:
        return train(
            TrainingData(
                candles=candles,
                timeframe=source.timeframe,
                candle=source.candle,
                compute=lambda frame, pair: strategy.mlpipe_compute(frame, {"pair": pair}),
                startup_candles=startup,
                data_hash=candle_data.content_hash(candles),
            ),
            config,
            registry=registry,
            tracker=tracker,
            now=datetime.now(UTC),
            settings={"strategy": context.freqtrade.get("strategy"), "timerange": text},
            on_progress=on_progress,
        )


def validate_version(context: Context, version: ModelVersion) -> tuple[GateReport, BacktestOutcome]:
    """Backtest the version, and the champion, on the final window with freqtrade, then run the gates.

    The report is stored with the version whatever it says.
    """
    from freqtrade_mlpipe.integration.backtest import run_backtest
    from freqtrade_mlpipe.integration.validation import gather_evidence

    load_strategy(context)
    registry = context.registry()

    def backtest(of: ModelVersion) -> BacktestOutcome:
        manifest = registry.load_bundle(version.name, version.version).manifest
        return run_backtest(
            {
                **context.freqtrade,
                "exchange": {
                    **context.freqtrade["exchange"],
                    "pair_whitelist": list(manifest.pairs),
                },
            },
            model_name=of.name,
            version=of.version,
            start=manifest.final_window_start,
        )

    with console.status(f"Backtesting version {version.version} on the final window"):
        outcome = backtest(version)
        champion = registry.get_production_model(version.name)
        rival = backtest(champion) if champion and champion.version != version.version else None
    evidence = gather_evidence(version, outcome.summary, rival.summary if rival else None)
    report = registry.validate_with_evidence(
        version.name, version.version, evidence, context.mlpipe.gates, now=datetime.now(UTC)
    )
    return report, outcome


def wanted_version(context: Context, number: str | None) -> ModelVersion:
    """The version asked for; "latest" and nothing mean the newest."""
    registry: ModelRegistry = context.registry()
    name = context.mlpipe.model_name
    if number and number != "latest":
        return registry.get_version(name, number)
    versions = registry.get_all_versions(name)
    if not versions:
        raise RegistryError(f"{name} has no versions. Train one with `freqtrade-mlpipe train`.")
    return max(versions, key=lambda version: int(version.version))
