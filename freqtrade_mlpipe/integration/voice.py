"""One model speaking live: the newest candles of a pair → features → predictions, a row at a time."""

from __future__ import annotations

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


class Voice:
    """A served model and the features of the strategy that it speaks from; for the bot's thread only.

    Attributes
    ----------
    n_needed : int
        A frame must have more candles than these.
    """

    def __init__(self, served: Served, features: StrategyFeatures) -> None:
        self.served = served
        self.n_needed = served.engineer.startup_candles
        self._features = features
        self._predictor: RowPredictor | None = None

    def speak(
        self,
        dataframe: pd.DataFrame,
        rows: NDArray[np.intp],
        seconds: Seconds,
        pair: str,
        frames: Frames,
    ) -> Spoken:
        """Answers for some rows (ascending) of a pair's candles, whose open times are `seconds`.

        They are those of `Bundle.predict` on the features of these rows.

        Raises
        ------
        ConfigError, DataError, StrategyError
            The features cannot be computed, or are not those that the model was trained on.
        """
        first = int(rows[0])
        n_newest = len(dataframe) - first
        names, block = self._features.newest(dataframe, n_newest, pair, frames)
        if len(rows) < n_newest:
            block = block[rows - first]
        predictor = self._predictor
        if predictor is None or predictor.names != names:
            self._predictor = predictor = RowPredictor(self.served, names)
        return predictor(block, seconds[rows])


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
        self._task = self._members[-1].model.task

    def __call__(self, block: NDArray[np.float32], seconds: Seconds) -> Spoken:
        """Answers for the rows of a block, whose candles opened at `seconds` since 1970 (UTC)."""
        from freqtrade_mlpipe.member import answer_columns, assembled

        speaker = self._speakers(seconds)
        answers = np.full((len(block), 5 if self._task == "three_class" else 2), np.nan)
        signal = np.zeros(len(block), dtype=np.int8)
        for number in sorted(set(speaker.tolist()) - {-1}):
            member, rows = self._members[number], speaker == number
            kept = (
                block[:, self._columns[number]]
                if rows.all()
                else block[np.ix_(rows, self._columns[number])]
            )
            found = member.answer(kept)
            answers[rows] = answer_columns(found, member.thresholds)
            signal[rows] = member.thresholds.signals(found)
        prediction = assembled(answers, signal, speaker, self._task == "regression")
        last = int(speaker[-1])
        return Spoken(
            prediction, block[:, self._columns[last]], self._members[last].preprocessor.kept_columns
        )

    def _speakers(self, seconds: Seconds) -> NDArray[np.int64]:
        """The last member whose span holds each candle, -1 for none."""
        inside = (seconds[:, None] >= self._valid_from) & (seconds[:, None] < self._valid_to)
        latest = inside.shape[1] - 1 - inside[:, ::-1].argmax(axis=1)
        return np.where(inside.any(axis=1), latest, -1)


def _ceil_seconds(moment: pd.Timestamp | None) -> int:
    """The first whole second since 1970 at or after a moment; candles open at whole seconds."""
    return _EVER if moment is None else -(-moment.as_unit("ns").value // _NANOSECONDS)
