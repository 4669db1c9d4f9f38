"""Runs side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from freqtrade_mlpipe.tracking.backends import RunRecord

if TYPE_CHECKING:
    from freqtrade_mlpipe.registry.comparison import Contender


def comparison_table(records: Sequence[RunRecord], contenders: Sequence[Contender]) -> pd.DataFrame:
    """The table that `ExperimentTracker.compare_experiments` describes.

    Parameters
    ----------
    records
        The runs, as their backend keeps them.
    contenders
        What is known of the model of each.
    """
    verdicts, intervals = _judged(contenders)
    head = pd.DataFrame(
        {
            "name": [r.name for r in records],
            "status": [r.status for r in records],
            "verdict": verdicts,
        }
    )
    params = pd.DataFrame([dict(r.params) for r in records], dtype="object")
    metrics = pd.DataFrame([dict(r.metrics) for r in records], dtype="float64")
    parts = [
        head,
        params.sort_index(axis=1).add_prefix("params."),
        metrics.sort_index(axis=1).add_prefix("metrics."),
        pd.DataFrame(intervals, dtype="float64").sort_index(axis=1),
    ]
    index = pd.Index([r.run_id for r in records], name="run_id")
    return pd.concat([part.set_axis(index, axis=0) for part in parts], axis=1)


def _judged(contenders: Sequence[Contender]) -> tuple[list[str], list[dict[str, float]]]:
    """A verdict on each against the first, and the bounds of its metrics."""
    from freqtrade_mlpipe.registry.comparison import compare

    intervals: list[dict[str, float]] = [{} for _ in contenders]
    if len(contenders) < 2:
        return [""] * len(contenders), intervals
    found = compare(contenders)
    for name, estimates in found.metrics.items():
        for bounds, estimate in zip(intervals, estimates, strict=True):
            if estimate is not None and not math.isnan(estimate.low):
                bounds |= {f"low.{name}": estimate.low, f"high.{name}": estimate.high}
    return ["", *(verdict.sentence for verdict in found.verdicts)], intervals
