"""Several metrics at once: the front, and the rule that picks from it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from freqtrade_mlpipe.config import ModelConfig
from freqtrade_mlpipe.exceptions import ConfigError
from freqtrade_mlpipe.tuning import Trial, tune
from freqtrade_mlpipe.tuning.trials import pareto_front, pick, pick_before
from tests.test_tuning import folds_of, make_data, recipe

METRICS = ("log_loss", "sharpe")


def trial(number, losses, sharpes=(0.0,)):
    scores = {"log_loss": tuple(losses), "sharpe": tuple(sharpes)}
    return Trial(number, {}, float(np.mean(losses)), "complete", 0.0, fold_scores=scores)


def beats(a, b):
    mine, other = ((t.mean("log_loss"), -t.mean("sharpe")) for t in (a, b))
    return all(x <= y for x, y in zip(mine, other, strict=True)) and mine != other


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12))
def test_the_front_holds_exactly_the_trials_that_none_beats(values):
    trials = [trial(k, [loss], [sharpe]) for k, (loss, sharpe) in enumerate(values)]
    front = pareto_front(trials, METRICS)
    assert {t.number for t in front} == {
        t.number for t in trials if not any(beats(other, t) for other in trials)
    }
    losses = [t.mean("log_loss") for t in front]
    assert losses == sorted(losses)
    assert pick(front, METRICS) in front


def test_with_one_metric_the_best_is_picked_and_of_equals_the_first():
    trials = [trial(0, [0.7]), trial(1, [0.6]), trial(2, [0.6])]
    assert pick(pareto_front(trials, METRICS[:1]), METRICS[:1]).number == 1
    risky = [trial(k, [0.6], [k % 3]) for k in range(4)]
    assert pick(pareto_front(risky, METRICS[1:]), METRICS[1:]).number == 2


def test_the_second_metric_decides_among_trials_that_the_first_cannot_tell_apart():
    best = trial(0, [0.60, 0.70, 0.65], [0.1] * 3)
    same = trial(1, [0.63, 0.69, 0.66], [0.5] * 3)  # behind by 0.03, -0.01, 0.01
    assert pick([best, same], METRICS) is same


def test_the_first_metric_decides_where_every_fold_agrees():
    best = trial(0, [0.60, 0.70, 0.65], [0.1] * 3)
    worse = trial(1, [0.61, 0.71, 0.66], [9.0] * 3)  # differs by little, but in every fold
    assert pick([best, worse], METRICS) is best


def walked(number, losses, blind=True):
    return Trial(
        number, {}, 0.0, "pruned", 0.0, blind=blind, walk_scores={"log_loss": tuple(losses)}
    )


def test_a_member_takes_the_trial_that_the_folds_before_its_own_speak_for():
    trials = [
        walked(0, [0.69, 0.69, 0.69]),
        walked(1, [0.68, 0.72, 0.69]),
        walked(2, [0.70, 0.60]),  # ended early
        walked(3, [0.71, 0.71, 0.10]),
        walked(4, [0.50, 0.50, 0.50], blind=False),  # proposed when scores of all folds were known
        walked(5, [0.60, float("nan"), 0.60]),  # not defined in the second fold
        walked(6, []),
    ]
    picked = [pick_before(trials, METRICS[:1], n) for n in range(4)]
    assert [trial and trial.number for trial in picked] == [None, 5, 2, 3]
    assert pick_before([trials[6]], METRICS[:1], 1) is None


def test_a_search_over_two_metrics_reports_front_and_rule():
    data = make_data()
    settings = recipe(n_trials=8, optimization_metrics=METRICS)
    found = tune(data, folds_of(data), settings)
    assert {t.state for t in found.trials} == {"complete"}
    by_number = {t.number: t for t in found.trials}
    front = pareto_front(found.trials, METRICS)
    assert found.front == tuple(t.number for t in front)
    picked = pick(front, METRICS)
    assert found.best_params == picked.params
    assert found.best_value == picked.value == picked.mean("log_loss")
    assert all(len(t.fold_scores[name]) == 3 for t in by_number.values() for name in METRICS)
    assert "within one standard error of the best log_loss, the best sharpe" in found.rule


def test_the_first_metric_alone_gives_the_values_of_a_search_over_it():
    data = make_data()
    alone = tune(data, folds_of(data), recipe(n_trials=1))
    both = tune(data, folds_of(data), recipe(n_trials=1, optimization_metrics=METRICS))
    assert both.trials[0].value == alone.trials[0].value
    assert both.trials[0].sharpe == alone.trials[0].sharpe


def test_metrics_are_named_once_and_known():
    assert ModelConfig(optimization_metrics=METRICS[::-1]).direction == "maximize"
    with pytest.raises(ConfigError, match="names one twice"):
        ModelConfig(optimization_metrics=["f1", "f1"])
    with pytest.raises(ConfigError, match="roc_auc"):
        ModelConfig(optimization_metrics=["auc"])
