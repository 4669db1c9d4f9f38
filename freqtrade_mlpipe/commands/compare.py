"""`compare`: versions and runs side by side, and whether the difference is more than noise."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from freqtrade_mlpipe.commands import stdout
from freqtrade_mlpipe.commands.context import Context, load_context
from freqtrade_mlpipe.commands.display import console, number, progress_console
from freqtrade_mlpipe.commands.report import find_version
from freqtrade_mlpipe.exceptions import ConfigError, RegistryError, TrackingError

if TYPE_CHECKING:
    from freqtrade_mlpipe.metrics import Estimate
    from freqtrade_mlpipe.registry.comparison import Contender, VersionComparison

# What people compare; `--json` and `--csv` have all.
_SHOWN = (
    "log_loss", "roc_auc", "brier", "baseline_log_loss", "expected_calibration_error", "f1", "accuracy",
    "rmse", "spearman", "r2", "mae", "squared_error", "baseline_mean_squared_error", "entry_rate", "short_rate",
    "expected_profit", "sharpe", "importance_stability", "n_rows", "n_oos_rows", "n_trials",
    "backtest_profit_total", "backtest_market_change", "backtest_sharpe", "backtest_max_drawdown",
    "backtest_n_trades",
)  # fmt: skip


def start_compare(arguments: dict[str, Any]) -> int:
    """Tables for people, or all of it as JSON or CSV."""
    context = load_context(arguments)
    wanted = arguments["contenders"]
    if len(wanted) < 2:
        raise ConfigError("Name at least two versions or runs to compare, such as `compare 1 2`.")
    if arguments.get("print_json") and arguments.get("print_csv"):
        raise ConfigError("Choose one of --json and --csv.")
    with progress_console.status("Comparing"):
        found = comparison_of(context, wanted)
    if arguments.get("print_json"):
        stdout.write_json(found.to_dict())
    elif arguments.get("print_csv"):
        stdout.write(_as_csv(found))
    else:
        _print(found)
    return 0


def comparison_of(context: Context, wanted: Sequence[str]) -> VersionComparison:
    """Compare whatever versions or runs are named.

    Raises
    ------
    RegistryError
        One of them is neither; the message names the versions there are.
    """
    from freqtrade_mlpipe.registry.comparison import compare

    return compare([_contender(context, text) for text in wanted])


def _contender(context: Context, wanted: str) -> Contender:
    registry = context.registry()
    version = find_version(context, wanted)
    if version is not None:
        return registry.as_contender(version)
    return _tracked(context, wanted)


def _tracked(context: Context, run_id: str) -> Contender:
    """A run that registered no version: what the tracker knows, which is no predictions."""
    from freqtrade_mlpipe.registry.comparison import Contender

    try:
        row = context.tracker().compare_experiments([run_id]).iloc[0]
    except TrackingError as error:
        raise RegistryError(
            f"{run_id} is neither a version nor a tracked run. `freqtrade-mlpipe list-models --json` shows versions "
            f"and the run of each. ({error})"
        ) from error
    texts = {str(name): value for name, value in row.items()}
    return Contender(
        label=f"run {run_id[:8]}",
        parameters={
            name.removeprefix("params."): str(value)
            for name, value in texts.items()
            if name.startswith("params.")
        },
        metrics={
            name.removeprefix("metrics."): float(value)
            for name, value in texts.items()
            if name.startswith("metrics.")
        },
        note=f"run {run_id} registered no version, so its predictions were not kept.",
    )


def _print(found: VersionComparison) -> None:
    parameters = Table(title="Parameters that differ", title_justify="left")
    metrics = Table(title="Metrics, out of sample, with 95 % intervals", title_justify="left")
    for table in (parameters, metrics):
        table.add_column("", overflow="fold")
        for label in found.labels:
            table.add_column(label, overflow="fold")
    for name, values in found.parameters.items():
        table_row = ["-" if value is None else value for value in values]
        parameters.add_row(name, *table_row)
    for name in _SHOWN:
        if name in found.metrics:
            metrics.add_row(name.replace("_", " "), *map(_estimate, found.metrics[name]))
    if found.parameters:
        console.print(parameters)
    else:
        console.print("No parameter differs.")
    console.print(metrics)
    for verdict in found.verdicts:
        console.print(verdict.sentence, highlight=False)
    for note in found.notes:
        console.print(note, highlight=False)


def _estimate(found: Estimate | None) -> str:
    if found is None:
        return "-"
    if math.isnan(found.low):
        return number(found.value)
    return f"{number(found.value)} ({number(found.low)} to {number(found.high)})"


def _as_csv(found: VersionComparison) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["kind", "name", "contender", "value", "low", "high"])
    writer.writerows(_rows(found))
    return text.getvalue()


def _rows(found: VersionComparison) -> Iterator[list[Any]]:
    for name, values in found.parameters.items():
        for label, text in zip(found.labels, values, strict=True):
            yield ["parameter", name, label, "" if text is None else text, "", ""]
    for name, estimates in found.metrics.items():
        for label, estimate in zip(found.labels, estimates, strict=True):
            if estimate is not None:
                bounds = ["" if math.isnan(v) else v for v in (estimate.low, estimate.high)]
                yield ["metric", name, label, estimate.value, *bounds]
    for verdict in found.verdicts:
        gap = verdict.difference
        figures = ["", "", ""] if gap is None else [gap.mean, gap.low, gap.high]
        yield ["verdict", verdict.sentence, verdict.other, *figures]
