"""Looking versions up, and the files that belong to them."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from freqtrade_mlpipe.exceptions import RegistryError
from freqtrade_mlpipe.registry.cache import BundleCache
from freqtrade_mlpipe.registry.connection import Connection
from freqtrade_mlpipe.registry.files import scratch_folder
from freqtrade_mlpipe.registry.ledger import SUFFIX, Ledger, LedgerState
from freqtrade_mlpipe.registry.record import Record, RecordKind, read_record, write_record
from freqtrade_mlpipe.registry.stored import stored_copy
from freqtrade_mlpipe.registry.versions import (
    ARTIFACT_FOLDERS,
    ModelVersion,
    is_ours,
    read_version,
    records_path,
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_NUMBER = re.compile(r"0*([1-9][0-9]{0,8})")
MODEL_KIND = "model"
_USE_TAG = "mlpipe.judged."


class Catalogue:
    """The versions in one store.

    Parameters
    ----------
    connection
        The store.
    cache
        Where fetched bundles are kept.
    """

    def __init__(self, connection: Connection, cache: BundleCache) -> None:
        self.connection = connection
        self.cache = cache

    def ledger(self, name: str) -> Ledger:
        """The ledger of a model."""
        check_model_name(name)
        return Ledger(self.connection, name)

    def names(self) -> list[str]:
        """The names of all models, sorted."""
        return self.connection.model_names(MODEL_KIND)

    def require_model(self, name: str) -> None:
        """Refuse a model that does not exist, naming those that do."""
        check_model_name(name)
        # MLflow reads every version to answer for the model itself; one is enough to know of it.
        if not (self.connection.list_versions(name, newest=1) or self.connection.has_model(name)):
            known = self.names()
            raise RegistryError(
                f"No registered model {name!r}. "
                + (f"There are: {', '.join(known[:10])}." if known else "Train or register one.")
            )

    def find(self, name: str, version: str, state: LedgerState) -> ModelVersion:
        """One version that is not deleted; a `RegistryError` names those that exist."""
        check_model_name(name)
        number = _NUMBER.fullmatch(version)
        if number is not None and number[1] not in state.deleted:
            found = self.connection.get_version(name, number[1])
            if found is not None:
                return read_version(found, state, self.locate)
        self.require_model(name)
        known = [item.version for item in self.all(name, self.ledger(name).read())[:10]]
        raise RegistryError(
            f"{name} has no version {version!r}. "
            + (f"The newest are: {', '.join(known)}." if known else "Register one first.")
        )

    def all(self, name: str, state: LedgerState) -> list[ModelVersion]:
        """Every version that is not deleted, newest first."""
        return [
            read_version(found, state, self.locate)
            for found in self.connection.list_versions(name)
            if is_ours(found) and str(found.version) not in state.deleted
        ]

    def of_run(self, run_id: str) -> list[ModelVersion]:
        """The versions that a run registered and that are not deleted."""
        versions = []
        for found in filter(is_ours, self.connection.versions_of_run(run_id)):
            state = self.ledger(str(found.name)).read()
            if str(found.version) not in state.deleted:
                versions.append(read_version(found, state, self.locate))
        return versions

    def locate(self, chosen: ModelVersion) -> Path:
        """The verified bundle in the cache, fetched if need be."""
        return self.cache.fetch(chosen.digest, self._copier(chosen))

    def check_stored(self, chosen: ModelVersion) -> None:
        """Refuse a version whose files in the store are not sound, or not signed as asked for.

        What the cache holds plays no part: a bot on another machine has only the store.
        """
        with stored_copy(self.connection, chosen) as copy:
            self.cache.require_trust(copy, chosen.digest)

    def count_use(self, name: str, version: str, window: tuple[datetime, datetime]) -> int:
        """Note that a version is judged on a window (UTC); how often it, or a part, was used so far.

        Each use is a tag of its own on the model: none is lost when two judge at once, or when a
        version is deleted.
        """
        start, end = window
        used = {"start": start.isoformat(), "end": end.isoformat(), "version": version}
        self.connection.tag_model(name, f"{_USE_TAG}{uuid.uuid4().hex}", json.dumps(used))
        model = self.connection.model(name)
        tags = {} if model is None else model.tags
        spans = (_span(text) for key, text in tags.items() if key.startswith(_USE_TAG))
        return sum(other[0] <= end and start <= other[1] for other in spans)

    def keep_record(
        self, run_id: str, artifact_path: str, kind: RecordKind, record: Record
    ) -> None:
        """Keep what was measured beside the files of a version, instead of an earlier record of this kind."""
        with scratch_folder() as temporary:
            write_record(record, Path(temporary))
            place = f"{records_path(artifact_path)}/{kind}"
            self.connection.upload(Path(temporary), place, run_id, "")

    def read_record(self, chosen: ModelVersion, kind: RecordKind) -> Record | None:
        """A record of a version; None if there is none."""
        place = f"{records_path(chosen.artifact_path)}/{kind}"
        if not self.connection.has_artifacts(chosen.run_id, place):
            return None
        with scratch_folder() as temporary:
            return read_record(self.connection.download(chosen.run_id, place, Path(temporary)))

    def finish_deletion(self, name: str, version: str) -> None:
        """Remove the files and the version of what the ledger says is deleted."""
        found = self.connection.get_version(name, version)
        if found is not None:
            chosen = read_version(found, LedgerState(), self.locate)
            for folder in ARTIFACT_FOLDERS:
                place = f"{folder}/{chosen.artifact_path.rpartition('/')[2]}"
                self.connection.delete_artifacts(chosen.run_id, place)
            self.connection.delete_version(name, version)

    def _copier(self, chosen: ModelVersion) -> Callable[[Path], Path]:
        return lambda folder: self.connection.download(chosen.run_id, chosen.artifact_path, folder)


def _span(text: str) -> tuple[datetime, datetime]:
    try:
        values = json.loads(text)
        return datetime.fromisoformat(values["start"]), datetime.fromisoformat(values["end"])
    except (ValueError, KeyError, TypeError) as error:
        raise RegistryError(
            f"A tag {_USE_TAG}… of the model was edited and cannot be read. Delete that tag in MLflow."
        ) from error


def check_model_name(name: str) -> None:
    """Refuse a name that MLflow, a file system or the ledger could misread.

    Raises
    ------
    RegistryError
        The message says which names are possible.
    """
    if not _NAME.fullmatch(name) or name.endswith(SUFFIX):
        raise RegistryError(
            f"{name!r} cannot be a model's name: use letters, digits, '_', '.', '-' (at most 100, "
            f"the first a letter or digit), not ending in '{SUFFIX}'."
        )
