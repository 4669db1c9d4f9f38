from __future__ import annotations

import re

import pytest

from freqtrade_mlpipe.config import FeatureConfig
from freqtrade_mlpipe.exceptions import ConfigError
from freqtrade_mlpipe.features import CATALOGUE, FeatureEngineer
from freqtrade_mlpipe.features.indicator import GROUPS
from tests.features.market import random_walk


def names(**options) -> list[str]:
    return FeatureEngineer(FeatureConfig(**options)).get_feature_names()


def test_catalogue_has_at_least_90_rows_and_every_group() -> None:
    assert len(CATALOGUE) >= 90
    assert len({row.name for row in CATALOGUE}) == len(CATALOGUE)
    assert {row.group for row in CATALOGUE} == set(GROUPS)


@pytest.mark.parametrize("row", CATALOGUE, ids=lambda row: row.name)
def test_row_says_what_it_measures_and_where_it_is_from(row) -> None:
    assert row.measures.endswith(".")
    assert row.source
    assert row.inputs
    assert row.columns(FeatureConfig())


def test_names_are_unique_and_safe_for_every_booster() -> None:
    found = names()
    assert len(set(found)) == len(found)
    assert all(re.fullmatch(r"[A-Za-z0-9_]+", name) for name in found)


@pytest.mark.parametrize(
    ("short", "medium", "long"), [(2, 3, 4), (3, 24, 100), (12, 26, 52), (14, 20, 25)]
)
def test_names_stay_unique_with_other_periods(short: int, medium: int, long: int) -> None:
    found = names(short_period=short, medium_period=medium, long_period=long)
    assert len(set(found)) == len(found)
    assert f"rsi_{medium}" in found


@pytest.mark.parametrize("group", GROUPS)
def test_group_switch_removes_exactly_its_rows(group: str) -> None:
    engineer = FeatureEngineer(FeatureConfig(**{f"include_{group}_features": False}))
    kept = {column.indicator.group for column in engineer.columns}
    assert kept == set(GROUPS) - {group}


def test_include_selects_by_row_and_by_column_name_whatever_the_groups() -> None:
    found = names(include=("rsi_14", "adx", "hour_sin"), include_momentum_features=False)
    assert found == ["rsi_14", "adx_14", "hour_sin"]


def test_exclude_removes_rows_and_columns() -> None:
    found = names(exclude=("rsi", "ema_distance_50"))
    assert not [name for name in found if name.startswith("rsi_") and name != "rsi_change_14"]
    assert "ema_distance_50" not in found
    assert "ema_distance_7" in found


@pytest.mark.parametrize("option", ["include", "exclude"])
def test_unknown_name_is_refused_naming_the_nearest(option: str) -> None:
    with pytest.raises(
        ConfigError, match=f"FeatureConfig.{option}.*'rsi_15'.*Did you mean 'rsi_1?[0-9]'"
    ):
        names(**{option: ("rsi_15",)})


def test_selecting_nothing_is_refused() -> None:
    nothing = FeatureEngineer(FeatureConfig(include=("rsi",), exclude=("rsi_7", "rsi_14")))
    with pytest.raises(ConfigError, match="no feature is left"):
        nothing.transform(random_walk(20))


def test_startup_stays_below_600_candles_by_default() -> None:
    engineer = FeatureEngineer()
    assert engineer.startup_candles == max(column.warmup for column in engineer.columns)
    assert engineer.startup_candles < 600
