"""Answers of models to the candles of all pairs: one a candle, given once, and what is told when there is none."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from freqtrade_mlpipe.config import MLPipeConfig
from freqtrade_mlpipe.features import FeatureEngineer, Frames
from freqtrade_mlpipe.features.candles import open_seconds
from freqtrade_mlpipe.integration import window as names
from freqtrade_mlpipe.integration.notify import Notifier
from freqtrade_mlpipe.integration.question import Question, open_second, shared_time
from freqtrade_mlpipe.integration.records import Said, live_predictions
from freqtrade_mlpipe.integration.speakers import Speakers
from freqtrade_mlpipe.integration.voice import Look, Spoken, Voice
from freqtrade_mlpipe.integration.window import Columns, Window

if TYPE_CHECKING:
    from freqtrade_mlpipe.member import Prediction
    from freqtrade_mlpipe.monitoring.journal import LivePrediction

logger = logging.getLogger(__name__)

_MOST_PAIRS = 1_000
"""Whose answers are kept while a pairlist rotates; all of a longer whitelist."""
_PREDICTIONS, _SHADOW = "predictions", "challenger predictions"
ANSWERED = {
    _PREDICTIONS: "All pairs are predicted again.",
    _SHADOW: "The challenger predicts all pairs again.",
}
"""Kinds of trouble, see `Notifier`, and what is told when they are over."""


class Answering:
    """What the models say about each pair's candles; for the bot's thread only.

    Parameters
    ----------
    config
        The `mlpipe` block.
    notifier
        Is told of pairs without predictions.
    speakers
        Pair → who speaks for it, None where nobody does; may raise ConfigError.
    is_recorded
        Whether anybody wants to have the answers, and the challenger's; see `taken`.
    """

    def __init__(
        self,
        config: MLPipeConfig,
        notifier: Notifier,
        speakers: Callable[[str], Speakers | None],
        is_recorded: Callable[[], bool],
    ) -> None:
        self._config, self._notifier = config, notifier
        self._speakers, self._is_recorded = speakers, is_recorded
        self._windows: OrderedDict[str, Window] = OrderedDict()
        self._most_pairs = _MOST_PAIRS
        self._said: list[LivePrediction] = []

    def follow(self, pairs: Sequence[str]) -> None:
        """Which pairs are traded from now on; trouble with others is forgotten."""
        self._most_pairs = max(_MOST_PAIRS, len(pairs))
        for what, over in ANSWERED.items():
            self._notifier.keep_only(what, pairs, over)

    def taken(self) -> list[LivePrediction]:
        """What was said since the last call."""
        said, self._said = self._said, []
        return said

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
                if window is None or window.knows(open_second(dataframe)):
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
        columns: Columns = {}
        try:
            question = self._question(dataframe, pair)
            columns = question.columns
            if not question.is_answered:
                frames.refresh()
                self._address(question)
                self._look(question, frames)
                self._answer([question], frames)
        except Exception as error:
            self._notifier.trouble(
                _PREDICTIONS, f"{pair}: no predictions, {type(error).__name__}: {error}", pair
            )
            logger.debug("%s: no predictions", pair, exc_info=True)
        return columns or self._no_answers(len(dataframe))

    def _no_answers(self, n_candles: int) -> Columns:
        empty = names.empty_columns(self._config.labels.task)
        return {name: np.full(n_candles, nothing) for name, nothing in empty.items()}

    def _question(self, dataframe: pd.DataFrame, pair: str) -> Question:
        speakers = self._speakers(pair)
        voices = [] if speakers is None else speakers.voices
        tasks = {voice.task for voice in voices} | {self._config.labels.task}
        seconds = open_seconds(dataframe["date"])
        window = self._windows.get(pair)
        columns, rows = (window or Window()).over(seconds, names.empty_columns(*sorted(tasks)))
        return Question(dataframe, pair, speakers, seconds, columns, rows, window is None)

    def _address(self, question: Question) -> None:
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
        voices = list(dict.fromkeys(by_row))
        for voice in voices:
            theirs = rows if len(voices) == 1 else rows[[one is voice for one in by_row]]
            question.addressed.append((voice, theirs))

    def _advance(self, questions: Sequence[Question], frames: Frames) -> None:
        """Let what many pairs need be computed together: the features of models that use the same."""
        asked: dict[FeatureEngineer, list[Question]] = {}
        for question in questions:
            for engineer in {voice.served.engineer for voice, _ in question.addressed}:
                asked.setdefault(engineer, []).append(question)
        for engineer, together in asked.items():
            with shared_time(together):
                engineer.advance([(one.pair, one.dataframe) for one in together], frames)

    def _look(self, question: Question, frames: Frames) -> None:
        """Let those who are asked see the candles."""
        with shared_time([question]):
            for voice, rows in question.addressed:
                look = voice.look(question.dataframe, rows, question.seconds, question.pair, frames)
                question.looks.append((voice, rows, look))

    def _answer(self, questions: Sequence[Question], frames: Frames) -> None:
        """Fill in the rows that have no answer, keep them, and record them; each model speaks once for all pairs."""
        by_voice: dict[Voice, list[tuple[Question, NDArray[np.intp], Look]]] = {}
        for question in questions:
            for voice, rows, look in question.looks:
                by_voice.setdefault(voice, []).append((question, rows, look))
        for voice, parts in by_voice.items():
            with shared_time([question for question, _, _ in parts]):
                spoken = voice.speak([look for _, _, look in parts])
            for (question, rows, _), one in zip(parts, spoken, strict=True):
                question.said.append(Said(voice, rows, one))
        for question in questions:
            if question.said:
                self._settle(question, frames)

    def _settle(self, question: Question, frames: Frames) -> None:
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
        if self._is_recorded():
            # A bot that starts acts on the newest candle only.
            fresh = question.rows[-1:] if question.is_first else question.rows
            self._said += live_predictions(
                question.dataframe, pair, seconds, fresh, question.said, latency_ms=question.latency_ms,
                role="production", keep_features=self._config.monitoring.keep_features,
            )  # fmt: skip
            self._predict_beside(question, fresh, frames)

    def _are_enough(self, question: Question, speakers: Speakers) -> bool:
        voice, pair, n_candles = speakers.current, question.pair, len(question.dataframe)
        needed = 0 if voice is None else voice.n_needed
        if n_candles > needed:
            return True
        self._notifier.trouble(
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
            self._notifier.tell(f"{served} is served now{note}.")
        if before is not None and before.served.identity != served.identity:
            candle = datetime.fromtimestamp(second, UTC)
            self._notifier.tell(
                f"{served} speaks from candle {candle:%Y-%m-%d %H:%M} UTC on, in place of version "
                f"{before.served.resolved.version}{note}."
            )

    def _check_newest(self, pair: str, spoken: Spoken) -> None:
        if spoken.prediction.do_predict[-1] != 0:
            self._notifier.over(_PREDICTIONS, ANSWERED[_PREDICTIONS], pair)
            return
        empty = np.flatnonzero(~np.isfinite(spoken.features[-1]))
        shown = ", ".join(spoken.names[place] for place in empty[:5])
        self._notifier.trouble(
            _PREDICTIONS,
            f"{pair}: no prediction, {len(empty)} features have no value: {shown}.",
            pair,
        )

    def _predict_beside(self, question: Question, rows: NDArray[np.intp], frames: Frames) -> None:
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
            self._notifier.over(_SHADOW, ANSWERED[_SHADOW], pair)
        except Exception as error:  # noqa: BLE001 - as `columns`, the operator is told
            self._notifier.trouble(
                _SHADOW,
                f"{pair}: the challenger gives no predictions, {type(error).__name__}: {error}",
                pair,
            )


@contextmanager
def _left_to_columns(what: str) -> Iterator[None]:
    """What fails for many pairs at once is met again, and told, by `Answering.columns`."""
    try:
        yield
    except Exception:
        logger.debug("%s: not answered with the others", what, exc_info=True)


def _write(columns: Columns, rows: NDArray[np.intp], said: Prediction, version: str) -> None:
    for name, values in names.said_columns(said, version).items():
        columns[name][rows] = values
