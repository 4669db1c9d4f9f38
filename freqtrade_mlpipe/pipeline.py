"""Candles → features → labels → split → fit → bundle → registered version: the one place that wires them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from freqtrade_mlpipe.config import LabelConfig, MLPipeConfig, timeframe_length
from freqtrade_mlpipe.dataset import Dataset, TrainingData, build_dataset
from freqtrade_mlpipe.exceptions import BundleError
from freqtrade_mlpipe.features import NO_FRAMES, Frames
from freqtrade_mlpipe.features.causality import audit_causality
from freqtrade_mlpipe.features.frames import closed_by
from freqtrade_mlpipe.metrics import (
    BLOCK_HORIZONS,
    LOSS_METRICS,
    ReturnMoments,
    block_bootstrap_p_value,
    return_moments,
    strategy_returns,
)
from freqtrade_mlpipe.monitoring.reference import monitoring_baseline, plan_of
from freqtrade_mlpipe.registry import (
    ModelRegistry,
    ModelVersion,
    Record,
    RegistryUnavailableError,
)
from freqtrade_mlpipe.registry.bundle import Bundle, BundleContent, write_bundle
from freqtrade_mlpipe.registry.evidence import (
    BASELINES_OF,
    BacktestSummary,
    Comparison,
    Evidence,
    Finding,
)
from freqtrade_mlpipe.registry.files import scratch_folder
from freqtrade_mlpipe.registry.pending import keep_pending
from freqtrade_mlpipe.registry.selftest import ComputeFeatures, SelfTest, selftest_from_candles
from freqtrade_mlpipe.registry.upkeep import SEARCHES_NAME
from freqtrade_mlpipe.reports.records import drift_reference, training_record
from freqtrade_mlpipe.tracking import ExperimentTracker
from freqtrade_mlpipe.tracking.environment import git_revision, package_versions
from freqtrade_mlpipe.trainer import (
    BASELINE_METRICS,
    ModelTrainer,
    TrainedModel,
    TrainingReport,
    explain,
)
from freqtrade_mlpipe.training_record import describe_version, record_data, record_training

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Stage, steps done, steps in all."""

SELF_TEST_CANDLES = 64
"""Candles after the warm-up whose features and probabilities a bundle must reproduce."""


@dataclass(frozen=True)
class TrainingOutcome:
    """A registered version, the model behind it, and the first candle of the window training never saw."""

    version: ModelVersion
    model: TrainedModel
    final_window_start: pd.Timestamp
    run_id: str


def final_window_start(dates: pd.DatetimeIndex, fraction: float) -> pd.Timestamp:
    """First candle of the final window: the last `fraction` of the time between the first and last date."""
    first, last = dates.min(), dates.max()
    wanted = first + (last - first) * (1 - fraction)
    start: pd.Timestamp = dates[dates >= wanted].min()
    return start


def train(
    data: TrainingData,
    config: MLPipeConfig,
    *,
    registry: ModelRegistry,
    tracker: ExperimentTracker,
    now: datetime,
    settings: Mapping[str, Any] | None = None,
    final_window: pd.Timestamp | None = None,
    tried: Sequence[float] = (),
    notes: str = "",
    on_progress: Progress | None = None,
) -> TrainingOutcome:
    """Train on everything before the final window, track the run, register the bundle as a staged version.

    Parameters
    ----------
    now : the time that is recorded, time zone aware.
    settings : further settings to record with the run (strategy, timerange).
    final_window : first candle that training must not see; None: by `gates.final_window_fraction`.
    tried : Sharpe ratios per candle of other configurations that this one was chosen from (NaN where there was none):
        they count as trials for the deflated Sharpe ratio.
    notes : kept with the version.

    Raises
    ------
    DataError, TrainingError
        When the candles cannot be learned from; nothing is registered then.
    """
    progress = on_progress or (lambda *_: None)
    progress("features", 0, 1)
    dataset = build_dataset(data, config)
    progress("features", 1, 1)
    window = final_window or final_window_start(
        pd.DatetimeIndex(dataset.X.index.get_level_values("date")),
        config.gates.final_window_fraction,
    )
    dataset = dataset.known_before(window)
    recorded = {"mlpipe": config.model_dump(mode="json"), **(settings or {})}
    with tracker.start_run(
        f"{config.model_name} {now:%Y-%m-%d %H:%M}", recorded, data_hash=data.data_hash
    ) as run_id:
        record_data(tracker, dataset.X, window)
        tracker.flush()
        model, metrics = ModelTrainer(config.model, config.features).train(
            dataset.X,
            dataset.y,
            **dataset.extras(),
            candle=data.candle,
            horizon_candles=config.labels.horizon_candles,
            valid_from=window,
            task=config.labels.task,
            storage=_search_folder(registry),
            on_progress=progress,
        )
        progress("registering", 0, 1)
        metrics |= significance(
            model.report, dataset.round_trip_cost, data.candle, config.labels, tried
        )
        record_training(tracker, model, metrics, config.model, dataset.X, dataset.y)
        tracker.flush()
        content = _content(data, config, model, dataset, window, now)
        description = describe_version(config, model, metrics, sorted(data.candles), window)
        record = _record(data, config, model, dataset, window, content.drift_baseline, recorded)
        version = _register(content, metrics, registry, tracker, description, record, notes)
        tracker.set_tags(version_tags(version))
        progress("registering", 1, 1)
    return TrainingOutcome(version, model, window, str(run_id))


