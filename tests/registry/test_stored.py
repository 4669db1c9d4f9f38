"""What the store holds decides, not what this machine has cached: a bot elsewhere has only the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from freqtrade_mlpipe.exceptions import BundleError
from freqtrade_mlpipe.registry import BundleCache, ModelRegistry, generate_key
from freqtrade_mlpipe.registry.contention import RegistryUnavailableError
from freqtrade_mlpipe.registry.files import SIGNATURE_FILE
from tests.registry.conftest import Store, Written

NAME = "trend_classifier"
MODEL_FILE = "members/0/model.txt"

Change = Callable[[bytes], bytes]


def flip(data: bytes) -> bytes:
    """One bit of one byte."""
    return data[:100] + bytes([data[100] ^ 1]) + data[101:]


def damage(
    registry: ModelRegistry,
    number: int,
    tmp_path: Path,
    name: str = MODEL_FILE,
    change: Change = flip,
) -> None:
    """Change one stored file of a version behind the registry's back, on any store."""
    version = registry.get_version(NAME, number)
    folder, _, file = f"{version.artifact_path}/{name}".rpartition("/")
    found = registry._connection.download(version.run_id, folder, tmp_path / f"damaged-{number}")
    (found / file).write_bytes(change((found / file).read_bytes()))
    registry._connection.upload_file(found / file, folder, version.run_id)


def lose(registry: ModelRegistry, number: int, name: str = "") -> None:
    version = registry.get_version(NAME, number)
    place = f"{version.artifact_path}/{name}".rstrip("/")
    registry._connection.delete_artifacts(version.run_id, place)


def summary(registry: ModelRegistry) -> Mapping[str, object]:
    """Everything that a refused call must leave as it is."""
    connection = registry._connection
    return {
        "history": registry.get_model_history(NAME),
        "aliases": [connection.get_alias(NAME, alias) for alias in ("production", "challenger")],
        "tags": {found.version: found.tags for found in connection.list_versions(NAME)},
    }


@pytest.fixture
def four(store: Store, variants: tuple[Written, ...]) -> ModelRegistry:
    """Versions 1, then 2 in production, 3 the challenger, 4 passed its gates; all cached here and sound."""
    registry = store.open()
    for bundle in variants:
        registry.register_model(model_name=NAME, model_path=bundle.path, metrics={"f1": 0.7})
    for version in (1, 2):
        registry.promote_to_production(NAME, version, force_reason="test")
    registry.set_challenger(NAME, 3)
    registry.validate_model(NAME, 4, min_metrics={"f1": 0.5})
    for found in registry.get_all_versions(NAME):
        assert found.model_path.is_dir()
    return registry


def test_damaged_version_is_neither_validated_nor_promoted_nor_rolled_back_to(
    four: ModelRegistry, tmp_path: Path
) -> None:
    for number in (1, 2, 4):
        damage(four, number, tmp_path)
    lose(four, 3)
    before = summary(four)
    for number, act in (
        (4, lambda: four.validate_model(NAME, 4, min_metrics={"f1": 0.5})),
        (4, lambda: four.check_stored(four.get_version(NAME, 4))),
        (4, lambda: four.promote_to_production(NAME, 4)),
        (4, lambda: four.promote_to_production(NAME, 4, force_reason="even so")),
        (4, lambda: four.set_challenger(NAME, 4)),
        (2, lambda: four.promote_to_production(NAME, 2)),  # in production already
        (2, lambda: four.rollback_to_version(NAME, 2)),
        (1, lambda: four.rollback_to_version(NAME)),
    ):
        with pytest.raises(BundleError) as caught:
            act()
        said = str(caught.value)
        assert said.startswith(f"The stored files of version {number} of {NAME} are damaged: ")
        assert f"{MODEL_FILE} differs from the manifest: its SHA-256 is another one." in said
        assert four.get_version(NAME, number).run_id in said
        assert str(tmp_path) not in said
        assert summary(four) == before
    with pytest.raises(BundleError, match="version 3 of trend_classifier are damaged"):
        four.promote_to_production(NAME, 3, force_reason="even so")
    assert summary(four) == before
    four.delete_model(NAME, 4)
    assert [version.version for version in four.get_all_versions(NAME)] == ["3", "2", "1"]


