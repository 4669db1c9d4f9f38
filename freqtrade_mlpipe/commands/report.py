"""`report`: the page of any registered version, from what the registry keeps of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from freqtrade_mlpipe.commands.context import Context, load_context, load_strategy
from freqtrade_mlpipe.commands.display import console, progress_console
from freqtrade_mlpipe.commands.lifecycle import load_market, wanted_version
from freqtrade_mlpipe.exceptions import ConfigError, MLPipeError, RegistryError

if TYPE_CHECKING:
    from freqtrade_mlpipe.monitoring.looks import Look
    from freqtrade_mlpipe.registry import ModelVersion
    from freqtrade_mlpipe.reports import Drift
    from freqtrade_mlpipe.reports.reading import VersionRecords


_RUN_ID = re.compile(r"[A-Za-z0-9]*[A-Za-z][A-Za-z0-9]{7,63}|[A-Za-z0-9]{20,64}")
"""MLflow's are 32 hexadecimal digits, wandb's 8 letters and digits; a version has at most 9 digits."""
_NAMES = ("latest", "production")


def start_report(arguments: dict[str, Any]) -> int:
    """Write the page and say where it is."""
    context = load_context(arguments)
    version = version_named(context, arguments.get("wanted"))
    given = arguments.get("output")
    with progress_console.status("Drawing the page"):
        page = write_report(context, version, Path(given) if given else None)
    console.print(f"{page}", highlight=False, soft_wrap=True)
    return 0


def write_report(context: Context, version: ModelVersion, path: Path | None = None) -> Path:
    """Render the page of a version, by default below the registry's folder.

    Raises
    ------
    ConfigError
        The file cannot be written.
    """
    from freqtrade_mlpipe.reports import render_report
    from freqtrade_mlpipe.reports.reading import read_records, report_data

    records = read_records(context.registry(), version)
    found, problem = recent_drift(context, version, records)
    data = report_data(version, records, now=datetime.now(UTC), drift=found, drift_problem=problem)
    data = replace(data, looks=live_looks(context, version))
    default = (
        context.mlpipe.registry.directory / "reports" / f"{version.name}-v{version.version}.html"
    )
    try:
        return render_report(data, path or default)
    except OSError as error:
        raise ConfigError(f"Cannot write {path or default}: {error}.") from error


def live_looks(context: Context, version: ModelVersion) -> Sequence[Look]:
    """What a bot, or else the `drift` command, found since the version trades; empty without a journal."""
    from freqtrade_mlpipe.monitoring.journal import LiveJournal, journal_path
    from freqtrade_mlpipe.monitoring.readings import known_looks

    path = journal_path(context.mlpipe.registry.directory, context.freqtrade.get("bot_name"))
    return known_looks(LiveJournal(path), version.digest)


def version_named(context: Context, wanted: str | None) -> ModelVersion:
    """The version that `find_version` finds.

    Raises
    ------
    RegistryError
        There is none; the message names those there are.
    """
    found = find_version(context, wanted)
    if found is None:
        raise RegistryError(
            f"{wanted} is no version, and no run that registered one. `freqtrade-mlpipe list-models --json` shows all "
            "versions and the run of each."
        )
    return found


def find_version(context: Context, wanted: str | None) -> ModelVersion | None:
    """The version that a number, `latest` (or nothing), `production`, NAME:VERSION or a run's id means.

    None where a run's id is given and the run has registered no version.

    Raises
    ------
    RegistryError
        The model has no such version; the message names those there are.
    """
    name, _, number = (wanted or "").rpartition(":")
    if not name and number not in _NAMES and _RUN_ID.fullmatch(number):
        versions = context.registry().get_versions_of_run(number)
        return max(versions, key=lambda version: int(version.version), default=None)
    if name:
        context = context.with_model_name(name)
    if number == "production":
        number = context.registry().resolve(context.mlpipe.model_name, number)[0]
    return wanted_version(context, number or None)


def recent_drift(
    context: Context, version: ModelVersion, records: VersionRecords
) -> tuple[Drift | None, str]:
    """The newest candles at hand against the training data; or None, and the sentence that says why."""
    if records.training is None:
        return None, records.problems["training"]
    try:
        return _drift(context, version, records), ""
    except (MLPipeError, _freqtrade_error()) as error:
        return None, f"Recent candles could not be looked at. {error}"


def _drift(context: Context, version: ModelVersion, records: VersionRecords) -> Drift:
    from freqtrade_mlpipe.features import Frames
    from freqtrade_mlpipe.integration.data import CandleSource
    from freqtrade_mlpipe.integration.features import StrategyFeatures
    from freqtrade_mlpipe.integration.serving import engineer_of
    from freqtrade_mlpipe.registry.baseline import stability_index
    from freqtrade_mlpipe.reports import Drift

    training = records.training
    assert training is not None
    bundle = context.registry().load_bundle(version.name, version.version)
    if bundle.drift_baseline is None:
        raise RegistryError("The bundle does not say what the features looked like in training.")
    features = StrategyFeatures(load_strategy(context), engineer_of(bundle))
    newest = replace(context, freqtrade={**context.freqtrade, "timerange": None})
    source = CandleSource.from_config({**context.freqtrade, "timeframe": training.timeframe})
    candles, frames = load_market(newest, source, list(training.pairs), features)
    start = max(frame["date"].iloc[-1] for frame in candles.values())
    start = start - pd.Timedelta(days=training.drift.window_days)
    shared, startup = Frames.of(frames), features.startup_candles
    parts, dates = [], []
    for pair, frame in candles.items():
        first = max(startup, int(frame["date"].searchsorted(start, side="right")))
        part = frame.iloc[first - startup :].reset_index(drop=True)
        parts.append(features(part, pair, shared).iloc[startup:])
        dates.append(part["date"].iloc[startup:])
    rows, moments = pd.concat(parts, ignore_index=True), pd.concat(dates)
    if moments.empty:
        raise RegistryError("There are too few candles for the features to warm up.")
    return Drift(
        recent=stability_index(bundle.drift_baseline, rows),
        usual=pd.Series(dict(training.drift.highest), dtype=float),
        start=moments.min(),
        end=moments.max(),
        n_rows=len(rows),
        n_windows=training.drift.n_windows,
    )


def _freqtrade_error() -> type[Exception]:
    from freqtrade.exceptions import FreqtradeException

    error: type[Exception] = FreqtradeException
    return error
