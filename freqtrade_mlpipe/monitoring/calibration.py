"""How far things usually move without drift: limits such that false alarms are as rare as asked for.

Neither features nor losses are independent from candle to candle, and hundreds of them are looked at day after day,
so no textbook limit holds. The training data say what is usual: months drawn from them in long blocks (so that what
depends on what went before stays together, and rows of all pairs too) are monitored exactly as the bot will be. The
limit is the quantile, over these months, of the worst that was seen in each: of all checks of a family at once, over
all its windows, and for as many windows in a row as make an alarm.

References
----------
Politis & Romano (1994), The Stationary Bootstrap, JASA 89. Westfall & Young (1993), Resampling-Based Multiple Testing:
the maximum over all tests, resampled jointly, is the one calibrated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from freqtrade_mlpipe.monitoring.windows import Floats, Ints

MONTH_CANDLES = 720
"""What false alarms are counted over: a month of 1h candles."""
MOST_IN_A_ROW = 6
LEAST_WINDOWS = 8
"""No limit from training data with fewer disjoint windows than this."""

_BLOCK_WINDOWS = 2
_CAUTION = 1 / 3
"""Limits come from some tens of windows and miss their aim now and then: they aim at this share of what is allowed."""
_CHUNK_CELLS = 2_000_000

Statistic = Callable[[Floats], Floats]
"""Sums over windows, shape (n, S) → components, shape (n, C), each larger the worse."""


@dataclass(frozen=True)
class Plan:
    """How a bot looks: every `step_candles` candles at the last `window_candles`.

    Attributes
    ----------
    false_alarms : chance that all families together raise an alarm in `MONTH_CANDLES` candles without drift.
    """

    window_candles: int
    step_candles: int
    false_alarms: float

    @property
    def units_per_window(self) -> int:
        """Steps that a window holds."""
        return max(1, round(self.window_candles / self.step_candles))

    @property
    def looks(self) -> int:
        """Looks a month."""
        return max(1, MONTH_CANDLES // self.step_candles)


@dataclass(frozen=True)
class Limits:
    """What is usual for the components of a family.

    Attributes
    ----------
    scale : of each component: what is rare for a single window.
    factor : an alarm for k windows in a row is ``component / scale > factor[k - 1]`` in all of them, whichever
        component it is.
    """

    scale: tuple[float, ...]
    factor: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {"scale": list(self.scale), "factor": list(self.factor)}


def draw_months(n_units: int, plan: Plan, n_months: int, rng: np.random.Generator) -> Ints:
    """Units of bootstrapped months, shape (n_months, looks + units_per_window - 1).

    Blocks have a geometric length of `_BLOCK_WINDOWS` windows on average, and go round at the end of the data.
    """
    length = plan.looks + plan.units_per_window - 1
    restart = rng.random((n_months, length)) < 1.0 / (_BLOCK_WINDOWS * plan.units_per_window)
    restart[:, 0] = True
    starts = rng.integers(0, n_units, (n_months, length))
    position = np.arange(length)
    block = np.maximum.accumulate(np.where(restart, position, 0), axis=1)
    return np.asarray(
        (np.take_along_axis(starts, block, axis=1) + position - block) % n_units, dtype=np.int64
    )


def window_sums(table: NDArray[Any], units: Ints, plan: Plan) -> Floats:
    """Sums over each window of each month: (n_months * looks, S) from a table of (n_units, S)."""
    w = plan.units_per_window
    sums = np.cumsum(table[units], axis=1, dtype=np.float64)
    windows = sums[:, w - 1 :].copy()
    windows[:, 1:] -= sums[:, :-w]
    return windows.reshape(-1, table.shape[1])


def month_windows(
    tables: Sequence[NDArray[Any]], plan: Plan, n_months: int, rng: np.random.Generator,
    statistic: Statistic,
) -> Floats:  # fmt: skip
    """Components of every window of `n_months` bootstrapped months: (n_months, looks, C).

    Parameters
    ----------
    tables : sums a unit, (n_units, S) each; the months are shared out among them.
    """
    months = []
    for table, share in zip(tables, np.array_split(np.arange(n_months), len(tables)), strict=True):
        size = max(1, _CHUNK_CELLS // (table.shape[1] * (plan.looks + plan.units_per_window)))
        for start in range(0, len(share), size):
            n = len(share[start : start + size])
            units = draw_months(len(table), plan, n, rng)
            found = statistic(window_sums(table, units, plan))
            months.append(found.reshape(n, plan.looks, -1))
    return np.concatenate(months)


def limits_of(windows: Floats, months: Floats, share: float, n_units: int, plan: Plan) -> Limits:
    """Limits that at most a share of the months exceeds.

    Parameters
    ----------
    windows : components of the unbroken windows of the training data, shape (n, C).
    months : components of bootstrapped months, shape (n_months, looks, C).
    share : chance of an alarm a month that the family is allowed.
    n_units : units of training data behind it.

    Notes
    -----
    Two years of 1h candles are some seventy windows: what one month in fifty exceeds lies beyond all of them, where a
    bootstrap cannot look. The scale of a component therefore comes from a gamma distribution with the mean and
    variance of the windows (a normal one where it may be negative), widened as Student's quantile is wider than the
    normal one. The bootstrap may only raise it.
    """
    tail = _look_share(share, windows.shape[1], plan)
    wider = _student(n_units / plan.units_per_window, tail)
    scale = np.array([_tail_quantile(column, tail, wider) for column in windows.T])
    worst = (months / scale).max(axis=-1)
    factor = []
    for k in range(1, MOST_IN_A_ROW + 1):
        width = max(1, worst.shape[1] - k + 1)
        lasting = np.min([worst[:, i : i + width] for i in range(min(k, worst.shape[1]))], axis=0)
        factor.append(max(1.0, float(np.quantile(lasting.max(axis=1), 1.0 - share))))
    return Limits(tuple(map(float, scale)), tuple(factor))


def _look_share(share: float, n_components: int, plan: Plan) -> float:
    """Chance a component and window that gives at most a month's: a third of a window on, another one is almost new."""
    windows_a_month = max(1.0, min(3.0 * plan.looks / plan.units_per_window, float(plan.looks)))
    return _CAUTION * share / (n_components * windows_a_month)


def _tail_quantile(values: Floats, tail: float, wider: float) -> float:
    mean, spread = float(values.mean()), float(max(values.std(), 1e-9))
    if values.min() < 0 or mean <= 0:
        return max(mean + float(stats.norm.isf(tail)) * spread * wider, 1e-9)
    shape = (mean / spread) ** 2
    quantile = float(stats.gamma.isf(tail, shape, scale=mean / shape))
    return mean + (quantile - mean) * wider


def _student(n_windows: float, tail: float) -> float:
    return float(stats.t.isf(tail, max(n_windows - 1.0, 2.0)) / stats.norm.isf(tail))
