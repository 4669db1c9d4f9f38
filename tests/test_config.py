"""The `mlpipe` block: typos are named, values checked, paths resolved, environment variables reach it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from freqtrade_mlpipe.config import (
    FREQAI_ONLY_KEYS,
    ExpansionConfig,
    FeatureConfig,
    GateConfig,
    LabelConfig,
    MLPipeConfig,
    ModelConfig,
    RegistryConfig,
    RetrainConfig,
    Section,
    ServingConfig,
    TrackingConfig,
)
from freqtrade_mlpipe.exceptions import ConfigError

SECTIONS = {
    name: type(field.default)
    for name, field in MLPipeConfig.model_fields.items()
    if isinstance(field.default, Section)
}
EVERY_KEY = [(section, key) for section, kind in SECTIONS.items() for key in kind.model_fields]


def test_sections_are_those_of_the_design():
    assert set(SECTIONS.values()) == {
        FeatureConfig,
        LabelConfig,
        ModelConfig,
        GateConfig,
        RegistryConfig,
        TrackingConfig,
        ServingConfig,
        RetrainConfig,
    }


@pytest.mark.parametrize("section, key", EVERY_KEY, ids=lambda value: value)
def test_misspelt_key_of_any_section_is_refused_and_the_nearest_named(section, key):
    typo = f"{key}z"
    with pytest.raises(ConfigError) as caught:
        MLPipeConfig.from_freqtrade({"mlpipe": {section: {typo: 1}}})
    assert f"unknown key '{typo}'" in str(caught.value)
    assert f"Did you mean '{key}'?" in str(caught.value)


@pytest.mark.parametrize("key", MLPipeConfig.model_fields)
def test_misspelt_section_is_refused_and_the_nearest_named(key):
    with pytest.raises(ConfigError, match=f"Did you mean '{key}'"):
        MLPipeConfig.from_freqtrade({"mlpipe": {f"{key}z": {}}})


def test_key_like_no_other_lists_the_valid_ones():
    with pytest.raises(ConfigError) as caught:
        LabelConfig(xyzzy=1)
    assert all(key in str(caught.value) for key in LabelConfig.model_fields)


@pytest.mark.parametrize(
    "section, key, value",
    [
        ("model", "n_trials", 0),
        ("model", "n_trials", "many"),
        ("model", "n_trials", 2.5),
        ("model", "cv_folds", 1),
        ("model", "model_type", "neural_network"),
        ("model", "optimization_metric", "F1"),
        ("model", "random_state", -1),
        ("model", "timeout_seconds", 0),
        ("model", "parameters", {"learning_rate": [1]}),
        ("labels", "horizon_candles", 0),
        ("labels", "fee", -0.001),
        ("labels", "fee", 0.1),
        ("labels", "fee", float("nan")),
        ("labels", "min_return", float("inf")),
        ("labels", "kind", "regression"),
        ("features", "correlation_threshold", 0),
        ("features", "correlation_threshold", 1.01),
        ("features", "scale_features", "perhaps"),
        ("features", "short_period", 1),
        ("gates", "final_window_fraction", 0),
        ("gates", "final_window_fraction", 0.6),
        ("gates", "max_drawdown", 1.5),
        ("gates", "min_backtest_trades", 0),
        ("gates", "min_backtest_sharpe", float("nan")),
        ("gates", "min_metrics", {"f1": "high"}),
        ("gates", "min_metrics", {"f1": float("nan")}),
        ("tracking", "backend", "tensorboard"),
        ("serving", "on_missing", "ignore"),
        ("registry", "directory", None),
    ],
)
def test_wrong_value_is_refused_with_the_key_and_what_was_found(section, key, value):
    with pytest.raises(ConfigError) as caught:
        MLPipeConfig.from_freqtrade({"mlpipe": {section: {key: value}}})
    message = str(caught.value)
    assert key in message
    shown = next(iter(value.values())) if isinstance(value, dict) else value
    assert repr(shown) in message


def test_every_wrong_value_of_a_section_is_reported_at_once():
    with pytest.raises(ConfigError) as caught:
        ModelConfig(n_trials=0, cv_folds=1)
    assert "n_trials" in str(caught.value)
    assert "cv_folds" in str(caught.value)


@pytest.mark.parametrize("value", [None, [], "x", 3])
def test_section_that_is_no_object_is_refused(value):
    with pytest.raises(ConfigError, match="model"):
        MLPipeConfig.from_freqtrade({"mlpipe": {"model": value}})


@pytest.mark.parametrize("value", [[], "x", None])
def test_block_that_is_no_object_is_refused(value):
    with pytest.raises(ConfigError, match="JSON object"):
        MLPipeConfig.from_freqtrade({"mlpipe": value})


@pytest.mark.parametrize("periods", [(14, 14, 50), (7, 60, 50), (50, 14, 7)])
def test_periods_must_ascend(periods):
    short, medium, long = periods
    with pytest.raises(ConfigError, match="ascend"):
        FeatureConfig(short_period=short, medium_period=medium, long_period=long)


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a" * 101, "with space"])
def test_model_name_that_is_no_plain_name_is_refused(name):
    with pytest.raises(ConfigError, match="model_name"):
        MLPipeConfig(model_name=name)


def test_missing_block_means_defaults(tmp_path):
    found = MLPipeConfig.from_freqtrade({"user_data_dir": tmp_path})
    assert found.model_dump(exclude={"registry"}) == MLPipeConfig().model_dump(exclude={"registry"})


def test_sections_cannot_be_changed():
    config = MLPipeConfig()
    with pytest.raises(Exception, match="frozen"):
        config.model.n_trials = 3


def test_dumped_block_reads_back_the_same():
    config = MLPipeConfig(model={"parameters": {"a": 1, "b": 0.5, "c": "x", "d": True}})
    again = MLPipeConfig(**json.loads(json.dumps(config.model_dump(mode="json"))))
    assert again == config
    assert [type(value) for value in again.model.parameters.values()] == [int, float, str, bool]


def test_relative_registry_directory_is_below_the_user_directory(tmp_path):
    block = {"registry": {"directory": "models/here"}}
    found = MLPipeConfig.from_freqtrade({"user_data_dir": tmp_path, "mlpipe": block})
    assert found.registry.directory == tmp_path / "models" / "here"


def test_absolute_registry_directory_stays(tmp_path):
    block = {"registry": {"directory": str(tmp_path / "elsewhere")}}
    found = MLPipeConfig.from_freqtrade({"user_data_dir": tmp_path / "ud", "mlpipe": block})
    assert found.registry.directory == tmp_path / "elsewhere"


def test_registry_directory_does_not_follow_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = MLPipeConfig.from_freqtrade({"user_data_dir": "user_data"})
    monkeypatch.chdir("/")
    assert found.registry.directory == tmp_path / "user_data" / "mlpipe"


@pytest.mark.parametrize("metric, direction", [("log_loss", "minimize"), ("brier", "minimize"),
                                               ("f1", "maximize"), ("sharpe", "maximize")])  # fmt: skip
def test_metric_knows_its_direction(metric, direction):
    assert ModelConfig(optimization_metric=metric).direction == direction


@pytest.fixture
def freqtrade_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """freqtrade's own Configuration over a small file and the variables given."""
    from freqtrade.configuration import Configuration
    from freqtrade.enums import RunMode

    path = tmp_path / "config.json"

    def read(variables: dict[str, str], block: dict[str, Any] | None = None) -> MLPipeConfig:
        exchange = {"name": "binance", "pair_whitelist": ["BTC/USDT"]}
        path.write_text(json.dumps({"exchange": exchange, "mlpipe": block or {}}))
        for name, value in variables.items():
            monkeypatch.setenv(f"FREQTRADE__MLPIPE__{name}", value)
        arguments = {"config": [str(path)], "user_data_dir": str(tmp_path)}
        config = Configuration(arguments, RunMode.UTIL_NO_EXCHANGE).get_config()
        return MLPipeConfig.from_freqtrade(config)

    return read


