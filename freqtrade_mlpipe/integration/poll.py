"""Which version of a model a bot should serve: asked where neither a slow nor a lying registry is in its way."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

from freqtrade_mlpipe.config import MLPipeConfig
from freqtrade_mlpipe.exceptions import MLPipeError, RegistryError, TrackingError
from freqtrade_mlpipe.integration.notify import Notifier
from freqtrade_mlpipe.integration.serving import Served, cache_of
from freqtrade_mlpipe.registry.cache import (
    CHALLENGER,
    NoChallengerError,
    NothingInProductionError,
    ResolvedVersion,
)
from freqtrade_mlpipe.registry.contention import RegistryUnavailableError

logger = logging.getLogger(__name__)

_LONGEST_PAUSE_SECONDS = 3_600.0
REGISTRY = "registry"
"""The kind of trouble, see `Notifier`."""
POLL_FINE = {
    REGISTRY: "The registry answers for all models again.",
    "production": "All models can be served again.",
    "challenger": "No challenger is refused any more.",
}
"""Kinds of trouble of a poll, and what is said when the last model that had it is traded no more."""
_DOWN = (RegistryUnavailableError, TrackingError)

Role = Literal["production", "challenger"]

Load = Callable[[ResolvedVersion], Served]
"""Verifies, loads and self-tests a version."""


@dataclass
class _Refused:
    """A version that cannot be served, why, and when it is tried again."""

    version: str
    digest: str
    error: Exception
    pause_seconds: float
    until: float


class ModelPoll:
    """Keeps `production` and `challenger` of one model what the registry wants them to be, see `Polling`.

    A model is put there only when it was fetched, verified, loaded and has passed its self-test; until then, and
    whatever goes wrong, the one before stays.

    Parameters
    ----------
    config
        Names the model, the registry and how often it is asked.
    load
        Called by `round`.
    notifier
        Is told of trouble.
    clock
        Seconds that never jump.

    Attributes
    ----------
    production, challenger : Served or None
        What to serve, and what to predict beside it.
    problem : Exception or None
        Why the last round did not bring what the registry wants as production.
    """

    def __init__(
        self,
        config: MLPipeConfig,
        load: Load,
        notifier: Notifier,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config, self._load, self._notifier, self._clock = config, load, notifier, clock
        self._cache = cache_of(config)
        self._refused: dict[str, _Refused] = {}
        self._asked = threading.Event()
        self.production: Served | None = None
        self.challenger: Served | None = None
        self.problem: Exception | None = None

    @property
    def model_name(self) -> str:
        """The model's."""
        return self._config.model_name

    def wait(self, seconds: float) -> bool:
        """Wait for the first round, at most so long; whether it was completed."""
        return self._asked.wait(seconds)

    @property
    def is_asked(self) -> bool:
        """Whether a round was completed."""
        return self._asked.is_set()

    def serve_last(self, why: Exception) -> None:
        """Serve what spoke last on this machine, if it still passes its self-test.

        Raises
        ------
        RegistryError
            Nothing did, or it is gone.
        MLPipeError
            It does not pass any more.
        """
        error = why if isinstance(why, MLPipeError) else RegistryError(_words(why))
        served = self._load(self._cache.recall_served(self.model_name, error))
        if self.production is None:
            self.production = served

    def round(self) -> None:
        """Ask once, and have here what is wanted."""
        try:
            self.production = self._follow("production", self.production, self._wanted_production)
            self.problem = None
        except Exception as error:  # noqa: BLE001 - the bot goes on whatever happens here
            self._failed("production", error)
        try:
            self.challenger = self._follow("challenger", self.challenger, CHALLENGER)
        except NoChallengerError:
            self.challenger = None
        except Exception as error:  # noqa: BLE001 - as above
            self._failed("challenger", error)
        self._asked.set()

    def _failed(self, role: Role, error: Exception) -> None:
        """Go on with what there is, and tell of it."""
        if role == "production":
            self.problem = error
            if self.production is None and not isinstance(error, NothingInProductionError):
                try:
                    self.serve_last(error)
                except Exception as worse:  # noqa: BLE001 - as in `round`
                    self.problem = worse
        held = self.production if role == "production" else self.challenger
        if role == "challenger" and isinstance(error, _DOWN):
            return  # that is told of production
        what, who = (REGISTRY, "") if role == "production" else (role, " (challenger)")
        problem = "the registry does not say what to serve"
        refused = self._refused.get(role)
        if refused is not None and refused.error is error:
            what, problem = role, f"version {refused.version}{who} cannot be served"
        goes_on = f" Version {held.resolved.version} keeps speaking." if held else ""
        if role == "production" and held is None:
            goes_on = " No entries are made."
        name = self.model_name
        self._notifier.trouble(what, f"{name}: {problem}: {_words(error)}{goes_on}", name)

    @property
    def _wanted_production(self) -> str | None:
        return self._config.serving.version

    def _follow(self, role: Role, held: Served | None, wanted: str | None) -> Served:
        """What the registry wants, loaded; `held` if it is that already."""
        name = self.model_name
        try:
            version, digest = self._cache.ask(name, wanted)
        except NoChallengerError:
            self._notifier.over(role, f"{name}: there is no challenger any more.", name)
            raise
        except _DOWN:
            if held is None:
                with suppress(RegistryError):  # its last answer
                    setattr(self, role, self._load(self._cache.resolve(name, wanted)))
            raise
        if role == "production":
            self._notifier.over(REGISTRY, f"{name}: the registry answers again.", name)
        if held is not None and held.identity == (version, digest):
            self._refused.pop(role, None)
            self._notifier.over(role, f"{name}: version {version} keeps speaking.", name)
            if not held.resolved.path.exists():
                self._cache.resolve(name, wanted)  # a restart may need it
            return held
        return self._fetch(role, wanted, version, digest)

    def _fetch(self, role: Role, wanted: str | None, version: str, digest: str) -> Served:
        name = self.model_name
        refused = self._refused.get(role)
        if refused is not None and (refused.version, refused.digest) != (version, digest):
            refused = None
        if refused is not None and self._clock() < refused.until:
            raise refused.error
        try:
            resolved = self._cache.resolve(name, wanted)
            served = self._load(resolved)
            if role == "production":
                self._cache.remember_served(resolved)
        except Exception as error:
            poll = self._config.serving.poll_seconds
            pause = (
                poll if refused is None else min(2 * refused.pause_seconds, _LONGEST_PAUSE_SECONDS)
            )
            until = self._clock() + pause
            self._refused[role] = _Refused(version, digest, error, pause, until)
            raise
        self._refused.pop(role, None)
        again = f"{name}: version {served.resolved.version} can be served again."
        self._notifier.over(role, again, name)
        return replace(served, note=self._decision() if role == "production" else "")

    def _decision(self) -> str:
        """Who put it into production and why; empty where nobody can say."""
        try:
            entry = self._cache.decision(self.model_name)
        except MLPipeError:
            return ""
        if entry is None or self._config.serving.version is not None:
            return ""
        past = ", FORCED past the gates" if entry.forced else ""
        reason = f": {entry.reason}" if entry.reason else ""
        done = {"promote": "promoted", "rollback": "rolled back"}[entry.action]
        return f"{done} by {entry.actor}{past}{reason}"


def _words(error: Exception) -> str:
    text = str(error) or type(error).__name__
    named = text if isinstance(error, MLPipeError) else f"{type(error).__name__}: {text}"
    return named if named.endswith(".") else f"{named}."
