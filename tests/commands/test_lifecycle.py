"""`train`, `validate`, `promote`, `rollback` and what they refuse: exit code, message, and nothing changed."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from freqtrade_mlpipe.main import main
from tests.conftest import MODEL_NAME, Workspace

pytestmark = pytest.mark.e2e

PLAIN_STRATEGY = """
from freqtrade.strategy import IStrategy


class Plain(IStrategy):
    timeframe = "1h"
    minimal_roi = {"0": 1}
    stoploss = -0.1

    def populate_indicators(self, dataframe, metadata):
        return dataframe

    def populate_entry_trend(self, dataframe, metadata):
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        return dataframe
"""


def words(text: str) -> str:
    """The text without the line breaks of a narrow terminal."""
    return " ".join(text.split())


def registered(workspace: Workspace) -> dict[str, Any]:
    """Every row about models in the registry's database, and the digest of every file of every run."""
    database = workspace.registry_directory / "mlflow.db"
    rows: dict[str, Any] = {}
    if database.exists():
        with closing(sqlite3.connect(database)) as connection:
            tables = connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND "
                "(name LIKE 'registered_model%' OR name LIKE 'model_version%')"
            )
            for (table,) in tables.fetchall():
                content = connection.execute(f"SELECT * FROM {table}").fetchall()
                rows |= {f"{table} {row!r}": True for row in content}
    for path in (workspace.registry_directory / "artifacts").glob("*/artifacts/mlpipe/**/*"):
        if path.is_file():
            rows[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return rows


def versions(workspace: Workspace) -> dict[str, str]:
    return {v.version: str(v.status) for v in workspace.registry().get_all_versions(MODEL_NAME)}


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command that must fail; its message. Nothing that was registered may have changed."""

    def run(workspace: Workspace, *command: str, code: int = 2) -> str:
        before = registered(workspace)
        capsys.readouterr()
        assert workspace.run(*command) == code
        err = words(capsys.readouterr().err)
        assert err.startswith("Error: ")
        assert "Traceback" not in err
        assert registered(workspace) == before
        return err

    return run


class TestTrain:
    def test_trained_version_is_staged_and_the_next_step_is_named(self, trained, capsys):
        assert trained.run("train", "--random-state", "3") == 0
        out = words(capsys.readouterr().out)
        assert "validate --model-name trend_classifier --model-version 2" in out
        assert versions(trained) == {"2": "STAGED", "1": "STAGED"}

    def test_options_stand_for_keys_of_the_block(self, trained):
        options = ["--model-name", "other", "--model-type", "xgboost", "--random-state", "3"]
        trained.configure(model={"parameters": {}})
        assert trained.run("train", *options, "--pairs", "SYNB/USDT") == 0
        manifest = trained.registry().load_bundle("other", "1").manifest
        assert manifest.pairs == ("SYNB/USDT",)
        assert manifest.model_settings["model_type"] == "xgboost"
        assert manifest.model_settings["random_state"] == 3

    def test_timerange_bounds_what_is_learned(self, trained):
        assert trained.run("train", "--timerange", "20230110-20230420") == 0
        manifest = trained.registry().load_bundle(MODEL_NAME, "2").manifest
        assert pd.Timestamp(manifest.train_start) >= pd.Timestamp("2023-01-10", tz="UTC")
        assert pd.Timestamp(manifest.train_end) < pd.Timestamp("2023-04-20", tz="UTC")

    def test_missing_configuration_says_where_it_was_looked_for(
        self, tmp_path, monkeypatch, capsys
    ):
        monkeypatch.chdir(tmp_path)
        assert main(["train", "--userdir", "nowhere"]) == 2
        err = words(capsys.readouterr().err)
        assert "nowhere/config.json" in err
        assert "freqtrade-mlpipe init" in err
        assert not (tmp_path / "nowhere").exists()

    def test_missing_file_given_with_c_is_named(self, untrained, refused):
        assert "absent.json" in refused(untrained, "train", "-c", "absent.json")

    def test_configuration_that_is_no_json_is_refused(self, untrained, refused):
        untrained.config_file.write_text('{"mlpipe": ')
        assert "config" in refused(untrained, "train").lower()

    def test_unknown_key_names_the_nearest(self, untrained, refused):
        untrained.configure(model={"n_trails": 3})
        assert "Did you mean 'n_trials'" in refused(untrained, "train")

    def test_unknown_estimator_parameter_names_the_nearest(self, untrained, refused):
        untrained.configure(model={"parameters": {"num_leafs": 3}})
        assert "Did you mean 'num_leaves'" in refused(untrained, "train")

    def test_model_name_that_is_no_plain_name_is_refused(self, untrained, refused):
        assert "model_name" in refused(untrained, "train", "--model-name", "../escape")

    def test_unknown_strategy_is_named(self, untrained, refused):
        assert "Nowhere" in refused(untrained, "train", "--strategy", "Nowhere")

    def test_no_strategy_says_how_to_name_one(self, untrained, refused):
        config = json.loads(untrained.config_file.read_text())
        del config["strategy"]
        untrained.config_file.write_text(json.dumps(config))
        assert "--strategy" in refused(untrained, "train")

    def test_strategy_with_a_syntax_error_is_refused(self, untrained, refused):
        untrained.strategy_file.write_text("class MLStrategy(:\n")
        assert "MLStrategy" in refused(untrained, "train")

    def test_pair_without_candles_names_those_there_are(self, untrained, refused):
        message = refused(untrained, "train", "--pairs", "DOGE/USDT", "SYNA/USDT")
        assert "DOGE/USDT: no 1h candles" in message
        assert "SYNA/USDT, SYNB/USDT" in message

    def test_pattern_for_a_pair_is_refused(self, untrained, refused):
        assert ".*/USDT" in refused(untrained, "train", "--pairs", ".*/USDT")

    @pytest.mark.parametrize("timerange", ["yesterday", "20230301-20230101", "20230101-2023"])
    def test_impossible_timerange_is_named(self, untrained, refused, timerange):
        assert "timerange" in refused(untrained, "train", "--timerange", timerange).lower()

    def test_timerange_without_candles_names_the_span_of_the_file(self, untrained, refused):
        message = refused(untrained, "train", "--timerange", "20200101-20200301")
        assert "2023-01-01 00:00" in message

    @pytest.mark.parametrize("timeframe", ["7x", "soon"])
    def test_impossible_timeframe_is_named(self, untrained, refused, timeframe):
        assert timeframe in refused(untrained, "train", "--timeframe", timeframe)

    def test_timeframe_without_candles_says_how_to_get_them(self, untrained, refused):
        message = refused(untrained, "train", "--timeframe", "4h")
        assert "no 4h candles" in message

    def test_missing_data_directory_is_named_and_not_made(self, untrained, refused, tmp_path):
        missing = tmp_path / "nowhere" / "at" / "all"
        assert str(missing) in refused(untrained, "train", "--datadir", str(missing))
        assert not missing.parent.exists()

    def test_too_few_candles_say_how_many_are_needed(self, untrained, refused, market):
        untrained.store({pair: frame.head(100) for pair, frame in market.items()})
        message = refused(untrained, "train")
        assert "SYNA/USDT has 100" in message
        assert "need more than" in message

    def test_enough_for_features_but_not_for_folds_is_explained(self, untrained, refused, market):
        untrained.store({pair: frame.head(420) for pair, frame in market.items()})
        assert "candles" in refused(untrained, "train")

    def test_constant_prices_are_refused(self, untrained, refused, market):
        flat = {
            pair: frame.assign(open=5.0, high=5.0, low=5.0, close=5.0)
            for pair, frame in market.items()
        }
        untrained.store(flat)
        assert "class" in refused(untrained, "train")

    def test_bad_candles_of_several_pairs_are_one_message(self, untrained, refused, market):
        bad = {pair: frame.copy() for pair, frame in market.items()}
        bad["SYNA/USDT"].loc[7, "close"] = np.nan
        bad["SYNB/USDT"] = pd.concat([bad["SYNB/USDT"], bad["SYNB/USDT"].tail(1)])
        untrained.store(bad)
        message = refused(untrained, "train")
        assert "NaN or infinite close" in message
        assert "duplicated" in message

    def test_refused_training_leaves_an_existing_registry_as_it_was(
        self, production, refused, market
    ):
        production.store({pair: frame.head(100) for pair, frame in market.items()})
        refused(production, "train")
        assert versions(production) == {"1": "PRODUCTION"}

    def test_exception_in_the_users_features_names_them(self, untrained, capsys):
        untrained.edit_strategy('dataframe["high"] - dataframe["low"]', 'dataframe["hihg"]')
        assert untrained.run("train") == 2
        err = words(capsys.readouterr().err)
        assert "mlpipe_features" in err
        assert "hihg" in err


class TestValidate:
    def test_passed_version_names_the_next_step(self, trained, capsys):
        assert trained.run("validate") == 0
        assert "promote --model-name trend_classifier --model-version 1" in words(
            capsys.readouterr().out
        )
        assert trained.registry().get_version(MODEL_NAME, "1").report.passed

    @pytest.mark.parametrize(
        "options",
        [
            ["--min-metric", "f1=0.99"],
            ["--min-metric", "no_such_metric=0.1"],
            ["--min-backtest-sharpe", "1000"],
            ["--min-backtest-trades", "100000"],
            ["--max-drawdown", "0.0000001"],
        ],
        ids=lambda options: options[0] + options[1],
    )
    def test_refused_version_is_failed_and_exits_3(self, trained, capsys, options):
        assert trained.run("validate", *options) == 3
        assert "FAIL" in capsys.readouterr().out
        assert versions(trained) == {"1": "FAILED"}

    def test_minima_may_be_repeated(self, trained, capsys):
        assert (
            trained.run("validate", "--min-metric", "roc_auc=0.1", "--min-metric", "f1=0.99") == 3
        )
        out = capsys.readouterr().out
        assert "roc_auc" in out
        assert "f1" in out

    def test_refused_version_can_be_validated_again(self, trained):
        assert trained.run("validate", "--min-metric", "f1=0.99") == 3
        assert trained.run("validate") == 0
        assert trained.run("promote") == 0

    def test_strategy_that_does_not_use_the_mixin_can_be_trained_but_not_judged(
        self, untrained, refused
    ):
        (untrained.user_data / "strategies" / "plain.py").write_text(PLAIN_STRATEGY)
        assert untrained.run("train", "--strategy", "Plain") == 0
        message = refused(untrained, "validate", "--strategy", "Plain")
        assert "Strategy Plain cannot trade our model" in message
        assert "class Plain(MLPipeMixin, IStrategy)" in message

    def test_peeking_feature_is_refused(self, trained, capsys):
        """Trained and validated with the same strategy, one of whose features looks one candle ahead."""
        trained.edit_strategy(
            '(dataframe["high"] - dataframe["low"]) / dataframe["close"]',
            'dataframe["close"].shift(-1) / dataframe["close"]',
        )
        assert trained.run("train") == 0
        assert trained.run("validate") == 3
        out = words(capsys.readouterr().out)
        assert "%-range" in out
        assert "look ahead" in out
        assert versions(trained)["2"] == "FAILED"

    def test_strategy_that_changed_since_training_is_refused(self, trained, capsys):
        trained.edit_strategy('dataframe["high"] - dataframe["low"]', 'dataframe["high"]')
        assert trained.run("validate") in (2, 3)
        captured = capsys.readouterr()
        assert "%-range" in words(captured.err + captured.out)
        assert versions(trained)["1"] != "PRODUCTION"

    @pytest.mark.parametrize("version", ["9", "abc", "-1", "0", "1.0"])
    def test_unknown_version_names_those_there_are(self, trained, refused, version):
        message = refused(trained, "validate", f"--model-version={version}")
        assert f"no version '{version}'" in message
        assert "The newest are: 1" in message

    def test_unknown_model_names_those_there_are(self, trained, refused):
        message = refused(trained, "validate", "--model-name", "nobody")
        assert "No registered model 'nobody'" in message
        assert MODEL_NAME in message

    def test_corrupt_bundle_is_refused(self, trained, refused):
        for path in trained.registry_directory.rglob("model.txt"):
            path.write_bytes(path.read_bytes()[:-10])
        assert "differs from the manifest" in refused(trained, "validate")

    def test_window_whose_candles_are_gone_is_refused(self, trained, refused, market):
        trained.store({pair: frame.head(2_500) for pair, frame in market.items()})
        assert refused(trained, "validate")
        assert versions(trained) == {"1": "STAGED"}


class TestPromote:
    def test_unvalidated_version_is_refused_and_nothing_changes(self, trained, refused):
        assert "has not been validated" in refused(trained, "promote")
        assert trained.registry().get_production_model(MODEL_NAME) is None

    def test_failed_version_is_refused_and_the_reason_given(self, trained, refused):
        trained.run("validate", "--min-metric", "f1=0.99")
        assert "f1" in refused(trained, "promote", code=3)

    def test_refused_promotion_leaves_the_champion_in_place(self, production, refused):
        assert production.run("train", "--random-state", "9") == 0
        refused(production, "promote")
        assert versions(production) == {"2": "STAGED", "1": "PRODUCTION"}

    def test_force_needs_a_reason_and_records_it(self, trained, capsys):
        assert trained.run("promote", "--force-reason", "the desk wants it") == 0
        capsys.readouterr()
        assert trained.run("history", "--json") == 0
        (entry,) = json.loads(capsys.readouterr().out)
        assert entry["forced"] is True
        assert "the desk wants it" in json.dumps(entry)

    def test_empty_reason_is_no_reason(self, trained, refused):
        assert "Say why" in refused(trained, "promote", "--force-reason", "  ")
        assert trained.registry().get_production_model(MODEL_NAME) is None

    def test_unknown_version_names_those_there_are(self, trained, refused):
        assert "The newest are: 1" in refused(trained, "promote", "--model-version", "7")

    def test_promotion_replaces_the_champion_and_keeps_the_notes(self, two_versions, capsys):
        assert two_versions.run("promote", "--notes", "better [in spring]") == 0
        assert "version 2 is in production" in words(capsys.readouterr().out)
        assert versions(two_versions)["2"] == "PRODUCTION"
        assert "PRODUCTION" not in versions(two_versions)["1"]
        assert two_versions.run("history", "--json") == 0
        history = json.loads(capsys.readouterr().out)
        assert [entry["production"] for entry in history] == ["1", "2"]
        assert history[-1]["reason"] == "better [in spring]"
        assert two_versions.run("history") == 0
        assert "[in" in capsys.readouterr().out


class TestRollback:
    def test_nothing_to_go_back_to_is_refused(self, production, refused):
        assert "roll" in refused(production, "rollback").lower()
        assert versions(production) == {"1": "PRODUCTION"}

    def test_nothing_in_production_is_refused(self, trained, refused):
        refused(trained, "rollback")

    def test_unknown_model_is_refused_by_name(self, production, refused):
        assert "nobody" in refused(production, "rollback", "--model-name", "nobody")

    def test_version_that_never_was_in_production_is_refused(self, two_versions, refused):
        message = refused(two_versions, "rollback", "--model-version", "2")
        assert "Version 2 of trend_classifier never was in production" in message
        assert versions(two_versions)["1"] == "PRODUCTION"

    def test_previous_version_is_back_in_production(self, two_versions, capsys):
        assert two_versions.run("promote") == 0
        assert two_versions.run("rollback", "--notes", "drew down") == 0
        assert "version 1 is back in production" in words(capsys.readouterr().out)
        assert versions(two_versions)["1"] == "PRODUCTION"

    def test_named_version_is_back_in_production_not_the_previous_one(self, two_versions, capsys):
        registry = two_versions.registry()
        first = registry.get_version(MODEL_NAME, "1")
        registry.register_model(model_name=MODEL_NAME, model_path=first.model_path)
        for version in ("2", "3"):
            registry.promote_to_production(MODEL_NAME, version, force_reason="test")
        assert two_versions.run("rollback", "--model-version", "1") == 0
        assert "version 1 is back in production" in words(capsys.readouterr().out)
        assert versions(two_versions)["1"] == "PRODUCTION"


class TestStore:
    def test_damaged_files_are_found_before_anything_is_said_to_be_fine(
        self, production, refused, capsys
    ):
        for path in (production.registry_directory / "artifacts").rglob("model.txt"):
            path.write_bytes(path.read_bytes().replace(b"num_leaves=7", b"num_leaves=6"))
        said = "The stored files of version 1 of trend_classifier are damaged"
        for command in (["validate"], ["promote"], ["rollback", "--model-version", "1"]):
            assert said in refused(production, *command)
        assert production.run("doctor", "--json") == 0
        (problem,) = json.loads(capsys.readouterr().out)
        assert (problem["mendable"], problem["mended"]) == (True, False)
        assert production.run("doctor", "--all", "--yes") == 0
        assert production.run("promote") == 0

    def test_database_with_damaged_pages_is_named(self, production, capsys):
        database = production.registry_directory / "mlflow.db"
        data = bytearray(database.read_bytes())
        for page in range(4096, len(data), 4096):
            data[page : page + 60] = b"\xff" * 60
        database.write_bytes(data)
        for command in ("list-models", "promote", "doctor"):
            assert production.run(command) == 2
            err = words(capsys.readouterr().err)
            assert "mlflow.db" in err
            assert "backup" in err
            assert "Traceback" not in err

    def test_file_where_a_folder_should_be_is_named(self, production, capsys):
        """As good as a folder that cannot be written, which does not stop root."""
        cache = production.registry_directory / "cache"
        for path in (cache, production.registry_directory / "artifacts"):
            path.rename(path.with_name(f"{path.name}-kept"))
            path.write_text("")
            command = ["show-model"] if path == cache else ["doctor", "--yes"]
            assert production.run(*command) == 2
            err = words(capsys.readouterr().err)
            assert str(path) in err.replace(" ", "")
            assert "Traceback" not in err
            path.unlink()
            path.with_name(f"{path.name}-kept").rename(path)


class TestLooking:
    def test_listing_of_an_unknown_model_names_those_there_are(self, production, refused):
        assert MODEL_NAME in refused(production, "list-models", "--model-name", "nobody")

    def test_listing_shows_every_version_and_its_status(self, two_versions, capsys, monkeypatch):
        assert two_versions.run("list-models") == 0
        out = capsys.readouterr().out
        assert "PRODUC" in out

    def test_version_shown_by_default_is_the_newest(self, two_versions, capsys):
        assert two_versions.run("show-model", "--json") == 0
        assert json.loads(capsys.readouterr().out)["version"] == "2"

    def test_unvalidated_version_says_so(self, trained, capsys):
        assert trained.run("show-model") == 0
        assert "Not validated yet" in capsys.readouterr().out

    def test_model_registered_without_a_window_can_be_shown(self, trained, capsys, tmp_path):
        from freqtrade_mlpipe import ModelConfig, ModelTrainer
        from freqtrade_mlpipe.registry import save_model

        rng = np.random.default_rng(0)
        X = pd.DataFrame(rng.normal(size=(2_000, 3)), columns=["a", "b", "c"])
        y = (X["a"] + rng.normal(size=2_000) > 0).astype(float)
        config = ModelConfig(optimize_hyperparams=False, cv_folds=2)
        model, metrics = ModelTrainer(config).train(X, y, horizon_candles=1)
        trained.registry().register_model(
            model_name="plain", model_path=save_model(model, tmp_path / "model", X), metrics=metrics
        )
        assert trained.run("show-model", "--model-name", "plain") == 0
        assert "plain version 1" in capsys.readouterr().out

    @pytest.mark.parametrize("command", ["show-model", "history"])
    def test_unknown_model_names_those_there_are(self, production, refused, command):
        assert MODEL_NAME in refused(production, command, "--model-name", "nobody")

    def test_registry_that_is_no_database_is_refused(self, production, capsys):
        (production.registry_directory / "mlflow.db").write_text("not a database")
        assert production.run("list-models") == 2
        assert "not a SQLite database" in words(capsys.readouterr().err)


def test_logfile_takes_what_the_console_does_not_show(trained_once, tmp_path):
    """In a process of its own: freqtrade leaves logging alone where pytest runs."""
    path = tmp_path / "logs" / "run.log"
    command = [sys.executable, "-m", "freqtrade_mlpipe.main", "list-models", "--logfile", str(path)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTEST_VERSION"}
    done = subprocess.run(
        [*command, "--userdir", str(trained_once.user_data)],
        capture_output=True, text=True, env=environment, check=True,
    )  # fmt: skip
    assert "freqtrade.configuration" in path.read_text()
    assert MODEL_NAME[:8] in done.stdout
    assert "freqtrade.configuration" not in done.stdout


def test_registry_elsewhere_is_used(untrained, trained_once, tmp_path, capsys):
    elsewhere = Path(trained_once.copy_to(tmp_path / "other").registry_directory)
    untrained.configure(registry={"directory": str(elsewhere)})
    assert untrained.run("list-models", "--json") == 0
    assert [row["version"] for row in json.loads(capsys.readouterr().out)] == ["1"]
    assert untrained.registry().get_model_names() == []
