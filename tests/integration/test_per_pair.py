"""One model a pair: each speaks for its own pair only, in backtests and in a bot."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cloudpickle
import pandas as pd
import pytest
from freqtrade.exceptions import StrategyError

from freqtrade_mlpipe.features import frames
from freqtrade_mlpipe.monitoring.journal import LivePrediction
from freqtrade_mlpipe.registry.cache import BundleCache
from freqtrade_mlpipe.registry.contention import RegistryUnavailableError
from freqtrade_mlpipe.registry.names import pair_model_name
from tests.conftest import MODEL_NAME, Workspace
from tests.integration.bot import Iterated
from tests.integration.test_strategy import flip_a_byte

pytestmark = pytest.mark.e2e

A, B = "SYNA/USDT", "SYNB/USDT"
MODEL_A, MODEL_B = pair_model_name(MODEL_NAME, A), pair_model_name(MODEL_NAME, B)
START = 3_300
COLUMNS = ["mlpipe_proba", "mlpipe_edge", "mlpipe_signal", "mlpipe_do_predict"]
Market = Mapping[str, pd.DataFrame]


@pytest.fixture(scope="module")
def alone(two_versions_once: Workspace, market: Market) -> Callable[[str, str], pd.DataFrame]:
    """What a version of the model for all pairs says of a pair's candles in a backtest."""
    said: dict[tuple[str, str], pd.DataFrame] = {}

    def ask(version: str, pair: str) -> pd.DataFrame:
        if (version, pair) not in said:
            two_versions_once.configure(serving={"version": version})
            said[version, pair] = predicted(two_versions_once, pair, market)
            two_versions_once.configure(serving={"version": None})
        return said[version, pair]

    return ask


