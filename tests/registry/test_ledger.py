"""The ledger's fold: one order, one winner, whoever reads it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freqtrade_mlpipe.exceptions import RegistryError
from freqtrade_mlpipe.registry.ledger import Ledger, LedgerEntry, LedgerState, counting, fold
from tests.registry.conftest import NOW


def entry(number: int, expect: int, version: str, **changes: Any) -> LedgerEntry:
    values: dict[str, Any] = {
        "expect": expect,
        "action": "promote",
        "version": version,
        "previous": None,
        "production": version,
        "digest": version * 64,
        "actor": "someone",
        "reason": "",
        "forced": False,
        "at": NOW,
        "number": number,
    }
    return LedgerEntry(**{**values, **changes})


@dataclass
class Shelf:
    """The versions of one ledger, numbered as MLflow numbers them."""

    entries: list[LedgerEntry] = field(default_factory=list)

    def list_versions(self, name: str, *, newest: int | None = None) -> list[Any]:
        found = [
            SimpleNamespace(name=name, version=str(e.number), tags=e.to_tags())
            for e in reversed(self.entries)
        ]
        return found[:newest]


@st.composite
def races(draw: st.DrawFn) -> list[LedgerEntry]:
    """What writers leave behind who read the ledger at different times before they write."""
    entries: list[LedgerEntry] = []
    seen = [0, 0, 0]
    for _ in range(draw(st.integers(0, 40))):
        writer = draw(st.integers(0, 2))
        if draw(st.booleans()):
            counted = counting(entries)
            seen[writer] = counted[-1].number if counted else 0
        version = str(draw(st.integers(1, 5)))
        entries.append(entry(len(entries) + 1, seen[writer], version))
    return entries


@settings(max_examples=300, deadline=None)
@given(races())
def test_counting_entries_form_one_chain_and_every_prefix_agrees(
    entries: list[LedgerEntry],
) -> None:
    counted = fold(entries).entries
    assert [e.expect for e in counted] == [0, *[e.number for e in counted]][: len(counted)]
    for k in range(len(entries)):
        earlier = fold(entries[:k]).entries
        assert counted[: len(earlier)] == earlier


@settings(max_examples=300, deadline=None)
@given(races())
def test_newest_few_entries_tell_the_same_head_as_all(entries: list[LedgerEntry]) -> None:
    last = Ledger(Shelf(entries), "m").last()  # type: ignore[arg-type]
    state = fold(entries)
    assert (last.number if last else 0) == state.head


def test_head_is_found_behind_many_that_lost() -> None:
    entries = [entry(1, 0, "1"), entry(2, 1, "2"), *(entry(k, 1, "3") for k in range(3, 40))]
    last = Ledger(Shelf(entries), "m").last()  # type: ignore[arg-type]
    assert last == entries[1]


def test_of_two_decided_on_the_same_state_the_first_counts() -> None:
    state = fold([entry(1, 0, "1"), entry(2, 1, "2"), entry(3, 1, "3"), entry(4, 2, "4")])
    assert [e.number for e in state.entries] == [1, 2, 4]
    assert state.production == "4"


def test_lost_entry_is_reported_instead_of_changing_production() -> None:
    with pytest.raises(RegistryError, match="entry 2, which entry 3 was decided on, is gone"):
        fold([entry(1, 0, "1"), entry(3, 2, "3")])


def test_rollbacks_walk_back_and_a_promotion_starts_anew() -> None:
    entries = [entry(1, 0, "1"), entry(2, 1, "2"), entry(3, 2, "3")]
    assert fold(entries).rollback_target() == "2"
    entries.append(entry(4, 3, "2", action="rollback", previous="3"))
    state = fold(entries)
    assert (state.production, state.rollback_target()) == ("2", "1")
    entries.append(entry(5, 4, "3", previous="2"))
    assert fold(entries).rollback_target() == "2"
    entries.append(entry(6, 5, "1", action="rollback", previous="3"))
    state = fold(entries)
    assert (state.production, state.rollback_target()) == ("1", None)
    assert state.retired == {"2", "3"}


def test_rollback_passes_over_a_deleted_version() -> None:
    entries = [entry(1, 0, "1"), entry(2, 1, "2"), entry(3, 2, "3")]
    entries.append(entry(4, 3, "2", action="delete", production="3"))
    state = fold(entries)
    assert (state.production, state.rollback_target()) == ("3", "1")
    assert state.deleted == {"2"}


def test_entry_survives_its_tags() -> None:
    original = entry(7, 3, "2", reason='quotes " and ünïcode', forced=True)
    version = SimpleNamespace(name="m.promotions", version="7", tags=original.to_tags())
    assert LedgerEntry.from_version(version) == original


@pytest.mark.parametrize(
    "tags", [{}, {"mlpipe.entry": "x"}, {"mlpipe.entry": json.dumps({"at": 1})}]
)
def test_foreign_entry_is_named(tags: dict[str, str]) -> None:
    with pytest.raises(RegistryError, match="Entry 7 of the ledger"):
        LedgerEntry.from_version(SimpleNamespace(name="m.promotions", version="7", tags=tags))


def test_empty_ledger_has_nothing() -> None:
    assert fold([]) == LedgerState()
    assert Ledger(Shelf(), "m").last() is None  # type: ignore[arg-type]
