"""The mixin in a strategy that freqtrade loaded: honest, the same for every window, never in a bot's way."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import cloudpickle
import numpy as np
import pandas as pd
import pytest
from freqtrade.enums import RunMode
from freqtrade.exceptions import OperationalException, StrategyError

from freqtrade_mlpipe.exceptions import MLPipeError
from freqtrade_mlpipe.features import FeatureEngineer
from freqtrade_mlpipe.integration.strategy import ServingError
from tests.conftest import MODEL_NAME, OWN_FEATURE, Workspace

pytestmark = pytest.mark.e2e

PAIR = "SYNA/USDT"
COLUMNS = ["mlpipe_proba", "mlpipe_edge", "mlpipe_signal", "mlpipe_do_predict", "mlpipe_version"]
DRY_RUN = {"runmode": RunMode.DRY_RUN}

Candles = Mapping[str, pd.DataFrame]


def started(workspace: Workspace, **changes: Any) -> Any:
    """The strategy, after freqtrade has started it."""
    strategy = workspace.strategy(**changes)
    strategy.ft_bot_start()
    return strategy


def predicted(strategy: Any, candles: pd.DataFrame, pair: str = PAIR) -> pd.DataFrame:
    return strategy.populate_indicators(candles.copy(), {"pair": pair})


@pytest.fixture(scope="module")
def serving(production_once: Workspace) -> Any:
    """A started strategy that serves version 1; for tests that only ask it."""
    return started(production_once)


@pytest.fixture(scope="module")
def bundle(production_once: Workspace) -> Any:
    return production_once.registry().load_bundle(MODEL_NAME, "1")


@pytest.fixture(scope="module")
def answer(serving: Any, market: Candles) -> pd.DataFrame:
    return predicted(serving, market[PAIR])


class TestColumns:
    def test_candles_stay_and_the_documented_columns_are_added(self, answer, market):
        assert list(answer.columns) == [*market[PAIR].columns, *COLUMNS]
        pd.testing.assert_frame_equal(answer[market[PAIR].columns], market[PAIR])

    def test_types_are_those_that_strategies_compute_with(self, answer):
        assert answer["mlpipe_proba"].dtype == np.float64
        assert answer["mlpipe_edge"].dtype == np.float64
        assert answer["mlpipe_signal"].dtype.kind == "i"
        assert answer["mlpipe_do_predict"].dtype.kind == "i"
        assert set(answer["mlpipe_version"]) == {"1"}

    def test_probabilities_are_probabilities_exactly_where_usable(self, answer):
        usable = answer["mlpipe_do_predict"] == 1
        assert usable.any()
        assert answer.loc[usable, "mlpipe_proba"].between(0, 1).all()
        assert answer.loc[~usable, ["mlpipe_proba", "mlpipe_edge"]].isna().all().all()
        assert (answer.loc[~usable, "mlpipe_signal"] == 0).all()

    def test_warm_up_is_never_predicted(self, answer, serving):
        assert (answer["mlpipe_do_predict"].iloc[: serving.startup_candle_count] < 1).all()

    def test_without_a_model_the_columns_have_the_same_types(self, trained, market, answer):
        trained.configure(serving={"on_missing": "no_entries"})
        empty = predicted(started(trained), market[PAIR])
        for name in COLUMNS[:-1]:
            assert empty[name].dtype.kind == answer[name].dtype.kind


class TestHonesty:
    def test_each_candle_is_answered_by_the_member_of_its_span_trained_strictly_before(
        self, answer, bundle, serving, market
    ):
        features = serving.mlpipe_compute(market[PAIR], {"pair": PAIR})
        dates = market[PAIR]["date"]
        n_answered = 0
        for member in bundle.members:
            inside = dates >= member.valid_from
            if member.valid_to is not None:
                inside &= dates < member.valid_to
            rows = inside & (answer["mlpipe_do_predict"] == 1)
            n_answered += rows.sum()
            assert (dates[rows] > member.train_end).all()
            np.testing.assert_array_equal(
                answer.loc[rows, "mlpipe_proba"], member.predict_proba(features[rows])
            )
            np.testing.assert_allclose(
                answer.loc[rows, "mlpipe_edge"],
                answer.loc[rows, "mlpipe_proba"] - member.thresholds.enter,
            )
        assert n_answered == (answer["mlpipe_do_predict"] == 1).sum()
        assert len(bundle.members) == 3

    def test_candles_that_every_member_was_trained_on_are_masked(self, answer, bundle):
        first = min(member.valid_from for member in bundle.members)
        assert (answer.loc[answer["date"] < first, "mlpipe_do_predict"] == -1).all()
        assert (answer.loc[answer["date"] >= first, "mlpipe_do_predict"] == 1).all()

    @pytest.mark.parametrize("end", [1_900, 2_600, 3_100, 3_499])
    def test_answer_is_the_same_without_the_candles_that_followed(
        self, answer, serving, market, end
    ):
        early = predicted(serving, market[PAIR].head(end))
        pd.testing.assert_frame_equal(early, answer.head(end), check_exact=True)

    @pytest.mark.parametrize("extra", [1, 40, 300])
    def test_answer_of_a_live_window_is_that_of_the_long_history(
        self, answer, serving, market, extra
    ):
        window = market[PAIR].tail(serving.startup_candle_count + extra).reset_index(drop=True)
        late = predicted(serving, window)
        expected = answer.tail(extra)
        assert (late["mlpipe_do_predict"].tail(extra) == 1).all()
        np.testing.assert_allclose(
            late["mlpipe_proba"].tail(extra), expected["mlpipe_proba"], atol=1e-6
        )

    def test_warm_up_of_the_features_reaches_freqtrade(self, serving):
        assert (
            serving.startup_candle_count
            >= FeatureEngineer(serving.mlpipe.features).startup_candles
            > 0
        )

    def test_shipped_strategy_enters_on_usable_candles_only(self, answer, serving):
        out = serving.populate_entry_trend(answer.copy(), {"pair": PAIR})
        entered = out["enter_long"] == 1
        assert entered.any()
        assert (out.loc[entered, "mlpipe_do_predict"] == 1).all()
        assert (out.loc[entered, "mlpipe_edge"] >= 0).all()


class TestOwnFeatures:
    def test_they_are_part_of_the_trained_schema(self, bundle):
        assert bundle.manifest.features[-1] == OWN_FEATURE

    def test_training_saw_the_numbers_that_serving_computes(self, bundle, serving, market):
        frame = market[PAIR]
        features = serving.mlpipe_compute(frame, {"pair": PAIR})
        expected = ((frame["high"] - frame["low"]) / frame["close"]).astype("float32")
        np.testing.assert_array_equal(features[OWN_FEATURE], expected)

    def test_changed_formula_is_refused_by_name(self, production):
        production.edit_strategy('(dataframe["high"] - dataframe["low"])', 'dataframe["high"]')
        with pytest.raises(StrategyError) as caught:
            started(production)
        assert OWN_FEATURE in str(caught.value)
        assert "train again" in str(caught.value)

    def test_removed_feature_is_refused_by_name(self, production):
        production.edit_strategy('dataframe["%-range"]', 'dataframe["range"]')
        with pytest.raises(StrategyError) as caught:
            started(production)
        assert OWN_FEATURE in str(caught.value)

    def test_feature_the_model_does_not_know_changes_no_answer(self, production, answer, market):
        production.edit_strategy(
            'dataframe["%-range"]', 'dataframe["%-other"] = 1.0\n        dataframe["%-range"]'
        )
        pd.testing.assert_frame_equal(predicted(started(production), market[PAIR]), answer)

    def test_infinite_value_is_missing_not_a_number_to_learn_from(self, production, market):
        strategy = started(production)
        frame = market[PAIR].copy()
        original = type(strategy).mlpipe_features

        def dividing_by_zero(self: Any, dataframe: pd.DataFrame, metadata: Any) -> pd.DataFrame:
            dataframe = original(self, dataframe, metadata)
            dataframe.loc[dataframe.index[-1], OWN_FEATURE] = np.inf
            return dataframe

        strategy.mlpipe_features = dividing_by_zero.__get__(strategy)
        out = predicted(strategy, frame)
        assert out["mlpipe_do_predict"].iloc[-1] == 0
        assert out["mlpipe_do_predict"].iloc[-2] == 1

    @pytest.mark.parametrize(
        "returned, said",
        [
            ("None", "must return the dataframe, found NoneType"),
            ("dataframe.dropna().iloc[5:]", "must keep every row"),
            ('dataframe.assign(**{"%-range": "wide"})', "could not convert"),
        ],
    )
    def test_method_that_returns_no_features_is_told_what_to_return(
        self, production, returned, said
    ):
        production.edit_strategy(
            "        return dataframe\n\n    def populate_entry",
            f"        return {returned}\n\n    def populate_entry",
        )
        with pytest.raises(StrategyError, match=f"mlpipe_features of MLStrategy failed.*{said}"):
            started(production)

    def test_method_cannot_change_the_candles_of_the_strategy(self, production, market):
        production.edit_strategy(
            "        return dataframe\n\n    def populate_entry",
            '        dataframe["close"] = 1.0\n        return dataframe\n\n    def populate_entry',
        )
        out = predicted(started(production), market[PAIR])
        pd.testing.assert_series_equal(out["close"], market[PAIR]["close"])


class TestRefusals:
    def test_model_of_another_timeframe_is_refused(self, production):
        production.edit_strategy('timeframe = "1h"', 'timeframe = "4h"')
        with pytest.raises(StrategyError, match="trained on 1h candles, the strategy uses 4h"):
            started(production)

    def test_nothing_in_production_says_what_to_do(self, trained):
        with pytest.raises(StrategyError, match=r"no production version.*[Pp]romote"):
            started(trained)

    def test_unknown_model_says_what_to_do(self, untrained):
        with pytest.raises(
            StrategyError, match=r"No registered model 'trend_classifier'.*[Tt]rain"
        ):
            started(untrained)

    def test_refusal_is_freqtrades_own_exception(self, trained):
        strategy = trained.strategy()
        with pytest.raises(OperationalException) as caught:
            strategy.bot_start()
        assert isinstance(caught.value, ServingError)

    def test_broken_block_is_refused_when_the_strategy_is_loaded(self, production):
        config = production.freqtrade_config()
        config["mlpipe"]["model"]["n_trial"] = 3
        from freqtrade.resolvers import StrategyResolver

        with pytest.raises(OperationalException, match="Did you mean 'n_trials'"):
            StrategyResolver.load_strategy(config)

    def test_no_password_of_ours_is_stored_with_freqtrades_result(self, production, tmp_path):
        from freqtrade.optimize.optimize_reports import store_backtest_results

        uri = "postgresql://ada:hunter2@127.0.0.1:9/mlflow"
        production.configure(registry={"tracking_uri": uri})
        config = production.freqtrade_config(runmode=RunMode.BACKTEST, exportdirectory=tmp_path)
        strategy = production.strategy(**config)
        stats = {"metadata": {}, "strategy": {}, "strategy_comparison": []}
        path = store_backtest_results(strategy.config, stats, "now")
        with ZipFile(path) as archive:
            stored = b"".join(archive.read(name) for name in archive.namelist())
        assert b"127.0.0.1:9/mlflow" in stored
        assert b"hunter2" not in stored
        assert strategy.config["mlpipe"]["registry"]["tracking_uri"] == uri

    def test_pinned_version_that_does_not_exist_names_those_that_do(self, production):
        production.configure(serving={"version": "9"})
        with pytest.raises(StrategyError, match=r"no version '9'.*1"):
            started(production)

    def test_pinned_version_needs_no_promotion(self, trained, market):
        trained.configure(serving={"version": "1"})
        assert (predicted(started(trained), market[PAIR])["mlpipe_do_predict"] == 1).any()

    @pytest.mark.parametrize("runmode", [RunMode.BACKTEST, RunMode.DRY_RUN])
    def test_without_a_model_no_entries_means_no_signals(self, trained, market, logged, runmode):
        trained.configure(serving={"on_missing": "no_entries"})
        strategy = started(trained, runmode=runmode)
        out = predicted(strategy, market[PAIR])
        assert (out["mlpipe_do_predict"] == 0).all()
        assert (out["mlpipe_version"] == "").all()
        out = strategy.populate_entry_trend(out, {"pair": PAIR})
        assert out.get("enter_long", pd.Series(0.0)).fillna(0).eq(0).all()
        assert any("No entries" in text for text in logged())

    def test_no_entries_does_not_hide_a_corrupt_model(self, production):
        production.configure(serving={"on_missing": "no_entries"})
        production.edit_strategy('(dataframe["high"] - dataframe["low"])', 'dataframe["high"]')
        with pytest.raises(StrategyError, match=OWN_FEATURE):
            started(production)


def flip_a_byte(folder: Path) -> None:
    path = next(folder.rglob("model.txt"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


class TestCorruptBundle:
    def cached(self, workspace: Workspace) -> Path:
        version = workspace.registry().get_version(MODEL_NAME, "1")
        return workspace.registry_directory / "cache" / version.digest

    def stored(self, workspace: Workspace) -> Path:
        return next((workspace.registry_directory / "artifacts").rglob("manifest.json")).parent

    def test_copy_that_rotted_is_set_aside_and_fetched_anew(self, production, answer, market):
        flip_a_byte(self.cached(production))
        pd.testing.assert_frame_equal(predicted(started(production), market[PAIR]), answer)
        cache = production.registry_directory / "cache"
        assert [path.name for path in cache.iterdir() if path.name.startswith(".corrupt-")]

    def test_missing_copy_is_fetched_anew(self, production, answer, market):
        import shutil

        shutil.rmtree(production.registry_directory / "cache")
        pd.testing.assert_frame_equal(predicted(started(production), market[PAIR]), answer)

    def test_bundle_that_is_corrupt_everywhere_is_refused(self, production):
        flip_a_byte(self.cached(production))
        flip_a_byte(self.stored(production))
        with pytest.raises(StrategyError, match=r"model\.txt differs from the manifest"):
            started(production)

    def test_corruption_in_the_store_does_not_matter_to_a_sound_copy(
        self, production, answer, market
    ):
        flip_a_byte(self.stored(production))
        pd.testing.assert_frame_equal(predicted(started(production), market[PAIR]), answer)


class TestBotSurvives:
    def break_features(self, strategy: Any) -> None:
        def broken(dataframe: pd.DataFrame, metadata: Any) -> pd.DataFrame:
            raise KeyError("no such column")

        strategy.mlpipe_features = broken

    def test_error_in_own_features_pauses_entries_and_is_told_once(
        self, production, market, logged
    ):
        strategy = started(production, **DRY_RUN)
        self.break_features(strategy)
        for _ in range(3):
            out = predicted(strategy, market[PAIR])
        assert (out["mlpipe_do_predict"] == 0).all()
        assert out["mlpipe_proba"].isna().all()
        warnings = [text for text in logged() if "no such column" in text]
        assert len(warnings) == 1
        assert warnings[0].startswith(f"{PAIR}: no predictions")

    def test_it_predicts_again_when_the_error_is_gone(self, production, market, answer):
        strategy = started(production, **DRY_RUN)
        working = strategy.mlpipe_features
        self.break_features(strategy)
        predicted(strategy, market[PAIR])
        strategy.mlpipe_features = working
        pd.testing.assert_frame_equal(predicted(strategy, market[PAIR]), answer)

    def test_same_error_stops_a_backtest(self, production, market):
        strategy = started(production)
        self.break_features(strategy)
        with pytest.raises(StrategyError, match=r"mlpipe_features.*no such column"):
            predicted(strategy, market[PAIR])

    def test_bad_candles_do_not_raise_in_a_bot(self, production, market):
        strategy = started(production, **DRY_RUN)
        frame = market[PAIR].tail(600).reset_index(drop=True)
        frame.loc[590, "close"] = np.nan
        assert (predicted(strategy, frame)["mlpipe_do_predict"] == 0).all()

    def test_error_pauses_whatever_had_been_answered(self, production, market):
        """Nothing half-written: a frame that cannot be predicted holds no probability at all."""
        strategy = started(production, **DRY_RUN)
        self.break_features(strategy)
        out = predicted(strategy, market[PAIR])
        assert out[["mlpipe_proba", "mlpipe_edge"]].isna().all().all()
        assert (out["mlpipe_signal"] == 0).all()

    @pytest.mark.parametrize("runmode", [RunMode.BACKTEST, RunMode.DRY_RUN])
    @pytest.mark.parametrize("n_candles", [0, 1, 50])
    def test_too_few_candles_are_no_predictions_not_an_error(
        self, production, market, logged, runmode, n_candles
    ):
        strategy = started(production, runmode=runmode)
        out = predicted(strategy, market[PAIR].head(n_candles))
        assert len(out) == n_candles
        assert (out["mlpipe_do_predict"] == 0).all()
        assert any(f"{n_candles} candles are fewer" in text for text in logged())

    def test_dry_run_asks_for_production_and_survives_its_registry(self, production, market):
        """The registry's files are gone after the start: the loaded model keeps answering."""
        import shutil

        strategy = started(production, **DRY_RUN)
        shutil.rmtree(production.registry_directory)
        assert (predicted(strategy, market[PAIR])["mlpipe_do_predict"] == 1).any()


