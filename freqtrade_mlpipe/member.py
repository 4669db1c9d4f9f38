"""What predicts: one member is one trained slice, with all that was learned on it and the span it may speak for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from freqtrade_mlpipe.calibration import Calibrator, ClassCalibrator, ValueCalibrator
from freqtrade_mlpipe.config import CLASSES, N_OUTPUTS, Task
from freqtrade_mlpipe.exceptions import BundleError, MLPipeError
from freqtrade_mlpipe.features import Preprocessor
from freqtrade_mlpipe.models import MODELS, FittedModel

Floats = NDArray[np.float64]
Signs = NDArray[np.int8]

_FORMATS: Mapping[Task, int] = {"binary": 1, "three_class": 2, "regression": 2}
"""Format of the file: what a binary model writes is read by every version."""
_CALIBRATORS: Mapping[Task, type[Calibrator] | type[ClassCalibrator] | type[ValueCalibrator]] = {
    "binary": Calibrator,
    "three_class": ClassCalibrator,
    "regression": ValueCalibrator,
}
_JSON_FILE = "member.json"
_SHORT, _LONG = CLASSES.index(-1.0), CLASSES.index(1.0)


@dataclass(frozen=True)
class Thresholds:
    """Calibrated probabilities, or predicted returns, at which to act: enter at or above `enter`, leave at or below
    `exit`.

    Raises
    ------
    BundleError
        Unless both are finite and `exit` is at most `enter`.
    """

    enter: float
    exit: float

    def __post_init__(self) -> None:
        if not (np.isfinite([self.enter, self.exit]).all() and self.exit <= self.enter):
            raise BundleError(
                f"Thresholds must be finite with exit ≤ enter, found enter={self.enter}, exit={self.exit}."
            )

    def positions(self, proba: Floats) -> Signs:
        """Trades of probabilities of shape (n,): 1 where one reaches `enter`, else (and for NaN) 0."""
        return (proba >= self.enter).astype(np.int8)

    def signals(self, proba: Floats) -> Signs:
        """1 where a probability reaches `enter`, else -1 where it is at most `exit`, else (and for NaN) 0."""
        return self.positions(proba) - ((proba <= self.exit) & ~(proba >= self.enter)).astype(
            np.int8
        )


@dataclass(frozen=True)
class SideThresholds:
    """Calibrated probabilities of the classes long and short at which to enter that side.

    Raises
    ------
    BundleError
        Unless both are finite.
    """

    long: float
    short: float

    def __post_init__(self) -> None:
        if not np.isfinite([self.long, self.short]).all():
            raise BundleError(
                f"Thresholds must be finite, found long={self.long}, short={self.short}."
            )

    def positions(self, proba: Floats) -> Signs:
        """Trades of probabilities of shape (n, 3): 1 long, -1 short, 0 (and for NaN) none.

        Where both sides reach their threshold, the one further beyond it; none where they are equal.
        """
        short, long = proba[:, _SHORT] - self.short, proba[:, _LONG] - self.long
        enter_long = (long >= 0) & (long > short)
        enter_short = (short >= 0) & (short > long)
        return enter_long.astype(np.int8) - enter_short.astype(np.int8)

    signals = positions


@dataclass(frozen=True, eq=False)
class Member:
    """A fitted model with its preprocessing, calibration and thresholds.

    Attributes
    ----------
    model_type : str
        Key of `freqtrade_mlpipe.models.MODELS`.
    model, preprocessor, calibrator, thresholds
        Fitted on the same training slice.
    train_start, train_end : Timestamp (UTC)
        First training row, and the latest candle that training has seen.
    valid_from, valid_to : Timestamp (UTC)
        The member speaks for candles with ``valid_from <= date < valid_to``; None: without end.
    n_train_rows : int
        Rows it was fitted, stopped and calibrated on.
    """

    model_type: str
    model: FittedModel
    preprocessor: Preprocessor
    calibrator: Calibrator | ClassCalibrator | ValueCalibrator
    thresholds: Thresholds | SideThresholds
    train_start: pd.Timestamp
    train_end: pd.Timestamp
    valid_from: pd.Timestamp
    valid_to: pd.Timestamp | None
    n_train_rows: int

    def predict_proba(self, X: pd.DataFrame) -> Floats:
        """Calibrated probabilities; NaN where a kept feature of the row is missing.

        Of class 1, shape (n,); of three classes, shape (n, 3) in the order of `config.CLASSES`. A regression gives
        its calibrated predicted log returns, shape (n,).

        Raises
        ------
        DataError
            When a column of the schema is missing.
        """
        return self._answer(self.preprocessor.transform(X))

    def answer(self, kept: NDArray[np.float32]) -> Floats:
        """As `predict_proba`, from the values of `preprocessor.kept_columns`, shape (n, n_kept)."""
        return self._answer(self.preprocessor.scale_kept(kept))

    def _answer(self, matrix: NDArray[np.float32]) -> Floats:
        usable = np.isfinite(matrix).all(axis=1)
        if usable.all():
            return self._calibrated(matrix)
        n_outputs = N_OUTPUTS[self.model.task]
        proba = np.full((len(matrix), n_outputs), np.nan)
        proba[usable] = self._calibrated(matrix[usable]).reshape(-1, n_outputs)
        return proba[:, 0] if n_outputs == 1 else proba

    def _calibrated(self, matrix: NDArray[np.float32]) -> Floats:
        return self.calibrator.apply(self.model.predict_proba(np.ascontiguousarray(matrix)))

    def to_files(self) -> dict[str, bytes]:
        """The member as file contents by name; `from_files` gives back one that predicts the same bits."""
        content = {
            "format": _FORMATS[self.model.task],
            "model_type": self.model_type,
            "preprocessor": self.preprocessor.to_dict(),
            "calibrator": self.calibrator.to_dict(),
            "thresholds": asdict(self.thresholds),
            "train_start": self.train_start.isoformat(),
            "train_end": self.train_end.isoformat(),
            "valid_from": self.valid_from.isoformat(),
            "valid_to": None if self.valid_to is None else self.valid_to.isoformat(),
            "n_train_rows": self.n_train_rows,
        }
        if self.model.task != "binary":
            content["task"] = self.model.task
        if self.model.task == "three_class":
            content["classes"] = list(CLASSES)
        text = json.dumps(content, sort_keys=True, allow_nan=False, separators=(",", ":"))
        return {
            _model_file(self.model_type): self.model.to_bytes(),
            _JSON_FILE: text.encode(),
        }

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Member:
        """Read what `to_files` wrote. The caller has checked the digests of the contents.

        Raises
        ------
        BundleError
            For a missing file, an unknown format or model type, or contents that do not belong together.
        """
        content = _read_json(files)
        try:
            model_type = str(content["model_type"])
            preprocessor = Preprocessor.from_dict(content["preprocessor"])
            task = _task_of(content)
            three = task == "three_class"
            if three and content["classes"] != list(CLASSES):
                raise BundleError(
                    f"The classes must be {list(CLASSES)}, found {content['classes']}."
                )
            rest: dict[str, Any] = {
                "calibrator": _CALIBRATORS[task].from_dict(content["calibrator"]),
                "thresholds": (SideThresholds if three else Thresholds)(**content["thresholds"]),
                "train_start": _utc(content["train_start"]),
                "train_end": _utc(content["train_end"]),
                "valid_from": _utc(content["valid_from"]),
                "valid_to": None if content["valid_to"] is None else _utc(content["valid_to"]),
                "n_train_rows": int(content["n_train_rows"]),
            }
        except BundleError:
            raise
        except (MLPipeError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise BundleError(f"{_JSON_FILE} is malformed: {error!r}") from error
        if model_type not in MODELS:
            raise BundleError(f"Unknown model type {model_type!r}; valid: {', '.join(MODELS)}.")
        name = _model_file(model_type)
        if name not in files:
            raise BundleError(f"The member has no {name}, found: {', '.join(sorted(files))}.")
        model = MODELS[model_type].load(files[name], len(preprocessor.kept_columns))
        if model.task != task:
            raise BundleError(
                f"{_JSON_FILE} is of the task {task}, {name} of {model.task}: the files do not belong together."
            )
        return cls(model_type=model_type, model=model, preprocessor=preprocessor, **rest)


@dataclass(frozen=True, eq=False)
class Prediction:
    """One answer per candle, all arrays of shape (n,).

    Attributes
    ----------
    proba : ndarray of float64
        Calibrated probability of class 1 (with three classes: long); NaN without an answer, and of a regression.
    edge : ndarray of float64
        `proba` (of a regression `value`) less the enter threshold of the member that spoke; NaN without an answer.
    signal : ndarray of int8
        1 enter, -1 leave (with three classes: enter short), 0 neither or no answer.
    do_predict : ndarray of int8
        1 usable, 0 missing inputs, -1 no member may speak for the candle (in-sample).
    short : ShortSide or None
        With three classes.
    value : ndarray of float64 or None
        Of a regression: predicted log return, before fees; NaN without an answer.
    """

    proba: Floats
    edge: Floats
    signal: Signs
    do_predict: Signs
    short: ShortSide | None = None
    value: Floats | None = None

    def part(self, first: int, beyond: int) -> Prediction:
        """The answers of the rows from `first` to before `beyond`."""
        own, short = slice(first, beyond), self.short
        return Prediction(
            self.proba[own], self.edge[own], self.signal[own], self.do_predict[own],
            None if short is None else ShortSide(short.proba[own], short.proba_flat[own], short.edge[own]),
            None if self.value is None else self.value[own],
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class ShortSide:
    """What three classes say beyond two, arrays of shape (n,); NaN without an answer.

    Attributes
    ----------
    proba, proba_flat : ndarray of float64
        Calibrated probabilities of the classes short and flat.
    edge : ndarray of float64
        `proba` less the threshold for a short of the member that spoke.
    """

    proba: Floats
    proba_flat: Floats
    edge: Floats


def predict(members: Sequence[Member], X: pd.DataFrame, dates: pd.DatetimeIndex) -> Prediction:
    """Let each candle be answered by the member whose span holds its date.

    Parameters
    ----------
    members : sequence of Member
        Where spans overlap, the later one in the sequence speaks.
    X : DataFrame of shape (n, n_features)
        Features by name.
    dates : DatetimeIndex of shape (n,), UTC
        Open time of each row's candle.

    Raises
    ------
    ValueError
        When `dates` does not match `X` or has no time zone.
    """
    if len(dates) != len(X):
        raise ValueError(f"X has {len(X)} rows, dates {len(dates)}.")
    if dates.tz is None:
        raise ValueError("dates must be in UTC, found no time zone.")
    speaker = np.full(len(dates), -1)
    for number, member in enumerate(members):
        inside = np.asarray(dates >= member.valid_from)
        if member.valid_to is not None:
            inside &= np.asarray(dates < member.valid_to)
        speaker[inside] = number
    tasks = {member.model.task for member in members}
    if len(tasks) > 1:
        raise ValueError(f"Members must be of one kind, found {', '.join(sorted(tasks))}.")
    return answered(
        members,
        speaker,
        lambda number, rows: members[number].predict_proba(
            X if isinstance(rows, slice) else X.iloc[rows]
        ),
    )


def answered(
    members: Sequence[Member],
    speaker: NDArray[np.int64],
    ask: Callable[[int, slice | NDArray[np.intp]], Floats],
) -> Prediction:
    """Put together what members of one kind say about rows.

    Parameters
    ----------
    speaker : ndarray of shape (n,)
        Number of the member that speaks for each row, -1: nobody.
    ask : callable
        Number of a member, and its rows (a slice where these are all) → its calibrated probabilities or values.
    """
    n, task = len(speaker), members[-1].model.task if members else None
    answers = np.full((n, 5 if task == "three_class" else 2), np.nan)
    signal = np.zeros(n, dtype=np.int8)
    is_one = n > 0 and bool((speaker == speaker[0]).all())
    for number in (speaker[:1] if is_one else np.unique(speaker)).tolist():
        if number >= 0:
            rows = slice(None) if is_one else np.flatnonzero(speaker == number)
            found, thresholds = ask(number, rows), members[number].thresholds
            answers[rows] = answer_columns(found, thresholds)
            signal[rows] = thresholds.signals(found)
    proba, edge, *short = answers.T
    do_predict = np.where(speaker < 0, -1, ~np.isnan(proba)).astype(np.int8)
    if task == "regression":
        return Prediction(np.full(n, np.nan), edge, signal, do_predict, value=proba)
    return Prediction(proba, edge, signal, do_predict, ShortSide(*short) if short else None)


def answer_columns(proba: Floats, thresholds: Thresholds | SideThresholds) -> Floats:
    """Columns proba (or predicted value) and edge; with three classes also those of `ShortSide`: (n, 2) or (n, 5)."""
    if isinstance(thresholds, Thresholds):
        return np.column_stack([proba, proba - thresholds.enter])
    short, flat, long = proba.T
    return np.column_stack([long, long - thresholds.long, short, flat, short - thresholds.short])


def _model_file(model_type: str) -> str:
    return f"model{MODELS[model_type].file_suffix}"


def _task_of(content: Mapping[str, Any]) -> Task:
    task: Any = content["task"] if content["format"] != _FORMATS["binary"] else "binary"
    if _FORMATS.get(task) != content["format"]:
        raise BundleError(f"{_JSON_FILE} of format {content['format']} has the task {task!r}.")
    found: Task = task
    return found


def _read_json(files: Mapping[str, bytes]) -> dict[str, Any]:
    try:
        content = json.loads(files[_JSON_FILE])
    except (KeyError, ValueError) as error:
        raise BundleError(f"{_JSON_FILE} is missing or not JSON: {error!r}") from error
    if not isinstance(content, dict) or content.get("format") not in _FORMATS.values():
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        readable = " and ".join(map(str, sorted(set(_FORMATS.values()))))
        raise BundleError(
            f"{_JSON_FILE} has format {found!r}, this version reads {readable}: update freqtrade_mlpipe."
        )
    return content


def _utc(text: str) -> pd.Timestamp:
    stamp = pd.Timestamp(text)
    if pd.isna(stamp) or stamp.tz is None:
        raise ValueError(f"{text!r} is not a time with a time zone")
    return stamp.tz_convert("UTC")
