"""Serving in a bot: who speaks for which candle, what it said, and what happens when something is wrong."""

from __future__ import annotations

import logging
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from freqtrade_mlpipe.config import MLPipeConfig
from freqtrade_mlpipe.exceptions import MLPipeError, RegistryError
from freqtrade_mlpipe.features import Frames
from freqtrade_mlpipe.integration import window as names
from freqtrade_mlpipe.integration.notify import Notifier
from freqtrade_mlpipe.integration.poll import REGISTRY, Load, ModelPoll
from freqtrade_mlpipe.integration.records import Said, live_predictions
from freqtrade_mlpipe.integration.serving import Served
from freqtrade_mlpipe.integration.speakers import Speakers
from freqtrade_mlpipe.integration.voice import Spoken, Voice
from freqtrade_mlpipe.integration.window import Columns, Window

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
_PREDICTIONS, _SHADOW, _ENTRIES = "predictions", "challenger predictions", "entries"


class Journal(Protocol):
    """Where live predictions are written; returns at once and never raises."""

    def record(self, rows: Sequence[LivePrediction]) -> None: ...

    def close(self) -> None: ...


class Watch(Protocol):
    """What judges the predictions; returns at once and never raises."""

    def observe(self, rows: Sequence[LivePrediction]) -> None: ...

    def entries_paused(self) -> str | None: ...

    def close(self) -> None: ...


