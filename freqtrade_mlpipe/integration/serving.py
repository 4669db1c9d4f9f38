"""The model behind a strategy: resolved, verified, loaded once per process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from freqtrade_mlpipe.config import MLPipeConfig
from freqtrade_mlpipe.exceptions import BundleError
from freqtrade_mlpipe.features import FeatureEngineer
from freqtrade_mlpipe.registry.bundle import Bundle, load_bundle
from freqtrade_mlpipe.registry.cache import ResolvedVersion, resolve


@dataclass(frozen=True)
class Served:
    """A verified bundle, the engineer that computes its features, and the version it came from."""

    resolved: ResolvedVersion
    bundle: Bundle
    engineer: FeatureEngineer


def resolve_served(config: MLPipeConfig) -> ResolvedVersion:
    """The version that `serving.version` pins, else the production version.

    Raises
    ------
    RegistryError
        When the pinned version does not exist or nothing is in production.
    """
    return resolve(
        config.model_name,
        config.serving.version,
        tracking_uri=config.registry.tracking_uri,
        directory=config.registry.directory,
    )


def load_served(resolved: ResolvedVersion, timeframe: str) -> Served:
    """Verify and load a resolved version.

    Raises
    ------
    BundleError
        When the bundle is corrupt or was trained on another timeframe.
    """
    bundle = _load(resolved.path, resolved.digest)
    trained_on = bundle.manifest.timeframe
    if trained_on != timeframe:
        raise BundleError(
            f"{resolved.name} version {resolved.version} was trained on {trained_on} candles, the strategy uses "
            f"{timeframe}. Train a model on {timeframe} or set the strategy's timeframe to {trained_on}."
        )
    return Served(resolved, bundle, FeatureEngineer(bundle.manifest.feature_config))


@lru_cache(maxsize=4)
def _load(path: Path, digest: str) -> Bundle:
    return load_bundle(path, expect_digest=digest)
