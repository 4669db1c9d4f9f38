"""What the newest purged rows of a window say to the gates, should its model be frozen and handed over."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from freqtrade_mlpipe.labels import held_return
from freqtrade_mlpipe.member import Signs
from freqtrade_mlpipe.metrics import BLOCK_HORIZONS, last_known_outcome, losses_of
from freqtrade_mlpipe.pipeline import significance_of
from freqtrade_mlpipe.trainer.evaluation import baseline_losses, baseline_scores
from freqtrade_mlpipe.tuning import TrainingData

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def trade_returns(frame: pd.DataFrame, horizon_candles: int) -> Floats:
    """Gross return of a long trade for each candle, (n,): opened at the next open, closed when the target is known.

    NaN at the end.

    Examples
    --------
    >>> frame = pd.DataFrame({"open": [9.0, 10.0, 11.0], "close": [10.0, 11.0, 12.0]})
    >>> trade_returns(frame, 2).tolist()
    [0.2, nan, nan]
    """
    opened, closed = (frame[name].to_numpy(np.float64) for name in ("open", "close"))
    return np.round(held_return(opened, closed, horizon_candles), 12)


def judged_columns(
    data: TrainingData, split: tuple[Ints, Ints], proba: Floats, position: Signs, forward: Floats
) -> dict[str, Any]:
    """The judged rows as the gates look at them, columns by name.

    They are date (UTC), position (1 long, -1 short, 0 none), forward_return, loss, and loss_* of the baselines.

    Parameters
    ----------
    split : positions in the data of the rows learned from, and of those judged.
    proba, position : the member's answers and trades on the judged rows.
    forward : `trade_returns` of the data's rows.
    """
    train, judge = split
    last = last_known_outcome(data.y, data.dates, data.known_at, data.pairs)
    baselines = baseline_losses(data, train, judge, last)
    return {
        "date": data.dates[judge],
        "position": position,
        "forward_return": forward[judge],
        "loss": losses_of(data.task, data.y[judge], proba),
        **{f"loss_{name}": losses for name, losses in baselines.items()},
    }


def judged_figures(
    judged: pd.DataFrame, *, candle: pd.Timedelta, horizon_candles: int, round_trip_cost: float
) -> dict[str, float]:
    """What `gather_evidence` reads: losses of the baselines, p-values against them, moments of the trades' returns.

    Rows that are too few for two blocks of the bootstrap prove nothing: there are no p-values then, and the gates fail.
    """
    rows = judged[judged["forward_return"].notna()]
    dates = pd.DatetimeIndex(rows["date"])
    index = pd.MultiIndex.from_arrays([[""] * len(rows), dates], names=["pair", "date"])
    rows = rows.assign(known_at=dates + horizon_candles * candle).set_index(index)
    rows["forward_return"] = rows["forward_return"].where(
        rows["position"] != -1, -rows["forward_return"]
    )
    found = baseline_scores(judged)
    if dates.nunique() < 2 * BLOCK_HORIZONS * horizon_candles:
        return found
    return found | significance_of(rows, round_trip_cost, candle, horizon_candles)
