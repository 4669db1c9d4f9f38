"""Epochs through freqtrade's own Backtesting: the trades are those of the registered model."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pandas as pd
import pytest
from freqtrade.exceptions import FreqtradeException
from freqtrade.optimize.backtesting import Backtesting

from freqtrade_mlpipe.commands.workshop import Workshop, open_workshop
from freqtrade_mlpipe.integration.backtest import run_backtest
from freqtrade_mlpipe.integration.lean_backtesting import LeanBacktesting
from freqtrade_mlpipe.integration.rehearsal import _Stage
from freqtrade_mlpipe.retraining import MAX_LOSS
from freqtrade_mlpipe.retraining.units import Unit
from tests.conftest import MODEL_NAME, Workspace

pytestmark = pytest.mark.e2e

FOREST = {"model_type": "random_forest", "parameters": {"n_estimators": 10}, "cv_folds": 2,
          "optimize_hyperparams": False}  # fmt: skip
OWN_LOSS = """
from freqtrade.optimize.hyperopt import IHyperOptLoss


class CountTrades(IHyperOptLoss):
    @staticmethod
    def hyperopt_loss_function(*, results, trade_count, processed, backtest_stats, **kwargs):
        assert len(results) == trade_count == backtest_stats["total_trades"]
        assert set(processed) == {"SYNA/USDT", "SYNB/USDT"}
        return -trade_count
"""
WATCHING = """
from freqtrade.strategy import IStrategy
from freqtrade_mlpipe import MLPipeMixin


