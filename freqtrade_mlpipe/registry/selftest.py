"""The self-test of a bundle: candles, and the features and probabilities they must give again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pandas as pd

from freqtrade_mlpipe.config import N_OUTPUTS
from freqtrade_mlpipe.exceptions import BundleError
from freqtrade_mlpipe.features import NO_FRAMES, FrameKey, Frames
from freqtrade_mlpipe.registry.tables import decode_table, encode_columns, encode_table

if TYPE_CHECKING:
    from freqtrade_mlpipe.member import Member

ComputeFeatures = Callable[[pd.DataFrame, str, Frames], pd.DataFrame]
"""Candles of one pair, the pair, and frames of other pairs and timeframes → its features, one row a candle."""

CANDLES_FILE = "selftest.feather"
FRAMES_FILE = "selftest_frames.feather"
EXPECTED_FILE = "selftest_expected.feather"
CANDLE_COLUMNS = ("date", "open", "high", "low", "close", "volume")
FEATURE_TOLERANCE = 1e-5
"""Relative to the value, or to the column's median magnitude where the value is smaller."""
PROBABILITY_TOLERANCE = 1e-6
MAX_ROWS = 500_000
MAX_BYTES = 32 * 1024**2

Key = TypeVar("Key", tuple[str], tuple[str, str])

_PAIR = "pair"
_TIMEFRAME = "timeframe"
_PROBABILITY = "mlpipe_proba_"


@dataclass(frozen=True, eq=False)
class SelfTest:
    """What a bundle must reproduce before it is trusted.

    Attributes
    ----------
    candles
        Columns pair, date (UTC), open, high, low, close, volume; each pair's rows together, in
        order. None where the model was trained on a matrix without candles.
    features
        float32, one column a feature in schema order, rows as in `candles`; NaN in the warm-up.
    probabilities
        float64 of shape (rows, outputs): each member's class-1 probability, or those of its three
        classes, member after member; NaN where a feature it needs is NaN.
    frames
        Candles of other pairs and timeframes that the features look at: columns as of `candles`,
        and timeframe. None where there are none.
    """

    candles: pd.DataFrame | None
    features: pd.DataFrame
    probabilities: np.ndarray
    frames: pd.DataFrame | None = None

    def run(self, members: Sequence[Member], compute: ComputeFeatures | None = None) -> None:
        """Recompute everything and compare.

        Raises
        ------
        BundleError
            A feature differs by more than 1e-5 (relative) or a probability by more than 1e-6; the
            message names the columns.
        """
        features = self.features
        if self.candles is not None:
            if compute is None:
                raise ValueError("This self-test holds candles: pass the function for features.")
            features = _compute(
                self.candles, compute, _frames(self.frames), list(self.features.columns)
            )
            _compare_features(self.features, features)
        found = _probabilities(members, features)
        if found.shape != self.probabilities.shape:
            raise BundleError(
                f"The self-test expects {self.probabilities.shape[1]} outputs of the members, the "
                f"bundle has {found.shape[1]}. Write the bundle again."
            )
        speakers = [
            k for k, member in enumerate(members) for _ in range(N_OUTPUTS[member.model.task])
        ]
        for column, k in enumerate(speakers):
            gap = _gap(self.probabilities[:, column], found[:, column])
            if not gap <= PROBABILITY_TOLERANCE:
                raise BundleError(
                    f"Member {k} does not reproduce its probabilities: off by {gap:.3g}, allowed "
                    f"{PROBABILITY_TOLERANCE:g}. The libraries here differ from those it was "
                    "trained with (see package_versions in its manifest); train again."
                )


def selftest_from_candles(
    members: Sequence[Member],
    candles: Mapping[str, pd.DataFrame],
    compute: ComputeFeatures,
    frames: Mapping[FrameKey, pd.DataFrame] | None = None,
) -> SelfTest:
    """A self-test over raw candles, a few hundred rows of each pair given, and of each of `frames` they look at."""
    table = _stacked({(pair,): frame for pair, frame in candles.items()}, [_PAIR])
    at_hand = Frames.of(frames or {})
    features = _compute(table, compute, at_hand, None)
    used = {key: at_hand.candles(*key) for key in at_hand.used}
    others = _stacked(used, [_PAIR, _TIMEFRAME]) if used else None
    return SelfTest(table, features, _probabilities(members, features), others)


def _stacked(frames: Mapping[Key, pd.DataFrame], key_columns: list[str]) -> pd.DataFrame:
    parts = [
        frame.loc[:, list(CANDLE_COLUMNS)].assign(**dict(zip(key_columns, key, strict=True)))
        for key, frame in sorted(frames.items())
    ]
    return pd.concat(parts, ignore_index=True)[[*key_columns, *CANDLE_COLUMNS]]


def _frames(table: pd.DataFrame | None) -> Frames:
    if table is None:
        return NO_FRAMES
    groups = table.groupby([_PAIR, _TIMEFRAME], sort=False, observed=True)
    return Frames.of(
        {
            (str(pair), str(timeframe)): frame.loc[:, list(CANDLE_COLUMNS)].reset_index(drop=True)
            for (pair, timeframe), frame in groups
        }
    )


