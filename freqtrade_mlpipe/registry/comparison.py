"""Which of several models predicts better, and whether the difference is more than noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import pandas as pd

from freqtrade_mlpipe.config import Task
from freqtrade_mlpipe.metrics import (
    ANSWER_COLUMNS,
    BLOCK_HORIZONS,
    LOSS_METRICS,
    Difference,
    Estimate,
    answers_of,
    losses_of,
    paired_difference,
    task_intervals,
)

MIN_STRETCHES = 20
"""A common span of fewer blocks than this gives no verdict: the bootstrap would be too sure of itself."""
MAX_OTHER_OUTCOMES = 0.001
CONFIDENCE = 0.95

_TASKS: Mapping[Task, str] = {
    "binary": "two classes",
    "three_class": "three classes",
    "regression": "returns",
}
_UNITS = {
    "log_loss": ("log-loss", " nats a row", ".5f"),
    "squared_error": ("squared error", "", ".3g"),
}
"""Name, unit and digits of a loss."""

_UNIMPORTANT = (
    "version.",
    "mlpipe.registry.",
    "mlpipe.tracking.",
    "mlpipe.serving.",
    "mlpipe.gates.",
)


@dataclass(frozen=True, eq=False)
class Contender:
    """A trained version or a tracked run.

    Attributes
    ----------
    label
        What people call it, for instance "trend_classifier 3".
    parameters
        What was set and found, flattened, as text.
    metrics
        What was measured.
    oos
        Out-of-sample predictions: columns pair, date (UTC), y (the outcome; NaN unknown), those of
        `ANSWER_COLUMNS` and, if there, fold; None: not kept.
    task
        What it predicts, which says what `oos` holds.
    horizon_candles
        How far its labels look ahead.
    note
        Why something is missing.
    """

    label: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    oos: pd.DataFrame | None = None
    task: Task = "binary"
    horizon_candles: int = 1
    note: str = ""


@dataclass(frozen=True)
class Verdict:
    """One contender against the first.

    Attributes
    ----------
    first, other
        Their labels.
    better
        The label of the better one; None: the difference may be noise, or nothing can be said.
    sentence
        The verdict in words.
    difference
        Mean loss of `other` less that of `first` on the common rows, with its interval; None: no
        verdict.
    loss
        Which loss: log_loss, or squared_error of regressions; empty without comparable rows.
    first_loss, other_loss
        Its mean on the common rows; NaN without comparable ones.
    start, end
        First and last common candle (UTC), or None.
    """

    first: str
    other: str
    better: str | None
    sentence: str
    difference: Difference | None = None
    loss: str = ""
    first_loss: float = float("nan")
    other_loss: float = float("nan")
    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True)
class VersionComparison:
    """Contenders side by side.

    Attributes
    ----------
    labels
        The contenders, in the order asked for.
    parameters
        Only those that differ: name to a value a contender, None where it has none.
    metrics
        Name to an estimate a contender (its own out-of-sample span), None where it has none.
    verdicts
        Every other contender against the first.
    notes
        What could not be looked at, and why.
    """

    labels: tuple[str, ...]
    parameters: Mapping[str, tuple[str | None, ...]]
    metrics: Mapping[str, tuple[Estimate | None, ...]]
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain types; times as ISO text."""

        def estimate(found: Estimate | None) -> dict[str, float] | None:
            return None if found is None else asdict(found)

        def moment(time: datetime | None) -> str | None:
            return None if time is None else time.isoformat()

        return {
            "contenders": list(self.labels),
            "parameters": {name: list(values) for name, values in self.parameters.items()},
            "metrics": {
                name: [estimate(value) for value in values] for name, values in self.metrics.items()
            },
            "verdicts": [
                {**asdict(verdict), "start": moment(verdict.start), "end": moment(verdict.end)}
                for verdict in self.verdicts
            ],
            "notes": list(self.notes),
        }


def compare(contenders: Sequence[Contender], *, seed: int = 0) -> VersionComparison:
    """Contenders side by side, and a verdict on each against the first.

    The verdict is a paired stationary bootstrap of the difference of losses: the same candles of the same
    pairs, rows of one date drawn together, in blocks of several label horizons. With k contenders each of
    the k - 1 intervals is as wide as makes all of them hold together with 95 % (Bonferroni).

    Parameters
    ----------
    contenders
        At least two.

    Raises
    ------
    ValueError
        Fewer than two.
    """
    if len(contenders) < 2:
        raise ValueError(f"A comparison needs at least two, found {len(contenders)}.")
    first, others = contenders[0], contenders[1:]
    return VersionComparison(
        labels=tuple(contender.label for contender in contenders),
        parameters=_differing(contenders),
        metrics=_metrics(contenders),
        verdicts=tuple(
            _verdict(first, other, confidence=1 - (1 - CONFIDENCE) / len(others), seed=seed)
            for other in others
        ),
        notes=tuple(
            f"{contender.label}: {contender.note}" for contender in contenders if contender.note
        ),
    )


