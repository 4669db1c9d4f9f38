"""Who put which version into production, when and why: the truth about a model's life cycle.

MLflow's aliases know neither compare-and-set nor history. The ledger of model `m` is a second
registered model `m.promotions` with one version an entry. MLflow numbers versions in the order in
which they are committed and never reuses a number. An entry names the entry it was decided on
(`expect`, 0 for none) and counts only if that was the last counting entry when it landed. So of two
that were decided on the same state one counts, and everybody who reads the list agrees on which.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from freqtrade_mlpipe.exceptions import RegistryError
from freqtrade_mlpipe.registry.connection import Connection

Action = Literal["promote", "rollback", "archive", "delete", "challenge", "withdraw"]

SUFFIX = ".promotions"
_ENTRY_TAG = "mlpipe.entry"
_NEWEST = 8
_BESIDE = ("challenge", "withdraw")
"""Actions that concern the challenger only."""


@dataclass(frozen=True)
class LedgerEntry:
    """One decision about a model.

    Attributes
    ----------
    number
        Its place in the ledger, from 1; 0 before it has landed.
    expect
        Number of the entry it was decided on, 0 for none.
    action, version
        What was done to which version.
    previous, production
        The production version before and after.
    digest
        Digest of the bundle in production afterwards.
    actor, reason
        Who decided, and what they gave as reason or note.
    forced
        Whether the gates were overridden.
    at
        When it was decided (UTC).
    challenger, challenger_digest
        The version that bots predict beside production afterwards, and its bundle's digest; or None.
    """

    expect: int
    action: Action
    version: str
    previous: str | None
    production: str | None
    digest: str | None
    actor: str
    reason: str
    forced: bool
    at: datetime
    number: int = 0
    challenger: str | None = None
    challenger_digest: str | None = None

    def to_tags(self) -> dict[str, str]:
        """The entry as the tags of its version."""
        values = {**asdict(self), "at": self.at.isoformat()}
        del values["number"]
        if self.challenger is None:
            del values["challenger"], values["challenger_digest"]
        return {_ENTRY_TAG: json.dumps(values, sort_keys=True)}

    @classmethod
    def from_version(cls, version: Any) -> LedgerEntry:
        """Read an entry from an MLflow model version."""
        try:
            values = json.loads(version.tags[_ENTRY_TAG])
            values["at"] = datetime.fromisoformat(values["at"])
            return cls(**values, number=int(version.version))
        except (KeyError, ValueError, TypeError) as error:
            raise RegistryError(
                f"Entry {version.version} of the ledger {version.name} cannot be read: {error}. "
                "It was not written by this package; delete that version in MLflow only if it "
                "was added by hand."
            ) from error


@dataclass(frozen=True)
class LedgerState:
    """What the counting entries add up to.

    Attributes
    ----------
    head
        Number of the last counting entry, 0 for none.
    production, digest
        The production version and its bundle's digest, or None.
    challenger, challenger_digest
        The same of the version that is predicted beside it.
    entries
        The counting entries, oldest first.
    stack
        The production version last, below it those that a rollback falls back to.
    retired
        Versions archived or superseded.
    deleted
        Versions deleted.
    notes
        The reason or note of the last entry about each version.
    """

    head: int = 0
    production: str | None = None
    digest: str | None = None
    challenger: str | None = None
    challenger_digest: str | None = None
    entries: tuple[LedgerEntry, ...] = ()
    stack: tuple[str, ...] = ()
    retired: frozenset[str] = frozenset()
    deleted: frozenset[str] = frozenset()
    notes: Mapping[str, str] = field(default_factory=dict)

    def rollback_target(self) -> str | None:
        """The version that was in production before the present one and still exists, or None."""
        return self.stack[-2] if len(self.stack) > 1 else None

    def deciding(self) -> LedgerEntry | None:
        """The promotion or rollback that put the present version into production, or None."""
        moves = (
            entry for entry in reversed(self.entries) if entry.action in ("promote", "rollback")
        )
        return next(moves, None)

    def digest_of(self, version: str) -> str | None:
        """The digest under which `version` was last in production, or None if it never was."""
        for entry in reversed(self.entries):
            if entry.production == version:
                return entry.digest
        return None


def counting(entries: Iterable[LedgerEntry], head: int = 0) -> list[LedgerEntry]:
    """The entries that count, given in ascending order, after the counting entry `head`."""
    counted = []
    for entry in entries:
        if entry.number > head and entry.expect == head:
            counted.append(entry)
            head = entry.number
    return counted


def fold(entries: Sequence[LedgerEntry]) -> LedgerState:
    """The state after all entries, given in ascending order.

    Raises
    ------
    RegistryError
        An entry that later ones were decided on is gone, so that the history cannot be trusted.
    """
    counted = tuple(counting(entries))
    known = {entry.number for entry in entries} | {0}
    lost = [entry for entry in entries if entry.expect not in known]
    if lost:
        raise RegistryError(
            f"The ledger is damaged: entry {lost[0].expect}, which entry {lost[0].number} was "
            "decided on, is gone. Someone deleted a version of the ledger in MLflow; restore the "
            "database from a backup."
        )
    stack: list[str] = []
    retired: set[str] = set()
    deleted: set[str] = set()
    for entry in counted:
        _apply(entry, stack, retired, deleted)
    last = counted[-1] if counted else None
    return LedgerState(
        head=last.number if last else 0,
        production=last.production if last else None,
        digest=last.digest if last else None,
        challenger=last.challenger if last else None,
        challenger_digest=last.challenger_digest if last else None,
        entries=counted,
        stack=tuple(stack),
        retired=frozenset(retired),
        deleted=frozenset(deleted),
        notes={entry.version: entry.reason for entry in counted if entry.action not in _BESIDE},
    )


def _apply(entry: LedgerEntry, stack: list[str], retired: set[str], deleted: set[str]) -> None:
    if entry.action in _BESIDE:
        return
    if entry.action == "archive":
        retired.add(entry.version)
        return
    if entry.action == "rollback" and entry.version in stack:
        del stack[stack.index(entry.version) + 1 :]
    elif entry.version in stack:
        stack.remove(entry.version)
    if entry.action == "delete":
        deleted.add(entry.version)
        return
    if entry.version not in stack:
        stack.append(entry.version)
    if entry.previous is not None:
        retired.add(entry.previous)
    retired.discard(entry.version)


class Ledger:
    """The ledger of one model in the store."""

    def __init__(self, connection: Connection, model_name: str) -> None:
        self._connection = connection
        self.name = model_name + SUFFIX

    def read(self) -> LedgerState:
        """The state after all entries: one query."""
        versions = self._connection.list_versions(self.name)
        return fold([LedgerEntry.from_version(version) for version in reversed(versions)])

    def last(self) -> LedgerEntry | None:
        """The last counting entry, from the newest few entries.

        Whoever wrote an entry had read the ledger, so the largest `expect` is an entry that counts;
        what follows decides the rest.
        """
        versions = self._connection.list_versions(self.name, newest=_NEWEST)
        newest = [LedgerEntry.from_version(version) for version in reversed(versions)]
        if not newest:
            return None
        anchor = max(entry.expect for entry in newest)
        known = {entry.number for entry in newest}
        if anchor not in known and (anchor or len(newest) == _NEWEST):
            state = self.read()
            return state.entries[-1] if state.entries else None
        later = counting(newest, anchor)
        if later:
            return later[-1]
        return next((entry for entry in newest if entry.number == anchor), None)

    @staticmethod
    def is_foreign(version: Any) -> bool:
        """Whether a version of the ledger was not written by this package."""
        return _ENTRY_TAG not in version.tags

    def append(self, entry: LedgerEntry) -> tuple[LedgerEntry, LedgerState]:
        """Write an entry; it as it landed, and the state then, which says whether it counts."""
        self._connection.ensure_model(self.name, "ledger")
        version = self._connection.create_version(
            self.name, entry.to_tags(), source=f"mlpipe-ledger:/{uuid.uuid4().hex}"
        )
        landed = replace(entry, number=int(version.version))
        return landed, self.read()
