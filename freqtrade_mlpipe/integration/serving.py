"""The model behind a strategy: resolved, verified, loaded once per process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from freqtrade_mlpipe.config import FeatureConfig, MLPipeConfig
from freqtrade_mlpipe.exceptions import BundleError
from freqtrade_mlpipe.features import FeatureEngineer
from freqtrade_mlpipe.registry.bundle import Bundle
from freqtrade_mlpipe.registry.cache import BundleCache, ResolvedVersion


@dataclass(frozen=True)
class Served:
    """A verified bundle, the engineer that computes its features, the version it came from, and who wants it served."""

    resolved: ResolvedVersion
    bundle: Bundle
    engineer: FeatureEngineer
    note: str = ""

    @property
    def identity(self) -> tuple[str, str]:
        """Version and digest."""
        return self.resolved.version, self.resolved.digest

    def __str__(self) -> str:
        return f"{self.resolved.name} version {self.resolved.version}"


def resolve_served(config: MLPipeConfig, name: str, version: str | None) -> ResolvedVersion:
    """The version of a model that is pinned, else the production version, with its bundle in the local cache.

    Raises
    ------
    RegistryError
        When the pinned version does not exist or nothing is in production.
    BundleError
        When its files are corrupt.
    """
    return cache_of(config).resolve(name, version)


def load_served(config: MLPipeConfig, resolved: ResolvedVersion, timeframe: str) -> Served:
    """Verify and load a resolved version.

    Raises
    ------
    BundleError
        When the bundle is corrupt or was trained on another timeframe.
    """
    bundle = _load(cache_of(config), resolved)
    trained_on = bundle.manifest.timeframe
    if trained_on != timeframe:
        raise BundleError(
            f"{resolved.name} version {resolved.version} was trained on {trained_on} candles, the strategy uses "
            f"{timeframe}. Train a model on {timeframe} or set the strategy's timeframe to {trained_on}."
        )
    return Served(resolved, bundle, engineer_of(bundle))


def engineer_of(bundle: Bundle) -> FeatureEngineer:
    """What computes the catalogue features that a bundle was trained with; the same object for the same features.

    So a bot goes on with the features it follows when another version takes over.
    """
    manifest = bundle.manifest
    return engineer_for(manifest.feature_config(), manifest.timeframe, manifest.pairs)


def engineer_for(
    config: FeatureConfig, timeframe: str | None, pairs: Sequence[str]
) -> FeatureEngineer:
    """What computes the catalogue features of a configuration; the same object for the same features."""
    compared = tuple(pairs) if config.rank_features else ()  # else it is the same for all
    return _engineer(config.model_dump_json(), timeframe, compared)


@lru_cache(maxsize=8)
def _engineer(features: str, timeframe: str | None, pairs: tuple[str, ...]) -> FeatureEngineer:
    config = FeatureConfig.model_validate_json(features)
    return FeatureEngineer(config, timeframe=timeframe, pairs=pairs)


def cache_of(config: MLPipeConfig) -> BundleCache:
    """The cache that all strategies of a process share."""
    settings = config.registry
    return _cache_at(settings.directory, settings.tracking_uri, settings.required_keys)


@lru_cache(maxsize=4)
def _cache_at(
    directory: Path, tracking_uri: str | None, trusted_keys: tuple[str, ...] | None
) -> BundleCache:
    return BundleCache(directory, tracking_uri, trusted_keys=trusted_keys)


@lru_cache(maxsize=4)
def _load(cache: BundleCache, resolved: ResolvedVersion) -> Bundle:
    return cache.load(resolved)
