"""The labels of one pair, as far as they are known at a moment."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import pandas as pd

from freqtrade_mlpipe.integration.freqai_evidence import trade_returns
from freqtrade_mlpipe.integration.freqai_targets import SetTargets, label_names, measure_horizon

logger = logging.getLogger(__name__)

Horizons = dict[str, tuple[int, bool]]
"""By pair: how many candles ahead its targets look, and whether they depend on the candles around them only."""


class Labels:
    """What `set_freqai_targets` says of a frame, with rows whose future is unknown left out.

    Parameters
    ----------
    set_targets : the strategy's method for one pair.
    frame : candles and features, rows ascending by date.
    horizon_candles : how far the targets look ahead.
    local : whether a target depends on the candles around it only, so that it can be computed once.

    Attributes
    ----------
    forward : `trade_returns` of the frame's rows.
    """

    def __init__(
        self, set_targets: SetTargets, frame: pd.DataFrame, horizon_candles: int, *, local: bool
    ) -> None:
        self._set_targets, self._frame = set_targets, frame
        self.horizon_candles, self.local = horizon_candles, local
        self.forward = trade_returns(frame, horizon_candles)
        self._whole: pd.DataFrame | None = None

    def until(self, stop: int) -> pd.DataFrame:
        """Labels of the rows before position `stop`, from the candles before it; on the candles' dates.

        A row whose target looks at `stop` or beyond is missing: FreqAI strategies give such rows a class all the same.
        """
        if not self.local:
            return self._labels(self._frame.iloc[:stop])
        if self._whole is None:
            self._whole = self._labels(self._frame)
        labels = self._whole.iloc[:stop].copy()
        labels.iloc[max(0, stop - self.horizon_candles) :] = np.nan
        return labels

    def columns(self) -> list[str]:
        """Prediction columns that a strategy may ask for although no model could be trained: targets and classes."""
        labels = self.until(len(self._frame))
        names = list(labels.columns)
        for name in labels.columns:
            if not pd.api.types.is_numeric_dtype(labels[name].dtype):
                names += map(str, labels[name].dropna().unique())
        return names

    def _labels(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Labels of a frame, those that look beyond it missing."""
        # A new frame, whose columns are copied on write by pandas 3, at once by pandas 2.
        found = self._set_targets(pd.concat([frame], axis=1))
        labels = found[label_names(found)].set_axis(pd.DatetimeIndex(found["date"]), axis=0)
        words = [n for n in labels if not pd.api.types.is_numeric_dtype(labels[n].dtype)]
        # Each window cuts, compares and counts them: objects are, several times as fast as pandas' strings.
        labels = labels.astype(dict.fromkeys(words, object))
        known = np.arange(len(labels))[:, None] + self.horizon_candles < len(labels)
        return labels.where(np.broadcast_to(known, labels.shape))


def horizon_of(
    pair: str,
    set_targets: SetTargets,
    frame: pd.DataFrame,
    *,
    configured: int | None,
    least: int,
    say: Callable[..., None] = logger.warning,
) -> tuple[int, bool]:
    """How many candles ahead the targets of a pair look, and whether they are local.

    Parameters
    ----------
    configured : `mlpipe.freqai.horizon_candles`.
    least : `label_period_candles`.
    """
    measured = measure_horizon(set_targets, frame)
    if measured is None:
        horizon = configured or max(1, least)
        say(
            "%s: its targets depend on all candles, so that it cannot be measured how far they look ahead; %d candles "
            "are purged. Set mlpipe.freqai.horizon_candles if that is wrong.",
            pair, horizon,
        )  # fmt: skip
        return horizon, False
    if configured is not None and configured < measured:
        say(
            "%s: mlpipe.freqai.horizon_candles is %d, but its targets look %d candles ahead: training rows would reach "
            "into the rows a model is judged on. %d candles are purged.",
            pair, configured, measured, measured,
        )  # fmt: skip
    return max(1, configured or max(least, 1), measured), True
