"""`drift`: has what the model sees, says and earns changed since it was trained?"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from rich.table import Table
from rich.text import Text

from freqtrade_mlpipe.commands import stdout
from freqtrade_mlpipe.commands.context import Context, load_context, load_strategy
from freqtrade_mlpipe.commands.display import console, number, progress_console
from freqtrade_mlpipe.commands.lifecycle import load_market
from freqtrade_mlpipe.commands.live import (
    bundle_that_spoke,
    candle_source,
    candles_at_hand,
    newest_speaker,
    not_downloaded,
    of_own_pair,
    open_journal,
)
from freqtrade_mlpipe.commands.report import find_version
from freqtrade_mlpipe.exceptions import ConfigError, DataError, GateRefusedError, MLPipeError

if TYPE_CHECKING:
    from freqtrade_mlpipe.monitoring.looks import Assessment
    from freqtrade_mlpipe.monitoring.models import WatchedModel
    from freqtrade_mlpipe.registry.bundle import Bundle

logger = logging.getLogger(__name__)

DRIFT = GateRefusedError.exit_code
_COLOURS = {"ok": "green", "bad": "red", "waiting": "yellow", "off": "dim"}


def start_drift(arguments: dict[str, Any]) -> int:
    """Look, print, log; exit code 3 on drift."""
    context = load_context(arguments)
    if arguments.get("timerange") and arguments.get("live"):
        raise ConfigError("Choose one of --live and --timerange.")
    with progress_console.status("Looking"):
        if arguments.get("timerange"):
            model, found, note = drift_of_candles(context, arguments.get("model_version"))
        else:
            model, found, note = drift_of_journal(context, arguments)
        _log(context, model, found)
    if arguments.get("print_json"):
        content = {"model": model.name, "version": model.version, "digest": model.digest}
        stdout.write_json({**content, "note": note, **found.to_dict()})
    else:
        _print(model, found, note)
    return DRIFT if found.alarm else 0


def drift_of_journal(
    context: Context, arguments: dict[str, Any]
) -> tuple[WatchedModel, Assessment, str]:
    """The assessment of what a bot predicted with its newest version, or the one asked for."""
    from freqtrade_mlpipe.monitoring.looks import assess
    from freqtrade_mlpipe.monitoring.models import WatchedModel, observed_live
    from freqtrade_mlpipe.monitoring.readings import write_look

    journal = open_journal(context, arguments.get("db"))
    rows = of_own_pair(context, journal.read(role="production"))
    asked = arguments.get("model_version")
    version, digest = newest_speaker(rows if asked is None else rows[rows["version"] == asked])
    bundle = bundle_that_spoke(context, version, digest)
    model = WatchedModel.of(bundle, version)
    rows = journal.read(role="production", digest=digest, features=True)
    candles = candles_at_hand(
        candle_source(context, bundle.manifest.timeframe), rows["pair"].unique()
    )
    observed, rows = observed_live(rows, model, candles or None)
    found = assess(
        model.reference, observed, config=context.mlpipe.monitoring, labels=model.labels, candle=model.candle,
        latency_ms=rows["latency_ms"].to_numpy(np.float64), trained_until=model.trained_until,
    )  # fmt: skip
    if found.looks:
        write_look(journal, model, found.looks[-1], "command")
    journal.close()
    return model, found, not_downloaded(rows, candles)


def drift_of_candles(context: Context, asked: str | None) -> tuple[WatchedModel, Assessment, str]:
    """The assessment of a version on downloaded candles, as if a bot had traded them."""
    from freqtrade_mlpipe.monitoring.looks import assess
    from freqtrade_mlpipe.monitoring.models import WatchedModel, observed_live

    version = find_version(context, asked or "production")
    assert version is not None
    bundle = context.registry().load_bundle(version.name, version.version)
    model = WatchedModel.of(bundle, version.version)
    rows, candles = replayed(context, bundle, version.version)
    observed, rows = observed_live(rows, model, candles)
    found = assess(
        model.reference, observed, config=context.mlpipe.monitoring, labels=model.labels, candle=model.candle,
        latency_ms=np.full(len(rows), np.nan), trained_until=model.trained_until,
    )  # fmt: skip
    seen = int((rows["do_predict"] == -1).sum())
    note = (
        f"{seen} of {len(rows)} candles were seen in training; nothing is predicted there."
        if seen
        else ""
    )
    return model, found, note


def replayed(
    context: Context, bundle: Bundle, version: str
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Predictions of a bundle on the candles of the timerange, in the form of a journal; and the candles."""
    from freqtrade_mlpipe.features import Frames
    from freqtrade_mlpipe.integration.data import whitelist
    from freqtrade_mlpipe.integration.features import StrategyFeatures
    from freqtrade_mlpipe.integration.serving import engineer_of

    features = StrategyFeatures(load_strategy(context), engineer_of(bundle))
    candles, frames = load_market(
        context, candle_source(context, bundle.manifest.timeframe), whitelist(context.freqtrade), features
    )  # fmt: skip
    shared, startup = Frames.of(frames), features.startup_candles
    parts = [
        predictions(bundle, version, pair, frame, features(frame, pair, shared), startup)
        for pair, frame in candles.items()
        if len(frame) > startup
    ]
    if not parts:
        raise DataError(
            f"No pair has more than the {startup} candles that the features need to warm up."
        )
    return pd.concat(parts, ignore_index=True), candles


