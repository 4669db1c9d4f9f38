"""The life cycle of models on the MLflow Model Registry."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from freqtrade_mlpipe.config import GateConfig
from freqtrade_mlpipe.exceptions import RegistryError
from freqtrade_mlpipe.registry.bundle import Bundle, copy_bundle, load_bundle, verify_bundle
from freqtrade_mlpipe.registry.cache import LATEST, PRODUCTION, BundleCache
from freqtrade_mlpipe.registry.catalogue import MODEL_KIND, Catalogue, check_model_name
from freqtrade_mlpipe.registry.comparison import Contender, VersionComparison, compare
from freqtrade_mlpipe.registry.connection import Connection
from freqtrade_mlpipe.registry.evidence import Evidence, evidence_from_metrics
from freqtrade_mlpipe.registry.facts import contender_of
from freqtrade_mlpipe.registry.files import SIGNATURE_FILE
from freqtrade_mlpipe.registry.gates import GATES, METRIC_GATES, Gate, run_gates
from freqtrade_mlpipe.registry.ledger import LedgerEntry, LedgerState
from freqtrade_mlpipe.registry.record import Record, RecordKind
from freqtrade_mlpipe.registry.report import GateReport
from freqtrade_mlpipe.registry.signing import sign, signer_of
from freqtrade_mlpipe.registry.transitions import Decision, Transitions, VersionInUseError
from freqtrade_mlpipe.registry.upkeep import Problem, Prunable, Upkeep
from freqtrade_mlpipe.registry.versions import (
    LABELS_TAG,
    NOTE_PREFIX,
    REPORT_TAG,
    RUN_ID,
    STATUS_TAG,
    ModelVersion,
    artifact_path_for,
    decode,
    encode,
    read_version,
    registration_tags,
    status_of,
)


class ModelRegistry:
    """Registered models, their versions and which one is in production.

    Parameters
    ----------
    tracking_uri
        An MLflow server or database; None means a SQLite file and a folder of artifacts below
        `directory`.
    directory
        The registry's folder; it also holds the cache of verified bundles.
    trusted_keys
        Public keys of which one must have signed what is loaded or put into production; None: no
        signature is asked for.
    """

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
        self._transitions = Transitions(self._catalogue)
        self._upkeep = Upkeep(self._catalogue, self._transitions)

    def register_model(
        self,
        *,
        model_name: str,
        model_path: Path | str,
        metrics: Mapping[str, float] | None = None,
        feature_names: Sequence[str] | None = None,
        tags: Sequence[str] = (),
        notes: str = "",
        run_id: str | None = None,
        description: str = "",
        record: Record | None = None,
    ) -> ModelVersion:
        """Copy a bundle into the registry as a new STAGED version.

        The version appears last, with all its tags at once: an interrupted call leaves none.

        Parameters
        ----------
        model_name
            Letters, digits, `_`, `.`, `-`.
        model_path
            A bundle: a folder written by `save_model` or `write_bundle`.
        metrics
            Measurements to keep with it; names of the trainer's, and `backtest_sharpe`,
            `backtest_trades`, `backtest_max_drawdown`, `backtest_profit_factor` for a backtest.
        feature_names
            If given, must be the bundle's own schema.
        tags
            Labels.
        run_id
            The MLflow run (in the same store) to keep the files in; None makes one.
        description
            Markdown that the MLflow UI shows with the version.
        record
            What training measured, for `read_record(version, "training")`.

        Raises
        ------
        BundleError
            `model_path` is not a sound bundle.
        RegistryError
            A bad name or metric, or another feature schema.
        """
        check_model_name(model_name)
        folder = Path(model_path)
        manifest, digest, _ = verify_bundle(folder)
        if feature_names is not None and tuple(feature_names) != manifest.features:
            raise RegistryError(
                f"feature_names are not the bundle's: found {len(feature_names)} names, the bundle "
                f"was trained on {len(manifest.features)}. Leave feature_names out, or give the "
                "names the model was trained with, in order."
            )
        artifact_path = artifact_path_for(digest)
        described = registration_tags(
            digest=digest,
            artifact_path=artifact_path,
            metrics=_floats(metrics or {}),
            feature_names=manifest.features,
            tags=[tags] if isinstance(tags, str) else [str(tag) for tag in tags],
            notes=notes,
        )
        self._connection.ensure_model(model_name, MODEL_KIND)
        run = self._connection.upload(folder, artifact_path, run_id, f"{model_name} bundle")
        if record is not None:
            self._catalogue.keep_record(run, artifact_path, "training", record)
        found = self._connection.create_version(
            model_name, described, source=f"mlpipe:/{run}/{artifact_path}", run_id=run,
            description=description,
        )  # fmt: skip
        return read_version(found, LedgerState(), self._catalogue.locate)

    def validate_model(
        self,
        name: str,
        version: str | int,
        *,
        min_metrics: Mapping[str, float] | None = None,
        min_backtest_sharpe: float | None = None,
        min_backtest_trades: int | None = None,
        min_profit_factor: float | None = None,
        max_drawdown: float | None = None,
        metrics: Mapping[str, float] | None = None,
        now: datetime | None = None,
    ) -> GateReport:
        """Judge a version by measurements of one's own, and keep the report with it.

        Only the thresholds given are judged, on the metrics registered with the version; at least
        one must be given. A metric that is missing or NaN fails. A version that fails is FAILED
        until it is validated again.

        Parameters
        ----------
        min_metrics
            Smallest value of each metric by name.
        min_backtest_sharpe, min_backtest_trades, min_profit_factor, max_drawdown
            For the metrics `backtest_sharpe`, `backtest_trades`, `backtest_profit_factor` and
            `backtest_max_drawdown`.
        metrics
            Further metrics, or newer values.

        Raises
        ------
        RegistryError
            No such version, or no threshold given.
        """
        thresholds = {
            "min_backtest_sharpe": min_backtest_sharpe,
            "min_backtest_trades": min_backtest_trades,
            "min_profit_factor": min_profit_factor,
            "max_drawdown": max_drawdown,
        }
        if not min_metrics and all(limit is None for limit in thresholds.values()):
            raise RegistryError(
                "validate_model was given no threshold, and nothing cannot be passed. Give "
                "min_metrics, min_backtest_sharpe or another."
            )
        chosen = self.get_version(name, version)
        config = GateConfig(min_metrics=dict(min_metrics or {}), **thresholds)
        evidence = evidence_from_metrics({**chosen.metrics, **_floats(metrics or {})})
        report = run_gates(
            evidence,
            config,
            now or datetime.now(UTC),
            digest=chosen.digest,
            gates=METRIC_GATES,
        )
        return self._keep_report(chosen, report)

    def validate_with_evidence(
        self,
        name: str,
        version: str | int,
        evidence: Evidence,
        config: GateConfig | None = None,
        *,
        custom_gates: Sequence[Gate] = (),
        now: datetime | None = None,
    ) -> GateReport:
        """Judge a version by all gates, and keep the report with it.

        Parameters
        ----------
        custom_gates
            Further gates, from `load_custom_gates`.

        Raises
        ------
        RegistryError
            No such version.
        """
        state = self._catalogue.ledger(name).read()
        chosen = self._catalogue.find(name, str(version), state)
        if evidence.champion_version is None and state.production != chosen.version:
            evidence = replace(evidence, champion_version=state.production)
        if evidence.backtest and evidence.backtest.start and evidence.backtest.end:
            span = (evidence.backtest.start, evidence.backtest.end)
            uses = self._catalogue.count_use(name, chosen.version, span)
            evidence = replace(evidence, window_uses=uses)
        report = run_gates(
            evidence,
            config or GateConfig(),
            now or datetime.now(UTC),
            digest=chosen.digest,
            gates=(*GATES, *custom_gates),
        )
        return self._keep_report(chosen, report)

    def promote_to_production(
        self,
        name: str,
        version: str | int,
        notes: str = "",
        force_reason: str | None = None,
        *,
        actor: str | None = None,
        now: datetime | None = None,
    ) -> ModelVersion:
        """Put a validated version into production; the version itself.

        Promoting what is in production already changes nothing.

        Parameters
        ----------
        force_reason
            Promotes without a passed report; recorded in the history.
        actor
            Who decides; the user's login by default.
        now
            The current time (UTC), against which the report must not have expired.

        Raises
        ------
        GateRefusedError
            The gates refused it.
        RegistryError
            Unknown version, no report, or an expired one.
        BundleError
            Its files are corrupt in the registry.
        PromotionConflictError
            Someone else put another version into production in between.
        """
        if force_reason is not None and not force_reason.strip():
            raise RegistryError("force_reason is empty. Say why the gates are overridden.")
        decision = Decision(
            reason=notes if force_reason is None else force_reason,
            actor=actor,
            now=now or datetime.now(UTC),
            forced=force_reason is not None,
        )
        self._transitions.promote(name, str(version), decision)
        return self.get_version(name, version)

    def rollback_to_version(
        self,
        name: str,
        version: str | int | None = None,
        *,
        reason: str = "",
        actor: str | None = None,
        now: datetime | None = None,
    ) -> ModelVersion:
        """Put a version that was in production before back into production; that version.

        Parameters
        ----------
        version
            None: the one before the present one. Rolling back again goes further back.

        Raises
        ------
        RegistryError
            Nothing to roll back to, or the version never was in production.
        BundleError
            Its files are corrupt in the registry.
        PromotionConflictError
            Someone else put another version into production in between.
        """
        decision = Decision(reason=reason, actor=actor, now=now or datetime.now(UTC))
        target = None if version is None else str(version)
        state = self._transitions.rollback(name, target, decision)
        return self._catalogue.find(name, str(state.production), state)

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

    def keep_record(self, version: ModelVersion, kind: RecordKind, record: Record) -> None:
        """Keep what was measured on a version beside its bundle; replaces one of the same kind."""
        self._catalogue.keep_record(version.run_id, version.artifact_path, kind, record)

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

    def get_model_history(self, name: str) -> tuple[LedgerEntry, ...]:
        """Every promotion, rollback, archiving and deletion that counted, oldest first.

        Raises
        ------
        RegistryError
            No such model, or a damaged ledger.
        """
        self._catalogue.require_model(name)
        return self._catalogue.ledger(name).read().entries

    def get_model_names(self) -> list[str]:
        """The names of all registered models, sorted."""
        return self._catalogue.names()

    def archive_model(
        self, name: str, version: str | int, *, reason: str = "", actor: str | None = None
    ) -> ModelVersion:
        """Take a version out of consideration; the version.

        Raises
        ------
        RegistryError
            Unknown, or in production.
        """
        decision = Decision(reason=reason, actor=actor, now=datetime.now(UTC))
        self._transitions.retire("archive", name, str(version), decision)
        return self.get_version(name, version)

    def delete_model(
        self, name: str, version: str | int, *, reason: str = "", actor: str | None = None
    ) -> None:
        """Delete a version and its files for good. The history keeps that it was.

        Raises
        ------
        RegistryError
            Unknown, or in production.
        """
        decision = Decision(reason=reason, actor=actor, now=datetime.now(UTC))
        self._transitions.retire("delete", name, str(version), decision)

    def tag_model(
        self,
        name: str,
        version: str | int,
        *,
        add: Sequence[str] = (),
        remove: Sequence[str] = (),
        notes: str | None = None,
    ) -> ModelVersion:
        """Change the labels and the note of a version; the version.

        Raises
        ------
        RegistryError
            No such version, a label to remove that it does not have, or an empty label.
        """
        chosen = self.get_version(name, version)
        if any(not label.strip() for label in add):
            raise RegistryError("A tag is empty. Give a word.")
        unknown = [label for label in remove if label not in chosen.tags]
        if unknown:
            raise RegistryError(
                f"Version {version} of {name} has no tag {unknown[0]!r}. "
                f"It has: {', '.join(chosen.tags) or 'none'}."
            )
        tags = [label for label in dict.fromkeys((*chosen.tags, *add)) if label not in remove]
        labels: dict[str, object] = {"tags": tags}
        note = notes if notes is not None else chosen.edited_notes
        if note is not None:
            labels["notes"] = note
        self._connection.set_tag(name, chosen.version, LABELS_TAG, encode(labels))
        return self.get_version(name, version)

    def sign_model(self, name: str, version: str | int, key_file: Path | str) -> str:
        """Sign the verified files of a version; the public key.

        Raises
        ------
        RegistryError
            No such version.
        BundleError
            Its files are corrupt in the registry.
        ConfigError
            The key file is missing, no Ed25519 key, or readable by others.
        """
        chosen = self.get_version(name, version)
        signature = sign(chosen.digest, key_file)
        self._catalogue.refresh(chosen)
        with tempfile.TemporaryDirectory(prefix="mlpipe-") as folder:
            path = Path(folder) / SIGNATURE_FILE
            path.write_bytes(signature.to_bytes())
            self._connection.upload_file(path, chosen.artifact_path, chosen.run_id)
        self._catalogue.cache.add_signature(chosen.digest, signature.to_bytes())
        return signature.public_key

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
        return signer_of(self._catalogue.refresh(chosen), chosen.digest)

    def plan_prune(self, name: str, keep: int) -> list[Prunable]:
        """What `prune` would delete: not in production, not the version a rollback goes back to,
        without tags, and not among the `keep` newest.

        Raises
        ------
        RegistryError
            No such model.
        """
        return self._upkeep.prunable(name, keep)

    def prune(self, name: str, keep: int, *, actor: str | None = None) -> list[Prunable]:
        """Delete what `plan_prune` names, with its files; what was deleted.

        A version that someone promoted in between is left alone.
        """
        gone = []
        for item in self.plan_prune(name, keep):
            with suppress(VersionInUseError):
                reason = f"pruned, keeping the last {keep}"
                self.delete_model(name, item.version.version, reason=reason, actor=actor)
                gone.append(item)
        return gone

    def bytes_of(self, version: ModelVersion) -> int:
        """Bytes of a version's files in the store."""
        return self._upkeep.bytes_of(version)

    def doctor(self, *, mend: bool = False, now: datetime | None = None) -> list[Problem]:
        """What interrupted processes and other hands left behind; with `mend`, removed or repaired.

        Looks at aliases, status tags, deletions, ledger entries, artifacts, the cache and unfinished
        files. What is younger than an hour (an unfinished run: a day) is left alone.
        """
        return self._upkeep.examine(now or datetime.now(UTC), mend=mend)

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

    def resolve(self, name: str, wanted: str) -> tuple[str, str]:
        """Version and digest of `wanted`: a number, "latest" or "production".

        Raises
        ------
        RegistryError
            No such version, or nothing in production.
        """
        if wanted == PRODUCTION:
            last = self._catalogue.ledger(name).last()
            if last is None or last.production is None or last.digest is None:
                self._catalogue.require_model(name)
                raise RegistryError(
                    f"{name} has no production version. Promote one first, or pin a version."
                )
            return last.production, last.digest
        chosen = (
            self.get_all_versions(name)[:1]
            if wanted == LATEST
            else [self.get_version(name, wanted)]
        )
        if not chosen:
            raise RegistryError(f"{name} has no version yet. Register one first.")
        return chosen[0].version, chosen[0].digest

    def copy_to(self, name: str, version: str, folder: Path) -> Path:
        """Copy a version's files as they are, unverified, into `folder`; their path."""
        found = self._catalogue.find(name, version, LedgerState())
        return self._connection.download(found.run_id, found.artifact_path, folder)

    def annotate(
        self, name: str, version: str | int, key: str, value: Mapping[str, object]
    ) -> None:
        """Keep a note (JSON types) with a version under the tag `mlpipe.<key>`; a later one replaces it.

        Raises
        ------
        RegistryError
            No such version.
        """
        chosen = self.get_version(name, version)
        self._connection.set_tag(name, chosen.version, f"{NOTE_PREFIX}{key}", encode(dict(value)))

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

    def reconcile(self, name: str) -> LedgerState:
        """Repair what a killed process left undone: alias, status tags, unfinished deletions.

        Everything here is derived from the ledger, which decides.
        """
        return self._transitions.reconcile(name)

    def _keep_report(self, chosen: ModelVersion, report: GateReport) -> GateReport:
        self._connection.set_tag(chosen.name, chosen.version, REPORT_TAG, encode(report.to_dict()))
        status = status_of(chosen.version, report, self._catalogue.ledger(chosen.name).read())
        self._connection.set_tag(chosen.name, chosen.version, STATUS_TAG, status.value)
        return report


def _floats(metrics: Mapping[str, float]) -> dict[str, float]:
    try:
        return {str(name): float(value) for name, value in metrics.items()}
    except (TypeError, ValueError) as error:
        raise RegistryError(f"A metric is not a number: {error}. Give plain numbers.") from error
