"""The files of a version as the store holds them: whether they are sound, and putting them back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from freqtrade_mlpipe.exceptions import BundleError, RegistryError
from freqtrade_mlpipe.registry.cache import BundleCache
from freqtrade_mlpipe.registry.connection import Connection
from freqtrade_mlpipe.registry.contention import RegistryUnavailableError
from freqtrade_mlpipe.registry.files import (
    MAX_SIGNATURE_BYTES,
    SIGNATURE_FILE,
    read_file,
    scratch_folder,
    write_folder,
)
from freqtrade_mlpipe.registry.signing import signer_of
from freqtrade_mlpipe.registry.verification import verify_bundle
from freqtrade_mlpipe.registry.versions import ModelVersion


class DamagedError(BundleError):
    """The store does not hold the files of a version as they were registered.

    Attributes
    ----------
    fault
        What is wrong, without what to do.
    """

    def __init__(self, chosen: ModelVersion, fault: str) -> None:
        self.fault = fault
        super().__init__(
            f"The stored files of version {chosen.version} of {chosen.name} are damaged: {fault}. "
            "See what `freqtrade-mlpipe doctor` can put back; else restore the artifacts "
            f"{chosen.artifact_path} of run {chosen.run_id} from a backup, or take another version."
        )


@contextmanager
def stored_copy(
    connection: Connection, chosen: ModelVersion, *, with_signature: bool = True
) -> Iterator[Path]:
    """A verified copy of what the store holds of a version, while the block runs.

    No cache plays a part: a bot on another machine has only the store.

    Parameters
    ----------
    with_signature
        Whether a signature, if there is one, has to be valid.

    Raises
    ------
    DamagedError
        A file is missing, changed or one too many, or the signature is not valid.
    RegistryUnavailableError
        The store does not answer.
    """
    with scratch_folder() as temporary:
        try:
            copy = connection.download(chosen.run_id, chosen.artifact_path, Path(temporary))
            verify_bundle(copy, chosen.digest)
            if with_signature:
                signer_of(copy, chosen.digest)
        except RegistryUnavailableError:
            raise
        except (BundleError, RegistryError) as error:
            raise DamagedError(chosen, _fault(error, temporary)) from error
        yield copy


def damage_of(connection: Connection, chosen: ModelVersion) -> str | None:
    """What is wrong with the stored files of a version, None if nothing is.

    Raises
    ------
    RegistryUnavailableError
        The store does not answer.
    """
    try:
        with stored_copy(connection, chosen):
            return None
    except DamagedError as error:
        return error.fault


def can_restore(cache: BundleCache, chosen: ModelVersion) -> bool:
    """Whether the cache holds the version's files with the digest they were registered with."""
    try:
        verify_bundle(cache.path_of(chosen.digest), chosen.digest)
    except BundleError:
        return False
    return True


def restore(connection: Connection, cache: BundleCache, chosen: ModelVersion) -> None:
    """Replace the stored files of a version by those of the cache, with a valid signature if there is one.

    A process that is killed in between leaves files that are damaged or gone, to be restored again.

    Raises
    ------
    BundleError
        The copy in the cache is not sound (any more), or the store does not keep what it is given.
    RegistryError
        The store refuses, or does not answer.
    """
    _, _, files = verify_bundle(cache.path_of(chosen.digest), chosen.digest)
    with scratch_folder() as temporary:
        signature = _signature(connection, cache, chosen, Path(temporary))
        if signature is not None:
            cache.add_signature(chosen.digest, signature)  # here it outlives a kill
            files[SIGNATURE_FILE] = signature
        sound = Path(temporary) / "bundle"
        write_folder(sound, files)
        connection.delete_artifacts(chosen.run_id, chosen.artifact_path)
        connection.upload(sound, chosen.artifact_path, chosen.run_id, "")
    with stored_copy(connection, chosen):
        return


def _signature(
    connection: Connection, cache: BundleCache, chosen: ModelVersion, folder: Path
) -> bytes | None:
    """The valid signature of a version, the store's before the cache's."""
    with suppress(RegistryError):
        connection.download(chosen.run_id, f"{chosen.artifact_path}/{SIGNATURE_FILE}", folder)
    for place in (
        *(path.parent for path in folder.rglob(SIGNATURE_FILE)),
        cache.path_of(chosen.digest),
    ):
        with suppress(BundleError):
            if signer_of(place, chosen.digest) is not None:
                return read_file(place / SIGNATURE_FILE, MAX_SIGNATURE_BYTES)
    return None


def _fault(error: Exception, folder: str) -> str:
    """What an error found, in the words of the store: neither our copy's place nor the error's advice."""
    return str(error).replace(f"{folder}/", "").partition(". ")[0].rstrip(".")
