"""The search for parameters: one seeded Optuna study over purged folds."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from freqtrade_mlpipe.config import ModelConfig, direction_of
from freqtrade_mlpipe.exceptions import SearchInterrupted, TrainingError
from freqtrade_mlpipe.interruption import lasting_interrupts
from freqtrade_mlpipe.models import MODELS
from freqtrade_mlpipe.splits import Fold
from freqtrade_mlpipe.tuning.data import TrainingData
from freqtrade_mlpipe.tuning.ordered import in_order
from freqtrade_mlpipe.tuning.prepared import PreparedFold, Recipe, prepare_fold
from freqtrade_mlpipe.tuning.scoring import FoldOutcome, pooled_sharpe, score
from freqtrade_mlpipe.tuning.storage import open_storage
from freqtrade_mlpipe.tuning.trials import (
    TuningResult,
    pareto_front,
    pick,
    pick_before,
    read_trial,
    rule_of,
)

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]

_WARMUP_FOLDS = 2
"""No trial is pruned before its score on this many folds is known."""
_STARTUP_TRIALS = 5
"""No trial is pruned before this many have finished all folds."""
_SET_ASIDE = "set_aside"


@dataclass(frozen=True, eq=False)
class _Tasks:
    """Folds made ready: those of the search, and those of the walk-forward where it goes over others."""

    search: list[PreparedFold]
    walk: list[PreparedFold] | None


def tune(
    data: TrainingData,
    folds: Sequence[Fold],
    recipe: Recipe,
    *,
    walk: Sequence[Fold] | None = None,
    storage: str | Path | None = None,
    study_name: str = "mlpipe",
    on_progress: Progress | None = None,
) -> TuningResult:
    """Search the estimator's parameters for the best mean score on the folds' test rows.

    Trials run one after the other, the folds of a trial on `n_jobs` threads; scores are told to
    the sampler and the pruner in fold order. The result depends on the seed, not on `n_jobs` or
    timing (unless `timeout_seconds` ends the search). The first trial takes the default parameters.
    Each trial draws from a seed of its own, so that a search that was interrupted or killed and
    gone on with makes the same trials as one that was not: the trial it was at is repeated.

    Two choices are made of the trials. Production takes the best of all over all folds. The member of a walk-forward
    fold takes what the folds before it speak for (`pick_before`), so that no score out of sample is a best of several.

    Parameters
    ----------
    data, folds, recipe
        Rows, their splits and the configuration.
    walk : sequence of Fold, optional
        The walk-forward folds, where the search goes over others: trials that their members may take are scored on
        them too. None: `folds`.
    storage : str or Path, optional
        A folder (one journal a study), a journal file, or an Optuna URL (``sqlite:///…``; one
        process at a time). Trials found there count towards `n_trials`. None: in memory.
    study_name : str
        Under which trials are kept in the storage; name it after data and configuration.
    on_progress : callable, optional
        Called as ``(stage, done, total)``.

    Raises
    ------
    TrainingError
        When no trial could be scored, or another process is at work on the same journal.
    ConfigError
        When the storage cannot be opened.
    SearchInterrupted
        On Ctrl-C with a `storage`: it keeps the finished trials.
    """
    progress = on_progress or _silent
    config = recipe.model
    with quiet_optuna(), open_storage(storage, study_name) as opened:
        study = _study(config, len(folds), opened, study_name)
        try:
            if len(_counted(study)) < config.n_trials:
                _search(study, data, _tasks(data, folds, walk, recipe, progress), recipe, progress)
            progress("tuning", len(_counted(study)), config.n_trials)
        except KeyboardInterrupt:
            if storage is None:
                raise
            raise SearchInterrupted(len(_counted(study)), config.n_trials) from None
        return _result(study, config, len(folds if walk is None else walk))


def _silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""


def _tasks(
    data: TrainingData,
    folds: Sequence[Fold],
    walk: Sequence[Fold] | None,
    recipe: Recipe,
    progress: Progress,
) -> _Tasks:
    tasks: list[PreparedFold] = []
    every = [*folds, *(walk or ())]
    n_threads = min(recipe.model.n_jobs, len(every))
    for task in in_order(partial(prepare_fold, data, recipe), every, n_threads):
        tasks.append(task)
        progress("preparing folds", len(tasks), len(every))
    return _Tasks(tasks[: len(folds)], None if walk is None else tasks[len(folds) :])


def _search(
    study: Any, data: TrainingData, tasks: _Tasks, recipe: Recipe, progress: Progress
) -> None:
    config = recipe.model
    limit = math.inf if config.timeout_seconds is None else config.timeout_seconds
    started, first = time.monotonic(), len(_counted(study))
    with lasting_interrupts() as check:
        for done in range(first, config.n_trials):
            progress("tuning", done, config.n_trials)
            if done > first and time.monotonic() - started > limit:
                logger.info("Tuning stopped after %d trials: timeout_seconds reached.", done)
                break
            _run_trial(study, done, data, tasks, recipe)
            check()


def _run_trial(study: Any, number: int, data: TrainingData, tasks: _Tasks, recipe: Recipe) -> None:
    from optuna.trial import TrialState

    started = time.monotonic()
    trial = _ask(study, number, recipe.model)
    blind = number < _n_random(recipe.model)
    state, error = TrialState.COMPLETE, ""
    outcomes: list[FoldOutcome] = []
    walked: list[FoldOutcome] = []
    try:
        params = MODELS[recipe.model.model_type].suggest(trial, recipe.model.parameters)
        trial.set_user_attr("params", params)
        run = partial(_evaluate, data, params, recipe)
        if tasks.walk is not None and blind:
            walked = list(in_order(run, tasks.walk, min(recipe.model.n_jobs, len(tasks.walk))))
        n_folds = len(tasks.search)
        with closing(in_order(run, tasks.search, min(recipe.model.n_jobs, n_folds))) as results:
            for outcome in results:
                outcomes.append(outcome)
                if len(outcomes) < n_folds and _hopeless(study, trial, outcomes):
                    state = TrialState.PRUNED
                    break
    except TrainingError as found:
        state, error = TrialState.FAIL, str(found)
    except BaseException:
        _set_aside(study, trial.number)
        raise
    scores = _by_metric(outcomes, recipe.model)
    undefined = [name for name, found in scores.items() if not np.isfinite(found).all()]
    if state != TrialState.FAIL and undefined:
        state, error = TrialState.FAIL, f"{', '.join(undefined)} is not defined"
    if state == TrialState.COMPLETE:
        trial.set_user_attr("sharpe", pooled_sharpe(data, outcomes))
    trial.set_user_attr("scores", scores)
    trial.set_user_attr("blind", blind)
    trial.set_user_attr(
        "walk_scores", scores if tasks.walk is None else _by_metric(walked, recipe.model)
    )
    trial.set_user_attr("error", error)
    trial.set_user_attr("seconds", time.monotonic() - started)
    if state == TrialState.COMPLETE:
        study.tell(trial, [float(np.mean(found)) for found in scores.values()], state=state)
    else:
        study.tell(trial, state=state)


def _by_metric(outcomes: Sequence[FoldOutcome], config: ModelConfig) -> dict[str, list[float]]:
    return {name: [outcome.scores[name] for outcome in outcomes] for name in config.metrics}


def _hopeless(study: Any, trial: Any, outcomes: Sequence[FoldOutcome]) -> bool:
    """Whether the folds so far end a trial. With several metrics a trial bad in one may be best in another."""
    if len(study.directions) > 1:
        return False
    trial.report(float(np.mean([next(iter(o.scores.values())) for o in outcomes])), len(outcomes))
    return bool(trial.should_prune())


def _evaluate(
    data: TrainingData, params: Mapping[str, Any], recipe: Recipe, task: PreparedFold
) -> FoldOutcome:
    fitted = task.prepared.fit(params)
    proba = fitted.predict_proba(task.X_test)
    position = fitted.thresholds.positions(proba)
    settled = task.fold.settled(data.known_at)
    scores: dict[str, float] = {
        metric: score(metric, data, task.fold.test[settled], proba[settled], position[settled])
        for metric in recipe.model.metrics
    }
    return FoldOutcome(task.fold.test, proba, position, scores)


def _study(config: ModelConfig, n_folds: int, storage: Any, name: str) -> Any:
    """The study, new or found in the storage; a trial that a killed process left behind is set aside."""
    import optuna

    study = optuna.create_study(
        study_name=name,
        storage=storage,
        load_if_exists=True,
        directions=[direction_of(metric) for metric in config.metrics],
        pruner=_pruner(config.pruner, n_folds),
    )
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        _set_aside(study, trial.number)
    return study


def _pruner(name: str, n_folds: int) -> Any:
    from optuna import pruners

    if name == "hyperband":
        return pruners.HyperbandPruner(
            min_resource=_WARMUP_FOLDS, max_resource=max(n_folds, _WARMUP_FOLDS), reduction_factor=2
        )
    if name == "median":
        return pruners.MedianPruner(n_startup_trials=_STARTUP_TRIALS, n_warmup_steps=_WARMUP_FOLDS)
    return pruners.NopPruner()


def _ask(study: Any, number: int, config: ModelConfig) -> Any:
    """The next trial; what it draws depends on the seed, its number and the trials before it."""
    from optuna.samplers import TPESampler

    seed = int(np.random.SeedSequence([config.random_state, number]).generate_state(1)[0])
    study.sampler = TPESampler(seed=seed, n_startup_trials=_n_random(config))
    if number == 0:
        spec = MODELS[config.model_type]
        searched = set(spec.space) - set(config.parameters)
        study.enqueue_trial(
            {name: spec.defaults[name] for name in sorted(searched)}, skip_if_exists=False
        )
    return study.ask()


def _n_random(config: ModelConfig) -> int:
    """Trials at the beginning that are drawn without looking at scores, the default parameters among them."""
    return max(4, min(10, config.n_trials // 3))


def _set_aside(study: Any, number: int) -> None:
    """End a trial that was interrupted: it will be repeated and does not count."""
    from optuna.trial import TrialState

    study.set_user_attr(_SET_ASIDE, [*study.user_attrs.get(_SET_ASIDE, ()), number])
    study.tell(number, state=TrialState.FAIL)


def _counted(study: Any) -> list[Any]:
    """Finished trials, but for those that were interrupted."""
    aside = set(study.user_attrs.get(_SET_ASIDE, ()))
    return [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state.is_finished() and trial.number not in aside
    ]


def _result(study: Any, config: ModelConfig, n_walk: int) -> TuningResult:
    trials = tuple(read_trial(found, number) for number, found in enumerate(_counted(study)))
    complete = [trial for trial in trials if trial.state == "complete"]
    if not complete:
        reasons = sorted({trial.error for trial in trials if trial.error})
        raise TrainingError(
            f"None of {len(trials)} trials could be scored by "
            f"{', '.join(config.metrics)}: {'; '.join(reasons) or 'no reason recorded'}."
        )
    front = pareto_front(complete, config.metrics)
    picked = pick(front, config.metrics)
    spec = MODELS[config.model_type]
    walk = [pick_before(trials, config.metrics, n_before) for n_before in range(n_walk)]
    defaults = {**spec.defaults, **config.parameters}
    return TuningResult(
        best_params=spec.after_search(picked.params, config.parameters),
        best_value=picked.value,
        trials=trials,
        front=tuple(trial.number for trial in front),
        rule=rule_of(config.metrics),
        picked=picked.number,
        walk_params=tuple(
            spec.after_search(defaults if each is None else each.params, config.parameters)
            for each in walk
        ),
        walk_picked=tuple(None if each is None else each.number for each in walk),
    )


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Optuna's own lines held back; warnings pass."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
