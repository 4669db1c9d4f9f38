"""The model behind a strategy: resolved, verified, loaded once per process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from freqtrade_mlpipe.config import MLPipeConfig
from freqtrade_mlpipe.exceptions import BundleError
from freqtrade_mlpipe.features import FeatureEngineer
from freqtrade_mlpipe.registry.bundle import Bundle
from freqtrade_mlpipe.registry.cache import BundleCache, ResolvedVersion


@dataclass(frozen=True)
class Served:
    """A verified bundle, the engineer that computes its features, and the version it came from."""

    resolved: ResolvedVersion
    bundle: Bundle
    engineer: FeatureEngineer


def resolve_served(config: MLPipeConfig) -> ResolvedVersion:
    """The version that `serving.version` pins, else the production version, with its bundle in the local cache.

    Raises
    ------
    RegistryError
        When the pinned version does not exist or nothing is in production.
    BundleError
        When its files are corrupt.
    """
    return _cache(config).resolve(config.model_name, config.serving.version)


def load_served(config: MLPipeConfig, resolved: ResolvedVersion, timeframe: str) -> Served:
    """Verify and load a resolved version.

    Raises
    ------
    BundleError
        When the bundle is corrupt or was trained on another timeframe.
    """
    bundle = _load(_cache(config), resolved)
    trained_on = bundle.manifest.timeframe
    if trained_on != timeframe:
        raise BundleError(
            f"{resolved.name} version {resolved.version} was trained on {trained_on} candles, the strategy uses "
            f"{timeframe}. Train a model on {timeframe} or set the strategy's timeframe to {trained_on}."
        )
    return Served(resolved, bundle, engineer_of(bundle))


def engineer_of(bundle: Bundle) -> FeatureEngineer:
    """What computes the catalogue features that a bundle was trained with."""
    manifest = bundle.manifest
    return FeatureEngineer(
        manifest.feature_config(), timeframe=manifest.timeframe, pairs=manifest.pairs
    )


def _cache(config: MLPipeConfig) -> BundleCache:
    settings = config.registry
    trusted = settings.trusted_keys if settings.require_signature else None
    return _cache_at(settings.directory, settings.tracking_uri, trusted)


@lru_cache(maxsize=4)
def _cache_at(
    directory: Path, tracking_uri: str | None, trusted_keys: tuple[str, ...] | None
) -> BundleCache:
    return BundleCache(directory, tracking_uri, trusted_keys=trusted_keys)


@lru_cache(maxsize=4)
def _load(cache: BundleCache, resolved: ResolvedVersion) -> Bundle:
    return cache.load(resolved)
