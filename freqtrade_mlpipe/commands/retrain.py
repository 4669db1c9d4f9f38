"""`retrain`: a search like freqtrade's hyperopt, its winner trained, gated against the champion, and deployed."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from freqtrade_mlpipe.commands import stdout
from freqtrade_mlpipe.commands.context import Context, load_context
from freqtrade_mlpipe.commands.display import (
    console,
    print_gates,
    print_version,
    progress_bar,
)
from freqtrade_mlpipe.commands.epoch_table import (
    as_hyperopt,
    print_details,
    print_epochs,
)
from freqtrade_mlpipe.commands.lifecycle import recorded_settings, validate_version
from freqtrade_mlpipe.commands.searching import help_with, run_search, workers_of
from freqtrade_mlpipe.commands.triggers import reason_to_retrain
from freqtrade_mlpipe.commands.units import UnitResult, each, finish, units
from freqtrade_mlpipe.commands.workshop import Workshop, open_workshop
from freqtrade_mlpipe.exceptions import GateRefusedError, TrainingError
from freqtrade_mlpipe.retraining import (
    MAX_LOSS,
    Epoch,
    by_space,
    configured,
)
from freqtrade_mlpipe.retraining.study import Outcome, Study, only_one, study_of
from freqtrade_mlpipe.retraining.units import Unit

if TYPE_CHECKING:
    from freqtrade_mlpipe.registry import GateReport, ModelVersion

NOT_NOW = "No trigger says that it is time to retrain: nothing was done."


@dataclass(frozen=True)
class Retrained:
    """What became of a unit: the winner, the version made of it, the verdict, and whether it was deployed now."""

    study: Study
    epochs: list[Epoch]
    best: Epoch
    version: ModelVersion
    report: GateReport
    promoted: bool

    @property
    def exit_code(self) -> int:
        """0: the gates let the version pass; 3: they refused it."""
        return 0 if self.report.passed else GateRefusedError.exit_code


def start_retrain(arguments: dict[str, Any]) -> int:
    """Search, train the best, gate it, promote it if asked to. Exit code 3 when the gates refuse."""
    context = load_context(arguments, backtest=True)
    settings, found = context.mlpipe, units(context)
    if arguments.get("join"):
        return help_with(context, arguments, found)
    with (
        only_one(settings.registry.directory, settings.model_name),
        workers_of(arguments, settings) as pool,
    ):
        if settings.scope == "pooled":
            return _retrain_one(context, arguments, found[0], pool)
        results = each(lambda unit: _retrain_of_many(context, arguments, unit, pool), found)
    return finish(results, as_json=bool(arguments.get("print_json")))


def _retrain_one(
    context: Context, arguments: dict[str, Any], unit: Unit, pool: Executor | None
) -> int:
    as_text = not arguments.get("print_json")
    if reason_to_retrain(context.for_unit(unit), arguments) is None:
        console.print(NOT_NOW) if as_text else stdout.write_json({"retrained": False})
        return 0
    workshop = open_workshop(arguments, unit, context)
    found = retrain(workshop, pool)
    if as_text:
        _print(workshop, found)
    else:
        stdout.write_json({"retrained": True, **as_json(found)})
    return found.exit_code


def _retrain_of_many(
    context: Context, arguments: dict[str, Any], unit: Unit, pool: Executor | None
) -> UnitResult:
    if reason_to_retrain(context.for_unit(unit), arguments) is None:
        return UnitResult(unit.model_name, unit.pairs, "-", "not due", NOT_NOW, 0)
    found = retrain(open_workshop(arguments, unit, context), pool)
    passed = "promoted" if found.promoted else "passed"
    refusing = ", ".join(check.name for check in found.report.failures)
    return UnitResult(
        model_name=unit.model_name,
        pairs=unit.pairs,
        version=found.version.version,
        outcome=passed if found.report.passed else "refused",
        said=f"epoch {found.best.number} of {len(found.epochs)}, objective {found.best.loss:.5g}"
        if found.report.passed
        else f"refused by {refusing}",
        exit_code=found.exit_code,
    )


def retrain(workshop: Workshop, pool: Executor | None = None) -> Retrained:
    """The whole of it for one unit; whatever an earlier run finished is not done again.

    Parameters
    ----------
    pool : whose processes evaluate the epochs; None: this one.

    Raises
    ------
    ConfigError
        When no epoch could work, see `Workshop.check`.
    TrainingError
        When no epoch could be judged, or the best one cannot be trained.
    SearchInterrupted
        On Ctrl-C; finished epochs are kept.
    """
    workshop.check()
    arguments, context = workshop.arguments, workshop.context
    directory = context.mlpipe.registry.directory
    study = study_of(directory, workshop.unit.model_name, workshop.identity())
    study.describe(_description(workshop))
    epochs = run_search(workshop, study, pool)
    best = best_of(epochs)
    version = _trained(workshop, study, epochs, best)
    registry = context.registry()
    report = version.report or validate_version(context, version)
    promoted = False
    if arguments.get("promote") and report.passed:
        champion = registry.get_production_model(version.name)
        promoted = champion is None or champion.version != version.version
        note = f"retrain: epoch {best.number} of {len(epochs)}, {workshop.objective.name}"
        registry.promote_to_production(version.name, version.version, notes=note)
    version = registry.get_version(version.name, version.version)
    return Retrained(study, epochs, best, version, report, promoted)


def best_of(epochs: list[Epoch]) -> Epoch:
    """The epoch with the least loss, the first of several.

    Raises
    ------
    TrainingError
        When all failed or traded too little.
    """
    best = min(epochs, key=lambda epoch: (epoch.loss, epoch.number))
    if best.loss >= MAX_LOSS:
        errors = sorted({epoch.judgement.error for epoch in epochs if epoch.judgement.error})
        shown = "; ".join(errors[:3]) or "all had fewer trades than --min-trades"
        raise TrainingError(f"None of {len(epochs)} epochs gave a usable model: {shown}.")
    return best


def _trained(workshop: Workshop, study: Study, epochs: list[Epoch], best: Epoch) -> ModelVersion:
    """The version of the best epoch: the one an earlier run registered, or a new one."""
    from freqtrade_mlpipe.pipeline import train

    context = workshop.context
    registry, name = context.registry(), workshop.unit.model_name
    note = f"retrain {study.name}: epoch {best.number} of {len(epochs)}"
    known, wanted = study.outcome, (len(epochs), best.number)
    there = registry.get_all_versions(name) if name in registry.get_model_names() else []
    for version in there:
        # A kill may have come between the registration and the note of it.
        is_known = known is not None and known == Outcome(*wanted, version.version)
        if is_known or version.notes == note:
            study.conclude(Outcome(*wanted, version.version))
            return version
    settings = recorded_settings(context) | {
        "retrain": _description(workshop) | {"study": study.name}
    }
    config = configured(workshop.space.base, best.params)
    with progress_bar() as on_progress:
        outcome = train(
            replace(workshop.market, compute=workshop.compute_of(config.features)),
            config,
            registry=registry,
            tracker=context.tracker(),
            now=datetime.now(UTC),
            settings=settings,
            final_window=workshop.window,
            tried=[epoch.judgement.sharpe for epoch in epochs],
            notes=note,
            on_progress=on_progress,
        )
    study.conclude(Outcome(len(epochs), best.number, outcome.version.version))
    return registry.set_challenger(name, outcome.version.version, reason="retrained")


def _description(workshop: Workshop) -> dict[str, Any]:
    """What the study's file says of it, for people and `retrain-list`."""
    return {
        "model_name": workshop.unit.model_name,
        "pairs": list(workshop.unit.pairs),
        "strategy": workshop.context.freqtrade.get("strategy"),
        "timerange": workshop.context.freqtrade.get("timerange"),
        "spaces": list(workshop.space.spaces),
        "objective": workshop.objective.name,
        "epochs": workshop.arguments["epochs"],
        "final_window_start": workshop.window.isoformat(),
        "stake_currency": workshop.context.freqtrade["stake_currency"],
    }


