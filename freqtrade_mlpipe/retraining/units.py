"""Units of work: one model for all pairs, or one a pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from freqtrade_mlpipe.config import MLPipeConfig
from freqtrade_mlpipe.exceptions import ConfigError

_SIGNS = {"/": "_", ":": "-"}
_MAX_LENGTH = 100


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


def pair_model_name(model_name: str, pair: str) -> str:
    """Name of a pair's own model; no other model name and pair give the same.

    Raises
    ------
    ConfigError
        When it would be longer than a model's name may be.

    Examples
    --------
    >>> pair_model_name("trend", "BTC/USDT"), pair_model_name("trend", "BTC/USDT:USDT")
    ('trend--BTC_USDT', 'trend--BTC_USDT-USDT')
    """
    plain = "".join(_SIGNS.get(sign) or _plain(sign) for sign in pair)
    name = f"{model_name}--{plain}"
    if len(name) > _MAX_LENGTH:
        raise ConfigError(
            f"{name} is {len(name)} letters long, a model's name has at most {_MAX_LENGTH}: shorten mlpipe.model_name."
        )
    return name


def _plain(sign: str) -> str:
    """Letters and digits as they are; anything else as its code between dots, which no pair's letters are."""
    return sign if sign.isascii() and sign.isalnum() else f".{ord(sign):x}."
