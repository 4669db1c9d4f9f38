"""The search: epochs are proposed, rehearsed by any number of workers, and told, always in the same order.

Epoch k is proposed once the results of all epochs up to k - `ahead` are known to the sampler, and no others: whatever
number of workers there is and whoever of them is quicker, it is the same epoch. What a process did not finish before
it ended is all that is lost: the next one proposes the same epochs again, and finds the results of most.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from freqtrade_mlpipe.exceptions import MLPipeError, SearchInterrupted, TrainingError
from freqtrade_mlpipe.interruption import lasting_interrupts
from freqtrade_mlpipe.retraining.epochs import MAX_LOSS, Epoch, EpochLog, Judgement
from freqtrade_mlpipe.retraining.objective import Objective
from freqtrade_mlpipe.retraining.rehearsal import Rehearsal
from freqtrade_mlpipe.retraining.spaces import Params, SearchSpace, configured
from freqtrade_mlpipe.tuning.study import quiet_optuna

logger = logging.getLogger(__name__)

N_RANDOM = 10
"""Epochs that are drawn at random before the sampler looks at results."""


@dataclass(frozen=True)
class Plan:
    """How far a search goes: `early_stop` epochs without a better one end it, 0: never."""

    n_epochs: int
    ahead: int
    early_stop: int = 0
    seed: int = 0


class Workers(Protocol):
    """Whatever evaluates epochs: this process, others, other machines."""

    def submit(self, number: int, params: Params) -> Future[Epoch]:
        """Evaluate an epoch, now or later."""


class Proposals:
    """A seeded sampler: the present configuration first, then whatever is promising.

    What it proposes depends on the seed, the number of the epoch and the losses told so far.
    """

    def __init__(self, space: SearchSpace, seed: int) -> None:
        import optuna

        self._space, self._seed = space, seed
        with quiet_optuna():
            self._study = optuna.create_study(storage=optuna.storages.InMemoryStorage())
        self._trials: list[Any] = []

    def ask(self) -> Params:
        """Values of the next epoch."""
        number = len(self._trials)
        with _quiet():
            self._study.sampler = sampler(self._seed, number)
            if number == 0:
                self._study.enqueue_trial(dict(self._space.present()))
            trial = self._study.ask()
            self._trials.append(trial)
            return self._space.suggest(trial)

    def tell(self, number: int, loss: float) -> None:
        """The loss of an epoch, counted from 0."""
        with _quiet():
            self._study.tell(self._trials[number], loss)


def sampler(seed: int, number: int) -> Any:
    """The sampler of one epoch, with a seed of its own, so that a search can be gone on with anywhere."""
    from optuna.samplers import TPESampler

    own = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    with _quiet():
        return TPESampler(seed=own, n_startup_trials=N_RANDOM, constant_liar=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """constant_liar is "experimental" before Optuna 5; a present value may lie outside the usual range."""
    with quiet_optuna(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="optuna")
        yield


def evaluate(
    rehearsal: Rehearsal, objective: Objective, space: SearchSpace, number: int, params: Params
) -> Epoch:
    """Rehearse and judge one epoch; a configuration that cannot be learned from is a bad one, not the end."""
    started = time.monotonic()
    try:
        judgement = objective.judge(rehearsal.rehearse(configured(space.base, params)))
    except MLPipeError as error:
        judgement = Judgement(MAX_LOSS, error=str(error))
    return Epoch(number, params, judgement, time.monotonic() - started)


class Course:
    """Which epochs a search makes, in which order, whoever evaluates them.

    Attributes
    ----------
    proposed : values of the epochs by number, as far as results allow.
    """

    def __init__(self, plan: Plan, proposals: Proposals) -> None:
        self.proposed: dict[int, Params] = {}
        self._plan, self._proposals = plan, proposals
        self._n_told, self._stopped = 0, False
        self._best = (float("inf"), 0)

    def advance(self, done: Mapping[int, Epoch]) -> list[int]:
        """Propose all that the finished epochs allow; the new numbers."""
        first = len(self.proposed) + 1
        while len(self.proposed) < self._plan.n_epochs and self._tell(done):
            self.proposed[len(self.proposed) + 1] = self._proposals.ask()
        return list(range(first, len(self.proposed) + 1))

    def is_over(self, done: Mapping[int, Epoch]) -> bool:
        """Whether there is nothing left to propose or to wait for."""
        all_proposed = self._stopped or len(self.proposed) == self._plan.n_epochs
        return all_proposed and self.proposed.keys() <= done.keys()

    def _tell(self, done: Mapping[int, Epoch]) -> bool:
        """Tell what the next proposal may know, no more; False: it is not there yet, or the search ends."""
        while not self._stopped and self._n_told <= len(self.proposed) - self._plan.ahead:
            number = self._n_told + 1
            if number not in done:
                return False
            loss = done[number].loss
            self._proposals.tell(self._n_told, loss)
            self._n_told = number
            if loss < self._best[0]:
                self._best = (loss, number)
            self._stopped = 0 < self._plan.early_stop <= number - self._best[1]
        return not self._stopped


class InOrder:
    """Calls `on_epoch` with finished epochs in order, whatever the order in which they finish."""

    def __init__(self, on_epoch: Callable[[Epoch], None]) -> None:
        self._on_epoch, self._n = on_epoch, 0

    def report(self, done: Mapping[int, Epoch]) -> None:
        """Report what can be reported."""
        while self._n + 1 in done:
            self._n += 1
            self._on_epoch(done[self._n])


def kept(found: Mapping[int, Epoch], course: Course, number: int) -> Epoch | None:
    """The epoch as it was kept, if its values are those that are proposed now."""
    epoch = found.get(number)
    if epoch is None or epoch.params == course.proposed[number]:
        return epoch
    logger.warning("Epoch %d was kept with other values; it is repeated.", number)
    return None


def search(
    plan: Plan,
    proposals: Proposals,
    workers: Workers,
    log: EpochLog,
    on_epoch: Callable[[Epoch], None],
) -> list[Epoch]:
    """All epochs of the plan, in order; those of the log are not evaluated again.

    Parameters
    ----------
    on_epoch : called with each epoch in order, also those found in the log.

    Raises
    ------
    SearchInterrupted
        On Ctrl-C; the log keeps what is finished.
    """
    log.repair()
    found, done = log.read(), dict[int, Epoch]()
    course, order = Course(plan, proposals), InOrder(on_epoch)
    running: set[Future[Epoch]] = set()
    try:
        with lasting_interrupts() as check:
            while not course.is_over(done):
                check()
                for number in course.advance(done):
                    known = kept(found, course, number)
                    if known is None:
                        running.add(workers.submit(number, course.proposed[number]))
                    else:
                        done[number] = known
                    # What finished at once is kept at once: there may be a Ctrl-C before the next one.
                    running = _collect(running, log, done, timeout=0)
                    order.report(done)
                    check()
                if running:
                    running = _collect(running, log, done)
                order.report(done)
    except KeyboardInterrupt:
        raise SearchInterrupted(len(log.read()), plan.n_epochs, "epochs") from None
    return [done[number] for number in sorted(course.proposed)]


def _collect(
    running: set[Future[Epoch]],
    log: EpochLog,
    done: dict[int, Epoch],
    timeout: float | None = None,
) -> set[Future[Epoch]]:
    """Wait for the next epoch, keep it; what is still running."""
    finished, running = wait(running, timeout, FIRST_COMPLETED)
    for future in finished:
        try:
            epoch = future.result()
        except BrokenExecutor as error:
            raise TrainingError(
                "A worker process ended by itself, perhaps for want of memory: try fewer with -j. The epochs that are "
                "finished are kept; the same command goes on with those left."
            ) from error
        log.append(epoch)
        done[epoch.number] = epoch
    return running