def selftest_from_rows(members: Sequence[Member], X: pd.DataFrame, n_rows: int = 256) -> SelfTest:
    """A self-test over the last `n_rows` of a feature matrix, for a model without candles."""
    features = pd.DataFrame(X.iloc[-n_rows:].to_numpy(np.float32), columns=X.columns)
    return SelfTest(None, features, _probabilities(members, features))


def to_files(test: SelfTest) -> dict[str, bytes]:
    """The files of a self-test, uncompressed Arrow IPC, the same bytes for the same content."""
    features = test.features.to_numpy(np.float32)
    expected = dict(zip(map(str, test.features.columns), features.T, strict=True))
    expected |= {f"{_PROBABILITY}{k}": proba for k, proba in enumerate(test.probabilities.T)}
    files = {EXPECTED_FILE: encode_columns(expected)}
    if test.candles is not None:
        files[CANDLES_FILE] = encode_table(test.candles)
    if test.frames is not None:
        files[FRAMES_FILE] = encode_table(test.frames)
    return files


def from_files(files: Mapping[str, bytes], schema: Sequence[str], n_outputs: int) -> SelfTest:
    """Read a self-test back.

    Raises
    ------
    BundleError
        The tables are not those of a bundle with this schema and number of outputs of its members.
    """
    expected = _decoded(EXPECTED_FILE, files[EXPECTED_FILE])
    probability_columns = [f"{_PROBABILITY}{k}" for k in range(n_outputs)]
    if list(expected.columns) != [*schema, *probability_columns]:
        raise BundleError(
            f"{EXPECTED_FILE} does not have the columns of the bundle's feature schema. "
            "Write the bundle again."
        )
    candles = None
    if CANDLES_FILE in files:
        candles = _decoded(CANDLES_FILE, files[CANDLES_FILE])
        if list(candles.columns) != [_PAIR, *CANDLE_COLUMNS] or len(candles) != len(expected):
            raise BundleError(f"{CANDLES_FILE} is not a candle table. Write the bundle again.")
    frames = None
    if FRAMES_FILE in files:
        frames = _decoded(FRAMES_FILE, files[FRAMES_FILE])
        if list(frames.columns) != [_PAIR, _TIMEFRAME, *CANDLE_COLUMNS]:
            raise BundleError(f"{FRAMES_FILE} is not a candle table. Write the bundle again.")
    features = expected.loc[:, list(schema)].astype(np.float32)
    probabilities = expected.loc[:, probability_columns].to_numpy(np.float64)
    return SelfTest(candles, features, probabilities, frames)


def _compute(
    candles: pd.DataFrame, compute: ComputeFeatures, frames: Frames, schema: list[str] | None
) -> pd.DataFrame:
    parts = []
    for pair, frame in candles.groupby(_PAIR, sort=False, observed=True):
        features = compute(
            frame.loc[:, list(CANDLE_COLUMNS)].reset_index(drop=True), str(pair), frames
        ).reset_index(drop=True)
        missing = [name for name in schema or () if name not in features.columns]
        if missing or len(features) != len(frame):
            raise BundleError(
                f"The features of {pair} cannot be computed as in training: missing columns "
                f"{missing[:5]}, {len(features)} rows for {len(frame)} candles. Use the feature "
                "configuration and strategy the model was trained with."
            )
        parts.append(features.loc[:, schema] if schema else features)
    return pd.concat(parts, ignore_index=True).astype(np.float32)


def _probabilities(members: Sequence[Member], features: pd.DataFrame) -> np.ndarray:
    columns = [np.asarray(member.predict_proba(features), dtype=np.float64) for member in members]
    return np.column_stack(columns)


def _compare_features(expected: pd.DataFrame, found: pd.DataFrame) -> None:
    a, b = expected.to_numpy(np.float64), found.to_numpy(np.float64)
    magnitude = np.abs(a)
    typical = np.nan_to_num(np.nanmedian(np.where(np.isfinite(a), magnitude, np.nan), axis=0))
    allowed = FEATURE_TOLERANCE * np.maximum(np.nan_to_num(magnitude), typical) + 1e-12
    with np.errstate(invalid="ignore"):
        same = (np.abs(a - b) <= allowed) | (np.isnan(a) & np.isnan(b))
    wrong = [
        str(name) for name, ok in zip(expected.columns, same.all(axis=0), strict=True) if not ok
    ]
    if wrong:
        raise BundleError(
            f"{len(wrong)} features come out differently than in training: "
            f"{', '.join(wrong[:8])}{' …' if len(wrong) > 8 else ''}. The feature "
            "configuration, the strategy's own features or TA-Lib changed; train again, or "
            "restore them."
        )


def _gap(expected: np.ndarray, found: np.ndarray) -> float:
    if not np.array_equal(np.isnan(expected), np.isnan(found)):
        return float("inf")
    gaps = np.abs(expected - found)[~np.isnan(expected)]
    return float(gaps.max(initial=0.0))


def _decoded(name: str, data: bytes) -> pd.DataFrame:
    if len(data) > MAX_BYTES:
        raise BundleError(f"{name} is larger than the {MAX_BYTES} bytes allowed.")
    return decode_table(name, data, max_rows=MAX_ROWS)
