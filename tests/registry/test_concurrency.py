"""Several processes at once: one production version, one unbroken history."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from freqtrade_mlpipe.exceptions import PromotionConflictError, RegistryError
from freqtrade_mlpipe.registry import ModelStatus
from tests.registry.conftest import Store, Written

NAME = "trend_classifier"

CONTEXT = multiprocessing.get_context("fork" if hasattr(os, "fork") else None)

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def run(tasks: list[tuple[Callable[..., None], tuple[object, ...]]]) -> None:
    """Run every task in a process of its own, all at once.

    They are forked, for speed, by a parent that has not opened their database.
    """
    children = [CONTEXT.Process(target=task, args=args) for task, args in tasks]
    for child in children:
        child.start()
    for child in children:
        child.join(timeout=300)
        assert child.exitcode == 0


def _register_all(store: Store, bundles: list[Path]) -> None:
    registry = store.open()
    for path in bundles:
        registry.register_model(model_name=NAME, model_path=path)


def _promote_and_roll_back(store: Store, seed: int, n_operations: int, outcomes: object) -> None:
    rng = random.Random(seed)
    registry = store.open()
    done: list[str] = []
    for _ in range(n_operations):
        try:
            if rng.random() < 0.6:
                registry.promote_to_production(
                    NAME, rng.randint(1, 4), force_reason="race", actor=str(seed)
                )
            else:
                registry.rollback_to_version(NAME, actor=str(seed))
            done.append("done")
        except PromotionConflictError:
            done.append("conflict")
        except RegistryError as error:
            done.append("nothing" if "no earlier production" in str(error) else repr(error))
        except Exception as error:  # noqa: BLE001  the parent reports it
            done.append(repr(error))
    outcomes.put(done)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("n_processes", "n_operations"),
    [(4, 10), pytest.param(8, 25, marks=pytest.mark.slow)],
    ids=["40 operations", "200 operations"],
)
def test_promoting_and_rolling_back_at_once_keeps_one_production_version(
    store: Store,
    variants: tuple[Written, ...],
    n_processes: int,
    n_operations: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # They may keep a server busy for longer than the three seconds that we wait for an answer.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    run([(_register_all, (store, [bundle.path for bundle in variants]))])
    outcomes = CONTEXT.Queue()
    run(
        [
            (_promote_and_roll_back, (store, seed, n_operations, outcomes))
            for seed in range(n_processes)
        ]
    )
    found = [word for _ in range(n_processes) for word in outcomes.get(timeout=10)]
    registry = store.open()

    assert set(found) <= {"done", "conflict", "nothing"}, found
    assert len(found) == n_processes * n_operations
    versions = registry.get_all_versions(NAME)
    (live,) = (v for v in versions if v.status is ModelStatus.PRODUCTION)
    found_live = registry.get_production_model(NAME)
    assert found_live is not None
    assert found_live.version == live.version

    history = registry.get_model_history(NAME)
    assert history[-1].production == live.version
    assert history[0].expect == 0
    for earlier, later in itertools.pairwise(history):
        assert later.expect == earlier.number
        assert later.previous == earlier.production
    assert registry._connection.get_alias(NAME, "production") == live.version
    n_written = len(registry._connection.list_versions(f"{NAME}.promotions"))
    assert len(history) <= found.count("done") <= n_processes * n_operations
    assert n_written >= len(history)


def test_registering_at_once_loses_and_doubles_nothing(store: Store, bundle: Written) -> None:
    run([(_register_all, (store, [bundle.path] * 5)) for _ in range(3)])
    versions = store.open().get_all_versions(NAME)
    assert [v.version for v in versions] == [str(k) for k in range(15, 0, -1)]
