"""`retrain-list`, `retrain-show`: the epochs of a search, as freqtrade's `hyperopt-list` and `hyperopt-show`."""

from __future__ import annotations

from typing import Any

from freqtrade_mlpipe.commands import stdout
from freqtrade_mlpipe.commands.context import Context, load_context
from freqtrade_mlpipe.commands.display import console
from freqtrade_mlpipe.commands.epoch_table import (
    as_hyperopt,
    filtered,
    print_details,
    print_epochs,
)
from freqtrade_mlpipe.exceptions import ConfigError
from freqtrade_mlpipe.retraining import by_space
from freqtrade_mlpipe.retraining.study import Study, find_study


def start_retrain_list(arguments: dict[str, Any]) -> int:
    """The epochs that the filters leave, and the best of them."""
    context = load_context(arguments)
    study = _study(context, arguments)
    rows = _rows(study)
    found = filtered(rows, arguments)
    n_epochs = int(study.description()["epochs"])
    if arguments.get("print_json"):
        stdout.write_json({"study": study.name, "epochs": [_plain(row) for row in found]})
        return 0
    console.print(_headline(study, len(rows), n_epochs), highlight=False, soft_wrap=True)
    if not found:
        console.print("No epoch passes the filters." if rows else "No epoch is finished yet.")
        return 0
    print_epochs(found, n_epochs, highlight=not arguments.get("hyperopt_list_best"))
    if not arguments.get("hyperopt_list_no_details"):
        print_details(min(found, key=lambda row: row["loss"]), n_epochs, "Best result")
    return 0


def start_retrain_show(arguments: dict[str, Any]) -> int:
    """One epoch: its trades, and what it set; the last one without `-n`."""
    context = load_context(arguments)
    study = _study(context, arguments)
    found = filtered(_rows(study), arguments)
    if not found:
        raise ConfigError(
            f"{study.name} has no such epoch yet: see `freqtrade-mlpipe retrain-list`."
        )
    wanted = arguments.get("hyperopt_show_index") or -1
    if not -len(found) <= wanted <= len(found):
        raise ConfigError(
            f"There are {len(found)} epochs: -n takes 1 to {len(found)}, or -1 to -{len(found)} from the end."
        )
    row = found[wanted - 1 if wanted > 0 else wanted]
    if arguments.get("print_json"):
        stdout.write_json(_plain(row))
        return 0
    n_epochs = int(study.description()["epochs"])
    header = bool(arguments.get("hyperopt_show_no_header"))
    print_details(row, n_epochs, "Epoch details", no_header=header)
    return 0


def _study(context: Context, arguments: dict[str, Any]) -> Study:
    directory = context.mlpipe.registry.directory
    return find_study(directory, arguments.get("study"), arguments.get("model_name"))


def _rows(study: Study) -> list[dict[str, Any]]:
    return as_hyperopt(study.epochs(), str(study.description()["stake_currency"]))


def _headline(study: Study, n_done: int, n_epochs: int) -> str:
    description, outcome = study.description(), study.outcome
    state = (
        f"version {outcome.version} was trained from epoch {outcome.best}"
        if outcome
        else "not finished: the same `retrain` command goes on"
    )
    return (
        f"{study.name}: {n_done} of {n_epochs} epochs; spaces {', '.join(description['spaces'])}; "
        f"objective {description['objective']}; {state}."
    )


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "epoch": row["current_epoch"],
        "loss": row["loss"],
        "is_best": row["is_best"],
        "params": by_space(row["params_dict"]),
        "results": row["results_metrics"],
        "error": row["error"],
    }
