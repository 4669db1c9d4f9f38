"""What commands print: tables for people on standard output, progress on standard error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from freqtrade_mlpipe.commands import stdout

if TYPE_CHECKING:
    from freqtrade_mlpipe.pipeline import Progress as ProgressCallback
    from freqtrade_mlpipe.pipeline import TrainingOutcome
    from freqtrade_mlpipe.registry import GateReport, ModelVersion


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Go on in silence: rich would end the command here, with another exit code than its own."""
        self.quiet = True
        stdout.discard()


console = _Console(markup=False)
"""Names, notes and formulas are printed as they are: square brackets in them are no markup."""
progress_console = Console(stderr=True, markup=False)

HEADLINE_METRICS = {
    "roc_auc": "ROC AUC",
    "log_loss": "log-loss",
    "baseline_log_loss": "log-loss of the class prior",
    "brier": "Brier score",
    "expected_calibration_error": "calibration error",
    "spearman": "rank correlation of predicted and true returns",
    "rmse": "root mean squared error",
    "f1": "F1",
    "accuracy": "accuracy",
    "positive_rate": "share of positive labels",
    "negative_rate": "share of short labels",
    "short_rate": "share of rows that go short",
    "expected_profit": "net return per signalled row",
    "sharpe": "Sharpe ratio of the signals, annual",
    "n_rows": "training rows",
    "n_features": "features",
    "n_trials": "trials",
}


@contextmanager
def progress_bar() -> Iterator[ProgressCallback]:
    """A callback that draws one bar a stage on standard error; silent where that is no terminal."""
    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(
        *columns, console=progress_console, disable=not progress_console.is_terminal
    ) as bar:
        stages: dict[str, int] = {}

        def advance(stage: str, done: int, total: int) -> None:
            if stage not in stages:
                stages[stage] = bar.add_task(stage, total=total)
            bar.update(stages[stage], completed=done, total=total)  # type: ignore[arg-type]

        yield advance


def print_training(outcome: TrainingOutcome) -> None:
    """Out-of-sample metrics of a fresh version."""
    version = outcome.version
    table = Table(
        title=f"{version.name} version {version.version}: out-of-sample metrics",
        title_justify="left",
    )
    table.add_column("metric")
    table.add_column("value", justify="right")
    for name, label in HEADLINE_METRICS.items():
        if name in version.metrics:
            table.add_row(label, number(version.metrics[name]))
    console.print(table)
    console.print(
        f"Trained on candles before {outcome.final_window_start:%Y-%m-%d %H:%M} UTC; what follows is the final window, "
        "untouched until `validate`.",
        highlight=False,
    )


def print_gates(report: GateReport, version: ModelVersion) -> None:
    """The gates table and the verdict."""
    verdict = "passed" if report.passed else "REFUSED"
    table = Table(
        title=f"{version.name} version {version.version}: gates {verdict}", title_justify="left"
    )
    for column in ("gate", "verdict", "value", "limit", "what it says"):
        table.add_column(column, justify="right" if column in ("value", "limit") else "left")
    for check in report.checks:
        table.add_row(
            check.name,
            Text("pass", "green") if check.passed else Text("FAIL", "red"),
            number(check.value),
            number(check.threshold),
            check.sentence,
        )
    console.print(table)
    if report.window is not None and report.window_uses is not None:
        start, end = report.window
        console.print(
            f"The final window, {start:%Y-%m-%d} to {end:%Y-%m-%d}, or a part of it has judged versions of "
            f"{version.name} {_times(report.window_uses)}; the more often, the less it proves.",
            highlight=False,
        )


def print_version(version: ModelVersion, what: str) -> None:
    """One line that says what became of a version."""
    console.print(f"{version.name} version {version.version} {what}.", highlight=False)


def print_mapping(title: str, values: Mapping[str, object]) -> None:
    """A two-column table."""
    table = Table(title=title, title_justify="left", show_header=False)
    for key, value in values.items():
        table.add_row(key, number(value) if isinstance(value, float) else str(value))
    console.print(table)


def number(value: float | int | None) -> str:
    """A figure at a readable precision; a dash for none.

    Examples
    --------
    >>> number(0.123456), number(12.0), number(None)
    ('0.1235', '12', '-')
    """
    if value is None:
        return "-"
    if float(value).is_integer() and abs(value) < 1e12:
        return f"{int(value)}"
    return f"{value:.4g}"


def n_bytes(count: int) -> str:
    """A number of bytes for a reader.

    Examples
    --------
    >>> n_bytes(512), n_bytes(2_500_000)
    ('512 B', '2.5 MB')
    """
    value, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.3g} {units[0]}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
