"""The life cycle of models on the MLflow Model Registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Self

from freqtrade_mlpipe.config import GateConfig, RegistryConfig
from freqtrade_mlpipe.exceptions import RegistryError
from freqtrade_mlpipe.registry.catalogue import MODEL_KIND, check_model_name
from freqtrade_mlpipe.registry.evidence import Evidence
from freqtrade_mlpipe.registry.gates import Gate
from freqtrade_mlpipe.registry.ledger import LedgerState
from freqtrade_mlpipe.registry.notes import RegistryNotes
from freqtrade_mlpipe.registry.record import Record
from freqtrade_mlpipe.registry.report import GateReport
from freqtrade_mlpipe.registry.transitions import Decision, Transitions, VersionInUseError
from freqtrade_mlpipe.registry.upkeep import Problem, Prunable, Upkeep
from freqtrade_mlpipe.registry.validation import judge_evidence, judge_metrics, keep_report
from freqtrade_mlpipe.registry.verification import verify_bundle
from freqtrade_mlpipe.registry.versions import (
    ModelVersion,
    artifact_path_for,
    plain_metrics,
    read_version,
    registration_tags,
)


class ModelRegistry(RegistryNotes):
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

    @classmethod
    def of(cls, settings: RegistryConfig) -> Self:
        """The registry of a configuration."""
        return cls(settings.tracking_uri, settings.directory, trusted_keys=settings.required_keys)

    @cached_property
    def _transitions(self) -> Transitions:
        return Transitions(self._catalogue)

    @cached_property
    def _upkeep(self) -> Upkeep:
        return Upkeep(self._catalogue, self._transitions)

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
            metrics=plain_metrics(metrics or {}),
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
        BundleError
            Its files are damaged in the store; its status stays.
        """
        limits = {
            "min_backtest_sharpe": min_backtest_sharpe,
            "min_backtest_trades": min_backtest_trades,
            "min_profit_factor": min_profit_factor,
            "max_drawdown": max_drawdown,
        }
        chosen = self.get_version(name, version)
        report = judge_metrics(chosen, min_metrics, limits, metrics, now or datetime.now(UTC))
        return keep_report(self._catalogue, chosen, report)

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
        BundleError
            Its files are damaged in the store; its status stays.
        """
        judged = judge_evidence(
            self._catalogue, name, str(version), evidence, config or GateConfig(), custom_gates,
            now or datetime.now(UTC),
        )  # fmt: skip
        return keep_report(self._catalogue, *judged)

    def keep_report(self, version: ModelVersion, report: GateReport) -> GateReport:
        """Keep the verdict of gates that were run elsewhere with the version they judged.

        Raises
        ------
        RegistryError
            The report is of another bundle.
        BundleError
            Its files are damaged in the store; its status stays.
        """
        if report.digest != version.digest:
            raise RegistryError(
                f"The report is of the bundle {report.digest[:12]}…, version {version.version} of {version.name} is "
                f"{version.digest[:12]}…. Judge this version."
            )
        return keep_report(self._catalogue, version, report)

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

        Promoting what is in production already changes nothing, but its stored files are checked.

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

    def set_challenger(
        self,
        name: str,
        version: str | int,
        *,
        reason: str = "",
        actor: str | None = None,
        now: datetime | None = None,
    ) -> ModelVersion:
        """Let bots predict a version beside production, without trading it; the version.

        There is one challenger, or none. It needs no validation, and ends when it is promoted, archived or deleted.

        Raises
        ------
        RegistryError
            Unknown, or in production.
        BundleError
            Its files are corrupt in the registry.
        """
        decision = Decision(reason=reason, actor=actor, now=now or datetime.now(UTC))
        self._transitions.challenge(name, str(version), decision)
        return self.get_version(name, version)

    def remove_challenger(
        self,
        name: str,
        *,
        reason: str = "",
        actor: str | None = None,
        now: datetime | None = None,
    ) -> None:
        """Let bots predict nothing beside production any more; does nothing where there is no challenger.

        Raises
        ------
        RegistryError
            No such model.
        """
        decision = Decision(reason=reason, actor=actor, now=now or datetime.now(UTC))
        self._transitions.withdraw(name, decision)

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

    def plan_prune(self, name: str, keep: int) -> list[Prunable]:
        """What `prune` would delete: not in production, not the challenger, not the version a rollback
        goes back to, without tags, and not among the `keep` newest.

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

    def doctor(
        self, *, mend: bool = False, every: bool = False, now: datetime | None = None
    ) -> list[Problem]:
        """What interrupted processes and other hands left behind; with `mend`, removed or repaired.

        Looks at aliases, status tags, deletions, ledger entries, artifacts, the cache, unfinished
        files and the journals of searches. What is younger than an hour (an unfinished run: a day, a journal: thirty)
        is left alone. Damaged files of a version are restored from the cache where it holds them.

        Parameters
        ----------
        every
            Read the stored files of every version, not only of those that bots read or may soon: production,
            the version before it and the challenger. Of the others it is only seen whether they are there.

        Raises
        ------
        BundleError
            What was restored is damaged again.
        RegistryUnavailableError
            The store does not answer.
        """
        return self._upkeep.examine(now or datetime.now(UTC), mend=mend, every=every)

    def reconcile(self, name: str) -> LedgerState:
        """Repair what a killed process left undone: alias, status tags, unfinished deletions.

        Everything here is derived from the ledger, which decides.
        """
        return self._transitions.reconcile(name)
