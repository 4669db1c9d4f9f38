"""Ed25519 signatures (RFC 8032): who vouches for a bundle.

The file `signature` in a bundle signs the bundle's digest, which covers every other file. It is not
listed in the manifest, so a bundle can be signed after it was registered without becoming another.
"""

from __future__ import annotations

import base64
import json
import os
import stat
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from freqtrade_mlpipe.exceptions import BundleError, ConfigError
from freqtrade_mlpipe.registry.files import MAX_SIGNATURE_BYTES, SIGNATURE_FILE, read_file

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KEY_PREFIX = "ed25519:"
# Keeps a signature from being taken for one of anything else.
_CONTEXT = b"freqtrade_mlpipe bundle 1\n"
_MAX_KEY_BYTES = 4_096
_READABLE_BY_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True)
class Signature:
    """What the signature file says.

    Attributes
    ----------
    public_key
        Whose it claims to be, as `public_key_of` gives it.
    value
        The 64 bytes.
    """

    public_key: str
    value: bytes

    def to_bytes(self) -> bytes:
        """The signature file."""
        content = {
            "public_key": self.public_key,
            "signature": base64.b64encode(self.value).decode(),
        }
        return json.dumps(content, sort_keys=True, indent=1).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> Signature:
        """Read what `to_bytes` gave; ValueError for anything else."""
        content = json.loads(data)
        if not isinstance(content, dict) or set(content) != {"public_key", "signature"}:
            raise ValueError("not a signature file")
        value = base64.b64decode(content["signature"], validate=True)
        if not isinstance(content["public_key"], str) or len(value) != 64:
            raise ValueError("not an Ed25519 signature")
        return cls(content["public_key"], value)


def generate_key(path: Path | str) -> str:
    """Write a new private key, readable by its owner only, to the new file `path`; the public key.

    Raises
    ------
    ConfigError
        `path` exists already or cannot be written.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    data = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    place = Path(path)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
    except FileExistsError:
        raise ConfigError(
            f"{place} exists already and a key is never overwritten. Name a new file."
        ) from None
    except OSError as error:
        raise ConfigError(f"Cannot write the key {place}: {error.strerror}.") from error
    return _public_text(key)


def public_key_of(path: Path | str) -> str:
    """The public key of a private key file: `ed25519:` and 32 bytes in base64.

    Raises
    ------
    ConfigError
        As `sign`.
    """
    return _public_text(_load_key(Path(path)))


def sign(digest: str, key_file: Path | str) -> Signature:
    """The signature of the bundle with this digest, which the caller has verified.

    Raises
    ------
    ConfigError
        The key file is missing, no Ed25519 key, or readable by others.
    """
    key = _load_key(Path(key_file))
    return Signature(_public_text(key), key.sign(_message(digest)))


def signer_of(directory: Path | str, digest: str) -> str | None:
    """The public key whose valid signature the bundle carries; None without a signature.

    Raises
    ------
    BundleError
        The signature is damaged, or of another bundle.
    """
    path = Path(directory) / SIGNATURE_FILE
    if not path.exists():
        return None
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        signature = Signature.from_bytes(read_file(path, MAX_SIGNATURE_BYTES))
        key = Ed25519PublicKey.from_public_bytes(_public_bytes(signature.public_key))
        key.verify(signature.value, _message(digest))
    except (ValueError, TypeError, RecursionError, InvalidSignature) as error:
        raise BundleError(
            f"The signature of the bundle {directory} is not valid for it "
            f"({type(error).__name__}). Sign it again, or get it again from the registry."
        ) from error
    return signature.public_key


def require_trusted(directory: Path | str, digest: str, trusted: Collection[str]) -> str:
    """The trusted public key that signed the bundle.

    Raises
    ------
    BundleError
        Not signed, by a key that is not trusted, or the signature is not valid.
    """
    signer = signer_of(directory, digest)
    if signer is None:
        raise BundleError(
            f"The bundle {directory} ({digest[:12]}…) is not signed, and registry.require_signature "
            "is on. Sign the version with `freqtrade-mlpipe sign`."
        )
    if signer not in trusted:
        raise BundleError(
            f"The bundle {directory} ({digest[:12]}…) is signed by {signer}, which is not in "
            "registry.trusted_keys. Have it signed by a trusted key, or trust that one."
        )
    return signer


def _message(digest: str) -> bytes:
    return _CONTEXT + digest.encode()


def _public_text(key: Ed25519PrivateKey) -> str:
    return KEY_PREFIX + base64.b64encode(key.public_key().public_bytes_raw()).decode()


def _public_bytes(text: str) -> bytes:
    if not text.startswith(KEY_PREFIX):
        raise ValueError("not an Ed25519 public key")
    return base64.b64decode(text.removeprefix(KEY_PREFIX), validate=True)


def _load_key(path: Path) -> Ed25519PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        mode = path.stat().st_mode
        data = read_file(path, _MAX_KEY_BYTES)
    except (OSError, BundleError):
        raise ConfigError(
            f"No private key at {path}. Make one with `freqtrade-mlpipe keys generate`."
        ) from None
    if os.name == "posix" and mode & _READABLE_BY_OTHERS:
        raise ConfigError(
            f"The private key {path} can be read by others. Run: chmod 600 {path}, or make a new "
            "one if it may have been copied."
        )
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # Neither the bytes nor the parser's words: they could hold parts of the key.
        raise ConfigError(f"{path} is not an unencrypted private key in PEM form.") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path} is a private key of another kind than Ed25519.")
    return key
