"""What monitoring has to know of a version whose predictions it looks at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from freqtrade_mlpipe.config import LabelConfig, timeframe_length
from freqtrade_mlpipe.exceptions import BundleError
from freqtrade_mlpipe.monitoring.families import Observed
from freqtrade_mlpipe.monitoring.outcomes import live_outcomes
from freqtrade_mlpipe.monitoring.reference import Reference, read_reference

if TYPE_CHECKING:
    from freqtrade_mlpipe.registry.bundle import Bundle


@dataclass(frozen=True, eq=False)
class WatchedModel:
    """A version and what is usual of it.

    Attributes
    ----------
    reference : None: the bundle was made by a release without monitoring.
    trained_until : last candle of the training.
    """

    name: str
    version: str
    digest: str
    labels: LabelConfig
    candle: pd.Timedelta
    reference: Reference | None
    trained_until: datetime | None

    @classmethod
    def of(cls, bundle: Bundle, version: str) -> WatchedModel:
        """From a loaded bundle.

        Raises
        ------
        BundleError
            Its drift baseline is damaged, or the bundle does not say its timeframe.
        """
        manifest = bundle.manifest
        if manifest.timeframe is None:
            raise BundleError(
                f"{manifest.model_name} was not trained on candles: it cannot be watched."
            )
        try:
            reference = read_reference(bundle.drift_baseline)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BundleError(
                f"The drift baseline of {manifest.model_name} version {version} cannot be read: {error!r}. Train again."
            ) from error
        return cls(
            manifest.model_name, version, bundle.digest, manifest.label_config(),
            pd.Timedelta(timeframe_length(manifest.timeframe)), reference, manifest.train_end,
        )  # fmt: skip


def observed_live(
    rows: pd.DataFrame, model: WatchedModel, candles: dict[str, pd.DataFrame] | None
) -> tuple[Observed, pd.DataFrame]:
    """Journalled predictions as monitoring looks at them, and the rows in the same order.

    Parameters
    ----------
    rows : as `LiveJournal.read` gives them; rows whose features were not kept count as missing.
    candles : by pair, to learn what became of the predictions; None: that is not looked at.
    """
    rows = rows.sort_values(["pair", "date"], ignore_index=True)
    answered = rows["do_predict"].to_numpy() == 1
    value = rows["value" if model.labels.task == "regression" else "proba"].to_numpy(np.float64)
    return (
        Observed(
            rows["pair"].to_numpy(),
            pd.DatetimeIndex(rows["date"]),
            _features(rows, model),
            np.where(answered, value, np.nan),
            None if candles is None else live_outcomes(rows, candles, model.labels),
        ),
        rows,
    )


def _features(rows: pd.DataFrame, model: WatchedModel) -> np.ndarray | None:
    if model.reference is None or "features" not in rows:
        return None
    n = len(model.reference.columns)
    known = [one is not None and len(one) == n for one in rows["features"]]
    if not any(known):
        return None
    found = np.full((len(rows), n), np.nan, dtype=np.float32)
    found[known] = np.stack(
        [one for one, there in zip(rows["features"], known, strict=True) if there]
    )
    return found
