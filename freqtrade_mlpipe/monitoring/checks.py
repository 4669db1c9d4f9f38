"""The checks: what each looks at, and where its measure comes from. A check is a row of `CHECKS`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from freqtrade_mlpipe.monitoring.windows import Floats

State = Literal["ok", "bad", "waiting", "off"]


@dataclass(frozen=True)
class Check:
    """One row of the table.

    Attributes
    ----------
    family : checks of a family raise an alarm together, see `monitoring.calibration`.
    components : of the family's, the worst of which speaks.
    what : a sentence on a good window; {ratio}, {limit} and {where} are filled in.
    source : of the measure.
    """

    name: str
    family: str
    components: tuple[str, ...]
    what: str
    source: str


@dataclass(frozen=True)
class Reading:
    """What a check found in a window.

    Attributes
    ----------
    state : `bad`: beyond the limit; `waiting`: too few rows yet; `off`: cannot be said, the sentence says why.
    value, limit : for calibrated checks in units of what is rare for a window without drift.
    n : rows looked at.
    """

    check: str
    family: str
    state: State
    value: float
    limit: float
    n: int
    sentence: str


_MOVED = "Moved {ratio} of what is rare without drift (limit {limit}).{where}"
_SIDDIQI = "Population stability index: Siddiqi (2006), Credit Risk Scorecards"
_KS = "Two-sample distance: Kolmogorov (1933), Smirnov (1948)"

CHECKS = (
    Check("feature drift (PSI)", "features", ("psi", "psi_worst"), _MOVED, _SIDDIQI),
    Check("feature drift (KS)", "features", ("ks", "ks_worst"), _MOVED, _KS),
    Check("feature changes (PSI)", "features", ("change_psi", "change_psi_worst"), _MOVED, _SIDDIQI),
    Check("feature changes (KS)", "features", ("change_ks", "change_ks_worst"), _MOVED, _KS),
    Check(
        "feature means together", "features", ("joint",), _MOVED,
        "Hotelling (1931), The Generalization of Student's Ratio, with the covariance of probabilistic principal "
        "components: Tipping & Bishop (1999)",
    ),
    Check(
        "out of distribution", "features", ("out_of_distribution",),
        "Rows outside the range of the training data: {ratio} of what is rare (limit {limit}).",
        "Range rule per feature, counted a row; cf. the dissimilarity index of FreqAI",
    ),
    Check(
        "prediction drift", "predictions", ("prediction_psi", "prediction_ks"),
        "The predictions' distribution moved {ratio} of what is rare without drift (limit {limit}).",
        f"{_SIDDIQI}; {_KS}",
    ),
    Check(
        "loss", "outcomes", ("loss",),
        "Log-loss (of a regression squared error) above training's: {ratio} of what is rare (limit {limit}).",
        "Good (1952), Rational Decisions: the logarithmic score",
    ),
    Check(
        "hit rate", "outcomes", ("hit_rate",),
        "Right predictions are rarer than in training: {ratio} of what is rare (limit {limit}).",
        "Share of right classes, of a regression of right signs",
    ),
    Check(
        "calibration", "outcomes", ("calibration",),
        "Predicted and true frequency (of a regression mean) differ by {ratio} of what is rare (limit {limit}).",
        "Calibration in the large: Cox (1958), Two Further Applications of a Model for Binary Regression",
    ),
    Check(
        "expected and realised", "outcomes", ("realised",),
        "The trades' net returns fall short of training's: {ratio} of what is rare (limit {limit}).",
        "Mean shortfall a candle, net of fees",
    ),
)  # fmt: skip


def calibrated_readings(
    family: str, components: Sequence[str], ratios: Floats, limit: float, n: int, where: str
) -> list[Reading]:
    """Readings of a family's checks on one window.

    Parameters
    ----------
    ratios : of each component to its scale.
    """
    found = dict(zip(components, map(float, ratios), strict=True))
    readings = []
    for check in CHECKS:
        if check.family == family:
            value = max(found[name] for name in check.components)
            state: State = "bad" if value > limit else "ok"
            sentence = check.what.format(
                ratio=f"{value:.2f} times",
                limit=f"{limit:.2f}",
                where=where if state == "bad" else "",
            )
            readings.append(Reading(check.name, family, state, value, limit, n, sentence))
    return readings


def silent_readings(family: str, state: State, n: int, sentence: str) -> list[Reading]:
    """Readings of a family's checks that cannot say anything."""
    nan = float("nan")
    return [
        Reading(check.name, family, state, nan, nan, n, sentence)
        for check in CHECKS
        if check.family == family
    ]


def model_age(trained_until: Any, now: pd.Timestamp, max_age_days: float | None) -> Reading:
    """Age of the model: days since the last candle it was trained on."""
    if trained_until is None:
        return single_reading(
            "model age", "age", "off", "The bundle does not say when it was trained."
        )
    age = float((now - pd.Timestamp(trained_until)) / pd.Timedelta(days=1))
    allowed = "no limit is set" if max_age_days is None else f"limit {max_age_days:g}"
    text = f"Trained on candles until {age:.1f} days ago ({allowed})."
    return single_reading(
        "model age", "age", _judged(age, max_age_days), text, age, max_age_days, 1
    )


def inference_latency(latency_ms: Floats, max_latency_ms: float | None) -> Reading:
    """Time that features and prediction of a candle took, 95th percentile."""
    measured = latency_ms[np.isfinite(latency_ms)]
    if not len(measured):
        return single_reading("inference latency", "latency", "off", "No latency was journalled.")
    value, middle = map(float, np.quantile(measured, [0.95, 0.5]))
    text = f"95 of 100 candles took at most {value:.3g} ms, half of them {middle:.3g} ms."
    state = _judged(value, max_latency_ms)
    return single_reading(
        "inference latency", "latency", state, text, value, max_latency_ms, len(measured)
    )


def single_reading(
    check: str, family: str, state: State, sentence: str, value: float = np.nan,
    limit: float | None = None, n: int = 0,
) -> Reading:  # fmt: skip
    """A reading of a check that is a family by itself, in units of its own."""
    return Reading(check, family, state, value, np.nan if limit is None else limit, n, sentence)


def _judged(value: float, limit: float | None) -> State:
    return "bad" if limit is not None and value > limit else "ok"
