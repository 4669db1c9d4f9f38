"""Serving in a bot: which models speak, who is told what they said, and what happens when something is wrong."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from freqtrade_mlpipe.config import MLPipeConfig
from freqtrade_mlpipe.exceptions import ConfigError, MLPipeError, RegistryError
from freqtrade_mlpipe.integration.answering import Answering
from freqtrade_mlpipe.integration.notify import Notifier
from freqtrade_mlpipe.integration.poll import POLL_FINE, REGISTRY, Load, ModelPoll
from freqtrade_mlpipe.integration.polling import Polling
from freqtrade_mlpipe.integration.serving import Served
from freqtrade_mlpipe.integration.speakers import Speakers
from freqtrade_mlpipe.integration.voice import Voice
from freqtrade_mlpipe.registry.names import model_name_for

if TYPE_CHECKING:
    from freqtrade_mlpipe.monitoring.journal import LivePrediction
    from freqtrade_mlpipe.registry.bundle import Bundle

logger = logging.getLogger(__name__)

START_SECONDS = 20.0
"""How long a bot waits at its start for the registry before it serves what it served last."""
NOTHING_ELSE_SECONDS = 60.0
"""How much longer it waits if it never served anything."""
_ENTRIES = "entries"
"""A kind of trouble, see `Notifier`."""
_ENTRIES_FINE = "Entries are made again."


class Journal(Protocol):
    """Where live predictions are written; returns at once and never raises."""

    def record(self, rows: Sequence[LivePrediction]) -> None: ...

    def close(self) -> None: ...


class Watch(Protocol):
    """What judges the predictions; returns at once and never raises."""

    def observe(self, rows: Sequence[LivePrediction]) -> None: ...

    def entries_paused(self, pair: str) -> str | None: ...

    def close(self) -> None: ...


class LiveServing:
    """The production models, and their challengers, in a bot: one for all pairs or one a pair.

    Parameters
    ----------
    config
        The `mlpipe` block.
    load
        See `ModelPoll`.
    voice
        Makes a `Voice` of a served model.
    """

    def __init__(self, config: MLPipeConfig, load: Load, voice: Callable[[Served], Voice]) -> None:
        self.notifier = Notifier()
        self.polling = Polling(config.serving.poll_seconds)
        self.journal: Journal | None = None
        self.watch: Watch | None = None
        self._config, self._load, self._voice = config, load, voice
        self._speakers: dict[str, Speakers] = {}
        self.answering = Answering(
            config, self.notifier, self._speakers_of,
            lambda: self.journal is not None or self.watch is not None,
        )  # fmt: skip

    @property
    def speakers(self) -> Mapping[str, Speakers]:
        """Who speaks under each model's name."""
        return self._speakers

    def served(self, pair: str) -> Served | None:
        """The model that speaks for a pair, or will with the first candle."""
        speakers = self._speakers_of(pair)
        voice = None if speakers is None else speakers.current
        return None if voice is None else voice.served

    def start(self, owner: object, pairs: Sequence[str]) -> None:
        """Start asking the registry, until `stop` or the end of `owner`; serve its first answers, else the last ones.

        A pair without a model has no entries; that is told.

        Raises
        ------
        MLPipeError
            Nothing can be served for any pair; the thread goes on asking.
        """
        weakref.finalize(owner, self.polling.stop)
        self._follow(pairs)
        self.polling.start(START_SECONDS)
        polls = [speakers.poll for speakers in self._speakers.values()]
        slow = RegistryError(f"The registry did not answer within {START_SECONDS:.0f} seconds.")
        for poll in [poll for poll in polls if not poll.is_asked]:
            try:
                poll.serve_last(slow)
            except MLPipeError as error:
                poll.problem = error
            self.notifier.trouble(REGISTRY, f"{poll.model_name}: {slow}", poll.model_name)
        if polls and all(poll.production is None for poll in polls):
            polls[0].wait(NOTHING_ELSE_SECONDS)
        self.turn(pairs)
        if polls and all(poll.production is None for poll in polls):
            problem = polls[0].problem
            raise problem if isinstance(problem, MLPipeError) else RegistryError(repr(problem))

    def stop(self) -> None:
        """End the threads; what was predicted is written first."""
        self.polling.stop()
        self.hand_over()
        for part in (self.watch, self.journal):
            if part is not None:
                part.close()

    def bundle(self, digest: str) -> Bundle | None:
        """The loaded bundle with this digest, if it is one of those that speak or may."""
        voices = (voice for speakers in [*self._speakers.values()] for voice in speakers.voices)
        bundles = (voice.served.bundle for voice in voices)
        return next((bundle for bundle in bundles if bundle.digest == digest), None)

    def hand_over(self) -> None:
        """Give what was predicted to the journal and the watch, all pairs at once.

        A thread that woke up for each pair would keep the bot waiting between them: only one thread at a
        time runs Python.
        """
        said = self.answering.taken()
        if not said:
            return
        if self.journal is not None:
            self.journal.record(said)
        if self.watch is not None:
            self.watch.observe(said)

    def turn(self, pairs: Sequence[str]) -> list[tuple[Served, list[str]]]:
        """Called once an iteration, before candles are fetched: what has become available may speak from now on.

        Parameters
        ----------
        pairs
            The whitelist. What is known of pairs that are traded no more is forgotten.

        Returns
        -------
        list of (Served, list of str)
            The models whose candles the bot has to fetch, and the pairs of each.
        """
        by_name = self._follow(pairs)
        self.answering.follow(pairs)
        self.notifier.keep_only(_ENTRIES, pairs, _ENTRIES_FINE)
        for speakers in self._speakers.values():
            speakers.turn()
        return [
            (voice.served, by_name[name])
            for name, speakers in self._speakers.items()
            for voice in speakers.voices
        ]

    def entries_paused(self, pair: str) -> bool:
        """Whether a policy wants no entries of a pair now; says so when that begins and ends."""
        try:
            reason = None if self.watch is None else self.watch.entries_paused(pair)
        except Exception:
            logger.exception("Whether entries are paused is not known; they go on.")
            return False
        if reason is None:
            self.notifier.over(_ENTRIES, _ENTRIES_FINE, pair)
            return False
        self.notifier.trouble(_ENTRIES, f"Entries are paused: {reason}", pair)
        return True

    def _speakers_of(self, pair: str) -> Speakers | None:
        return self._speakers.get(model_name_for(self._config, pair))

    def _follow(self, pairs: Sequence[str]) -> dict[str, list[str]]:
        """Have speakers for the models of these pairs, and for no others; the pairs of each."""
        by_name: dict[str, list[str]] = {}
        for pair in pairs:
            with suppress(ConfigError):  # `Answering.columns` tells of it
                by_name.setdefault(model_name_for(self._config, pair), []).append(pair)
        if self._config.scope == "pooled":
            by_name.setdefault(self._config.model_name, [])
        if by_name.keys() != self._speakers.keys():
            self._speakers = {
                name: self._speakers.get(name) or self._new_speakers(name) for name in by_name
            }
            for what, over in POLL_FINE.items():
                self.notifier.keep_only(what, by_name, over)
            self.polling.follow([speakers.poll for speakers in self._speakers.values()])
        return by_name

    def _new_speakers(self, name: str) -> Speakers:
        config = self._config.model_copy(update={"model_name": name})
        return Speakers(ModelPoll(config, self._load, self.notifier), self._voice)
