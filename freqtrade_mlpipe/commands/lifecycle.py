"""`train`, `validate`, `promote`, `rollback`, `challenge`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from freqtrade_mlpipe.commands import stdout
from freqtrade_mlpipe.commands.context import Context, load_context, load_strategy, require_mixin
from freqtrade_mlpipe.commands.display import (
    console,
    print_gates,
    print_training,
    print_version,
    progress_bar,
    progress_console,
)
from freqtrade_mlpipe.exceptions import GateRefusedError, RegistryError
from freqtrade_mlpipe.features import FeatureEngineer, FrameKey, Frames
from freqtrade_mlpipe.integration.data import CandleSource, load_candles, load_frames, whitelist
from freqtrade_mlpipe.integration.features import StrategyFeatures
from freqtrade_mlpipe.integration.serving import engineer_of
from freqtrade_mlpipe.registry.files import scratch_folder

if TYPE_CHECKING:
    from freqtrade_mlpipe.dataset import TrainingData
    from freqtrade_mlpipe.integration.backtest import BacktestOutcome
    from freqtrade_mlpipe.pipeline import TrainingOutcome
    from freqtrade_mlpipe.registry import GateReport, ModelRegistry, ModelVersion, Record
    from freqtrade_mlpipe.retraining.units import Unit

RECORDED_SETTINGS = (
    "strategy",
    "timerange",
    "timeframe",
    "trading_mode",
    "margin_mode",
    "stake_currency",
)
"""Of freqtrade's configuration, what a training's run records beside the whole `mlpipe` block."""


def start_train(arguments: dict[str, Any]) -> int:
    """Train and register a version, or one a pair; says what to type next."""
    context = load_context(arguments)
    if context.mlpipe.scope == "per_pair":
        return _train_each(context)
    outcome = train_version(context)
    print_training(outcome)
    version = outcome.version
    console.print(
        f"\nNext: freqtrade-mlpipe validate --model-name {version.name} --model-version {version.version}",
        highlight=False,
        soft_wrap=True,
    )
    return 0


def _train_each(context: Context) -> int:
    from freqtrade_mlpipe.commands.units import UnitResult, each, finish, units

    def work(unit: Unit) -> UnitResult:
        version = train_version(context.for_unit(unit)).version
        said = f"validate --model-name {version.name}"
        return UnitResult(unit.model_name, unit.pairs, version.version, "trained", said, 0)

    return finish(each(work, units(context)))


def start_validate(arguments: dict[str, Any]) -> int:
    """Run the gates; exit code 3 when they refuse."""
    context = load_context(arguments, backtest=True)
    version = wanted_version(context, arguments.get("model_version"))
    report = validate_version(context, version)
    if arguments.get("print_json"):
        stdout.write_json(report.to_dict())
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
    if arguments.get("from_freqai"):
        version = register_from_freqai(context, *arguments["from_freqai"])
        print_version(version, "is registered, frozen")
        if arguments.get("force_reason") is None:
            console.print(
                f"\nNext: freqtrade-mlpipe validate --model-name {version.name} --model-version {version.version}",
                highlight=False,
                soft_wrap=True,
            )
            return 0
    else:
        version = wanted_version(context, arguments.get("model_version"))
    promoted = context.registry().promote_to_production(
        version.name,
        version.version,
        notes=arguments.get("notes") or "",
        force_reason=arguments.get("force_reason"),
    )
    print_version(promoted, "is in production")
    return 0


def register_from_freqai(context: Context, identifier: str, pair: str) -> ModelVersion:
    """A staged version of `mlpipe.model_name`: the model that FreqAI's loop trained last for a pair."""
    from freqtrade_mlpipe.integration.freqai_handover import served_folder, write_frozen

    folder = served_folder(context.user_data / "models", identifier, pair)
    name = context.mlpipe.model_name
    with scratch_folder() as temporary:
        bundle = Path(temporary) / "bundle"
        _, metrics = write_frozen(folder, bundle, name, fee=context.mlpipe.labels.fee)
        return context.registry().register_model(
            model_name=name,
            model_path=bundle,
            metrics=metrics,
            tags=["freqai"],
            notes=f"FreqAI {identifier}, {pair}, {folder.name}",
        )


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


def start_challenge(arguments: dict[str, Any]) -> int:
    """Let bots predict a version beside production; with --remove, none any more."""
    context = load_context(arguments)
    registry, name = context.registry(), context.mlpipe.model_name
    reason = arguments.get("notes") or ""
    if arguments.get("remove_challenger"):
        registry.remove_challenger(name, reason=reason)
        console.print(f"{name}: nothing is predicted beside production.", highlight=False)
        return 0
    version = wanted_version(context, arguments.get("model_version"))
    print_version(
        registry.set_challenger(name, version.version, reason=reason), "is the challenger"
    )
    return 0


