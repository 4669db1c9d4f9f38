"""How much each searched parameter mattered."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from freqtrade_mlpipe.models import MODELS
from freqtrade_mlpipe.tuning.study import quiet_optuna

MIN_TRIALS = 10
"""With fewer finished trials the shares would be chance."""


def parameter_importance(
    model_type: str, trials: Sequence[Mapping[str, Any]], *, seed: int = 0
) -> dict[str, float]:
    """Share of the variation of the trials' scores that each searched parameter explains, largest first.

    By functional ANOVA of a random forest fitted to the finished trials (Hutter, Hoos & Leyton-Brown 2014,
    An Efficient Approach for Assessing Hyperparameter Importance), as Optuna computes it.

    Parameters
    ----------
    model_type
        Key of `freqtrade_mlpipe.models.MODELS`.
    trials
        As `TrainingReport.trials`.

    Returns
    -------
    dict
        Sums to 1. Empty below `MIN_TRIALS` finished trials, or where all scores are equal.
    """
    done = [
        trial
        for trial in trials
        if trial.get("state") == "complete" and math.isfinite(trial.get("value", math.nan))
    ]
    if len(done) < MIN_TRIALS or len({trial["value"] for trial in done}) < 2:
        return {}
    space = MODELS[model_type].space
    searched = [
        name
        for name in space
        if len({trial["params"][name] for trial in done if name in trial["params"]}) > 1
        and all(name in trial["params"] for trial in done)
    ]
    if not searched:
        return {}
    import optuna
    from optuna.distributions import FloatDistribution, IntDistribution

    def distribution(name: str) -> Any:
        drawn = space[name]
        values = [trial["params"][name] for trial in done]
        low, high = min(drawn.low, *values), max(drawn.high, *values)  # a default may lie outside
        if drawn.integer:
            return IntDistribution(int(low), int(high), log=drawn.log)
        return FloatDistribution(low, high, log=drawn.log)

    distributions = {name: distribution(name) for name in searched}
    with quiet_optuna():
        study = optuna.create_study(storage=optuna.storages.InMemoryStorage())
    for trial in done:
        study.add_trial(
            optuna.trial.create_trial(
                params={name: trial["params"][name] for name in searched},
                distributions=distributions,
                value=trial["value"],
            )
        )
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {str(name): float(share) for name, share in found.items()}
