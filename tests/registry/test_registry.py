"""The life cycle on a real MLflow store."""

from __future__ import annotations

import math
import shutil
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from freqtrade_mlpipe.exceptions import (
    BundleError,
    GateRefusedError,
    MLPipeError,
    PromotionConflictError,
    RegistryError,
)
from freqtrade_mlpipe.registry import (
    Comparison,
    Evidence,
    ModelRegistry,
    ModelStatus,
    ModelVersion,
    RegistryUnavailableError,
    save_model,
    verify_bundle,
)
from freqtrade_mlpipe.registry.ledger import Ledger, LedgerEntry
from freqtrade_mlpipe.registry.versions import VERSION_TAG, decode, encode
from tests.registry.conftest import Store, Written, compute, make_candles
from tests.registry.test_gates import EVERY_GATE, backtest, good

NAME = "trend_classifier"
STATUSES = tuple[tuple[str, str], ...]


@pytest.fixture
def registry(store: Store) -> ModelRegistry:
    """On SQLite and on a server: the life cycle is the same."""
    return store.open()


@pytest.fixture
def embedded(new_directory: Callable[[], Path]) -> ModelRegistry:
    """On SQLite, whose files the test looks at."""
    return ModelRegistry(directory=new_directory())


def register(registry: ModelRegistry, bundle: Written, **metrics: float) -> ModelVersion:
    return registry.register_model(model_name=NAME, model_path=bundle.path, metrics=metrics)


def promoted(registry: ModelRegistry, bundle: Written) -> ModelVersion:
    version = register(registry, bundle, f1=0.7)
    registry.validate_model(NAME, version.version, min_metrics={"f1": 0.5})
    return registry.promote_to_production(NAME, version.version)


def statuses(registry: ModelRegistry) -> dict[str, str]:
    return {v.version: v.status.value for v in registry.get_all_versions(NAME)}


def alias(registry: ModelRegistry) -> str | None:
    return registry._connection.get_alias(NAME, "production")


def test_the_life_of_a_model_as_the_readme_tells_it(
    registry: ModelRegistry, members: tuple[object, ...], tmp_path: Path
) -> None:
    class Model:
        feature_names = tuple(compute(make_candles(), "").columns)

    Model.members = members  # type: ignore[attr-defined]
    X = compute(make_candles(), "BTC/USDT")
    path = save_model(Model, tmp_path / "trained", X)  # type: ignore[arg-type]

    v = registry.register_model(
        model_name=NAME,
        model_path=path,
        metrics={"f1": 0.65, "accuracy": 0.6, "backtest_sharpe": 1.3, "backtest_trades": 42},
        feature_names=list(X.columns),
        tags=["baseline", "1h"],
    )
    assert (v.name, v.version, v.status) == (NAME, "1", "STAGED")
    assert registry.get_production_model(NAME) is None

    report = registry.validate_model(
        NAME, v.version, min_metrics={"f1": 0.6}, min_backtest_sharpe=1.0, min_backtest_trades=10
    )
    assert report.passed
    registry.promote_to_production(NAME, v.version, notes="first model")

    live = registry.get_production_model(NAME)
    assert live is not None
    assert (live.name, live.version, live.status) == (NAME, "1", "PRODUCTION")
    assert live.metrics["f1"] == 0.65
    assert live.feature_names == tuple(X.columns)
    assert live.tags == ("baseline", "1h")
    assert live.notes == "first model"
    assert verify_bundle(live.model_path)[1] == live.digest
    registry.load_bundle(NAME, live.version).self_test()


