"""The search of a retraining: in this process, in several, on a Dask cluster, or shared over a database."""

from __future__ import annotations

import os
import socket
import uuid
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from freqtrade_mlpipe.commands.context import Context
from freqtrade_mlpipe.commands.display import console, progress_console
from freqtrade_mlpipe.commands.epoch_table import OnEpoch, live_table
from freqtrade_mlpipe.commands.workshop import Workshop, evaluate_elsewhere, open_workshop
from freqtrade_mlpipe.exceptions import ConfigError
from freqtrade_mlpipe.retraining import Epoch, Plan, Proposals, search
from freqtrade_mlpipe.retraining.shared import Board, share
from freqtrade_mlpipe.retraining.study import Study, study_of
from freqtrade_mlpipe.retraining.units import Unit
from freqtrade_mlpipe.retraining.workers import Inline, Remote, cluster, n_workers, processes

if TYPE_CHECKING:
    from freqtrade_mlpipe.config import MLPipeConfig


def workers_of(
    arguments: dict[str, Any], settings: MLPipeConfig
) -> AbstractContextManager[Executor | None]:
    """Whose processes evaluate the epochs; None: this one."""
    if arguments.get("dask") and arguments.get("storage"):
        raise ConfigError("Choose one of --dask and --storage.")
    if arguments.get("dask"):
        return cluster(arguments["dask"])
    n = min(n_workers(arguments["hyperopt_jobs"]), settings.retrain.ahead)
    return processes(n) if n > 1 and not arguments.get("storage") else nullcontext()


def help_with(context: Context, arguments: dict[str, Any], found: list[Unit]) -> int:
    """Help with the epochs of a search that another process began and will end."""
    wanted = arguments["join"]
    if not arguments.get("storage"):
        raise ConfigError("--join needs the --storage that the search was begun with.")
    unit = next((u for u in found if u.model_name == wanted.rpartition(".")[0]), None)
    if unit is None:
        raise ConfigError(f"{wanted} is no search for {', '.join(u.model_name for u in found)}.")
    workshop = open_workshop(arguments, unit, context)
    workshop.check()
    study = study_of(context.mlpipe.registry.directory, unit.model_name, workshop.identity())
    if study.name != wanted:
        raise ConfigError(
            f"With these options, candles and versions the search is {study.name}, not {wanted}: give the options it "
            "was begun with, the same candles, and the same versions of the libraries."
        )
    epochs = _shared(workshop, study)
    console.print(f"{study.name}: all {len(epochs)} epochs are done.", highlight=False)
    return 0


def run_search(workshop: Workshop, study: Study, pool: Executor | None) -> list[Epoch]:
    """The epochs of the study, those that are left made now."""
    if workshop.arguments.get("storage"):
        return _shared(workshop, study)
    workers = (
        Inline(workshop.evaluate)
        if pool is None
        else Remote(pool, evaluate_elsewhere, workshop.job)
    )
    plan = _plan(workshop)
    with _live(workshop, plan) as on_epoch:
        return search(plan, Proposals(workshop.space, plan.seed), workers, study.log, on_epoch)


def _shared(workshop: Workshop, study: Study) -> list[Epoch]:
    """The epochs of the study, made together with whoever joins; this machine keeps a copy of them."""
    plan, arguments = _plan(workshop), workshop.arguments
    worker = f"{socket.gethostname()} {os.getpid()} {uuid.uuid4().hex[:8]}"
    board = Board(arguments["storage"], study.name, worker)
    if not arguments.get("join"):
        progress_console.print(
            f"Others help with the same options and --join {study.name}",
            highlight=False,
            soft_wrap=True,
        )
    with _live(workshop, plan) as on_epoch:
        proposals = Proposals(workshop.space, plan.seed)
        epochs = share(plan, proposals, workshop.evaluate, board, on_epoch)
    if not arguments.get("join"):
        study.log.repair()
        known = study.log.read()
        for epoch in epochs:
            if epoch.number not in known:
                study.log.append(epoch)
    return epochs


def _plan(workshop: Workshop) -> Plan:
    arguments, config = workshop.arguments, workshop.space.base
    return Plan(
        n_epochs=arguments["epochs"],
        ahead=config.retrain.ahead,
        early_stop=arguments["early_stop"],
        seed=config.model.random_state,
    )


def _live(workshop: Workshop, plan: Plan) -> AbstractContextManager[OnEpoch]:
    currency = str(workshop.context.freqtrade["stake_currency"])
    return live_table(plan.n_epochs, currency, print_all=bool(workshop.arguments["print_all"]))