@pytest.fixture(scope="module")
def each_once(two_versions_once: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Two versions of each pair's model, which have learned differently; version 1 of the first pair's speaks."""
    folder = tmp_path_factory.mktemp("each")
    workspace = two_versions_once.copy_to(folder / "user_data")
    registry = workspace.registry()
    for number in ("1", "2"):
        bundle = registry.copy_to(MODEL_NAME, number, folder / number)
        for name in (MODEL_A, MODEL_B):
            registry.register_model(model_name=name, model_path=bundle)
    registry.promote_to_production(MODEL_A, "1", force_reason="test")
    workspace.configure(scope="per_pair")
    return workspace


@pytest.fixture
def one(each_once: Workspace, tmp_path: Path) -> Workspace:
    """The second pair's model has never passed its gates."""
    return each_once.copy_to(tmp_path / "user_data")


@pytest.fixture
def each(one: Workspace) -> Workspace:
    """Version 1 speaks for the first pair, version 2 for the second."""
    one.registry().promote_to_production(MODEL_B, "2", force_reason="test")
    return one


@pytest.fixture
def started(market: Market) -> Iterator[Callable[..., Iterated]]:
    bots = []

    def start(workspace: Workspace, **options: Any) -> Iterated:
        bots.append(Iterated(workspace, market, **options))
        return bots[-1]

    yield start
    for bot in bots:
        bot.end()


def predicted(workspace: Workspace, pair: str, market: Market) -> pd.DataFrame:
    strategy = workspace.strategy()
    strategy.ft_bot_start()
    return strategy.populate_indicators(market[pair].copy(), {"pair": pair})


class TestBacktest:
    def test_each_pair_is_predicted_by_its_own_model_wherever_the_strategy_is_sent(
        self, each: Workspace, market: Market, alone: Callable[..., pd.DataFrame]
    ) -> None:
        strategy = each.strategy()
        strategy.ft_bot_start()
        sent = cloudpickle.dumps(strategy)
        each.registry().promote_to_production(MODEL_A, "2", force_reason="test")
        for one in (strategy, cloudpickle.loads(sent)):
            for pair, version in ((A, "1"), (B, "2")):
                found = one.populate_indicators(market[pair].copy(), {"pair": pair})
                pd.testing.assert_frame_equal(found[COLUMNS], alone(version, pair)[COLUMNS])
                assert set(found["mlpipe_version"]) == {version}
        assert each.strategy().config["mlpipe_digest"] != strategy.config["mlpipe_digest"]
        assert each.strategy().config["mlpipe_digest"] == each.strategy().config["mlpipe_digest"]

    def test_pair_without_a_model_makes_no_entries_and_is_named(
        self, one: Workspace, market: Market, logged: Callable[[], list[str]]
    ) -> None:
        assert (predicted(one, A, market)["mlpipe_do_predict"] == 1).any()
        assert (predicted(one, B, market)["mlpipe_do_predict"] == 0).all()
        assert any(f"No entries will be made with {MODEL_B}" in text for text in logged())

    def test_no_pair_with_a_model_is_refused(self, production: Workspace, market: Market) -> None:
        production.configure(scope="per_pair")
        with pytest.raises(StrategyError, match=MODEL_A):
            predicted(production, A, market)
        production.configure(serving={"on_missing": "no_entries"})
        assert (predicted(production, A, market)["mlpipe_do_predict"] == 0).all()


class TestBot:
    def test_models_are_swapped_one_by_one(
        self, each: Workspace, started: Callable[..., Iterated], alone: Callable[..., pd.DataFrame]
    ) -> None:
        bot = started(each)
        bot.process(START, START + 1)
        each.registry().promote_to_production(MODEL_A, "2", force_reason="test")
        bot.poll(MODEL_A).round()
        bot.process(START + 2)
        for pair, versions in ((A, ["1", "1", "2"]), (B, ["2", "2", "2"])):
            found = bot.frame(pair).tail(3)
            assert list(found["mlpipe_version"]) == versions
            for at, version in enumerate(versions):
                expected = alone(version, pair).iloc[START - 1 + at]
                assert found["mlpipe_proba"].iloc[at] == pytest.approx(
                    expected["mlpipe_proba"], abs=1e-6
                )
        rows = bot.journal()
        registry = each.registry()
        assert set(rows.loc[rows["pair"] == B, "digest"]) == {
            registry.get_version(MODEL_B, "2").digest
        }

    def test_features_of_models_that_use_the_same_are_computed_together(
        self, each: Workspace, started: Callable[..., Iterated], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bot, together = started(each), []
        bot.process(START)
        follow = frames.follow_together

        def follow_together(found: Any) -> Any:
            together.append(len(found))
            return follow(found)

        monkeypatch.setattr(frames, "follow_together", follow_together)
        bot.process(START + 1, START + 2)
        assert together == [2, 2]

    def test_pair_without_a_model_is_told_of_and_served_when_there_is_one(
        self, one: Workspace, started: Callable[..., Iterated]
    ) -> None:
        bot = started(one)
        bot.process(START)
        assert bot.newest(A)["mlpipe_do_predict"] == 1
        assert bot.newest(B)["mlpipe_do_predict"] == 0
        assert any(MODEL_B in text and "No entries" in text for text in bot.messages)
        one.registry().promote_to_production(MODEL_B, "1", force_reason="test")
        bot.poll(MODEL_B).round()
        bot.process(START + 1)
        assert bot.newest(B)["mlpipe_version"] == "1"
        assert any(f"{MODEL_B} version 1 is served now" in text for text in bot.messages)

    def test_restart_without_registry_serves_each_as_before(
        self, each: Workspace, started: Callable[..., Iterated], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        started(each).process(START)

        def down(_: BundleCache) -> Any:
            raise RegistryUnavailableError("down.")

        monkeypatch.setattr(BundleCache, "_store", down)
        bot = started(each)
        bot.process(START + 1)
        assert [bot.newest(pair)["mlpipe_version"] for pair in (A, B)] == ["1", "2"]
        assert sum("down." in text for text in bot.messages) == 1

    def test_watch_finds_a_version_that_speaks_no_more_under_its_pair_s_name(
        self, each: Workspace, started: Callable[..., Iterated]
    ) -> None:
        bot = started(each)
        bot.process(START)
        digest = each.registry().get_version(MODEL_A, "1").digest
        each.registry().promote_to_production(MODEL_A, "2", force_reason="test")
        bot.poll(MODEL_A).round()
        bot.process(START + 1)
        assert bot.live.bundle(digest) is None
        flip_a_byte(each.registry_directory / "cache" / digest)
        said = LivePrediction(
            A, pd.Timestamp("2023-05-01", tz="UTC"), "1", digest, "production", 0.5, 0.0, 0, 1, 1.0, 100.0
        )  # fmt: skip
        found = bot.live.watch._find(said)
        assert (found.version, found.digest) == ("1", digest)

    def test_models_follow_the_whitelist(
        self, each: Workspace, started: Callable[..., Iterated]
    ) -> None:
        bot = started(each, pairs=[A])
        bot.process(START)
        bot.feed.whitelist = [B]
        bot.strategy.gather_informative_pairs()
        assert set(bot.live.speakers) == {MODEL_B}
        deadline = time.monotonic() + 20
        while not bot.poll(MODEL_B).is_asked and time.monotonic() < deadline:
            time.sleep(0.05)
        bot.process(START + 1)
        assert bot.newest(B)["mlpipe_version"] == "2"

    def test_corrupt_model_of_one_pair_leaves_the_other_alone(
        self, each: Workspace, started: Callable[..., Iterated]
    ) -> None:
        digest = each.registry().get_version(MODEL_B, "2").digest
        for manifest in each.registry_directory.rglob("manifest.json"):
            if hashlib.sha256(manifest.read_bytes()).hexdigest() == digest:
                flip_a_byte(manifest.parent)
        bot = started(each)
        bot.process(START)
        assert [bot.newest(pair)["mlpipe_do_predict"] for pair in (A, B)] == [1, 0]
        assert any(f"{MODEL_B}: version 2 cannot be served" in text for text in bot.messages)
