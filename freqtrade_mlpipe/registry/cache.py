"""What the bot reads: bundles by digest on the local disk, and the last answer of the registry.

The registry (and MLflow with it) is imported only when it is asked. While it is down, the last
answer and the bundle it names keep serving.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from freqtrade_mlpipe.exceptions import BundleError, MLPipeError, RegistryError, TrackingError
from freqtrade_mlpipe.registry.bundle import Bundle
from freqtrade_mlpipe.registry.contention import RegistryUnavailableError
from freqtrade_mlpipe.registry.files import SIGNATURE_FILE, read_file, write_atomically
from freqtrade_mlpipe.registry.loading import load_bundle
from freqtrade_mlpipe.registry.verification import verify_bundle

if TYPE_CHECKING:
    from freqtrade_mlpipe.registry.ledger import LedgerEntry
    from freqtrade_mlpipe.registry.store import ModelRegistry

CACHE_NAME = "cache"
PRODUCTION = "production"
LATEST = "latest"
CHALLENGER = "challenger"
_SERVED = "served"
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_WANTED = re.compile(r"production|challenger|latest|[0-9]{1,9}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_POINTERS = "pointers"
_MAX_POINTER_BYTES = 10_000


class NothingInProductionError(RegistryError):
    """The registry answers, and says that nothing is in production."""


class NoChallengerError(RegistryError):
    """Nothing is to be predicted beside production."""


Download = Callable[[Path], Path]
"""Copies a bundle into the folder given; the path of the copy."""


@dataclass(frozen=True)
class ResolvedVersion:
    """Which bundle to serve.

    Attributes
    ----------
    name, version
        The registered version.
    digest
        Digest of its bundle.
    path
        The bundle in the cache; verified when it was put there.
    stale_reason
        Why the registry could not be asked, in which case this is its last answer; else None.
    """

    name: str
    version: str
    digest: str
    path: Path
    stale_reason: str | None = None


class BundleCache:
    """Verified bundles under `directory/cache`, and which of them to serve.

    Parameters
    ----------
    directory
        The registry's folder.
    tracking_uri
        As for `ModelRegistry`.
    trusted_keys
        Public keys of which one must have signed a bundle that is served; None: no signature is
        asked for.
    """

    def __init__(
        self,
        directory: Path | str,
        tracking_uri: str | None = None,
        *,
        trusted_keys: Collection[str] | None = None,
    ) -> None:
        self._trusted_keys = None if trusted_keys is None else frozenset(trusted_keys)
        self.directory = Path(directory).absolute()
        self.root = self.directory / CACHE_NAME
        self._tracking_uri = tracking_uri
        self._registry: ModelRegistry | None = None
        self._verified: set[str] = set()

    def path_of(self, digest: str) -> Path:
        """Where the bundle with this digest is kept."""
        return self.root / digest

    def resolve(self, model_name: str, version: str | None = None) -> ResolvedVersion:
        """Ask the registry which bundle to serve, and have it here.

        Parameters
        ----------
        version
            A version's number, "latest" (the newest that was registered), "challenger" (what is predicted beside
            production), or None for production.

        Raises
        ------
        RegistryError
            No such model or version, nothing in production, or the registry cannot be asked and
            never was before.
        BundleError
            The bundle is corrupt in the registry, and not here either.
        """
        wanted = _checked(model_name, version)
        try:
            resolved = self._ask(model_name, wanted)
        except (RegistryUnavailableError, TrackingError) as error:
            return self._recall(model_name, wanted, error)
        self._point(wanted, resolved)
        return resolved

    def ask(self, model_name: str, version: str | None = None) -> tuple[str, str]:
        """Number and digest of what `resolve` would give now; nothing is fetched.

        Raises
        ------
        RegistryError
            As `resolve`, and when the registry cannot be asked.
        """
        return self._store().resolve(model_name, _checked(model_name, version))

    def decision(self, model_name: str) -> LedgerEntry | None:
        """The promotion or rollback that put the present production version there; None where there was none.

        Raises
        ------
        RegistryError
            The registry cannot be asked.
        """
        return self._store().get_deciding_entry(model_name)

    def remember_served(self, resolved: ResolvedVersion) -> None:
        """Note which version passed its self-test and speaks, for `recall_served`."""
        self._point(_SERVED, resolved)

    def recall_served(self, model_name: str, why: MLPipeError) -> ResolvedVersion:
        """The version that spoke last, whatever the registry says now.

        Raises
        ------
        RegistryError
            None did, or it is gone from the cache; the message starts with `why`.
        """
        return self._recall(model_name, _SERVED, why)

    def _point(self, wanted: str, resolved: ResolvedVersion) -> None:
        pointer = {**asdict(resolved), "path": None}
        data = json.dumps(pointer, sort_keys=True).encode()
        path = self._pointer(resolved.name, wanted)
        if not path.exists() or path.read_bytes() != data:
            write_atomically(path, data)

    def load(self, resolved: ResolvedVersion) -> Bundle:
        """Load a resolved bundle; one that rotted in the cache is fetched anew.

        Raises
        ------
        BundleError
            It cannot be loaded even so.
        """
        try:
            self.require_trust(resolved.path, resolved.digest)
            return load_bundle(resolved.path, expect_digest=resolved.digest)
        except BundleError:
            self._verified.discard(resolved.digest)
            again = self._ask(resolved.name, resolved.version)
            return load_bundle(again.path, expect_digest=resolved.digest)

    def add_signature(self, digest: str, signature: bytes) -> None:
        """Put a signature file beside the bundle with this digest, if that is here."""
        place = self.path_of(digest)
        if place.is_dir():
            # Not written in the bundle: whoever verifies it now would meet an unknown file.
            beside = self.root / f".unfinished-{uuid.uuid4().hex}"
            beside.write_bytes(signature)
            beside.replace(place / SIGNATURE_FILE)

    def require_trust(self, place: Path, digest: str) -> None:
        """Refuse a bundle without a trusted signature where one is asked for.

        Raises
        ------
        BundleError
            Not signed, by a key that is not trusted, or the signature is not valid.
        """
        if self._trusted_keys is not None:
            from freqtrade_mlpipe.registry.signing import require_trusted

            require_trusted(place, digest, self._trusted_keys)

    def _is_trusted(self, place: Path, digest: str) -> bool:
        try:
            self.require_trust(place, digest)
        except BundleError:
            return False
        return True

    def fetch(self, digest: str, download: Download) -> Path:
        """The bundle with this digest, downloaded unless a sound copy is here, signed as asked for.

        It is downloaded beside its place, verified, then renamed. A corrupt copy is set aside
        under a name that starts with `.corrupt-`.

        Raises
        ------
        BundleError
            What was downloaded is corrupt.
        """
        place = self.path_of(digest)
        if self._is_sound(place, digest) and self._is_trusted(place, digest):
            return place
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix=".download-", dir=self.root))
        except OSError as error:
            raise RegistryError(
                f"Bundles cannot be kept in {self.root}: {error.strerror}. It has to be a folder that can be "
                "written."
            ) from error
        try:
            copy = download(folder)
            verify_bundle(copy, digest)
            if not self._is_sound(place, digest):
                self._put(copy, place, digest)
            elif (copy / SIGNATURE_FILE).exists() and self._is_trusted(copy, digest):
                # Signed since it was put here.
                (copy / SIGNATURE_FILE).replace(place / SIGNATURE_FILE)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self._verified.add(digest)
        return place

    def entries(self) -> list[Path]:
        """Everything kept here but the pointers, whatever it is."""
        if not self.root.is_dir():
            return []
        return sorted(place for place in self.root.iterdir() if place.name != _POINTERS)

    def pointed_at(self) -> set[str]:
        """The digests that were served last: they go on being served while the registry is down."""
        digests = set()
        for path in (self.root / _POINTERS).glob("*.json"):
            with suppress(BundleError, ValueError, KeyError, TypeError):
                digests.add(str(json.loads(read_file(path, _MAX_POINTER_BYTES))["digest"]))
        return digests

    def _put(self, copy: Path, place: Path, digest: str) -> None:
        if place.exists():
            place.rename(self.root / f".corrupt-{digest[:16]}-{uuid.uuid4().hex[:8]}")
        try:
            copy.rename(place)
        except OSError:  # another process was faster
            verify_bundle(place, digest)

    def _is_sound(self, place: Path, digest: str) -> bool:
        if not place.exists():
            self._verified.discard(digest)
            return False
        if digest in self._verified:
            return True
        try:
            verify_bundle(place, digest)
        except BundleError:
            return False
        self._verified.add(digest)
        return True

    def _ask(self, model_name: str, wanted: str) -> ResolvedVersion:
        registry = self._store()
        number, digest = registry.resolve(model_name, wanted)
        place = self.fetch(digest, lambda folder: registry.copy_to(model_name, number, folder))
        self.require_trust(place, digest)
        return ResolvedVersion(model_name, number, digest, place)

    def _store(self) -> ModelRegistry:
        if self._registry is None:
            from freqtrade_mlpipe.registry.store import ModelRegistry

            self._registry = ModelRegistry(self._tracking_uri, self.directory)
        return self._registry

    def _recall(self, model_name: str, wanted: str, error: MLPipeError) -> ResolvedVersion:
        path = self._pointer(model_name, wanted)
        try:
            known = json.loads(read_file(path, _MAX_POINTER_BYTES))
            digest, number = known["digest"], known["version"]
            if not (isinstance(number, str) and _DIGEST.fullmatch(digest)):
                raise ValueError("not a pointer")
        except (BundleError, ValueError, KeyError, TypeError):
            raise RegistryError(
                f"{error} Nothing was served from this folder before ({self.root}), so there is no "
                "bundle to go on with. Start the registry and try again."
            ) from error
        place = self.path_of(digest)
        if not self._is_sound(place, digest):
            raise RegistryError(
                f"{error} The bundle served last, {digest[:12]}…, is missing or corrupt in "
                f"{self.root}. Start the registry and try again."
            ) from error
        self.require_trust(place, digest)
        return ResolvedVersion(model_name, number, digest, place, stale_reason=str(error))

    def _pointer(self, model_name: str, wanted: str) -> Path:
        return self.root / _POINTERS / f"{model_name}@{wanted}.json"


def _checked(model_name: str, version: str | None) -> str:
    wanted = version or PRODUCTION
    if not (_MODEL_NAME.fullmatch(model_name) and _WANTED.fullmatch(wanted)):
        raise RegistryError(
            f"There is no version {wanted!r} of {model_name!r}: give a model's name and a "
            "version's number, 'latest', or nothing for production."
        )
    return wanted