def test_versions_move_through_the_statuses(
    registry: ModelRegistry, variants: tuple[Written, ...]
) -> None:
    for bundle in variants[:3]:
        promoted(registry, bundle)
    register(registry, variants[3])
    expected = {"1": "ARCHIVED", "2": "ARCHIVED", "3": "PRODUCTION", "4": "STAGED"}
    assert statuses(registry) == expected
    assert [v.version for v in registry.get_all_versions(NAME)] == ["4", "3", "2", "1"]

    assert registry.rollback_to_version(NAME).version == "2"
    assert registry.rollback_to_version(NAME).version == "1"
    with pytest.raises(RegistryError, match="no earlier production version"):
        registry.rollback_to_version(NAME)
    assert registry.rollback_to_version(NAME, "3").status is ModelStatus.PRODUCTION
    assert statuses(registry) == expected
    assert alias(registry) == "3"

    history = registry.get_model_history(NAME)
    assert [(e.action, e.previous, e.production) for e in history] == [
        ("promote", None, "1"),
        ("promote", "1", "2"),
        ("promote", "2", "3"),
        ("rollback", "3", "2"),
        ("rollback", "2", "1"),
        ("rollback", "1", "3"),
    ]
    assert [e.digest for e in history[:3]] == [b.digest for b in variants[:3]]


def test_status_tags_follow_for_those_who_look_with_mlflow(
    registry: ModelRegistry, variants: tuple[Written, ...]
) -> None:
    promoted(registry, variants[0])
    promoted(registry, variants[1])
    client = registry._connection.client
    found = {
        v.version: v.tags["mlpipe.status"] for v in client.search_model_versions(f"name='{NAME}'")
    }
    assert {str(k): v for k, v in found.items()} == statuses(registry)


def test_promote_refuses_unvalidated_version(registry: ModelRegistry, bundle: Written) -> None:
    register(registry, bundle)
    with pytest.raises(RegistryError, match="has not been validated"):
        registry.promote_to_production(NAME, "1")
    assert registry.get_production_model(NAME) is None


def test_promote_refuses_failed_version(registry: ModelRegistry, bundle: Written) -> None:
    register(registry, bundle, f1=0.4)
    report = registry.validate_model(NAME, 1, min_metrics={"f1": 0.5})
    assert not report.passed
    assert statuses(registry) == {"1": "FAILED"}
    with pytest.raises(GateRefusedError, match=r"f1 0\.4, at least 0\.5") as caught:
        registry.promote_to_production(NAME, "1")
    assert caught.value.exit_code == 3
    registry.validate_model(NAME, 1, min_metrics={"f1": 0.3})
    assert statuses(registry) == {"1": "STAGED"}


def test_promote_refuses_expired_report(registry: ModelRegistry, bundle: Written) -> None:
    register(registry, bundle, f1=0.7)
    registry.validate_model(NAME, 1, min_metrics={"f1": 0.5})
    later = datetime.now(UTC) + timedelta(days=8)
    with pytest.raises(RegistryError, match="expired"):
        registry.promote_to_production(NAME, "1", now=later)


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_metric_that_is_no_number_fails_closed(
    registry: ModelRegistry, bundle: Written, value: float
) -> None:
    version = register(registry, bundle, f1=value)
    stored = registry.get_version(NAME, version.version).metrics["f1"]
    assert stored == value or (math.isnan(stored) and math.isnan(value))
    assert not registry.validate_model(NAME, 1, min_metrics={"f1": -1e9}).passed


def test_missing_backtest_fails_closed(registry: ModelRegistry, bundle: Written) -> None:
    register(registry, bundle, f1=0.7)
    report = registry.validate_model(
        NAME, 1, min_metrics={"f1": 0.5}, min_backtest_sharpe=-9, min_backtest_trades=1
    )
    assert [c.name for c in report.failures] == ["backtest Sharpe", "backtest trades"]
    measured = {"backtest_sharpe": 1.0, "backtest_trades": 12}
    assert registry.validate_model(NAME, 1, min_backtest_sharpe=0.5, metrics=measured).passed


def test_validation_without_any_threshold_is_refused(
    registry: ModelRegistry, bundle: Written
) -> None:
    register(registry, bundle, f1=0.7)
    with pytest.raises(RegistryError, match="no threshold"):
        registry.validate_model(NAME, 1)


def test_force_needs_a_reason_and_is_recorded(registry: ModelRegistry, bundle: Written) -> None:
    register(registry, bundle)
    with pytest.raises(RegistryError, match="empty"):
        registry.promote_to_production(NAME, 1, force_reason="  ")
    registry.promote_to_production(NAME, 1, force_reason="gates are wrong today", actor="ada")
    (entry,) = registry.get_model_history(NAME)
    assert (entry.forced, entry.reason, entry.actor) == (True, "gates are wrong today", "ada")


