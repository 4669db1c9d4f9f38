"""The catalogue of indicators: one row each, in the order of the groups.

Every row is causal (a value at t uses candles up to t) and scale-free (multiplying all prices or
all volumes by a constant changes nothing), and gives a finite value on any valid candles once its
warm-up is over.
"""

from __future__ import annotations

import difflib

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
        For a name that is neither (with the nearest that is), or if nothing is left.
    """
    available = [column for row in CATALOGUE for column in row.columns(config)]
    known = {column.name for column in available} | {row.name for row in CATALOGUE}
    for option, names in (("include", config.include), ("exclude", config.exclude)):
        for name in names:
            if name not in known:
                raise ConfigError(_unknown_name(option, name, known))
    wanted = set(config.include)
    dropped = set(config.exclude) - wanted
    groups = _enabled_groups(config)
    selected = tuple(
        column
        for column in available
        if (
            {column.name, column.indicator.name} & wanted
            if wanted
            else column.indicator.group in groups
        )
        and not {column.name, column.indicator.name} & dropped
    )
    if not selected:
        raise ConfigError(
            "FeatureConfig: no feature is left. Switch on a group (include_price_features …), "
            "or exclude less."
        )
    return selected


def _enabled_groups(config: FeatureConfig) -> frozenset[Group]:
    return frozenset(group for group in GROUPS if getattr(config, f"include_{group}_features"))


def _unknown_name(option: str, name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    hint = f"Did you mean '{near[0]}'?" if near else "CATALOGUE lists the rows."
    return f"FeatureConfig.{option}: unknown feature '{name}'. {hint}"
