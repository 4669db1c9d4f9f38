"""A registered version as users see it, and as tags of an MLflow model version."""

from __future__ import annotations

import base64
import json
import math
import re
import uuid
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from freqtrade_mlpipe.exceptions import RegistryError
from freqtrade_mlpipe.registry.ledger import LedgerState
from freqtrade_mlpipe.registry.report import GateReport

MAX_TAG_LENGTH = 90_000
_MAX_PLAIN_LENGTH = 20_000
_MAX_UNPACKED_BYTES = 8 * 1024**2
_PACKED = "zlib:"

_DIGEST = re.compile(r"[0-9a-f]{64}")
RUN_ID = re.compile(r"[A-Za-z0-9]{1,64}")
_ARTIFACT_PATH = re.compile(r"mlpipe/[0-9a-f]{16}-[0-9a-f]{8}")

ARTIFACT_FOLDERS = ("mlpipe", "mlpipe_records")
"""Folders of ours among the artifacts of a run; below each, one folder a version."""

STATUS_TAG = "mlpipe.status"
LABELS_TAG = "mlpipe.labels"
REPORT_TAG = "mlpipe.report"
VERSION_TAG = "mlpipe.version"
NOTE_PREFIX = "mlpipe.note."


class ModelStatus(StrEnum):
    """Where a version stands in its life."""

    STAGED = "STAGED"
    PRODUCTION = "PRODUCTION"
    ARCHIVED = "ARCHIVED"
    FAILED = "FAILED"


@dataclass(frozen=True)
class ModelVersion:
    """One registered version.

    Attributes
    ----------
    version
        Its number, as text.
    status
        STAGED until promoted, FAILED when the gates refused it, PRODUCTION, then ARCHIVED.
    metrics
        As registered; NaN and infinities survive.
    feature_names
        The ordered schema.
    tags
        The labels given at registration, or since.
    digest
        SHA-256 of the bundle's manifest.
    created_at
        When it was registered (UTC).
    run_id
        The MLflow run that holds its files.
    notes
        What was noted since, else said when it was last promoted, rolled back to or archived, else
        at registration.
    report
        The last validation, or None.
    """

    name: str
    version: str
    status: ModelStatus
    metrics: Mapping[str, float]
    feature_names: tuple[str, ...]
    tags: tuple[str, ...]
    digest: str
    created_at: datetime
    run_id: str
    notes: str
    report: GateReport | None
    artifact_path: str = field(repr=False)
    edited_notes: str | None = field(repr=False)
    locate: Callable[[ModelVersion], Path] = field(repr=False, compare=False)

    @property
    def model_path(self) -> Path:
        """The verified bundle on this machine, fetched on first use.

        Raises
        ------
        BundleError
            The stored files are corrupt.
        RegistryError
            They cannot be read.
        """
        return self.locate(self)


def registration_tags(
    *,
    digest: str,
    artifact_path: str,
    metrics: Mapping[str, float],
    feature_names: Sequence[str],
    tags: Sequence[str],
    notes: str,
) -> dict[str, str]:
    """All tags of a new version. Few, because MLflow reads each as an object of its own."""
    described = {
        "digest": digest,
        "artifact_path": artifact_path,
        "metrics": {name: encode_float(value) for name, value in metrics.items()},
        "feature_names": list(feature_names),
        "tags": list(tags),
        "notes": notes,
    }
    return {STATUS_TAG: ModelStatus.STAGED.value, VERSION_TAG: encode(described)}