def test_evidence_goes_through_every_gate_and_is_kept(
    registry: ModelRegistry, bundle: Written
) -> None:
    register(registry, bundle)
    evidence = replace(good(), champion=None, champion_version=None)
    report = registry.validate_with_evidence(NAME, 1, evidence, EVERY_GATE)
    assert report.passed
    assert registry.get_version(NAME, 1).report == report
    registry.promote_to_production(NAME, 1)
    bad = replace(evidence, baselines={"class_prior": Comparison(0.7, 0.69, 0.9)})
    register(registry, bundle)
    assert not registry.validate_with_evidence(NAME, 2, bad).passed
    with pytest.raises(GateRefusedError, match="class-prior"):
        registry.promote_to_production(NAME, 2)


def test_challenger_is_not_promoted_over_a_champion_it_never_met(
    registry: ModelRegistry, variants: tuple[Written, ...]
) -> None:
    for bundle in variants[:3]:
        register(registry, bundle)
    alone = replace(good(), champion=None, champion_version=None)
    registry.validate_with_evidence(NAME, 1, alone)
    registry.validate_with_evidence(NAME, 2, alone)
    registry.promote_to_production(NAME, 1)
    with pytest.raises(RegistryError, match="no version, but version 1 is in production now"):
        registry.promote_to_production(NAME, 2)
    # The champion is known to the registry, whatever the evidence forgot.
    assert [c.name for c in registry.validate_with_evidence(NAME, 2, alone).failures] == [
        "vs champion"
    ]
    met = replace(alone, champion=backtest(sharpe=1.0))
    assert registry.validate_with_evidence(NAME, 2, met).champion == "1"
    assert registry.promote_to_production(NAME, 2).status is ModelStatus.PRODUCTION


def test_promoting_what_is_in_production_changes_nothing(
    registry: ModelRegistry, bundle: Written
) -> None:
    promoted(registry, bundle)
    assert registry.promote_to_production(NAME, 1).status is ModelStatus.PRODUCTION
    assert len(registry.get_model_history(NAME)) == 1


def test_rollback_refuses_what_never_was_in_production(
    registry: ModelRegistry, variants: tuple[Written, ...]
) -> None:
    promoted(registry, variants[0])
    register(registry, variants[1])
    with pytest.raises(RegistryError, match="never was in production"):
        registry.rollback_to_version(NAME, 2)


def test_production_is_neither_archived_nor_deleted(
    registry: ModelRegistry, bundle: Written
) -> None:
    promoted(registry, bundle)
    for change in (registry.archive_model, registry.delete_model):
        with pytest.raises(RegistryError, match="is in production"):
            change(NAME, 1)
    assert statuses(registry) == {"1": "PRODUCTION"}


def test_deleted_version_is_gone_with_its_files_but_stays_in_the_history(
    embedded: ModelRegistry, variants: tuple[Written, ...]
) -> None:
    promoted(embedded, variants[0])
    promoted(embedded, variants[1])
    artifacts = embedded.directory / "artifacts"
    before = sum(1 for _ in artifacts.rglob("manifest.json"))
    embedded.delete_model(NAME, 1, reason="too old")
    assert sum(1 for _ in artifacts.rglob("manifest.json")) == before - 1
    assert statuses(embedded) == {"2": "PRODUCTION"}
    assert embedded.get_model_history(NAME)[-1].reason == "too old"
    for call in (embedded.get_version, embedded.promote_to_production, embedded.delete_model):
        with pytest.raises(RegistryError, match="no version '1'"):
            call(NAME, 1)
    with pytest.raises(RegistryError, match="no earlier production version"):
        embedded.rollback_to_version(NAME)


def test_archived_version_can_come_back_through_the_gates(
    registry: ModelRegistry, bundle: Written
) -> None:
    register(registry, bundle, f1=0.7)
    assert registry.archive_model(NAME, 1, reason="later").status is ModelStatus.ARCHIVED
    registry.validate_model(NAME, 1, min_metrics={"f1": 0.5})
    assert registry.promote_to_production(NAME, 1).status is ModelStatus.PRODUCTION


