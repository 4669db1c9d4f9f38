"""kill -9 at every write: whoever opens the registry next sees the old state or the new one."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy

from freqtrade_mlpipe.registry import ModelRegistry, ModelStatus, verify_bundle
from tests.registry.conftest import Written

NAME = "trend_classifier"
Action = Callable[[ModelRegistry], object]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def run_and_kill(directory: Path, action: Action, after_steps: int) -> bool:
    """Run `action` in a child that is killed at its n-th write; whether it was killed.

    A write is an SQL statement that changes something, a commit, or a copied, renamed or removed
    file.
    """
    child = os.fork()
    if child == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            _count_down(after_steps)
            action(ModelRegistry(directory=directory))
        except BaseException:  # noqa: BLE001  the parent looks at the exit code
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def _count_down(steps: int) -> None:
    left = iter(range(steps))

    def step(*_: object) -> None:
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    def before_statement(_c: object, _k: object, statement: str, *_: object) -> None:
        if statement.lstrip().upper().startswith(("INSERT", "UPDATE", "DELETE")):
            step()

    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "before_cursor_execute", before_statement)
    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "commit", step)
    for owner, name in ((shutil, "copyfile"), (Path, "rename"), (shutil, "rmtree"), (os, "unlink")):
        setattr(owner, name, _stepping(getattr(owner, name), step))


def _stepping(original: Callable[..., object], step: Callable[[], None]) -> Callable[..., object]:
    def stepped(*args: object, **kwargs: object) -> object:
        step()
        return original(*args, **kwargs)

    return stepped


@pytest.fixture
def before(new_directory: Callable[[], Path], variants: tuple[Written, ...]) -> Path:
    """Version 1 in production, 2 validated, 3 and 4 registered."""
    directory = new_directory()
    registry = ModelRegistry(directory=directory)
    for bundle in variants:
        registry.register_model(model_name=NAME, model_path=bundle.path, metrics={"f1": 0.7})
    for version in (1, 2):
        registry.validate_model(NAME, version, min_metrics={"f1": 0.5})
    registry.promote_to_production(NAME, 1)
    return directory


def killed_everywhere(before: Path, action: Action, *, stride: int = 1) -> Iterator[ModelRegistry]:
    """The registry after each `stride`-th possible death of `action`, reopened on a copy."""
    steps = 0
    while True:
        directory = before.with_name(f"killed-{steps}")
        shutil.copytree(before, directory)
        was_killed = run_and_kill(directory, action, steps)
        yield ModelRegistry(directory=directory)
        shutil.rmtree(directory)
        if not was_killed:
            assert steps > 5, "the faults were not injected"
            return
        steps += stride


EVERY_STEP = pytest.mark.parametrize(
    "stride", [pytest.param(1, marks=pytest.mark.slow, id="every step"), pytest.param(4, id="some")]
)


def production(registry: ModelRegistry) -> str:
    live = registry.get_production_model(NAME)
    assert live is not None
    statuses = {v.version: v.status for v in registry.get_all_versions(NAME)}
    assert [n for n, s in statuses.items() if s is ModelStatus.PRODUCTION] == [live.version]
    assert verify_bundle(live.model_path)[1] == live.digest
    history = registry.get_model_history(NAME)
    assert history[-1].production == live.version
    for earlier, later in itertools.pairwise(history):
        assert later.expect == earlier.number
    return live.version


def repaired(registry: ModelRegistry) -> ModelRegistry:
    """After the doctor has seen it once, there is nothing left to see."""
    later = datetime.now(UTC) + timedelta(days=2)
    mended = registry.doctor(mend=True, now=later)
    assert all(problem.mended for problem in mended), mended
    # Artifacts that went leave an empty run behind them.
    registry.doctor(mend=True, now=later)
    assert registry.doctor(now=later) == []
    if registry.get_production_model(NAME) is None:
        return registry
    assert registry._connection.get_alias(NAME, "production") == production(registry)
    for found in registry._connection.list_versions(NAME):
        status = registry.get_version(NAME, found.version).status
        assert found.tags["mlpipe.status"] == status.value
    return registry


@EVERY_STEP
def test_killed_promotion_leaves_the_old_or_the_new_version(before: Path, stride: int) -> None:
    seen = []
    for registry in killed_everywhere(
        before, lambda r: r.promote_to_production(NAME, 2), stride=stride
    ):
        seen.append(production(registry))
        repaired(registry)
        assert production(registry) == seen[-1]
        registry.promote_to_production(NAME, 2)
        assert production(registry) == "2"
    assert seen == sorted(seen)
    assert {"1", "2"} == set(seen)


@EVERY_STEP
def test_killed_rollback_leaves_the_old_or_the_new_version(before: Path, stride: int) -> None:
    ModelRegistry(directory=before).promote_to_production(NAME, 2)
    seen = []
    for registry in killed_everywhere(before, lambda r: r.rollback_to_version(NAME), stride=stride):
        seen.append(production(registry))
        repaired(registry)
        assert production(registry) == seen[-1]
    assert seen == sorted(seen, reverse=True)
    assert {"1", "2"} == set(seen)


@EVERY_STEP
def test_killed_registration_leaves_no_version_or_a_whole_one(
    before: Path, variants: tuple[Written, ...], stride: int
) -> None:
    seen = []

    def action(registry: ModelRegistry) -> object:
        return registry.register_model(
            model_name=NAME, model_path=variants[0].path, metrics={"f1": 0.9}, tags=["new"]
        )

    for registry in killed_everywhere(before, action, stride=stride):
        newest = registry.get_all_versions(NAME)[0]
        seen.append(newest.version)
        if newest.version == "5":
            assert (newest.metrics, newest.tags) == ({"f1": 0.9}, ("new",))
            verify_bundle(newest.model_path, variants[0].digest)
        n_kept = len(repaired(registry).get_all_versions(NAME))
        stored = list((registry.directory / "artifacts").rglob("manifest.json"))
        assert len(stored) == n_kept == int(newest.version)
        assert production(registry) == "1"
    assert seen == sorted(seen)
    assert {"4", "5"} == set(seen)


@EVERY_STEP
def test_killed_first_registration_leaves_a_registry_that_works(
    new_directory: Callable[[], Path], variants: tuple[Written, ...], stride: int
) -> None:
    def action(registry: ModelRegistry) -> object:
        return registry.register_model(model_name=NAME, model_path=variants[0].path)

    for registry in killed_everywhere(new_directory(), action, stride=stride):
        repaired(registry)
        number = action(registry).version  # type: ignore[attr-defined]
        registry.promote_to_production(NAME, number, force_reason="test")
        assert production(registry) == number


@EVERY_STEP
def test_killed_deletion_leaves_the_version_or_nothing_of_it(before: Path, stride: int) -> None:
    seen = []
    for registry in killed_everywhere(before, lambda r: r.delete_model(NAME, 3), stride=stride):
        kept = [v.version for v in registry.get_all_versions(NAME)]
        seen.append("3" in kept)
        if seen[-1]:
            assert registry.get_version(NAME, 3).model_path.is_dir()
        repaired(registry)
        stored = list((registry.directory / "artifacts").rglob("manifest.json"))
        assert len(stored) == len(kept)
        assert production(registry) == "1"
    assert seen == sorted(seen, reverse=True)
    assert {True, False} == set(seen)
