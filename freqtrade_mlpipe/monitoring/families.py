"""What is looked at together: features, predictions, outcomes; each as sums over stretches of candles.

A window is the sum of its stretches, so that months of windows are cheap to draw, and the bot's window is made by the
very same code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from freqtrade_mlpipe.monitoring.windows import Bins, Directions, Floats, Ints, least_index, moved

_TAIL = 0.001
_MOST_RANGED = 200_000
_MOST_CORRELATED = 20_000
_USUAL_QUANTILE = 0.95
_OUTCOME_SUMS = ("loss", "hit", "predicted", "true", "expected", "realised", "trades", "rows")


@dataclass(frozen=True, eq=False)
class Observed:
    """Predicted candles, one a row, by pair and then date.

    Attributes
    ----------
    pair, date : shape (n,); date is the open time, UTC.
    features : shape (n, F), float32, the model's kept columns; NaN where missing. None: not known.
    predicted : shape (n,), the probability of class 1 (long), of a regression the predicted log return; NaN: none.
    outcomes : columns loss, hit, predicted, true, expected, realised, traded; NaN where the label is not known.
    """

    pair: NDArray[Any]
    date: pd.DatetimeIndex
    features: NDArray[np.float32] | None
    predicted: Floats
    outcomes: pd.DataFrame | None

    def __len__(self) -> int:
        return len(self.date)

    def of(self, rows: NDArray[Any]) -> Observed:
        """Some of the rows."""
        return Observed(
            self.pair[rows],
            self.date[rows],
            None if self.features is None else self.features[rows],
            self.predicted[rows],
            None if self.outcomes is None else self.outcomes[rows],
        )


class Family(Protocol):
    """Checks that are calibrated together."""

    @property
    def components(self) -> tuple[str, ...]:
        """What is measured of a window."""

    def table(self, observed: Observed, unit: Ints, n_units: int) -> Floats | None:
        """Sums a stretch of candles, (n_units, S), the number of rows last; None where it cannot be said."""

    def measure(
        self, windows: Floats, usual: Mapping[str, Any], *, training: bool = False
    ) -> Floats:
        """Components of windows, (n, C), each larger the worse. In `training` the windows are part of the reference."""

    def usual(self, windows: Floats) -> dict[str, Any]:
        """What `measure` needs to know of windows of the training data, as JSON types; by default nothing."""
        return {}

    def fitted_on(self, observed: Observed) -> Family:
        """The family as it were with only these training rows; the same, if single rows do not matter."""
        return self


@dataclass(frozen=True, eq=False)
class FeatureFamily(Family):
    """Distribution of each feature, of its change from candle to candle, and rows unlike any of the training data.

    Changes are nearly independent where the values are not: a doubled spread that a window of a slow feature would
    hide shows in them at once.
    """

    levels: Bins
    changes: Bins
    low: Floats
    high: Floats
    most_outside: float
    directions: Directions
    candle: pd.Timedelta

    @property
    def components(self) -> tuple[str, ...]:
        """Mean over the features and the worst one, of both measures, of values and of changes; the means of all
        together; share of rows out of range."""
        return (
            "psi", "psi_worst", "ks", "ks_worst", "change_psi", "change_psi_worst", "change_ks",
            "change_ks_worst", "joint", "out_of_distribution",
        )  # fmt: skip

    def table(self, observed: Observed, unit: Ints, n_units: int) -> Floats | None:
        """See `Family`."""
        X = observed.features
        if X is None:
            return None
        levels = self.levels.counts(self.levels.codes(X), unit, n_units)
        steps = changes_of(X, observed.pair, observed.date, self.candle)
        changes = self.changes.counts(self.changes.codes(steps), unit, n_units)
        changes[..., -1] = 0  # no candle just before: nothing is missing
        outside = ((self.low > X) | (self.high < X)).sum(axis=1) > self.most_outside
        parts: list[Any] = [levels.reshape(n_units, -1), changes.reshape(n_units, -1)]
        for weights in (outside.astype(np.float64), None):
            parts.append(np.bincount(unit, weights, minlength=n_units)[:, None])
        return np.concatenate(parts, axis=1)

    def distances(self, windows: Floats, *, training: bool = False) -> list[Floats]:
        """Stability index and distance of values, then of changes, each of shape (n, F)."""
        found: list[Floats] = []
        start = 0
        for bins in (self.levels, self.changes):
            size = bins.reference.size
            now = windows[:, start : start + size].reshape(-1, *bins.reference.shape)
            then = np.maximum(bins.reference - now, 0) if training else bins.reference
            found += moved(now, then)
            start += size
        return found

    def mean_shift(self, windows: Floats, *, training: bool = False) -> Floats:
        """By how much the mean normal score of each feature has moved, shape (n, F)."""
        bins = self.levels
        now = windows[:, : bins.reference.size].reshape(-1, *bins.reference.shape)
        then = np.maximum(bins.reference - now, 0) if training else bins.reference[None]
        scores = bins.scores()
        means = [
            (rows * scores).sum(axis=2) / np.maximum(rows.sum(axis=2), 1) for rows in (now, then)
        ]
        return np.asarray(means[0] - means[1])

    def usual(self, windows: Floats) -> dict[str, Any]:
        """For each measure and feature what a window exceeds once in twenty; the spread of the windows' means."""
        rows = float(np.median(windows[:, -1]))
        least = (
            least_index(self.levels.n_bins, rows), rows**-0.5,
            least_index(self.changes.n_bins, rows), rows**-0.5,
        )  # fmt: skip
        usual = {
            name: np.maximum(np.quantile(values, _USUAL_QUANTILE, axis=0), floor).tolist()
            for name, values, floor in zip(
                ("psi", "ks", "change_psi", "change_ks"),
                self.distances(windows, training=True),
                least,
                strict=True,
            )
        }
        spread = self.mean_shift(windows, training=True).std(axis=0)
        return usual | {"mean": np.maximum(spread, rows**-0.5).tolist()}

    def measure(
        self, windows: Floats, usual: Mapping[str, Any], *, training: bool = False
    ) -> Floats:
        """See `Family`."""
        columns = []
        names = ("psi", "ks", "change_psi", "change_ks")
        for name, values in zip(names, self.distances(windows, training=training), strict=True):
            relative = values / np.asarray(usual[name])
            columns += [relative.mean(axis=1), relative.max(axis=1)]
        z = self.mean_shift(windows, training=training) / np.asarray(usual["mean"])
        columns.append(self.directions.length(z))
        columns.append(windows[:, -2] / np.maximum(windows[:, -1], 1))
        return np.stack(columns, axis=1)

    def fitted_on(self, observed: Observed) -> FeatureFamily:
        """With the range of these rows, and the directions in which they move."""
        assert observed.features is not None
        low, high, most = usual_range(observed.features)
        directions = directions_of(self.levels, observed.features)
        return replace(self, low=low, high=high, most_outside=most, directions=directions)

    def furthest(self, window: Floats, usual: Mapping[str, Any], n: int = 3) -> list[str]:
        """Names of the features that have moved most for what is usual of them."""
        found = self.distances(window[None])
        names = ("psi", "ks", "change_psi", "change_ks")
        relative = [v[0] / np.asarray(usual[name]) for name, v in zip(names, found, strict=True)]
        worst = np.argsort(-np.max(relative, axis=0), kind="stable")[:n]
        return [self.levels.names[k] for k in worst]


