"""One model a pair, and when it is time to retrain."""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from freqtrade_mlpipe.commands.context import load_context
from freqtrade_mlpipe.commands.triggers import reason_to_retrain, worse_than_gates
from freqtrade_mlpipe.config import GateConfig
from freqtrade_mlpipe.main import main
from freqtrade_mlpipe.registry import BacktestSummary
from tests.conftest import MODEL_NAME, Workspace, write_candle_file

pytestmark = pytest.mark.e2e

SMALL = ("--spaces", "signal", "--min-trades", "1", "-j", "1", "--epochs", "2")
A, B = f"{MODEL_NAME}--SYNA_USDT", f"{MODEL_NAME}--SYNB_USDT"


def words(text: str) -> str:
    return " ".join(text.split())


class TestPerPair:
    def test_each_pair_is_retrained_and_promoted_on_its_own_and_failures_are_listed(
        self, untrained, market, capsys
    ):
        config = json.loads(untrained.config_file.read_text())
        config["exchange"]["pair_whitelist"] = ["NONE/USDT", "SYNA/USDT", "SYNB/USDT"]
        untrained.config_file.write_text(json.dumps(config))
        untrained.configure(scope="per_pair")
        assert untrained.run("retrain", *SMALL, "--promote", "--print-json") == 2
        found = {unit["model_name"]: unit for unit in json.loads(capsys.readouterr().out)["units"]}
        assert {name: unit["outcome"] for name, unit in found.items()} == {
            f"{MODEL_NAME}--NONE_USDT": "failed", A: "promoted", B: "promoted",
        }  # fmt: skip
        assert "no 1h candles" in found[f"{MODEL_NAME}--NONE_USDT"]["said"]
        registry = untrained.registry()
        for name, pair in ((A, "SYNA/USDT"), (B, "SYNB/USDT")):
            assert registry.get_production_model(name).version == "1"
            assert registry.load_bundle(name, "1").manifest.pairs == (pair,)

    def test_a_pair_that_is_refused_does_not_hold_the_others_up(self, untrained, market, capsys):
        """SYNB's candles are a coin's tosses."""
        noise = market["SYNB/USDT"].copy()
        steps = np.random.default_rng(1).normal(0, 0.002, len(noise))
        noise["close"] = 100 * np.exp(np.cumsum(steps))
        noise["open"] = noise["close"].shift(1, fill_value=100.0)
        noise["high"] = noise[["open", "close"]].max(axis=1) * 1.0005
        noise["low"] = noise[["open", "close"]].min(axis=1) * 0.9995
        write_candle_file(untrained.datadir, "SYNB/USDT", noise)
        untrained.configure(scope="per_pair", gates={"min_profit_factor": 1.2})
        assert untrained.run("retrain", *SMALL, "--promote") == 3
        out = words(capsys.readouterr().out)
        assert "promoted" in out
        assert "refused" in out
        assert untrained.registry().get_production_model(A).version == "1"
        assert untrained.registry().get_production_model(B) is None

    def test_train_makes_a_model_a_pair(self, untrained):
        untrained.configure(scope="per_pair")
        assert untrained.run("train") == 0
        assert sorted(untrained.registry().get_model_names()) == [A, B]


def set_age(workspace: Workspace, days: float) -> None:
    """When the registry says that its versions were made."""
    moment = datetime.now(UTC) - timedelta(days=days)
    with closing(sqlite3.connect(workspace.registry_directory / "mlflow.db")) as connection:
        connection.execute(
            "UPDATE model_versions SET creation_time = ?", (int(moment.timestamp() * 1000),)
        )
        connection.commit()