@pytest.mark.usefixtures("restore_logging")
class TestEnvironmentVariables:
    def test_every_type_reaches_its_key(self, freqtrade_reads, tmp_path):
        found = freqtrade_reads(
            {
                "MODEL_NAME": "from_env",
                "MODEL__N_TRIALS": "7",
                "MODEL__TIMEOUT_SECONDS": "2.5",
                "MODEL__OPTIMIZE_HYPERPARAMS": "false",
                "FEATURES__SCALING_METHOD": "minmax",
                "FEATURES__INCLUDE": '["rsi"]',
                "GATES__MIN_METRICS__F1": "0.25",
                "REGISTRY__DIRECTORY": "here",
                "MODEL__PARAMETERS__NUM_LEAVES": "5",
            }
        )
        assert found.model_name == "from_env"
        assert found.model.n_trials == 7
        assert found.model.timeout_seconds == 2.5
        assert found.model.optimize_hyperparams is False
        assert found.features.scaling_method == "minmax"
        assert found.features.include == ("rsi",)
        assert found.gates.min_metrics == {"f1": 0.25}
        assert found.registry.directory == tmp_path / "here"
        assert found.model.parameters == {"num_leaves": 5}

    def test_text_that_looks_like_a_number_stays_text(self, freqtrade_reads):
        found = freqtrade_reads({"SERVING__VERSION": "3", "MODEL_NAME": "2024"})
        assert found.serving.version == "3"
        assert found.model_name == "2024"

    def test_variable_overrides_its_key_and_leaves_the_others(self, freqtrade_reads):
        block = {"model": {"n_trials": 3, "cv_folds": 4}}
        found = freqtrade_reads({"MODEL__N_TRIALS": "9"}, block)
        assert (found.model.n_trials, found.model.cv_folds) == (9, 4)

    def test_misspelt_variable_is_refused_and_the_nearest_key_named(self, freqtrade_reads):
        with pytest.raises(ConfigError, match="Did you mean 'n_trials'"):
            freqtrade_reads({"MODEL__N_TRIAL": "9"})

    def test_wrong_value_is_refused(self, freqtrade_reads):
        with pytest.raises(ConfigError, match="n_trials"):
            freqtrade_reads({"MODEL__N_TRIALS": "many"})