def _search_folder(registry: ModelRegistry) -> Path:
    """Where the trials of searches are kept: the same training goes on after Ctrl-C or a kill."""
    folder = registry.directory / SEARCHES_NAME
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def significance(
    report: TrainingReport,
    round_trip_cost: float,
    candle: pd.Timedelta,
    labels: LabelConfig,
    tried: Sequence[float] = (),
) -> dict[str, float]:
    """What the statistical gates need to know of a training, as metrics.

    Block-bootstrap p-values of "the loss is not lower than the baseline's", rows of one date resampled together
    in blocks of several horizons; moments of the net-of-fee return series of the out-of-sample signals; the variance
    of the trials' Sharpe ratios.
    """
    oos = report.oos[report.oos["loss"].notna()]
    sharpes = np.asarray([*report.trial_sharpes, *tried], dtype=np.float64)
    trials = sharpes[np.isfinite(sharpes)]
    return significance_of(oos, round_trip_cost, candle, labels.horizon_candles) | {
        "n_trials": float(len(report.trials) + len(tried)),
        "trial_sharpe_variance": float(trials.var(ddof=1)) if len(trials) > 1 else 0.0,
    }


def significance_of(
    oos: pd.DataFrame, round_trip_cost: float, candle: pd.Timedelta, horizon_candles: int
) -> dict[str, float]:
    """The p-values and moments of `significance`, from out-of-sample rows on (pair, date).

    Parameters
    ----------
    oos : columns loss, loss_*, position, forward_return (and short_return), known_at.
    """
    dates = pd.DatetimeIndex(oos.index.get_level_values("date"))
    found = {
        f"p_value_{name}": block_bootstrap_p_value(
            oos["loss"],
            oos[f"loss_{name}"],
            block=BLOCK_HORIZONS * horizon_candles,
            dates=dates,
        )
        for name in BASELINE_METRICS
        if f"loss_{name}" in oos
    }
    gross = oos["forward_return"]
    if "short_return" in oos:
        gross = gross.where(oos["position"] != -1, oos["short_return"])
    returns = strategy_returns(
        dates,
        oos.index.get_level_values("pair"),
        oos["position"] != 0,
        gross,
        round_trip_cost,
        horizon_candles,
        exit_dates=pd.DatetimeIndex(oos["known_at"]),
        candle=candle,
    )
    moments = return_moments(returns)
    return found | {
        "oos_n_periods": float(moments.n_obs),
        "oos_sharpe_per_period": moments.sharpe,
        "oos_skewness": moments.skew,
        "oos_kurtosis": moments.kurtosis,
    }


def version_tags(version: ModelVersion) -> dict[str, str]:
    """Tags that lead from a run to the version it is about."""
    return {
        "mlpipe.model_name": version.name,
        "mlpipe.model_version": version.version,
        "mlpipe.model_digest": version.digest,
        "mlpipe.model_uri": f"models:/{version.name}/{version.version}",
    }


def _content(
    data: TrainingData,
    config: MLPipeConfig,
    model: TrainedModel,
    dataset: Dataset,
    window: pd.Timestamp,
    now: datetime,
) -> BundleContent:
    production = model.members[-1]
    dates = dataset.X.index.get_level_values("date")
    learned = dataset.X[dates >= production.train_start]
    return BundleContent(
        model_name=config.model_name,
        members=model.members,
        feature_names=model.feature_names,
        created_at=now,
        pairs=sorted(data.candles),
        timeframe=data.timeframe,
        feature_config=config.features,
        label_config=config.labels,
        model_config=config.model,
        train_start=production.train_start,
        train_end=production.train_end,
        final_window_start=window,
        data_hash=data.data_hash,
        git_revision=git_revision(),
        package_versions=package_versions(),
        drift_baseline=monitoring_baseline(
            learned[list(production.preprocessor.kept_columns)],
            model.report.oos,
            task=config.labels.task,
            candle=data.candle,
            round_trip_cost=dataset.round_trip_cost,
            plan=plan_of(config.monitoring),
            seed=config.model.random_state,
        ),
        self_test=_self_test(data, model, window),
    )


def _self_test(data: TrainingData, model: TrainedModel, window: pd.Timestamp) -> SelfTest:
    """The last candles before the final window of one pair: warm-up, and some rows to reproduce."""
    pair = min(data.candles)
    frame = data.candles[pair]
    rows = data.startup_candles + SELF_TEST_CANDLES
    candles = frame[frame["date"] < window].tail(rows).reset_index(drop=True)
    frames = {
        key: closed_by(other, timeframe_length(key[1]), window).tail(rows)
        for key, other in data.frames.items()
    }
    return selftest_from_candles(model.members, {pair: candles}, data.compute, frames)