class TestTriggers:
    def test_a_young_champion_is_left_alone_and_an_old_one_is_not(self, production, capsys):
        assert production.run("retrain", *SMALL, "--if-older-than", "7d", "--print-json") == 0
        assert json.loads(capsys.readouterr().out) == {"retrained": False}
        set_age(production, days=8)
        assert production.run("retrain", *SMALL, "--if-older-than", "7d", "--print-json") == 0
        assert json.loads(capsys.readouterr().out)["retrained"]

    def test_nothing_in_production_is_a_reason(self, untrained, capsys):
        assert untrained.run("retrain", *SMALL, "--if-older-than", "7d", "--print-json") == 0
        assert json.loads(capsys.readouterr().out)["model_version"] == "1"

    def test_an_age_that_is_none_is_refused(self, untrained, capsys):
        assert untrained.run("retrain", *SMALL, "--if-older-than", "soon") == 2
        assert "such as 7d" in capsys.readouterr().err

    def test_a_champion_is_judged_on_candles_since_its_validation(self, production, market, capsys):
        """None have come: not worse. Then a market that falls without end: its drawdown is over the limit."""
        production.configure(gates={"max_drawdown": 0.05, "min_backtest_trades": 1})
        command = ("retrain", *SMALL, "--if-worse", "--print-json")
        assert production.run(*command) == 0
        assert not json.loads(capsys.readouterr().out)["retrained"]
        for pair, frame in market.items():
            write_candle_file(production.datadir, pair, falling(frame, n=500))
        production.run(*command)
        assert json.loads(capsys.readouterr().out)["retrained"]

    def test_an_alarm_of_the_drift_command_is_a_reason(self, production, monkeypatch):
        """Its module stands in for the command, which reads the journal of a bot."""
        context = load_context({"user_data_dir": str(production.user_data)}, backtest=True)
        drift = ModuleType("drift")
        monkeypatch.setitem(sys.modules, "freqtrade_mlpipe.commands.drift", drift)
        for alarm in (True, False):
            drift.drift_of_journal = lambda *_, a=alarm: (None, SimpleNamespace(alarm=a), "")
            assert bool(reason_to_retrain(context, {"if_drift": True})) == alarm

    def test_gates_that_are_all_off_cannot_tell(self, production, capsys):
        assert production.run("retrain", *SMALL, "--if-worse") == 2
        assert "all of them are off" in words(capsys.readouterr().err)

    @pytest.mark.parametrize(
        "gate, figure, limit, good, bad",
        [
            ("min_backtest_sharpe", "sharpe", 0.5, 0.5, 0.4),
            ("min_profit_factor", "profit_factor", 1.0, 1.0, 0.9),
            ("max_drawdown", "max_drawdown", 0.2, 0.2, 0.3),
        ],
    )
    def test_worse_is_what_a_gate_would_refuse(self, gate, figure, limit, good, bad):
        off = dict.fromkeys(("min_backtest_sharpe", "min_profit_factor", "max_drawdown"))
        gates = GateConfig(**{**off, gate: limit})
        for value, is_worse in ((good, False), (bad, True), (float("nan"), True)):
            found = summary(**{figure: value})
            assert bool(worse_than_gates(found, gates)) == is_worse


def summary(**changes: float) -> BacktestSummary:
    start = pd.Timestamp("2024-01-01", tz="UTC")
    values = dict.fromkeys(
        ("sharpe", "sortino", "calmar", "max_drawdown", "profit_factor", "profit_total",
         "market_change"), 1.0,
    )  # fmt: skip
    return BacktestSummary(**{**values, "n_trades": 30, "start": start, "end": start, **changes})


def falling(frame: pd.DataFrame, n: int) -> pd.DataFrame:
    """The candles of the end once more, on a steep way down."""
    later = frame.tail(n).copy()
    later["date"] = later["date"] + n * pd.Timedelta("1h")
    slope = np.exp(-0.004 * np.arange(n))
    for column in ("open", "high", "low", "close"):
        later[column] = later[column] * slope
    return pd.concat([frame, later], ignore_index=True)


class TestSchedule:
    def test_lines_hold_the_checked_command(self, production, capsys):
        config = str(production.config_file)
        words_given = ["--at", "04:15", "-c", config, "--if-older-than", "7d", "--promote"]
        assert main(["schedule", *words_given]) == 0
        out = capsys.readouterr().out
        assert f"retrain -c {config} --if-older-than 7d --promote" in out
        assert "15 4 * * *" in out
        assert "OnCalendar=*-*-* 04:15:00" in out

    def test_an_option_that_retrain_does_not_have_is_refused(self, capsys):
        assert main(["schedule", "--promot", "--if-order-than", "7d"]) == 2
        assert "unrecognized arguments" in capsys.readouterr().err