class Watching(MLPipeMixin, IStrategy):
    timeframe = "1h"
    minimal_roi = {"0": 0.012}
    stoploss = -0.02
    use_custom_stoploss = True
    startup_candle_count = 30
    seen = []

    def populate_entry_trend(self, dataframe, metadata):
        dataframe.loc[dataframe["mlpipe_edge"] >= 0, "enter_long"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        dataframe.loc[dataframe["mlpipe_edge"] < -0.2, "exit_long"] = 1
        return dataframe

    def custom_exit(self, pair, trade, current_time, current_rate, current_profit, **kwargs):
        candles = [self.dp.get_analyzed_dataframe(p, "1h")[0] for p in ("SYNA/USDT", "SYNB/USDT")]
        self.seen.append((pair, current_time, current_profit, trade.open_date_utc, trade.nr_of_successful_entries,
                          *(frame["date"].iloc[-1] for frame in candles)))
        assert all(order._trade_bt is trade for order in trade.orders)
        trade.stake_amount = 0.0
        trade.orders.clear()
        return "held" if self.mlpipe_horizon_passed(trade.open_date_utc, current_time) else None

    def custom_stoploss(self, pair, trade, current_time, current_rate, current_profit, after_fill, **kwargs):
        trade.open_rate = 1.0
        return -0.008 if len(trade.orders) == 1 and current_profit > 0.004 else -0.02
"""


def workshop_of(workspace: Workspace, **options: Any) -> Workshop:
    arguments = {
        "user_data_dir": str(workspace.user_data), "config": [str(workspace.config_file)],
        "hyperopt_min_trades": 1, "metric": "sharpe", "retrain_spaces": ["signal"], **options,
    }  # fmt: skip
    return open_workshop(arguments, Unit(MODEL_NAME, ("SYNA/USDT", "SYNB/USDT")))


@pytest.fixture(scope="module")
def forest(
    untrained_once: Workspace, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Workspace, Workshop]:
    """A registered forest, and the workshop that would rehearse it; a forest does not stop early: the fits are one."""
    workspace = untrained_once.copy_to(tmp_path_factory.mktemp("forest") / "user_data")
    workspace.configure(model=FOREST)
    (workspace.user_data / "hyperopts").mkdir(exist_ok=True)
    (workspace.user_data / "hyperopts" / "own.py").write_text(OWN_LOSS)
    assert workspace.run("train") == 0
    return workspace, workshop_of(workspace, hyperopt_loss="CountTrades")


def test_trades_are_those_of_a_backtest_of_the_registered_version(forest):
    workspace, workshop = forest
    rehearsed = workshop.rehearsal.rehearse(workshop.context.mlpipe)
    judgement = workshop.objective.judge(rehearsed)
    content, _, figures = workshop.objective._stage.run(rehearsed)
    start = workshop.rehearsal.judged_from(workshop.context.mlpipe.model)
    end = workshop.window - pd.Timedelta("1h")
    backtest = run_backtest(
        workspace.freqtrade_config(), pairs=["SYNA/USDT", "SYNB/USDT"], model_name=MODEL_NAME,
        version="1", start=start, end=end,
    )  # fmt: skip
    (stats,) = backtest.results["strategy"].values()
    # The members also answer the last candles, whose labels are known too late to be learned from or rehearsed.
    assert judgement.metrics["backtest_start"] == stats["backtest_start"]
    assert judgement.metrics["backtest_end"] == stats["backtest_end"]
    assert stats["total_trades"] >= judgement.metrics["total_trades"] > 10
    assert judgement.loss == -judgement.metrics["total_trades"]
    assert figures["profit_total_abs"] == judgement.metrics["profit_total_abs"]  # a second run
    columns = ["pair", "open_date", "open_rate", "close_date", "close_rate", "exit_reason"]
    last = workshop.window - 3 * pd.Timedelta("24h")
    mine, theirs = (
        frame.loc[frame["close_date"] < last, columns]
        .sort_values(["open_date", "pair"])
        .reset_index(drop=True)
        for frame in (content["results"], backtest.trades)
    )
    assert len(mine) > 10
    pd.testing.assert_frame_equal(mine, theirs)


@pytest.mark.parametrize("in_each_round", ["", "    def bot_loop_start(self, **kwargs): pass\n"])
def test_what_is_skipped_changes_no_trade_and_nothing_that_a_strategy_sees(forest, in_each_round):
    """For a strategy that looks at other pairs and at orders, and spoils its copy of the trade."""
    workspace, workshop = forest
    (workspace.user_data / "strategies" / "Watching.py").write_text(WATCHING + in_each_round)
    rehearsed = workshop.rehearsal.rehearse(workshop.context.mlpipe)
    found = []
    for kind in (LeanBacktesting, Backtesting):
        settings = deepcopy(workshop.objective._settings)
        settings |= {"strategy": "Watching", "max_open_trades": 1, "minimal_roi": {"0": 0.012}}
        stage = _Stage(settings, kind)
        stage.strategy.seen.clear()
        content, _, stats = stage.run(rehearsed)
        if kind is LeanBacktesting:
            assert stage.backtesting._skips == (not in_each_round)
        found.append((content, stats, list(stage.strategy.seen)))
    (lean, lean_stats, lean_seen), (own, own_stats, own_seen) = found
    assert own["rejected_signals"] == lean["rejected_signals"] > 0
    pd.testing.assert_frame_equal(lean["results"], own["results"])
    assert len(own["results"]["exit_reason"].unique()) >= 3
    assert lean_seen == own_seen
    times = {"backtest_run_start_ts", "backtest_run_end_ts", "wallet_stats"}
    lean_stats, own_stats = (
        {k: v for k, v in s.items() if k not in times} for s in (lean_stats, own_stats)
    )
    assert repr(lean_stats) == repr(own_stats)


def test_fewer_trades_than_asked_for_are_a_bad_epoch(forest):
    workspace, workshop = forest
    strict = workshop_of(workspace, hyperopt_loss="CountTrades", hyperopt_min_trades=10_000)
    judgement = strict.objective.judge(workshop.rehearsal.rehearse(workshop.context.mlpipe))
    assert judgement.loss == MAX_LOSS


def test_thresholds_of_an_epoch_change_what_is_traded(forest):
    _, workshop = forest
    config = workshop.context.mlpipe
    bold = config.model.model_copy(update={"threshold_caution": 0.0, "threshold_max_share": 1.0})
    settings = (config, config.model_copy(update={"model": bold}))
    judged = [workshop.objective.judge(workshop.rehearsal.rehearse(each)) for each in settings]
    assert judged[1].metrics["total_trades"] > judged[0].metrics["total_trades"]


def test_an_unknown_loss_is_named_before_work_starts(forest):
    workspace, _ = forest
    workshop = workshop_of(workspace, hyperopt_loss="NoSuchLoss")
    with pytest.raises(FreqtradeException, match="NoSuchLoss"):
        workshop.check()
