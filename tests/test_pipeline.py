"""From candles to a registered version: what may be learned, what may not, and that it comes out the same twice."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from freqtrade_mlpipe.config import MLPipeConfig
from freqtrade_mlpipe.dataset import Dataset, TrainingData, build_dataset
from freqtrade_mlpipe.exceptions import DataError, TrainingError
from freqtrade_mlpipe.features import NO_FRAMES, FeatureEngineer, Frames
from freqtrade_mlpipe.integration.data import content_hash
from freqtrade_mlpipe.labels import make_labels
from freqtrade_mlpipe.mlflow_store import DATABASE_NAME, open_store
from freqtrade_mlpipe.pipeline import (
    TrainingOutcome,
    final_window_start,
    gather_evidence,
    train,
)
from freqtrade_mlpipe.registry import BacktestSummary, Evidence, ModelRegistry
from freqtrade_mlpipe.synthetic import Market, generate_market
from freqtrade_mlpipe.tracking import ExperimentTracker

NOW = datetime(2026, 1, 2, 3, tzinfo=UTC)
PAIRS = ("SYNA/USDT", "SYNB/USDT")
MARKET = Market(pairs=PAIRS, n_candles=2_600, signal=3.0, seed=11)
CONFIG = MLPipeConfig(
    model_name="small",
    features={
        "include_volume_features": False, "include_momentum_features": False, "include_trend_features": False,
        "include_volatility_features": False, "include_statistics_features": False,
    },
    labels={"horizon_candles": 12},
    model={"optimize_hyperparams": False, "cv_folds": 2, "parameters": {"num_leaves": 4, "bagging_fraction": 0.5}},
)  # fmt: skip
HORIZON = CONFIG.labels.horizon_candles
ENGINEER = FeatureEngineer(CONFIG.features)

Candles = dict[str, pd.DataFrame]


def compute(frame: pd.DataFrame, pair: str, frames: Frames = NO_FRAMES) -> pd.DataFrame:
    return ENGINEER.transform(frame)


def data_of(candles: Candles, **changes: Any) -> TrainingData:
    values = {
        "candles": candles, "timeframe": "1h", "candle": pd.Timedelta("1h"), "compute": compute,
        "startup_candles": ENGINEER.startup_candles, "data_hash": content_hash(candles),
    }  # fmt: skip
    return TrainingData(**{**values, **changes})


@pytest.fixture(scope="module")
def candles() -> Candles:
    """Two pairs, the second of which was listed 300 candles later."""
    both = generate_market(MARKET)
    return {PAIRS[1]: both[PAIRS[1]].iloc[300:].reset_index(drop=True), PAIRS[0]: both[PAIRS[0]]}


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("store")
    open_store(None, directory)
    return directory / DATABASE_NAME


@dataclass(frozen=True)
class Trained:
    """One training and the registry it went to."""

    outcome: TrainingOutcome
    registry: ModelRegistry


Train = Callable[..., Trained]


@pytest.fixture(scope="module")
def training(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Trains into a fresh registry."""

    def run(candles: Candles, config: MLPipeConfig = CONFIG, **changes: Any) -> Trained:
        directory = tmp_path_factory.mktemp("registry")
        shutil.copy(empty_database, directory / DATABASE_NAME)
        registry = ModelRegistry(directory=directory)
        tracker = ExperimentTracker("pipeline", "mlflow", directory=directory)
        on_progress = changes.pop("on_progress", None)
        data = data_of(candles, **changes)
        outcome = train(
            data, config, registry=registry, tracker=tracker, now=NOW,
            settings={"strategy": "MLStrategy"}, on_progress=on_progress,
        )  # fmt: skip
        return Trained(outcome, registry)

    return run


@pytest.fixture(scope="module")
def trained(training: Train, candles: Candles) -> Trained:
    return training(candles)


@pytest.fixture(scope="module")
def dataset(candles: Candles) -> Dataset:
    return build_dataset(data_of(candles), CONFIG)


