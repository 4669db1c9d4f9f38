"""`drift`, `shadow-report` and `parity` on the journal of a bot, with a real bundle and real candle files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from freqtrade_mlpipe.commands.context import Context
from freqtrade_mlpipe.commands.live import of_own_pair
from freqtrade_mlpipe.config import MLPipeConfig
from freqtrade_mlpipe.monitoring.journal import LiveJournal, LivePrediction
from tests.conftest import Workspace

FEATURES = "features"


@pytest.fixture(scope="module")
def spoken(production_once: Workspace, market) -> list[LivePrediction]:
    """What the strategy itself says of the candles after the training, as a bot would have journalled it."""
    strategy = production_once.strategy()
    strategy.bot_start()
    served = strategy._current("SYNA/USDT")
    kept = list(served.bundle.members[-1].preprocessor.kept_columns)
    start = pd.Timestamp(served.bundle.manifest.final_window_start)
    rows = []
    for pair, candles in market.items():
        frame = candles.reset_index(drop=True)
        features = strategy.mlpipe_compute(frame.copy(), {"pair": pair})[kept].to_numpy(np.float32)
        said = strategy.mlpipe_predict(frame.copy(), {"pair": pair})
        for k in np.flatnonzero(frame["date"] >= start):
            row = said.iloc[k]
            rows.append(
                LivePrediction(
                    pair=pair, date=row["date"], version="1", digest=served.resolved.digest, role="production",
                    proba=row["mlpipe_proba"], edge=row["mlpipe_edge"], signal=int(row["mlpipe_signal"]),
                    do_predict=int(row["mlpipe_do_predict"]), latency_ms=0.3, close=row["close"],
                    features=tuple(features[k].tolist()),
                )
            )  # fmt: skip
    return rows


def journal(workspace: Workspace, rows) -> Path:
    made = LiveJournal(workspace.registry_directory / "live" / "freqtrade.sqlite")
    made.record(list(rows))
    assert made.flush()
    made.close()
    return made.path


def run_json(workspace: Workspace, capsys, *words: str) -> tuple[int, dict]:
    capsys.readouterr()
    code = workspace.run(*words, "--json")
    return code, json.loads(capsys.readouterr().out)


def test_parity_agrees_with_the_strategy_and_shows_what_was_changed(production, spoken, capsys):
    path = journal(production, spoken)
    code, found = run_json(production, capsys, "parity")
    assert (code, found["mismatches"]) == (0, [])
    assert found["n_compared"] == len(spoken)
    path.unlink()
    wrong = replace(spoken[5], proba=spoken[5].proba + 1e-5)
    journal(production, [*spoken[:5], wrong, *spoken[7:]])
    code, found = run_json(production, capsys, "parity")
    assert code == 3
    assert [m["date"] for m in found["mismatches"]] == [wrong.date.isoformat()]
    assert [m["date"] for m in found["missing"]] == [spoken[6].date.isoformat()]
    assert production.run("parity") == 3
    assert "1 of" in capsys.readouterr().out


def test_parity_says_when_candles_are_not_downloaded(production, spoken, market, capsys):
    journal(production, spoken)
    production.store({pair: frame.iloc[:-100] for pair, frame in market.items()})
    code, found = run_json(production, capsys, "parity")
    assert code == 0
    assert found["n_unchecked"] == 200
    assert "not downloaded yet" in " ".join(found["notes"])
    for file in production.datadir.glob("*.feather"):
        file.unlink()
    assert production.run("parity") == 2
    assert "download-data" in capsys.readouterr().err


def test_drift_of_a_journal_is_quiet_until_its_features_move(production, spoken, capsys):
    path = journal(production, spoken)
    code, found = run_json(production, capsys, "drift")
    assert code == 0, found["sentence"]
    readings = {r["check"]: r for r in found["looks"][-1]["readings"]}
    assert readings["feature drift (PSI)"]["state"] == "ok"
    assert readings["loss"]["state"] == "off", "a few hundred candles out of sample are no month"
    assert "too short" in readings["loss"]["sentence"]
    path.unlink()
    half = spoken[len(spoken) // 4].date
    moved = [
        row
        if row.date < half
        else replace(row, features=tuple(5 * x + 1 for x in row.features or ()))
        for row in spoken
    ]
    journal(production, moved)
    code, found = run_json(production, capsys, "drift", "--live")
    assert code == 3
    assert found["alarm"] == [FEATURES]
    assert production.run("drift") == 3
    assert "Drift since" in capsys.readouterr().out


def test_drift_of_candles_looks_at_the_production_version(production, capsys):
    code, found = run_json(production, capsys, "drift", "--timerange", "20230101-")
    assert code == 0, found["sentence"]
    assert found["version"] == "1"
    assert len(found["looks"]) > 20


def test_shadow_report_compares_what_both_predicted(production, spoken, capsys):
    worse = [
        replace(row, role="challenger", version="2", digest="e" * 64, proba=1 - row.proba)
        for row in spoken
    ]
    journal(production, [*spoken, *worse])
    code, found = run_json(production, capsys, "shadow-report")
    assert code == 0
    assert found["n_common"] == len(spoken)
    assert found["challenger"]["loss"] > found["production"]["loss"]
    assert production.run("shadow-report") == 0
    assert "hallenger 2" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["drift", "parity", "shadow-report"])
def test_no_journal_is_the_users_to_mend(production, command, capsys):
    assert production.run(command) == 2
    assert "No live predictions" in capsys.readouterr().err


def test_drift_of_both_at_once_is_refused(production, capsys):
    assert production.run("drift", "--live", "--timerange", "20230101-") == 2
    assert "Choose one" in capsys.readouterr().err


def test_rows_of_a_pairs_own_model_are_told_from_the_others():
    rows = pd.DataFrame({"pair": ["BTC/USDT", "BTC/USDT:USDT", "BTC/USDT"]})
    for name, expected in (
        ("trend--BTC_USDT", [0, 2]),
        ("trend--BTC_USDT-USDT", [1]),
        ("trend", [0, 1, 2]),
    ):
        found = of_own_pair(Context({}, MLPipeConfig(model_name=name)), rows)
        assert list(found.index) == expected
