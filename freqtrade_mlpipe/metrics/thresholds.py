"""Probabilities at which to enter and to leave, chosen by what the rows behind them earned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from freqtrade_mlpipe.exceptions import TrainingError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ThresholdChoice:
    """Where to enter and to leave.

    Attributes
    ----------
    enter : float
        Enter at a probability at or above it.
    exit : float
        Leave at a probability at or below it; always less than `enter`.
    n_selected : int
        Rows of the choosing slice at or above `enter`.
    expected_profit : float
        Their mean net return; 0.0 without rows.
    profitable : bool
        False when no threshold earned its fees with confidence and the fallback was taken.
    """

    enter: float
    exit: float
    n_selected: int
    expected_profit: float
    profitable: bool


def choose_threshold(
    proba: ArrayLike,
    net_return: ArrayLike,
    *,
    round_trip_cost: float = 0.0,
    horizon_candles: int = 1,
    min_rows: int = 30,
    max_fraction: float = 0.5,
    n_errors: float = 1.0,
    fallback_quantile: float = 0.95,
    logit: bool = True,
) -> ThresholdChoice:
    """Thresholds that maximise a cautious estimate of profit net of fees.

    A row's gain is not its own return but the least-squares line of returns on logit(p), less the
    cost: the best of thousands of noisy cuts through realised returns is mostly luck, a line has two
    parameters. The line goes through 0 at the mean: what the market did on these rows is no merit of
    the scores.

    Among thresholds that select k rows, `min_rows` ≤ k ≤ `max_fraction` of all, the one with the
    largest ``(mean - n_errors * standard error) * sqrt(k_eff)`` wins, with ``k_eff = k /
    horizon_candles``: overlapping trades tell less than separate ones. The exit threshold is found
    likewise from below, by the gross gain (the entry fee is spent).

    Parameters
    ----------
    proba : array-like of shape (n,)
        Calibrated probabilities of rows the model and its calibrator have not seen.
    net_return : array-like of shape (n,)
        Return of a trade on each row after both fees. Rows with NaN in either array are left out.
    round_trip_cost : float, default 0
        What was deducted from `net_return`.
    horizon_candles : int, default 1
        Candles a trade lasts.
    min_rows : int, default 30
    max_fraction : float, default 0.5
        Largest share of rows that may be selected: being always in the market is no signal.
    n_errors : float, default 1
        Standard errors deducted from the mean.
    fallback_quantile : float, default 0.95
        Where nothing is profitable, the entry threshold selects the share above this quantile, the
        exit threshold the share below its mirror image. Probabilities that are all equal select
        nothing.
    logit : bool, default True
        False: `proba` holds predicted returns, and the line goes through them as they are.

    Raises
    ------
    TrainingError
        When no row has both a probability and a return.
    """
    p, net = np.asarray(proba, dtype=np.float64), np.asarray(net_return, dtype=np.float64)
    if p.shape != net.shape or p.ndim != 1:
        raise ValueError(
            f"proba and net_return must have one shape (n,), found {p.shape} and {net.shape}."
        )
    usable = np.isfinite(p) & np.isfinite(net)
    if not usable.any():
        raise TrainingError(
            "No row has both a probability and a return to choose thresholds from. "
            "Use more candles."
        )
    p, net = p[usable], net[usable]
    limits = _Limits(
        horizon_candles, min_rows, max_fraction, n_errors, share=1.0 - fallback_quantile
    )
    gross = _expected_gain(_logit(p) if logit else p, net + round_trip_cost)
    spread = float(net.std())
    enter, profitable = _best_cut(p, gross - round_trip_cost, spread, limits)
    low, _ = _best_cut(-p, -gross, spread, limits)
    selected = p >= enter
    return ThresholdChoice(
        enter=enter,
        exit=min(-low, float(np.nextafter(enter, -np.inf))),
        n_selected=int(selected.sum()),
        expected_profit=float(net[selected].mean()) if selected.any() else 0.0,
        profitable=profitable,
    )


@dataclass(frozen=True)
class _Limits:
    horizon: int
    min_rows: int
    max_fraction: float
    n_errors: float
    share: float


def _logit(p: Floats) -> Floats:
    clipped = np.clip(p, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def _expected_gain(score: Floats, gross: Floats) -> Floats:
    """Least-squares line of returns on scores, both centred; 0 where the scores are all equal."""
    score = score - score.mean()
    square = float(score @ score)
    slope = float(score @ (gross - gross.mean())) / square if square > 0 else 0.0
    return np.asarray(slope * score)


def _best_cut(score: Floats, gain: Floats, spread: float, limits: _Limits) -> tuple[float, bool]:
    """Lowest score to select, and whether the selected rows gain with confidence.

    `spread` is the standard deviation of a trade's return.
    """
    order = np.argsort(-score)
    score, gain = score[order], gain[order]
    n = len(score)
    ends = np.flatnonzero(np.r_[score[1:] != score[:-1], True])
    k = ends + 1.0
    mean = np.cumsum(gain)[ends] / k
    merit = mean * np.sqrt(k / limits.horizon) - limits.n_errors * spread
    merit[(k < limits.min_rows) | (k > limits.max_fraction * n)] = -np.inf
    best = int(merit.argmax())
    if merit[best] > 0:
        return _between(score, int(ends[best])), True
    few = np.flatnonzero(k <= max(limits.share * n, 1.0))
    if not len(few) or n == 1:
        return float(np.nextafter(score[0], np.inf)), False
    return _between(score, int(ends[few[-1]])), False


def _between(score: Floats, last: int) -> float:
    """A cut half-way between the last selected score and the first one that is not."""
    if last + 1 == len(score):
        return float(score[last])
    middle = 0.5 * (score[last] + score[last + 1])
    return float(middle if middle > score[last + 1] else score[last])