FEATURE_PARAMETERS = {
    "include_timeframes": ["5m", "15m", "4h"],
    "include_corr_pairlist": ["BTC/USDT:USDT", "ETH/USDT:USDT"],
    "label_period_candles": 20,
    "include_shifted_candles": 2,
    "DI_threshold": 0.9,
    "weight_factor": 0.9,
    "principal_component_analysis": False,
    "use_SVM_to_remove_outliers": True,
    "indicator_periods_candles": [10, 20],
    "plot_feature_importances": 0,
}
"""As in freqtrade's config_examples/config_freqai.example.json."""


def expansion_of(**changes: Any) -> ExpansionConfig | None:
    block = {**FEATURE_PARAMETERS, **changes}
    kept = {key: value for key, value in block.items() if value is not ...}
    return ExpansionConfig.from_freqtrade({"freqai": {"feature_parameters": kept}})


def test_freqai_block_of_freqtrades_example_is_read():
    assert expansion_of() == ExpansionConfig(
        include_timeframes=("5m", "15m", "4h"),
        include_corr_pairlist=("BTC/USDT:USDT", "ETH/USDT:USDT"),
        include_shifted_candles=2,
        indicator_periods_candles=(10, 20),
    )


@pytest.mark.parametrize("config", [{}, {"freqai": {}}, {"freqai": {"enabled": True}}])
def test_configuration_without_freqai_features_has_no_expansion(config):
    assert ExpansionConfig.from_freqtrade(config) is None


def test_every_feature_parameter_that_freqtrade_knows_is_known():
    from freqtrade.config_schema.config_schema import CONF_SCHEMA

    freqai = CONF_SCHEMA["definitions"]["freqai"]["properties"]["feature_parameters"]
    assert set(freqai["properties"]) <= FREQAI_ONLY_KEYS.union(ExpansionConfig.model_fields)
    assert not FREQAI_ONLY_KEYS.intersection(ExpansionConfig.model_fields)


@pytest.mark.parametrize("key", sorted(FREQAI_ONLY_KEYS.union(ExpansionConfig.model_fields)))
def test_misspelt_feature_parameter_is_refused_and_the_nearest_named(key):
    typo = key[:-2] + key[-1]
    with pytest.raises(ConfigError) as caught:
        expansion_of(**{typo: 1})
    assert f"unknown key '{typo}'" in str(caught.value)
    assert f"Did you mean '{key}'?" in str(caught.value)


def test_parameter_of_the_strategys_own_is_none_of_ours():
    assert expansion_of(my_lookback={"fast": 3}) == expansion_of()


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"include_timeframes": ...}, "include_timeframes"),
        ({"indicator_periods_candles": ...}, "indicator_periods_candles"),
        ({"include_timeframes": "5m"}, "include_timeframes"),
        ({"include_timeframes": ["5m", "1h", "5m"]}, "include_timeframes repeats"),
        ({"include_corr_pairlist": ["BTC/USDT", "BTC/USDT"]}, "include_corr_pairlist repeats"),
        ({"indicator_periods_candles": [10, 10]}, "indicator_periods_candles repeats"),
        ({"indicator_periods_candles": [10, 0]}, "at least 1"),
        ({"indicator_periods_candles": [10.5]}, "indicator_periods_candles"),
        ({"include_shifted_candles": -1}, "include_shifted_candles"),
    ],
)
def test_wrong_feature_parameter_is_named(changes, told):
    with pytest.raises(ConfigError, match=told):
        expansion_of(**changes)


def test_feature_parameters_that_are_no_object_are_refused():
    with pytest.raises(ConfigError, match="must be a JSON object, found list"):
        ExpansionConfig.from_freqtrade({"freqai": {"feature_parameters": ["5m"]}})
