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
from numpy.typing import NDArray

from freqtrade_mlpipe.exceptions import ConfigError, TrainingError
from freqtrade_mlpipe.models import MODELS, ModelSpec, Parameters
from freqtrade_mlpipe.splits import Fold
from freqtrade_mlpipe.tuning.data import TrainingData
from freqtrade_mlpipe.tuning.ordered import in_order
from freqtrade_mlpipe.tuning.prepared import PreparedSlice, Recipe, prepare_slice
from freqtrade_mlpipe.tuning.scoring import FoldOutcome, pooled_sharpe, score

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]

_WARMUP_FOLDS = 2
"""No trial is pruned before its score on this many folds is known."""
_STARTUP_TRIALS = 5
"""No trial is pruned before this many have finished all folds."""


@dataclass(frozen=True)
class Trial:
    """One parameter set tried.

    Attributes
    ----------
    number : int
    params : dict
        All parameters of the fit, the fixed ones included.
    value : float
        Mean score over the folds it was scored on; NaN when it failed.
    state : str
        ``complete``, ``pruned`` or ``failed``.
    seconds : float
        Wall time.
    sharpe : float
        Sharpe ratio per candle of the trades on its pooled out-of-sample folds, net of fees; NaN
        unless it is complete and forward returns were given.
    error : str
        Why it failed, else empty.
    """

    number: int
    params: Parameters
    value: float
    state: str
    seconds: float
    sharpe: float = math.nan
    error: str = ""


@dataclass(frozen=True)
class TuningResult:
    """The best parameters and every trial that was made, whatever became of it."""

    best_params: Parameters
    best_value: float
    trials: tuple[Trial, ...]


@dataclass(frozen=True, eq=False)
class _FoldTask:
    fold: Fold
    prepared: PreparedSlice
    X_test: NDArray[np.float32]


def tune(
    data: TrainingData,
    folds: Sequence[Fold],
    recipe: Recipe,
    *,
    storage: str | Path | None = None,
    study_name: str = "mlpipe",
    on_progress: Progress | None = None,
) -> TuningResult:
    """Search the estimator's parameters for the best mean score on the folds' test rows.

    Trials run one after the other, the folds of a trial on `n_jobs` threads; scores are told to
    the sampler and the pruner in fold order. The result depends on the seed, not on `n_jobs` or
    timing (unless `timeout_seconds` ends the search). The first trial takes the default parameters.

    Parameters
    ----------
    data, folds, recipe
        Rows, their splits and the configuration.
    storage : str or Path, optional
        Optuna storage URL (``sqlite:///…``), or the path of a journal file: trials found there
        count towards `n_trials`. None: in memory.
    study_name : str
        Under which trials are kept in the storage; name it after data and configuration.
    on_progress : callable, optional
        Called as ``(stage, done, total)``.

    Raises
    ------
    TrainingError
        When no trial could be scored.
    ConfigError
        When the storage cannot be opened.
    """
    progress = on_progress or _silent
    n_threads = min(recipe.model.n_jobs, len(folds))
    tasks = []
    for task in in_order(partial(_prepare, data, recipe), folds, n_threads):
        tasks.append(task)
        progress("preparing folds", len(tasks), len(folds))
    with quiet_optuna():
        study = _study(recipe, storage, study_name)
        try:
            _search(study, data, tasks, recipe, progress)
        except KeyboardInterrupt:
            if storage is not None:
                logger.warning("Interrupted: %s keeps the finished trials; run it again.", storage)
            raise
        return _result(study, MODELS[recipe.model.model_type], recipe)


def _silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""


def _prepare(data: TrainingData, recipe: Recipe, fold: Fold) -> _FoldTask:
    prepared = prepare_slice(data, fold.train, recipe)
    return _FoldTask(fold, prepared, prepared.preprocessor.transform(data.X.iloc[fold.test]))


def _search(
    study: Any, data: TrainingData, tasks: list[_FoldTask], recipe: Recipe, progress: Progress
) -> None:
    config = recipe.model
    spec = MODELS[config.model_type]
    limit = math.inf if config.timeout_seconds is None else config.timeout_seconds
    started, first = time.monotonic(), _n_finished(study)
    for done in range(first, config.n_trials):
        progress("tuning", done, config.n_trials)
        if done > first and time.monotonic() - started > limit:
            logger.info("Tuning stopped after %d trials: timeout_seconds reached.", done)
            break
        _run_trial(study, spec, data, tasks, recipe)
    progress("tuning", _n_finished(study), config.n_trials)


