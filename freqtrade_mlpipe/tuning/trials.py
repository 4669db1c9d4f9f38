"""What a search leaves behind: every trial, and the one that was picked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from freqtrade_mlpipe.config import direction_of
from freqtrade_mlpipe.models import Parameters


@dataclass(frozen=True)
class Trial:
    """One parameter set tried.

    Attributes
    ----------
    number : int
    params : dict
        All parameters of the fit, the fixed ones included.
    value : float
        Mean score by the first metric over the folds it was scored on; NaN when it failed.
    state : str
        ``complete``, ``pruned`` or ``failed``.
    seconds : float
        Wall time.
    sharpe : float
        Sharpe ratio per candle of the trades on its pooled out-of-sample folds, net of fees; NaN
        unless it is complete and forward returns were given.
    error : str
        Why it failed, else empty.
    fold_scores : dict of str to tuple of float
        Score on each fold, in order, by each metric of the search.
    blind : bool
        Whether its parameters were drawn before any score was looked at.
    walk_scores : dict of str to tuple of float
        The same on each walk-forward fold.
    """

    number: int
    params: Parameters
    value: float
    state: str
    seconds: float
    sharpe: float = math.nan
    error: str = ""
    fold_scores: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    blind: bool = False
    walk_scores: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def mean(self, metric: str) -> float:
        """Mean score over the folds; NaN where there is none."""
        scores = self.fold_scores.get(metric, ())
        return float(np.mean(scores)) if scores else math.nan


@dataclass(frozen=True)
class TuningResult:
    """The parameters that were picked and every trial that was made, whatever became of it.

    Attributes
    ----------
    best_params, best_value
        Of the picked trial; the value is by the first metric.
    trials : tuple of Trial
    front : tuple of int
        Numbers of the trials that no other one beats in every metric, best by the first metric
        first. With one metric: the best trial.
    rule : str
        How the trial was picked, as a sentence. Empty without a search.
    picked : int or None
        Number of that trial.
    walk_params : tuple of Parameters
        Of the member of each walk-forward fold: see `pick_before`. Empty without a search.
    walk_picked : tuple of int or None
        Numbers of those trials; None: the default parameters.
    """

    best_params: Parameters
    best_value: float
    trials: tuple[Trial, ...]
    front: tuple[int, ...] = ()
    rule: str = ""
    picked: int | None = None
    walk_params: tuple[Parameters, ...] = ()
    walk_picked: tuple[int | None, ...] = ()


def pareto_front(trials: Sequence[Trial], metrics: Sequence[str]) -> list[Trial]:
    """Trials that no other one equals or beats in all metrics and beats in one, best first."""
    signs = [_sign(metric) for metric in metrics]
    values = np.array(
        [[s * t.mean(m) for s, m in zip(signs, metrics, strict=True)] for t in trials]
    )
    worse = np.array(
        [((values <= own).all(axis=1) & (values < own).any(axis=1)).any() for own in values]
    )
    front = [trial for trial, beaten in zip(trials, worse, strict=True) if not beaten]
    return sorted(front, key=lambda trial: (signs[0] * trial.mean(metrics[0]), trial.number))


def pick(front: Sequence[Trial], metrics: Sequence[str]) -> Trial:
    """The best of a front: the first metric decides as far as it can tell trials apart.

    Metric by metric, in order: the trials stay that are not worse than the best by more than one
    standard error of the difference over the folds (both were scored on the same ones; Breiman et
    al. 1984, section 3.4.3, paired). The last metric picks the best of those. Folds are few, so a
    standard error is rough: the rule settles ties by the later metrics, it does not weigh metrics.
    """
    left = list(front)
    for metric in metrics[:-1]:
        sign = _sign(metric)
        best = min(left, key=lambda trial: (sign * trial.mean(metric), trial.number))
        left = [trial for trial in left if _within_one_error(trial, best, metric)]
    last = metrics[-1]
    return min(left, key=lambda trial: (_sign(last) * trial.mean(last), trial.number))


def pick_before(trials: Sequence[Trial], metrics: Sequence[str], n_folds: int) -> Trial | None:
    """The trial that the first `n_folds` walk-forward folds speak for; None where they tell nothing.

    For the member of the fold after them: had it taken the best trial over all folds, its out-of-sample score would be
    the best of several on the very rows it is reported for, and noise would look like skill. Trials that the sampler
    proposed after it had seen later folds are no candidates either, for the same reason.
    """
    seen = [
        replace(trial, fold_scores={name: trial.walk_scores[name][:n_folds] for name in metrics})
        for trial in trials
        if trial.blind and all(_scored(trial, name, n_folds) for name in metrics)
    ]
    return pick(pareto_front(seen, metrics), metrics) if n_folds and seen else None


def _scored(trial: Trial, metric: str, n_folds: int) -> bool:
    scores = trial.walk_scores.get(metric, ())[:n_folds]
    return len(scores) == n_folds and bool(np.isfinite(scores).all())


def rule_of(metrics: Sequence[str]) -> str:
    """The rule of `pick` in words."""
    if len(metrics) == 1:
        return f"best {metrics[0]}"
    ties = ", then ".join(f"within one standard error of the best {name}" for name in metrics[:-1])
    return f"of the Pareto front over {', '.join(metrics)}: {ties}, the best {metrics[-1]}"


def _within_one_error(trial: Trial, best: Trial, metric: str) -> bool:
    own, other = (np.asarray(each.fold_scores[metric]) for each in (trial, best))
    behind = _sign(metric) * (own - other)
    error = behind.std(ddof=1) / math.sqrt(len(behind)) if len(behind) > 1 else 0.0
    return bool(behind.mean() <= error)


def _sign(metric: str) -> int:
    return -1 if direction_of(metric) == "maximize" else 1


def read_trial(found: Any, number: int) -> Trial:
    """A finished trial of an Optuna study."""
    states = {"COMPLETE": "complete", "PRUNED": "pruned"}
    attributes = found.user_attrs
    scores, walked = (
        {name: tuple(map(float, values)) for name, values in attributes.get(key, {}).items()}
        for key in ("scores", "walk_scores")
    )
    state = states.get(found.state.name, "failed")
    first = () if state == "failed" else next(iter(scores.values()))
    return Trial(
        number=number,
        params=dict(attributes.get("params", found.params)),
        value=float(np.mean(first)) if first else math.nan,
        state=state,
        seconds=float(attributes.get("seconds", math.nan)),
        sharpe=float(attributes.get("sharpe", math.nan)),
        error=str(attributes.get("error", "")),
        fold_scores=scores,
        blind=bool(attributes.get("blind", False)),
        walk_scores=walked,
    )
