"""Looking at live predictions, step by step: what every check says, and whether that is an alarm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from freqtrade_mlpipe.config import LabelConfig, MonitoringConfig
from freqtrade_mlpipe.monitoring.adwin import ADWIN_CHECK, adwin_readings
from freqtrade_mlpipe.monitoring.checks import (
    Reading,
    calibrated_readings,
    inference_latency,
    model_age,
    silent_readings,
    single_reading,
)
from freqtrade_mlpipe.monitoring.families import Family, FeatureFamily, Observed
from freqtrade_mlpipe.monitoring.reference import SHARES, Level, Reference, sliding_sums
from freqtrade_mlpipe.monitoring.windows import Floats, Ints, units_of

_NO_REFERENCE = "The bundle was written by a release without monitoring and does not say what is usual. Train again."
_CALIBRATED = ("features", "predictions", "outcomes")


@dataclass(frozen=True)
class Look:
    """All readings of one window, which ends at `at` (UTC)."""

    at: pd.Timestamp
    readings: tuple[Reading, ...]

    @property
    def bad(self) -> frozenset[str]:
        """Families of which a check is bad."""
        return frozenset(reading.family for reading in self.readings if reading.state == "bad")


@dataclass(frozen=True)
class Assessment:
    """What is to be thought of a model now.

    Attributes
    ----------
    looks : by time, each as far back as there are rows.
    alarm : families in alarm after the last look; empty: none.
    since : when the alarm began.
    """

    looks: tuple[Look, ...]
    alarm: frozenset[str]
    since: pd.Timestamp | None

    @property
    def sentence(self) -> str:
        """The state in words, for an operator."""
        if not self.looks:
            return "Nothing to look at yet."
        last = self.looks[-1]
        if not self.alarm:
            waiting = all(r.state in ("waiting", "off") for r in last.readings if r.family in _CALIBRATED)  # fmt: skip
            return "Too few predictions yet." if waiting else "No drift."
        assert self.since is not None
        bad = [r.check for r in last.readings if r.state == "bad"] or sorted(self.alarm)
        return f"Drift since {self.since:%Y-%m-%d %H:%M} UTC: {', '.join(bad)}."

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "alarm": sorted(self.alarm),
            "since": None if self.since is None else self.since.isoformat(),
            "sentence": self.sentence,
            "looks": [
                {"at": look.at.isoformat(), "readings": [asdict(r) for r in look.readings]}
                for look in self.looks
            ],
        }


def assess(
    reference: Reference | None,
    observed: Observed,
    *,
    config: MonitoringConfig,
    labels: LabelConfig,
    candle: pd.Timedelta,
    latency_ms: Floats,
    trained_until: Any,
) -> Assessment:
    """Look at predictions of one version every `step_candles`, as the bot did or would have done.

    Parameters
    ----------
    reference : of the bundle; None: only age and latency are looked at.
    observed : rows sorted by pair, then date.
    latency_ms : shape (n,), NaN where not known.
    """
    window = reference.plan.window_candles if reference else config.window_candles
    step = reference.plan.step_candles if reference else config.step_candles
    if not len(observed):
        return Assessment((), frozenset(), None)
    unit = units_of(observed.date, candle, step)
    first, last_close = int(unit.min()), observed.date.max() + candle
    n_units = int(units_of(pd.DatetimeIndex([last_close]), candle, step)[0]) - first
    if n_units < 1:
        return Assessment((), frozenset(), None)
    ends = pd.DatetimeIndex(
        [pd.Timestamp((first + k + 1) * step * candle.value, tz="UTC") for k in range(n_units)]
    )
    inside = unit - first < n_units
    rows, unit = observed.of(inside), (unit - first)[inside]
    readings: list[list[Reading]] = [[] for _ in ends]
    for name in _CALIBRATED:
        lag = -(-labels.horizon_candles // step) if name == "outcomes" else 0
        found = _family_readings(reference, name, rows, unit, n_units, config, lag)
        for k, some in enumerate(found):
            readings[k] += some
    for k, reading in enumerate(_adwin(rows, ends, candle, window, labels, config)):
        readings[k].append(reading)
    latency, width = latency_ms[inside], max(1, window // step)
    for k, end in enumerate(ends):
        recent = (unit <= k) & (unit > k - width)
        readings[k].append(model_age(trained_until, end, config.max_age_days))
        readings[k].append(inference_latency(latency[recent], config.max_latency_ms))
    looks = tuple(Look(end, tuple(some)) for end, some in zip(ends, readings, strict=True))
    alarm, since = alarm_after(looks, config)
    return Assessment(looks, alarm, since)


def alarm_after(
    looks: Sequence[Look], config: MonitoringConfig
) -> tuple[frozenset[str], pd.Timestamp | None]:
    """Families in alarm after the last look, and since when."""
    *_, last = ((frozenset[str](), None), *alarms(looks, config))
    return last


def alarms(
    looks: Sequence[Look], config: MonitoringConfig
) -> Iterator[tuple[frozenset[str], pd.Timestamp | None]]:
    """Families in alarm after each look, and since when.

    A family is in alarm once it was bad `bad_windows` times in a row, until it was not `good_windows` times in a row.
    """
    bad_runs: dict[str, int] = {}
    good_runs: dict[str, int] = {}
    since: dict[str, pd.Timestamp] = {}
    families = {reading.family for look in looks for reading in look.readings}
    for look in looks:
        for family in families:
            bad = family in look.bad
            bad_runs[family] = bad_runs.get(family, 0) + 1 if bad else 0
            good_runs[family] = 0 if bad else good_runs.get(family, 0) + 1
            if bad_runs[family] >= config.bad_windows:
                since.setdefault(family, look.at)
            elif good_runs[family] >= config.good_windows:
                since.pop(family, None)
        yield frozenset(since), min(since.values(), default=None)


def _family_readings(
    reference: Reference | None, name: str, rows: Observed, unit: Ints, n_units: int,
    config: MonitoringConfig, lag: int,
) -> list[list[Reading]]:  # fmt: skip
    if reference is None:
        return [silent_readings(name, "off", 0, _NO_REFERENCE)] * n_units
    if name not in reference.families:
        why = reference.missing.get(name, "the bundle does not say what is usual")
        return [silent_readings(name, "off", 0, f"No limits: {why}.")] * n_units
    family = reference.families[name]
    table = family.table(rows, unit, n_units)
    if table is None:
        what = "features" if name == "features" else "candles"
        return [silent_readings(name, "off", 0, f"There are no {what} to look at.")] * n_units
    w = reference.plan.units_per_window
    padded = np.concatenate([np.zeros((w - 1 + lag, table.shape[1])), table])[: w - 1 + n_units]
    windows = sliding_sums(padded, w)
    return [_read(reference, name, family, window, config) for window in windows]


def _read(
    reference: Reference, name: str, family: Family, window: Floats, config: MonitoringConfig
) -> list[Reading]:
    n, needed = int(window[-1]), config.min_rows * reference.plan.window_candles
    if n < needed:
        text = f"{n} of at least {int(np.ceil(needed))} rows are there."
        return silent_readings(name, "waiting", n, text)
    level = _level_for(reference.levels[name], n / needed)
    ratios = family.measure(window[None], level.usual)[0] / np.asarray(level.limits.scale)
    limit = level.limits.factor[config.bad_windows - 1]
    where = ""
    if isinstance(family, FeatureFamily) and ratios.max() > limit:
        where = f" Furthest: {', '.join(family.furthest(window, level.usual))}."
    return calibrated_readings(name, family.components, ratios, limit, n, where)


def _level_for(levels: Sequence[Level], n_pairs: float) -> Level:
    """Limits made for no more pairs than there are: they are wider than need be, never narrower."""
    fitting = [level for level in levels if level.n_pairs <= n_pairs]
    return fitting[-1] if fitting else levels[0]


def _adwin(
    rows: Observed, ends: pd.DatetimeIndex, candle: pd.Timedelta, window: int, labels: LabelConfig,
    config: MonitoringConfig,
) -> list[Reading]:  # fmt: skip
    if rows.outcomes is None:
        text = "There are no candles to look at."
        return [single_reading(ADWIN_CHECK, "adwin", "off", text)] * len(ends)
    return adwin_readings(
        1.0 - rows.outcomes["hit"].to_numpy(np.float64), rows.date, ends,
        delta=SHARES["adwin"] * config.false_alarms, thin=labels.horizon_candles, candle=candle,
        memory=window * candle,
    )  # fmt: skip