def test_doctor_restores_from_the_cache_what_it_holds(
    four: ModelRegistry, store: Store, variants: tuple[Written, ...], tmp_path: Path
) -> None:
    key = tmp_path / "key.pem"
    public = generate_key(key)
    four.sign_model(NAME, 2, key)
    (four.directory / "cache" / variants[1].digest / SIGNATURE_FILE).unlink()
    damage(four, 1, tmp_path, "manifest.json", lambda data: data + b" ")
    damage(four, 2, tmp_path)
    lose(four, 3)
    version = four.get_version(NAME, 4)
    (tmp_path / "MLmodel").write_text("flavors: {}")  # one file too many
    four._connection.upload_file(tmp_path / "MLmodel", version.artifact_path, version.run_id)
    before = summary(four)

    found = {problem.what: problem for problem in four.doctor()}
    assert [what.split(": ")[0] for what in found] == [
        f"The stored files of version {number} are damaged" for number in (3, 2, 1)
    ], "version 4 is neither in production nor next"
    assert all(problem.mend and not problem.mended for problem in found.values())
    with pytest.raises(BundleError):  # the dry run changed nothing
        four.promote_to_production(NAME, 2)

    assert len(four.doctor(mend=True, every=True)) == 4
    assert four.doctor(every=True) == []
    assert summary(four) == before
    assert four.signer_of(NAME, 2) == public
    elsewhere = ModelRegistry(store.tracking_uri, four.directory)
    elsewhere._catalogue.cache = BundleCache(tmp_path / "elsewhere", store.tracking_uri)
    for version, bundle in zip((1, 2, 3, 4), variants, strict=True):
        assert elsewhere.load_bundle(NAME, version).digest == bundle.digest
    assert four.rollback_to_version(NAME).version == "1"


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_doctor_says_what_to_do_where_no_sound_copy_is_here(
    four: ModelRegistry, variants: tuple[Written, ...], tmp_path: Path
) -> None:
    for number, bundle in ((2, variants[1]), (3, variants[2])):
        damage(four, number, tmp_path)
        cached = four.directory / "cache" / bundle.digest / MODEL_FILE
        cached.write_bytes(flip(cached.read_bytes()))
    challenger, live = four.doctor(mend=True)
    assert [challenger.mended, live.mended] == [False, False]
    assert "from a backup" in live.what
    assert "roll back" in live.what
    assert "delete the version" in challenger.what
    with pytest.raises(BundleError):
        four.promote_to_production(NAME, 2)
    assert four.rollback_to_version(NAME).version == "1"


def test_damaged_signature_is_found_and_never_taken_over(
    registry: ModelRegistry, bundle: Written, tmp_path: Path
) -> None:
    public = generate_key(tmp_path / "key.pem")
    registry.register_model(model_name=NAME, model_path=bundle.path)
    registry.promote_to_production(NAME, 1, force_reason="test")
    registry.sign_model(NAME, 1, tmp_path / "key.pem")
    bot = BundleCache(registry.directory, trusted_keys=[public])
    place = bot.resolve(NAME).path
    damage(registry, 1, tmp_path, SIGNATURE_FILE, lambda data: data[:-10])
    with pytest.raises(BundleError, match=r"The signature of the bundle .* is not valid"):
        registry.promote_to_production(NAME, 1)
    assert bot.load(bot.resolve(NAME)).digest == bundle.digest, "the sound one here goes on serving"

    assert [problem.mended for problem in registry.doctor(mend=True)] == [True]
    assert registry.signer_of(NAME, 1) == public
    damage(registry, 1, tmp_path, SIGNATURE_FILE, lambda _: b"{}")
    (place / SIGNATURE_FILE).unlink()
    assert registry.sign_model(NAME, 1, tmp_path / "key.pem") == public, "signing anew mends it too"
    assert registry.doctor() == []


def test_version_signed_elsewhere_since_it_was_cached_is_trusted(
    registry: ModelRegistry, bundle: Written, tmp_path: Path
) -> None:
    public = generate_key(tmp_path / "key.pem")
    registry.register_model(model_name=NAME, model_path=bundle.path)
    asking = ModelRegistry(directory=registry.directory, trusted_keys=[public])
    with pytest.raises(BundleError, match="not signed"):
        asking.load_bundle(NAME, 1)
    registry.sign_model(NAME, 1, tmp_path / "key.pem")
    (
        registry.directory / "cache" / bundle.digest / SIGNATURE_FILE
    ).unlink()  # as on another machine
    assert asking.load_bundle(NAME, 1).digest == bundle.digest


def test_store_that_cannot_be_asked_is_no_damage(
    registry: ModelRegistry, bundle: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.register_model(model_name=NAME, model_path=bundle.path)
    registry.promote_to_production(NAME, 1, force_reason="test")

    def down(*_: object) -> object:
        raise RegistryUnavailableError("The registry server does not answer.")

    monkeypatch.setattr(registry._connection, "download", down)
    for act in (registry.doctor, lambda: registry.promote_to_production(NAME, 1)):
        with pytest.raises(RegistryUnavailableError):
            act()
