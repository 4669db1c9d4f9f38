"""Promote, roll back, archive, delete, challenge: decisions that land whole or not at all.

A decision is one ledger entry. Everything else (alias, status tags, removed files) follows from the
ledger and is repaired by `reconcile` after a crash.
"""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from freqtrade_mlpipe.exceptions import GateRefusedError, PromotionConflictError, RegistryError
from freqtrade_mlpipe.registry.catalogue import Catalogue
from freqtrade_mlpipe.registry.ledger import Action, LedgerEntry, LedgerState
from freqtrade_mlpipe.registry.report import CHAMPION_GATE
from freqtrade_mlpipe.registry.versions import (
    STATUS_TAG,
    ModelStatus,
    ModelVersion,
    is_ours,
    read_version,
)

ALIAS, CHALLENGER_ALIAS = "production", "challenger"
_ATTEMPTS = 20

Decide = Callable[[LedgerState], LedgerEntry | None]
"""The entry to write on this state; None where there is nothing to do."""


class VersionInUseError(RegistryError):
    """A version in production was to be archived or deleted."""


@dataclass(frozen=True)
class Decision:
    """Who decides, why and when (UTC)."""

    reason: str
    actor: str | None
    now: datetime
    forced: bool = False

    def entry(self, action: Action, chosen: ModelVersion, state: LedgerState) -> LedgerEntry:
        """The ledger entry of this decision, made on `state`."""
        moves = action in ("promote", "rollback")
        challenger = (state.challenger, state.challenger_digest)
        if action == "challenge":
            challenger = (chosen.version, chosen.digest)
        elif chosen.version == state.challenger:
            challenger = (None, None)  # promoted, archived, deleted or withdrawn
        return LedgerEntry(
            expect=state.head,
            action=action,
            version=chosen.version,
            previous=state.production,
            production=chosen.version if moves else state.production,
            digest=chosen.digest if moves else state.digest,
            actor=self.actor or _login(),
            reason=self.reason,
            forced=self.forced,
            at=self.now,
            challenger=challenger[0],
            challenger_digest=challenger[1],
        )


