"""A model that FreqAI's loop trained, taken out of it: frozen, to be judged and served like any other."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from freqtrade.exchange import timeframe_to_seconds

from freqtrade_mlpipe.config import FeatureConfig, LabelConfig, ModelConfig
from freqtrade_mlpipe.exceptions import ConfigError
from freqtrade_mlpipe.integration.freqai_evidence import judged_figures
from freqtrade_mlpipe.integration.freqai_store import (
    WINDOW_FILE,
    pair_slug,
    read_judged,
    read_window,
)
from freqtrade_mlpipe.integration.freqai_window import WindowModel
from freqtrade_mlpipe.registry.bundle import BundleContent, write_bundle
from freqtrade_mlpipe.registry.loading import load_bundle


def served_folder(models: Path, identifier: str, pair: str) -> Path:
    """The folder of the model that serves a pair in a bot, else of the one trained last.

    Parameters
    ----------
    models : freqtrade's `user_data/models`.

    Raises
    ------
    ConfigError
        There is none.
    """
    root = models / identifier
    if root.parent != models or not root.is_dir():
        known = ", ".join(sorted(path.name for path in models.glob("*") if path.is_dir())) or "none"
        raise ConfigError(f"No FreqAI identifier {identifier!r} in {models}; there are: {known}.")
    serving = _serving(root, pair)
    if serving is not None:
        return serving
    prefix = f"sub-train-{pair_slug(pair)}_"
    found = [
        path for path in root.glob(f"{prefix}*")
        if path.name.removeprefix(prefix).isdigit() and (path / WINDOW_FILE).is_file()
    ]  # fmt: skip
    if not found:
        raise ConfigError(
            f"{identifier} has no model of {pair} in {root}. Train one with `freqtrade backtesting` and "
            "save_backtest_models: true, or with a bot."
        )
    return max(found, key=lambda path: int(path.name.removeprefix(prefix)))


def _serving(root: Path, pair: str) -> Path | None:
    try:
        known = json.loads((root / "pair_dictionary.json").read_text(encoding="utf-8"))[pair]
        folder = root / Path(known["data_path"]).name
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return folder if known["model_filename"] and (folder / WINDOW_FILE).is_file() else None


def write_frozen(
    folder: Path, directory: Path, model_name: str, *, fee: float
) -> tuple[str, dict[str, float]]:
    """Write a window's model as a bundle that speaks from its training on; its digest and metrics.

    The candles after the training window are its final window: it has seen none of them. The metrics are those of the
    newest purged rows of its window, as `gather_evidence` reads them.

    Parameters
    ----------
    fee : of one side of a trade, a fraction of the stake.

    Raises
    ------
    ConfigError
        The window has several targets.
    BundleError
        It is damaged.
    """
    model, described = read_window(folder)
    if len(model.targets) > 1:
        raise ConfigError(
            f"{folder.name} has {len(model.targets)} targets, a served model has one. Let the strategy set one target."
        )
    if model.guard is not None:
        raise ConfigError(
            f"{folder.name} was trained with outlier checks (DI_threshold or use_SVM_to_remove_outliers), which a "
            "served model does not have: its answers would differ. Train without them."
        )
    manifest = (bundle := load_bundle(folder / "0")).manifest
    member = replace(bundle.members[-1], valid_to=None)
    content = BundleContent(
        model_name=model_name,
        members=(member,),
        feature_names=manifest.features,
        created_at=manifest.created_at,
        pairs=manifest.pairs,
        timeframe=manifest.timeframe,
        scope=manifest.scope,
        feature_config=FeatureConfig(**manifest.feature_settings),
        label_config=LabelConfig(**manifest.label_settings),
        model_config=ModelConfig(**manifest.model_settings),
        train_start=member.train_start,
        train_end=member.train_end,
        final_window_start=pd.Timestamp(member.valid_from),
        data_hash=manifest.data_hash,
        git_revision=manifest.git_revision,
        package_versions=manifest.package_versions,
        drift_baseline=bundle.drift_baseline,
        self_test=bundle.selftest,
    )
    digest = write_bundle(directory, content)
    metrics = {str(k): float(v) for k, v in described["metrics"].items()}
    return digest, metrics | _evidence(folder, described, model, fee, str(manifest.timeframe))


def _evidence(
    folder: Path, described: Mapping[str, Any], model: WindowModel, fee: float, timeframe: str
) -> dict[str, float]:
    found: dict[str, float] = {"n_trials": float(model.n_trials)}
    if not model.n_trials:
        found["trial_sharpe_variance"] = 0.0
    judged = read_judged(folder, described)
    if judged is not None:
        found |= judged_figures(
            judged,
            candle=pd.Timedelta(seconds=timeframe_to_seconds(timeframe)),
            horizon_candles=model.horizon_candles,
            round_trip_cost=2 * fee,
        )
    return {name: value for name, value in found.items() if math.isfinite(value)}