class TestDataset:
    def test_rows_are_ordered_by_date_then_pair(self, dataset):
        index = dataset.X.index
        assert index.names == ["pair", "date"]
        assert index.is_unique
        keys = list(
            zip(index.get_level_values("date"), index.get_level_values("pair"), strict=True)
        )
        assert keys == sorted(keys)

    def test_order_of_the_mapping_does_not_matter(self, dataset, candles):
        other = build_dataset(data_of(dict(reversed(candles.items()))), CONFIG)
        pd.testing.assert_frame_equal(other.X, dataset.X)

    def test_every_part_has_the_same_index(self, dataset):
        for part in (dataset.y, dataset.known_at, dataset.weight, dataset.forward_return):
            assert part.index.equals(dataset.X.index)

    def test_only_the_warm_up_of_each_pair_is_left_out(self, dataset, candles):
        startup = ENGINEER.startup_candles
        for pair, frame in candles.items():
            dates = dataset.X.xs(pair, level="pair").index
            assert list(dates) == list(frame["date"].iloc[startup:])
        assert not dataset.X.isna().any().any()

    def test_rows_hold_the_features_and_labels_of_their_own_candle(self, dataset, candles):
        for pair, frame in candles.items():
            features = compute(frame, pair).set_axis(pd.DatetimeIndex(frame["date"]))
            rows = dataset.X.xs(pair, level="pair")
            np.testing.assert_array_equal(rows, features.loc[rows.index])
            labels = make_labels(frame, CONFIG.labels)
            y = dataset.y.xs(pair, level="pair")
            np.testing.assert_array_equal(y, labels.y.iloc[ENGINEER.startup_candles :])

    def test_last_horizon_of_each_pair_has_no_label(self, dataset, candles):
        for pair in candles:
            y = dataset.y.xs(pair, level="pair")
            assert y.iloc[-HORIZON:].isna().all()
            assert y.iloc[:-HORIZON].notna().all()

    def test_round_trip_costs_both_fees(self, dataset):
        assert dataset.round_trip_cost == 2 * CONFIG.labels.fee

    @pytest.mark.parametrize("share", [0.3, 0.5, 0.77])
    def test_known_before_keeps_no_label_that_reaches_the_moment(self, dataset, share):
        dates = dataset.X.index.get_level_values("date").unique()
        moment = dates[int(share * len(dates))]
        kept = dataset.known_before(moment)
        reach = kept.X.index.get_level_values("date") + HORIZON * pd.Timedelta("1h")
        assert reach.max() == moment - pd.Timedelta("1h")
        assert (kept.known_at < moment).all()
        assert kept.y.notna().all()
        for part in (kept.y, kept.known_at, kept.weight, kept.forward_return):
            assert part.index.equals(kept.X.index)

    def test_known_before_drops_nothing_that_was_known(self, dataset):
        moment = dataset.X.index.get_level_values("date")[1_000]
        kept = dataset.known_before(moment)
        left_out = dataset.known_at.drop(kept.X.index)
        assert not (left_out < moment).any()

    def test_too_few_candles_name_every_short_pair_and_the_number_needed(self, candles):
        needed = ENGINEER.startup_candles + HORIZON + 1
        few = {
            "SYNA/USDT": candles["SYNA/USDT"].head(needed),
            "SYNB/USDT": candles["SYNB/USDT"].head(9),
        }
        with pytest.raises(DataError) as caught:
            build_dataset(data_of(few), CONFIG)
        message = str(caught.value)
        assert f"more than {needed}" in message
        assert f"SYNA/USDT has {needed}" in message
        assert "SYNB/USDT has 9" in message

    def test_columns_that_depend_on_the_pair_are_named(self, candles):
        def other(frame, pair, frames):
            return compute(frame, pair).rename(columns={"gap": f"gap_{pair}"})

        with pytest.raises(DataError, match=r"SYNB/USDT has other feature columns .*gap_SYNA/USDT"):
            build_dataset(data_of(candles, compute=other), CONFIG)

    def test_one_candle_more_than_needed_is_enough(self, candles):
        needed = ENGINEER.startup_candles + HORIZON + 1
        dataset = build_dataset(data_of({"A/B": candles["SYNA/USDT"].head(needed + 1)}), CONFIG)
        assert dataset.y.notna().any()


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
def test_final_window_is_the_last_share_of_the_time(fraction):
    dates = pd.date_range("2024-01-01", periods=1_001, freq="h", tz="UTC")
    start = final_window_start(dates, fraction)
    assert start in dates
    assert (dates[-1] - start) / (dates[-1] - dates[0]) == pytest.approx(fraction, abs=0.001)


def test_final_window_begins_at_a_candle_even_after_a_hole():
    dates = pd.date_range("2024-01-01", periods=100, freq="h", tz="UTC").delete(range(70, 90))
    assert final_window_start(dates, 0.2) == dates[70]