def train_version(context: Context, *, data_note: str = "") -> TrainingOutcome:
    """Candles from freqtrade's data directory → a registered version.

    Parameters
    ----------
    data_note : where the candles are from, for the report page; empty: recorded ones.
    """
    from freqtrade_mlpipe.pipeline import train

    strategy = load_strategy(context)
    pairs = whitelist(context.freqtrade)
    source = CandleSource.from_config(context.freqtrade)
    features = StrategyFeatures(
        strategy,
        FeatureEngineer(context.mlpipe.features, timeframe=source.timeframe, pairs=pairs),
    )
    market = training_data(context, source, pairs, features)
    config = context.mlpipe
    settings = recorded_settings(context)
    if data_note:
        settings["data_note"] = data_note
    with progress_bar() as on_progress:
        return train(
            market,
            config,
            registry=context.registry(),
            tracker=context.tracker(),
            now=datetime.now(UTC),
            settings=settings,
            on_progress=on_progress,
        )


def training_data(
    context: Context, source: CandleSource, pairs: list[str], features: StrategyFeatures
) -> TrainingData:
    """The candles of the pairs, and all that their features look at, as a training takes them."""
    from freqtrade_mlpipe.dataset import TrainingData
    from freqtrade_mlpipe.integration.data import content_hash

    candles, frames = load_market(context, source, pairs, features)
    return TrainingData(
        candles=candles,
        timeframe=source.timeframe,
        candle=source.candle,
        compute=features,
        startup_candles=features.startup_candles,
        data_hash=content_hash(candles, frames),
        frames=frames,
    )


def recorded_settings(context: Context) -> dict[str, Any]:
    """Of freqtrade's configuration, what a training's run records."""
    settings = {key: context.freqtrade.get(key) for key in RECORDED_SETTINGS}
    return settings | {"exchange": {"name": context.freqtrade["exchange"]["name"]}}


def validate_version(context: Context, version: ModelVersion) -> GateReport:
    """Backtest the version, and the champion, on the final window with freqtrade, then run the gates.

    The report and the backtest are stored with the version whatever they say.
    """
    from freqtrade_mlpipe.commands.experiments import record_validation
    from freqtrade_mlpipe.integration.backtest import run_backtest
    from freqtrade_mlpipe.pipeline import gather_evidence
    from freqtrade_mlpipe.registry import load_custom_gates

    strategy = load_strategy(context)
    require_mixin(strategy)
    gates = context.mlpipe.gates
    custom = load_custom_gates(gates.custom, context.user_data / "gates")
    registry = context.registry()
    registry.check_stored(version)  # before minutes are spent on what a bot could not load
    bundle = registry.load_bundle(version.name, version.version)
    manifest = bundle.manifest
    if manifest.final_window_start is None:
        raise RegistryError(
            f"Version {version.version} of {version.name} was registered without a final window, so there is nothing "
            "to backtest it on. Train it with `freqtrade-mlpipe train`, or validate it in Python."
        )
    window_start = pd.Timestamp(manifest.final_window_start)
    pairs = list(manifest.pairs)

    def backtest(of: ModelVersion) -> BacktestOutcome:
        return run_backtest(
            context.freqtrade,
            pairs=pairs,
            model_name=of.name,
            version=of.version,
            start=window_start,
        )

    with progress_console.status(f"Backtesting version {version.version} on the final window"):
        outcome = backtest(version)
        champion = registry.get_production_model(version.name)
        rival = backtest(champion) if champion and champion.version != version.version else None
    with progress_console.status("Examining features and bundle"):
        features = StrategyFeatures(strategy, engineer_of(bundle))
        source = CandleSource.from_config(context.freqtrade)
        candles, frames = load_market(context, source, pairs[:1], features)
        evidence = gather_evidence(
            version,
            bundle,
            features,
            candles,
            startup_candles=features.startup_candles,
            backtest=outcome.summary,
            champion=rival.summary if rival else None,
            frames=Frames.of(frames),
        )
    report = registry.validate_with_evidence(
        version.name, version.version, evidence, gates, custom_gates=custom, now=datetime.now(UTC)
    )
    record_validation(context, version, outcome, report)
    registry.keep_record(version, "backtest", _record_of(outcome))
    return report


def _record_of(outcome: BacktestOutcome) -> Record:
    from freqtrade_mlpipe.reports.records import backtest_record

    return backtest_record(
        outcome.summary,
        outcome.pairs,
        outcome.trades,
        outcome.equity,
        outcome.market,
        outcome.closes,
    )


def load_market(
    context: Context, source: CandleSource, pairs: list[str], features: StrategyFeatures
) -> tuple[dict[str, pd.DataFrame], dict[FrameKey, pd.DataFrame]]:
    """Candles of the pairs, and the other frames their features need, over the configured timerange and warm-up."""
    from freqtrade.configuration import TimeRange

    text = context.freqtrade.get("timerange")
    timerange = TimeRange.parse_timerange(text) if text else None
    startup = features.startup_candles
    candles = load_candles(source, pairs, timerange, startup_candles=startup)
    frames = load_frames(
        source, features.frame_keys(pairs), timerange, startup_candles=startup, known=candles
    )
    return candles, frames


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
