"""What monitoring knows of the training: made once, kept in the bundle's drift baseline, read by the bot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from freqtrade_mlpipe.config import MonitoringConfig, Task
from freqtrade_mlpipe.monitoring.calibration import (
    LEAST_WINDOWS,
    Limits,
    Plan,
    limits_of,
    month_windows,
    window_sums,
)
from freqtrade_mlpipe.monitoring.families import (
    Family,
    FeatureFamily,
    Observed,
    OutcomeFamily,
    PredictionFamily,
    changes_of,
    directions_of,
    outcome_sums,
    usual_range,
)
from freqtrade_mlpipe.monitoring.outcomes import training_outcomes
from freqtrade_mlpipe.monitoring.windows import Bins, Directions, Floats, Ints, units_of
from freqtrade_mlpipe.registry.baseline import drift_baseline

KEY = "monitoring"
"""Where it is in the bundle's `drift_baseline.json`; bundles of older releases have none."""

FORMAT = 1
SHARES: Mapping[str, float] = {"features": 0.4, "predictions": 0.2, "outcomes": 0.3, "adwin": 0.1}
"""How the chance of a false alarm is shared out among the families."""

_MOST_PAIRS = 32
"""Pairs that limits are made from; more of them move together, and add little."""
_SUBSETS = 6
_FOLDS = 4
_MONTHS = 200


@dataclass(frozen=True)
class Level:
    """Limits for windows of at least `n_pairs` pairs: more pairs, less noise."""

    n_pairs: int
    limits: Limits
    usual: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Reference:
    """The families of a bundle with their limits.

    Attributes
    ----------
    columns : the features, in the order of the model's kept columns.
    families : by name; one that the training was too short for is not there.
    levels : of each family, by ascending number of pairs.
    missing : of each family that is not there, why.
    """

    plan: Plan
    candle: pd.Timedelta
    task: Task
    columns: tuple[str, ...]
    families: Mapping[str, Family]
    levels: Mapping[str, Sequence[Level]]
    missing: Mapping[str, str]


def plan_of(config: MonitoringConfig) -> Plan:
    """How a bot with this configuration looks."""
    return Plan(config.window_candles, config.step_candles, config.false_alarms)


def monitoring_baseline(
    learned: pd.DataFrame,
    oos: pd.DataFrame,
    *,
    task: Task,
    candle: pd.Timedelta,
    round_trip_cost: float,
    plan: Plan,
    seed: int,
) -> dict[str, Any]:
    """The bundle's drift baseline: bins of each feature, and what monitoring takes for usual.

    Parameters
    ----------
    learned : DataFrame, index (pair, date UTC)
        The training rows of the kept features.
    oos : DataFrame, index (pair, date UTC)
        `TrainingReport.oos`. The members that predicted it differ from the production model, and from each other:
        what is usual has that difference in it.
    plan : how the bot will look.

    Returns
    -------
    dict
        What `drift_baseline` gives, and under `KEY` what `read_reference` reads: JSON types.
    """
    learned, oos = learned.sort_index(), oos.sort_index()
    baseline = drift_baseline(learned)
    rng = np.random.default_rng(seed)
    content: dict[str, Any] = {
        "format": FORMAT, "task": task, "candle_seconds": candle.total_seconds(),
        "window_candles": plan.window_candles, "step_candles": plan.step_candles,
        "false_alarms": plan.false_alarms,
    }  # fmt: skip
    seen, answered = _observed(learned), _answered(oos, task, round_trip_cost)
    content["columns"] = [str(name) for name in learned.columns]
    content["changes"] = _changes(seen, learned.columns, candle)
    low, high, most = usual_range(learned.to_numpy(np.float32))
    content["range"] = {"low": low.tolist(), "high": high.tolist(), "most_outside": most}
    levels_of = Bins.from_baseline(baseline, content["columns"])
    content["directions"] = directions_of(levels_of, learned.to_numpy(np.float32)).to_dict()
    content["predictions"] = drift_baseline(pd.DataFrame({"predicted": answered.predicted}))
    content["outcomes"] = outcome_sums(answered.outcomes)
    families = _families(baseline, content)
    content["levels"], content["missing"] = {}, {}
    for name, family in families.items():
        rows = seen if name == "features" else answered
        levels = list(_levels(family, rows, plan, candle, SHARES[name] * plan.false_alarms, rng))
        content["levels"][name] = levels
        if not levels:
            content["missing"][name] = (
                f"the training data are shorter than {LEAST_WINDOWS} windows of {plan.window_candles} "
                "candles, too short to say what is usual"
            )
    return {**baseline, KEY: content}


