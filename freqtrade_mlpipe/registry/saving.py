"""Saving a trained model from Python, without the pipeline."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from freqtrade_mlpipe.config import FeatureConfig, LabelConfig, ModelConfig
from freqtrade_mlpipe.registry.baseline import drift_baseline
from freqtrade_mlpipe.registry.bundle import BundleContent, write_bundle
from freqtrade_mlpipe.registry.selftest import selftest_from_rows

if TYPE_CHECKING:
    from freqtrade_mlpipe.member import Member

_PACKAGES = ("freqtrade-mlpipe", "lightgbm", "numpy", "pandas", "scikit-learn", "skops", "xgboost")


class Trained(Protocol):
    """What `ModelTrainer.train` gives."""

    @property
    def members(self) -> Sequence[Member]:
        """The members in time order, the production member last."""

    @property
    def feature_names(self) -> Sequence[str]:
        """The ordered schema."""


def save_model(
    model: Trained,
    directory: Path | str,
    X: pd.DataFrame | ArrayLike,
    *,
    model_name: str = "model",
    feature_config: FeatureConfig | None = None,
    label_config: LabelConfig | None = None,
    model_config: ModelConfig | None = None,
    created_at: datetime | None = None,
) -> Path:
    """Write a trained model as a bundle; the path to give to `ModelRegistry.register_model`.

    Parameters
    ----------
    model
        From `ModelTrainer.train`.
    directory
        A new folder.
    X
        The matrix it was trained on, shape (rows, features): the drift baseline, and the last rows
        as the self-test. Without column names, in the order of `model.feature_names`.
    created_at
        Time zone aware; now by default.

    Raises
    ------
    BundleError
        `directory` exists and is not empty.
    """
    production = model.members[-1]
    schema = list(model.feature_names)
    frame = (
        X.loc[:, schema]
        if isinstance(X, pd.DataFrame)
        else pd.DataFrame(np.asarray(X), columns=schema)
    )
    content = BundleContent(
        model_name=model_name,
        members=tuple(model.members),
        feature_names=tuple(schema),
        created_at=created_at or datetime.now(UTC),
        feature_config=feature_config or FeatureConfig(),
        label_config=label_config or LabelConfig(),
        model_config=model_config or ModelConfig(),
        train_start=production.train_start,
        train_end=production.train_end,
        package_versions=_package_versions(),
        drift_baseline=drift_baseline(frame),
        self_test=selftest_from_rows(model.members, frame),
    )
    write_bundle(directory, content)
    return Path(directory)


def _package_versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # xgboost-cpu provides xgboost under another name
            continue
    return found
