"""A model of forward returns: trained, judged by squared error, promoted, traded by freqtrade's backtest."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from freqtrade_mlpipe.integration.backtest import run_backtest
from tests.conftest import MARKET, MODEL_NAME, Workspace

pytestmark = pytest.mark.e2e

PAIR = MARKET.pairs[0]


@pytest.fixture(scope="module")
def workspace(untrained_once: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    found = untrained_once.copy_to(tmp_path_factory.mktemp("returns") / "user_data")
    found.configure(
        labels={"kind": "forward_return", "horizon_candles": 12},
        gates={"max_baseline_p_value": 0.05},
    )
    assert found.run("train") == 0
    return found


@pytest.fixture(scope="module")
def strategy(workspace: Workspace) -> Any:
    assert workspace.run("validate") == 0
    assert workspace.run("promote", "--notes", "returns") == 0
    found = workspace.strategy()
    found.ft_bot_start()
    return found


def test_gates_compare_squared_errors(
    workspace: Workspace, capfd: pytest.CaptureFixture[str]
) -> None:
    assert workspace.run("validate", "--json") == 0
    checks = {check["name"]: check for check in json.loads(capfd.readouterr().out)["checks"]}
    for baseline in ("mean", "zero"):
        check = checks[f"beats {baseline}"]
        assert check["passed"]
        assert "squared error" in json.dumps(check)
    assert not {"beats class_prior", "beats last_value", "calibration error"} & set(checks)
    assert checks["self-test"]["passed"]


def test_listing_shows_what_a_regression_has(workspace: Workspace, capsys: Any) -> None:
    assert workspace.run("list-models") == 0
    shown = capsys.readouterr().out
    assert "RMSE" in shown
    assert "correlation" in shown
    assert "AUC" not in shown


def test_strategy_gets_predicted_returns(strategy: Any, market: dict[str, pd.DataFrame]) -> None:
    answer = strategy.populate_indicators(market[PAIR].copy(), {"pair": PAIR})
    usable = answer["mlpipe_do_predict"] == 1
    assert usable.sum() > 500
    assert answer.loc[usable, "mlpipe_prediction"].abs().between(1e-6, 0.2).mean() > 0.99
    assert answer["mlpipe_proba"].isna().all()
    assert answer.loc[~usable, "mlpipe_prediction"].isna().all()
    later = market[PAIR]["close"].shift(-12) / market[PAIR]["open"].shift(-1) - 1
    both = usable & later.notna()
    found = np.corrcoef(answer.loc[both, "mlpipe_prediction"], later[both])[0, 1]
    assert found > 0.1
    out = strategy.populate_entry_trend(answer.copy(), {"pair": PAIR})
    entered = out["enter_long"] == 1
    assert entered.any()
    assert (out.loc[entered, "mlpipe_signal"] == 1).all()


def test_freqtrade_trades_large_predictions(
    workspace: Workspace, strategy: Any, market: dict[str, pd.DataFrame]
) -> None:
    dates = market[PAIR]["date"]
    outcome = run_backtest(
        workspace.freqtrade_config(), pairs=list(MARKET.pairs), model_name=MODEL_NAME, version="1",
        start=dates.iloc[-700], end=dates.iloc[-1],
    )  # fmt: skip
    assert len(outcome.trades) >= 5
    answer = strategy.populate_indicators(market[PAIR].copy(), {"pair": PAIR})
    before = answer.set_index("date").shift(1)
    mine = outcome.trades[outcome.trades["pair"] == PAIR]
    assert (before.loc[pd.DatetimeIndex(mine["open_date"]), "mlpipe_edge"] >= 0).all()
