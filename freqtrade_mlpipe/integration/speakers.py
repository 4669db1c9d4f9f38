"""Which model speaks for which candle."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from freqtrade_mlpipe.integration.voice import Voice

_CANDLES_REMEMBERED = 16


class Speakers:
    """Which model speaks for a candle: decided when the first pair asks for it, then the same for all pairs.

    So a model that becomes available takes over with the next candle that nobody has asked for.
    """

    def __init__(self) -> None:
        self._by_candle: OrderedDict[int, Voice] = OrderedDict()
        self.latest: Voice | None = None

    def at(self, second: int, ready: Voice | None) -> Voice | None:
        """Who speaks for the candle that opened at `second`, if `ready` is who would for a new one."""
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
