"""The description of a bundle: what it was made from, and the digest of every file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from freqtrade_mlpipe.config import FeatureConfig, LabelConfig, Scope
from freqtrade_mlpipe.exceptions import BundleError
from freqtrade_mlpipe.registry.baseline import BASELINE_FILE
from freqtrade_mlpipe.registry.files import Sha256, check_name
from freqtrade_mlpipe.registry.selftest import CANDLES_FILE, EXPECTED_FILE, FRAMES_FILE

FORMAT_VERSION = 1
MANIFEST_FILE = "manifest.json"
MAX_MANIFEST_BYTES = 4 * 1024**2

_PARTS = (BASELINE_FILE, CANDLES_FILE, EXPECTED_FILE, FRAMES_FILE)
_Text = Annotated[str, Field(max_length=500)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class FileEntry(_Frozen):
    """What the manifest says of one file."""

    sha256: Sha256
    size: int = Field(ge=0)


class MemberEntry(_Frozen):
    """One member: what it was trained on and which candles it may predict (UTC, end exclusive)."""

    model_type: _Text
    train_start: AwareDatetime | None
    train_end: AwareDatetime | None
    valid_from: AwareDatetime | None
    valid_to: AwareDatetime | None
    n_train_rows: int = Field(ge=0)


class Manifest(_Frozen):
    """The description of a bundle. Times are UTC; `features` is the ordered schema."""

    format_version: Literal[1]
    model_name: _Text
    created_at: AwareDatetime
    scope: Scope
    pairs: tuple[_Text, ...] = Field(max_length=5_000)
    timeframe: _Text | None
    features: tuple[_Text, ...] = Field(min_length=1, max_length=20_000)
    feature_settings: dict[str, Any]
    label_settings: dict[str, Any]
    model_settings: dict[str, Any]
    train_start: AwareDatetime | None
    train_end: AwareDatetime | None
    final_window_start: AwareDatetime | None
    members: tuple[MemberEntry, ...] = Field(min_length=1, max_length=200)
    package_versions: dict[str, str]
    git_revision: _Text | None
    data_hash: _Text | None
    files: dict[str, FileEntry]

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if len(set(self.features)) != len(self.features):
            raise ValueError("the feature schema names a column twice")
        folders = {f"members/{k}" for k in range(len(self.members))}
        for name in self.files:
            if name not in _PARTS and name.rpartition("/")[0] not in folders:
                raise ValueError(f"{check_name(name)} is no part of a bundle")
        return self

    def feature_config(self) -> FeatureConfig:
        """The feature configuration the model was trained with."""
        return FeatureConfig(**self.feature_settings)

    def label_config(self) -> LabelConfig:
        """The label configuration the model was trained with."""
        return LabelConfig(**self.label_settings)


def parse_manifest(root: Path, data: bytes) -> Manifest:
    """The manifest of the bundle in folder `root` from the bytes of its file.

    Raises
    ------
    BundleError
        Another format version, or not a manifest.
    """
    try:
        values = json.loads(data)
        version = values.get("format_version") if isinstance(values, dict) else None
        if version != FORMAT_VERSION:
            raise BundleError(
                f"The bundle {root} has format version {version!r}; this release reads "
                f"{FORMAT_VERSION}. Install the release that wrote it, or train again."
            )
        return Manifest(**values)
    except (ValueError, TypeError, RecursionError) as error:  # JSON, UTF-8 and schema errors
        raise BundleError(
            f"{root / MANIFEST_FILE} cannot be read: {str(error)[:300]}. Get the bundle again."
        ) from error
