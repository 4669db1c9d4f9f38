"""Serving in a bot: who speaks for which candle, what it said, and what happens when something is wrong."""

from __future__ import annotations

import logging
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from freqtrade_mlpipe.config import MLPipeConfig
from freqtrade_mlpipe.exceptions import ConfigError, MLPipeError, RegistryError
from freqtrade_mlpipe.features import Frames
from freqtrade_mlpipe.integration import window as names
from freqtrade_mlpipe.integration.notify import Notifier
from freqtrade_mlpipe.integration.poll import POLL_FINE, REGISTRY, Load, ModelPoll
from freqtrade_mlpipe.integration.polling import Polling
from freqtrade_mlpipe.integration.records import Said, live_predictions
from freqtrade_mlpipe.integration.serving import Served
from freqtrade_mlpipe.integration.speakers import Speakers
from freqtrade_mlpipe.integration.voice import Look, Spoken, Voice
from freqtrade_mlpipe.integration.window import Columns, Window
from freqtrade_mlpipe.registry.names import model_name_for

if TYPE_CHECKING:
    from freqtrade_mlpipe.member import Prediction
    from freqtrade_mlpipe.monitoring.journal import LivePrediction
    from freqtrade_mlpipe.registry.bundle import Bundle

logger = logging.getLogger(__name__)

