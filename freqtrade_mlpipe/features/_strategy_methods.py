"""The feature methods of a FreqAI strategy: how they are called, and what they may return."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import pandas as pd

from freqtrade_mlpipe.exceptions import ConfigError
from freqtrade_mlpipe.features._windows import FloatArray
from freqtrade_mlpipe.features.candles import open_seconds

_NUMBERS = ("boolean", "integer", "floating", "integer-na", "mixed-integer-float", "empty")
"""What `infer_dtype` calls an object column that holds numbers, as a shifted bool column does."""


class FreqaiFeatures(Protocol):
    """The feature methods of a FreqAI strategy; freqtrade's `IStrategy` has all three.

    Each gets candles of its own (date in UTC, open, high, low, close, volume) and returns them with
    columns added. Those that start with ``%`` are features.
    """

    def feature_engineering_expand_all(
        self, dataframe: pd.DataFrame, period: int, metadata: dict[str, Any]
    ) -> pd.DataFrame:
        """Features of one period; `metadata` has `pair` and `tf`."""

    def feature_engineering_expand_basic(
        self, dataframe: pd.DataFrame, metadata: dict[str, Any]
    ) -> pd.DataFrame:
        """Features without a period; `metadata` has `pair` and `tf`."""

    def feature_engineering_standard(
        self, dataframe: pd.DataFrame, metadata: dict[str, Any]
    ) -> pd.DataFrame:
        """Features that are not expanded, from candles and all columns of the own pair; `metadata`
        has `pair`."""


def call(
    strategy: FreqaiFeatures,
    method: str,
    frame: pd.DataFrame,
    dates: pd.Series,
    owner: str,
    *period: int,
    **metadata: str,
) -> pd.DataFrame:
    """What a method of the strategy returns, after checking that it is the candles with columns added.

    The method may do with `frame` what it likes.
    """
    advice = "It must return the dataframe that it was given, with columns added."
    try:
        returned = getattr(strategy, method)(frame, *period, metadata=metadata)
    except Exception as error:
        raise ConfigError(f"{owner} failed: {type(error).__name__}: {error}") from error
    if not isinstance(returned, pd.DataFrame):
        raise ConfigError(f"{owner} returned {type(returned).__name__}. {advice}")
    if len(returned) != len(dates):
        raise ConfigError(
            f"{owner} returned {len(returned)} rows for {len(dates)} candles. {advice} "
            "Leave NaN where a feature has no value."
        )
    repeated = returned.columns[returned.columns.duplicated()]
    if len(repeated):
        raise ConfigError(f"{owner} returned column {repeated[0]} twice. {advice}")
    if "date" not in returned or not _same_dates(returned["date"], dates):
        raise ConfigError(f"{owner} dropped, changed or reordered the dates. {advice}")
    return returned


def is_feature(name: object) -> bool:
    return str(name).startswith("%")


def as_float(column: pd.Series, owner: str) -> FloatArray:
    """The feature's values; booleans become 0 and 1."""
    kind = column.dtype
    number = pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_complex_dtype(kind)
    if number or (
        pd.api.types.is_object_dtype(kind)
        and pd.api.types.infer_dtype(column, skipna=True) in _NUMBERS
    ):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    raise ConfigError(
        f"{owner} gave feature {column.name} of type {kind}, not numbers. Encode it as numbers, or "
        "name it without the leading %."
    )


def _same_dates(found: pd.Series, expected: pd.Series) -> bool:
    return isinstance(found.dtype, pd.DatetimeTZDtype) and np.array_equal(
        open_seconds(found), open_seconds(expected)
    )