def read_reference(baseline: Mapping[str, Any] | None) -> Reference | None:
    """The reference of a bundle; None where it was made by a release without monitoring.

    Raises
    ------
    KeyError, TypeError, ValueError
        It is damaged, or of a later release.
    """
    content = (baseline or {}).get(KEY)
    if baseline is None or content is None:
        return None
    if content["format"] != FORMAT:
        raise ValueError(f"monitoring baseline of format {content['format']}, expected {FORMAT}")
    levels = {
        name: [
            Level(
                int(level["n_pairs"]),
                Limits(tuple(level["scale"]), tuple(level["factor"])),
                level["usual"],
            )
            for level in found
        ]
        for name, found in content["levels"].items()
    }
    return Reference(
        plan=Plan(content["window_candles"], content["step_candles"], content["false_alarms"]),
        candle=pd.Timedelta(seconds=content["candle_seconds"]),
        task=content["task"],
        columns=tuple(content["columns"]),
        families={n: f for n, f in _families(baseline, content).items() if levels.get(n)},
        levels=levels,
        missing=content["missing"],
    )


def _families(baseline: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Family]:
    bounds = content["range"]
    return {
        "features": FeatureFamily(
            Bins.from_baseline(baseline, content["columns"]),
            Bins.from_baseline(content["changes"], content["columns"]),
            np.asarray(bounds["low"], dtype=np.float64),
            np.asarray(bounds["high"], dtype=np.float64),
            float(bounds["most_outside"]),
            Directions.from_dict(content["directions"]),
            pd.Timedelta(seconds=content["candle_seconds"]),
        ),
        "predictions": PredictionFamily(Bins.from_baseline(content["predictions"], ["predicted"])),
        "outcomes": OutcomeFamily(content["outcomes"]),
    }


def _observed(X: pd.DataFrame) -> Observed:
    pair, date = (X.index.get_level_values(name) for name in ("pair", "date"))
    nothing = np.full(len(X), np.nan)
    return Observed(np.asarray(pair), pd.DatetimeIndex(date), X.to_numpy(np.float32), nothing, None)


def _answered(oos: pd.DataFrame, task: Task, round_trip_cost: float) -> Observed:
    pair, date = (oos.index.get_level_values(name) for name in ("pair", "date"))
    found = training_outcomes(oos, task, round_trip_cost)
    predicted = oos["prediction" if task == "regression" else "proba"].to_numpy(np.float64)
    return Observed(np.asarray(pair), pd.DatetimeIndex(date), None, predicted, found)


def _changes(seen: Observed, names: pd.Index, candle: pd.Timedelta) -> dict[str, Any]:
    assert seen.features is not None
    steps = changes_of(seen.features, seen.pair, seen.date, candle)
    found = drift_baseline(pd.DataFrame(steps, columns=list(names)))
    features: Any = found["features"]
    for column in features.values():
        column["missing"] = (
            0.0  # of the first candle there is no change: that is no property of the data
        )
    return found


