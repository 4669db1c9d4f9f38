"""Whether a folder holds a bundle as it was written: every byte is checked before any parser sees it."""

from __future__ import annotations

from pathlib import Path

from freqtrade_mlpipe.exceptions import BundleError
from freqtrade_mlpipe.registry.files import (
    MAX_SIGNATURE_BYTES,
    SIGNATURE_FILE,
    read_file,
    read_listed,
    sha256,
    write_folder,
)
from freqtrade_mlpipe.registry.manifest import (
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    Manifest,
    parse_manifest,
)

_UNLISTED = frozenset({MANIFEST_FILE, SIGNATURE_FILE})


def verify_bundle(
    directory: Path | str, expect_digest: str | None = None
) -> tuple[Manifest, str, dict[str, bytes]]:
    """The manifest, the digest and the checked bytes of all files; no model is parsed.

    Raises
    ------
    BundleError
        As `load_bundle`.
    """
    root = Path(directory)
    if not root.is_dir():
        raise BundleError(f"No bundle at {root}: there is no such folder. Check the path.")
    if not (root / MANIFEST_FILE).exists():
        raise BundleError(
            f"{root} is not a bundle: it has no {MANIFEST_FILE}. Write one with write_bundle or "
            "save_model."
        )
    data = read_file(root / MANIFEST_FILE, MAX_MANIFEST_BYTES)
    digest = sha256(data)
    if expect_digest is not None and digest != expect_digest:
        raise BundleError(
            f"The bundle {root} has the digest {digest[:12]}…, expected {expect_digest[:12]}…. "
            "It is corrupt or another model was put in its place; get it again from the registry."
        )
    manifest = parse_manifest(root, data)
    files = read_listed(root, manifest.files, besides=_UNLISTED)
    return manifest, digest, {**files, MANIFEST_FILE: data}


def copy_bundle(source: Path | str, directory: Path | str, expect_digest: str) -> Path:
    """Verify the bundle `source` and write what was verified to the new folder `directory`.

    Raises
    ------
    BundleError
        As `load_bundle` and `write_bundle`.
    """
    _, _, files = verify_bundle(source, expect_digest)
    signature = Path(source) / SIGNATURE_FILE
    if signature.exists():
        files[SIGNATURE_FILE] = read_file(signature, MAX_SIGNATURE_BYTES)
    write_folder(Path(directory), files)
    return Path(directory)
