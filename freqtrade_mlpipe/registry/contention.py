"""What a failed call to the MLflow store means: lost a race, not there, there already, out of reach, refused."""

from __future__ import annotations

import os
import re
import time
from typing import Any

from freqtrade_mlpipe.exceptions import RegistryError

ATTEMPTS = 10
_CREDENTIALS = re.compile(r"(?<=//)[^/\s]+(?=@)")
_DOWN = ("(psycopg2.OperationalError)", "(psycopg.OperationalError)")
"""PostgreSQL's word for no connection; lost races have names of their own."""
_CONTENTION = ("database is locked", "IntegrityError", "UNIQUE constraint", "giving up after")


class RegistryUnavailableError(RegistryError):
    """The registry cannot be reached; nothing is known about what it holds."""


class TransientError(Exception):
    """Lost a race for the database, or the answer got lost; asking again may help."""


class MissingError(Exception):
    """What was asked for does not exist."""


class AlreadyThereError(Exception):
    """What was to be created exists."""


def translate(error: Any) -> Exception:
    """Our error for one of MLflow's, without credentials."""
    code, text = str(error.error_code), _CREDENTIALS.sub("…", str(error))
    if code == "RESOURCE_DOES_NOT_EXIST" or (code == "INVALID_PARAMETER_VALUE" and "alias" in text):
        return MissingError(text)
    if code == "RESOURCE_ALREADY_EXISTS":
        return AlreadyThereError(text)
    if any(sign in text for sign in _DOWN):
        return RegistryUnavailableError(f"The registry's database does not answer: {text[:300]}")
    if code == "TEMPORARILY_UNAVAILABLE" or any(sign in text for sign in _CONTENTION):
        return TransientError(text)
    _, request, failure = text.partition("API request to")
    if request:  # no connection, or an answer that is not MLflow's
        return RegistryUnavailableError(
            f"The registry server does not answer: {request}{failure[:300]}"
        )
    return RegistryError(f"The registry refused: {text[:500]}")


def wait(attempt: int, error: Exception) -> None:
    """Wait before the next attempt; after the last, a `RegistryUnavailableError`."""
    if attempt == ATTEMPTS - 1:
        raise RegistryUnavailableError(
            f"The registry stayed busy for {ATTEMPTS} attempts: {str(error)[:300]}. Try again."
        ) from error
    # Processes that collided wait for different times.
    spread = 0.5 + (os.getpid() * 7919 % 101) / 100
    time.sleep(0.01 * 2**attempt * spread)