START_SECONDS = 20.0
"""How long a bot waits at its start for the registry before it serves what it served last."""
NOTHING_ELSE_SECONDS = 60.0
"""How much longer it waits if it never served anything."""
_MOST_PAIRS = 1_000
"""Whose answers are kept while a pairlist rotates; all of a longer whitelist."""
_PREDICTIONS, _SHADOW, _ENTRIES = "predictions", "challenger predictions", "entries"


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
        self._windows: OrderedDict[str, Window] = OrderedDict()
        self._most_pairs = _MOST_PAIRS
        self._said: list[LivePrediction] = []

    @property
    def speakers(self) -> Mapping[str, Speakers]:
        """Who speaks under each model's name."""
        return self._speakers

    def served(self, pair: str) -> Served | None:
        """The model that speaks for a pair, or will with the first candle."""
        speakers = self._speakers.get(model_name_for(self._config, pair))
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
        said, self._said = self._said, []
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
        self._most_pairs = max(_MOST_PAIRS, len(pairs))
        for what, over in _FINE.items():
            self.notifier.keep_only(what, pairs, over)
        for speakers in self._speakers.values():
            speakers.turn()
        return [
            (voice.served, by_name[name])
            for name, speakers in self._speakers.items()
            for voice in speakers.voices
        ]

    def answer(
        self, pairs: Sequence[str], candles: Callable[[str], pd.DataFrame], frames: Frames
    ) -> None:
        """Answer the new candles of all pairs at once, before the bot analyses one pair after the other.

        `columns` finds the answers then. It asks again for those that could not be given here, and tells of it.

        Parameters
        ----------
        candles
            Pair → its candles; they are not changed.
        """
        questions = []
        frames.refresh()
        for pair in pairs:
            with _left_to_columns(pair):
                window = self._windows.get(pair)
                dataframe = candles(pair)
                if window is None or window.knows(_open_second(dataframe)):
                    continue  # a pair's first frame is large: one at a time
                question = self._question(dataframe, pair)
                self._address(question)
                questions.append(question)
        with _left_to_columns("all pairs"):
            self._advance(questions, frames)
        seen = []
        for question in questions:
            with _left_to_columns(question.pair):
                self._look(question, frames)
                seen.append(question)
        with _left_to_columns("all pairs"):
            self._answer(seen, frames)

    def columns(self, dataframe: pd.DataFrame, pair: str, frames: Frames) -> Columns:
        """The prediction columns for a pair's candles; whatever is wrong, no exception.

        Candles that were answered keep their answer; the others are answered now, if they can be.
        """
        empty = names.empty_columns(self._config.labels.task)
        columns: Columns = {
            name: np.full(len(dataframe), nothing) for name, nothing in empty.items()
        }
        try:
            question = self._question(dataframe, pair)
            columns = question.columns
            frames.refresh()
            self._address(question)
            self._look(question, frames)
            self._answer([question], frames)
        except Exception as error:
            self.notifier.trouble(
                _PREDICTIONS, f"{pair}: no predictions, {type(error).__name__}: {error}", pair
            )
            logger.debug("%s: no predictions", pair, exc_info=True)
        return columns

    def entries_paused(self, pair: str) -> bool:
        """Whether a policy wants no entries of a pair now; says so when that begins and ends."""
        try:
            reason = None if self.watch is None else self.watch.entries_paused(pair)
        except Exception:
            logger.exception("Whether entries are paused is not known; they go on.")
            return False
        if reason is None:
            self.notifier.over(_ENTRIES, _FINE[_ENTRIES], pair)
            return False
        self.notifier.trouble(_ENTRIES, f"Entries are paused: {reason}", pair)
        return True

    def _follow(self, pairs: Sequence[str]) -> dict[str, list[str]]:
        """Have speakers for the models of these pairs, and for no others; the pairs of each."""
        by_name: dict[str, list[str]] = {}
        for pair in pairs:
            with suppress(ConfigError):  # `columns` tells of it
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

    def _question(self, dataframe: pd.DataFrame, pair: str) -> _Question:
        speakers = self._speakers.get(model_name_for(self._config, pair))
        voices = [] if speakers is None else speakers.voices
        tasks = {voice.task for voice in voices} | {self._config.labels.task}
        seconds = _open_seconds(dataframe)
        window = self._windows.get(pair)
        columns, rows = (window or Window()).over(seconds, names.empty_columns(*sorted(tasks)))
        return _Question(dataframe, pair, speakers, seconds, columns, rows, window is None)

    def _address(self, question: _Question) -> None:
        """Find who speaks for the rows without an answer, if they can be answered."""
        speakers, rows, seconds = question.speakers, question.rows, question.seconds
        if speakers is None or not self._are_enough(question, speakers) or not len(rows):
            return
        before, newest = speakers.latest, int(seconds[-1])
        speaker = speakers.at(newest)
        if speaker is None:
            return
        if before is not speaker is speakers.latest:
            self._announce(speakers, before, newest)
        by_row = speakers.of(seconds[rows].tolist(), speaker)
        for voice in dict.fromkeys(by_row):
            question.addressed.append((voice, rows[[one is voice for one in by_row]]))

    def _advance(self, questions: Sequence[_Question], frames: Frames) -> None:
        """Let each voice compute what many pairs need together."""
        by_voice: dict[Voice, list[_Question]] = {}
        for question in questions:
            for voice, _ in question.addressed:
                by_voice.setdefault(voice, []).append(question)
        for voice, asked in by_voice.items():
            with _shared_time(asked):
                voice.advance([(one.pair, one.dataframe) for one in asked], frames)

    def _look(self, question: _Question, frames: Frames) -> None:
        """Let those who are asked see the candles."""
        with _shared_time([question]):
            for voice, rows in question.addressed:
                look = voice.look(question.dataframe, rows, question.seconds, question.pair, frames)
                question.looks.append((voice, rows, look))

    def _answer(self, questions: Sequence[_Question], frames: Frames) -> None:
        """Fill in the rows that have no answer, keep them, and record them; each model speaks once for all pairs."""
        by_voice: dict[Voice, list[tuple[_Question, NDArray[np.intp], Look]]] = {}
        for question in questions:
            for voice, rows, look in question.looks:
                by_voice.setdefault(voice, []).append((question, rows, look))
        for voice, parts in by_voice.items():
            with _shared_time([question for question, _, _ in parts]):
                spoken = voice.speak([look for _, _, look in parts])
            for (question, rows, _), one in zip(parts, spoken, strict=True):
                question.said.append(Said(voice, rows, one))
        for question in questions:
            if question.said:
                self._settle(question, frames)

    def _settle(self, question: _Question, frames: Frames) -> None:
        pair, seconds, columns = question.pair, question.seconds, question.columns
        for part in question.said:
            _write(columns, part.rows, part.spoken.prediction, part.voice.served.resolved.version)
        window = self._windows.setdefault(pair, Window())
        window.keep(seconds, columns)
        self._windows.move_to_end(pair)
        if len(self._windows) > self._most_pairs:
            self._windows.popitem(last=False)
        newest = question.rows[-1]
        self._check_newest(
            pair, next(part.spoken for part in question.said if part.rows[-1] == newest)
        )
        if self.journal is not None or self.watch is not None:
            # A bot that starts acts on the newest candle only.
            fresh = question.rows[-1:] if question.is_first else question.rows
            self._said += live_predictions(
                question.dataframe, pair, seconds, fresh, question.said, latency_ms=question.latency_ms,
                role="production", keep_features=self._config.monitoring.keep_features,
            )  # fmt: skip
            self._predict_beside(question, fresh, frames)

    def _are_enough(self, question: _Question, speakers: Speakers) -> bool:
        voice, pair, n_candles = speakers.current, question.pair, len(question.dataframe)
        needed = 0 if voice is None else voice.n_needed
        if n_candles > needed:
            return True
        self.notifier.trouble(
            _PREDICTIONS,
            f"{pair}: {n_candles} candles are fewer than the {needed} that the features need; no predictions.",
            pair,
        )
        return False

    def _announce(self, speakers: Speakers, before: Voice | None, second: int) -> None:
        assert speakers.latest is not None
        served = speakers.latest.served
        note = f" ({served.note})" if served.note else ""
        if speakers.was_missing:
            speakers.was_missing = False
            self.notifier.tell(f"{served} is served now{note}.")
        if before is not None and before.served.identity != served.identity:
            candle = datetime.fromtimestamp(second, UTC)
            self.notifier.tell(
                f"{served} speaks from candle {candle:%Y-%m-%d %H:%M} UTC on, in place of version "
                f"{before.served.resolved.version}{note}."
            )

    def _check_newest(self, pair: str, spoken: Spoken) -> None:
        if spoken.prediction.do_predict[-1] != 0:
            self.notifier.over(_PREDICTIONS, _FINE[_PREDICTIONS], pair)
            return
        empty = np.flatnonzero(~np.isfinite(spoken.features[-1]))
        shown = ", ".join(spoken.names[place] for place in empty[:5])
        self.notifier.trouble(
            _PREDICTIONS,
            f"{pair}: no prediction, {len(empty)} features have no value: {shown}.",
            pair,
        )

    def _predict_beside(self, question: _Question, rows: NDArray[np.intp], frames: Frames) -> None:
        """Let the challenger answer the same candles; nobody trades on it, and nothing of it disturbs."""
        voice = None if question.speakers is None else question.speakers.shadow
        if voice is None:
            return
        dataframe, pair, seconds = question.dataframe, question.pair, question.seconds
        try:
            started = time.perf_counter()
            (spoken,) = voice.speak([voice.look(dataframe, rows, seconds, pair, frames)])
            latency = (time.perf_counter() - started) * 1000
            self._said += live_predictions(
                dataframe, pair, seconds, rows, [Said(voice, rows, spoken)], latency_ms=latency,
                role="challenger", keep_features=self._config.monitoring.keep_features,
            )  # fmt: skip
            self.notifier.over(_SHADOW, _FINE[_SHADOW], pair)
        except Exception as error:  # noqa: BLE001 - as `columns`, the operator is told
            self.notifier.trouble(
                _SHADOW,
                f"{pair}: the challenger gives no predictions, {type(error).__name__}: {error}",
                pair,
            )


