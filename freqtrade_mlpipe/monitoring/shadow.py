"""Production and challenger on the same live candles."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from freqtrade_mlpipe.config import LabelConfig
from freqtrade_mlpipe.metrics import BLOCK_HORIZONS, Difference, paired_difference
from freqtrade_mlpipe.metrics.intervals import MIN_STRETCHES
from freqtrade_mlpipe.monitoring.outcomes import live_outcomes


@dataclass(frozen=True)
class Side:
    """How one of the two did on the candles that both predicted and whose labels are known.

    Attributes
    ----------
    loss : mean log-loss, of a regression mean squared error.
    n_trades, net_return : rows with an entry signal, and the mean net return of such a trade (NaN without one).
    """

    version: str
    loss: float
    hit_rate: float
    n_trades: int
    net_return: float


@dataclass(frozen=True)
class ShadowReport:
    """The comparison.

    Attributes
    ----------
    n_common, n_known : candles that both predicted; those of them whose label is known.
    loss, profit : challenger's mean loss less production's; production's net return a candle less the challenger's.
        Negative: the challenger is better. None where there are too few candles.
    sentence : the verdict.
    """

    n_common: int
    n_known: int
    production: Side
    challenger: Side
    loss: Difference | None
    profit: Difference | None
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self)


def shadow_report(
    production: pd.DataFrame,
    challenger: pd.DataFrame,
    candles: dict[str, pd.DataFrame],
    labels: LabelConfig,
    *,
    seed: int = 0,
) -> ShadowReport:
    """Compare on the same candles, resampled in pairs and blocks of several horizons.

    Parameters
    ----------
    production, challenger : rows of one version each, as `LiveJournal.read` gives them.
    candles : by pair, to learn what became of the predictions.
    labels : of the production model; both are judged by them.
    """
    key = ["pair", "date"]
    common = production[key].merge(challenger[key], on=key).sort_values(["date", "pair"])
    sides = [common.merge(rows, on=key, how="left") for rows in (production, challenger)]
    first, second = (live_outcomes(rows, candles, labels) for rows in sides)
    known = (first["loss"].notna() & second["loss"].notna()).to_numpy()
    dates = pd.DatetimeIndex(common["date"])[known]
    block = float(BLOCK_HORIZONS * labels.horizon_candles)
    first, second = first[known], second[known]
    names = [
        str(rows["version"].iloc[0]) if len(rows) else "?" for rows in (production, challenger)
    ]
    ours, theirs = (_side(name, rows) for name, rows in zip(names, (first, second), strict=True))
    loss = profit = None
    if dates.nunique() / block >= MIN_STRETCHES:
        loss = paired_difference(second["loss"], first["loss"], dates, block, seed=seed)
        profit = paired_difference(first["realised"], second["realised"], dates, block, seed=seed)
    n_known = int(known.sum())
    needed = int(np.ceil(MIN_STRETCHES * block))
    sentence = _verdict(ours, theirs, loss, dates.nunique(), needed)
    return ShadowReport(len(common), n_known, ours, theirs, loss, profit, sentence)


def _side(version: str, rows: pd.DataFrame) -> Side:
    traded = rows["traded"] > 0
    nothing = float("nan")
    return Side(
        version,
        float(rows["loss"].mean()) if len(rows) else nothing,
        float(rows["hit"].mean()) if len(rows) else nothing,
        int(traded.sum()),
        float(rows.loc[traded, "realised"].mean()) if traded.any() else nothing,
    )


def _verdict(ours: Side, theirs: Side, loss: Difference | None, n_dates: int, needed: int) -> str:
    if loss is None:
        return (
            f"Too early to tell: outcomes of {n_dates} candles in common are known, {needed} are "
            "needed for an interval."
        )
    figures = f"loss {loss.mean:+.4g}, 95 % interval {loss.low:+.4g} to {loss.high:+.4g}, p = {loss.p_value:.3g}"
    if loss.high < 0:
        return f"Challenger {theirs.version} is better than production {ours.version} ({figures})."
    if loss.low > 0:
        return f"Challenger {theirs.version} is worse than production {ours.version} ({figures})."
    return f"No difference between challenger {theirs.version} and production {ours.version} beyond noise ({figures})."
