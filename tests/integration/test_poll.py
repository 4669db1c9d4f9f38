"""The poll: what a version that cannot be served costs, and what is said about it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from freqtrade_mlpipe.config import MLPipeConfig
from freqtrade_mlpipe.exceptions import BundleError
from freqtrade_mlpipe.integration.notify import Notifier
from freqtrade_mlpipe.integration.poll import ModelPoll
from freqtrade_mlpipe.registry.cache import NoChallengerError, ResolvedVersion


class Registry:
    """Answers as told; stands for the cache in front of a registry."""

    def __init__(self, tmp_path: Any) -> None:
        self.answer, self.n_fetched, self.path = ("1", "one"), 0, tmp_path

    def ask(self, name: str, wanted: str | None) -> tuple[str, str]:
        if wanted == "challenger":
            raise NoChallengerError("none")
        return self.answer

    def resolve(self, name: str, wanted: str | None) -> ResolvedVersion:
        self.n_fetched += 1
        return ResolvedVersion(name, *self.answer, self.path)

    def remember_served(self, resolved: ResolvedVersion) -> None: ...

    def decision(self, name: str) -> None: ...


class Polled:
    def __init__(self, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        from freqtrade_mlpipe.integration.serving import Served

        self.registry, self.now, self.broken = Registry(tmp_path), 0.0, set[str]()

        def load(resolved: ResolvedVersion) -> Served:
            if resolved.version in self.broken:
                raise BundleError(f"version {resolved.version} is broken.")
            return Served(resolved, None, None)  # type: ignore[arg-type]

        monkeypatch.setattr("freqtrade_mlpipe.integration.poll.cache_of", lambda _: self.registry)
        self.notifier = Notifier()
        self.poll = ModelPoll(MLPipeConfig(), load, self.notifier, clock=lambda: self.now)

    def told(self) -> list[str]:
        sent: list[str] = []
        self.notifier.flush(sent.append)
        return sent


@pytest.fixture
def polled(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Polled:
    return Polled(tmp_path, monkeypatch)


def test_pauses_between_attempts_double_up_to_an_hour(polled: Polled) -> None:
    polled.poll.round()
    polled.registry.answer = ("2", "two")
    polled.broken.add("2")
    attempts = []
    for second in range(0, 6 * 3_600, 10):
        polled.now = float(second)
        before = polled.registry.n_fetched
        polled.poll.round()
        if polled.registry.n_fetched > before:
            attempts.append(second)
    pauses = [late - early for early, late in pairwise(attempts)]
    assert pauses[:8] == [30, 60, 120, 240, 480, 960, 1_920, 3_600]
    assert set(pauses[8:]) == {3_600}
    assert polled.poll.production.resolved.version == "1"
    assert len(polled.told()) == 1


def test_another_version_is_tried_at_once(polled: Polled) -> None:
    polled.registry.answer, polled.broken = ("2", "two"), {"2"}
    polled.poll.round()
    polled.registry.answer = ("3", "three")
    polled.poll.round()
    assert polled.poll.production.resolved.version == "3"
    assert polled.poll.problem is None


def test_going_back_to_what_speaks_ends_the_trouble(polled: Polled) -> None:
    polled.poll.round()
    polled.registry.answer, polled.broken = ("2", "two"), {"2"}
    polled.poll.round()
    polled.registry.answer = ("1", "one")
    n_fetched = polled.registry.n_fetched
    polled.poll.round()
    assert polled.registry.n_fetched == n_fetched
    told = polled.told()
    assert len(told) == 2
    assert "version 2 cannot be served" in told[0]
    assert "Version 1 keeps speaking" in told[0]
    assert "version 1 keeps speaking" in told[1]


def test_same_files_under_another_number_are_another_version(polled: Polled) -> None:
    polled.poll.round()
    polled.registry.answer = ("2", "one")
    polled.poll.round()
    assert polled.poll.production.resolved.version == "2"
