"""What a report is made of: plain data, known to no library but pandas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import pandas as pd


@dataclass(frozen=True)
class ReportData:
    """Everything on the page. Whatever is left out gets a sentence that says so.

    Attributes
    ----------
    title
        For instance "trend_classifier, version 3".
    verdict
        One or two sentences in words: what was decided and why.
    promoted
        True, False (refused), or None where nothing has been decided.
    summary
        Label to value, in order: model, version, pairs, timeframe, spans, data hash …
    data_note
        Where the candles are from, synthetic or real; shown prominently.
    gates
        One mapping a check: `name`, `value`, `threshold`, `passed`, `sentence`.
    folds
        One mapping a walk-forward fold: `train_start`, `train_end`, `test_start`, `test_end`
        (UTC; an end may be None) and scores, either directly or under `metrics`.
    oos
        Out-of-sample predictions, index (pair, date): `y` (1, 0, NaN unknown), `proba` (of class 1)
        and, if there, `signal` (1 enter) and `forward_return` (gross ratio).
    round_trip_cost
        Fees of one trade in and out, as a ratio; 0 if unknown.
    feature_importance
        By feature name, any non-negative scale.
    trials
        One mapping a trial of the search: `number`, `value`, `state`.
    metric, direction
        What the search optimised, and which way.
    backtest
        Scalars of freqtrade's own backtest (ratios as ratios: 0.12 is 12 %) and, under `pairs`, a
        list of mappings, one a pair.
    equity
        Account value over time, net of fees; positive, any currency. Index UTC.
    market
        Value of buying and holding the same pairs over the same span. Index UTC.
    trades
        `close_date` (UTC), `profit_ratio` (net) and, if there, `pair`.
    config
        The full configuration. Values that look like credentials are not shown.
    generated_at
        When the page was made (UTC); left out if None.
    """

    title: str
    verdict: str
    promoted: bool | None = None
    summary: Mapping[str, Any] = field(default_factory=dict)
    data_note: str = ""
    gates: Sequence[Mapping[str, Any]] = ()
    folds: Sequence[Mapping[str, Any]] = ()
    oos: pd.DataFrame | None = None
    round_trip_cost: float = 0.0
    feature_importance: pd.Series[float] | None = None
    trials: Sequence[Mapping[str, Any]] = ()
    metric: str = "value"
    direction: Literal["maximize", "minimize"] = "maximize"
    backtest: Mapping[str, Any] = field(default_factory=dict)
    equity: pd.Series[float] | None = None
    market: pd.Series[float] | None = None
    trades: pd.DataFrame | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    generated_at: datetime | None = None
