"""What a report is made of: plain data, known to no library but pandas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import pandas as pd

from freqtrade_mlpipe.config import Task
from freqtrade_mlpipe.monitoring.looks import Look

Tone = Literal["good", "bad", ""]

BASELINES: Mapping[Task, tuple[str, str]] = {
    "binary": ("class_prior", "the class frequency"),
    "three_class": ("class_prior", "the class frequencies"),
    "regression": ("mean", "the mean return"),
}
"""What a model is held against on the page: its name in `BASELINE_METRICS`, and in words."""


@dataclass(frozen=True, eq=False)
class Drift:
    """Features of recent candles against those of the training data.

    Attributes
    ----------
    recent
        Stability index of each feature on the recent candles; NaN unknown.
    usual
        The largest one it had in a stretch of the training data of the same length; empty if the
        training was too short to say.
    start, end
        First and last recent candle (UTC).
    n_rows
        Recent rows, all pairs together.
    n_windows
        Stretches of training behind `usual`.
    """

    recent: pd.Series[float]
    usual: pd.Series[float]
    start: datetime
    end: datetime
    n_rows: int
    n_windows: int


@dataclass(frozen=True, eq=False)
class ReportData:
    """Everything on the page. Whatever is left out gets a sentence that says so.

    Attributes
    ----------
    task
        What the model predicts.
    title
        For instance "trend_classifier, version 3".
    verdict
        Sentences, a paragraph each: what was decided and why, how good it is.
    badge, tone
        The decision in two words, and its colour.
    summary
        Label to value, in order: model, version, pairs, timeframe, spans, data hash …
    data_note
        Where the candles are from if they are not recorded ones; shown prominently.
    gates
        One mapping a check: `name`, `value`, `threshold`, `passed`, `sentence`.
    folds
        One mapping a walk-forward fold: `train_start`, `train_end`, `test_start`, `test_end`
        (UTC; an end may be None) and `metrics`.
    oos
        Out-of-sample predictions, index (pair, date): `y` (the outcome; NaN unknown), the task's
        `ANSWER_COLUMNS` and, if there, `fold`, `signal` (1 enter; of three classes -1 enter short),
        `forward_return` and `short_return` (gross ratios of a long and a short trade) and the losses
        of the baseline, `loss_class_prior` or, of a regression, `loss_mean`.
    horizon_candles
        How far labels look ahead: neighbouring rows within it are not independent.
    round_trip_cost
        Fees of one trade in and out, as a ratio; 0 if unknown.
    feature_importance, permutation, shap
        By feature name: share of gain; increase of the out-of-sample loss when shuffled; mean
        absolute contribution, see `trainer.Explanation`.
    n_explained_rows
        Rows behind `permutation` and `shap`.
    contributions, feature_values
        A sample of rows behind `shap`, a column a feature.
    drift
        Recent features against the training data.
    looks
        What monitoring found since the version trades.
    trials
        One mapping a trial of the search: `number`, `value`, `state` and, if there, `scores` by metric.
    front, picked, rule
        Numbers of the trials on the Pareto front of several metrics, of the one that was picked, and how.
    selection
        Share of the walk-forward members that use a feature, by its name.
    parameter_importance
        Share of the variation of the trials' scores by parameter.
    metric, direction
        What the search optimised, and which way.
    backtest
        Scalars of freqtrade's own backtest (ratios as ratios: 0.12 is 12 %) and, under `pairs`, a
        list of mappings, one a pair.
    equity
        Account value over time, net of fees; positive, any currency. Index UTC.
    market
        Value of buying and holding the same pairs over the same span. Index UTC.
    closes
        Closing prices of the backtest's window, a column a pair. Index UTC.
    trades
        `close_date` (UTC), `profit_ratio` (net) and, if there, `pair`, `open_date`, `open_rate`,
        `close_rate`.
    config
        The full configuration. Values that look like credentials are not shown.
    metrics
        Everything measured out of sample, by name.
    problems
        Why something is not there, by what: `training`, `backtest`, `drift` or a table's name.
    generated_at
        When the page was made (UTC); left out if None.
    """

    title: str
    verdict: Sequence[str]
    badge: str = "Not decided"
    tone: Tone = ""
    task: Task = "binary"
    summary: Mapping[str, Any] = field(default_factory=dict)
    data_note: str = ""
    gates: Sequence[Mapping[str, Any]] = ()
    folds: Sequence[Mapping[str, Any]] = ()
    oos: pd.DataFrame | None = None
    horizon_candles: int = 1
    round_trip_cost: float = 0.0
    feature_importance: pd.Series[float] | None = None
    permutation: pd.Series[float] | None = None
    shap: pd.Series[float] | None = None
    n_explained_rows: int = 0
    contributions: pd.DataFrame | None = None
    feature_values: pd.DataFrame | None = None
    drift: Drift | None = None
    looks: Sequence[Look] = ()
    trials: Sequence[Mapping[str, Any]] = ()
    front: Sequence[int] = ()
    picked: int | None = None
    rule: str = ""
    selection: pd.Series[float] | None = None
    parameter_importance: pd.Series[float] | None = None
    metric: str = "value"
    direction: Literal["maximize", "minimize"] = "maximize"
    backtest: Mapping[str, Any] = field(default_factory=dict)
    equity: pd.Series[float] | None = None
    market: pd.Series[float] | None = None
    closes: pd.DataFrame | None = None
    trades: pd.DataFrame | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    generated_at: datetime | None = None