@dataclass(eq=False)
class _Question:
    """Candles of a pair, the answers that there are, and the rows without one.

    Attributes
    ----------
    is_first : the pair's first.
    addressed : who speaks for which of `rows`.
    looks : what they see of them.
    said : what they said.
    latency_ms : what that took.
    """

    dataframe: pd.DataFrame
    pair: str
    speakers: Speakers | None
    seconds: NDArray[np.int64]
    columns: Columns
    rows: NDArray[np.intp]
    is_first: bool
    addressed: list[tuple[Voice, NDArray[np.intp]]] = field(default_factory=list)
    looks: list[tuple[Voice, NDArray[np.intp], Look]] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)
    latency_ms: float = 0.0


@contextmanager
def _shared_time(questions: Sequence[_Question]) -> Iterator[None]:
    """Count the time that this takes as latency of the questions, in equal parts."""
    started = time.perf_counter()
    yield
    share = (time.perf_counter() - started) * 1000 / len(questions)
    for question in questions:
        question.latency_ms += share


@contextmanager
def _left_to_columns(what: str) -> Iterator[None]:
    """What fails for many pairs at once is met again, and told, by `LiveServing.columns`."""
    try:
        yield
    except Exception:
        logger.debug("%s: not answered with the others", what, exc_info=True)


_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_FINE = {
    _PREDICTIONS: "All pairs are predicted again.",
    _SHADOW: "The challenger predicts all pairs again.",
    _ENTRIES: "Entries are made again.",
}


def _open_seconds(dataframe: pd.DataFrame) -> NDArray[np.int64]:
    """Open times of the candles in seconds since 1970 (UTC)."""
    dates: Any = dataframe["date"].array  # an index would take as long to make as a feature
    return np.asarray(dates.asi8 // _PER_SECOND[dates.unit])


def _open_second(dataframe: pd.DataFrame) -> int:
    """Open time of the newest candle, as `_open_seconds`."""
    dates: Any = dataframe["date"].array
    return int(dates.asi8[-1] // _PER_SECOND[dates.unit])


def _write(columns: Columns, rows: NDArray[np.intp], said: Prediction, version: str) -> None:
    for name, values in names.said_columns(said, version).items():
        columns[name][rows] = values
