"""What became of each epoch, and the file that outlives the process."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from freqtrade_mlpipe.retraining.spaces import Params

MAX_LOSS = 100_000.0
"""Loss of an epoch that failed or trades too little, as freqtrade's hyperopt has it."""


@dataclass(frozen=True)
class Judgement:
    """What an objective says of an epoch.

    Attributes
    ----------
    loss : smaller is better; `MAX_LOSS` where it cannot be judged.
    sharpe : Sharpe ratio per candle of its out-of-sample trades, net of fees; NaN where there is none.
    metrics : figures of its trades, named as in freqtrade's results.
    error : why it failed, else empty.
    """

    loss: float
    sharpe: float = math.nan
    metrics: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class Epoch:
    """One configuration tried; `number` counts from 1, `seconds` is wall time."""

    number: int
    params: Params
    judgement: Judgement
    seconds: float

    @property
    def loss(self) -> float:
        """The loss its judgement gives."""
        return self.judgement.loss


class EpochLog:
    """Finished epochs, one JSON line each, in the order in which they finished.

    A line is there whole or not at all: a killed process leaves at most a last line that was cut off, and the next one
    drops it. Only one process may write at a time; the caller sees to that.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[int, Epoch]:
        """Epochs by number."""
        if not self.path.exists():
            return {}
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        epochs = (from_line(line) for line in whole.splitlines())
        return {epoch.number: epoch for epoch in epochs}

    def repair(self) -> None:
        """Drop a last line that was cut off."""
        if self.path.exists():
            content = self.path.read_bytes()
            os.truncate(self.path, content.rfind(b"\n") + 1)

    def append(self, epoch: Epoch) -> None:
        """Keep a finished epoch."""
        with self.path.open("ab", buffering=0) as file:
            file.write(f"{to_line(epoch)}\n".encode())


def to_line(epoch: Epoch) -> str:
    """An epoch as one line of JSON; what is not finite is null."""
    return json.dumps(_without_nan(asdict(epoch)), allow_nan=False)


def from_line(text: str | bytes) -> Epoch:
    """What `to_line` wrote."""
    line = json.loads(text)
    judged = line["judgement"]
    judgement = Judgement(
        judged["loss"],
        math.nan if judged["sharpe"] is None else judged["sharpe"],
        judged["metrics"],
        judged["error"],
    )
    return Epoch(int(line["number"]), dict(line["params"]), judgement, float(line["seconds"]))


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
