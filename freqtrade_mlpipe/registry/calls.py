"""Calls to an MLflow store that survive contention: retried, and with our errors."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from freqtrade_mlpipe.exceptions import RegistryError, StoreUnavailableError
from freqtrade_mlpipe.mlflow_store import DATABASE_NAME, open_store
from freqtrade_mlpipe.registry.contention import (
    ATTEMPTS,
    MissingError,
    RegistryUnavailableError,
    TransientError,
    translate,
    wait,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

T = TypeVar("T")

_SQLITE_HEADER = b"SQLite format 3\0"


class StoreCalls:
    """An open MLflow store; parameters as `Connection`."""

    def __init__(self, tracking_uri: str | None, directory: Path) -> None:
        self.directory = directory
        self._embedded = tracking_uri is None
        self.client = _open(tracking_uri, directory)

    def _call(self, call: Callable[[], T], **answer_if: T) -> T:
        """The call's answer; `missing=value` is the answer when what was asked for is not there."""
        for attempt in range(ATTEMPTS):
            try:
                return self._once(call)
            except TransientError as error:
                wait(attempt, error)
            except MissingError as error:
                if "missing" in answer_if:
                    return answer_if["missing"]
                raise RegistryError(f"The registry does not know it: {error}.") from error
        raise AssertionError("wait raises on the last attempt")

    @staticmethod
    def _once(call: Callable[[], T]) -> T:
        from mlflow.exceptions import MlflowException
        from requests import RequestException

        try:
            return call()
        except MlflowException as error:
            raise translate(error) from error
        except RequestException as error:  # an OSError, too
            raise RegistryUnavailableError(
                f"The registry server does not answer: {error}"
            ) from error
        except OSError as error:
            raise RegistryError(
                f"The registry's files cannot be used: {error}. Check that the folder is there and "
                "writable, and that the disk is not full."
            ) from error


def _open(tracking_uri: str | None, directory: Path) -> MlflowClient:
    # What it logs as an error is retried or raised here.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    database = directory / DATABASE_NAME
    if tracking_uri is None and database.exists():
        with database.open("rb") as file:
            header = file.read(len(_SQLITE_HEADER))
        if header != _SQLITE_HEADER:  # MLflow would try for an hour
            raise RegistryUnavailableError(
                f"{database} is not a SQLite database (any more). Restore it from a backup, or move "
                "it away to begin with an empty registry."
            )
    try:
        return open_store(tracking_uri, directory)
    except StoreUnavailableError as error:
        raise RegistryUnavailableError(str(error)) from error
    except (OSError, sqlite3.Error) as error:
        raise RegistryUnavailableError(
            f"The registry in {directory} cannot be opened: {error}. Check that the folder is there "
            "and writable."
        ) from error
