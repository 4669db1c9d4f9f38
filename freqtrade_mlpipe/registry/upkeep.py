"""Keeping a registry tidy: what may go, what a killed process left behind, and its removal."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from freqtrade_mlpipe.exceptions import BundleError, RegistryError
from freqtrade_mlpipe.mlflow_store import ARTIFACTS_NAME, DATABASE_NAME
from freqtrade_mlpipe.registry.catalogue import MODEL_KIND, Catalogue
from freqtrade_mlpipe.registry.ledger import LedgerEntry, LedgerState
from freqtrade_mlpipe.registry.stored import can_restore, damage_of, restore
from freqtrade_mlpipe.registry.transitions import Transitions
from freqtrade_mlpipe.registry.verification import verify_bundle
from freqtrade_mlpipe.registry.versions import ARTIFACT_FOLDERS, ModelVersion, is_ours

GRACE = timedelta(hours=1)
"""What is younger may belong to a process that is still at work."""
GRACE_UNFINISHED = timedelta(hours=24)
"""The same for a run that was never ended: a long training is one."""
GRACE_SEARCH = timedelta(days=30)
"""How long the trials of a search are kept after its last one: the same training goes on with them."""
SEARCHES_NAME = "searches"
"""The folder of the journals of searches, one a search."""


@dataclass(frozen=True)
class Prunable:
    """A version that retention does not keep, and the bytes of its files in the store."""

    version: ModelVersion
    n_bytes: int


@dataclass(frozen=True)
class Problem:
    """Something in the registry that should not be.

    Attributes
    ----------
    where
        The model's name, `cache`, `store` or `files`.
    what
        A sentence; it says what to do where nothing can be done here.
    n_bytes
        What its removal frees.
    mend
        Removes it; None where a person has to.
    mended
        Whether it was removed.
    """

    where: str
    what: str
    n_bytes: int = 0
    mend: Callable[[], None] | None = field(default=None, repr=False, compare=False)
    mended: bool = False


class Upkeep:
    """Retention and repair; `ModelRegistry` documents them."""

    def __init__(self, catalogue: Catalogue, transitions: Transitions) -> None:
        self._catalogue = catalogue
        self._connection = catalogue.connection
        self._transitions = transitions

    def prunable(self, name: str, keep: int) -> list[Prunable]:
        """What is neither in production, its challenger, next to roll back to, tagged, nor among the `keep` newest."""
        self._catalogue.require_model(name)
        state = self._catalogue.ledger(name).read()
        kept = {state.production, state.challenger, state.rollback_target()}
        return [
            Prunable(version, self.bytes_of(version))
            for version in self._catalogue.all(name, state)[keep:]
            if version.version not in kept and not version.tags
        ]

    def bytes_of(self, version: ModelVersion) -> int:
        """Bytes of a version's files in the store."""
        return self._connection.artifact_bytes(version.run_id, version.artifact_path)

    def examine(self, now: datetime, *, mend: bool, every: bool) -> list[Problem]:
        """Everything found, mended where `mend` says so and it can be; `every` as `ModelRegistry.doctor`."""
        found = []
        for problem in self._problems(now, every):
            if mend and problem.mend is not None:
                problem.mend()
                problem = replace(problem, mended=True)
            found.append(problem)
        return found

    def _problems(self, now: datetime, every: bool) -> Iterator[Problem]:
        for name in self._connection.model_names(MODEL_KIND):
            yield from self._of_model(name, now, every)
        versions = [found for name in self._catalogue.names() for found in self._versions(name)]
        yield from self._orphaned_artifacts(versions, now)
        yield from self._of_cache(now)
        yield from self._of_files(now)

    def _of_model(self, name: str, now: datetime, every: bool) -> Iterator[Problem]:
        yield from self._foreign_entries(name)
        try:
            state = self._catalogue.ledger(name).read()
            for what, mend in self._transitions.gaps(name, state):
                yield Problem(name, f"{what[0].upper()}{what[1:]}.", 0, mend)
            versions = self._catalogue.all(name, state)
        except RegistryError as error:
            yield Problem(name, str(error))
            return
        read = {state.production, state.rollback_target(), state.challenger}
        for version in versions:
            fault = None if self.bytes_of(version) else "they are gone"
            if fault is None and (every or version.version in read):
                fault = damage_of(self._connection, version)
            if fault is not None:
                yield self._damaged(version, state, fault)
        if not versions and not state.entries and self._is_old_model(name, now):
            what = "The model has no version: its first registration was interrupted."
            yield Problem(name, what, 0, partial(self._connection.delete_model, name))

    def _damaged(self, version: ModelVersion, state: LedgerState, fault: str) -> Problem:
        cache = self._catalogue.cache
        what = f"The stored files of version {version.version} are damaged: {fault}."
        if can_restore(cache, version):
            mend = partial(restore, self._connection, cache, version)
            return Problem(
                version.name, f"{what} This machine has sound ones to put back.", 0, mend
            )
        live = version.version == state.production
        way_out = "roll back (no bot elsewhere can load it)" if live else "delete the version"
        return Problem(
            version.name,
            f"{what} Restore the artifacts {version.artifact_path} of run {version.run_id} from a "
            f"backup, run this where a bot has served it, or {way_out}.",
        )

    def _is_old_model(self, name: str, now: datetime) -> bool:
        model = self._connection.model(name)
        made = now.timestamp() if model is None else model.creation_timestamp / 1000
        return now.timestamp() - made > GRACE.total_seconds()

    def _foreign_entries(self, name: str) -> Iterator[Problem]:
        """Ledger entries this package did not write and nobody decided on."""
        ledger = self._catalogue.ledger(name)
        unreadable, expected = [], set()
        for version in self._connection.list_versions(ledger.name):
            try:
                expected.add(LedgerEntry.from_version(version).expect)
            except RegistryError:
                unreadable.append(version)
        for version in unreadable:
            if not ledger.is_foreign(version) or int(version.version) in expected:
                continue  # reading the ledger says what is wrong
            yield Problem(
                name,
                f"Entry {version.version} of the ledger was added by hand and counts for nothing.",
                0,
                partial(self._connection.delete_version, ledger.name, str(version.version)),
            )

    def _versions(self, name: str) -> list[Any]:
        return [found for found in self._connection.list_versions(name) if is_ours(found)]

    def _orphaned_artifacts(self, versions: Iterable[Any], now: datetime) -> Iterator[Problem]:
        owned = {str(found.source).removeprefix("mlpipe:/") for found in versions}
        for run in self._connection.runs():
            if not _is_over(run, now):
                continue
            run_id = str(run.info.run_id)
            for folder in ARTIFACT_FOLDERS:
                for path in self._connection.artifact_folders(run_id, folder):
                    bundle = f"{run_id}/{ARTIFACT_FOLDERS[0]}/{path.rpartition('/')[2]}"
                    if bundle not in owned:
                        yield self._orphan(run_id, path)
            own = any(path.startswith(f"{run_id}/") for path in owned)
            if not own and self._connection.is_bundle_run(run):
                what = (
                    f"Run {run_id} was made for a bundle that was never registered, or is deleted."
                )
                yield Problem("store", what, 0, partial(self._connection.delete_run, run_id))

    def _orphan(self, run_id: str, path: str) -> Problem:
        return Problem(
            "store",
            f"No version owns the artifacts {path} of run {run_id}.",
            self._connection.artifact_bytes(run_id, path),
            partial(self._connection.delete_artifacts, run_id, path),
        )

    def _of_cache(self, now: datetime) -> Iterator[Problem]:
        cache = self._catalogue.cache
        wanted = cache.pointed_at()
        for name in self._catalogue.names():
            try:
                versions = self._catalogue.all(name, self._catalogue.ledger(name).read())
            except RegistryError:
                return  # which bundles are wanted is not known
            wanted |= {version.digest for version in versions}
        for place in cache.entries():
            if not _is_old(place, now):
                continue
            if place.name.startswith("."):
                what = "is what an interrupted or corrupt download left."
            elif place.name not in wanted:
                what = "belongs to no version."
            elif _is_corrupt(place):
                what = "is corrupt; it is fetched again when needed."
            else:
                continue
            yield Problem(
                "cache", f"{place.name[:40]} {what}", _bytes(place), partial(_remove, place)
            )

    def _of_files(self, now: datetime) -> Iterator[Problem]:
        unfinished, search = "was never finished.", "holds the trials of a search long ago."
        for pattern, grace, what in (
            (".unfinished-*", GRACE, unfinished),
            (f"{DATABASE_NAME}.unfinished*", GRACE, unfinished),
            (f"{ARTIFACTS_NAME}/.unfinished-*", GRACE, unfinished),
            (f"{SEARCHES_NAME}/*", GRACE_SEARCH, search),
        ):
            for place in self._catalogue.cache.directory.glob(pattern):
                if _is_old(place, now, grace):
                    yield Problem(
                        "files", f"{place.name} {what}", _bytes(place), partial(_remove, place)
                    )


def _is_over(run: Any, now: datetime) -> bool:
    """Whether nobody can still be writing to a run."""
    ended, begun = run.info.end_time, run.info.start_time
    moment, grace = (begun, GRACE_UNFINISHED) if ended is None else (ended, GRACE)
    return bool(now.timestamp() - (moment or 0) / 1000 > grace.total_seconds())


def _is_old(place: Path, now: datetime, grace: timedelta = GRACE) -> bool:
    try:
        return now.timestamp() - place.lstat().st_mtime > grace.total_seconds()
    except FileNotFoundError:
        return False


def _is_corrupt(place: Path) -> bool:
    try:
        verify_bundle(place, place.name)
    except BundleError:
        return True
    return False


def _bytes(place: Path) -> int:
    if place.is_symlink() or not place.is_dir():
        return place.lstat().st_size
    return sum(path.lstat().st_size for path in place.rglob("*"))


def _remove(place: Path) -> None:
    if place.is_symlink() or not place.is_dir():
        place.unlink(missing_ok=True)
    else:
        shutil.rmtree(place, ignore_errors=True)
