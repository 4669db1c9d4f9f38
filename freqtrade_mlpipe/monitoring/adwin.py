"""ADWIN on the errors of matured predictions (extra `drift`)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from freqtrade_mlpipe.monitoring.checks import Reading, State, single_reading
from freqtrade_mlpipe.monitoring.windows import Floats

ADWIN_CHECK = "errors (ADWIN)"


def adwin_readings(
    errors: Floats, dates: pd.DatetimeIndex, looks: pd.DatetimeIndex, *, delta: float, thin: int,
    candle: pd.Timedelta, memory: pd.Timedelta,
) -> list[Reading]:  # fmt: skip
    """A reading at each look: whether the error rate rose within the last `memory`.

    ADWIN assumes independent values, and labels that overlap are not: of each pair only every `thin`-th candle counts,
    `thin` the label's horizon. The errors of one candle are averaged over the pairs.

    Parameters
    ----------
    errors : shape (n,), 1 where a prediction was wrong, 0 where it was right, NaN where not known yet.
    dates : open time of each, UTC.
    looks : times of the looks, ascending.
    delta : ADWIN's confidence.

    References
    ----------
    Bifet & Gavaldà (2007), Learning from Time-Changing Data with Adaptive Windowing, SDM.
    """
    try:
        from river.drift import ADWIN
    except ImportError:
        text = (
            "river is not installed. It comes with an extra: pip install 'freqtrade-mlpipe[drift]'"
        )
        return [single_reading(ADWIN_CHECK, "adwin", "off", text)] * len(looks)
    known = np.isfinite(errors) & (np.asarray(dates.as_unit("ns").asi8) // candle.value % thin == 0)
    series = pd.Series(errors[known], index=dates[known]).groupby(level=0).mean().sort_index()
    detector = ADWIN(delta=delta, min_window_length=5, grace_period=5, clock=1)
    rises: list[pd.Timestamp] = []
    before, found, position = np.nan, [], 0
    moments = list(series.index)
    known_after = thin * candle
    for look in looks:
        while position < len(series) and moments[position] + candle + known_after <= look:
            before = detector.estimation if detector.width else np.nan
            detector.update(float(series.iloc[position]))
            if detector.drift_detected and detector.estimation > before:
                rises.append(moments[position] + candle + known_after)
            position += 1
        recent = [when for when in rises if look - memory < when]
        rate = float(detector.estimation) if detector.width else np.nan
        text = (
            f"The error rate rose by {recent[-1]:%Y-%m-%d %H:%M}, to {rate:.1%} now."
            if recent
            else f"Error rate {rate:.1%}; no rise of late."
            if position
            else "No label is known yet."
        )
        state: State = "bad" if recent else "ok" if position else "waiting"
        found.append(single_reading(ADWIN_CHECK, "adwin", state, text, rate, n=position))
    return found
