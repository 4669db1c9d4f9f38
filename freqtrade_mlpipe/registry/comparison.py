"""Which of several models predicts better, and whether the difference is more than noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from freqtrade_mlpipe.metrics import (
    BLOCK_HORIZONS,
    Difference,
    Estimate,
    log_losses,
    paired_difference,
    score_intervals,
)

MIN_STRETCHES = 20
"""A common span of fewer blocks than this gives no verdict: the bootstrap would be too sure of itself."""
MAX_OTHER_OUTCOMES = 0.001
CONFIDENCE = 0.95

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
        Out-of-sample predictions: columns pair, date (UTC), y (1, 0, NaN unknown), proba and, if
        there, fold; None: not kept.
    horizon_candles
        How far its labels look ahead.
    note
        Why something is missing.
    """

    label: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    oos: pd.DataFrame | None = None
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
        Mean log-loss of `other` less that of `first` on the common rows, with its interval; None: no
        verdict.
    first_log_loss, other_log_loss
        On the common rows; NaN without comparable ones.
    start, end
        First and last common candle (UTC), or None.
    """

    first: str
    other: str
    better: str | None
    sentence: str
    difference: Difference | None = None
    first_log_loss: float = float("nan")
    other_log_loss: float = float("nan")
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

    The verdict is a paired stationary bootstrap of the log-loss difference: the same candles of the same
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
            found = score_intervals(
                known["y"],
                known["proba"],
                pd.DatetimeIndex(known["date"]),
                BLOCK_HORIZONS * contender.horizon_candles,
                group=known.get("fold"),
            )
            column |= found
        columns.append(column)
    first = ["log_loss", "roc_auc", "brier"]
    names = first + sorted({name for column in columns for name in column} - set(first))
    rows = {name: tuple(column.get(name) for column in columns) for name in names}
    return {name: row for name, row in rows.items() if any(row)}


def _known(contender: Contender) -> pd.DataFrame | None:
    return None if contender.oos is None else contender.oos.dropna(subset=["y", "proba"])


def _verdict(first: Contender, other: Contender, *, confidence: float, seed: int) -> Verdict:
    def nothing(reason: str) -> Verdict:
        return Verdict(first.label, other.label, None, f"No verdict: {reason}")

    a, b = _known(first), _known(other)
    if a is None or b is None:
        missing = " and ".join(c.label for c in (first, other) if c.oos is None)
        return nothing(f"the out-of-sample predictions of {missing} were not kept.")
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
    y = rows["y"].to_numpy(dtype=np.float64)
    losses = log_losses(y, rows["proba"]), log_losses(y, rows["proba_other"])
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
        first_log_loss=float(losses[0].mean()),
        other_log_loss=float(losses[1].mean()),
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
    size = (
        f"log-loss of {other.label} less that of {first.label}: {found.mean:+.5f} nats a row, {100 * confidence:.3g} % "
        f"interval {found.low:+.5f} to {found.high:+.5f} (p = {found.p_value:.2g}; {found.n_rows:,} common rows, about "
        f"{found.n_stretches:.0f} independent stretches)"
    )
    if better is None:
        return f"The difference may well be noise: {size}."
    return f"{better} predicts better, by more than noise explains: {size}."
