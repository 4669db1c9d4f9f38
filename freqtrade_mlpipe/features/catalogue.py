"""The catalogue of indicators: one row each, in the order of the groups.

Every row is causal (a value at t uses candles up to t) and scale-free (multiplying all prices or
all volumes by a constant changes nothing), and gives a finite value on any valid candles once its
warm-up is over.
"""

from __future__ import annotations

import difflib
from collections.abc import Container

from freqtrade_mlpipe.config import FeatureConfig
from freqtrade_mlpipe.exceptions import ConfigError
from freqtrade_mlpipe.features import (
    _momentum,
    _price,
    _statistics,
    _time,
    _trend,
    _volatility,
    _volume,
)
from freqtrade_mlpipe.features.indicator import GROUPS, FeatureColumn, Group, Indicator

CATALOGUE: tuple[Indicator, ...] = (
    *_price.ROWS,
    *_volume.ROWS,
    *_momentum.ROWS,
    *_volatility.ROWS,
    *_trend.ROWS,
    *_statistics.ROWS,
    *_time.ROWS,
)


def select_columns(config: FeatureConfig) -> tuple[FeatureColumn, ...]:
    """The feature columns that a configuration asks for, in catalogue order.

    `include` and `exclude` take column names (`rsi_14`) or row names (`rsi`: all its columns). A
    non-empty `include` selects exactly what it names, whatever the group switches say; `exclude` is
    taken away last, except what `include` names.

    Raises
    ------
    ConfigError
        For a name that is neither (with the nearest that is).
    """
    if config.include:
        selected = named_columns(config, "include")
    else:
        groups = _enabled_groups(config)
        selected = tuple(
            column for column in _available(config) if column.indicator.group in groups
        )
    excluded = named_columns(config, "exclude", besides=config.include)
    return tuple(column for column in selected if column not in excluded)


def named_columns(
    config: FeatureConfig, option: str, *, besides: Container[str] = ()
) -> tuple[FeatureColumn, ...]:
    """The feature columns that a list of names in the configuration stands for, in catalogue order.

    Parameters
    ----------
    option : str
        Name of the setting: include, exclude, informative_features or rank_features.
    besides : container of str
        Names to pass over.

    Raises
    ------
    ConfigError
        For an unknown name (with the nearest known one).
    """
    available = _available(config)
    known = {column.name for column in available} | {row.name for row in CATALOGUE}
    names = set(getattr(config, option))
    for name in sorted(names - known):
        raise ConfigError(_unknown_name(option, name, known))
    wanted = {name for name in names if name not in besides}
    return tuple(column for column in available if {column.name, column.indicator.name} & wanted)


def _available(config: FeatureConfig) -> list[FeatureColumn]:
    return [column for row in CATALOGUE for column in row.columns(config)]


def _enabled_groups(config: FeatureConfig) -> frozenset[Group]:
    return frozenset(group for group in GROUPS if getattr(config, f"include_{group}_features"))


def _unknown_name(option: str, name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    hint = f"Did you mean '{near[0]}'?" if near else "CATALOGUE lists the rows."
    return f"FeatureConfig.{option}: unknown feature '{name}'. {hint}"
