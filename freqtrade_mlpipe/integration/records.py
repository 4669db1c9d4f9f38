"""Live predictions as the journal and the watch take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
from numpy.typing import NDArray

from freqtrade_mlpipe.integration.voice import Seconds, Spoken, Voice

if TYPE_CHECKING:
    from freqtrade_mlpipe.member import Prediction
    from freqtrade_mlpipe.monitoring.journal import LivePrediction

Rows = NDArray[Any]
"""Places of candles in a frame, ascending."""


@dataclass(frozen=True, eq=False)
class Said:
    """What one model said about some rows of a pair's candles."""

    voice: Voice
    rows: Rows
    spoken: Spoken


def live_predictions(
    dataframe: pd.DataFrame,
    pair: str,
    seconds: Seconds,
    rows: Rows,
    said: Sequence[Said],
    *,
    latency_ms: float,
    role: Literal["production", "challenger"],
    keep_features: bool,
) -> list[LivePrediction]:
    """One record for each of `rows`, whose candles opened at `seconds` since 1970 (UTC)."""
    from freqtrade_mlpipe.monitoring.journal import LivePrediction

    closes, wanted = dataframe["close"].to_numpy(), set(rows.tolist())
    found = []
    for part in said:
        resolved, p, features = (
            part.voice.served.resolved,
            part.spoken.prediction,
            part.spoken.features,
        )
        for place, row in enumerate(part.rows.tolist()):
            if row in wanted:
                found.append(
                    LivePrediction(
                        pair=pair, date=pd.Timestamp(int(seconds[row]), unit="s", tz="UTC"),
                        version=resolved.version, digest=resolved.digest, role=role,
                        proba=float(p.proba[place]), edge=float(p.edge[place]), signal=int(p.signal[place]),
                        do_predict=int(p.do_predict[place]), latency_ms=latency_ms, close=float(closes[row]),
                        features=tuple(features[place].tolist()) if keep_features else None, **_more(p, place),
                    )
                )  # fmt: skip
    return found


def _more(said: Prediction, place: int) -> dict[str, float]:
    more = {}
    if said.short is not None:
        more["proba_short"] = float(said.short.proba[place])
    if said.value is not None:
        more["value"] = float(said.value[place])
    return more
