"""What a registry knows: versions, histories, records and files; nothing here changes it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from freqtrade_mlpipe.exceptions import RegistryError
from freqtrade_mlpipe.registry.bundle import Bundle
from freqtrade_mlpipe.registry.cache import (
    CHALLENGER,
    LATEST,
    PRODUCTION,
    BundleCache,
    NoChallengerError,
    NothingInProductionError,
)
from freqtrade_mlpipe.registry.catalogue import Catalogue
from freqtrade_mlpipe.registry.comparison import Contender, VersionComparison, compare
from freqtrade_mlpipe.registry.connection import Connection
from freqtrade_mlpipe.registry.contention import RegistryUnavailableError
from freqtrade_mlpipe.registry.facts import contender_of
from freqtrade_mlpipe.registry.ledger import LedgerEntry, LedgerState
from freqtrade_mlpipe.registry.loading import load_bundle
from freqtrade_mlpipe.registry.record import Record, RecordKind
from freqtrade_mlpipe.registry.signing import signer_of
from freqtrade_mlpipe.registry.stored import stored_copy
from freqtrade_mlpipe.registry.verification import copy_bundle
from freqtrade_mlpipe.registry.versions import NOTE_PREFIX, RUN_ID, ModelVersion, decode


class RegistryReader:
    """The half of `ModelRegistry` that reads; parameters as there."""

    def __init__(
        self,
        tracking_uri: str | None = None,
        directory: Path | str = "user_data/mlpipe",
        *,
        trusted_keys: Collection[str] | None = None,
    ) -> None:
        self.directory = Path(directory).absolute()
        self._connection = Connection(tracking_uri, self.directory)
        cache = BundleCache(self.directory, tracking_uri, trusted_keys=trusted_keys)
        self._catalogue = Catalogue(self._connection, cache)

    def get_production_model(self, name: str) -> ModelVersion | None:
        """The version in production, or None (also for a model that does not exist)."""
        last = self._catalogue.ledger(name).last()
        if last is None or last.production is None:
            return None
        notes = {last.version: last.reason}
        state = LedgerState(production=last.production, digest=last.digest, notes=notes)
        return self._catalogue.find(name, last.production, state)

    def get_version(self, name: str, version: str | int) -> ModelVersion:
        """One version.

        Raises
        ------
        RegistryError
            No such model or version; the message names those there are.
        """
        return self._catalogue.find(name, str(version), self._catalogue.ledger(name).read())

    def get_all_versions(self, name: str) -> list[ModelVersion]:
        """All versions, newest first.

        Raises
        ------
        RegistryError
            No such model; the message names those there are.
        """
        self._catalogue.require_model(name)
        return self._catalogue.all(name, self._catalogue.ledger(name).read())

    def get_versions_of_run(self, run_id: str) -> list[ModelVersion]:
        """The versions that a tracked run registered; usually one, empty if none."""
        if not RUN_ID.fullmatch(run_id):
            return []
        return self._catalogue.of_run(run_id)

    def get_model_names(self) -> list[str]:
        """The names of all registered models, sorted."""
        return self._catalogue.names()

    def get_challenger(self, name: str) -> ModelVersion | None:
        """The version that is predicted beside production, or None."""
        state = self._catalogue.ledger(name).read()
        return (
            None
            if state.challenger is None
            else self._catalogue.find(name, state.challenger, state)
        )

    def get_deciding_entry(self, name: str) -> LedgerEntry | None:
        """The promotion or rollback that put the present version into production, or None."""
        return self._catalogue.ledger(name).read().deciding()

    def get_model_history(self, name: str) -> tuple[LedgerEntry, ...]:
        """Every promotion, rollback, archiving and deletion that counted, oldest first.

        Raises
        ------
        RegistryError
            No such model, or a damaged ledger.
        """
        self._catalogue.require_model(name)
        return self._catalogue.ledger(name).read().entries

    def resolve(self, name: str, wanted: str) -> tuple[str, str]:
        """Version and digest of `wanted`: a number, "latest", "production" or "challenger".

        Raises
        ------
        RegistryError
            No such version, nothing in production, or no challenger.
        """
        if wanted == CHALLENGER:
            last = self._catalogue.ledger(name).last()
            if last is None or last.challenger is None or last.challenger_digest is None:
                raise NoChallengerError(f"{name} has no challenger. Name one first.")
            return last.challenger, last.challenger_digest
        if wanted == PRODUCTION:
            last = self._catalogue.ledger(name).last()
            if last is None or last.production is None or last.digest is None:
                raise self._nothing_in_production(name)
            return last.production, last.digest
        chosen = (
            self.get_all_versions(name)[:1]
            if wanted == LATEST
            else [self.get_version(name, wanted)]
        )
        if not chosen:
            raise RegistryError(f"{name} has no version yet. Register one first.")
        return chosen[0].version, chosen[0].digest

    def read_record(self, version: ModelVersion, kind: RecordKind) -> Record | None:
        """What was measured on a version; None where nothing of this kind was kept.

        Raises
        ------
        RegistryError
            It is damaged, or cannot be fetched.
        """
        return self._catalogue.read_record(version, kind)

    def as_contender(self, version: ModelVersion) -> Contender:
        """What `compare` needs of a version: settings, metrics and out-of-sample predictions."""
        return contender_of(
            version, self.read_record(version, "training"), self.read_record(version, "backtest")
        )

    def compare_versions(self, versions: Sequence[ModelVersion]) -> VersionComparison:
        """Versions side by side, and whether each differs from the first by more than noise.

        Raises
        ------
        RegistryError
            A record is damaged.
        ValueError
            Fewer than two versions.
        """
        return compare([self.as_contender(version) for version in versions])

    def get_annotations(self, name: str, version: str | int) -> dict[str, dict[str, Any]]:
        """The notes that `annotate` kept with a version, by key.

        Raises
        ------
        RegistryError
            No such version.
        """
        chosen = self.get_version(name, version)
        found: Any = self._connection.get_version(name, chosen.version)
        return {
            key.removeprefix(NOTE_PREFIX): decode(text)
            for key, text in found.tags.items()
            if key.startswith(NOTE_PREFIX)
        }

    def signer_of(self, name: str, version: str | int) -> str | None:
        """The public key that signed the stored files of a version, None if nobody did.

        Raises
        ------
        RegistryError
            No such version.
        BundleError
            Its files are corrupt in the registry, or the signature is not valid for them.
        """
        chosen = self.get_version(name, version)
        with stored_copy(self._connection, chosen) as copy:
            return signer_of(copy, chosen.digest)

    def check_stored(self, version: ModelVersion) -> None:
        """Refuse a version whose files in the store are damaged, or not signed as asked for.

        Raises
        ------
        BundleError
            They are; the message says what to do.
        """
        self._catalogue.check_stored(version)

    def bytes_of(self, version: ModelVersion) -> int:
        """Bytes of a version's files in the store."""
        return self._connection.artifact_bytes(version.run_id, version.artifact_path)

    def load_bundle(self, name: str, version: str | int) -> Bundle:
        """The verified bundle of a version, loaded.

        Raises
        ------
        RegistryError
            No such version.
        BundleError
            Its files are corrupt.
        """
        chosen = self.get_version(name, version)
        place = chosen.model_path
        self._catalogue.cache.require_trust(place, chosen.digest)
        return load_bundle(place, expect_digest=chosen.digest)

    def download(self, name: str, version: str | int, dst: Path | str) -> Path:
        """Copy a version's verified bundle to the new folder `dst`; its path.

        Raises
        ------
        RegistryError
            No such version.
        BundleError
            Its files are corrupt, or `dst` is not empty.
        """
        chosen = self.get_version(name, version)
        return copy_bundle(chosen.model_path, dst, chosen.digest)

    def _nothing_in_production(self, name: str) -> NothingInProductionError:
        try:
            self._catalogue.require_model(name)
        except RegistryUnavailableError:
            raise
        except RegistryError as error:
            return NothingInProductionError(str(error))
        return NothingInProductionError(
            f"{name} has no production version. Promote one first, or pin a version."
        )

    def copy_to(self, name: str, version: str, folder: Path) -> Path:
        """Copy a version's files as they are, unverified, into `folder`; their path."""
        found = self._catalogue.find(name, version, LedgerState())
        return self._connection.download(found.run_id, found.artifact_path, folder)
