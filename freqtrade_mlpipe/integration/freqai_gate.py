"""The gate of a retraining: does a fresh model replace the one that serves?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pandas as pd

from freqtrade_mlpipe.integration.freqai_rows import Judged
from freqtrade_mlpipe.integration.freqai_window import WindowModel
from freqtrade_mlpipe.metrics import BLOCK_HORIZONS, LOSS_METRICS, paired_difference
from freqtrade_mlpipe.registry.report import Check

Mode = Literal["always", "not_worse", "better"]

_CONFIDENCE = 0.9
"""Of the interval, so that either end is crossed by luck in 5 % of decisions."""
_MIN_STRETCHES = 2


@dataclass(frozen=True)
class Decision:
    """Whether a fresh model serves, and the check that says why."""

    accepted: bool
    check: Check


def decide(
    mode: Mode, fresh: WindowModel, incumbent: WindowModel | None, judged: Judged
) -> Decision:
    """Compare two models on the newest purged rows, which neither was trained on.

    "not_worse" refuses a fresh model whose loss is higher by more than noise explains, "better" one whose loss is not
    lower by more than that. Noise is a paired block bootstrap of the differences in blocks of several horizons. Where
    nothing can be compared "not_worse" accepts, and "better" accepts only the first model.
    """
    if incumbent is None:
        return _decided(True, None, None, "Nothing served before it.")
    if mode == "always":
        return _decided(True, None, None, "Every fresh model is accepted (mlpipe.freqai.gate).")
    ends = max(member.train_end for member in incumbent.members)
    first = int(judged.features.index.searchsorted(ends, side="right"))
    judged = Judged(judged.features.iloc[first:], {k: y[first:] for k, y in judged.labels.items()})
    if fresh.targets != incumbent.targets or fresh.feature_names != incumbent.feature_names:
        return _decided(True, None, None, "The model before it has other features or targets.")
    block = BLOCK_HORIZONS * fresh.horizon_candles
    if len(judged.features) < _MIN_STRETCHES * block:
        return _decided(
            mode == "not_worse", None, None,
            f"The {len(judged.features)} newest rows are fewer than the {_MIN_STRETCHES * block} that a comparison "
            f"over {fresh.horizon_candles} candles ahead needs: nothing speaks for or against it.",
        )  # fmt: skip
    ours, theirs = fresh.losses(judged), incumbent.losses(judged)
    found = paired_difference(
        ours,
        theirs,
        pd.DatetimeIndex(judged.features.index),
        block,
        confidence=_CONFIDENCE,
        n_resamples=1000,
    )
    accepted = found.low <= 0 if mode == "not_worse" else found.high < 0
    loss = LOSS_METRICS[fresh.targets[0].task].replace("_", "-")
    return _decided(
        accepted, found.mean, 0.0,
        f"Mean {loss} {ours.mean():.5g} against {theirs.mean():.5g} of the model before it on {len(ours):,} rows that "
        f"neither has seen: difference {found.mean:+.3g}, 90 % interval {found.low:+.3g} to {found.high:+.3g}.",
    )  # fmt: skip


def _decided(
    accepted: bool, value: float | None, threshold: float | None, sentence: str
) -> Decision:
    return Decision(accepted, Check("vs the model before it", value, threshold, accepted, sentence))
