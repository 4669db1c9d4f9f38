"""What the bot reads: the right bundle, also when the registry is down or the disk rots."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from freqtrade_mlpipe.exceptions import BundleError, RegistryError
from freqtrade_mlpipe.registry import (
    BundleCache,
    ModelRegistry,
    RegistryUnavailableError,
    verify_bundle,
)
from tests.registry.conftest import Written

NAME = "trend_classifier"


@pytest.fixture
def served(registry: ModelRegistry, variants: tuple[Written, ...]) -> ModelRegistry:
    """Version 1 and then 2 in production, 3 registered."""
    for k, bundle in enumerate(variants[:3], start=1):
        registry.register_model(model_name=NAME, model_path=bundle.path)
        if k < 3:
            registry.promote_to_production(NAME, k, force_reason="test")
    return registry


def take_down(registry: ModelRegistry) -> None:
    """The database becomes unreadable for whoever opens it next."""
    (registry.directory / "mlflow.db").write_bytes(b"garbage" * 4096)


def test_production_latest_and_pinned_are_resolved(
    served: ModelRegistry, variants: tuple[Written, ...]
) -> None:
    cache = BundleCache(served.directory)
    for wanted, number in ((None, "2"), ("latest", "3"), ("1", "1")):
        found = cache.resolve(NAME, wanted)
        assert (found.version, found.digest) == (number, variants[int(number) - 1].digest)
        assert found.stale_reason is None
        assert cache.load(found).digest == found.digest


def test_resolving_follows_promotion_and_rollback(served: ModelRegistry) -> None:
    cache = BundleCache(served.directory)
    assert cache.resolve(NAME).version == "2"
    served.rollback_to_version(NAME)
    assert cache.resolve(NAME).version == "1"


def test_nothing_in_production_is_not_hidden_by_an_old_answer(registry: ModelRegistry) -> None:
    with pytest.raises(RegistryError, match="No registered model"):
        BundleCache(registry.directory).resolve(NAME)


def test_unvalidated_model_is_not_served(registry: ModelRegistry, bundle: Written) -> None:
    registry.register_model(model_name=NAME, model_path=bundle.path)
    with pytest.raises(RegistryError, match="no production version"):
        BundleCache(registry.directory).resolve(NAME)


def test_bot_starts_while_the_registry_is_down(served: ModelRegistry) -> None:
    before = BundleCache(served.directory).resolve(NAME)
    take_down(served)
    cache = BundleCache(served.directory)
    found = cache.resolve(NAME)
    assert (found.version, found.path) == (before.version, before.path)
    assert found.stale_reason is not None
    assert "not a SQLite database" in found.stale_reason
    assert cache.load(found).digest == before.digest


def test_running_bot_outlives_the_registry(
    served: ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = BundleCache(served.directory)
    before = cache.resolve(NAME)

    def gone(*_: object) -> None:
        raise RegistryUnavailableError("The server does not answer.")

    monkeypatch.setattr(ModelRegistry, "resolve", gone)
    found = cache.resolve(NAME)
    assert (found.version, found.stale_reason) == (before.version, "The server does not answer.")


def test_registry_that_never_answered_is_an_error(served: ModelRegistry) -> None:
    take_down(served)
    with pytest.raises(RegistryError, match="Nothing was served from this folder before"):
        BundleCache(served.directory).resolve(NAME)


@pytest.mark.parametrize(
    ("name", "wanted"), [("../x", None), (NAME, "../../x"), (NAME, "v1"), ("", None)]
)
def test_names_that_lead_elsewhere_are_refused(
    tmp_path: Path, name: str, wanted: str | None
) -> None:
    with pytest.raises(RegistryError, match="There is no version"):
        BundleCache(tmp_path / "none").resolve(name, wanted)
    assert not (tmp_path / "none").exists()


def test_old_answer_is_not_trusted_when_its_bundle_rotted(served: ModelRegistry) -> None:
    found = BundleCache(served.directory).resolve(NAME)
    (found.path / "drift_baseline.json").write_text("{}")
    take_down(served)
    with pytest.raises(RegistryError, match="missing or corrupt"):
        BundleCache(served.directory).resolve(NAME)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"digest": "../../x", "version": "1"}', "\x00"])
def test_damaged_pointer_is_no_answer(served: ModelRegistry, text: str) -> None:
    BundleCache(served.directory).resolve(NAME)
    take_down(served)
    pointer = served.directory / "cache" / "pointers" / f"{NAME}@production.json"
    assert json.loads(pointer.read_text())["version"] == "2"
    pointer.write_text(text)
    with pytest.raises(RegistryError):
        BundleCache(served.directory).resolve(NAME)


def test_rotten_bundle_is_set_aside_and_fetched_anew(served: ModelRegistry) -> None:
    found = BundleCache(served.directory).resolve(NAME)
    (found.path / "drift_baseline.json").write_text("{}")
    again = BundleCache(served.directory).resolve(NAME)
    assert again.path == found.path
    verify_bundle(again.path, again.digest)
    assert len(list((served.directory / "cache").glob(".corrupt-*"))) == 1


def test_bundle_that_rots_between_resolving_and_loading_is_fetched_anew(
    served: ModelRegistry,
) -> None:
    cache = BundleCache(served.directory)
    found = cache.resolve(NAME)
    shutil.rmtree(found.path / "members" / "1")
    assert cache.load(found).digest == found.digest
    shutil.rmtree(found.path)
    assert cache.load(found).digest == found.digest


def test_download_that_is_corrupt_never_reaches_the_cache(
    served: ModelRegistry, variants: tuple[Written, ...], tmp_path: Path
) -> None:
    cache = BundleCache(tmp_path)

    def tampered(folder: Path) -> Path:
        copy = Path(shutil.copytree(variants[0].path, folder / "b"))
        (copy / "drift_baseline.json").write_text("{}")
        return copy

    with pytest.raises(BundleError):
        cache.fetch(variants[0].digest, tampered)
    with pytest.raises(BundleError, match="expected"):
        cache.fetch(variants[0].digest, lambda f: Path(shutil.copytree(variants[1].path, f / "b")))
    assert list((tmp_path / "cache").iterdir()) == []


def test_download_interrupted_half_way_leaves_nothing_that_looks_good(
    variants: tuple[Written, ...], tmp_path: Path
) -> None:
    cache = BundleCache(tmp_path)

    def interrupted(folder: Path) -> Path:
        shutil.copy(variants[0].path / "manifest.json", folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.fetch(variants[0].digest, interrupted)
    assert not cache.path_of(variants[0].digest).exists()
    path = cache.fetch(
        variants[0].digest, lambda f: Path(shutil.copytree(variants[0].path, f / "b"))
    )
    verify_bundle(path, variants[0].digest)


def test_resolving_again_is_quick(served: ModelRegistry) -> None:
    cache = BundleCache(served.directory)
    cache.resolve(NAME)
    times = []
    for _ in range(20):
        begin = time.perf_counter()
        cache.resolve(NAME)
        times.append(time.perf_counter() - begin)
    assert min(times) < 0.05  # 4 ms on an idle machine


def test_importing_what_the_bot_reads_loads_no_mlflow() -> None:
    code = (
        "import sys, freqtrade_mlpipe.registry.cache, freqtrade_mlpipe.registry.bundle, "
        "freqtrade_mlpipe.member; "
        "print([m for m in ('mlflow', 'optuna', 'freqtrade', 'sqlalchemy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
