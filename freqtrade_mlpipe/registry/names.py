"""Names of registered models: one for all pairs, or one a pair."""

from __future__ import annotations

from freqtrade_mlpipe.config import MLPipeConfig
from freqtrade_mlpipe.exceptions import ConfigError

_SIGNS = {"/": "_", ":": "-"}
_MAX_LENGTH = 100


def model_name_for(config: MLPipeConfig, pair: str) -> str:
    """Name of the model that speaks for a pair.

    Raises
    ------
    ConfigError
        When it would be longer than a model's name may be.
    """
    if config.scope == "pooled":
        return config.model_name
    return pair_model_name(config.model_name, pair)


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
