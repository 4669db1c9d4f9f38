"""How predictions turned out, once their labels are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from freqtrade_mlpipe.config import CLASSES, LabelConfig, Task
from freqtrade_mlpipe.labels import make_labels
from freqtrade_mlpipe.metrics import losses_of

COLUMNS = ("loss", "hit", "predicted", "true", "expected", "realised", "traded")


def outcomes(
    task: Task,
    y: ArrayLike,
    predicted: ArrayLike,
    position: ArrayLike,
    forward_return: ArrayLike,
    *,
    round_trip_cost: float,
    proba_short: ArrayLike | None = None,
    short_return: ArrayLike | None = None,
) -> pd.DataFrame:
    """What became of predictions, one row each, on a fresh index.

    Parameters
    ----------
    y : shape (n,), the labels; NaN where not known.
    predicted : shape (n,), probability of class 1 (long), of a regression the log return; NaN without an answer.
    position : shape (n,), 1 long, -1 short, 0 no trade.
    forward_return, short_return : gross returns of a long and a short trade, fractions.

    Returns
    -------
    DataFrame
        loss (log-loss or squared error), hit (1: the likelier class, or the sign, was right), predicted and true
        (the probability and whether it came true, or the returns), expected and realised (net return of the trade
        that was made; expected is 0 where the model forecasts no return), traded. All NaN where the label or the
        answer is missing.
    """
    y, predicted, position, gross = (
        np.asarray(values, dtype=np.float64) for values in (y, predicted, position, forward_return)
    )
    known = np.isfinite(y) & np.isfinite(predicted)
    if task == "three_class":
        assert proba_short is not None
        assert short_return is not None
        short = np.asarray(proba_short, dtype=np.float64)
        gross = np.where(position < 0, np.asarray(short_return, dtype=np.float64), gross)
        proba = np.column_stack([short, 1.0 - short - predicted, predicted])
        known &= np.isfinite(short)
        hit = np.asarray(CLASSES)[np.argmax(np.nan_to_num(proba), axis=1)] == y
        true = (y == 1).astype(np.float64)
    else:
        proba = predicted
        hit = (
            ((predicted > 0) == (y > 0))
            if task == "regression"
            else ((predicted >= 0.5) == (y == 1))
        )
        true = y
    loss = np.full(len(y), np.nan)
    loss[known] = losses_of(task, y[known], proba[known])
    traded = (position != 0) & np.isfinite(gross)
    forecast = np.expm1(predicted) - round_trip_cost if task == "regression" else np.zeros(len(y))
    found = pd.DataFrame(
        {
            "loss": loss,
            "hit": hit.astype(np.float64),
            "predicted": predicted,
            "true": true,
            "expected": np.where(traded, forecast, 0.0),
            "realised": np.where(traded, gross - round_trip_cost, 0.0),
            "traded": traded.astype(np.float64),
        }
    )
    return found.where(pd.Series(known), np.nan)


def training_outcomes(oos: pd.DataFrame, task: Task, round_trip_cost: float) -> pd.DataFrame:
    """Outcomes of the out-of-sample rows of a training (`TrainingReport.oos`), one a row, on a fresh index."""
    return outcomes(
        task,
        oos["y"],
        oos["prediction" if task == "regression" else "proba"],
        oos["position"],
        oos["forward_return"],
        round_trip_cost=round_trip_cost,
        proba_short=oos.get("proba_short"),
        short_return=oos.get("short_return"),
    )


def live_outcomes(
    rows: pd.DataFrame, candles: dict[str, pd.DataFrame], labels: LabelConfig
) -> pd.DataFrame:
    """Outcomes of live predictions, from the candles that followed.

    Parameters
    ----------
    rows : pair, date, proba, value, proba_short, signal, as `LiveJournal.read` gives them.
    candles : by pair, columns date, open, high, low, close, ascending; rows of other pairs stay unknown.

    Returns
    -------
    DataFrame
        As `outcomes`, in the order of `rows`; NaN until the label is known.
    """
    tables = []
    for pair, frame in candles.items():
        if len(frame):
            made = make_labels(frame, labels)
            tables.append(made.table().assign(pair=pair, date=frame["date"].to_numpy()))
    columns = ["y", "forward_return", "short_return"]
    if tables:
        table = pd.concat(tables)
        table["date"] = pd.to_datetime(table["date"], utc=True).dt.as_unit("ns")
        table = table.drop_duplicates(["pair", "date"]).set_index(["pair", "date"])
        wanted = pd.MultiIndex.from_arrays([rows["pair"], rows["date"].dt.as_unit("ns")])
        found = table.reindex(columns=columns).reindex(wanted)
    else:
        found = pd.DataFrame(np.nan, index=range(len(rows)), columns=columns)
    task = labels.task
    signal = rows["signal"].to_numpy()
    return outcomes(
        task,
        found["y"],
        rows["value" if task == "regression" else "proba"],
        signal if task == "three_class" else (signal == 1),
        found["forward_return"],
        round_trip_cost=2.0 * labels.fee,
        proba_short=rows["proba_short"],
        short_return=found["short_return"],
    )