class LiveServing:
    """The production model, and its challenger, in a bot.

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
        self.poll = ModelPoll(config, load, self.notifier)
        self.journal: Journal | None = None
        self.watch: Watch | None = None
        self._config, self._voice = config, voice
        self._speakers = Speakers()
        self._windows: OrderedDict[str, Window] = OrderedDict()
        self._ready: Voice | None = None
        self._shadow: Voice | None = None
        self._is_missing = False
        self._said: list[LivePrediction] = []

    @property
    def served(self) -> Served | None:
        """The model that speaks, or will with the first candle."""
        voice = self._speakers.latest or self._ready
        return None if voice is None else voice.served

    def start(self, owner: object) -> None:
        """Start asking the registry, until `stop` or the end of `owner`; serve its first answer, else the last one.

        Raises
        ------
        MLPipeError
            Nothing can be served; the thread goes on asking.
        """
        weakref.finalize(owner, self.poll.stop)
        self.poll.start(START_SECONDS)
        if not self.poll.is_asked:
            slow = RegistryError(f"The registry did not answer within {START_SECONDS:.0f} seconds.")
            try:
                self.poll.serve_last(slow)
            except MLPipeError as error:
                self.poll.problem = error
                self.poll.wait(NOTHING_ELSE_SECONDS)
            self.notifier.trouble(REGISTRY, f"{self._config.model_name}: {slow}")
        if self.poll.production is None:
            self._is_missing = True
            problem = self.poll.problem
            raise problem if isinstance(problem, MLPipeError) else RegistryError(repr(problem))
        self.turn()

    def stop(self) -> None:
        """End the threads; what was predicted is written first."""
        self.poll.stop()
        self.hand_over()
        for part in (self.watch, self.journal):
            if part is not None:
                part.close()

    def bundle(self, digest: str) -> Bundle | None:
        """The loaded bundle with this digest, if it is one of those that speak or may."""
        voices = (self._ready, self._shadow, self._speakers.latest)
        bundles = (voice.served.bundle for voice in voices if voice is not None)
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

    def turn(self) -> list[Served]:
        """Called once an iteration, before candles are fetched: what has become available may speak from now on.

        Returns
        -------
        list of Served
            The models whose candles the bot has to fetch.
        """
        self._ready = self._turned(self._ready, self.poll.production)
        self._shadow = self._turned(self._shadow, self.poll.challenger)
        voices = (self._ready, self._shadow, self._speakers.latest)
        return [voice.served for voice in voices if voice is not None]

    def columns(
        self, dataframe: pd.DataFrame, pair: str, frames: Frames, more: Mapping[str, float]
    ) -> Columns:
        """The prediction columns for a pair's candles; whatever is wrong, no exception.

        Candles that were answered keep their answer; the others are answered now, if they can be.
        """
        wanted = {**names.NOTHING, **more}
        columns: Columns = {
            name: np.full(len(dataframe), nothing) for name, nothing in wanted.items()
        }
        try:
            window = self._windows.get(pair) or Window()
            seconds = _open_seconds(dataframe)
            columns, rows = window.over(seconds, wanted)
            if self._are_enough(dataframe, pair) and len(rows):
                self._answer(dataframe, pair, frames, window, seconds, columns, rows)
        except Exception as error:
            self.notifier.trouble(
                _PREDICTIONS, f"{pair}: no predictions, {type(error).__name__}: {error}", pair
            )
            logger.debug("%s: no predictions", pair, exc_info=True)
        return columns

    def entries_paused(self) -> bool:
        """Whether a policy wants no entries now; says so when that begins and ends."""
        try:
            reason = None if self.watch is None else self.watch.entries_paused()
        except Exception:
            logger.exception("Whether entries are paused is not known; they go on.")
            return False
        if reason is None:
            self.notifier.over(_ENTRIES, "Entries are made again.")
            return False
        self.notifier.trouble(_ENTRIES, f"Entries are paused: {reason}")
        return True

    def keep_only(self, pairs: Sequence[str]) -> None:
        """Forget the troubles of pairs that are traded no more."""
        for what in (_PREDICTIONS, _SHADOW):
            self.notifier.keep_only(what, pairs, _FINE[what])

    def _answer(
        self,
        dataframe: pd.DataFrame,
        pair: str,
        frames: Frames,
        window: Window,
        seconds: NDArray[np.int64],
        columns: Columns,
        rows: NDArray[np.intp],
    ) -> None:
        """Fill in the rows that have no answer, keep them, and record them."""
        before, newest = self._speakers.latest, int(seconds[-1])
        speaker = self._speakers.at(newest, self._ready)
        if speaker is None:
            return
        if before is not speaker is self._speakers.latest:
            self._announce(before, speaker, newest)
        started = time.perf_counter()
        frames.refresh()
        said = []
        speakers = self._speakers.of(seconds[rows].tolist(), speaker)
        for voice in dict.fromkeys(speakers):
            own = rows[[one is voice for one in speakers]]
            said.append(Said(voice, own, voice.speak(dataframe, own, seconds, pair, frames)))
        latency = (time.perf_counter() - started) * 1000
        for part in said:
            _write(columns, part.rows, part.spoken.prediction, part.voice.served.resolved.version)
        first_look = len(window) == 0
        window.keep(seconds, columns)
        self._windows[pair] = window
        self._windows.move_to_end(pair)
        if len(self._windows) > _MOST_PAIRS:
            self._windows.popitem(last=False)
        self._check_newest(pair, said[-1].spoken)
        if self.journal is not None or self.watch is not None:
            # A bot that starts acts on the newest candle only.
            fresh = rows[-1:] if first_look else rows
            self._said += live_predictions(
                dataframe, pair, seconds, fresh, said, latency_ms=latency, role="production",
                keep_features=self._config.monitoring.keep_features,
            )  # fmt: skip
            self._predict_beside(dataframe, pair, frames, seconds, fresh)

    def _are_enough(self, dataframe: pd.DataFrame, pair: str) -> bool:
        voice = self._speakers.latest or self._ready
        needed = 0 if voice is None else voice.n_needed
        if len(dataframe) > needed:
            return True
        self.notifier.trouble(
            _PREDICTIONS,
            f"{pair}: {len(dataframe)} candles are fewer than the {needed} that the features need; no predictions.",
            pair,
        )
        return False

    def _announce(self, before: Voice | None, speaker: Voice, second: int) -> None:
        served = speaker.served
        note = f" ({served.note})" if served.note else ""
        if self._is_missing:
            self._is_missing = False
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

    def _predict_beside(
        self,
        dataframe: pd.DataFrame,
        pair: str,
        frames: Frames,
        seconds: NDArray[np.int64],
        rows: NDArray[np.intp],
    ) -> None:
        """Let the challenger answer the same candles; nobody trades on it, and nothing of it disturbs."""
        voice = self._shadow
        if voice is None:
            return
        try:
            started = time.perf_counter()
            said = Said(voice, rows, voice.speak(dataframe, rows, seconds, pair, frames))
            latency = (time.perf_counter() - started) * 1000
            self._said += live_predictions(
                dataframe, pair, seconds, rows, [said], latency_ms=latency, role="challenger",
                keep_features=self._config.monitoring.keep_features,
            )  # fmt: skip
            self.notifier.over(_SHADOW, _FINE[_SHADOW], pair)
        except Exception as error:  # noqa: BLE001 - as `columns`, the operator is told
            self.notifier.trouble(
                _SHADOW,
                f"{pair}: the challenger gives no predictions, {type(error).__name__}: {error}",
                pair,
            )

    def _turned(self, voice: Voice | None, served: Served | None) -> Voice | None:
        if served is None or (voice is not None and voice.served is served):
            return voice if served is not None else None
        return self._voice(served)


_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_FINE = {
    _PREDICTIONS: "All pairs are predicted again.",
    _SHADOW: "The challenger predicts all pairs again.",
}


def _open_seconds(dataframe: pd.DataFrame) -> NDArray[np.int64]:
    """Open times of the candles in seconds since 1970 (UTC)."""
    dates: Any = dataframe["date"].array  # an index would take as long to make as a feature
    return np.asarray(dates.asi8 // _PER_SECOND[dates.unit])


def _write(columns: Columns, rows: NDArray[np.intp], said: Prediction, version: str) -> None:
    for name, values in names.said_columns(said, version).items():
        columns[name][rows] = values
