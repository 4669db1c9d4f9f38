"""The life cycle of models on the MLflow Model Registry."""

from __future__ import annotations

import getpass
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from freqtrade_mlpipe.config import GateConfig
from freqtrade_mlpipe.exceptions import GateRefusedError, PromotionConflictError, RegistryError
from freqtrade_mlpipe.registry.bundle import Bundle, copy_bundle, load_bundle, verify_bundle
from freqtrade_mlpipe.registry.cache import LATEST, PRODUCTION, BundleCache
from freqtrade_mlpipe.registry.connection import Connection
from freqtrade_mlpipe.registry.evidence import Evidence, evidence_from_metrics
from freqtrade_mlpipe.registry.gates import METRIC_GATES, run_gates
from freqtrade_mlpipe.registry.ledger import SUFFIX, Action, Ledger, LedgerEntry, LedgerState
from freqtrade_mlpipe.registry.report import GateReport
from freqtrade_mlpipe.registry.versions import (
    REPORT_TAG,
    STATUS_TAG,
    ModelStatus,
    ModelVersion,
    encode,
    is_ours,
    read_version,
    registration_tags,
    status_of,
)

ALIAS = "production"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_ATTEMPTS = 20


class ModelRegistry:
    """Registered models, their versions and which one is in production.

    Parameters
    ----------
    tracking_uri
        An MLflow server or database; None means a SQLite file and a folder of artifacts below
        `directory`.
    directory
        The registry's folder; it also holds the cache of verified bundles.
    """

    def __init__(
        self, tracking_uri: str | None = None, directory: Path | str = "user_data/mlpipe"
    ) -> None:
        self.directory = Path(directory).absolute()
        self._connection = Connection(tracking_uri, self.directory)
        self._cache = BundleCache(self.directory, tracking_uri)

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

        Raises
        ------
        BundleError
            `model_path` is not a sound bundle.
        RegistryError
            A bad name or metric, or another feature schema.
        """
        _check_name(model_name)
        folder = Path(model_path)
        manifest, digest, _ = verify_bundle(folder)
        if feature_names is not None and tuple(feature_names) != manifest.features:
            raise RegistryError(
                f"feature_names are not the bundle's: found {len(feature_names)} names, the bundle "
                f"was trained on {len(manifest.features)}. Leave feature_names out, or give the "
                "names the model was trained with, in order."
            )
        artifact_path = f"mlpipe/{digest[:16]}-{uuid.uuid4().hex[:8]}"
        described = registration_tags(
            digest=digest,
            artifact_path=artifact_path,
            metrics=_floats(metrics or {}),
            feature_names=manifest.features,
            tags=[str(tag) for tag in tags],
            notes=notes,
        )
        self._connection.ensure_model(model_name, "model")
        run = self._connection.upload(folder, artifact_path, run_id, f"{model_name} bundle")
        found = self._connection.create_version(
            model_name, described, source=f"mlpipe:/{run}/{artifact_path}", run_id=run
        )
        return read_version(found, LedgerState(), self._locate)

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
        now: datetime | None = None,
    ) -> GateReport:
        """Judge a version by all gates, and keep the report with it.

        Raises
        ------
        RegistryError
            No such version.
        """
        chosen = self.get_version(name, version)
        moment = now or datetime.now(UTC)
        report = run_gates(evidence, config or GateConfig(), moment, digest=chosen.digest)
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
        moment = now or datetime.now(UTC)

        def decide(state: LedgerState) -> LedgerEntry | None:
            chosen = self._existing(name, str(version), state)
            if chosen.status is ModelStatus.PRODUCTION:
                return None
            if force_reason is None:
                _require_report(chosen, moment)
            self._check_stored(chosen)
            return _entry(
                "promote",
                chosen,
                state,
                actor=actor,
                reason=force_reason or notes,
                forced=force_reason is not None,
                now=moment,
            )

        self._decide(name, decide)
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
        moment = now or datetime.now(UTC)

        def decide(state: LedgerState) -> LedgerEntry | None:
            target = state.rollback_target() if version is None else str(version)
            if target is None:
                raise RegistryError(
                    f"{name} has no earlier production version to roll back to. Promote another "
                    "version, or stop the bot."
                )
            chosen = self._existing(name, target, state)
            if chosen.status is ModelStatus.PRODUCTION:
                return None
            if state.digest_of(target) is None:
                raise RegistryError(
                    f"Version {target} of {name} never was in production, so there is nothing to "
                    "roll back to. Validate and promote it."
                )
            self._check_stored(chosen)
            return _entry(
                "rollback", chosen, state, actor=actor, reason=reason, forced=False, now=moment
            )

        state = self._decide(name, decide)
        if state.production is None:
            raise RegistryError(f"{name} has no production version.")
        return self.get_version(name, state.production)

    def get_production_model(self, name: str) -> ModelVersion | None:
        """The version in production, or None (also for a model that does not exist)."""
        last = Ledger(self._connection, name).last() if _NAME.fullmatch(name) else None
        if last is None or last.production is None:
            return None
        found = self._connection.get_version(name, last.production)
        if found is None:
            raise RegistryError(
                f"Version {last.production} of {name} is in production but was deleted in MLflow. "
                "Roll back to another version."
            )
        state = LedgerState(production=last.production, digest=last.digest, entries=(last,))
        return read_version(found, state, self._locate)

    def get_version(self, name: str, version: str | int) -> ModelVersion:
        """One version.

        Raises
        ------
        RegistryError
            No such model or version; the message names those there are.
        """
        return self._existing(name, str(version), self._ledger(name).read())

    def get_all_versions(self, name: str) -> list[ModelVersion]:
        """All versions, newest first.

        Raises
        ------
        RegistryError
            No such model; the message names those there are.
        """
        self._require_model(name)
        state = self._ledger(name).read()
        return [
            read_version(found, state, self._locate)
            for found in self._connection.list_versions(name)
            if is_ours(found) and str(found.version) not in state.deleted
        ]

    def get_model_history(self, name: str) -> tuple[LedgerEntry, ...]:
        """Every promotion, rollback, archiving and deletion that counted, oldest first.

        Raises
        ------
        RegistryError
            No such model, or a damaged ledger.
        """
        self._require_model(name)
        return self._ledger(name).read().entries

    def get_model_names(self) -> list[str]:
        """The names of all registered models, sorted."""
        return self._connection.model_names("model")

    def archive_model(
        self, name: str, version: str | int, *, reason: str = "", actor: str | None = None
    ) -> ModelVersion:
        """Take a version out of consideration; the version.

        Raises
        ------
        RegistryError
            Unknown, or in production.
        """
        self._retire("archive", name, str(version), reason, actor)
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
        self._retire("delete", name, str(version), reason, actor)
        self._finish_deletion(name, str(version))

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
        return load_bundle(chosen.model_path, expect_digest=chosen.digest)

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
            last = self._ledger(name).last()
            if last is None or last.production is None or last.digest is None:
                self._require_model(name)
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
        found = self._existing(name, version, LedgerState())
        return self._connection.download(found.run_id, found.artifact_path, folder)

    def reconcile(self, name: str) -> LedgerState:
        """Repair what a killed process left undone: alias, status tags, unfinished deletions.

        Everything here is derived from the ledger, which decides.
        """
        _check_name(name)
        ledger = self._ledger(name)
        state = ledger.read()
        while True:
            self._project(name, state)
            again = ledger.read()
            if again.head == state.head:
                return state
            state = again

    def _project(self, name: str, state: LedgerState) -> None:
        if state.production is None:
            self._connection.delete_alias(name, ALIAS)
        elif self._connection.get_alias(name, ALIAS) != state.production:
            self._connection.set_alias(name, ALIAS, state.production)
        for found in self._connection.list_versions(name):
            if not is_ours(found):
                continue
            number = str(found.version)
            if number in state.deleted:
                self._finish_deletion(name, number)
                continue
            status = read_version(found, state, self._locate).status
            if found.tags.get(STATUS_TAG) != status:
                self._connection.set_tag(name, number, STATUS_TAG, status.value)

    def _decide(
        self, name: str, decide: Callable[[LedgerState], LedgerEntry | None]
    ) -> LedgerState:
        """Write the entry that `decide` makes of the present state; the state in which it counts.

        An entry that lost to one that left production as it was is decided anew.
        """
        self._require_model(name)
        ledger = self._ledger(name)
        state = ledger.read()
        production = state.production
        for _ in range(_ATTEMPTS):
            entry = decide(state)
            if entry is None:
                return state
            landed, state = ledger.append(entry)
            if any(counted.number == landed.number for counted in state.entries):
                return self.reconcile(name)
            if state.production != production and entry.action in ("promote", "rollback"):
                winner = state.entries[-1]
                raise PromotionConflictError(
                    f"{winner.actor} changed {name} in between ({winner.action} of version "
                    f"{winner.version}): version {state.production} is in production now, not "
                    f"{production}. Nothing was changed; look at the history and decide again."
                )
        raise PromotionConflictError(
            f"Others kept changing {name} for {_ATTEMPTS} attempts. Nothing was changed; try again."
        )

    def _retire(
        self, action: Action, name: str, version: str, reason: str, actor: str | None
    ) -> None:
        def decide(state: LedgerState) -> LedgerEntry | None:
            chosen = self._existing(name, version, state)
            if chosen.status is ModelStatus.PRODUCTION:
                raise RegistryError(
                    f"Version {version} of {name} is in production: it cannot be {action}d. "
                    "Promote or roll back to another version first."
                )
            if action == "archive" and chosen.status is ModelStatus.ARCHIVED:
                return None
            return _entry(
                action,
                chosen,
                state,
                actor=actor,
                reason=reason,
                forced=False,
                now=datetime.now(UTC),
            )

        self._decide(name, decide)

    def _finish_deletion(self, name: str, version: str) -> None:
        found = self._connection.get_version(name, version)
        if found is None:
            return
        chosen = read_version(found, LedgerState(), self._locate)
        self._connection.delete_artifacts(chosen.run_id, chosen.artifact_path)
        self._connection.delete_version(name, version)

    def _keep_report(self, chosen: ModelVersion, report: GateReport) -> GateReport:
        self._connection.set_tag(chosen.name, chosen.version, REPORT_TAG, encode(report.to_dict()))
        status = status_of(chosen.version, report, self._ledger(chosen.name).read())
        self._connection.set_tag(chosen.name, chosen.version, STATUS_TAG, status.value)
        return report

    def _check_stored(self, chosen: ModelVersion) -> None:
        self._cache.fetch(chosen.digest, self._copier(chosen), refresh=True)

    def _locate(self, chosen: ModelVersion) -> Path:
        return self._cache.fetch(chosen.digest, self._copier(chosen))

    def _copier(self, chosen: ModelVersion) -> Callable[[Path], Path]:
        return lambda folder: self._connection.download(chosen.run_id, chosen.artifact_path, folder)

    def _ledger(self, name: str) -> Ledger:
        _check_name(name)
        return Ledger(self._connection, name)

    def _existing(self, name: str, version: str, state: LedgerState) -> ModelVersion:
        _check_name(name)
        found = self._connection.get_version(name, version) if version.isdecimal() else None
        if found is None or version in state.deleted:
            self._require_model(name)
            known = [item.version for item in self.get_all_versions(name)[:10]]
            raise RegistryError(
                f"{name} has no version {version!r}. "
                + (f"The newest are: {', '.join(known)}." if known else "Register one first.")
            )
        return read_version(found, state, self._locate)

    def _require_model(self, name: str) -> None:
        _check_name(name)
        if not self._connection.has_model(name):
            known = self.get_model_names()
            raise RegistryError(
                f"No registered model {name!r}. "
                + (f"There are: {', '.join(known[:10])}." if known else "Train or register one.")
            )


def _require_report(chosen: ModelVersion, now: datetime) -> None:
    named = f"Version {chosen.version} of {chosen.name}"
    report = chosen.report
    if report is None or report.digest != chosen.digest:
        raise RegistryError(f"{named} has not been validated. Validate it first.")
    if not report.passed:
        refusals = " ".join(check.sentence for check in report.failures)
        raise GateRefusedError(f"{named} was refused by the gates: {refusals}")
    if not report.is_valid(now):
        raise RegistryError(
            f"The validation of {named} expired at {report.expires_at:%Y-%m-%d %H:%M} UTC. "
            "Validate it again."
        )


def _entry(
    action: Action,
    chosen: ModelVersion,
    state: LedgerState,
    *,
    actor: str | None,
    reason: str,
    forced: bool,
    now: datetime,
) -> LedgerEntry:
    moves = action in ("promote", "rollback")
    return LedgerEntry(
        expect=state.head,
        action=action,
        version=chosen.version,
        previous=state.production,
        production=chosen.version if moves else state.production,
        digest=chosen.digest if moves else state.digest,
        actor=actor or _login(),
        reason=reason,
        forced=forced,
        at=now,
    )


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a user database
        return "unknown"


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or name.endswith(SUFFIX):
        raise RegistryError(
            f"{name!r} cannot be a model's name: use letters, digits, '_', '.', '-' (at most 100, "
            f"the first a letter or digit), not ending in '{SUFFIX}'."
        )


def _floats(metrics: Mapping[str, float]) -> dict[str, float]:
    try:
        return {str(name): float(value) for name, value in metrics.items()}
    except (TypeError, ValueError) as error:
        raise RegistryError(f"A metric is not a number: {error}. Give plain numbers.") from error
