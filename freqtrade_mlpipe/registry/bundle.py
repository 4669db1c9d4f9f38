"""A bundle: one trained model with everything it needs to predict, as a folder of plain files.

`manifest.json` lists the SHA-256 and size of every other file; the SHA-256 of the manifest is the
bundle's digest and so vouches for all of them. Nothing in a bundle is executable. Here it is described
and written; `verification` checks one, `loading` reads one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from pydantic import ValidationError

from freqtrade_mlpipe.config import FeatureConfig, LabelConfig, ModelConfig, Scope
from freqtrade_mlpipe.exceptions import BundleError
from freqtrade_mlpipe.registry import selftest
from freqtrade_mlpipe.registry.baseline import BASELINE_FILE
from freqtrade_mlpipe.registry.files import check_name, sha256, write_folder
from freqtrade_mlpipe.registry.manifest import (
    FORMAT_VERSION,
    MANIFEST_FILE,
    FileEntry,
    Manifest,
    MemberEntry,
)
from freqtrade_mlpipe.registry.selftest import ComputeFeatures, SelfTest

if TYPE_CHECKING:
    from freqtrade_mlpipe.member import Member, Prediction


@dataclass(frozen=True, eq=False)
class BundleContent:
    """What goes into a bundle.

    Attributes
    ----------
    members
        Walk-forward members in time order, the production member last.
    feature_names
        The ordered schema: the columns of the matrix the members predict from.
    created_at
        Time zone aware; given, not read from the clock, so that equal content gives equal bytes.
    train_start, train_end
        First and last training candle of the production member (UTC).
    final_window_start
        First candle of the window that training never saw.
    data_hash
        SHA-256 of the training candles.
    drift_baseline
        From `drift_baseline`.
    self_test
        From `selftest_from_candles` or `selftest_from_rows`. A bundle without one is never served.
    """

    model_name: str
    members: Sequence[Member]
    feature_names: Sequence[str]
    created_at: datetime
    pairs: Sequence[str] = ()
    timeframe: str | None = None
    scope: Scope = "pooled"
    feature_config: FeatureConfig = field(default_factory=FeatureConfig)
    label_config: LabelConfig = field(default_factory=LabelConfig)
    model_config: ModelConfig = field(default_factory=ModelConfig)
    train_start: pd.Timestamp | None = None
    train_end: pd.Timestamp | None = None
    final_window_start: pd.Timestamp | None = None
    data_hash: str | None = None
    git_revision: str | None = None
    package_versions: Mapping[str, str] = field(default_factory=dict)
    drift_baseline: Mapping[str, object] | None = None
    self_test: SelfTest | None = None


@dataclass(frozen=True, eq=False)
class Bundle:
    """A loaded bundle: every file verified, every member parsed.

    Attributes
    ----------
    directory
        Where it was read from.
    digest
        SHA-256 of its manifest.
    members
        As `BundleContent.members`.
    """

    directory: Path
    digest: str
    manifest: Manifest
    members: tuple[Member, ...]
    drift_baseline: Mapping[str, Any] | None
    selftest: SelfTest | None

    def predict(self, X: pd.DataFrame, dates: pd.DatetimeIndex) -> Prediction:
        """Probabilities and signals, each candle by the member whose validity span covers it.

        Parameters
        ----------
        X
            Features, shape (rows, features), with the columns of `manifest.features`.
        dates
            Open time of each row's candle (UTC).
        """
        from freqtrade_mlpipe.member import predict

        return predict(self.members, X, dates)

    def self_test(self, compute: ComputeFeatures | None = None) -> None:
        """Recompute the stored features and probabilities.

        Parameters
        ----------
        compute
            Candles of one pair, the pair's name and the other frames → its features. Needed unless
            the bundle was made without candles.

        Raises
        ------
        BundleError
            A difference beyond tolerance (the columns are named), or no self-test in the bundle.
        """
        if self.selftest is None:
            raise BundleError(
                f"The bundle {self.directory} carries no self-test and cannot be trusted. "
                "Write it again with one."
            )
        self.selftest.run(self.members, compute)


def write_bundle(directory: Path | str, content: BundleContent, *, synced: bool = True) -> str:
    """Write `content` as the new folder `directory`, whole or not at all.

    Equal content gives equal bytes. `synced`: see `write_folder`.

    Returns
    -------
    str
        The digest: SHA-256 of manifest.json, which covers every file.

    Raises
    ------
    BundleError
        `directory` exists and is not empty, there is no member, or the content cannot be described.
    """
    files, digest = bundle_files(content)
    write_folder(Path(directory), files, synced=synced)
    return digest


def bundle_files(content: BundleContent) -> tuple[dict[str, bytes], str]:
    """The files of a bundle by name, the manifest last, and its digest: see `write_bundle`."""
    files: dict[str, bytes] = {}
    for k, member in enumerate(content.members):
        files |= {f"members/{k}/{name}": data for name, data in member.to_files().items()}
    if content.drift_baseline is not None:
        files[BASELINE_FILE] = _canonical_json(content.drift_baseline)
    if content.self_test is not None:
        files |= selftest.to_files(content.self_test)
    for name in files:
        check_name(name)
    manifest = _canonical_json(_describe(content, files).model_dump(mode="json"))
    return {**files, MANIFEST_FILE: manifest}, sha256(manifest)


def member_entry(member: Member) -> MemberEntry:
    """What the manifest says of a member."""
    return MemberEntry(
        model_type=member.model_type,
        train_start=_moment(member.train_start),
        train_end=_moment(member.train_end),
        valid_from=_moment(member.valid_from),
        valid_to=_moment(member.valid_to),
        n_train_rows=member.n_train_rows,
    )


def _describe(content: BundleContent, files: Mapping[str, bytes]) -> Manifest:
    try:
        return Manifest(
            format_version=FORMAT_VERSION,
            model_name=content.model_name,
            created_at=content.created_at,
            scope=content.scope,
            pairs=tuple(content.pairs),
            timeframe=content.timeframe,
            features=tuple(content.feature_names),
            feature_settings=content.feature_config.model_dump(mode="json"),
            label_settings=content.label_config.model_dump(mode="json"),
            model_settings=content.model_config.model_dump(mode="json"),
            train_start=_moment(content.train_start),
            train_end=_moment(content.train_end),
            final_window_start=_moment(content.final_window_start),
            members=tuple(member_entry(member) for member in content.members),
            package_versions=dict(sorted(content.package_versions.items())),
            git_revision=content.git_revision,
            data_hash=content.data_hash,
            files={
                name: FileEntry(sha256=sha256(data), size=len(data))
                for name, data in sorted(files.items())
            },
        )
    except ValidationError as error:
        raise BundleError(f"This model cannot be bundled: {error}") from error


def _moment(value: pd.Timestamp | None) -> datetime | None:
    if value is None or pd.isna(value):
        return None
    moment = value.tz_localize("UTC") if value.tzinfo is None else value.tz_convert("UTC")
    return moment.to_pydatetime(warn=False)


def _canonical_json(value: object) -> bytes:
    # With an indent json falls back to its encoder in Python, twenty times as slow.
    text = json.dumps(
        value, sort_keys=True, allow_nan=False, ensure_ascii=False, separators=(",", ":")
    )
    return text.encode() + b"\n"
