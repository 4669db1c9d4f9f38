"""Where FreqAI's models and predictions are kept: bundles and plain files, each folder whole or not there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from freqtrade_mlpipe.config import FeatureConfig, LabelConfig, ModelConfig
from freqtrade_mlpipe.exceptions import BundleError
from freqtrade_mlpipe.integration.freqai_outliers import OutlierGuard
from freqtrade_mlpipe.integration.freqai_targets import Target
from freqtrade_mlpipe.integration.freqai_window import WindowModel
from freqtrade_mlpipe.registry.baseline import drift_baseline
from freqtrade_mlpipe.registry.bundle import BundleContent, bundle_files
from freqtrade_mlpipe.registry.files import (
    read_file,
    sha256,
    whole_directory,
    write_file,
    write_files,
)
from freqtrade_mlpipe.registry.loading import load_bundle
from freqtrade_mlpipe.registry.selftest import MAX_ROWS, selftest_from_rows
from freqtrade_mlpipe.registry.tables import arrow_file, decode_table, encode_columns
from freqtrade_mlpipe.tracking.environment import git_revision, package_versions

WINDOW_FILE, GUARD_FILE, JUDGED_FILE = "window.json", "outliers.npz", "judged.feather"
_FORMAT = 1
_SELF_TEST_ROWS = 32
_GROUPS = ("price", "volume", "momentum", "volatility", "trend", "statistics", "time")


def pair_slug(pair: str) -> str:
    """A file name for a pair; different pairs have different ones.

    Examples
    --------
    >>> pair_slug("BTC/USDT"), pair_slug("BTC/USDT:USDT"), pair_slug("BTC/USDT:USDT-261225")
    ('BTC_USDT', 'BTC_USDT.USDT', 'BTC_USDT.USDT-2d261225')
    """
    marks = {"/": "_", ":": "."}
    return "".join(
        c if c.isascii() and c.isalnum() else marks.get(c, f"-{ord(c):02x}") for c in pair
    )


def window_folder(root: Path, pair: str, timestamp: int | str | None) -> Path:
    """The folder of a window's model. FreqAI's `purge_old_models` knows this form of a name."""
    return root / f"sub-train-{pair_slug(pair)}_{timestamp}"


@dataclass(frozen=True)
class Origin:
    """What a window's bundles say of where they come from.

    Attributes
    ----------
    key : digest of everything the model depends on; a stored model of another key is not used.
    notes : further facts for `window.json`, JSON types.
    """

    identifier: str
    pair: str
    timeframe: str
    trained_at: int
    model_config: ModelConfig
    feature_config: FeatureConfig
    key: str
    notes: Mapping[str, Any]


def save_window(
    folder: Path, model: WindowModel, learned: pd.DataFrame, origin: Origin, *, synced: bool = True
) -> None:
    """Write a window's models: a bundle a target, then the file that makes the folder count.

    A killed process leaves no part of a folder: see `whole_directory`.

    Parameters
    ----------
    learned : feature rows the models were trained on, for the drift baseline and the self-test.
    synced : see `write_folder`; False for the models of a backtest, which are trained again where they are damaged.
    """
    with whole_directory(folder, replace=True) as unfinished:
        digests = []
        for k in range(len(model.targets)):
            files, digest = bundle_files(_content(model, k, learned, origin))
            digests.append(digest)
            write_files(unfinished / f"{k}", files, synced=synced)
        guard = None if model.guard is None else model.guard.to_bytes()
        if guard is not None:
            write_file(unfinished / GUARD_FILE, guard, synced=synced)
        judged = None if model.judged is None else encode_columns(model.judged)
        if judged is not None:
            write_file(unfinished / JUDGED_FILE, judged, synced=synced)
        described = json.dumps(_describe(model, digests, (guard, judged), origin))
        write_file(unfinished / WINDOW_FILE, described.encode(), synced=synced)


def _content(model: WindowModel, k: int, learned: pd.DataFrame, origin: Origin) -> BundleContent:
    member, target = model.members[k], model.targets[k]
    labels: dict[str, Any] = {"horizon_candles": model.horizon_candles}
    if target.task == "regression":
        labels["kind"] = "forward_return"
    elif target.task == "three_class":
        labels["classes"] = 3
    groups = {f"include_{group}_features": False for group in _GROUPS}
    return BundleContent(
        model_name=f"freqai-{origin.identifier}",
        members=(member,),
        feature_names=model.feature_names,
        created_at=datetime.fromtimestamp(origin.trained_at, UTC),
        pairs=(origin.pair,),
        timeframe=origin.timeframe,
        scope="per_pair",
        # The catalogue adds nothing: all features are the strategy's own.
        feature_config=origin.feature_config.model_copy(
            update={**groups, "include": (), "rank_features": ()}
        ),
        label_config=LabelConfig(**labels),
        model_config=origin.model_config,
        train_start=member.train_start,
        train_end=member.train_end,
        data_hash=origin.key,
        git_revision=_revision(),
        package_versions=package_versions(),
        drift_baseline=drift_baseline(learned, columns=member.preprocessor.kept_columns),
        self_test=selftest_from_rows((member,), learned, _SELF_TEST_ROWS),
    )


@cache
def _revision() -> str | None:
    return git_revision()


def _describe(
    model: WindowModel,
    digests: list[str],
    extras: tuple[bytes | None, bytes | None],
    origin: Origin,
) -> dict[str, Any]:
    guard, judged = extras
    return {
        "format": _FORMAT,
        "pair": origin.pair,
        "trained_at": origin.trained_at,
        "key": origin.key,
        "targets": [
            {"name": target.name, "task": target.task, "classes": list(target.classes), "bundle": digest}
            for target, digest in zip(model.targets, digests, strict=True)
        ],
        "horizon_candles": model.horizon_candles,
        "statistics": [[name, *values] for name, values in model.statistics.items()],
        "metrics": dict(model.metrics),
        "parameters": {name: dict(found) for name, found in model.parameters.items()},
        "n_trials": model.n_trials,
        "outliers": None if guard is None else sha256(guard),
        "judged": None if judged is None else sha256(judged),
        **origin.notes,
    }  # fmt: skip


def read_window(folder: Path) -> tuple[WindowModel, dict[str, Any]]:
    """The models of a folder, every file verified, and what `window.json` says.

    Raises
    ------
    BundleError
        There is no whole model, or it is damaged.
    """
    content = _read_description(folder)
    try:
        targets = tuple(
            Target(row["name"], row["task"], tuple(row["classes"])) for row in content["targets"]
        )
        bundles = [
            load_bundle(folder / f"{k}", expect_digest=row["bundle"])
            for k, row in enumerate(content["targets"])
        ]
        guard = None
        if content["outliers"] is not None:
            data = read_file(folder / GUARD_FILE)
            if sha256(data) != content["outliers"]:
                raise BundleError(f"{folder / GUARD_FILE} was changed. Train again.")
            guard = OutlierGuard.from_bytes(data)
        model = WindowModel(
            targets=targets,
            members=tuple(bundle.members[-1] for bundle in bundles),
            feature_names=bundles[0].manifest.features,
            horizon_candles=int(content["horizon_candles"]),
            statistics={row[0]: (float(row[1]), float(row[2])) for row in content["statistics"]},
            metrics=content["metrics"],
            parameters=content["parameters"],
            guard=guard,
            n_trials=int(content["n_trials"]),
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise BundleError(
            f"{folder / WINDOW_FILE} is malformed: {error!r}. Train again."
        ) from error
    return model, content


def read_judged(folder: Path, described: Mapping[str, Any]) -> pd.DataFrame | None:
    """The judged rows of a folder; None where none were kept.

    Raises
    ------
    BundleError
        They are damaged.
    """
    if described.get("judged") is None:
        return None
    data = read_file(folder / JUDGED_FILE)
    if sha256(data) != described["judged"]:
        raise BundleError(f"{folder / JUDGED_FILE} was changed. Train again.")
    return decode_table(JUDGED_FILE, data, max_rows=MAX_ROWS)


def _read_description(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_file(folder / WINDOW_FILE))
    except ValueError as error:
        raise BundleError(f"{folder / WINDOW_FILE} is not JSON: {error}. Train again.") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise BundleError(f"{folder} was written by another version. Train again.")
    return content


def stored_key(folder: Path) -> str | None:
    """The key of the model in a folder; None where there is no whole one."""
    try:
        return str(_read_description(folder).get("key"))
    except BundleError:
        return None


def row_digests(frame: pd.DataFrame) -> list[bytes]:
    """SHA-256 of each row's date and numbers: windows that overlap need not read their rows again."""
    if frame.empty:
        return []
    dates = pd.DatetimeIndex(frame.index).as_unit("ns").asi8
    values = np.ascontiguousarray(frame.to_numpy())
    rows = np.hstack([part.view(np.uint8).reshape(len(frame), -1) for part in (dates, values)])
    width, data = rows.shape[1], memoryview(rows.tobytes())
    return [
        hashlib.sha256(data[start : start + width]).digest() for start in range(0, len(data), width)
    ]


