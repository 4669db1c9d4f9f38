"""Epochs through freqtrade's own Backtesting: the trades are those of the registered model."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from freqtrade.exceptions import FreqtradeException

from freqtrade_mlpipe.commands.workshop import Workshop, open_workshop
from freqtrade_mlpipe.integration.backtest import run_backtest
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
    judgement = workshop.objective.judge(workshop.rehearsal.rehearse(workshop.context.mlpipe))
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
    horizon = pd.Timedelta("1h") * workshop.context.mlpipe.labels.horizon_candles
    early = backtest.trades[backtest.trades["close_date"] < end - 2 * horizon]
    assert len(early) > 10
    again = workshop.objective.judge(workshop.rehearsal.rehearse(workshop.context.mlpipe))
    assert again.metrics["profit_total_abs"] == judgement.metrics["profit_total_abs"]
    assert judgement.loss == -judgement.metrics["total_trades"]


def test_each_trade_is_one_of_the_backtest(forest):
    workspace, workshop = forest
    stage = workshop.objective._stage
    content, _, _ = stage.run(workshop.rehearsal.rehearse(workshop.context.mlpipe))
    ours = content["results"]
    backtest = run_backtest(
        workspace.freqtrade_config(), pairs=["SYNA/USDT", "SYNB/USDT"], model_name=MODEL_NAME,
        version="1", start=workshop.rehearsal.judged_from(workshop.context.mlpipe.model),
        end=workshop.window - pd.Timedelta("1h"),
    )  # fmt: skip
    columns = ["pair", "open_date", "open_rate", "close_date", "close_rate", "exit_reason"]
    last = workshop.window - 3 * pd.Timedelta("24h")
    mine, theirs = (
        frame.loc[frame["close_date"] < last, columns]
        .sort_values(["open_date", "pair"])
        .reset_index(drop=True)
        for frame in (ours, backtest.trades)
    )
    assert len(mine) > 10
    pd.testing.assert_frame_equal(mine, theirs)


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
