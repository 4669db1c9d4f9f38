"""Tags, retention and repair."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from freqtrade_mlpipe.exceptions import RegistryError
from freqtrade_mlpipe.registry import BundleCache, ModelRegistry, ModelStatus, generate_key
from tests.registry.conftest import Store, Written

NAME = "trend_classifier"
LATER = timedelta(days=2)


def problems(registry: ModelRegistry, *, mend: bool = False) -> list[str]:
    found = registry.doctor(mend=mend, now=datetime.now(UTC) + LATER)
    return [problem.what for problem in found]


@pytest.fixture
def many(registry: ModelRegistry, variants: tuple[Written, ...]) -> ModelRegistry:
    """Eight versions: 2, then 3 in production, 1 tagged."""
    for k in range(8):
        tags = ["golden"] if k == 0 else []
        registry.register_model(model_name=NAME, model_path=variants[k % 4].path, tags=tags)
    for version in (2, 3):
        registry.promote_to_production(NAME, version, force_reason="test")
    return registry


def numbers(registry: ModelRegistry) -> list[str]:
    return [version.version for version in registry.get_all_versions(NAME)]


def test_tags_and_notes_change_and_the_rest_stays(registry: ModelRegistry, bundle: Written) -> None:
    first = registry.register_model(
        model_name=NAME, model_path=bundle.path, tags=["a", "b"], notes="old", metrics={"f1": 0.5}
    )
    changed = registry.tag_model(NAME, 1, add=["c", "a"], remove=["b"])
    assert (changed.tags, changed.notes) == (("a", "c"), "old")
    changed = registry.tag_model(NAME, 1, notes="new")
    assert (changed.tags, changed.notes) == (("a", "c"), "new")
    registry.promote_to_production(NAME, 1, force_reason="why")
    live = registry.get_production_model(NAME)
    assert live is not None
    assert (live.notes, live.tags) == ("new", ("a", "c"))
    assert registry.get_model_history(NAME)[-1].reason == "why"
    assert (live.metrics, live.digest) == (first.metrics, first.digest)
    with pytest.raises(RegistryError, match=r"no tag 'x'\. It has: a, c"):
        registry.tag_model(NAME, 1, remove=["x"])
    with pytest.raises(RegistryError, match="empty"):
        registry.tag_model(NAME, 1, add=[" "])


def test_prune_keeps_production_the_way_back_tagged_ones_and_the_newest(
    many: ModelRegistry,
) -> None:
    stored = sum(1 for _ in (many.directory / "artifacts").rglob("manifest.json"))
    planned = many.plan_prune(NAME, 2)
    assert [item.version.version for item in planned] == ["6", "5", "4"]
    for item in planned:
        files = (many.directory / "artifacts" / item.version.run_id).rglob("*")
        assert item.n_bytes == sum(path.stat().st_size for path in files if path.is_file()) > 0
    assert numbers(many) == ["8", "7", "6", "5", "4", "3", "2", "1"]

    assert many.prune(NAME, 2) == planned
    assert numbers(many) == ["8", "7", "3", "2", "1"]
    assert sum(1 for _ in (many.directory / "artifacts").rglob("manifest.json")) == stored - 3
    assert many.plan_prune(NAME, 2) == []
    assert many.rollback_to_version(NAME).version == "2"


def test_version_promoted_in_between_is_not_pruned(
    many: ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete = ModelRegistry.delete_model

    def late(self: ModelRegistry, name: str, version: str, **options: object) -> None:
        if version == "5":
            self.promote_to_production(name, "5", force_reason="late")
        delete(self, name, version, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(ModelRegistry, "delete_model", late)
    assert [item.version.version for item in many.prune(NAME, 2)] == ["6", "4"]
    live = many.get_production_model(NAME)
    assert live is not None
    assert live.version == "5"


def test_retention_signing_and_repair_work_on_any_store(
    store: Store, variants: tuple[Written, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = store.open()
    problems(registry, mend=True)  # what other tests left on a server that they share
    for bundle in variants:
        registry.register_model(model_name=NAME, model_path=bundle.path)
    registry.promote_to_production(NAME, 2, force_reason="test")
    registry.tag_model(NAME, 1, add=["golden"])
    public = generate_key(tmp_path / "key.pem")
    assert registry.sign_model(NAME, 2, tmp_path / "key.pem") == public
    assert registry.signer_of(NAME, 2) == public
    fresh = BundleCache(tmp_path / "bot", store.tracking_uri, trusted_keys=[public])
    if store.tracking_uri is not None:
        assert fresh.load(fresh.resolve(NAME)).digest == variants[1].digest

    (pruned,) = registry.prune(NAME, 1)
    assert pruned.version.version == "3"
    files = [path for path in variants[2].path.rglob("*") if path.is_file()]
    assert pruned.n_bytes == sum(path.stat().st_size for path in files)

    create = type(registry._connection).create_version

    def killed(*_: object, **__: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(type(registry._connection), "create_version", killed)
    with pytest.raises(KeyboardInterrupt):
        registry.register_model(model_name=NAME, model_path=variants[0].path)
    monkeypatch.setattr(type(registry._connection), "create_version", create)
    assert any("No version owns" in what for what in problems(registry, mend=True))
    assert problems(registry) == []
    assert numbers(registry) == ["4", "2", "1"]
    for version in numbers(registry):
        assert registry.load_bundle(NAME, version).digest == variants[int(version) - 1].digest


def test_healthy_registry_has_no_problems(many: ModelRegistry) -> None:
    for version in many.get_all_versions(NAME):
        assert version.model_path.is_dir()
    assert problems(many) == []


def test_doctor_mends_alias_status_and_unfinished_deletion(many: ModelRegistry) -> None:
    many._catalogue.finish_deletion = lambda *_: None  # type: ignore[method-assign]
    many.delete_model(NAME, 4)
    many = ModelRegistry(directory=many.directory)
    connection = many._connection
    connection.set_alias(NAME, "production", "7")
    connection.set_tag(NAME, "5", "mlpipe.status", "PRODUCTION")

    found = problems(many)
    assert len(found) == 3
    assert any("version 7, version 3 is in production" in what for what in found)
    assert any("deletion of version 4 was not finished" in what for what in found)
    assert any("ersion 5 is tagged PRODUCTION, it is STAGED" in what for what in found)
    assert len(problems(many)) == 3, "reporting mends nothing"
    problems(many, mend=True)
    # The bundle run of the deleted version is empty now.
    assert all("was made for a bundle" in what for what in problems(many, mend=True))
    assert problems(many) == []
    assert connection.get_alias(NAME, "production") == "3"


def test_doctor_removes_what_no_version_owns(
    registry: ModelRegistry, bundle: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.register_model(model_name=NAME, model_path=bundle.path)
    create = type(registry._connection).create_version

    def killed(*_: object, **__: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(type(registry._connection), "create_version", killed)
    for name in (NAME, "other"):
        with pytest.raises(KeyboardInterrupt):
            registry.register_model(model_name=name, model_path=bundle.path)
    monkeypatch.setattr(type(registry._connection), "create_version", create)

    assert registry.doctor(now=datetime.now(UTC)) == [], "what is young may be at work"
    found = registry.doctor(now=datetime.now(UTC) + LATER)
    assert sorted(problem.what.split()[0] for problem in found) == ["No", "No", "Run", "Run", "The"]
    size = sum(path.stat().st_size for path in bundle.path.rglob("*") if path.is_file())
    assert sum(problem.n_bytes for problem in found) == 2 * size
    problems(registry, mend=True)
    assert problems(registry) == []
    assert registry.get_model_names() == [NAME]
    assert len(list((registry.directory / "artifacts").rglob("manifest.json"))) == 1
    assert registry.load_bundle(NAME, 1).digest == bundle.digest


def test_artifacts_of_users_own_runs_are_left_alone(
    registry: ModelRegistry, bundle: Written, tmp_path: Path
) -> None:
    client = registry._connection.client
    run = client.create_run(client.create_experiment("mine", artifact_location=tmp_path.as_uri()))
    (tmp_path / "notes.txt").write_text("mine")
    client.log_artifact(run.info.run_id, str(tmp_path / "notes.txt"))
    registry.register_model(model_name=NAME, model_path=bundle.path)
    assert problems(registry, mend=True) == []


def test_doctor_clears_the_cache_of_what_is_not_needed(many: ModelRegistry, tmp_path: Path) -> None:
    place = many.get_version(NAME, 8).model_path
    root = many.directory / "cache"
    (root / ("f" * 64)).mkdir()
    (root / ".download-abc").mkdir()
    (root / ".corrupt-abc").mkdir()
    (many.directory / "mlflow.db.unfinished").write_bytes(b"x" * 100)
    rotten = many.get_version(NAME, 7).model_path
    (rotten / "manifest.json").write_bytes(b"{}")
    (root / "link").symlink_to(tmp_path)
    (tmp_path / "precious").write_text("mine")
    assert len(problems(many, mend=True)) == 6
    assert (tmp_path / "precious").exists()
    assert sorted(path.name for path in root.iterdir()) == sorted(
        {place.name, *(v.digest for v in many.get_all_versions(NAME) if (root / v.digest).exists())}
    )
    assert not rotten.exists()
    assert many.get_version(NAME, 7).model_path == rotten
    assert problems(many) == []


def test_doctor_removes_the_journals_of_searches_long_ago(registry: ModelRegistry) -> None:
    folder = registry.directory / "searches"
    folder.mkdir()
    for name, days in (("old.journal", 31), ("old.journal.busy", 31), ("young.journal", 29)):
        (folder / name).write_text("trial\n" * 10)
        then = (datetime.now(UTC) - timedelta(days=days)).timestamp()
        os.utime(folder / name, (then, then))
    found = registry.doctor(mend=True)
    assert [(problem.where, problem.n_bytes, problem.mended) for problem in found] == [
        ("files", 60, True)
    ] * 2
    assert [path.name for path in folder.iterdir()] == ["young.journal"]


def test_what_was_served_last_stays_in_the_cache(
    many: ModelRegistry, variants: tuple[Written, ...]
) -> None:
    from freqtrade_mlpipe.registry import BundleCache

    pinned = BundleCache(many.directory).resolve(NAME, "4")
    for version in (8, 4):
        many.delete_model(NAME, version)
    problems(many, mend=True)
    assert pinned.path.is_dir()


def test_entry_added_by_hand_is_removed_and_the_history_stands(many: ModelRegistry) -> None:
    history = many.get_model_history(NAME)
    client = many._connection.client
    client.create_model_version(f"{NAME}.promotions", "x:/by-hand", tags={"what": "ever"})
    with pytest.raises(RegistryError, match="cannot be read"):
        many.get_model_history(NAME)
    assert any("added by hand" in what for what in problems(many))
    problems(many, mend=True)
    assert many.get_model_history(NAME) == history
    assert problems(many) == []


def test_lost_entry_is_reported_and_nothing_is_guessed(many: ModelRegistry) -> None:
    many._connection.delete_version(f"{NAME}.promotions", "1")
    found = many.doctor(mend=True, now=datetime.now(UTC) + LATER)
    assert any("damaged" in problem.what and problem.mend is None for problem in found)
    assert not any(problem.mended for problem in found)


def test_damaged_entry_of_ours_is_never_deleted(many: ModelRegistry) -> None:
    many._connection.set_tag(f"{NAME}.promotions", "2", "mlpipe.entry", "{")
    found = many.doctor(mend=True, now=datetime.now(UTC) + LATER)
    assert any("cannot be read" in problem.what and problem.mend is None for problem in found)
    assert many._connection.get_version(f"{NAME}.promotions", "2") is not None


def test_lost_files_are_named_for_a_person(registry: ModelRegistry, bundle: Written) -> None:
    version = registry.register_model(model_name=NAME, model_path=bundle.path)
    folder = registry.directory / "artifacts" / version.run_id / "artifacts" / version.artifact_path
    for path in sorted(folder.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (found,) = registry.doctor(mend=True, now=datetime.now(UTC) + LATER)
    assert "version 1 are damaged: they are gone" in found.what
    assert found.mend is None
    assert registry.get_version(NAME, 1).status is ModelStatus.STAGED


def test_password_of_the_environment_is_in_no_file(
    new_directory: Callable[[], Path], bundle: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2hunter2")
    monkeypatch.setenv("WANDB_API_KEY", "wandbsecretwandbsecret")
    registry = ModelRegistry(directory=new_directory())
    registry.register_model(model_name=NAME, model_path=bundle.path)
    registry.promote_to_production(NAME, 1, force_reason="x")
    for path in registry.directory.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert b"hunter2hunter2" not in data
            assert b"wandbsecret" not in data
    assert os.environ["MLFLOW_TRACKING_PASSWORD"]
