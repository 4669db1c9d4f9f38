"""kill -9 at every write: whoever opens the registry next sees the old state or the new one."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests
import sqlalchemy

from freqtrade_mlpipe.registry import (
    ModelRegistry,
    ModelStatus,
    RegistryUnavailableError,
    verify_bundle,
)
from tests.conftest import ANY_STORE
from tests.registry.conftest import Store, Written
from tests.servers import Server, missing, running

NAME = "trend_classifier"
Action = Callable[[ModelRegistry], object]
Stores = Callable[[Action], Iterator[Store]]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def run_and_kill(store: Store, action: Action, after_steps: int) -> bool:
    """Run `action` in a child that is killed at its n-th write; whether it was killed.

    A write is an SQL statement that changes something, a commit, or a copied, renamed or removed file; where a server
    does all this, a request that changes something.
    """
    child = os.fork()
    if child == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            _count_down(after_steps, only_requests=store.tracking_uri is not None)
            action(store.open())
        except BaseException:  # noqa: BLE001  the parent looks at the exit code
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def _count_down(steps: int, *, only_requests: bool) -> None:
    left = iter(range(steps))

    def step(*_: object) -> None:
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    if only_requests:
        on_requests(step)
        return

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


def on_requests(call: Callable[[int], None]) -> Callable[[], None]:
    """Call with its number before each request to a server that changes something; a call that ends this."""
    adapter, numbers = requests.adapters.HTTPAdapter, itertools.count()
    original = adapter.send

    def send(self: object, request: requests.PreparedRequest, **options: object) -> object:
        if request.method != "GET" and not str(request.url).endswith("/search"):
            call(next(numbers))
        return original(self, request, **options)  # type: ignore[arg-type]

    adapter.send = send  # type: ignore[method-assign, assignment]

    def restore() -> None:
        adapter.send = original  # type: ignore[method-assign]

    return restore


@pytest.fixture(params=ANY_STORE)
def stores(
    request: pytest.FixtureRequest, new_directory: Callable[[], Path], tmp_path: Path
) -> Stores:
    """Prepares a store, and one like it for each time somebody dies in it."""

    def on_sqlite(prepare: Action) -> Iterator[Store]:
        first = new_directory()
        prepare(ModelRegistry(directory=first))
        for k in itertools.count():
            directory = tmp_path / f"killed-{k}"
            shutil.copytree(first, directory)
            yield Store(None, directory)
            shutil.rmtree(directory)

    def on_server(prepare: Action) -> Iterator[Store]:
        uri = request.getfixturevalue("server").uri
        for k in itertools.count():
            store = Store(uri, tmp_path / f"killed-{k}")
            store.empty()
            prepare(store.open())
            yield store

    return on_sqlite if request.param == "sqlite" else on_server


@pytest.fixture(
    params=[pytest.param(1, marks=pytest.mark.slow, id="every step"), pytest.param(4, id="some")]
)
def stride(request: pytest.FixtureRequest, stores: Stores) -> int:
    if request.param > 1 and "server" in request.node.name:
        pytest.skip("a server has few steps, and every one is tried")
    found: int = request.param
    return found


def killed_everywhere(
    stores: Stores, prepare: Action, action: Action, stride: int
) -> Iterator[ModelRegistry]:
    """The registry after each `stride`-th possible death of `action`, reopened."""
    for k, store in enumerate(stores(prepare)):
        was_killed = run_and_kill(store, action, k * stride)
        yield store.open()
        if not was_killed:
            assert k > 2, "the faults were not injected"
            return


@pytest.fixture
def before(variants: tuple[Written, ...]) -> Action:
    """Version 1 in production, 2 validated."""

    def prepare(registry: ModelRegistry) -> None:
        for bundle in variants[:2]:
            registry.register_model(model_name=NAME, model_path=bundle.path, metrics={"f1": 0.7})
        for version in (1, 2):
            registry.validate_model(NAME, version, min_metrics={"f1": 0.5})
        registry.promote_to_production(NAME, 1)

    return prepare


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


def n_stored(registry: ModelRegistry) -> int:
    """How many bundles the store holds, whoever owns them."""
    connection = registry._connection
    runs = [str(run.info.run_id) for run in connection.runs()]
    return sum(len(connection.artifact_folders(run, "mlpipe")) for run in runs)


def test_killed_promotion_leaves_the_old_or_the_new_version(
    stores: Stores, before: Action, stride: int
) -> None:
    seen = []
    for registry in killed_everywhere(
        stores, before, lambda r: r.promote_to_production(NAME, 2), stride
    ):
        seen.append(production(registry))
        repaired(registry)
        assert production(registry) == seen[-1]
        registry.promote_to_production(NAME, 2)
        assert production(registry) == "2"
    assert seen == sorted(seen)
    assert {"1", "2"} == set(seen)


def test_killed_rollback_leaves_the_old_or_the_new_version(
    stores: Stores, before: Action, stride: int
) -> None:
    def prepare(registry: ModelRegistry) -> None:
        before(registry)
        registry.promote_to_production(NAME, 2)

    seen = []
    for registry in killed_everywhere(
        stores, prepare, lambda r: r.rollback_to_version(NAME), stride
    ):
        seen.append(production(registry))
        repaired(registry)
        assert production(registry) == seen[-1]
    assert seen == sorted(seen, reverse=True)
    assert {"1", "2"} == set(seen)


def test_killed_registration_leaves_no_version_or_a_whole_one(
    stores: Stores, before: Action, variants: tuple[Written, ...], stride: int
) -> None:
    seen = []

    def action(registry: ModelRegistry) -> object:
        return registry.register_model(
            model_name=NAME, model_path=variants[0].path, metrics={"f1": 0.9}, tags=["new"]
        )

    for registry in killed_everywhere(stores, before, action, stride):
        newest = registry.get_all_versions(NAME)[0]
        seen.append(newest.version)
        if newest.version == "3":
            assert (newest.metrics, newest.tags) == ({"f1": 0.9}, ("new",))
            verify_bundle(newest.model_path, variants[0].digest)
        n_kept = len(repaired(registry).get_all_versions(NAME))
        assert n_stored(registry) == n_kept == int(newest.version)
        assert production(registry) == "1"
    assert seen == sorted(seen)
    assert {"2", "3"} == set(seen)


def test_killed_first_registration_leaves_a_registry_that_works(
    stores: Stores, variants: tuple[Written, ...], stride: int
) -> None:
    def action(registry: ModelRegistry) -> object:
        return registry.register_model(model_name=NAME, model_path=variants[0].path)

    for registry in killed_everywhere(stores, lambda r: None, action, stride):
        repaired(registry)
        number = action(registry).version  # type: ignore[attr-defined]
        registry.promote_to_production(NAME, number, force_reason="test")
        assert production(registry) == number


def test_killed_deletion_leaves_the_version_or_nothing_of_it(
    stores: Stores, before: Action, stride: int
) -> None:
    seen = []
    for registry in killed_everywhere(stores, before, lambda r: r.delete_model(NAME, 2), stride):
        kept = [v.version for v in registry.get_all_versions(NAME)]
        seen.append("2" in kept)
        if seen[-1]:
            assert registry.get_version(NAME, 2).model_path.is_dir()
        repaired(registry)
        assert n_stored(registry) == len(kept)
        assert production(registry) == "1"
    assert seen == sorted(seen, reverse=True)
    assert {True, False} == set(seen)


@pytest.fixture(scope="module")
def mortal() -> Iterator[Server]:
    """A server of our own, to be killed."""
    if reason := missing():
        pytest.skip(reason)
    with running() as server:
        yield server


def attempt(registry: ModelRegistry, action: Action, die: Callable[[], None], at: int) -> bool:
    """Whether the n-th request that changes something was made; `die` is called while it is on its way."""
    dying = threading.Thread(target=die)
    restore = on_requests(lambda number: dying.start() if number == at else None)
    try:
        action(registry)
    except RegistryUnavailableError:
        assert dying.ident, "nobody had died yet"
    finally:
        restore()
    if dying.ident is None:
        return False
    dying.join()
    return True


@pytest.mark.server
@pytest.mark.slow
def test_killed_database_and_server_leave_the_old_or_the_new_state(
    mortal: Server, before: Action, variants: tuple[Written, ...], tmp_path: Path
) -> None:
    """The database dies at every request of a promotion, and of a registration; once the server dies with it."""

    def database_dies() -> None:
        mortal.postgres.kill()
        mortal.postgres.wait()

    def register(registry: ModelRegistry) -> object:
        return registry.register_model(model_name=NAME, model_path=variants[3].path)

    store = Store(mortal.uri, tmp_path)
    before(store.open())
    for at in itertools.count():
        registry = store.open()
        was, versions = production(registry), len(registry.get_all_versions(NAME))
        wanted = "2" if was == "1" else "1"

        def promote(registry: ModelRegistry, wanted: str = wanted) -> object:
            return registry.promote_to_production(NAME, wanted, force_reason="test")

        died = False
        for action in (promote, register):
            if attempt(registry, action, mortal.kill if at == 0 else database_dies, at):
                died = True
                mortal.start_postgres()
                if at == 0:
                    mortal.start_mlflow()
                mortal.wait_until_ready()
        assert production(registry) in (was, wanted)
        assert len(repaired(registry).get_all_versions(NAME)) - versions in (0, 1)
        assert n_stored(registry) == len(registry.get_all_versions(NAME))
        if not died:
            assert production(registry) == wanted
            assert at > 4
            return