class TestTraining:
    def test_no_member_has_seen_a_candle_of_the_final_window(self, trained):
        window = trained.outcome.final_window_start
        for member in trained.outcome.model.members:
            assert member.train_end < window

    def test_no_member_predicts_what_it_has_seen(self, trained):
        for member in trained.outcome.model.members:
            assert member.train_start < member.train_end < member.valid_from

    def test_spans_of_the_members_follow_each_other_up_to_the_window(self, trained):
        *walk_forward, production = trained.outcome.model.members
        assert production.valid_from == trained.outcome.final_window_start
        assert production.valid_to is None
        for earlier, later in itertools.pairwise(walk_forward):
            assert earlier.valid_to <= later.valid_from
        assert walk_forward[-1].valid_to <= production.valid_from

    def test_candles_of_the_final_window_have_no_influence_on_any_member(
        self, trained, training, candles
    ):
        window = trained.outcome.final_window_start
        changed = {}
        for pair, frame in candles.items():
            late = frame["date"] >= window
            factor = np.where(late, np.linspace(1, 3, len(frame)), 1.0)
            prices = frame[["open", "high", "low", "close"]].mul(factor, axis=0)
            changed[pair] = frame.assign(**prices, volume=frame["volume"] * factor)
        other = training(changed)
        assert other.outcome.final_window_start == window
        for one, two in zip(
            trained.outcome.model.members, other.outcome.model.members, strict=True
        ):
            assert one.to_files() == two.to_files()

    def test_last_candle_before_the_window_has_influence(self, trained, training, candles):
        """The counterpart of the test above: it would notice a change."""
        window = trained.outcome.final_window_start
        changed = {}
        for pair, frame in candles.items():
            late = frame["date"] >= window - pd.Timedelta("200h")
            factor = np.where(late, np.linspace(1, 3, len(frame)), 1.0)
            prices = frame[["open", "high", "low", "close"]].mul(factor, axis=0)
            changed[pair] = frame.assign(**prices)
        other = training(changed).outcome.model.members[-1]
        assert other.to_files() != trained.outcome.model.members[-1].to_files()

    def test_same_data_configuration_seed_and_time_give_the_same_bundle(
        self, trained, training, candles
    ):
        again = training({pair: frame.copy() for pair, frame in reversed(candles.items())})
        assert again.outcome.version.digest == trained.outcome.version.digest
        assert again.outcome.version.metrics == pytest.approx(
            trained.outcome.version.metrics, rel=0, abs=0, nan_ok=True
        )

    def test_another_seed_gives_another_model(self, trained, training, candles, dataset):
        model = {**CONFIG.model.model_dump(), "random_state": 7}
        config = MLPipeConfig(**{**CONFIG.model_dump(), "model": model})
        one, two = (run.outcome.model for run in (trained, training(candles, config)))
        assert not np.array_equal(one.predict_proba(dataset.X), two.predict_proba(dataset.X))

    def test_bundle_says_what_it_was_made_from(self, trained, candles):
        version = trained.outcome.version
        manifest = trained.registry.load_bundle(version.name, version.version).manifest
        assert manifest.data_hash == content_hash(candles)
        assert manifest.created_at == NOW
        assert manifest.pairs == PAIRS
        assert manifest.timeframe == "1h"
        assert manifest.final_window_start == trained.outcome.final_window_start
        assert manifest.feature_config() == CONFIG.features
        assert manifest.label_config() == CONFIG.labels

    def test_version_is_staged_and_serves_nothing(self, trained):
        version = trained.outcome.version
        assert (version.name, version.version, str(version.status)) == ("small", "1", "STAGED")
        assert trained.registry.get_production_model("small") is None

    def test_run_records_data_configuration_and_the_version(self, trained, candles):
        client = open_store(None, trained.registry.directory)
        run = client.get_run(trained.outcome.run_id).data
        recorded = {**run.params, **run.tags}
        assert content_hash(candles) in recorded.values()
        assert run.tags["mlpipe.model_version"] == "1"
        assert any(key.endswith("horizon_candles") and value == str(HORIZON)
                   for key, value in run.params.items())  # fmt: skip
        assert "MLStrategy" in recorded.values()

    def test_statistical_gates_find_what_they_need_in_the_metrics(self, trained):
        metrics = trained.outcome.version.metrics
        for name in ("class_prior", "last_value"):
            assert 0 <= metrics[f"p_value_{name}"] <= 1
        assert metrics["oos_n_periods"] > 100
        assert metrics["trial_sharpe_variance"] == 0
        assert metrics["oos_kurtosis"] >= 1

    def test_progress_names_its_stages_and_finishes_them(self, training, candles):
        seen: dict[str, tuple[int, int]] = {}
        training(candles, on_progress=lambda stage, done, of: seen.update({stage: (done, of)}))
        assert {"features", "registering"} < set(seen)
        assert all(done == total for done, total in seen.values())