def _levels(
    family: Family, rows: Observed, plan: Plan, candle: pd.Timedelta, share: float,
    rng: np.random.Generator,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    pairs = np.unique(rows.pair)
    pairs = rng.permutation(pairs)[:_MOST_PAIRS]
    unit = units_of(rows.date, candle, plan.step_candles)
    if not len(rows) or np.ptp(unit) + 1 < LEAST_WINDOWS * plan.units_per_window:
        return
    first, n_units = int(unit.min()), int(np.ptp(unit)) + 1
    fold = (unit - first) * _FOLDS // n_units
    families = [family.fitted_on(rows.of(fold != k)) for k in range(_FOLDS)]
    n_pairs = 1
    while n_pairs <= len(pairs):
        stretches = [
            _filled(_table(families, rows, fold, unit - first, n_units, some))
            for some in _subsets(pairs, n_pairs, rng)
        ]
        stretches = [
            some for some in stretches if len(some.sums) >= LEAST_WINDOWS * plan.units_per_window
        ]
        if stretches:
            yield _level(family, families, stretches, n_pairs, plan, share, rng)
        n_pairs *= 2


@dataclass(frozen=True, eq=False)
class _Stretches:
    """Sums of a family over the stretches of some pairs, and the fold that each stretch is in."""

    sums: Floats
    fold: Ints


def _level(
    family: Family, apart: Sequence[Family], stretches: Sequence[_Stretches], n_pairs: int, plan: Plan,
    share: float, rng: np.random.Generator,
) -> dict[str, Any]:  # fmt: skip
    w = plan.units_per_window
    tables = [some.sums for some in stretches]
    unbroken = np.concatenate([sliding_sums(table, w) for table in tables])
    usual = family.usual(unbroken)
    months = month_windows(
        tables, plan, _MONTHS, rng, lambda sums: family.measure(sums, usual, training=True)
    )
    windows = np.concatenate([_as_if_new(apart, some, w) for some in stretches])
    limits = limits_of(windows, months, share, max(len(table) for table in tables), plan)
    return {"n_pairs": n_pairs, "usual": usual, **limits.to_dict()}


def _as_if_new(apart: Sequence[Family], stretches: _Stretches, width: int) -> Floats:
    """Components of each window by what others teach, and a family that has not seen it: a bot's are new to it, too."""
    windows = sliding_sums(stretches.sums, width)
    unseen = stretches.fold[width // 2 :][: len(windows)]
    part = np.arange(len(windows)) * _FOLDS // len(windows)  # a pair may have been listed late
    found = []
    for own, k in sorted(set(zip(part.tolist(), unseen.tolist(), strict=True))):
        usual = apart[k].usual(windows[part != own])
        found.append(apart[k].measure(windows[(part == own) & (unseen == k)], usual, training=True))
    return np.concatenate(found)


def sliding_sums(table: Floats, width: int) -> Floats:
    """Sums over every `width` consecutive rows: (n - width + 1, S)."""
    plan = Plan(width, 1, 0.0)
    return window_sums(table, np.arange(len(table))[None], plan)


def _table(
    families: Sequence[Family], rows: Observed, fold: Ints, unit: Ints, n_units: int, pairs: Any
) -> Floats:
    """Sums of some pairs, the rows of each fold as the family sees them that does not know them."""
    wanted, tables = np.isin(rows.pair, pairs), []
    for k, family in enumerate(families):
        own = wanted & (fold == k)
        tables.append(family.table(rows.of(own), unit[own], n_units))
    return np.asarray(sum(table for table in tables if table is not None))


def _filled(table: Floats) -> _Stretches:
    """Without the stretches in which a pair was not traded yet, or candles are missing."""
    n_rows = table[:, -1]
    fold = np.arange(len(table)) * _FOLDS // len(table)
    enough = n_rows >= 0.8 * np.median(n_rows[n_rows > 0]) if n_rows.any() else n_rows > 0
    return _Stretches(table[enough], fold[enough])


def _subsets(pairs: Any, size: int, rng: np.random.Generator) -> list[Any]:
    n = min(_SUBSETS, len(pairs) // size)
    mixed = rng.permutation(pairs)
    return [mixed[k * size : (k + 1) * size] for k in range(n)]