def test_only_bundles_are_registered_and_a_refusal_leaves_nothing(
    registry: ModelRegistry, bundle: Written, tmp_path: Path
) -> None:
    (tmp_path / "model.pkl").write_bytes(b"\x80\x04N.")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "model.pkl", tmp_path / "folder", tmp_path / "nowhere"):
        with pytest.raises(BundleError):
            registry.register_model(model_name=NAME, model_path=path)
    (bundle.path / "drift_baseline.json").write_text("{}")
    with pytest.raises(BundleError):
        register(registry, bundle)
    with pytest.raises(RegistryError, match="No registered model"):
        registry.get_all_versions(NAME)


@pytest.mark.parametrize("name", ["", "a/b", "a'b", "../x", "m.promotions", "x" * 101, ".x", "a:b"])
def test_impossible_names_are_refused(registry: ModelRegistry, bundle: Written, name: str) -> None:
    with pytest.raises(RegistryError, match="cannot be a model's name"):
        registry.register_model(model_name=name, model_path=bundle.path)
    with pytest.raises(RegistryError, match="cannot be a model's name"):
        registry.get_production_model(name)


def test_other_feature_names_are_refused(registry: ModelRegistry, bundle: Written) -> None:
    with pytest.raises(RegistryError, match="feature_names"):
        registry.register_model(model_name=NAME, model_path=bundle.path, feature_names=["rsi"])


def test_unknown_names_and_versions_are_named(registry: ModelRegistry, bundle: Written) -> None:
    register(registry, bundle)
    with pytest.raises(RegistryError, match=f"No registered model 'other'. There are: {NAME}"):
        registry.get_version("other", 1)
    for odd in ("7", "latest", "-1", "1.0", "²", "9" * 30, ""):
        with pytest.raises(RegistryError, match="The newest are: 1"):
            registry.get_version(NAME, odd)
    assert registry.get_version(NAME, "01").version == "1"
    assert registry.get_production_model("other") is None


def test_many_features_and_metrics_fit(registry: ModelRegistry, bundle: Written) -> None:
    metrics = {f"a_rather_long_name_of_a_metric_{k}": k / 7 for k in range(3000)}
    register(registry, bundle, **metrics)
    assert registry.get_version(NAME, 1).metrics == metrics


def test_corrupt_artifact_is_not_promoted_even_by_force(
    embedded: ModelRegistry, variants: tuple[Written, ...]
) -> None:
    promoted(embedded, variants[0])
    version = register(embedded, variants[1], f1=0.7)
    assert verify_bundle(version.model_path)  # a sound copy is in the cache
    (stored,) = (
        p for p in (embedded.directory / "artifacts").rglob("manifest.json")
        if "1" * 64 in p.read_text()
    )  # fmt: skip
    stored.write_text(stored.read_text().replace("BTC", "XBT"))
    with pytest.raises(BundleError, match="digest"):
        embedded.promote_to_production(NAME, 2, force_reason="now")
    assert statuses(embedded) == {"1": "PRODUCTION", "2": "STAGED"}


def test_lost_artifact_is_named(embedded: ModelRegistry, bundle: Written) -> None:
    register(embedded, bundle)
    for path in (embedded.directory / "artifacts").rglob("manifest.json"):
        path.unlink()
    with pytest.raises(MLPipeError):
        embedded.load_bundle(NAME, 1)


def test_download_is_verified_and_whole(
    registry: ModelRegistry, bundle: Written, tmp_path: Path
) -> None:
    register(registry, bundle)
    copy = registry.download(NAME, 1, tmp_path / "copy")
    assert verify_bundle(copy)[1] == bundle.digest


def test_reopened_registry_knows_everything(
    registry: ModelRegistry, store: Store, variants: tuple[Written, ...]
) -> None:
    promoted(registry, variants[0])
    promoted(registry, variants[1])
    again = store.open()
    assert again.get_all_versions(NAME) == registry.get_all_versions(NAME)
    assert again.get_model_history(NAME) == registry.get_model_history(NAME)
    assert again.get_model_names() == [NAME]


