"""One model speaking live: the newest candles of a pair → features → predictions, a row at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from freqtrade_mlpipe.exceptions import DataError
from freqtrade_mlpipe.features import Frames
from freqtrade_mlpipe.integration.features import StrategyFeatures
from freqtrade_mlpipe.integration.serving import Served

if TYPE_CHECKING:
    from freqtrade_mlpipe.member import Prediction

Seconds = NDArray[np.int64]
_NANOSECONDS = 1_000_000_000
_EVER = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False)
class Spoken:
    """What a model said about some candles.

    Attributes
    ----------
    prediction
        One answer a candle.
    features
        The values of the columns that the member kept who spoke last, float32 of shape (n, n_kept).
    names
        Of these columns.
    """

    prediction: Prediction
    features: NDArray[np.float32]
    names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Look:
    """What a model has to see of some candles of a pair: their open times, and their features by name."""

    seconds: Seconds
    names: tuple[str, ...]
    block: NDArray[np.float32]


class Voice:
    """A served model and the features of the strategy that it speaks from; for the bot's thread only.

    Attributes
    ----------
    n_needed : int
        A frame must have more candles than these.
    task : str
        Of the model.
    """

    def __init__(self, served: Served, features: StrategyFeatures) -> None:
        self.served = served
        self.task = served.bundle.members[-1].model.task
        self.n_needed = served.engineer.startup_candles
        self._features = features
        self._predictor: RowPredictor | None = None

    def look(
        self,
        dataframe: pd.DataFrame,
        rows: NDArray[np.intp],
        seconds: Seconds,
        pair: str,
        frames: Frames,
    ) -> Look:
        """The features of some rows (ascending) of a pair's candles, whose open times are `seconds`.

        Raises
        ------
        ConfigError, DataError, StrategyError
            The features cannot be computed.
        """
        first = int(rows[0])
        n_newest = len(dataframe) - first
        names, block = self._features.newest(dataframe, n_newest, pair, frames)
        if len(rows) < n_newest:
            block = block[rows - first]
        return Look(seconds[rows], names, block)

    def speak(self, looks: Sequence[Look]) -> list[Spoken]:
        """Answers to each of the looks, those of `Bundle.predict`; all at once costs little more than one.

        Raises
        ------
        DataError
            The features are not those that the model was trained on.
        """
        names = looks[0].names
        if any(look.names != names for look in looks):
            return [spoken for look in looks for spoken in self.speak([look])]
        predictor = self._predictor
        if predictor is None or predictor.names != names:
            self._predictor = predictor = RowPredictor(self.served, names)
        return predictor(looks)


class RowPredictor:
    """`Bundle.predict` for blocks of features instead of frames: the same numbers, quick for a row.

    Parameters
    ----------
    served
        The model.
    names
        Of the columns of the blocks.

    Raises
    ------
    DataError
        A column that a member needs is missing.
    """

    def __init__(self, served: Served, names: tuple[str, ...]) -> None:
        self.names = names
        self._members = served.bundle.members
        place = {name: column for column, name in enumerate(names)}
        needed = {name for member in self._members for name in member.preprocessor.input_columns}
        missing = sorted(needed - set(place))
        if missing:
            raise DataError(
                f"{len(missing)} features of {served} are missing: {', '.join(missing[:5])}. Use the feature "
                "configuration and strategy that it was trained with."
            )
        self._columns = [
            np.array([place[name] for name in member.preprocessor.kept_columns])
            for member in self._members
        ]
        self._valid_from = np.array([_ceil_seconds(member.valid_from) for member in self._members])
        self._valid_to = np.array([_ceil_seconds(member.valid_to) for member in self._members])

    def __call__(self, looks: Sequence[Look]) -> list[Spoken]:
        """Answers to looks whose columns have these names."""
        whole = looks[0]
        if len(looks) > 1:
            seconds = np.concatenate([look.seconds for look in looks])
            whole = Look(seconds, self.names, np.concatenate([look.block for look in looks]))
        prediction, speaker = self._predict(whole)
        spoken, first = [], 0
        for look in looks:
            beyond = first + len(look.seconds)
            last = int(speaker[beyond - 1])
            said = prediction if len(looks) == 1 else prediction.part(first, beyond)
            kept = self._members[last].preprocessor.kept_columns
            spoken.append(Spoken(said, look.block[:, self._columns[last]], kept))
            first = beyond
        return spoken

    def _predict(self, look: Look) -> tuple[Prediction, NDArray[np.int64]]:
        """The answers, and the number of the member that gave each, -1 for none."""
        from freqtrade_mlpipe.member import answered

        def ask(number: int, rows: slice | NDArray[np.intp]) -> NDArray[np.float64]:
            block = look.block if isinstance(rows, slice) else look.block[rows]
            return self._members[number].answer(block[:, self._columns[number]])

        speaker = self._speakers(look.seconds)
        return answered(self._members, speaker, ask), speaker

    def _speakers(self, seconds: Seconds) -> NDArray[np.int64]:
        """The last member whose span holds each candle, -1 for none."""
        inside = (seconds[:, None] >= self._valid_from) & (seconds[:, None] < self._valid_to)
        latest = inside.shape[1] - 1 - inside[:, ::-1].argmax(axis=1)
        return np.where(inside.any(axis=1), latest, -1)


def _ceil_seconds(moment: pd.Timestamp | None) -> int:
    """The first whole second since 1970 at or after a moment; candles open at whole seconds."""
    return _EVER if moment is None else -(-moment.as_unit("ns").value // _NANOSECONDS)