def _register(
    content: BundleContent,
    metrics: Mapping[str, float],
    registry: ModelRegistry,
    tracker: ExperimentTracker,
    description: str,
    record: Record,
    notes: str = "",
) -> ModelVersion:
    """Register the bundle; where the registry does not answer, keep it: hours of training may be in it.

    Raises
    ------
    RegistryUnavailableError
        The registry does not answer; the message says where the bundle is and how to register it later.
    """
    with scratch_folder() as folder:
        bundle = Path(folder) / "bundle"
        write_bundle(bundle, content)
        described: dict[str, Any] = {
            "model_name": content.model_name,
            "metrics": dict(metrics),
            "feature_names": list(content.feature_names),
            "description": description,
            "notes": notes,
        }
        try:
            return registry.register_model(
                model_path=bundle, run_id=tracker.mlflow_run_id, record=record, **described
            )
        except RegistryUnavailableError as error:
            kept = keep_pending(registry.directory, bundle, described, tracker.run_id or "", record)
            raise RegistryUnavailableError(
                f"The model is trained, but not registered. {error} It is kept in {kept}; `freqtrade-mlpipe sync` "
                "registers it when the registry answers again."
            ) from error


def _record(
    data: TrainingData,
    config: MLPipeConfig,
    model: TrainedModel,
    rows: Dataset,
    window: pd.Timestamp,
    baseline: Mapping[str, object] | None,
    recorded: Mapping[str, Any],
) -> Record:
    """What a page about this version needs later."""
    dates = pd.DatetimeIndex(rows.X.index.get_level_values("date"))
    return training_record(
        model,
        explain(model.members, rows.X, rows.y, dates, seed=config.model.random_state),
        drift_reference(baseline, rows.X),
        labels=config.labels,
        settings=config.model,
        timeframe=data.timeframe,
        candle=data.candle,
        pairs=sorted(data.candles),
        data_hash=data.data_hash,
        final_window_start=window,
        round_trip_cost=rows.round_trip_cost,
        recorded=recorded,
    )


def gather_evidence(
    version: ModelVersion,
    bundle: Bundle,
    compute: ComputeFeatures,
    candles: Mapping[str, pd.DataFrame],
    *,
    startup_candles: int,
    backtest: BacktestSummary,
    champion: BacktestSummary | None,
    frames: Frames = NO_FRAMES,
) -> Evidence:
    """Everything the gates look at: what training measured, the backtests, and two examinations made here and now.

    Parameters
    ----------
    compute, candles : the strategy's features and candles to audit them on, by pair.
    frames : the candles of other pairs and timeframes that they look at.
    backtest, champion : freqtrade's results on the final window; None: nothing else is in production.
    """
    metrics, task = version.metrics, bundle.manifest.label_config().task
    nan = float("nan")
    return Evidence(
        task=task,
        metrics=metrics,
        baselines={
            name: Comparison(
                metrics.get(LOSS_METRICS[task], nan),
                metrics.get(key, nan),
                metrics.get(f"p_value_{name}", nan),
            )
            for name, key in BASELINE_METRICS.items()
            if name in BASELINES_OF[task]
        },
        oos_returns=ReturnMoments(
            n_obs=int(metrics.get("oos_n_periods", 0)),
            sharpe=metrics.get("oos_sharpe_per_period", nan),
            skew=metrics.get("oos_skewness", nan),
            kurtosis=metrics.get("oos_kurtosis", nan),
        ),
        n_trials=max(1, int(metrics["n_trials"])) if "n_trials" in metrics else None,
        trial_sharpe_variance=metrics.get("trial_sharpe_variance", nan),
        backtest=backtest,
        champion=champion,
        trained_until=bundle.manifest.train_end,
        calibration_error=metrics.get("expected_calibration_error"),
        self_test=_self_test_finding(bundle, compute),
        causality=_causality_finding(compute, candles, frames, startup_candles),
    )


def _self_test_finding(bundle: Bundle, compute: ComputeFeatures) -> Finding:
    try:
        bundle.self_test(compute)
    except BundleError as error:
        return Finding(False, str(error))
    return Finding(True, "The stored bundle reproduces its features and probabilities.")


def _causality_finding(
    compute: ComputeFeatures,
    candles: Mapping[str, pd.DataFrame],
    frames: Frames,
    startup_candles: int,
) -> Finding:
    pair = min(candles)
    candle = candles[pair]["date"].diff().median()

    def early(frame: pd.DataFrame) -> pd.DataFrame:
        return compute(frame, pair, frames.until(frame["date"].iloc[-1] + candle))

    peeking = audit_causality(early, candles[pair], startup_candles=startup_candles, seed=0)
    if peeking:
        shown = ", ".join(peeking[:5])
        return Finding(
            False,
            f"{len(peeking)} features change when later candles are taken away: {shown}. They look ahead.",
        )
    return Finding(True, f"No feature of {pair} changed when later candles were taken away.")
