"""A model of three classes on perpetual futures: trained, promoted, traded both ways by freqtrade's backtest."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from freqtrade.exchange import Exchange

from freqtrade_mlpipe.integration.backtest import BacktestOutcome, run_backtest
from freqtrade_mlpipe.synthetic import Market, generate_market
from tests.conftest import MODEL_NAME, Workspace, make_workspace

pytestmark = pytest.mark.e2e

PAIRS = ("SYNA/USDT:USDT", "SYNB/USDT:USDT")
MARK, FUNDING = (
    Exchange._ft_has_default[f"{kind}_timeframe"] for kind in ("mark_ohlcv", "funding_fee")
)


@pytest.fixture(scope="module")
def futures_market() -> dict[str, pd.DataFrame]:
    return generate_market(Market(pairs=PAIRS, n_candles=3_500, signal=3.0, seed=42))


def store_futures(workspace: Workspace, candles: dict[str, pd.DataFrame]) -> None:
    """Candles with their mark prices and a funding rate of 0.01 % every eight hours."""
    directory = workspace.datadir / "futures"
    directory.mkdir(parents=True)
    for pair, frame in candles.items():
        name = pair.replace("/", "_").replace(":", "_")
        frame = frame.reset_index(drop=True)
        frame.to_feather(directory / f"{name}-1h-futures.feather")
        frame.assign(volume=0.0).to_feather(directory / f"{name}-{MARK}-mark.feather")
        dates = frame["date"][frame["date"].dt.hour % 8 == 0].reset_index(drop=True)
        rates = pd.DataFrame({"date": dates, "open": 0.0001})
        rates[["high", "low", "close", "volume"]] = 0.0
        rates.to_feather(directory / f"{name}-{FUNDING}-funding_rate.feather")


@pytest.fixture(scope="module")
def futures(
    futures_market: dict[str, pd.DataFrame], tmp_path_factory: pytest.TempPathFactory
) -> Workspace:
    """A user directory whose production model has three classes."""
    workspace = make_workspace(tmp_path_factory.mktemp("futures") / "user_data", futures_market)
    for file in workspace.datadir.glob("*.feather"):
        file.unlink()
    store_futures(workspace, futures_market)
    config = json.loads(workspace.config_file.read_text())
    config |= {"trading_mode": "futures", "margin_mode": "isolated"}
    workspace.config_file.write_text(json.dumps(config))
    workspace.configure(labels={"kind": "threshold", "classes": 3, "horizon_candles": 12})
    assert workspace.run("train") == 0
    assert workspace.run("validate") == 0
    assert workspace.run("promote", "--notes", "both sides") == 0
    return workspace


@pytest.fixture(scope="module")
def strategy(futures: Workspace) -> Any:
    found = futures.strategy()
    found.ft_bot_start()
    return found


@pytest.fixture(scope="module")
def answer(strategy: Any, futures_market: dict[str, pd.DataFrame]) -> pd.DataFrame:
    return strategy.populate_indicators(futures_market[PAIRS[0]].copy(), {"pair": PAIRS[0]})


@pytest.fixture(scope="module")
def backtest(futures: Workspace, futures_market: dict[str, pd.DataFrame]) -> BacktestOutcome:
    dates = futures_market[PAIRS[0]]["date"]
    return run_backtest(
        futures.freqtrade_config(), pairs=PAIRS, model_name=MODEL_NAME, version="1",
        start=dates.iloc[-700], end=dates.iloc[-1],
    )  # fmt: skip


def test_both_sides_are_predicted_honestly(answer: pd.DataFrame, futures: Workspace) -> None:
    usable = answer["mlpipe_do_predict"] == 1
    sides = answer.loc[usable, ["mlpipe_proba_short", "mlpipe_proba_flat", "mlpipe_proba"]]
    np.testing.assert_allclose(sides.sum(axis=1), 1.0, rtol=1e-9)
    assert answer.loc[~usable, sides.columns].isna().all().all()
    assert set(answer.loc[usable, "mlpipe_signal"]) == {-1, 0, 1}
    bundle = futures.registry().load_bundle(MODEL_NAME, "1")
    for member in bundle.members:
        spoken = answer["date"] >= member.valid_from
        if member.valid_to is not None:
            spoken &= answer["date"] < member.valid_to
        assert (answer.loc[spoken, "date"] > member.train_end).all()
        np.testing.assert_allclose(
            answer.loc[spoken & usable, "mlpipe_edge_short"],
            answer.loc[spoken & usable, "mlpipe_proba_short"] - member.thresholds.short,
        )


def test_strategy_never_asks_for_both_sides_at_once(strategy: Any, answer: pd.DataFrame) -> None:
    assert strategy.can_short
    out = strategy.populate_entry_trend(answer.copy(), {"pair": PAIRS[0]})
    long, short = out["enter_long"] == 1, out["enter_short"] == 1
    assert long.any()
    assert short.any()
    assert not (long & short).any()
    assert (out.loc[long | short, "mlpipe_do_predict"] == 1).all()
    assert (out.loc[short, "mlpipe_edge_short"] >= 0).all()
    assert (out.loc[short, "mlpipe_edge_short"] > out.loc[short, "mlpipe_edge"]).all()


def test_freqtrade_goes_short_and_long_on_the_model_s_word(
    backtest: BacktestOutcome, strategy: Any, futures_market: dict[str, pd.DataFrame]
) -> None:
    trades = backtest.trades
    shorts = trades[trades["is_short"].astype(bool)]
    assert len(shorts) >= 10
    assert len(trades) - len(shorts) >= 10
    for pair in PAIRS:
        candles = strategy.populate_indicators(futures_market[pair].copy(), {"pair": pair})
        before = candles.set_index("date").shift(1)
        for side, edge in ((True, "mlpipe_edge_short"), (False, "mlpipe_edge")):
            mine = trades[(trades["pair"] == pair) & (trades["is_short"].astype(bool) == side)]
            assert (before.loc[pd.DatetimeIndex(mine["open_date"]), edge] >= 0).all()


def test_planted_falls_earn_money(backtest: BacktestOutcome) -> None:
    shorts = backtest.trades[backtest.trades["is_short"].astype(bool)]
    assert shorts["profit_abs"].sum() > 0


def test_the_same_model_is_long_only_on_spot(futures: Workspace) -> None:
    assert not futures.strategy(trading_mode="spot").can_short


def test_columns_of_both_sides_are_there_without_a_model(
    futures: Workspace, futures_market: dict[str, pd.DataFrame], tmp_path_factory
) -> None:
    empty = futures.copy_to(tmp_path_factory.mktemp("empty") / "user_data")
    empty.configure(model_name="nothing_here", serving={"on_missing": "no_entries"})
    strategy = empty.strategy()
    strategy.ft_bot_start()
    candles = futures_market[PAIRS[0]]
    found = strategy.populate_indicators(candles.copy(), {"pair": PAIRS[0]})
    assert (
        found[["mlpipe_proba_short", "mlpipe_proba_flat", "mlpipe_edge_short"]].isna().all().all()
    )
    out = strategy.populate_entry_trend(found, {"pair": PAIRS[0]})
    assert out[["enter_long", "enter_short"]].fillna(0).eq(0).all().all()


def test_metrics_of_both_sides_are_shown(futures: Workspace, capfd) -> None:
    assert futures.run("show-model") == 0
    shown = capfd.readouterr().out
    assert "short_rate" in shown
    assert "negative_rate" in shown