@dataclass(frozen=True, eq=False)
class PredictionFamily(Family):
    """Distribution of what the model predicts."""

    bins: Bins

    @property
    def components(self) -> tuple[str, ...]:
        """Stability index and Kolmogorov-Smirnov distance."""
        return ("prediction_psi", "prediction_ks")

    def table(self, observed: Observed, unit: Ints, n_units: int) -> Floats | None:
        """See `Family`."""
        made = np.isfinite(observed.predicted)
        codes = self.bins.codes(observed.predicted[made, None])
        counts = self.bins.counts(codes, unit[made], n_units).reshape(n_units, -1)
        return np.concatenate([counts, counts.sum(axis=1, keepdims=True)], axis=1)

    def measure(
        self, windows: Floats, usual: Mapping[str, Any], *, training: bool = False
    ) -> Floats:
        """See `Family`."""
        now = windows[:, None, :-1]
        then = np.maximum(self.bins.reference - now, 0) if training else self.bins.reference
        return np.concatenate(moved(now, then), axis=1)


@dataclass(frozen=True, eq=False)
class OutcomeFamily(Family):
    """How predictions turned out, against the out-of-sample rows of the training.

    Attributes
    ----------
    reference : sums of `_OUTCOME_SUMS` over the out-of-sample rows.
    """

    reference: Mapping[str, float]

    @property
    def components(self) -> tuple[str, ...]:
        """By how much the loss is higher, hits are rarer, probabilities further off, trades worse than expected."""
        return ("loss", "hit_rate", "calibration", "realised")

    def table(self, observed: Observed, unit: Ints, n_units: int) -> Floats | None:
        """See `Family`."""
        return (
            None if observed.outcomes is None else outcome_table(observed.outcomes, unit, n_units)
        )

    def measure(
        self, windows: Floats, usual: Mapping[str, Any], *, training: bool = False
    ) -> Floats:
        """See `Family`. The shortfall of trades is a mean over all rows, so that few trades count little."""
        now = dict(zip(_OUTCOME_SUMS, windows.T, strict=True))
        n = np.maximum(now["rows"], 1)
        rest: dict[str, Any] = {name: np.asarray(self.reference[name]) for name in _OUTCOME_SUMS}
        if training:
            rest = {name: rest[name] - now[name] for name in _OUTCOME_SUMS}
        m = np.maximum(rest["rows"], 1)
        gap = (now["true"] - now["predicted"]) / n - (rest["true"] - rest["predicted"]) / m
        # A trade's excess over what training says of a trade, or over its own forecast where there is one.
        per_trade = (rest["realised"] - rest["expected"]) / np.maximum(rest["trades"], 1)
        short = (now["expected"] - now["realised"] + per_trade * now["trades"]) / n
        return np.stack(
            [
                now["loss"] / n - rest["loss"] / m,
                rest["hit"] / m - now["hit"] / n,
                np.abs(gap),
                short,
            ],
            axis=1,
        )