class TestPickling:
    def test_worker_that_received_the_strategy_predicts_the_same(self, production, market, answer):
        sent = cloudpickle.dumps(started(production))
        received = cloudpickle.loads(sent)
        pd.testing.assert_frame_equal(predicted(received, market[PAIR]), answer)

    def test_model_itself_is_not_sent(self, production):
        sent = cloudpickle.dumps(started(production))
        assert b"tree_sizes" not in sent  # part of every LightGBM text
        assert cloudpickle.loads(sent)._mlpipe_served == {}

    def test_worker_serves_the_pinned_version_after_a_promotion(self, two_versions, market, answer):
        sent = cloudpickle.dumps(started(two_versions))
        assert two_versions.run("promote") == 0
        received = cloudpickle.loads(sent)
        assert set(predicted(received, market[PAIR])["mlpipe_version"]) == {"1"}


class TestBacktestCacheKey:
    def run_id(self, workspace: Workspace) -> str:
        from freqtrade.optimize.backtest_caching import get_strategy_run_id

        strategy = started(workspace)
        strategy._ft_params_from_file = {}
        return get_strategy_run_id(strategy)

    def test_another_production_model_is_another_backtest(self, two_versions):
        first = self.run_id(two_versions)
        assert self.run_id(two_versions) == first
        assert two_versions.run("promote") == 0
        second = self.run_id(two_versions)
        assert second != first
        assert two_versions.run("rollback") == 0
        assert self.run_id(two_versions) == first

    def test_key_is_the_digest_of_the_bundle(self, two_versions):
        for version in ("1", "2"):
            two_versions.configure(serving={"version": version})
            config = two_versions.strategy().config
            expected = two_versions.registry().get_version(MODEL_NAME, version).digest
            assert config["mlpipe_digest"] == expected

    def test_trading_bot_is_not_pinned(self, production):
        strategy = production.strategy(**DRY_RUN)
        assert "mlpipe_digest" not in strategy.config
        assert strategy.mlpipe.serving.version is None


