"""Serving in a bot: swapped at a candle boundary, each candle answered once, nothing ever in the bot's way."""

from __future__ import annotations

import gc
import hashlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from freqtrade.enums import RunMode
from freqtrade.exceptions import StrategyError

from freqtrade_mlpipe.exceptions import RegistryError
from freqtrade_mlpipe.integration import live as live_module
from freqtrade_mlpipe.integration.live import LiveServing
from freqtrade_mlpipe.integration.voice import Look, RowPredictor
from freqtrade_mlpipe.registry.store import ModelRegistry
from tests.conftest import MODEL_NAME, OWN_FEATURE, Workspace
from tests.integration.bot import N_WINDOW, Iterated
from tests.integration.test_strategy import flip_a_byte

pytestmark = pytest.mark.e2e

A, B = "SYNA/USDT", "SYNB/USDT"
ANSWER = ["mlpipe_proba", "mlpipe_edge", "mlpipe_signal", "mlpipe_do_predict"]
START = 3_300
Candles = Mapping[str, pd.DataFrame]
Started = Callable[..., Iterated]


@pytest.fixture
def started(market: Candles) -> Iterator[Started]:
    bots = []

    def start(workspace: Workspace, *arguments: Any, **options: Any) -> Iterated:
        bots.append(Iterated(workspace, options.pop("market", market), *arguments, **options))
        return bots[-1]

    yield start
    for bot in bots:
        bot.end()


def swap(workspace: Workspace, bot: Iterated, command: str, *options: str) -> None:
    assert workspace.run(command, *options) == 0
    bot.poll().round()


def expected(workspace: Workspace, version: str, market: Candles, pair: str = A) -> pd.DataFrame:
    """What a backtest with this version says of all candles."""
    workspace.configure(serving={"version": version})
    strategy = workspace.strategy()
    strategy.ft_bot_start()
    found = strategy.populate_indicators(market[pair].copy(), {"pair": pair})
    workspace.configure(serving={"version": None})
    return found


def stored_bundle(workspace: Workspace, digest: str) -> Path:
    """Where the registry keeps a bundle."""
    (found,) = [
        path.parent
        for path in (workspace.registry_directory / "artifacts").rglob("manifest.json")
        if hashlib.sha256(path.read_bytes()).hexdigest() == digest
    ]
    return found