class TestFailedTraining:
    @pytest.fixture
    def registry(self, empty_database, tmp_path):
        shutil.copy(empty_database, tmp_path / DATABASE_NAME)
        return ModelRegistry(directory=tmp_path)

    def attempt(self, registry, candles, **changes):
        tracker = ExperimentTracker("pipeline", "mlflow", directory=registry.directory)
        train(data_of(candles, **changes), CONFIG, registry=registry, tracker=tracker, now=NOW)

    def test_one_class_labels_are_refused_and_nothing_is_registered(self, registry, candles):
        falling = {}
        for pair, frame in candles.items():
            price = 100 * np.exp(-0.001 * np.arange(len(frame)))
            falling[pair] = frame.assign(
                open=price, high=price * 1.001, low=price * 0.999, close=price * 0.9995
            )
        with pytest.raises(TrainingError, match="class"):
            self.attempt(registry, falling)
        assert registry.get_model_names() == []

    def test_run_of_a_training_that_broke_off_late_is_failed_and_has_no_version(
        self, registry, candles
    ):
        def explode(frame, pair, frames):
            if len(frame) < len(candles[pair]):  # the self-test's candles, after the last fit
                raise ZeroDivisionError
            return compute(frame, pair)

        with pytest.raises(ZeroDivisionError):
            self.attempt(registry, candles, compute=explode)
        assert registry.get_model_names() == []
        client = open_store(None, registry.directory)
        runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
        (run,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
        assert run.info.status == "FAILED"
        assert run.data.tags["mlpipe.reason"] == "ZeroDivisionError"

    def test_too_few_candles_leave_no_run_behind(self, registry, candles):
        with pytest.raises(DataError):
            self.attempt(registry, {pair: frame.head(50) for pair, frame in candles.items()})
        client = open_store(None, registry.directory)
        assert client.search_runs([e.experiment_id for e in client.search_experiments()]) == []


@pytest.fixture(scope="module")
def evidence_with(trained: Trained, candles: Candles) -> Callable[..., Evidence]:
    """What the gates would see with other features than those that were trained on."""
    version = trained.outcome.version
    bundle = trained.registry.load_bundle(version.name, version.version)
    return lambda features, of=version: gather_evidence(
        of, bundle, features, candles, startup_candles=ENGINEER.startup_candles,
        backtest=a_backtest(trained.outcome.final_window_start), champion=None,
    )  # fmt: skip


def a_backtest(start: pd.Timestamp) -> BacktestSummary:
    return BacktestSummary(
        sharpe=1.0, sortino=1.0, calmar=1.0, n_trades=30, max_drawdown=0.1, profit_factor=1.5,
        profit_total=0.2, market_change=0.1, start=start, end=start + pd.Timedelta("30D"),
    )  # fmt: skip


class TestEvidence:
    def test_features_as_trained_pass_both_examinations(self, evidence_with):
        evidence = evidence_with(compute)
        assert evidence.self_test.passed
        assert evidence.causality.passed

    def test_peeking_feature_is_found(self, evidence_with):
        def peek(frame, pair, frames):
            return compute(frame, pair).assign(peek=frame["close"].shift(-1).to_numpy())

        finding = evidence_with(peek).causality
        assert not finding.passed
        assert "peek" in finding.sentence

    def test_features_that_changed_since_training_fail_the_self_test(self, evidence_with):
        evidence = evidence_with(lambda frame, pair, frames: compute(frame, pair) * 1.01)
        assert not evidence.self_test.passed
        assert evidence.causality.passed

    def test_metric_that_was_never_measured_is_nan_not_zero(self, trained, evidence_with):
        bare = dataclasses.replace(trained.outcome.version, metrics={})
        found = evidence_with(compute, of=bare)
        assert np.isnan(found.oos_returns.sharpe)
        assert all(np.isnan(row.p_value) for row in found.baselines.values())


class TestContentHash:
    @pytest.mark.parametrize("column", ["open", "high", "low", "close", "volume", "date"])
    @pytest.mark.parametrize("row", [0, 777, -1])
    def test_one_changed_value_changes_it(self, candles, column, row):
        frame = candles[PAIRS[0]].copy()
        place = frame.index[row]
        step = pd.Timedelta("1s") if column == "date" else 1e-9
        frame.loc[place, column] = frame.loc[place, column] + step
        assert content_hash({**candles, PAIRS[0]: frame}) != content_hash(candles)

    def test_pair_names_count(self, candles):
        renamed = {"X/USDT": candles[PAIRS[0]], PAIRS[1]: candles[PAIRS[1]]}
        assert content_hash(renamed) != content_hash(candles)

    def test_candles_swapped_between_pairs_change_it(self, candles):
        swapped = {PAIRS[0]: candles[PAIRS[1]], PAIRS[1]: candles[PAIRS[0]]}
        assert content_hash(swapped) != content_hash(candles)

    def test_order_of_pairs_unit_of_dates_and_index_do_not_matter(self, candles):
        same = {
            pair: frame.assign(date=frame["date"].dt.as_unit("ms")).set_axis(frame.index + 5)
            for pair, frame in reversed(candles.items())
        }
        assert content_hash(same) == content_hash(candles)
