"""Epochs as freqtrade's hyperopt shows them: its table, its filters, its details."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any, Protocol

from freqtrade_mlpipe.commands import stdout
from freqtrade_mlpipe.commands.display import console, progress_console
from freqtrade_mlpipe.retraining import MAX_LOSS, Epoch, by_space
from freqtrade_mlpipe.retraining.search import N_RANDOM

_NO_TRADES: Mapping[str, Any] = {
    "total_trades": 0, "wins": 0, "draws": 0, "losses": 0, "profit_mean": 0.0, "profit_median": 0.0,
    "profit_total": 0.0, "profit_total_abs": 0.0, "holding_avg": "0:00:00", "holding_avg_s": 0,
    "max_drawdown_abs": 0.0, "max_drawdown_account": 0.0, "trade_count_long": 0, "trade_count_short": 0,
}  # fmt: skip
_FILTERS = {
    "only_best": ("hyperopt_list_best", False),
    "only_profitable": ("hyperopt_list_profitable", False),
    "filter_min_trades": ("hyperopt_list_min_trades", 0),
    "filter_max_trades": ("hyperopt_list_max_trades", 0),
    "filter_min_avg_time": ("hyperopt_list_min_avg_time", None),
    "filter_max_avg_time": ("hyperopt_list_max_avg_time", None),
    "filter_min_avg_profit": ("hyperopt_list_min_avg_profit", None),
    "filter_max_avg_profit": ("hyperopt_list_max_avg_profit", None),
    "filter_min_total_profit": ("hyperopt_list_min_total_profit", None),
    "filter_max_total_profit": ("hyperopt_list_max_total_profit", None),
    "filter_min_objective": ("hyperopt_list_min_objective", None),
    "filter_max_objective": ("hyperopt_list_max_objective", None),
}
"""freqtrade's filter → our option, and its value when it is not given."""


def as_hyperopt(epochs: Sequence[Epoch], stake_currency: str) -> list[dict[str, Any]]:
    """Epochs, in order, as lines of a hyperopt result.

    https://github.com/freqtrade/freqtrade/blob/2026.9/freqtrade/optimize/hyperopt/hyperopt.py
    """
    from freqtrade.optimize.hyperopt_tools import HyperoptTools

    rows, best = [], MAX_LOSS
    for epoch in epochs:
        figures = {**_NO_TRADES, "stake_currency": stake_currency, **epoch.judgement.metrics}
        figures = {k: 0.0 if _is_nan(v) else v for k, v in figures.items()}
        rows.append(
            {
                "loss": epoch.loss,
                "params_dict": epoch.params,
                "params_details": by_space(epoch.params),
                "params_not_optimized": {},
                "results_metrics": figures,
                "results_explanation": HyperoptTools.format_results_explanation_string(
                    figures, figures["stake_currency"]
                ),
                "total_profit": figures["profit_total"],
                "current_epoch": epoch.number,
                "is_initial_point": epoch.number <= N_RANDOM,
                "is_random": False,
                "is_best": epoch.loss < best,
                "error": epoch.judgement.error,
            }
        )
        best = min(best, epoch.loss)
    return rows


def filtered(rows: list[dict[str, Any]], arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows that the options of `hyperopt-list` leave, by freqtrade's own filters."""
    from freqtrade.optimize.hyperopt_epoch_filters import hyperopt_filter_epochs

    options = {
        name: arguments.get(option) or missing for name, (option, missing) in _FILTERS.items()
    }
    found: list[dict[str, Any]] = hyperopt_filter_epochs(rows, options, log=False)
    return found


def print_epochs(rows: list[dict[str, Any]], n_epochs: int, *, highlight: bool) -> None:
    """freqtrade's table on standard output."""
    from freqtrade.optimize.hyperopt.hyperopt_output import HyperoptOutput

    table = HyperoptOutput()
    table.add_data(_currency(rows), rows, n_epochs, highlight)
    table.table.title = None
    console.print(table.table)


def print_details(
    row: dict[str, Any], n_epochs: int, header: str, *, no_header: bool = False
) -> None:
    """freqtrade's paragraph about one epoch and what it set, space by space."""
    from freqtrade.optimize.hyperopt_tools import HyperoptTools

    text = io.StringIO()
    with redirect_stdout(text):
        HyperoptTools.show_epoch_details(row, n_epochs, False, no_header, header)
    if row["error"]:
        text.write(f"\n    It failed: {row['error']}\n")
    stdout.write(text.getvalue())


class OnEpoch(Protocol):
    """Called with each epoch in order."""

    def __call__(self, epoch: Epoch) -> None: ...


@contextmanager
def live_table(n_epochs: int, stake_currency: str, *, print_all: bool) -> Iterator[OnEpoch]:
    """freqtrade's growing table and progress bar on standard error; nothing where that is no terminal.

    Without `print_all` the table holds the epochs that were the best so far.
    """
    from freqtrade.optimize.hyperopt.hyperopt_output import HyperoptOutput
    from freqtrade.util import get_progress_tracker

    table, seen = HyperoptOutput(streaming=True), list[Epoch]()
    bar = get_progress_tracker(
        cust_callables=[table], transient=True, disable=not progress_console.is_terminal
    )
    with bar:
        task = bar.add_task("Epochs", total=n_epochs)

        def show(epoch: Epoch) -> None:
            seen.append(epoch)
            row = as_hyperopt(seen, stake_currency)[-1]
            if print_all or row["is_best"]:
                table.add_data(_currency([row]), [row], n_epochs, print_all)
            bar.update(task, completed=epoch.number)

        yield show


def _currency(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    return {"stake_currency": rows[0]["results_metrics"]["stake_currency"] if rows else ""}


def _is_nan(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
