"""The search makes the same epochs however many workers there are, whoever is quicker, and wherever it was cut off."""

from __future__ import annotations

import json
import math
import random
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from freqtrade_mlpipe.config import MLPipeConfig
from freqtrade_mlpipe.exceptions import SearchInterrupted
from freqtrade_mlpipe.retraining import Epoch, EpochLog, Judgement, Plan, Proposals, SearchSpace
from freqtrade_mlpipe.retraining.search import search
from freqtrade_mlpipe.retraining.workers import Inline

SPACE = SearchSpace(MLPipeConfig(), ("labels", "signal", "model"))
PLAN = Plan(n_epochs=30, ahead=4, seed=7)


def loss_of(params: dict) -> float:
    """Best at a horizon of 10 and cautious thresholds."""
    return abs(math.log(params["labels.horizon_candles"] / 10)) - params["model.threshold_caution"]


def judged(number: int, params: dict) -> Epoch:
    return Epoch(number, params, Judgement(loss_of(params), sharpe=math.nan), 0.0)


@dataclass
class Unpunctual:
    """Several workers that take their time, each epoch another."""

    n: int
    seed: int = 0
    asked: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._pool, self._random = ThreadPoolExecutor(self.n), random.Random(self.seed)

    def submit(self, number: int, params: dict) -> Future:
        self.asked.append(number)
        delay = self._random.random() * 0.01

        def work() -> Epoch:
            time.sleep(delay)
            return judged(number, params)

        return self._pool.submit(work)


def run(folder: Path, workers=None, plan: Plan = PLAN, seen=None) -> list[Epoch]:
    workers = workers or Inline(judged)
    log = EpochLog(folder / "epochs.jsonl")
    report = (seen if seen is not None else []).append
    return search(plan, Proposals(SPACE, plan.seed), workers, log, report)


def tried(epochs: list[Epoch]) -> list[tuple]:
    return [(epoch.number, epoch.params, epoch.loss) for epoch in epochs]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[Epoch]:
    return run(tmp_path_factory.mktemp("alone"))


def test_the_first_epoch_is_the_present_configuration(alone):
    assert alone[0].params == SPACE.present()


def test_it_learns(alone):
    random_ones = sorted(epoch.loss for epoch in alone[:10])
    assert min(epoch.loss for epoch in alone) < random_ones[0]
    late = sorted(epoch.loss for epoch in alone[20:])
    assert late[5] < random_ones[5]


@pytest.mark.parametrize("n_workers", [1, 2, 4])
def test_workers_do_not_change_the_epochs(tmp_path, alone, n_workers):
    seen = []
    found = run(tmp_path, Unpunctual(n_workers, seed=n_workers), seen=seen)
    assert tried(found) == tried(alone)
    assert [epoch.number for epoch in seen] == list(range(1, 31))


def test_another_seed_makes_another_search(tmp_path, alone):
    assert tried(run(tmp_path, plan=Plan(30, 4, seed=8)))[1:] != tried(alone)[1:]


@pytest.mark.parametrize("kept", [0, 1, 9, 17, 30])
def test_whatever_was_finished_before_a_kill_is_not_repeated(tmp_path, alone, kept):
    """Finished in any order, and the last line cut off."""
    run(tmp_path)
    log = tmp_path / "epochs.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    random.Random(kept).shuffle(lines)
    cut = lines[kept][: len(lines[kept]) // 2] if kept < 30 else b""
    log.write_bytes(b"".join(lines[:kept]) + cut)
    there = {json.loads(line)["number"] for line in lines[:kept]}
    workers = Unpunctual(2)
    assert tried(run(tmp_path, workers)) == tried(alone)
    assert set(workers.asked) == set(range(1, 31)) - there
    assert sorted(EpochLog(log).read()) == list(range(1, 31))


def test_more_epochs_go_on_with_the_same_search(tmp_path, alone):
    run(tmp_path, plan=Plan(12, 4, seed=7))
    workers = Unpunctual(3)
    assert tried(run(tmp_path, workers)) == tried(alone)
    assert sorted(workers.asked) == list(range(13, 31))


def test_an_epoch_that_was_kept_with_other_values_is_repeated(tmp_path, alone, caplog):
    run(tmp_path)
    log = tmp_path / "epochs.jsonl"
    epochs = [json.loads(line) for line in log.read_text().splitlines()]
    epochs[4]["params"]["labels.horizon_candles"] = 999
    log.write_text("".join(json.dumps(epoch) + "\n" for epoch in epochs))
    workers = Unpunctual(1)
    assert tried(run(tmp_path, workers)) == tried(alone)
    assert workers.asked == [5]
    assert "Epoch 5 was kept with other values" in caplog.text


def test_early_stop_ends_at_the_same_epoch_with_any_number_of_workers(tmp_path):
    plan = Plan(200, 4, early_stop=12, seed=7)
    ends = []
    for n in (1, 3):
        folder = tmp_path / str(n)
        folder.mkdir()
        ends.append(run(folder, Unpunctual(n), plan))
    assert tried(ends[0]) == tried(ends[1])
    assert 12 < len(ends[0]) < 200
    best = min(ends[0], key=lambda epoch: epoch.loss)
    assert len(ends[0]) - best.number <= 12 + plan.ahead


def test_an_epoch_knows_nothing_of_the_ones_that_may_run_beside_it(tmp_path, alone):
    """Epochs 13 to 16 turn out best of all: 14 to 16 were proposed without that, what follows was not."""

    def otherwise(number: int, params: dict) -> Epoch:
        loss = -50.0 if 13 <= number <= 16 else loss_of(params)
        return Epoch(number, params, Judgement(loss), 0.0)

    found = run(tmp_path, Inline(otherwise))
    same = [a.params == b.params for a, b in zip(found, alone, strict=True)]
    assert all(same[:16])
    assert not all(same[16:])


def test_ctrl_c_keeps_what_is_finished(tmp_path):
    def interrupted(number: int, params: dict) -> Epoch:
        if number == 6:
            raise KeyboardInterrupt
        return judged(number, params)

    with pytest.raises(SearchInterrupted, match="5 of 30 epochs are done and kept"):
        run(tmp_path, Inline(interrupted))
    assert sorted(EpochLog(tmp_path / "epochs.jsonl").read()) == [1, 2, 3, 4, 5]


def test_what_is_kept_is_what_was_judged(tmp_path):
    metrics = {"total_trades": 3, "sharpe": math.inf, "pairs": [{"key": "A", "cagr": math.nan}]}
    epoch = Epoch(1, {"a.b": True, "a.c": 0.1}, Judgement(-1.5, math.nan, metrics, "why"), 2.5)
    log = EpochLog(tmp_path / "epochs.jsonl")
    log.append(epoch)
    (found,) = log.read().values()
    assert (found.number, found.params, found.seconds) == (1, epoch.params, 2.5)
    assert (found.loss, found.judgement.error) == (-1.5, "why")
    assert math.isnan(found.judgement.sharpe)
    assert found.judgement.metrics == {
        "total_trades": 3, "sharpe": None, "pairs": [{"key": "A", "cagr": None}],
    }  # fmt: skip