def test_moved_registry_still_serves(
    embedded: ModelRegistry, variants: tuple[Written, ...], tmp_path: Path
) -> None:
    promoted(embedded, variants[0])
    promoted(embedded, variants[1])
    shutil.move(embedded.directory, tmp_path / "elsewhere")
    moved = ModelRegistry(directory=tmp_path / "elsewhere")
    assert moved.rollback_to_version(NAME).version == "1"
    assert verify_bundle(moved.get_version(NAME, 1).model_path)[1] == variants[0].digest
    promoted(moved, variants[2])
    assert not embedded.directory.exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("artifact_path", "../../../precious"),
        ("artifact_path", "/precious"),
        ("artifact_path", "mlpipe/.."),
        ("digest", "../../precious"),
        ("metrics", []),
        ("metrics", {"f1": {}}),
        (None, "{"),
        (None, "[]"),
        (None, "zlib:AAAA"),
    ],
)
def test_edited_tags_are_refused_and_delete_nothing_else(
    registry: ModelRegistry, bundle: Written, tmp_path: Path, key: str | None, value: object
) -> None:
    (tmp_path / "precious").mkdir()
    register(registry, bundle)
    tags = registry._connection.get_version(NAME, "1").tags
    edited = {**decode(tags[VERSION_TAG]), key: value}
    registry._connection.set_tag(NAME, "1", VERSION_TAG, encode(edited) if key else str(value))
    with pytest.raises(RegistryError, match="tags"):
        registry.delete_model(NAME, 1)
    assert (tmp_path / "precious").exists()


def test_alias_moved_by_hand_does_not_move_production(
    registry: ModelRegistry, variants: tuple[Written, ...]
) -> None:
    promoted(registry, variants[0])
    register(registry, variants[1])
    registry._connection.set_alias(NAME, "production", "2")
    live = registry.get_production_model(NAME)
    assert live is not None
    assert live.version == "1"
    registry.reconcile(NAME)
    assert alias(registry) == "1"


def interfere(
    monkeypatch: pytest.MonkeyPatch, registry: ModelRegistry, action: Callable[[], object]
) -> None:
    """Let `action` happen once, after the next decision was made and before it is written."""
    append, pending = Ledger.append, [action]

    def late(self: Ledger, entry: LedgerEntry) -> object:
        if pending:
            pending.pop()()
        return append(self, entry)

    monkeypatch.setattr(Ledger, "append", late)


