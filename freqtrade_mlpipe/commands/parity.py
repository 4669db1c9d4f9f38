"""`parity`: would a backtest have said what the bot said?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.table import Table

from freqtrade_mlpipe.commands import stdout
from freqtrade_mlpipe.commands.context import Context, load_context, load_strategy
from freqtrade_mlpipe.commands.display import console, number, progress_console
from freqtrade_mlpipe.commands.drift import predictions
from freqtrade_mlpipe.commands.live import (
    bundle_that_spoke,
    candle_source,
    candles_at_hand,
    not_downloaded,
    open_journal,
)
from freqtrade_mlpipe.exceptions import DataError, GateRefusedError, MLPipeError

if TYPE_CHECKING:
    from freqtrade_mlpipe.monitoring.parity import Parity
    from freqtrade_mlpipe.registry.bundle import Bundle

DIFFERENT = GateRefusedError.exit_code
_MOST_SHOWN = 20


def start_parity(arguments: dict[str, Any]) -> int:
    """Replay the journal and compare; exit code 3 where something differs."""
    context = load_context(arguments)
    with progress_console.status("Replaying"):
        found, notes = parity_of(context, arguments)
    if arguments.get("print_json"):
        stdout.write_json({**found.to_dict(), "notes": notes})
    else:
        _print(found, notes)
    return DIFFERENT if found.mismatches else 0


def parity_of(context: Context, arguments: dict[str, Any]) -> tuple[Parity, list[str]]:
    """Each journalled candle predicted again by the version that spoke, and sentences about what could not be.

    Raises
    ------
    DataError
        There is no journal, it is empty, or nothing of it can be checked: the message says why.
    """
    from freqtrade_mlpipe.monitoring.parity import compare

    journal = open_journal(context, arguments.get("db"))
    start, end = _span(arguments.get("timerange"))
    live = journal.read(start=start, end=end, role="production", features=True)
    if live.empty:
        raise DataError(f"{journal.path} holds no live predictions in this time.")
    notes, parts, columns, candle = [], [], {}, pd.Timedelta(0)
    speakers = live[["version", "digest"]].drop_duplicates()
    for version, digest in speakers.itertuples(index=False):
        own = live[live["digest"] == digest]
        try:
            bundle = bundle_that_spoke(context, version, digest)
        except MLPipeError as error:
            notes.append(f"{len(own)} predictions of version {version} are unchecked. {error}")
            continue
        again, note = _again(context, bundle, version, own)
        parts.append(again)
        columns[digest] = bundle.members[-1].preprocessor.kept_columns
        candle = candle_source(context, bundle.manifest.timeframe).candle
        notes += [note] if note else []
    made = [part for part in parts if len(part)]
    if not made:
        raise DataError(" ".join(notes) or "No prediction can be checked.")
    found = compare(live, pd.concat(made, ignore_index=True), candle, columns)
    if found.n_unchecked:
        notes.append(f"{found.n_unchecked} of {len(live)} predictions are unchecked.")
    return found, notes


def _again(
    context: Context, bundle: Bundle, version: str, live: pd.DataFrame
) -> tuple[pd.DataFrame, str]:
    """What a backtest over the journal's candles says, with the warm-up that a backtest has."""
    from freqtrade_mlpipe.features import Frames
    from freqtrade_mlpipe.integration.data import load_frames
    from freqtrade_mlpipe.integration.features import StrategyFeatures
    from freqtrade_mlpipe.integration.serving import engineer_of

    features = StrategyFeatures(load_strategy(context), engineer_of(bundle))
    source = candle_source(context, bundle.manifest.timeframe)
    startup = features.startup_candles
    pairs = [str(pair) for pair in live["pair"].unique()]
    whole = candles_at_hand(source, pairs)
    note = not_downloaded(live, whole)
    frames = load_frames(
        source, features.frame_keys(list(whole)), None, startup_candles=0, known=whole
    )
    shared, parts = Frames.of(frames), []
    for pair, frame in whole.items():
        dates = live.loc[live["pair"] == pair, "date"]
        first = int(frame["date"].searchsorted(dates.min()))
        last = int(frame["date"].searchsorted(dates.max(), side="right"))
        begin = max(0, first - startup)
        part = frame.iloc[begin:last].reset_index(drop=True)
        if first < last and len(part) > first - begin:
            X = features(part, pair, shared)
            parts.append(predictions(bundle, version, pair, part, X, first - begin))
    return (pd.concat(parts, ignore_index=True) if parts else live.iloc[:0]), note


def _span(timerange: str | None) -> tuple[pd.Timestamp | None, pd.Timestamp | None]:
    from freqtrade.configuration import TimeRange

    if not timerange:
        return None, None
    found = TimeRange.parse_timerange(timerange)
    start = pd.Timestamp(found.startts, unit="s", tz="UTC") if found.starttype else None
    end = pd.Timestamp(found.stopts, unit="s", tz="UTC") if found.stoptype else None
    return start, end


def _print(found: Parity, notes: list[str]) -> None:
    if found.mismatches:
        table = Table(title="Candles that differ", title_justify="left")
        for column in ("pair", "candle (UTC)", "version", "what", "live edge", "again", "why"):
            table.add_column(
                column, justify="right" if column in ("live edge", "again") else "left"
            )
        for m in found.mismatches[:_MOST_SHOWN]:
            why = (
                "the candle in the file is another one" if m.close_moved else ", ".join(m.features)
            )
            table.add_row(
                m.pair, f"{m.date:%Y-%m-%d %H:%M}", m.version, ", ".join(m.what), f"{m.live:.9g}",
                f"{m.again:.9g}", why,
            )  # fmt: skip
        console.print(table)
        if len(found.mismatches) > _MOST_SHOWN:
            console.print(f"{len(found.mismatches) - _MOST_SHOWN} more; --json has all.")
    console.print(found.sentence, highlight=False)
    for what, items in (
        ("predicted more than once", [(pair, date) for pair, date, _ in found.repeated]),
        ("without a prediction", list(found.missing)),
    ):
        shown = ", ".join(f"{pair} {date:%Y-%m-%d %H:%M}" for pair, date in items[:5])
        more = f" and {number(len(items) - 5)} more" if len(items) > 5 else ""
        if items:
            console.print(f"{len(items)} candles {what}: {shown}{more}.", highlight=False)
    for note in notes:
        console.print(note, highlight=False)
