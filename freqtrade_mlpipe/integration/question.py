"""What a bot has to be told of a pair's candles: those without an answer, and what has become of them so far."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from freqtrade_mlpipe.features.candles import PER_SECOND
from freqtrade_mlpipe.integration.records import Said
from freqtrade_mlpipe.integration.speakers import Speakers
from freqtrade_mlpipe.integration.voice import Look, Voice
from freqtrade_mlpipe.integration.window import Columns


@dataclass(eq=False)
class Question:
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

    @property
    def is_answered(self) -> bool:
        """Whether there are candles, and each has its answer."""
        return len(self.seconds) > 0 and not len(self.rows)


@contextmanager
def shared_time(questions: Sequence[Question]) -> Iterator[None]:
    """Count the time that this takes as latency of the questions, in equal parts."""
    started = time.perf_counter()
    yield
    share = (time.perf_counter() - started) * 1000 / len(questions)
    for question in questions:
        question.latency_ms += share


def open_second(dataframe: pd.DataFrame) -> int:
    """Open time of the newest candle, as `features.candles.open_seconds`."""
    dates: Any = dataframe["date"].array
    return int(dates.asi8[-1] // PER_SECOND[dates.unit])