def _run_trial(
    study: Any, spec: ModelSpec, data: TrainingData, tasks: list[_FoldTask], recipe: Recipe
) -> None:
    from optuna.trial import TrialState

    started = time.monotonic()
    trial = study.ask()
    state, outcomes = TrialState.FAIL, []
    try:
        params = spec.suggest(trial, recipe.model.parameters)
        trial.set_user_attr("params", params)
        state = TrialState.COMPLETE
        run = partial(_evaluate, data, params, recipe)
        with closing(in_order(run, tasks, min(recipe.model.n_jobs, len(tasks)))) as results:
            for step, outcome in enumerate(results):
                outcomes.append(outcome)
                trial.report(float(np.mean([o.score for o in outcomes])), step)
                if step + 1 < len(tasks) and trial.should_prune():
                    state = TrialState.PRUNED
                    break
    except TrainingError as error:
        state = TrialState.FAIL
        trial.set_user_attr("error", str(error))
    except BaseException:
        study.tell(trial, state=TrialState.FAIL)
        raise
    value = float(np.mean([o.score for o in outcomes])) if outcomes else math.nan
    if state == TrialState.COMPLETE and not math.isfinite(value):
        state = TrialState.FAIL
        trial.set_user_attr("error", f"{recipe.model.optimization_metric} is not defined")
    if state == TrialState.COMPLETE:
        trial.set_user_attr("sharpe", pooled_sharpe(data, outcomes))
    trial.set_user_attr("seconds", time.monotonic() - started)
    study.tell(trial, value if state == TrialState.COMPLETE else None, state=state)


def _evaluate(
    data: TrainingData, params: Mapping[str, Any], recipe: Recipe, task: _FoldTask
) -> FoldOutcome:
    fitted = task.prepared.fit(params)
    proba = fitted.predict_proba(task.X_test)
    position = fitted.thresholds.positions(proba)
    value = score(recipe.model.optimization_metric, data, task.fold.test, proba, position)
    return FoldOutcome(task.fold.test, proba, position, value)


def _study(recipe: Recipe, storage: str | Path | None, name: str) -> Any:
    import optuna

    config = recipe.model
    study = optuna.create_study(
        study_name=name,
        storage=_storage(storage),
        load_if_exists=True,
        direction=config.direction,
        pruner=optuna.pruners.MedianPruner(
            n_startup_trials=_STARTUP_TRIALS, n_warmup_steps=_WARMUP_FOLDS - 1
        ),
    )
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    done = _n_finished(study)
    study.sampler = optuna.samplers.TPESampler(
        seed=config.random_state + done, n_startup_trials=max(4, min(10, config.n_trials // 3))
    )
    if not study.trials:
        spec = MODELS[config.model_type]
        searched = set(spec.space) - set(config.parameters)
        study.enqueue_trial({name: spec.defaults[name] for name in sorted(searched)})
    return study


def _n_finished(study: Any) -> int:
    return sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))


def _storage(storage: str | Path | None) -> Any:
    if storage is None or "://" in str(storage):
        return None if storage is None else str(storage)
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    path = Path(storage)
    if not path.parent.is_dir():
        raise ConfigError(f"The folder of the tuning journal does not exist: {path.parent}.")
    return JournalStorage(JournalFileBackend(str(path)))


def _result(study: Any, spec: ModelSpec, recipe: Recipe) -> TuningResult:
    trials = tuple(
        _trial(found) for found in study.get_trials(deepcopy=False) if found.state.is_finished()
    )
    complete = [trial for trial in trials if trial.state == "complete"]
    if not complete:
        reasons = sorted({trial.error for trial in trials if trial.error})
        raise TrainingError(
            f"None of {len(trials)} trials could be scored by "
            f"{recipe.model.optimization_metric}: {'; '.join(reasons) or 'no reason recorded'}."
        )
    sign = -1 if recipe.model.direction == "maximize" else 1
    best = min(complete, key=lambda trial: (sign * trial.value, trial.number))
    params = spec.after_search(best.params, recipe.model.parameters)
    return TuningResult(params, best.value, trials)


def _trial(found: Any) -> Trial:
    states = {"COMPLETE": "complete", "PRUNED": "pruned"}
    attributes = found.user_attrs
    value = found.value
    if value is None:
        steps = found.intermediate_values
        value = steps[max(steps)] if steps else math.nan
    return Trial(
        number=found.number,
        params=dict(attributes.get("params", found.params)),
        value=float(value),
        state=states.get(found.state.name, "failed"),
        seconds=float(attributes.get("seconds", math.nan)),
        sharpe=float(attributes.get("sharpe", math.nan)),
        error=str(attributes.get("error", "")),
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