def predictions(
    bundle: Bundle, version: str, pair: str, candles: pd.DataFrame, X: pd.DataFrame, startup: int
) -> pd.DataFrame:
    """What a bundle says of a pair's candles after the warm-up, with the columns of a journal."""
    X, part = X.iloc[startup:], candles.iloc[startup:]
    said = bundle.predict(X, pd.DatetimeIndex(part["date"]))
    kept = X[list(bundle.members[-1].preprocessor.kept_columns)].to_numpy(np.float32)
    return pd.DataFrame(
        {
            "pair": pair, "date": part["date"].to_numpy(), "version": version, "proba": said.proba, "edge": said.edge,
            "signal": said.signal, "do_predict": said.do_predict, "latency_ms": np.nan,
            "close": part["close"].to_numpy(),
            "proba_short": np.nan if said.short is None else said.short.proba,
            "value": np.nan if said.value is None else said.value, "features": list(kept),
        }
    ).assign(date=lambda frame: pd.to_datetime(frame["date"], utc=True))  # fmt: skip


def _log(context: Context, model: WatchedModel, found: Assessment) -> None:
    """The readings as metrics of the version's training run. A store that is away costs a warning."""
    tracker = context.tracker()
    if tracker.backend != "mlflow" or not found.looks:
        return
    last = found.looks[-1]
    metrics = {
        r.check.replace("(", "").replace(")", "").replace(" ", "_"): r.value
        for r in last.readings
        if math.isfinite(r.value)
    }
    try:
        version = context.registry().get_version(model.name, model.version)
        with tracker.resume_run(version.run_id):
            tracker.log_metrics(metrics, step=int(last.at.timestamp()) // 3600, prefix="drift/")
            tracker.set_tags({"mlpipe.drift": found.sentence})
    except MLPipeError as error:
        logger.warning("The readings are not logged: %s", error)


def _print(model: WatchedModel, found: Assessment, note: str) -> None:
    if found.looks:
        last = found.looks[-1]
        table = Table(
            title=f"{model.name} version {model.version}: window until {last.at:%Y-%m-%d %H:%M} UTC",
            title_justify="left",
        )  # fmt: skip
        for column in ("check", "state", "value", "limit", "rows", "what it says"):
            table.add_column(
                column, justify="right" if column in ("value", "limit", "rows") else "left"
            )
        for r in last.readings:
            table.add_row(
                r.check,
                Text(r.state, _COLOURS[r.state]),
                _figure(r.value),
                _figure(r.limit),
                str(r.n),
                r.sentence,
            )
        console.print(table)
    console.print(found.sentence, highlight=False)
    if note:
        console.print(note, highlight=False)


def _figure(value: float) -> str:
    return number(None if math.isnan(value) else value)
