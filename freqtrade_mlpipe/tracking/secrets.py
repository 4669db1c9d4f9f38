"""What must not be written down: credentials by the name of their setting, in addresses, and by their value."""

from __future__ import annotations

import os
import re
from functools import cache, lru_cache
from typing import Any

REDACTED = "[redacted]"

_SECRET_NAME = re.compile(
    r"(secret|passw|passphrase|token|credential|api_?key|private_?key|wallet_?address|webhook_?url"
    r"|account_?id|chat_?id|(^|[._])(key|uid)$)",
    re.IGNORECASE,
)
_IN_ADDRESS = re.compile(r"(?<=://)(?:([^/@:\s\"']+):)?[^/@\s\"']+(?=@)")
_IN_TEXT = re.compile(
    r"""(?ix) \b( bearer \s+ | basic \s+ (?=[\w+/=]{8})
    | [\w-]{0,40}(?: password | passwd | secret | token | api_?key | private_?key )["']? \s* [=:] \s* ["']? )
    (?!\[redacted\]) [^\s&"',;)}\]]+"""
)
_HINT = re.compile(r"(?i)bearer|basic|passw|secret|token|api_?key|private_?key")
"""A quick look for the words that `_IN_TEXT` is about: most texts are tables of numbers."""

_SHORTEST_VALUE = 8
_SHORTEST_PHRASE = len("token=x")


@lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    """Whether a setting of this name holds a credential.

    Examples
    --------
    >>> [is_secret_name(n) for n in ("secret", "FREQTRADE__EXCHANGE__KEY", "jwt_secret_key", "name")]
    [True, True, True, False]
    """
    return _SECRET_NAME.search(name.replace("__", ".")) is not None


def hidden(name: str, value: Any) -> Any:
    """`value`, or `REDACTED` where the setting `name` holds a credential; empty ones and flags stay.

    Examples
    --------
    >>> hidden("chat_id", 1234), hidden("secret", ""), hidden("name", "binance")
    ('[redacted]', '', 'binance')
    """
    if isinstance(value, bool | float) or not value:
        return value
    return REDACTED if is_secret_name(name) else value


def redact(text: str) -> str:
    """`text` without passwords in addresses, `password=…` phrases, and values of secret environment variables.

    Examples
    --------
    >>> redact("postgresql://u:p@host/x, https://token@host/, Authorization: Bearer abc.def")
    'postgresql://u:[redacted]@host/x, https://[redacted]@host/, Authorization: Bearer [redacted]'
    >>> redact("connect host=h password=p4ss dbname=d?token=t")
    'connect host=h password=[redacted] dbname=d?token=[redacted]'
    """
    if len(text) < _SHORTEST_PHRASE:
        return text
    if "@" in text:
        text = _IN_ADDRESS.sub(
            lambda m: f"{m[1]}:{REDACTED}" if m[1] is not None else REDACTED, text
        )
    if _HINT.search(text):
        text = _IN_TEXT.sub(lambda m: f"{m[1]}{REDACTED}", text)
    for value in _secret_values():
        text = text.replace(value, REDACTED)
    return text


def read_environment() -> None:
    """Look again which secrets the environment holds; looking at each text would cost more than all the rest."""
    _secret_values.cache_clear()


@cache
def _secret_values() -> tuple[str, ...]:
    found = {value for name, value in os.environ.items() if is_secret_name(name)}
    return tuple(sorted((v for v in found if len(v) >= _SHORTEST_VALUE), key=len, reverse=True))