def _print(workshop: Workshop, found: Retrained) -> None:
    arguments = workshop.arguments
    rows = as_hyperopt(found.epochs, str(workshop.context.freqtrade["stake_currency"]))
    shown = rows if arguments.get("print_all") else [row for row in rows if row["is_best"]]
    print_epochs(shown, len(rows), highlight=bool(arguments.get("print_all")))
    print_details(rows[found.best.number - 1], len(rows), "Best result")
    print_version(found.version, f"was trained from epoch {found.best.number}")
    print_gates(found.report, found.version)
    console.print(_verdict(found, bool(arguments.get("promote"))), highlight=False, soft_wrap=True)


def _verdict(found: Retrained, promote: bool) -> str:
    version = found.version
    if not found.report.passed:
        return (
            f"Version {version.version} of {version.name} was refused; production stays as it was."
        )
    if found.promoted:
        return f"{version.name} version {version.version} is in production."
    if promote:
        return f"{version.name} version {version.version} was in production already."
    return f"\nNext: freqtrade-mlpipe promote --model-name {version.name} --model-version {version.version}"


def as_json(found: Retrained) -> dict[str, Any]:
    """What scripts want to know of a retraining."""
    return {
        "study": found.study.name,
        "model_name": found.version.name,
        "model_version": found.version.version,
        "epochs": len(found.epochs),
        "best_epoch": found.best.number,
        "loss": found.best.loss,
        "params": by_space(found.best.params),
        "passed": found.report.passed,
        "refused_by": [check.name for check in found.report.failures],
        "promoted": found.promoted,
        "production": str(found.version.status) == "PRODUCTION",
    }