def content_key(*parts: Any) -> str:
    """SHA-256 of frames (index, names and values), of bytes, and of anything else by its text."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, pd.DataFrame):
            digest.update("\0".join(map(str, part.columns)).encode())
            digest.update(pd.DatetimeIndex(part.index).as_unit("ns").asi8.tobytes())
            if all(pd.api.types.is_numeric_dtype(kind) for kind in part.dtypes):
                digest.update(part.to_numpy().tobytes())
            else:
                digest.update("\0".join(map(str, part.to_numpy().ravel())).encode())
        else:
            digest.update(part if isinstance(part, bytes) else str(part).encode())
        digest.update(b"\1")
    return digest.hexdigest()


def prediction_file(root: Path, pair: str, key: str) -> Path:
    """Where the predictions of one pair and window are cached, by the content they depend on."""
    return root / "backtesting_predictions" / f"{pair_slug(pair)}-{key[:40]}.feather"


def read_predictions(path: Path) -> pd.DataFrame | None:
    """Cached predictions; None where there are none that can be read."""
    if not path.exists():
        return None
    try:
        return pd.read_feather(path)
    except (OSError, ValueError):
        return None


def write_predictions(path: Path, predictions: pd.DataFrame) -> None:
    """Keep predictions; a reader sees the whole file or none."""
    import pyarrow as pa

    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".unfinished-{path.name}")
    # A fourth of the time of DataFrame.to_feather, whose checks and notes on types nobody needs here.
    arrays = {
        str(name): pa.array(
            values.to_numpy() if isinstance(values.dtype, np.dtype) else values, from_pandas=True
        )
        for name, values in predictions.items()
    }
    unfinished.write_bytes(arrow_file(arrays))
    unfinished.replace(path)
