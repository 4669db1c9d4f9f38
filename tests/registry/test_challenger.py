"""The challenger: one version beside production, decided in the ledger, projected to an alias."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from freqtrade_mlpipe.exceptions import RegistryError
from freqtrade_mlpipe.registry import BundleCache, ModelRegistry
from freqtrade_mlpipe.registry.ledger import LedgerEntry
from tests.registry.conftest import Written

NAME = "trend_classifier"


@pytest.fixture
def three(registry: ModelRegistry, variants: tuple[Written, ...]) -> ModelRegistry:
    """Version 1 in production, 2 and 3 registered."""
    for bundle in variants[:3]:
        registry.register_model(model_name=NAME, model_path=bundle.path)
    registry.promote_to_production(NAME, 1, force_reason="test")
    return registry


def alias(registry: ModelRegistry) -> str | None:
    return registry._connection.get_alias(NAME, "challenger")


def challenger(registry: ModelRegistry) -> str | None:
    found = registry.get_challenger(NAME)
    return None if found is None else found.version


def test_it_is_named_replaced_and_removed_and_production_stays(three: ModelRegistry) -> None:
    assert challenger(three) is None
    three.set_challenger(NAME, 2, reason="looks good")
    three.set_challenger(NAME, 3)
    assert challenger(three) == alias(three) == "3"
    three.remove_challenger(NAME)
    three.remove_challenger(NAME)
    assert challenger(three) is alias(three) is None
    assert three.get_production_model(NAME).version == "1"
    history = [(entry.action, entry.version) for entry in three.get_model_history(NAME)]
    assert history == [
        ("promote", "1"), ("challenge", "2"), ("challenge", "3"), ("withdraw", "3"),
    ]  # fmt: skip


@pytest.mark.parametrize("end", ["promote", "archive", "delete"])
def test_it_ends_when_the_version_is_promoted_archived_or_deleted(
    three: ModelRegistry, end: str
) -> None:
    three.set_challenger(NAME, 2)
    if end == "promote":
        three.promote_to_production(NAME, 2, force_reason="test")
    elif end == "archive":
        three.archive_model(NAME, 2)
    else:
        three.delete_model(NAME, 2)
    assert challenger(three) is alias(three) is None


def test_it_outlives_what_happens_to_other_versions(three: ModelRegistry) -> None:
    three.set_challenger(NAME, 2)
    three.promote_to_production(NAME, 3, force_reason="test")
    three.rollback_to_version(NAME)
    three.archive_model(NAME, 3)
    assert challenger(three) == alias(three) == "2"
    assert BundleCache(three.directory).resolve(NAME, "challenger").version == "2"


def test_production_cannot_challenge_itself(three: ModelRegistry) -> None:
    with pytest.raises(RegistryError, match="is in production"):
        three.set_challenger(NAME, 1)


def test_without_one_the_cache_says_so(three: ModelRegistry) -> None:
    with pytest.raises(RegistryError, match="no challenger"):
        BundleCache(three.directory).resolve(NAME, "challenger")


def test_it_is_not_pruned(three: ModelRegistry) -> None:
    three.set_challenger(NAME, 2)
    assert [item.version.version for item in three.plan_prune(NAME, 0)] == ["3"]


def test_alias_of_a_killed_process_is_mended(three: ModelRegistry) -> None:
    three.set_challenger(NAME, 2)
    three._connection.set_alias(NAME, "challenger", "3")
    three.reconcile(NAME)
    assert alias(three) == "2"


def test_reason_of_the_production_version_is_found_below_later_entries(
    three: ModelRegistry,
) -> None:
    three.set_challenger(NAME, 2, reason="looks good")
    three.archive_model(NAME, 3)
    entry = three.get_deciding_entry(NAME)
    assert entry is not None
    assert (entry.action, entry.version, entry.reason, entry.forced) == (
        "promote",
        "1",
        "test",
        True,
    )


def test_entry_without_challenger_is_written_as_before_there_were_any() -> None:
    entry = LedgerEntry(0, "promote", "1", None, "1", "d", "me", "", False, datetime.now(UTC))
    (text,) = entry.to_tags().values()
    assert "challenger" not in text
