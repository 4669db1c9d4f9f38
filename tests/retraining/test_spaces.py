"""What a search may change: every dimension lands in the configuration, and only what applies is drawn."""

from __future__ import annotations

from typing import Any

import optuna
import pytest

from freqtrade_mlpipe.config import FeatureConfig, LabelConfig, MLPipeConfig, ModelConfig
from freqtrade_mlpipe.exceptions import ConfigError
from freqtrade_mlpipe.models import MODELS
from freqtrade_mlpipe.retraining.spaces import (
    ROWS,
    SPACES,
    SearchSpace,
    by_space,
    configured,
    named_spaces,
    value_of,
)


def drawn(space: SearchSpace, n: int, seed: int = 1) -> list[dict[str, Any]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return [space.suggest(study.ask()) for _ in range(n)]


def config(**sections: Any) -> MLPipeConfig:
    return MLPipeConfig(**sections)


BARRIERS = config(labels=LabelConfig(kind="triple_barrier"))


@pytest.mark.parametrize("base", [config(), BARRIERS, config(labels=LabelConfig(kind="forward_return"),
                                  model=ModelConfig(optimization_metric="rmse"))])  # fmt: skip
def test_what_is_drawn_is_what_the_configuration_then_says(base):
    space = SearchSpace(base, SPACES)
    for params in drawn(space, 60):
        found = configured(base, params)
        assert {name: value_of(found, name) for name in params} == params
        MODELS[found.model.model_type].check_parameters(found.model.parameters)
        assert not found.model.optimize_hyperparams


def test_every_row_is_drawn_under_some_configuration():
    percent = config(labels=LabelConfig(kind="triple_barrier", barrier_unit="percent"))
    ensemble = config(model=ModelConfig(model_type="ensemble"))
    seen = set()
    for base in (config(), BARRIERS, percent, ensemble):
        for params in drawn(SearchSpace(base, SPACES), 60):
            seen |= set(params)
    assert seen == {row.name for row in ROWS}


@pytest.mark.parametrize("space", SPACES)
def test_a_space_changes_nothing_of_the_others(space):
    base = config()
    own = {"signal": "model"}.get(space, space)
    for params in drawn(SearchSpace(base, (space,)), 20):
        found = configured(base, params)
        for section in {"features", "labels", "model"} - {own}:
            without = {"optimize_hyperparams"} if section == "model" else set()
            assert getattr(found, section).model_dump(exclude=without) == getattr(
                base, section
            ).model_dump(exclude=without)
        assert set(by_space(params)) == {space}


def test_the_present_configuration_is_in_the_space_even_outside_the_usual_range():
    features = FeatureConfig(short_period=2, medium_period=3, long_period=400)
    base = config(features=features, labels=LabelConfig(horizon_candles=200))
    space = SearchSpace(base, SPACES)
    present = space.present()
    assert present["features.long_period"] == 400
    assert present["labels.horizon_candles"] == 200
    found = configured(base, present)
    assert (found.features, found.labels) == (base.features, base.labels)
    study = optuna.create_study()
    study.enqueue_trial(present)
    assert space.suggest(study.ask()) == present


def test_widest_features_need_the_longest_warm_up_of_all():
    from freqtrade_mlpipe.features import FeatureEngineer

    space = SearchSpace(config(), ("features",))
    widest = FeatureEngineer(space.widest()).startup_candles
    for params in drawn(space, 30):
        found = configured(space.base, params)
        assert FeatureEngineer(found.features).startup_candles <= widest


def test_fixed_parameters_are_not_searched_and_do_not_follow_to_another_estimator():
    base = config(model=ModelConfig(model_type="lightgbm", parameters={"num_leaves": 5}))
    kinds = set()
    for params in drawn(SearchSpace(base, ("model",)), 30):
        found = configured(base, params)
        kinds.add(found.model.model_type)
        assert "lightgbm.num_leaves" not in params
        assert found.model.parameters.get("num_leaves") == (
            5 if found.model.model_type == "lightgbm" else None
        )
    assert kinds == {"lightgbm", "xgboost", "random_forest"}


def test_choices_of_the_configuration_narrow_a_dimension():
    choices = {"labels.horizon_candles": (12, 24), "model.model_type": ("xgboost",)}
    base = config(retrain={"choices": choices})
    found = drawn(SearchSpace(base, SPACES), 30)
    assert {params["labels.horizon_candles"] for params in found} == {12, 24}
    assert {params["model.model_type"] for params in found} == {"xgboost"}
    assert SearchSpace(base, SPACES).present()["model.model_type"] == "xgboost"


def test_choices_of_an_unknown_dimension_name_the_nearest():
    base = config(retrain={"choices": {"labels.horizon": (12, 24)}})
    with pytest.raises(ConfigError, match=r"Did you mean 'labels\.horizon_candles'"):
        SearchSpace(base, SPACES)


@pytest.mark.parametrize("values", [(), (3, 3)])
def test_choices_must_be_different_values(values):
    with pytest.raises(ConfigError, match="one or more different values"):
        config(retrain={"choices": {"labels.horizon_candles": values}})


def test_all_and_nothing_are_every_space_and_an_unknown_one_is_refused():
    assert named_spaces(None) == named_spaces(["all"]) == SPACES
    assert named_spaces(["signal", "model"]) == ("model", "signal")
    with pytest.raises(ConfigError, match="Unknown space buy"):
        SearchSpace(config(), named_spaces(["buy"]))


def test_draws_that_do_not_go_together_are_refused_when_configured_not_while_drawn():
    base = config(retrain={"choices": {"features.short_period": (20,)}})
    (params,) = drawn(SearchSpace(base, ("features",)), 1)
    with pytest.raises(ConfigError, match="periods must ascend"):
        configured(base, params | {"features.medium_period": 15})
