"""freqtrade's Backtesting for one pinned version: the figures are its own, and nothing is left behind."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from freqtrade_mlpipe.exceptions import DataError
from freqtrade_mlpipe.integration.backtest import BacktestOutcome, run_backtest
from tests.conftest import MODEL_NAME, Workspace

pytestmark = pytest.mark.e2e

PAIRS = ["SYNA/USDT", "SYNB/USDT"]
START = pd.Timestamp("2023-05-02", tz="UTC")


def backtest(workspace: Workspace, **changes: object) -> BacktestOutcome:
    settings = {"pairs": PAIRS, "model_name": MODEL_NAME, "version": "1", "start": START, **changes}
    return run_backtest(workspace.freqtrade_config(), **settings)


def files_of(workspace: Workspace) -> set[Path]:
    found = (path.relative_to(workspace.user_data) for path in workspace.user_data.rglob("*"))
    return {path for path in found if path.parts[0] not in ("mlpipe", "strategies")}


@pytest.fixture(scope="module")
def outcome(production_once: Workspace) -> BacktestOutcome:
    return backtest(production_once)


def test_figures_are_those_of_the_trades(outcome):
    trades, summary = outcome.trades, outcome.summary
    assert summary.n_trades == len(trades) > 0
    won = trades.loc[trades["profit_abs"] > 0, "profit_abs"].sum()
    lost = -trades.loc[trades["profit_abs"] < 0, "profit_abs"].sum()
    assert summary.profit_factor == pytest.approx(won / lost, rel=1e-6)
    assert summary.profit_total == pytest.approx(trades["profit_abs"].sum() / 1_000)


def test_account_starts_at_one_and_ends_with_the_profit(outcome):
    assert outcome.equity.iloc[0] == 1
    assert outcome.equity.iloc[-1] == pytest.approx(1 + outcome.summary.profit_total)
    assert outcome.equity.index.is_monotonic_increasing


def test_trades_begin_within_the_window(outcome):
    assert (outcome.trades["open_date"] >= START).all()
    assert outcome.summary.start >= START
    assert outcome.market.index.min() >= START
    assert outcome.market.iloc[0] == 1


def test_end_of_the_window_is_kept(production_once):
    end = START + pd.Timedelta("10D")
    found = backtest(production_once, end=end)
    assert found.summary.end <= end
    assert (found.trades["close_date"] <= end).all()


def test_every_pair_asked_for_is_reported_and_no_other(production_once):
    found = backtest(production_once, pairs=["SYNB/USDT"])
    assert [row["key"] for row in found.pairs] == ["SYNB/USDT"]
    assert set(found.trades["pair"]) <= {"SYNB/USDT"}


def test_nothing_is_written_and_the_configuration_is_not_changed(production):
    config = production.freqtrade_config()
    kept = {**config, "mlpipe": {**config["mlpipe"]}, "exchange": {**config["exchange"]}}
    before = files_of(production)
    run_backtest(config, pairs=PAIRS[:1], model_name=MODEL_NAME, version="1", start=START)
    assert files_of(production) == before
    assert config == kept
    assert config["mlpipe"].get("serving", {}).get("version") is None


def test_version_that_is_not_in_production_can_be_backtested(two_versions_once):
    first, second = (backtest(two_versions_once, version=number) for number in ("1", "2"))
    assert (
        not first.trades["open_date"]
        .reset_index(drop=True)
        .equals(second.trades["open_date"].reset_index(drop=True))
    )


def test_same_version_twice_gives_the_same_trades(production_once, outcome):
    pd.testing.assert_frame_equal(backtest(production_once).trades, outcome.trades)


def test_window_without_candles_is_an_error_that_says_so(production_once):
    with pytest.raises(DataError, match="version 1 could not run"):
        backtest(production_once, start=pd.Timestamp("2030-01-01", tz="UTC"))


def test_unknown_version_is_an_error_that_says_so(production_once):
    with pytest.raises(DataError, match="no version '9'"):
        backtest(production_once, version="9")


def test_strategy_that_never_enters_has_no_trades_and_a_flat_account(production):
    production.edit_strategy("default=0.0, decimals=3", "default=0.10, decimals=3")
    production.edit_strategy(
        'dataframe["mlpipe_edge"] >= self', 'dataframe["mlpipe_edge"] >= 9 + self'
    )
    found = backtest(production)
    assert found.summary.n_trades == 0
    assert len(found.trades) == 0
    assert (found.equity == 1).all()
