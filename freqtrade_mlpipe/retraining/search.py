"""The search: epochs are proposed, rehearsed by any number of workers, and told, always in the same order.

Epoch k is proposed once the results of all epochs up to k - `ahead` are known to the sampler, and no others: whatever
number of workers there is and whoever of them is quicker, it is the same epoch. What a process did not finish before
it ended is all that is lost: the next one proposes the same epochs again, and finds the results of most.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from freqtrade_mlpipe.exceptions import MLPipeError, SearchInterrupted
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
    run = _Run(plan, proposals, workers, log, on_epoch)
    try:
        return run.to_end()
    except KeyboardInterrupt:
        raise SearchInterrupted(len(log.read()), plan.n_epochs, "epochs") from None


class _Run:
    def __init__(
        self,
        plan: Plan,
        proposals: Proposals,
        workers: Workers,
        log: EpochLog,
        on_epoch: Callable[[Epoch], None],
    ) -> None:
        self.plan, self.proposals, self.workers = plan, proposals, workers
        self.log, self.on_epoch = log, on_epoch
        log.repair()
        self.kept = log.read()
        self.done: dict[int, Epoch] = {}
        self.running: set[Future[Epoch]] = set()
        self.n_told = self.n_reported = self.n_asked = 0
        self.best = (float("inf"), 0)

    def to_end(self) -> list[Epoch]:
        while self.n_asked < self.plan.n_epochs and self._tell(self.n_asked - self.plan.ahead + 1):
            self._start(self.proposals.ask())
        while self.running:
            self._collect()
        return [self.done[number] for number in range(1, self.n_asked + 1)]

    def _start(self, params: Params) -> None:
        self.n_asked += 1
        found = self.kept.get(self.n_asked)
        if found is not None and found.params == params:
            self._finished(found)
            return
        if found is not None:
            logger.warning("Epoch %d was kept with other values; it is repeated.", self.n_asked)
        self.running.add(self.workers.submit(self.n_asked, params))
        self._collect(wait_for_one=False)

    def _tell(self, n_wanted: int) -> bool:
        """Wait for the first `n_wanted` epochs and tell them in order; False: time to stop."""
        while self.n_told < n_wanted:
            number = self.n_told + 1
            while number not in self.done:
                self._collect()
            loss = self.done[number].loss
            self.proposals.tell(self.n_told, loss)
            self.n_told = number
            if loss < self.best[0]:
                self.best = (loss, number)
            if self.plan.early_stop and number - self.best[1] >= self.plan.early_stop:
                logger.info("No better epoch than %d: the search ends early.", self.best[1])
                return False
        return True

    def _collect(self, *, wait_for_one: bool = True) -> None:
        timeout = None if wait_for_one else 0
        finished, self.running = wait(self.running, timeout, FIRST_COMPLETED)
        for future in finished:
            epoch = future.result()
            self.log.append(epoch)
            self._finished(epoch)

    def _finished(self, epoch: Epoch) -> None:
        self.done[epoch.number] = epoch
        while self.n_reported + 1 in self.done:
            self.n_reported += 1
            self.on_epoch(self.done[self.n_reported])
