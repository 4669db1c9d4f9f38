"""Loading a bundle: verified first, then parsed, each part by the parser of its format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freqtrade_mlpipe.config import N_OUTPUTS
from freqtrade_mlpipe.exceptions import BundleError, MLPipeError
from freqtrade_mlpipe.registry import selftest
from freqtrade_mlpipe.registry.arrow_file import refuse_compressed
from freqtrade_mlpipe.registry.baseline import BASELINE_FILE
from freqtrade_mlpipe.registry.bundle import Bundle, member_entry
from freqtrade_mlpipe.registry.manifest import Manifest
from freqtrade_mlpipe.registry.verification import verify_bundle

if TYPE_CHECKING:
    from freqtrade_mlpipe.member import Member

_DAMAGE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, OSError,
           RecursionError, MemoryError)  # fmt: skip


def load_bundle(directory: Path | str, *, expect_digest: str | None = None) -> Bundle:
    """Verify a bundle, then load it.

    Parameters
    ----------
    directory
        A folder written by `write_bundle`.
    expect_digest
        The digest the registry recorded. Without it only accidents are noticed, not an attacker
        who rewrote the manifest too.

    Raises
    ------
    BundleError
        Any file missing, not listed, changed, linked, oddly named or too large; an unknown format
        version; a member that cannot be read.
    """
    manifest, digest, files = verify_bundle(directory, expect_digest)
    members = tuple(_load_member(files, k, manifest) for k in range(len(manifest.members)))
    for name in (selftest.CANDLES_FILE, selftest.EXPECTED_FILE):
        if name in files:
            refuse_compressed(name, files[name])
    baseline = _load_baseline(files[BASELINE_FILE]) if BASELINE_FILE in files else None
    test = (
        selftest.from_files(
            files, manifest.features, sum(N_OUTPUTS[member.model.task] for member in members)
        )
        if selftest.EXPECTED_FILE in files
        else None
    )
    return Bundle(Path(directory), digest, manifest, members, baseline, test)


def _load_member(files: Mapping[str, bytes], k: int, manifest: Manifest) -> Member:
    from freqtrade_mlpipe.member import Member

    prefix = f"members/{k}/"
    own = {
        name.removeprefix(prefix): data for name, data in files.items() if name.startswith(prefix)
    }
    try:
        member = Member.from_files(own)
    except MLPipeError as error:
        raise BundleError(f"Member {k} of the bundle cannot be loaded: {error}") from error
    except _DAMAGE as error:
        raise BundleError(
            f"Member {k} of the bundle cannot be read ({type(error).__name__}: {error}). "
            "Get the bundle again, or train again."
        ) from error
    if member_entry(member) != manifest.members[k]:
        raise BundleError(
            f"Member {k} of the bundle is not the one its manifest describes. Get the bundle again."
        )
    return member


def _load_baseline(data: bytes) -> dict[str, Any]:
    try:
        baseline = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{BASELINE_FILE} cannot be read: {error}. Train again.") from error
    if not isinstance(baseline, dict):
        raise BundleError(f"{BASELINE_FILE} is not a JSON object. Train again.")
    return baseline