def read_version(
    found: Any, state: LedgerState, locate: Callable[[ModelVersion], Path]
) -> ModelVersion:
    """The version from its MLflow entity and the ledger's state.

    Raises
    ------
    RegistryError
        Its tags were not written by this package.
    """
    tags, number = found.tags, str(found.version)
    try:
        report = GateReport.from_dict(decode(tags[REPORT_TAG])) if REPORT_TAG in tags else None
        values = decode(tags[VERSION_TAG])
        labels = decode(tags[LABELS_TAG]) if LABELS_TAG in tags else {}
        return ModelVersion(
            name=str(found.name),
            version=number,
            status=status_of(number, report, state),
            metrics={name: float(value) for name, value in values["metrics"].items()},
            feature_names=tuple(map(str, values["feature_names"])),
            tags=tuple(map(str, labels.get("tags", values["tags"]))),
            digest=_matching(_DIGEST, values["digest"]),
            created_at=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
            run_id=_matching(RUN_ID, str(found.run_id)),
            notes=str(labels.get("notes", state.notes.get(number) or values["notes"])),
            report=report,
            edited_notes=None if labels.get("notes") is None else str(labels["notes"]),
            artifact_path=_matching(_ARTIFACT_PATH, values["artifact_path"]),
            locate=locate,
        )
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise RegistryError(
            f"Version {number} of {found.name} was not registered by this package, or its tags "
            f"were edited ({type(error).__name__}: {error}). Register the bundle again."
        ) from error


def _matching(pattern: re.Pattern[str], text: str) -> str:
    """`text`, which becomes part of a path, if it is what this package wrote."""
    if not pattern.fullmatch(text):
        raise ValueError(f"unexpected {text[:80]!r}")
    return text


def artifact_path_for(digest: str) -> str:
    """A new place among a run's artifacts for the bundle with this digest."""
    return f"mlpipe/{digest[:16]}-{uuid.uuid4().hex[:8]}"


def records_path(artifact_path: str) -> str:
    """Where among the same run's artifacts the records of a version are kept."""
    return f"mlpipe_records/{artifact_path.rpartition('/')[2]}"


def is_ours(found: Any) -> bool:
    """Whether an MLflow model version was registered by this package."""
    return VERSION_TAG in found.tags


def status_of(version: str, report: GateReport | None, state: LedgerState) -> ModelStatus:
    """The status by the ledger and the last report; the status tag is only a copy of it."""
    if version == state.production:
        return ModelStatus.PRODUCTION
    if version in state.retired:
        return ModelStatus.ARCHIVED
    if report is not None and not report.passed:
        return ModelStatus.FAILED
    return ModelStatus.STAGED


def encode(value: object) -> str:
    """JSON for a tag, compressed where it is long.

    Raises
    ------
    RegistryError
        Longer than MLflow keeps even so.
    """
    text = json.dumps(value, sort_keys=True, allow_nan=False, separators=(",", ":"))
    if len(text) > _MAX_PLAIN_LENGTH:
        text = _PACKED + base64.b64encode(zlib.compress(text.encode(), 9)).decode()
    if len(text) > MAX_TAG_LENGTH:
        raise RegistryError(
            f"Too much to keep with a version: {len(text)} characters, MLflow keeps "
            f"{MAX_TAG_LENGTH}. Give fewer metrics, features or tags."
        )
    return text


def decode(text: str) -> Any:
    """What `encode` was given.

    Raises
    ------
    ValueError
        Not written by `encode`.
    """
    if text.startswith(_PACKED):
        unpacker = zlib.decompressobj()
        try:
            data = unpacker.decompress(
                base64.b64decode(text.removeprefix(_PACKED)), _MAX_UNPACKED_BYTES
            )
        except zlib.error as error:
            raise ValueError(f"damaged: {error}") from error
        if not unpacker.eof:
            raise ValueError("damaged or too large")
        text = data.decode()
    return json.loads(text)


def encode_float(value: float) -> float | str:
    """`value`, or "NaN", "Infinity", "-Infinity": JSON has no others. `float()` reads each back."""
    if math.isfinite(value):
        return float(value)
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def plain_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics as plain floats; a `RegistryError` names what is no number."""
    try:
        return {str(name): float(value) for name, value in metrics.items()}
    except (TypeError, ValueError) as error:
        raise RegistryError(f"A metric is not a number: {error}. Give plain numbers.") from error
