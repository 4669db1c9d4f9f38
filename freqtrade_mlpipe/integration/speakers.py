"""Which model speaks for which candle."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable

from freqtrade_mlpipe.integration.poll import ModelPoll
from freqtrade_mlpipe.integration.serving import Served
from freqtrade_mlpipe.integration.voice import Voice

_CANDLES_REMEMBERED = 16


class Speakers:
    """The versions of one model, and which of them speaks for a candle.

    That is decided when the first pair asks for it, then the same for all pairs. So a version that becomes available
    takes over with the next candle that nobody has asked for.

    Parameters
    ----------
    poll
        Has what the registry wants to be served.
    voice
        Makes a `Voice` of a served model.

    Attributes
    ----------
    latest : Voice or None
        Who spoke for the newest candle.
    ready : Voice or None
        Who would speak for a new one.
    shadow : Voice or None
        The challenger, predicted beside.
    was_missing : bool
        Nothing could be served, and nobody was told that this is over.
    """

    def __init__(self, poll: ModelPoll, voice: Callable[[Served], Voice]) -> None:
        self.poll, self._voice = poll, voice
        self._by_candle: OrderedDict[int, Voice] = OrderedDict()
        self.latest: Voice | None = None
        self.ready: Voice | None = None
        self.shadow: Voice | None = None
        self.was_missing = False

    @property
    def current(self) -> Voice | None:
        """Who speaks, or will with the first candle."""
        return self.latest or self.ready

    @property
    def voices(self) -> list[Voice]:
        """All that speak or may."""
        voices = (self.ready, self.shadow, self.latest)
        return list(dict.fromkeys(voice for voice in voices if voice is not None))

    def turn(self) -> None:
        """What has become available may speak from now on."""
        self.ready = self._turned(self.ready, self.poll.production)
        self.shadow = self._turned(self.shadow, self.poll.challenger)
        if self.ready is None and self.poll.problem is not None:
            self.was_missing = True

    def at(self, second: int) -> Voice | None:
        """Who speaks for the candle that opened at `second`; who is ready, if nobody has asked yet."""
        ready = self.ready
        if ready is None:
            return self._by_candle.get(second)
        speaker = self._by_candle.setdefault(second, ready)
        if speaker is ready:
            self.latest = ready
        if len(self._by_candle) > _CANDLES_REMEMBERED:
            self._by_candle.popitem(last=False)
        return speaker

    def of(self, seconds: Iterable[int], otherwise: Voice) -> list[Voice]:
        """Who speaks for earlier candles; `otherwise` for those nobody asked for."""
        return [self._by_candle.get(second, otherwise) for second in seconds]

    def _turned(self, voice: Voice | None, served: Served | None) -> Voice | None:
        if served is None or (voice is not None and voice.served is served):
            return voice if served is not None else None
        return self._voice(served)
