"""A FreqAI strategy's own feature methods, run as FreqAI runs them, without FreqAI.

FreqAI calls `feature_engineering_expand_all` for each timeframe, pair and period,
`feature_engineering_expand_basic` for each timeframe and pair, shifts the results and joins them to
the strategy's candles; `feature_engineering_standard` runs once on what came out. The values here are
FreqAI's to the bit, but where FreqAI merges and copies frames, columns are taken by position into one
block for each pair and timeframe, and shifted columns are slices of it.

Names are FreqAI's, except that the own pair's name is taken out of them (see `column_name`): every
pair then has the same columns, and one model can serve them all. A correlated pair that is the own
pair keeps its columns, which FreqAI leaves out.

In two places, both at the head of the candles, FreqAI's join depends on later candles, and this one
does not: before the first candle on which a slower one closes, a row gets the last slower candle
closed by then. FreqAI gives it the last one before that first match (the same unless candles are
missing there), and nothing when the frame ends before a match.

Source: `use_strategy_to_populate_indicators` and `populate_features` in
https://github.com/freqtrade/freqtrade/blob/2026.9/freqtrade/freqai/data_kitchen.py, and
`merge_informative_pair` in
https://github.com/freqtrade/freqtrade/blob/2026.9/freqtrade/strategy/strategy_helper.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from freqtrade_mlpipe.config import ExpansionConfig, timeframe_length
from freqtrade_mlpipe.exceptions import ConfigError
from freqtrade_mlpipe.features._strategy_methods import FreqaiFeatures, as_float, call, is_feature
from freqtrade_mlpipe.features._windows import FloatArray
from freqtrade_mlpipe.features.candles import COLUMNS, open_seconds, validate_candles

Positions = NDArray[np.int64]
CandleSource = Callable[[str, str], pd.DataFrame]


def expand_features(
    strategy: FreqaiFeatures,
    df: pd.DataFrame,
    *,
    pair: str,
    timeframe: str,
    config: ExpansionConfig,
    candles: CandleSource,
) -> pd.DataFrame:
    """Features of each candle from a FreqAI strategy's own methods.

    Parameters
    ----------
    strategy : FreqaiFeatures
        Its methods get copies: they cannot change any candle given here.
    df : DataFrame
        Candles of `pair`, see `validate_candles`. Columns beyond date, open, high, low, close and
        volume are not shown to the methods: training has none.
    pair, timeframe : str
        What `df` holds, freqtrade style: "BTC/USDT", "5m".
    config : ExpansionConfig
        Timeframes, correlated pairs, periods and shifts.
    candles : callable of (pair, timeframe) to DataFrame
        Candles of another pair or timeframe. They may start and end anywhere: a row uses those closed
        by its own close.

    Returns
    -------
    DataFrame of shape (n_candles, n_features)
        float64, on the index of `df`. Columns come in FreqAI's order: the own pair's, those of
        `feature_engineering_standard`, the correlated pairs'. NaN where a method gives NaN, before
        the first candle of a slower timeframe, and in the first rows of a shift. Infinities are kept.

    Raises
    ------
    ConfigError
        A timeframe is none of fixed length, or faster than `timeframe`. A method raises, loses rows or dates, or gives
        a feature that is no number; no feature at all; two features of one name.
    DataError
        For invalid candles.
    """
    return expand_candles(
        strategy, df, pair=pair, timeframe=timeframe, config=config, candles=candles
    ).features


@dataclass(frozen=True, eq=False)
class Expanded:
    """What a FreqAI strategy's feature methods make of the candles of a pair; all on the candles' index.

    Attributes
    ----------
    features : as `expand_features` gives them.
    others : what the methods leave besides features, and features that start with ``%%``, which FreqAI hands on to the
        strategy, all by FreqAI's names; those of the pair itself only.
    """

    features: pd.DataFrame
    others: pd.DataFrame


def expand_candles(
    strategy: FreqaiFeatures,
    df: pd.DataFrame,
    *,
    pair: str,
    timeframe: str,
    config: ExpansionConfig,
    candles: CandleSource,
    correlated: CorrelatedTables | None = None,
) -> Expanded:
    """The features of `expand_features`, and the other columns that a strategy may ask for afterwards.

    Other parameters and the errors are those of `expand_features`.

    Parameters
    ----------
    correlated
        What was computed of correlated pairs before, for another pair of the same run, and is added to: their candles
        and the strategy must not have changed since.
    """
    expansion = _Expansion(strategy, df, pair, timeframe, config, candles, correlated)
    own, others = expansion.expand(pair)
    standard, left = expansion.standard(own, others)
    shown = [name for name in standard.columns if str(name).startswith("%%")]
    left = pd.concat([left, standard[shown]], axis=1).set_axis(df.index)
    parts = [standard.set_axis([column_name(name, pair) for name in standard.columns], axis=1)]
    del others
    for other in config.include_corr_pairlist:
        parts.append(own.copy(deep=False) if other == pair else expansion.expand(other)[0])
    features = pd.concat(parts, axis=1)
    features.index = df.index
    _check_names(features.columns, strategy)
    return Expanded(features, left)


def column_name(freqai_name: str, pair: str) -> str:
    """Our name of a feature that FreqAI computes for `pair`: without that pair.

    Every ``_<pair>`` that ends a word goes, also where the strategy itself wrote it; names of
    correlated pairs stay as they are.

    Examples
    --------
    >>> column_name("%-rsi-period_14_shift-1_BTC/USDT_1h", "BTC/USDT")
    '%-rsi-period_14_shift-1_1h'
    >>> column_name("%-rsi-period_14_BTC/USDT:USDT_1h", "BTC/USDT")
    '%-rsi-period_14_BTC/USDT:USDT_1h'
    >>> column_name("%-day_of_week", "BTC/USDT")
    '%-day_of_week'
    """
    return re.sub(rf"_{re.escape(pair)}(?=_|$)", "", freqai_name)


class _Expansion:
    """One call of `expand_features`: the strategy, its candles and where others come from."""

    def __init__(
        self,
        strategy: FreqaiFeatures,
        df: pd.DataFrame,
        pair: str,
        timeframe: str,
        config: ExpansionConfig,
        candles: CandleSource,
        correlated: CorrelatedTables | None,
    ) -> None:
        self.strategy, self.pair, self.timeframe = strategy, pair, timeframe
        self.correlated = {} if correlated is None else correlated
        self.periods = config.indicator_periods_candles
        self.n_shifts = config.include_shifted_candles
        self.candles = candles
        self.base = _prepare(df, pair, timeframe)
        self.opens = open_seconds(self.base["date"])
        # freqtrade puts the strategy's timeframe first when it is missing:
        # https://github.com/freqtrade/freqtrade/blob/2026.9/freqtrade/configuration/config_validation.py
        named = config.include_timeframes
        self.timeframes = named if timeframe in named else (timeframe, *named)
        self.candle = timeframe_length(timeframe)
        for other in self.timeframes:
            if timeframe_length(other) < self.candle:
                raise ConfigError(
                    f"include_timeframes: {other} is faster than the strategy's {timeframe}. "
                    "Leave it out, or give the strategy the faster timeframe."
                )

    def expand(self, pair: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Expanded features of a pair on the base candles, by FreqAI's names, and the other columns
        that its methods left."""
        features, others = [], []
        for timeframe in self.timeframes:
            table = self._table(pair, timeframe)
            step = timeframe_length(timeframe) // self.candle
            for lag, frame in enumerate(table.lagged(self.n_shifts, step)):
                shift = f"_shift-{lag}" if lag else ""
                features.append(frame.add_suffix(f"{shift}_{pair}_{timeframe}"))
            others.append(table.others.reindex(table.rows).add_suffix(f"_{pair}_{timeframe}"))
        return self._beside(features), self._beside(others)

    def _beside(self, frames: list[pd.DataFrame]) -> pd.DataFrame:
        return pd.concat([frame.set_axis(self.base.index) for frame in frames], axis=1)

    def _table(self, pair: str, timeframe: str) -> _Table:
        """Columns of one pair and timeframe, on its own candles, and which of its rows the base candles see."""
        known = self.correlated.get((pair, timeframe))
        if known is None or pair == self.pair:
            known = self._computed(pair, timeframe)
        if pair != self.pair:
            self.correlated[pair, timeframe] = known
        closing, features, others = known
        return _Table(_join_rows(self.opens, closing), features, others)

    def _computed(self, pair: str, timeframe: str) -> _Computed:
        if (pair, timeframe) == (self.pair, self.timeframe):
            frame = self.base
        else:
            frame = _prepare(self.candles(pair, timeframe), pair, timeframe)
        metadata, candles = {"pair": pair, "tf": timeframe}, set(frame.columns)
        features: dict[str, FloatArray] = {}
        others: dict[str, pd.Series] = {}

        def keep(method: str, suffix: str, *period: int) -> None:
            owner = f"{pair} {timeframe}: {method} of {type(self.strategy).__name__}"
            returned = call(
                self.strategy, method, frame.copy(), frame["date"], owner, *period, **metadata
            )
            for name in dict.fromkeys(returned.columns):
                if name in candles:
                    continue
                if is_feature(name):
                    features[f"{name}_{suffix}"] = as_float(returned[name], owner)
                elif pair == self.pair:  # feature_engineering_standard sees them
                    others[f"{name}_{suffix}"] = returned[name].reset_index(drop=True)

        for period in self.periods:
            keep("feature_engineering_expand_all", f"{period}", period)
        keep("feature_engineering_expand_basic", "gen")
        longer = int((timeframe_length(timeframe) - self.candle).total_seconds())
        closing = open_seconds(frame["date"]) + longer
        return closing, features, pd.DataFrame(others, index=frame.index)

    def standard(
        self, own: pd.DataFrame, others: pd.DataFrame
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """What `feature_engineering_standard` makes of the own pair's features, by FreqAI's names, and its other
        columns but for the candles."""
        method = "feature_engineering_standard"
        owner = f"{self.pair} {self.timeframe}: {method} of {type(self.strategy).__name__}"
        # Copied on write by pandas 3, at once by pandas 2: the method cannot change `own`.
        frame = pd.concat([self.base, own, others], axis=1)
        returned = call(
            self.strategy, method, frame, self.base["date"], owner, pair=self.pair
        ).set_axis(self.base.index)
        features = [name for name in returned.columns if is_feature(name)]
        kept = [name for name in own.columns if name in returned.columns]
        changed = {
            name: as_float(returned[name], owner)
            for name in features
            if name not in own.columns or not _same_memory(returned[name], own[name])
        }
        left = own if len(kept) == own.shape[1] else own[kept]
        new = [name for name in changed if name not in own.columns]
        added = pd.DataFrame({name: changed.pop(name) for name in new}, index=own.index)
        rest = [n for n in returned.columns if not is_feature(n) and n not in self.base.columns]
        return pd.concat([left.assign(**changed), added], axis=1), returned[rest]


_Computed = tuple[Positions, dict[str, FloatArray], pd.DataFrame]
"""Of the candles of a pair and timeframe: open time of the base candle that closes with each, features, others."""
CorrelatedTables = dict[tuple[str, str], _Computed]
"""By pair and timeframe."""


@dataclass(frozen=True, slots=True)
class _Table:
    """Columns of one pair and timeframe, and the row of it that each base candle sees (-1: none)."""

    rows: Positions
    features: dict[str, FloatArray]
    others: pd.DataFrame

    def lagged(self, n_shifts: int, step: int) -> list[pd.DataFrame]:
        """Features that each base candle sees, and those 1 to `n_shifts` rows before them.

        Where no candle is missing, a row earlier here is `step` base candles earlier: all lags are then
        slices of one block, which holds each value once. Else each lag has a block of its own.
        """
        n, head = len(self.rows), n_shifts * step
        wanted = [np.maximum(self.rows - lag, -1) for lag in range(n_shifts + 1)]
        slices = [slice(head - lag * step, head - lag * step + n) for lag in range(n_shifts + 1)]
        longer = np.full(head + n, -1)
        for rows, part in zip(reversed(wanted), reversed(slices), strict=True):
            longer[part] = rows
        if all(
            np.array_equal(longer[part], rows) for part, rows in zip(slices, wanted, strict=True)
        ):
            whole = self._seen(longer)
            return [whole.iloc[part] for part in slices]
        return [self._seen(rows) for rows in wanted]

    def _seen(self, rows: Positions) -> pd.DataFrame:
        """Features at these rows, NaN at -1, in one block."""
        block = np.empty((len(self.features), len(rows)))
        padded = np.full(1 + len(self.others), np.nan)
        for values, target in zip(self.features.values(), block, strict=True):
            padded[1:] = values
            padded.take(rows + 1, out=target, mode="clip")
        return pd.DataFrame(block.T, columns=list(self.features), copy=False)


def _prepare(df: pd.DataFrame, pair: str, timeframe: str) -> pd.DataFrame:
    """Valid candles, nothing but candles, on a RangeIndex as freqtrade's are."""
    checked = validate_candles(df, pair=f"{pair} {timeframe}")
    return checked[["date", *COLUMNS]].reset_index(drop=True)


def _join_rows(opens: Positions, closing: Positions) -> Positions:
    """For each base candle, by its open time, the row of the joined candle that it sees, -1 for none.

    `closing` is the open time of the base candle that closes with each joined candle. FreqAI's rule: a
    base candle sees the one that closes with it, else the one that the candle before saw. Before the
    first match it is the last one closed.
    """
    last_closed = np.searchsorted(closing, opens, side="right") - 1
    matches = (last_closed >= 0) & (closing[last_closed] == opens)
    rows = np.maximum.accumulate(np.where(matches, last_closed, -1))
    return np.where(rows < 0, last_closed, rows)


def _same_memory(a: pd.Series, b: pd.Series) -> bool:
    x, y = a.to_numpy(), b.to_numpy()
    return x.dtype == y.dtype and x.__array_interface__["data"] == y.__array_interface__["data"]


def _check_names(columns: pd.Index, strategy: FreqaiFeatures) -> None:
    owner = type(strategy).__name__
    if columns.empty:
        raise ConfigError(
            f"{owner} gave no features: its feature_engineering methods must add columns that start "
            "with %-."
        )
    repeated = columns[columns.duplicated()]
    if len(repeated):
        raise ConfigError(
            f"{owner} gave two features of the name {repeated[0]}. Rename the column of "
            "feature_engineering_standard."
        )