def _differing(contenders: Sequence[Contender]) -> dict[str, tuple[str | None, ...]]:
    """Those with another value in one of the contenders whose parameters are known at all."""
    known = [contender.parameters for contender in contenders if contender.parameters]
    names = sorted({name for parameters in known for name in parameters})
    return {
        name: tuple(contender.parameters.get(name) for contender in contenders)
        for name in names
        if not name.startswith(_UNIMPORTANT)
        and len({parameters.get(name) for parameters in known}) > 1
    }


def _metrics(contenders: Sequence[Contender]) -> dict[str, tuple[Estimate | None, ...]]:
    nan = float("nan")
    columns: list[dict[str, Estimate]] = []
    for contender in contenders:
        column = {name: Estimate(value, nan, nan) for name, value in contender.metrics.items()}
        known = _known(contender)
        if known is not None and len(known):
            found = task_intervals(
                contender.task,
                known["y"],
                answers_of(known, contender.task),
                pd.DatetimeIndex(known["date"]),
                BLOCK_HORIZONS * contender.horizon_candles,
                group=known.get("fold"),
            )
            column |= found
        columns.append(column)
    first = ["log_loss", "roc_auc", "brier", "squared_error", "rmse", "spearman"]
    names = first + sorted({name for column in columns for name in column} - set(first))
    rows = {name: tuple(column.get(name) for column in columns) for name in names}
    return {name: row for name, row in rows.items() if any(row)}


def _known(contender: Contender) -> pd.DataFrame | None:
    if contender.oos is None:
        return None
    return contender.oos.dropna(subset=["y", *ANSWER_COLUMNS[contender.task]])


def _losses(contender: Contender) -> pd.DataFrame | None:
    """Columns pair, date, y and loss of the rows with a known outcome."""
    known = _known(contender)
    if known is None:
        return None
    losses = losses_of(contender.task, known["y"], answers_of(known, contender.task))
    return known[["pair", "date", "y"]].assign(loss=losses)


def _verdict(first: Contender, other: Contender, *, confidence: float, seed: int) -> Verdict:
    def nothing(reason: str) -> Verdict:
        return Verdict(first.label, other.label, None, f"No verdict: {reason}")

    a, b = _losses(first), _losses(other)
    if a is None or b is None:
        missing = " and ".join(c.label for c in (first, other) if c.oos is None)
        return nothing(f"the out-of-sample predictions of {missing} were not kept.")
    if first.task != other.task:
        return nothing(
            f"{first.label} was trained for {_TASKS[first.task]}, {other.label} for {_TASKS[other.task]}: their "
            "losses answer different questions."
        )
    rows = a.merge(b, on=["pair", "date"], suffixes=("", "_other"), validate="one_to_one")
    if rows.empty:
        return nothing(
            f"{first.label} and {other.label} predicted no candle in common out of sample."
        )
    unlike = float((rows["y"] != rows["y_other"]).mean())
    if unlike > MAX_OTHER_OUTCOMES:
        return nothing(
            f"{100 * unlike:.1f} % of the common candles have another outcome in the two: their labels differ, so "
            "their losses answer different questions."
        )
    dates = pd.DatetimeIndex(rows["date"])
    block = BLOCK_HORIZONS * max(first.horizon_candles, other.horizon_candles)
    n_stretches = dates.nunique() / block
    losses = rows["loss"], rows["loss_other"]
    found = None
    if n_stretches >= MIN_STRETCHES:
        found = paired_difference(
            losses[1], losses[0], dates, block, confidence=confidence, seed=seed
        )
    short = (
        f"No verdict: the common span is short, {dates.nunique():,} dates or about {n_stretches:.0f} independent "
        f"stretches of {block} candles; {MIN_STRETCHES} are needed."
    )
    return Verdict(
        first=first.label,
        other=other.label,
        better=_better(first, other, found) if found else None,
        sentence=_sentence(first, other, found, confidence) if found else short,
        difference=found,
        loss=LOSS_METRICS[first.task],
        first_loss=float(losses[0].mean()),
        other_loss=float(losses[1].mean()),
        start=dates.min().to_pydatetime(),
        end=dates.max().to_pydatetime(),
    )


def _better(first: Contender, other: Contender, found: Difference) -> str | None:
    if found.high < 0:
        return other.label
    return first.label if found.low > 0 else None


def _sentence(first: Contender, other: Contender, found: Difference, confidence: float) -> str:
    if found.low == found.high == 0:
        return f"{other.label} and {first.label} say the same on all {found.n_rows:,} common rows."
    better = _better(first, other, found)
    loss, unit, digits = _UNITS[LOSS_METRICS[first.task]]
    mean, low, high = (f"{v:+{digits}}" for v in (found.mean, found.low, found.high))
    size = (
        f"{loss} of {other.label} less that of {first.label}: {mean}{unit}, {100 * confidence:.3g} % "
        f"interval {low} to {high} (p = {found.p_value:.2g}; {found.n_rows:,} common rows, about "
        f"{found.n_stretches:.0f} independent stretches)"
    )
    if better is None:
        return f"The difference may well be noise: {size}."
    return f"{better} predicts better, by more than noise explains: {size}."