class TestAnswers:
    def test_they_are_those_of_a_backtest_and_made_once_for_each_candle(
        self, production: Workspace, market: Candles, started: Started
    ) -> None:
        wanted = expected(production, "1", market)
        bot = started(production)
        bot.process(*range(START, START + 40))
        found, backtest = bot.frame(), wanted.iloc[START + 39 - N_WINDOW : START + 39]
        assert found["date"].tolist() == backtest["date"].tolist()
        spoken = slice(-100, None)
        np.testing.assert_allclose(found[ANSWER][spoken], backtest[ANSWER][spoken], atol=1e-6)
        assert (found["mlpipe_version"] == "1").all()
        journal = bot.journal()
        assert (journal["repeats"] == 0).all()
        assert journal.groupby("pair")["date"].nunique().to_dict() == {A: 40, B: 40}
        own = journal[journal["pair"] == A]
        np.testing.assert_array_equal(own["proba"], found["mlpipe_proba"].tail(40))
        np.testing.assert_array_equal(own["close"], found["close"].tail(40))

    def test_journalled_features_are_those_the_model_keeps(
        self, production: Workspace, market: Candles, started: Started
    ) -> None:
        bot = started(production)
        bot.process(START)
        kept = bot.live.served(A).bundle.members[-1].preprocessor.kept_columns
        row = bot.journal().query("pair == @A").iloc[0]
        frame = market[A].iloc[START - N_WINDOW : START].reset_index(drop=True)
        features = bot.strategy.mlpipe_compute(frame, {"pair": A})
        np.testing.assert_array_equal(row["features"], features[list(kept)].iloc[-1].to_numpy())

    def test_rows_of_a_block_are_answered_as_a_frame_is(
        self, production: Workspace, market: Candles, started: Started
    ) -> None:
        bot = started(production)
        frame = market[A].copy()
        features = bot.strategy.mlpipe_compute(frame, {"pair": A})
        features.iloc[-1] = np.nan
        names, block = tuple(features.columns), features.to_numpy()
        seconds = frame["date"].dt.as_unit("s").astype("int64").to_numpy()
        predictor = RowPredictor(bot.live.served(A), names)
        whole = bot.live.served(A).bundle.predict(features, pd.DatetimeIndex(frame["date"]))
        assert set(whole.do_predict) == {-1, 0, 1}
        for size in (len(frame), 1, 5):
            looks = [
                Look(seconds[first : first + size], names, block[first : first + size])
                for first in range(len(frame) - min(len(frame), 60 * size), len(frame), size)
            ]
            alone = [spoken for look in looks for spoken in predictor([look])]
            for said in (alone, predictor(looks)):
                for name in ("proba", "edge", "signal", "do_predict"):
                    found = np.concatenate([getattr(part.prediction, name) for part in said])
                    np.testing.assert_array_equal(found, getattr(whole, name)[-len(found) :])
                for one, other in zip(said, alone, strict=True):
                    np.testing.assert_array_equal(one.features, other.features)

    def test_pairs_are_answered_together(
        self, production: Workspace, started: Started, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        n_looks, answer = [], RowPredictor.__call__

        def counted(self: RowPredictor, looks: Any) -> Any:
            n_looks.append(len(looks))
            return answer(self, looks)

        monkeypatch.setattr(RowPredictor, "__call__", counted)
        bot = started(production)
        bot.process(START, START + 1)
        assert n_looks == [1, 1, 2]

    def test_analysis_of_the_same_candle_again_says_the_same(
        self, production: Workspace, started: Started
    ) -> None:
        bot = started(production)
        bot.strategy.process_only_new_candles = False
        bot.process(START, START + 1)
        before = bot.frame()
        bot.process(START + 1)
        pd.testing.assert_frame_equal(bot.frame(), before)
        assert (bot.journal()["repeats"] == 0).all()

    def test_strategy_that_changes_a_column_does_not_change_what_was_said(
        self, production: Workspace, started: Started
    ) -> None:
        bot = started(production)
        bot.process(START)
        said = bot.frame()["mlpipe_proba"].copy()
        frame = bot.strategy.dp._exchange.klines((A, "1h", None))
        changed = bot.strategy.populate_indicators(frame, {"pair": A})
        changed["mlpipe_proba"].to_numpy(copy=False)
        changed.loc[:, "mlpipe_proba"] = 0.0
        bot.process(START + 1)
        np.testing.assert_array_equal(bot.frame()["mlpipe_proba"].iloc[:-1], said.iloc[1:])

    def test_revised_candle_keeps_its_answer_and_is_seen_by_the_next(
        self, production: Workspace, market: Candles, started: Started
    ) -> None:
        revised = {pair: frame.copy() for pair, frame in market.items()}
        bot = started(production, market=revised)
        bot.process(START)
        said = bot.newest()["mlpipe_proba"]
        row = START - 1
        revised[A].loc[row, ["high", "close"]] *= 1.05
        bot.process(START + 1)
        assert bot.frame()["mlpipe_proba"].iloc[-2] == said
        fresh = expected(production, "1", revised)
        assert bot.newest()["mlpipe_proba"] == pytest.approx(
            fresh["mlpipe_proba"].iloc[START], abs=1e-6
        )
        old = expected(production, "1", market)
        assert bot.newest()["mlpipe_proba"] != pytest.approx(
            old["mlpipe_proba"].iloc[START], abs=1e-6
        )

    def test_outage_of_several_candles_is_caught_up(
        self, production: Workspace, market: Candles, started: Started
    ) -> None:
        bot = started(production)
        bot.process(START, START + 7)
        wanted = expected(production, "1", market)["mlpipe_proba"].iloc[START : START + 7]
        np.testing.assert_allclose(bot.frame()["mlpipe_proba"].tail(7), wanted, atol=1e-6)
        assert bot.journal().groupby("pair").size().to_dict() == {A: 8, B: 8}

    def test_candle_missing_at_first_is_answered_when_it_is_there(
        self, production: Workspace, market: Candles, started: Started
    ) -> None:
        gap = {**market, A: market[A].drop(index=START - 3).reset_index(drop=True)}
        bot = started(production, market=gap)
        bot.process(START - 1)
        said = bot.frame().set_index("date")["mlpipe_proba"]
        bot.feed.market[A] = market[A]
        bot.process(START + 1)
        found = bot.frame().set_index("date")["mlpipe_proba"]
        both = said.index.intersection(found.index)
        np.testing.assert_array_equal(found[both], said[both])
        late = market[A]["date"].iloc[START - 3]
        wanted = expected(production, "1", market).set_index("date")["mlpipe_proba"]
        assert found[late] == pytest.approx(wanted[late], abs=1e-6)
        assert found.iloc[-1] == pytest.approx(wanted[found.index[-1]], abs=1e-6)

    def test_time_that_jumps_back_changes_nothing_that_was_said(
        self, production: Workspace, started: Started
    ) -> None:
        bot = started(production)
        bot.process(START, START + 5)
        said = bot.frame().set_index("date")["mlpipe_proba"]
        bot.process(START + 2)
        back = bot.frame().set_index("date")["mlpipe_proba"]
        both = said.index.intersection(back.index)
        np.testing.assert_array_equal(back[both], said[both])
        bot.process(START + 6)
        assert bot.newest()["mlpipe_do_predict"] == 1

    def test_new_pair_is_served_and_a_removed_one_comes_back(
        self, production: Workspace, market: Candles, started: Started
    ) -> None:
        bot = started(production, (A,), market={**market, "NEW/USDT": market[B]})
        bot.process(START)
        bot.feed.whitelist[:] = ["NEW/USDT"]
        bot.process(START + 1, START + 2)
        assert bot.newest("NEW/USDT")["mlpipe_do_predict"] == 1
        wanted = expected(production, "1", market, B)["mlpipe_proba"].iloc[START + 1]
        assert bot.newest("NEW/USDT")["mlpipe_proba"] == pytest.approx(wanted, abs=1e-6)
        bot.feed.whitelist[:] = [A, "NEW/USDT"]
        bot.process(START + 3)
        wanted = expected(production, "1", market)["mlpipe_proba"].iloc[START : START + 3]
        np.testing.assert_allclose(bot.frame(A)["mlpipe_proba"].tail(3), wanted, atol=1e-6)


class TestSwap:
    def test_promotion_and_rollback_speak_from_the_next_candle_on(
        self, two_versions: Workspace, market: Candles, started: Started
    ) -> None:
        second = expected(two_versions, "2", market)["mlpipe_proba"]
        bot = started(two_versions)
        bot.process(START)
        before = bot.frame()["mlpipe_proba"]
        swap(two_versions, bot, "promote", "--notes", "better")
        bot.process(START)  # the same candle again: nothing to say
        assert bot.newest()["mlpipe_version"] == "1"
        bot.process(START + 1)
        for pair in (A, B):
            assert bot.frame(pair)["mlpipe_version"].tail(3).tolist() == ["1", "1", "2"]
        np.testing.assert_array_equal(bot.frame()["mlpipe_proba"].iloc[:-1], before.iloc[1:])
        assert bot.newest()["mlpipe_proba"] == pytest.approx(second.iloc[START], abs=1e-6)
        swap(two_versions, bot, "rollback", "--notes", "worse after all")
        bot.process(START + 2)
        assert bot.frame(B)["mlpipe_version"].tail(3).tolist() == ["1", "2", "1"]
        told = [text for text in bot.messages if "speaks from candle" in text]
        assert len(told) == 2
        assert "version 2 speaks" in told[0]
        assert "promoted by" in told[0]
        assert "better" in told[0]
        assert "rolled back by" in told[1]
        assert "worse after all" in told[1]

    def test_pairs_of_a_candle_have_one_voice_wherever_a_promotion_lands(
        self, two_versions: Workspace, started: Started
    ) -> None:
        bot = started(two_versions)
        bot.process(START)
        bot.process(START + 1, pairs=[A])
        swap(two_versions, bot, "promote")
        bot.process(START + 1, pairs=[B])  # its candle came late
        assert bot.newest(A)["mlpipe_version"] == bot.newest(B)["mlpipe_version"] == "1"
        bot.process(START + 2, pairs=[A])
        bot.process(START + 3, pairs=[B])  # one was missed altogether
        assert bot.frame(A)["mlpipe_version"].tail(2).tolist() == ["1", "2"]
        assert bot.frame(B)["mlpipe_version"].tail(3).tolist() == ["1", "2", "2"]

    def test_model_taken_back_before_a_candle_came_never_speaks(
        self, two_versions: Workspace, started: Started
    ) -> None:
        bot = started(two_versions)
        bot.process(START)
        swap(two_versions, bot, "promote")
        bot.strategy.gather_informative_pairs()
        swap(two_versions, bot, "rollback")
        bot.process(START + 1)
        assert bot.newest()["mlpipe_version"] == "1"
        assert not any("speaks from" in text for text in bot.messages)

    def test_forced_promotion_is_named_with_its_reason(
        self, two_versions: Workspace, started: Started
    ) -> None:
        bot = started(two_versions)
        bot.process(START)
        swap(two_versions, bot, "promote", "--force-reason", "the gates are wrong")
        bot.process(START + 1)
        (told,) = [text for text in bot.messages if "speaks from candle" in text]
        assert "FORCED past the gates: the gates are wrong" in told

    def test_streams_go_on_when_the_features_stay(
        self, two_versions: Workspace, started: Started, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # A whitelist longer than what is followed by default.
        monkeypatch.setattr("freqtrade_mlpipe.features.frames._MOST_FOLLOWED", 1)
        bot = started(two_versions)
        bot.process(START, START + 1)
        followed = list(bot.strategy._mlpipe_frames._live.values())
        swap(two_versions, bot, "promote")
        bot.process(START + 2)
        assert bot.newest()["mlpipe_version"] == "2"
        assert list(bot.strategy._mlpipe_frames._live.values()) == followed
        assert [live.n_opened for live in followed] == [1, 1]

    def test_thread_finds_a_promotion_by_itself(
        self, two_versions: Workspace, started: Started
    ) -> None:
        bot = started(two_versions, poll_seconds=0.2)
        bot.process(START)
        assert two_versions.run("promote") == 0
        deadline = time.monotonic() + 20
        while bot.poll().production.resolved.version != "2" and time.monotonic() < deadline:
            time.sleep(0.05)
        bot.process(START + 1)
        assert bot.newest()["mlpipe_version"] == "2"

    def test_pinned_version_stays(self, two_versions: Workspace, started: Started) -> None:
        bot = started(two_versions, version="2")
        bot.process(START)
        swap(two_versions, bot, "promote")
        bot.process(START + 1)
        assert set(bot.frame()["mlpipe_version"]) == {"2"}
        assert not any("speaks from" in text for text in bot.messages)


class TestEnd:
    @staticmethod
    def polls() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name == "mlpipe-poll"}

    def test_thread_ends_with_the_bot(self, production: Workspace, started: Started) -> None:
        before = self.polls()
        bot = started(production)
        (thread,) = self.polls() - before
        assert thread.daemon
        bot.end()
        assert not thread.is_alive()

    def test_thread_ends_with_an_owner_that_nobody_cleans_up(
        self, production: Workspace, started: Started
    ) -> None:
        class Owner:
            pass

        bot, owner = started(production), Owner()
        before = self.polls()
        live = LiveServing(bot.strategy.mlpipe, bot.strategy._load, bot.strategy._voice)
        live.start(owner, [])
        (thread,) = self.polls() - before
        del owner
        gc.collect()
        thread.join(5)
        assert not thread.is_alive()


class TestFaults:
    """Whatever is wrong, the last good model speaks on, and the operator hears of it once and of its end once."""

    def told(self, bot: Iterated, text: str) -> int:
        return sum(text in message for message in bot.messages)

    def test_registry_that_is_down(
        self, production: Workspace, started: Started, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bot = started(production)
        bot.process(START)
        database = production.registry_directory / "mlflow.db"
        database.rename(database.with_suffix(".away"))
        database.write_bytes(b"garbage" * 4096)
        monkeypatch.setattr(bot.poll()._cache, "_registry", None)
        for end in range(START + 1, START + 4):
            bot.poll().round()
            bot.process(end)
        assert (bot.frame()["mlpipe_do_predict"].tail(3) == 1).all()
        assert self.told(bot, "registry does not say what to serve") == 1
        database.with_suffix(".away").rename(database)
        bot.poll().round()
        bot.poll().round()
        assert self.told(bot, "registry answers again") == 1

    @pytest.mark.parametrize(
        "answer", [None, ("2", "no digest"), 7, RuntimeError("half an answer")]
    )
    def test_registry_that_lies(
        self, production: Workspace, started: Started, monkeypatch: pytest.MonkeyPatch, answer: Any
    ) -> None:
        bot = started(production)
        bot.process(START)

        def lie(*_: Any) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return answer

        with monkeypatch.context() as patched:
            patched.setattr(ModelRegistry, "resolve", lie)
            for _ in range(3):
                bot.poll().round()
            bot.process(START + 1)
        assert bot.newest()["mlpipe_version"] == "1"
        assert bot.newest()["mlpipe_do_predict"] == 1
        assert len([text for text in bot.messages if "keeps speaking" in text]) >= 1
        n_told = len(bot.messages)
        bot.poll().round()
        bot.poll().round()
        assert len(bot.messages) > n_told
        assert bot.poll().problem is None

    def test_registry_that_never_answers_delays_the_start_only_so_long(
        self, production: Workspace, started: Started, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = started(production)
        first.process(START)
        first.end()
        monkeypatch.setattr(live_module, "START_SECONDS", 0.3)
        over = threading.Event()
        monkeypatch.setattr(ModelRegistry, "resolve", lambda *_: over.wait(30))
        began = time.monotonic()
        bot = started(production)
        bot.process(START + 1)
        assert time.monotonic() - began < 10
        assert bot.newest()["mlpipe_do_predict"] == 1
        over.set()

    def test_restart_without_registry_serves_what_was_served(
        self, two_versions: Workspace, started: Started
    ) -> None:
        bot = started(two_versions)
        swap(two_versions, bot, "promote")
        bot.process(START)
        bot.end()
        (two_versions.registry_directory / "mlflow.db").write_bytes(b"garbage" * 4096)
        from freqtrade_mlpipe.integration import serving

        serving._cache_at.cache_clear()
        again = started(two_versions)
        again.process(START + 1)
        assert again.newest()["mlpipe_version"] == "2"
        assert self.told(again, "registry does not say what to serve") == 1

    def test_corrupt_artifact_is_not_served_not_kept_and_not_asked_for_all_the_time(
        self, two_versions: Workspace, started: Started, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bot = started(two_versions)
        bot.process(START)
        assert two_versions.run("promote") == 0
        digest = two_versions.registry().get_version(MODEL_NAME, "2").digest
        shutil.rmtree(two_versions.registry_directory / "cache" / digest)
        stored = stored_bundle(two_versions, digest)
        whole = stored.with_name("whole")
        shutil.copytree(stored, whole)
        flip_a_byte(stored)
        asked = []
        copy_to = ModelRegistry.copy_to
        monkeypatch.setattr(ModelRegistry, "copy_to", lambda *of: asked.append(of) or copy_to(*of))
        now = [0.0]
        monkeypatch.setattr(bot.poll(), "_clock", lambda: now[0])
        bot.poll()._cache._verified.discard(digest)
        for _ in range(5):
            bot.poll().round()
        assert len(asked) == 1
        bot.process(START + 1)
        assert bot.newest()["mlpipe_version"] == "1"
        assert not bot.poll()._cache.path_of(digest).exists()
        assert self.told(bot, "version 2 cannot be served") == 1
        shutil.rmtree(stored)
        shutil.copytree(whole, stored)
        now[0] += bot.strategy.mlpipe.serving.poll_seconds
        bot.poll().round()
        bot.process(START + 2)
        assert bot.newest()["mlpipe_version"] == "2"
        assert self.told(bot, "version 2 can be served again") == 1

    def test_features_that_come_out_differently_refuse_the_new_version_only(
        self, two_versions: Workspace, started: Started
    ) -> None:
        bot = started(two_versions)
        bot.process(START)
        right = bot.strategy.mlpipe_features
        bot.strategy.mlpipe_features = lambda df, metadata: right(df, metadata).assign(
            **{OWN_FEATURE: 0.5}
        )
        assert two_versions.run("promote") == 0
        bot.poll().round()
        bot.process(START + 1)
        assert bot.newest()["mlpipe_version"] == "1"
        (told,) = [text for text in bot.messages if "cannot be served" in text]
        assert OWN_FEATURE in told

    def test_version_of_another_timeframe_is_refused(
        self, two_versions: Workspace, started: Started, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bot = started(two_versions)
        bot.process(START)
        assert two_versions.run("promote") == 0
        monkeypatch.setattr(bot.strategy, "timeframe", "4h")
        bot.poll().round()
        monkeypatch.undo()
        assert self.told(bot, "was trained on 1h candles, the strategy uses 4h") == 1
        assert bot.poll().production.resolved.version == "1"

    def test_cache_that_vanished_is_filled_again(
        self, production: Workspace, started: Started
    ) -> None:
        bot = started(production)
        bot.process(START)
        cache = production.registry_directory / "cache"
        shutil.rmtree(cache)
        bot.poll().round()
        bot.process(START + 1)
        assert bot.newest()["mlpipe_do_predict"] == 1
        assert bot.live.served(A).resolved.path.exists()

    def test_nothing_in_production_refuses_to_start_or_waits_for_a_promotion(
        self, trained: Workspace, started: Started
    ) -> None:
        with pytest.raises(StrategyError, match=r"no production version.*[Pp]romote"):
            started(trained, on_missing="raise")
        bot = started(trained, on_missing="no_entries")
        bot.process(START)
        assert bot.newest()["mlpipe_do_predict"] == 0
        assert self.told(bot, "No entries are made") == 1
        assert trained.run("promote", "--force-reason", "test") == 0
        bot.poll().round()
        bot.process(START + 1)
        assert bot.newest()["mlpipe_version"] == "1"
        assert bot.newest()["mlpipe_do_predict"] == 1
        assert self.told(bot, "version 1 is served now") == 1

    def test_model_that_fails_its_self_test_at_the_start_pauses_entries_if_told_so(
        self, production: Workspace, started: Started
    ) -> None:
        production.edit_strategy('(dataframe["high"] - dataframe["low"])', 'dataframe["high"]')
        bot = started(production, on_missing="no_entries")
        bot.process(START)
        assert bot.newest()["mlpipe_do_predict"] == 0
        assert self.told(bot, OWN_FEATURE) == 1

    def test_error_in_own_features_of_all_pairs_is_one_message(
        self, production: Workspace, started: Started
    ) -> None:
        bot = started(production)
        bot.process(START)
        said = bot.frame()["mlpipe_proba"]
        working = bot.strategy.mlpipe_features

        def broken(dataframe: pd.DataFrame, metadata: Any) -> pd.DataFrame:
            raise KeyError("no such column")

        bot.strategy.mlpipe_features = broken
        bot.process(START + 1, START + 2)
        assert bot.newest()["mlpipe_do_predict"] == 0
        np.testing.assert_array_equal(bot.frame()["mlpipe_proba"].iloc[:-2], said.iloc[2:])
        bot.strategy.mlpipe_features = working
        bot.process(START + 3)
        assert (bot.frame()["mlpipe_do_predict"].tail(4) == 1).all()
        assert self.told(bot, "no such column") == 1
        assert self.told(bot, "All pairs are predicted again") == 1

    def test_feature_without_a_value_is_named(
        self, production: Workspace, started: Started
    ) -> None:
        bot = started(production)
        bot.process(START)
        working = bot.strategy.mlpipe_features

        def empty(dataframe: pd.DataFrame, metadata: Any) -> pd.DataFrame:
            return working(dataframe, metadata).assign(**{OWN_FEATURE: np.nan})

        bot.strategy.mlpipe_features = empty
        bot.process(START + 1)
        assert bot.newest()["mlpipe_do_predict"] == 0
        assert self.told(bot, OWN_FEATURE) == 1

    def test_invalid_candles_of_one_pair_leave_the_others_alone(
        self, production: Workspace, market: Candles, started: Started
    ) -> None:
        broken = {**market, A: market[A].copy()}
        broken[A].loc[START, "low"] = broken[A].loc[START, "high"] * 2
        bot = started(production, market=broken)
        bot.process(START, START + 1)
        assert bot.newest(A)["mlpipe_do_predict"] == 0
        assert bot.newest(B)["mlpipe_do_predict"] == 1

    def test_journal_that_cannot_be_written_does_not_matter(
        self, production: Workspace, started: Started
    ) -> None:
        production.registry_directory.joinpath("live").write_text("a file where a folder should be")
        bot = started(production)
        bot.process(START, START + 1)
        assert bot.newest()["mlpipe_do_predict"] == 1


class TestPausedEntries:
    def test_no_entry_while_the_watch_says_so_and_exits_go_on(
        self, production: Workspace, started: Started
    ) -> None:
        bot = started(production)
        bot.process(START)
        frame = bot.frame().assign(enter_long=1, exit_long=0)
        frame["date"] += pd.Timestamp.now("UTC").floor("h") - frame["date"].iloc[-1]
        entry = bot.strategy.get_entry_signal(A, "1h", frame)
        assert entry[0] is not None

        class Pausing:
            reason: str | None = "features have drifted"

            def observe(self, rows: Any) -> None: ...

            def close(self) -> None: ...

            def entries_paused(self, pair: str) -> str | None:
                return self.reason

        bot.live.watch = watch = Pausing()
        for _ in range(3):
            assert bot.strategy.get_entry_signal(A, "1h", frame) == (None, None)
        leaving = frame.assign(enter_long=0, exit_long=1)
        assert bot.strategy.get_exit_signal(A, "1h", leaving)[1]
        watch.reason = None
        assert bot.strategy.get_entry_signal(A, "1h", frame) == entry
        assert [text for text in bot.messages if "ntries" in text] == [
            "Entries are paused: features have drifted", "Entries are made again.",
        ]  # fmt: skip


class TestShadow:
    def test_challenger_is_written_down_beside_production_and_never_traded(
        self, two_versions: Workspace, market: Candles, started: Started
    ) -> None:
        second = expected(two_versions, "2", market)["mlpipe_proba"]
        bot = started(two_versions)
        bot.process(START)
        swap(two_versions, bot, "challenge", "--model-version", "2")
        bot.process(START + 1, START + 2)
        assert set(bot.frame()["mlpipe_version"]) == {"1"}
        journal = bot.journal().query("pair == @A")
        assert journal.groupby("role").size().to_dict() == {"production": 3, "challenger": 2}
        beside = journal[journal["role"] == "challenger"]
        assert set(beside["version"]) == {"2"}
        np.testing.assert_allclose(beside["proba"], second.iloc[START : START + 2], atol=1e-6)
        swap(two_versions, bot, "challenge", "--remove")
        bot.process(START + 3)
        assert (bot.journal()["role"] == "challenger").sum() == 4  # two candles of two pairs

    def test_challenger_that_fails_disturbs_nobody(
        self, two_versions: Workspace, started: Started, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bot = started(two_versions)
        swap(two_versions, bot, "challenge", "--model-version", "2")
        bot.process(START)
        broken = bot.live.speakers[MODEL_NAME].shadow

        def speak(*_: Any) -> Any:
            raise ValueError("out of its mind")

        monkeypatch.setattr(broken, "speak", speak)
        bot.process(START + 1, START + 2)
        assert (bot.frame()["mlpipe_do_predict"].tail(3) == 1).all()
        assert sum("out of its mind" in text for text in bot.messages) == 1

    def test_corrupt_challenger_is_not_served(
        self, two_versions: Workspace, started: Started
    ) -> None:
        bot = started(two_versions)
        registry = two_versions.registry()
        registry.set_challenger(MODEL_NAME, "2")
        digest = registry.get_version(MODEL_NAME, "2").digest
        shutil.rmtree(two_versions.registry_directory / "cache" / digest)
        flip_a_byte(stored_bundle(two_versions, digest))
        bot.poll().round()
        bot.process(START)
        assert bot.poll().challenger is None
        assert bot.newest()["mlpipe_do_predict"] == 1
        assert sum("(challenger) cannot be served" in text for text in bot.messages) == 1


def test_backtests_start_no_thread(production: Workspace) -> None:
    before = TestEnd.polls()
    strategy = production.strategy(runmode=RunMode.BACKTEST)
    strategy.ft_bot_start()
    assert strategy._mlpipe_live is None
    assert TestEnd.polls() == before


def test_registry_errors_name_what_is_missing(trained: Workspace) -> None:
    with pytest.raises(RegistryError, match="no challenger"):
        trained.registry().resolve(MODEL_NAME, "challenger")
