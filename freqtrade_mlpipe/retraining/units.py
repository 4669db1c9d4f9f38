"""Units of work: one model for all pairs, or one a pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from freqtrade_mlpipe.config import MLPipeConfig
from freqtrade_mlpipe.exceptions import ConfigError
from freqtrade_mlpipe.registry.names import pair_model_name


@dataclass(frozen=True)
class Unit:
    """A model and the pairs that it is trained on and speaks for."""

    model_name: str
    pairs: tuple[str, ...]


def units_of(config: MLPipeConfig, pairs: Sequence[str]) -> list[Unit]:
    """What the scope of the configuration makes of the pairs.

    Raises
    ------
    ConfigError
        Features that rank pairs among each other cannot be those of one pair.
    """
    if config.scope == "pooled":
        return [Unit(config.model_name, tuple(pairs))]
    if config.features.rank_features:
        raise ConfigError(
            'features.rank_features ranks pairs among each other, and scope is "per_pair": leave one of them out.'
        )
    return [Unit(pair_model_name(config.model_name, pair), (pair,)) for pair in pairs]