class Transitions:
    """The changes of the life cycle; `ModelRegistry` documents them."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def promote(self, name: str, version: str, decision: Decision) -> LedgerState:
        """Put a version into production."""

        def decide(state: LedgerState) -> LedgerEntry | None:
            chosen = self._catalogue.find(name, version, state)
            live = chosen.status is ModelStatus.PRODUCTION
            if not (live or decision.forced):
                _require_report(chosen, state, decision.now)
            self._catalogue.check_stored(chosen)
            return None if live else decision.entry("promote", chosen, state)

        return self._land(name, decide)

    def rollback(self, name: str, version: str | None, decision: Decision) -> LedgerState:
        """Put a former production version back."""

        def decide(state: LedgerState) -> LedgerEntry | None:
            target = state.rollback_target() if version is None else version
            if target is None:
                raise RegistryError(
                    f"{name} has no earlier production version to roll back to. Promote another "
                    "version, or stop the bot."
                )
            chosen = self._catalogue.find(name, target, state)
            if state.digest_of(chosen.version) is None:
                raise RegistryError(
                    f"Version {target} of {name} never was in production, so there is nothing to "
                    "roll back to. Validate and promote it."
                )
            self._catalogue.check_stored(chosen)
            live = chosen.status is ModelStatus.PRODUCTION
            return None if live else decision.entry("rollback", chosen, state)

        return self._land(name, decide)

    def retire(self, action: Action, name: str, version: str, decision: Decision) -> LedgerState:
        """Archive or delete a version that is not in production."""

        def decide(state: LedgerState) -> LedgerEntry | None:
            chosen = self._catalogue.find(name, version, state)
            if chosen.status is ModelStatus.PRODUCTION:
                raise VersionInUseError(
                    f"Version {version} of {name} is in production: it cannot be {action}d. "
                    "Promote or roll back to another version first."
                )
            if action == "archive" and chosen.status is ModelStatus.ARCHIVED:
                return None
            return decision.entry(action, chosen, state)

        return self._land(name, decide)

    def challenge(self, name: str, version: str, decision: Decision) -> LedgerState:
        """Let bots predict a version beside production."""

        def decide(state: LedgerState) -> LedgerEntry | None:
            chosen = self._catalogue.find(name, version, state)
            if chosen.status is ModelStatus.PRODUCTION:
                raise VersionInUseError(
                    f"Version {version} of {name} is in production: it cannot challenge itself. Name another one."
                )
            self._catalogue.check_stored(chosen)
            known = chosen.version == state.challenger
            return None if known else decision.entry("challenge", chosen, state)

        return self._land(name, decide)

    def withdraw(self, name: str, decision: Decision) -> LedgerState:
        """Let bots predict nothing beside production any more."""

        def decide(state: LedgerState) -> LedgerEntry | None:
            if state.challenger is None:
                return None
            chosen = self._catalogue.find(name, state.challenger, state)
            return decision.entry("withdraw", chosen, state)

        return self._land(name, decide)

    def reconcile(self, name: str) -> LedgerState:
        """Let alias, status tags and deletions follow the ledger, until it stands still."""
        ledger = self._catalogue.ledger(name)
        state = ledger.read()
        while True:
            for _, mend in self.gaps(name, state):
                mend()
            again = ledger.read()
            if again.head == state.head:
                return state
            state = again

    def gaps(self, name: str, state: LedgerState) -> Iterator[tuple[str, Callable[[], None]]]:
        """What does not follow the ledger yet: a sentence, and the call that mends it."""
        connection = self._catalogue.connection
        for alias, wanted, role in (
            (ALIAS, state.production, "in production"),
            (CHALLENGER_ALIAS, state.challenger, "the challenger"),
        ):
            found = connection.get_alias(name, alias)
            if wanted is None and found is not None:
                yield (
                    f"the alias names version {found}, nothing is {role}",
                    partial(connection.delete_alias, name, alias),
                )
            elif wanted is not None and found != wanted:
                yield (
                    f"the alias names {_version(found)}, {_version(wanted)} is {role}",
                    partial(connection.set_alias, name, alias, wanted),
                )
        for listed in connection.list_versions(name):
            number = str(listed.version)
            if not is_ours(listed):
                continue
            if number in state.deleted:
                yield (
                    f"the deletion of version {number} was not finished",
                    partial(self._catalogue.finish_deletion, name, number),
                )
                continue
            status = read_version(listed, state, self._catalogue.locate).status
            if listed.tags.get(STATUS_TAG) != status.value:
                yield (
                    f"version {number} is tagged {listed.tags.get(STATUS_TAG)}, it is {status.value}",
                    partial(connection.set_tag, name, number, STATUS_TAG, status.value),
                )

    def _land(self, name: str, decide: Decide) -> LedgerState:
        """Write the entry decided on the present state; the state in which it counts.

        An entry that lost its place to one that left production alone is decided anew.
        """
        self._catalogue.require_model(name)
        ledger = self._catalogue.ledger(name)
        state = ledger.read()
        for _ in range(_ATTEMPTS):
            before = state.production
            entry = decide(state)
            if entry is None:
                return state
            landed, state = ledger.append(entry)
            if any(counted.number == landed.number for counted in state.entries):
                return self.reconcile(name)
            if state.production != before and entry.production == state.production:
                return state  # someone else did the same
            if state.production != before and entry.action in ("promote", "rollback"):
                raise _conflict(name, before, state)
        raise PromotionConflictError(
            f"Others kept changing {name} for {_ATTEMPTS} attempts. Nothing was changed; try again."
        )


def _conflict(name: str, before: str | None, state: LedgerState) -> PromotionConflictError:
    winner = state.entries[-1]
    return PromotionConflictError(
        f"{winner.actor} changed {name} in between ({winner.action} of version {winner.version}): "
        f"version {state.production} is in production now, not {before or 'none'}. Nothing was "
        "changed by you; look at the history and decide again."
    )


def _require_report(chosen: ModelVersion, state: LedgerState, now: datetime) -> None:
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
    compared = any(check.name == CHAMPION_GATE for check in report.checks)
    if compared and report.champion != state.production:
        raise RegistryError(
            f"{named} was compared with {_version(report.champion)}, but {_version(state.production)} "
            "is in production now. Validate it again."
        )


def _version(number: str | None) -> str:
    return "no version" if number is None else f"version {number}"


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # no user database: a container, or Windows
        return "unknown"
