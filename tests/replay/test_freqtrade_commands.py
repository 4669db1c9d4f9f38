"""freqtrade's own commands on the replay exchange, in this interpreter, without a network."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from freqtrade_mlpipe.replay.run import main
from tests.replay.conftest import STRATEGIES
from tests.replay.markets_on_disk import (
    END,
    FUNDING_TIMEFRAME,
    MARK_TIMEFRAME,
    PERPETUALS,
    SPOT_PAIRS,
    START,
)

pytestmark = pytest.mark.e2e

WriteConfig = Callable[..., Path]
FUTURES = {"trading_mode": "futures", "margin_mode": "isolated"}


def command(name: str, config: Path, userdir: Path, datadir: Path, *more: str) -> list[str]:
    paths = ["-c", str(config), "--userdir", str(userdir), "--datadir", str(datadir)]
    return [name, *paths, *more]


def strategy(name: str = "EmaCross") -> list[str]:
    return ["--strategy", name, "--strategy-path", str(STRATEGIES)]


def backtested_trades(userdir: Path) -> pd.DataFrame:
    from freqtrade.data.btanalysis import load_backtest_data

    return load_backtest_data(userdir / "backtest_results")


def assert_entered_at_the_recorded_open(trades: pd.DataFrame, datadir: Path, suffix: str) -> None:
    assert len(trades) > 3
    for pair, of_pair in trades.groupby("pair"):
        name = str(pair).replace("/", "_").replace(":", "_")
        candles = pd.read_feather(datadir / f"{name}-1h{suffix}.feather").set_index("date")
        opened = candles.loc[of_pair["open_date"], "open"].to_numpy()
        assert of_pair["open_rate"].to_numpy() == pytest.approx(opened, rel=1e-12)


def assert_same_candles(path: Path, source: Path) -> None:
    found, expected = pd.read_feather(path), pd.read_feather(source)
    found["date"] = found["date"].astype(expected["date"].dtype)  # freqtrade may change the unit
    pd.testing.assert_frame_equal(found, expected)


def test_backtesting_trades_the_recorded_spot_candles(
    spot_candles: Path, userdir: Path, write_config: WriteConfig
) -> None:
    argv = command("backtesting", write_config(SPOT_PAIRS), userdir, spot_candles, *strategy())
    assert main([*argv, "--timerange", "20240115-20240301", "--cache", "none"]) == 0
    trades = backtested_trades(userdir)
    assert set(trades["pair"]) == set(SPOT_PAIRS)
    assert set(trades["fee_open"]) == {0.001}
    assert_entered_at_the_recorded_open(trades, spot_candles, "")


@pytest.mark.parametrize("margin_mode", ["isolated", "cross"])
def test_backtesting_trades_perpetuals_both_ways_with_leverage(
    futures_candles: Path, userdir: Path, write_config: WriteConfig, margin_mode: str
) -> None:
    config = write_config(PERPETUALS, **{**FUTURES, "margin_mode": margin_mode})
    argv = command("backtesting", config, userdir, futures_candles, *strategy("EmaCrossShort"))
    assert main([*argv, "--timerange", "20240115-20240301", "--cache", "none"]) == 0
    trades = backtested_trades(userdir)
    # NEWCOIN is in no table of leverage tiers: it trades on the fallback.
    assert set(trades["pair"]) == set(PERPETUALS)
    assert set(trades["is_short"]) == {True, False}
    assert set(trades["leverage"]) == {3.0}
    assert set(trades["fee_open"]) == {0.0005}
    assert (trades["funding_fees"] != 0).any()
    assert_entered_at_the_recorded_open(trades, futures_candles / "futures", "-futures")


def test_hyperopt_runs_with_two_workers(
    spot_candles: Path, userdir: Path, write_config: WriteConfig
) -> None:
    pytest.importorskip("freqtrade.optimize.hyperopt", exc_type=ImportError)
    argv = command("hyperopt", write_config(SPOT_PAIRS), userdir, spot_candles, *strategy())
    search = ["--spaces", "buy", "--epochs", "4", "-j", "2", "--random-state", "7"]
    loss = ["--hyperopt-loss", "SharpeHyperOptLossDaily", "--disable-param-export"]
    assert main([*argv, *search, *loss, "--timerange", "20240115-20240301"]) == 0
    (results,) = (userdir / "hyperopt_results").glob("*.fthypt")
    epochs = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    assert len(epochs) == 4
    assert any(epoch["results_metrics"]["total_trades"] > 0 for epoch in epochs)
    assert not (STRATEGIES / "ema_cross.json").exists()


def test_download_data_copies_spot_candles_page_by_page(
    spot_candles: Path, userdir: Path, write_config: WriteConfig, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    config = write_config(SPOT_PAIRS, {"replay_source": str(spot_candles)})
    argv = command("download-data", config, userdir, target)
    assert main([*argv, "-t", "5m", "1h", "4h", "--timerange", "20240101-20240301"]) == 0
    for name in ("BTC_USDT-1h", "ETH_USDT-1h", "BTC_USDT-5m", "ETH_USDT-5m"):
        assert_same_candles(target / f"{name}.feather", spot_candles / f"{name}.feather")
    assert len(pd.read_feather(target / "BTC_USDT-4h.feather")) == (END - START).days * 6


def test_download_data_from_its_own_directory_changes_no_candle(
    spot_candles: Path, userdir: Path, write_config: WriteConfig, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    source = spot_candles / "BTC_USDT-1h.feather"
    (own / source.name).write_bytes(source.read_bytes())
    argv = command("download-data", write_config(("BTC/USDT",)), userdir, own)
    assert main([*argv, "-t", "1h", "--timerange", "20240101-20240301"]) == 0
    assert_same_candles(own / source.name, source)


def test_download_data_refuses_to_erase_what_it_serves(
    spot_candles: Path, userdir: Path, write_config: WriteConfig, caplog: pytest.LogCaptureFixture
) -> None:
    before = (spot_candles / "BTC_USDT-1h.feather").read_bytes()
    argv = command("download-data", write_config(("BTC/USDT",)), userdir, spot_candles)
    assert main([*argv, "-t", "1h", "--erase", "--timerange", "20240101-"]) == 2
    assert "--erase would delete" in caplog.text
    assert (spot_candles / "BTC_USDT-1h.feather").read_bytes() == before


def test_download_data_outside_the_recording_writes_no_empty_file(
    spot_candles: Path,
    userdir: Path,
    write_config: WriteConfig,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    target = tmp_path / "target"
    config = write_config(("BTC/USDT",), {"replay_source": str(spot_candles)})
    main(command("download-data", config, userdir, target, "-t", "1h", "--days", "3"))
    assert "are recorded from" in caplog.text
    assert not list(target.glob("*.feather"))


def test_download_data_copies_futures_mark_and_funding(
    futures_candles: Path, userdir: Path, write_config: WriteConfig, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    config = write_config(PERPETUALS, {"replay_source": str(futures_candles)}, **FUTURES)
    argv = command("download-data", config, userdir, target)
    assert main([*argv, "-t", "1h", "--timerange", "20240101-20240301"]) == 0
    timeframes = {"futures": "1h", "mark": MARK_TIMEFRAME, "funding_rate": FUNDING_TIMEFRAME}
    for kind, timeframe in timeframes.items():
        name = f"futures/BTC_USDT_USDT-{timeframe}-{kind}.feather"
        copied, source = (pd.read_feather(d / name) for d in (target, futures_candles))
        value = "funding_rate" if "funding_rate" in copied else "open"
        assert copied["date"].tolist() == source["date"].tolist(), kind
        assert copied[value].tolist() == source["open"].tolist(), kind


def test_lookahead_analysis_finds_no_bias_in_an_honest_strategy(
    spot_candles: Path, userdir: Path, write_config: WriteConfig
) -> None:
    config = write_config(SPOT_PAIRS)
    found = userdir / "lookahead.csv"
    argv = command("lookahead-analysis", config, userdir, spot_candles, *strategy())
    limits = ["--minimum-trade-amount", "5", "--targeted-trade-amount", "8"]
    more = ["--timerange", "20240115-20240215", "--lookahead-analysis-exportfilename", str(found)]
    assert main([*argv, *limits, *more]) == 0
    row = pd.read_csv(found).iloc[0]
    assert not row["has_bias"]
    assert row["total_signals"] >= 5


def test_recursive_analysis_runs(
    spot_candles: Path, userdir: Path, write_config: WriteConfig, caplog: pytest.LogCaptureFixture
) -> None:
    argv = command(
        "recursive-analysis", write_config(SPOT_PAIRS), userdir, spot_candles, *strategy()
    )
    more = ["--startup-candle", "240", "400", "--timerange", "20240201-20240215"]
    assert main([*argv, *more]) == 0
    assert "No lookahead bias on indicators found" in caplog.text


def test_list_pairs_lists_recorded_and_configured_pairs(
    spot_candles: Path,
    userdir: Path,
    write_config: WriteConfig,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = write_config(("BTC/USDT", "SOL/USDT", ".*/USDC"))
    assert main(command("list-pairs", config, userdir, spot_candles, "--print-json")) == 0
    listed = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert sorted(listed) == ["BTC/USDT", "ETH/USDT", "SOL/USDT"]


def test_volume_pairlist_ranks_by_the_last_recorded_day(
    spot_candles: Path,
    userdir: Path,
    write_config: WriteConfig,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ranked = [{"method": "VolumePairList", "number_assets": 2, "sort_key": "quoteVolume"}]
    config = write_config(SPOT_PAIRS, {"replay_source": str(spot_candles)}, pairlists=ranked)
    argv = ["test-pairlist", "-c", str(config), "--userdir", str(userdir), "--print-json"]
    assert main(argv) == 0
    listed = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    volume = {}
    for pair in SPOT_PAIRS:
        day = pd.read_feather(spot_candles / f"{pair.replace('/', '_')}-1h.feather").tail(24)
        volume[pair] = (day["close"] * day["volume"]).sum()
    assert listed == sorted(volume, key=volume.__getitem__, reverse=True)


def test_plot_dataframe_writes_a_page(
    spot_candles: Path, userdir: Path, write_config: WriteConfig
) -> None:
    argv = command("plot-dataframe", write_config(SPOT_PAIRS), userdir, spot_candles, *strategy())
    assert main([*argv, "--timerange", "20240201-20240205", "--no-trades"]) == 0
    assert len(list((userdir / "plot").glob("*.html"))) == 2


def test_backtesting_trades_real_spot_candles(
    real_candles: Path, userdir: Path, write_config: WriteConfig
) -> None:
    argv = command("backtesting", write_config(SPOT_PAIRS), userdir, real_candles, *strategy())
    assert main([*argv, "--timerange", "20240101-20240701", "--cache", "none"]) == 0
    assert_entered_at_the_recorded_open(backtested_trades(userdir), real_candles, "")


def test_backtesting_trades_real_perpetuals(
    real_candles: Path, userdir: Path, write_config: WriteConfig
) -> None:
    config = write_config(("BTC/USDT:USDT",), **FUTURES)
    argv = command("backtesting", config, userdir, real_candles, *strategy("EmaCrossShort"))
    assert main([*argv, "--timerange", "20250318-20250405", "--cache", "none"]) == 0
    assert_entered_at_the_recorded_open(
        backtested_trades(userdir), real_candles / "futures", "-futures"
    )
