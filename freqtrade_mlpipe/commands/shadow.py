"""`shadow-report`: production and challenger on the same live candles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

from freqtrade_mlpipe.commands import stdout
from freqtrade_mlpipe.commands.context import load_context
from freqtrade_mlpipe.commands.display import console, number, progress_console
from freqtrade_mlpipe.commands.live import (
    bundle_that_spoke,
    candle_source,
    candles_at_hand,
    newest_speaker,
    not_downloaded,
    of_own_pair,
    open_journal,
)
from freqtrade_mlpipe.exceptions import DataError

if TYPE_CHECKING:
    from freqtrade_mlpipe.monitoring.shadow import ShadowReport, Side


def start_shadow_report(arguments: dict[str, Any]) -> int:
    """Compare, print."""
    from freqtrade_mlpipe.monitoring.shadow import shadow_report

    context = load_context(arguments)
    with progress_console.status("Comparing"):
        journal = open_journal(context, arguments.get("db"))
        challenger = of_own_pair(context, journal.read(role="challenger"))
        if challenger.empty:
            raise DataError(
                f"{journal.path} holds no predictions of a challenger: none was set while the bot ran."
            )
        _, beside = newest_speaker(challenger)
        challenger = challenger[challenger["digest"] == beside]
        production = of_own_pair(
            context, journal.read(role="production", start=challenger["date"].min())
        )
        version, digest = newest_speaker(production)
        production = production[production["digest"] == digest]
        bundle = bundle_that_spoke(context, version, digest)
        source = candle_source(context, bundle.manifest.timeframe)
        candles = candles_at_hand(source, challenger["pair"].unique())
        found = shadow_report(production, challenger, candles, bundle.manifest.label_config())
    note = not_downloaded(challenger, candles)
    if arguments.get("print_json"):
        stdout.write_json({**found.to_dict(), "note": note})
    else:
        _print(found, note)
    return 0


def _print(found: ShadowReport, note: str) -> None:
    table = Table(
        title=f"{found.n_common} candles predicted by both, outcomes of {found.n_known} known", title_justify="left"
    )  # fmt: skip
    for column in (
        "",
        f"production {found.production.version}",
        f"challenger {found.challenger.version}",
    ):
        table.add_column(column, justify="right" if column else "left")
    rows = {
        "loss": "loss", "hit rate": "hit_rate", "trades": "n_trades", "net return of a trade": "net_return",
    }  # fmt: skip
    for label, name in rows.items():
        table.add_row(label, _figure(found.production, name), _figure(found.challenger, name))
    console.print(table)
    console.print(found.sentence, highlight=False)
    if found.profit is not None:
        gain = found.profit
        console.print(
            f"Net return a candle, challenger less production: {-gain.mean:+.4g} "
            f"({-gain.high:+.4g} to {-gain.low:+.4g}).",
            highlight=False,
        )  # fmt: skip
    if note:
        console.print(note, highlight=False)


def _figure(side: Side, name: str) -> str:
    value = getattr(side, name)
    return number(value if value == value else None)