def test_promotion_that_lost_the_race_is_told_and_changes_nothing(
    registry: ModelRegistry, variants: tuple[Written, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for bundle in variants[:3]:
        promoted(registry, bundle)
    interfere(
        monkeypatch,
        registry,
        lambda: registry.promote_to_production(NAME, 1, force_reason="first", actor="ada"),
    )
    with pytest.raises(PromotionConflictError, match=r"ada .*promote of version 1.*not 3"):
        registry.promote_to_production(NAME, 2, force_reason="second")
    assert statuses(registry) == {"1": "PRODUCTION", "2": "ARCHIVED", "3": "ARCHIVED"}
    assert [e.reason for e in registry.get_model_history(NAME)][-1] == "first"
    assert registry.promote_to_production(NAME, 2, force_reason="again").version == "2"


def test_rollback_that_lost_to_the_same_rollback_goes_back_once(
    registry: ModelRegistry, variants: tuple[Written, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for bundle in variants[:3]:
        promoted(registry, bundle)
    interfere(monkeypatch, registry, lambda: registry.rollback_to_version(NAME))
    assert registry.rollback_to_version(NAME).version == "2"
    assert len(registry.get_model_history(NAME)) == 4


def test_change_elsewhere_does_not_stop_a_promotion(
    registry: ModelRegistry, variants: tuple[Written, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted(registry, variants[0])
    for bundle in variants[1:3]:
        register(registry, bundle)
    interfere(monkeypatch, registry, lambda: registry.archive_model(NAME, 3))
    registry.promote_to_production(NAME, 2, force_reason="test")
    assert statuses(registry) == {"1": "ARCHIVED", "2": "PRODUCTION", "3": "ARCHIVED"}


def test_version_deleted_meanwhile_is_not_promoted(
    registry: ModelRegistry, variants: tuple[Written, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted(registry, variants[0])
    register(registry, variants[1])
    interfere(monkeypatch, registry, lambda: registry.delete_model(NAME, 2))
    with pytest.raises(RegistryError, match="no version '2'"):
        registry.promote_to_production(NAME, 2, force_reason="test")
    assert statuses(registry) == {"1": "PRODUCTION"}


def test_answer_lost_after_the_store_committed_doubles_nothing(
    registry: ModelRegistry, bundle: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

    client = registry._connection.client
    create, failing = client.create_model_version, [True, True]

    def lossy(*args: object, **kwargs: object) -> object:
        answer = create(*args, **kwargs)
        if failing:
            failing.pop()
            raise MlflowException("the line went dead", TEMPORARILY_UNAVAILABLE)
        return answer

    monkeypatch.setattr(client, "create_model_version", lossy)
    register(registry, bundle)
    registry.promote_to_production(NAME, 1, force_reason="test")
    assert statuses(registry) == {"1": "PRODUCTION"}
    assert len(registry.get_model_history(NAME)) == 1
    assert not failing


def test_password_of_the_store_is_not_shown() -> None:
    from mlflow.exceptions import MlflowException

    from freqtrade_mlpipe.registry.contention import translate

    error = MlflowException("API request to http://ada:secret@host:5000/api failed: 503")
    assert "secret" not in str(translate(error))


def test_why_a_server_does_not_answer_is_said_of_a_download_too() -> None:
    from mlflow.exceptions import MlflowException

    from freqtrade_mlpipe.registry.contention import translate

    several = f"The following failures occurred while downloading:\n##### File {'x' * 300} #####\n"
    error = MlflowException(several + "API request to http://h/a failed with exception timed out")
    assert str(translate(error)).endswith("timed out")


def test_listing_many_versions_takes_no_query_a_version(
    embedded: ModelRegistry, bundle: Written
) -> None:
    version = register(embedded, bundle, f1=0.7)
    tags = embedded._connection.get_version(NAME, version.version).tags
    for k in range(300):
        embedded._connection.create_version(NAME, tags, source=f"x:/{k}", run_id=version.run_id)
    statements: list[str] = []
    import sqlalchemy

    def count(_c: object, _k: object, statement: str, *_: object) -> None:
        statements.append(statement)

    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "before_cursor_execute", count)
    try:
        assert len(embedded.get_all_versions(NAME)) == 301
    finally:
        sqlalchemy.event.remove(sqlalchemy.engine.Engine, "before_cursor_execute", count)
    assert len([s for s in statements if s.startswith("SELECT")]) < 15


def test_two_models_do_not_touch_each_other(
    registry: ModelRegistry, variants: tuple[Written, ...]
) -> None:
    promoted(registry, variants[0])
    registry.register_model(model_name="other", model_path=variants[1].path)
    registry.promote_to_production("other", 1, force_reason="test")
    assert registry.get_model_names() == ["other", NAME]
    assert len(registry.get_model_history(NAME)) == 1


def test_damaged_database_is_named_at_once(new_directory: Callable[[], Path]) -> None:
    directory = new_directory()
    (directory / "mlflow.db").write_bytes(b"garbage" * 1000)
    begin = time.perf_counter()
    with pytest.raises(RegistryUnavailableError, match="not a SQLite database"):
        ModelRegistry(directory=directory)
    assert time.perf_counter() - begin < 5


def test_registry_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RegistryUnavailableError, match="cannot be opened"):
        ModelRegistry(directory=tmp_path / "file" / "registry")


def test_writer_that_holds_the_database_is_waited_for(
    embedded: ModelRegistry, bundle: Written
) -> None:
    import threading

    register(embedded, bundle, f1=0.7)
    holder = sqlite3.connect(
        embedded.directory / "mlflow.db", isolation_level=None, check_same_thread=False
    )
    holder.execute("BEGIN IMMEDIATE")
    threading.Timer(0.5, lambda: (holder.execute("COMMIT"), holder.close())).start()
    assert embedded.validate_model(NAME, 1, min_metrics={"f1": 0.5}).passed


def test_evidence_is_never_taken_from_thin_air() -> None:
    assert Evidence().backtest is None
