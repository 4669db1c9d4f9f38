"""Models that look at other pairs and timeframes: trained, judged, served, and refused when a frame is missing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from freqtrade.data.dataprovider import DataProvider
from freqtrade.enums import CandleType, RunMode

from freqtrade_mlpipe.features import Frames
from freqtrade_mlpipe.integration.strategy import ServingError
from tests.conftest import MODEL_NAME, Workspace, write_candle_file
from tests.features.test_informative import resampled

pytestmark = pytest.mark.e2e

PAIR = "SYNB/USDT"
SETTINGS = {
    "informative_timeframes": ["4h"],
    "informative_pairs": ["SYNA/USDT"],
    "informative_features": ["return", "range_position"],
    "include_shifted_candles": 1,
    "rank_features": ["return_7"],
}


@pytest.fixture(scope="module")
def informed(untrained_once: Workspace, market: Any, tmp_path_factory: Any) -> Workspace:
    """A trained version in production."""
    workspace = untrained_once.copy_to(tmp_path_factory.mktemp("informed") / "user_data")
    workspace.configure(features=SETTINGS)
    for pair, frame in market.items():
        write_candle_file(workspace.datadir, pair, resampled(frame, "4h"), "4h")
    for command in ("train", "validate", "promote"):
        assert workspace.run(command) == 0
    return workspace


def started(workspace: Workspace, **changes: Any) -> Any:
    strategy = workspace.strategy(**changes)
    strategy.dp = DataProvider(strategy.config, None)
    strategy.ft_bot_start()
    return strategy


@pytest.fixture(scope="module")
def answer(informed: Workspace, market: Any) -> pd.DataFrame:
    return started(informed).populate_indicators(market[PAIR].copy(), {"pair": PAIR})


def test_bundle_carries_the_frames_it_looks_at(informed: Workspace):
    bundle = informed.registry().load_bundle(MODEL_NAME, "1")
    assert "return_7_shift-1_SYNA/USDT_4h" in bundle.manifest.features
    assert "rank_return_7" in bundle.manifest.features
    keys = bundle.selftest.frames[["pair", "timeframe"]].drop_duplicates().to_numpy().tolist()
    assert keys == [["SYNA/USDT", "4h"], ["SYNB/USDT", "1h"]]
    complete = bundle.selftest.features.notna().all(axis=1)
    assert complete.sum() >= 32


def test_backtest_answers_where_every_frame_reaches(answer: pd.DataFrame):
    predicted = answer["mlpipe_do_predict"] == 1
    assert predicted.iloc[-24:-4].all()
    assert predicted.sum() > 500


def test_answer_is_the_same_without_the_candles_that_followed(
    informed: Workspace, market: Any, answer: pd.DataFrame
):
    strategy = started(informed)
    whole = Frames(lambda pair, timeframe: strategy.dp.get_pair_dataframe(pair, timeframe))
    end = 3_001
    early = market[PAIR].head(end)
    strategy._mlpipe_frames = whole.until(early["date"].iloc[-1] + pd.Timedelta("1h"))
    found = strategy.populate_indicators(early.copy(), {"pair": PAIR})
    assert (found["mlpipe_do_predict"] == 1).any()
    pd.testing.assert_frame_equal(found, answer.head(end), check_exact=True)


def test_shorter_history_of_every_frame_gives_the_same_answer(
    informed: Workspace, market: Any, answer: pd.DataFrame
):
    strategy = started(informed)
    whole = Frames(lambda pair, timeframe: strategy.dp.get_pair_dataframe(pair, timeframe))
    n = strategy.startup_candle_count + 60
    strategy._mlpipe_frames = Frames(lambda pair, timeframe: whole.candles(pair, timeframe).tail(n))
    late = strategy.populate_indicators(market[PAIR].tail(n).reset_index(drop=True), {"pair": PAIR})
    np.testing.assert_allclose(
        late["mlpipe_proba"].tail(60), answer["mlpipe_proba"].tail(60), atol=1e-6
    )


def test_bot_is_told_which_frames_to_fetch(informed: Workspace):
    strategy = started(informed)
    strategy.dp.current_whitelist = lambda: ["SYNB/USDT", "NEW/USDT"]
    expected = [
        ("NEW/USDT", "4h"), ("SYNA/USDT", "1h"), ("SYNA/USDT", "4h"), ("SYNB/USDT", "1h"), ("SYNB/USDT", "4h"),
    ]  # fmt: skip
    assert strategy.informative_pairs() == expected
    gathered = strategy.gather_informative_pairs()
    assert sorted(gathered) == [(*key, CandleType.SPOT) for key in expected]


def test_own_informative_pairs_do_not_replace_ours(informed: Workspace):
    strategy = started(informed)
    strategy.dp.current_whitelist = lambda: ["SYNA/USDT"]
    strategy.informative_pairs = lambda: [("LTC/USDT", "1d"), ("SYNA/USDT", "4h")]
    found = [(pair, timeframe) for pair, timeframe, _ in strategy.gather_informative_pairs()]
    assert sorted(found) == [("LTC/USDT", "1d"), ("SYNA/USDT", "4h"), ("SYNB/USDT", "1h")]


def test_missing_file_stops_the_training_and_names_every_problem(
    untrained: Workspace, market: Any, capsys: Any
):
    untrained.configure(features={**SETTINGS, "informative_pairs": ["BTC/USDT"]})
    write_candle_file(untrained.datadir, PAIR, resampled(market[PAIR], "4h"), "4h")
    assert untrained.run("train") == 2
    err = " ".join(capsys.readouterr().err.split())
    assert "SYNA/USDT: no 4h candles" in err
    assert "BTC/USDT: no 4h candles" in err
    assert "BTC/USDT: no 1h candles" in err
    assert untrained.registry().get_model_names() == []


def test_missing_file_stops_a_backtest(informed: Workspace, market: Any, tmp_path: Any):
    workspace = informed.copy_to(tmp_path / "user_data")
    (workspace.datadir / "SYNB_USDT-4h.feather").unlink()
    with pytest.raises(ServingError, match="SYNB/USDT: no 4h candles"):
        started(workspace).populate_indicators(market[PAIR].copy(), {"pair": PAIR})


def test_bot_pauses_entries_while_a_frame_is_missing(informed: Workspace, market: Any, logged: Any):
    strategy = started(informed, runmode=RunMode.DRY_RUN)
    live = {("SYNB/USDT", "1h"): market[PAIR], ("SYNA/USDT", "1h"): market["SYNA/USDT"]}
    strategy.dp.get_pair_dataframe = lambda pair, timeframe: live.get(
        (pair, timeframe), pd.DataFrame()
    )
    found = strategy.populate_indicators(market[PAIR].copy(), {"pair": PAIR})
    assert (found["mlpipe_do_predict"] == 0).all()
    assert any("SYNB/USDT: no 4h candles" in text for text in logged())


def test_bot_sees_new_candles_of_other_frames(informed: Workspace, market: Any, answer: Any):
    """A bot's frames move on: nothing of an earlier candle is remembered."""
    strategy = started(informed, runmode=RunMode.DRY_RUN)
    whole = Frames(
        DataProvider({**strategy.config, "runmode": RunMode.BACKTEST}, None).get_pair_dataframe
    )
    found = []
    for end in (3_300, 3_301, 3_304):
        frame = market[PAIR].iloc[end - 900 : end].reset_index(drop=True)
        now = whole.until(frame["date"].iloc[-1] + pd.Timedelta("1h"))
        strategy.dp.get_pair_dataframe = now.candles
        found.append(strategy.populate_indicators(frame, {"pair": PAIR})["mlpipe_proba"].iloc[-1])
    np.testing.assert_allclose(found, answer["mlpipe_proba"].iloc[[3_299, 3_300, 3_303]], atol=1e-6)


def test_other_settings_than_those_trained_with_change_nothing(
    informed: Workspace, market: Any, answer: pd.DataFrame, tmp_path: Any
):
    workspace = informed.copy_to(tmp_path / "user_data")
    workspace.configure(features={"informative_timeframes": [], "rank_features": []})
    found = started(workspace).populate_indicators(market[PAIR].copy(), {"pair": PAIR})
    pd.testing.assert_frame_equal(found, answer)


def test_catalogue_is_listed_with_what_is_used(informed: Workspace, capsys: Any):
    import json

    assert informed.run("list-features", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    manifest = informed.registry().load_bundle(MODEL_NAME, "1").manifest
    used = [row["name"] for row in listed["features"] if row["used"]]
    own = [name for name in manifest.features if not name.startswith("%-")]
    assert sorted(used + listed["derived"]) == sorted(own)
    assert len({row["name"] for row in listed["features"]}) == len(listed["features"]) > 180
    assert informed.run("list-features") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Warm-up: 517 candles" in out
    assert "[t" in out  # formulas are no console markup