class TestHorizon:
    def test_horizon_passes_after_that_many_candles(self, serving):
        opened = pd.Timestamp("2024-01-01", tz="UTC").to_pydatetime()
        horizon = serving.mlpipe.labels.horizon_candles
        at = [opened + pd.Timedelta(hours=horizon + hours) for hours in (-1, 0, 1)]
        assert [serving.mlpipe_horizon_passed(opened, now) for now in at] == [False, True, True]


def test_importing_the_mixin_loads_nothing_that_only_training_needs():
    code = (
        "import sys, freqtrade.strategy\n"  # itself imports optuna
        "before = set(sys.modules)\n"
        "import freqtrade_mlpipe.integration.strategy\n"
        "print(*set(sys.modules) - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "freqtrade_mlpipe.registry.bundle" in loaded
    training = {"trainer", "tuning", "tracking", "pipeline", "reports"}
    unwanted = {"mlflow", "optuna", "alembic", "wandb", "lightgbm", "xgboost", "sklearn", "skops"}
    assert not loaded & (unwanted | {f"freqtrade_mlpipe.{name}" for name in training})


def test_errors_of_the_package_never_reach_freqtrade_untranslated(trained):
    """A strategy that fails to start raises freqtrade's exceptions, which its console prints as one line."""
    with pytest.raises(OperationalException) as caught:
        trained.strategy().bot_start()
    assert not isinstance(caught.value, MLPipeError)
    assert isinstance(caught.value.__cause__, MLPipeError)
