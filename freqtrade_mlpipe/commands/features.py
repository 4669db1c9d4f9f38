"""`list-features`: the catalogue, and what the configuration takes from it."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from freqtrade_mlpipe.commands import stdout
from freqtrade_mlpipe.commands.context import Context, load_context, load_strategy
from freqtrade_mlpipe.commands.display import console
from freqtrade_mlpipe.features import CATALOGUE, FeatureEngineer
from freqtrade_mlpipe.features.indicator import FeatureColumn


def start_list_features(arguments: dict[str, Any]) -> int:
    """Every feature of the catalogue at the configured periods, and which ones are used."""
    context = load_context(arguments)
    engineer = FeatureEngineer(context.mlpipe.features, timeframe=_timeframe(context))
    names = engineer.get_feature_names()
    columns = [column for row in CATALOGUE for column in row.columns(context.mlpipe.features)]
    catalogue = {column.name for column in columns}
    derived = [name for name in names if name not in catalogue]
    if arguments.get("print_json"):
        rows = [{**_plain(column), "used": column.name in names} for column in columns]
        stdout.write_json(
            {"features": rows, "derived": derived, "startup_candles": engineer.startup_candles}
        )
        return 0
    table = Table()
    for heading in ("feature", "group", "warm-up", "used", "measures", "source"):
        table.add_column(heading, justify="right" if heading == "warm-up" else "left")
    for column in columns:
        row = column.indicator
        table.add_row(
            column.name, row.group, str(column.warmup), "yes" if column.name in names else "",
            row.measures, row.source,
        )  # fmt: skip
    console.print(table)
    console.print(
        f"{len(CATALOGUE)} indicators, {len(columns)} features, {len(names) - len(derived)} of them used; "
        f"{len(derived)} more from shifts, informative candles and ranks. Warm-up: {engineer.startup_candles} candles.",
        highlight=False,
    )
    return 0


def _timeframe(context: Context) -> str | None:
    """The configured one, else the strategy's."""
    if not context.freqtrade.get("timeframe") and context.freqtrade.get("strategy"):
        load_strategy(context)
    return context.freqtrade.get("timeframe")


def _plain(column: FeatureColumn) -> dict[str, Any]:
    row = column.indicator
    return {
        "name": column.name,
        "group": row.group,
        "inputs": list(row.inputs),
        "warmup_candles": column.warmup,
        "measures": row.measures,
        "source": row.source,
    }