def outcome_table(outcomes: pd.DataFrame, unit: Ints, n_units: int) -> Floats:
    """Sums a unit of the known outcomes, in the order of `_OUTCOME_SUMS`."""
    known = outcomes["loss"].notna().to_numpy()
    rows, where = outcomes[known], unit[known]
    sums = {"rows": np.ones(len(rows)), "trades": rows["traded"].to_numpy(np.float64)}
    for name in ("loss", "hit", "predicted", "true"):
        sums[name] = rows[name].to_numpy(np.float64)
    for name in ("expected", "realised"):
        sums[name] = np.where(sums["trades"] > 0, rows[name].to_numpy(np.float64), 0.0)
    columns = [np.bincount(where, sums[name], minlength=n_units) for name in _OUTCOME_SUMS]
    return np.stack(columns, axis=1)


def outcome_sums(outcomes: pd.DataFrame | None) -> dict[str, float]:
    """Sums of all known outcomes, by name."""
    if outcomes is None:
        return dict.fromkeys(_OUTCOME_SUMS, 0.0)
    table = outcome_table(outcomes, np.zeros(len(outcomes), dtype=np.int64), 1)
    return dict(zip(_OUTCOME_SUMS, map(float, table[0]), strict=True))


def changes_of(
    X: NDArray[np.float32], pair: NDArray[Any], date: pd.DatetimeIndex, candle: pd.Timedelta
) -> NDArray[np.float32]:
    """Change of each feature from the candle before, of the same pair; NaN where that one is not there."""
    found = np.full(X.shape, np.nan, dtype=np.float32)
    moment = date.as_unit("ns").asi8
    follows = (pair[1:] == pair[:-1]) & (np.diff(moment) == candle.value)
    with np.errstate(over="ignore", invalid="ignore"):
        found[1:][follows] = (X[1:] - X[:-1])[follows]
    return found


def directions_of(levels: Bins, X: NDArray[np.float32]) -> Directions:
    """How the normal scores of features move together in these rows."""
    some = X[:: max(1, len(X) // _MOST_CORRELATED)]
    return Directions.of(levels.scores()[np.arange(len(levels.names)), levels.codes(some)])


def usual_range(X: NDArray[np.float32]) -> tuple[Floats, Floats, float]:
    """Range of each feature but for one row in a thousand at either end, and how many a row usually leaves at once.

    The number is that which one row of the training data in a hundred exceeds.
    """
    X = X[:: max(1, len(X) // _MOST_RANGED)]
    with np.errstate(invalid="ignore"):
        low, high = np.nanquantile(X, [_TAIL, 1.0 - _TAIL], axis=0).astype(np.float64)
    outside = ((low > X) | (high < X)).sum(axis=1)
    return low, high, float(np.quantile(outside, 0.99))
