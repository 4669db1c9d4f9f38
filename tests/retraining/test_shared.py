"""A search shared over a database: the same epochs as alone; none lost, none twice, whoever is killed."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from freqtrade_mlpipe.exceptions import SearchInterrupted, StoreUnavailableError, TrainingError
from freqtrade_mlpipe.retraining import Epoch, Judgement, Plan, Proposals
from freqtrade_mlpipe.retraining.shared import Board, share
from tests.retraining.test_search import PLAN, SPACE, judged, run, tried
from tests.servers import Server


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'board.db'}"


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[Epoch]:
    return run(tmp_path_factory.mktemp("alone"))


def board(url: str, worker: str, **settings: float) -> Board:
    return Board(url, "study.1", worker, **settings)


def help_out(url: str, worker: str, evaluate=judged, plan: Plan = PLAN, **settings) -> list[Epoch]:
    proposals = Proposals(SPACE, plan.seed)
    own = board(url, worker, **settings)
    return share(plan, proposals, evaluate, own, lambda epoch: None, poll_seconds=0.01)


def rows(url: str) -> list[tuple]:
    engine = sa.create_engine(url)
    with closing(engine.raw_connection()) as connection:
        cursor = connection.cursor()
        cursor.execute(
            "SELECT number, worker, epoch IS NOT NULL FROM mlpipe_epochs ORDER BY number"
        )
        return [tuple(row) for row in cursor.fetchall()]


def test_one_worker_makes_the_epochs_of_a_search_alone(sqlite, alone):
    seen = []
    found = share(
        PLAN,
        Proposals(SPACE, PLAN.seed),
        judged,
        board(sqlite, "a"),
        seen.append,
        poll_seconds=0.01,
    )
    assert tried(found) == tried(alone)
    assert tried(seen) == tried(alone)


def test_several_workers_make_the_same_epochs_each_once(sqlite, alone):
    made: list[int] = []

    def slow(number: int, params: dict) -> Epoch:
        made.append(number)
        time.sleep(0.01)
        return judged(number, params)

    results: dict[str, list[Epoch]] = {}
    threads = [
        threading.Thread(target=lambda n=name: results.update({n: help_out(sqlite, n, slow)}))
        for name in "abc"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert all(tried(found) == tried(alone) for found in results.values())
    assert sorted(results) == ["a", "b", "c"]
    assert sorted(made) == list(range(1, 31))
    assert len({worker for _, worker, _ in rows(sqlite)}) > 1


def silence(url: str, seconds: float) -> None:
    """As if nothing had been heard of any worker for so long."""
    with sa.create_engine(url).begin() as connection:
        connection.execute(sa.text("UPDATE mlpipe_epochs SET beat = beat - :s"), {"s": seconds})


def test_the_epoch_of_a_silent_worker_is_anybodys_and_of_a_living_one_is_not(sqlite):
    dead, alive = (board(sqlite, name, beat_seconds=1_000) for name in ("dead", "alive"))
    assert dead.claim(1)
    assert not alive.claim(1)
    assert dead.claim(1)  # its own, after an answer that was lost
    silence(sqlite, 3_500)
    dead.beat(1)
    assert not alive.claim(1)
    silence(sqlite, 3_500)
    assert alive.claim(1)
    assert not dead.claim(1)
    dead.beat(1)  # it does not know yet: nobody listens
    silence(sqlite, 3_500)
    assert dead.claim(1)


def test_only_the_first_result_of_an_epoch_counts(sqlite):
    late, quick = (board(sqlite, name) for name in ("late", "quick"))
    assert late.claim(1)
    silence(sqlite, 100)
    assert quick.claim(1)
    quick.finish(Epoch(1, {}, Judgement(1.0), 0.0))
    late.finish(Epoch(1, {}, Judgement(2.0), 0.0))
    assert quick.finished()[1].loss == 1.0
    assert not late.claim(1)


def test_a_worker_at_a_long_epoch_says_that_it_is_alive(sqlite):
    engine, beats = sa.create_engine(sqlite), set()

    def long(number: int, params: dict) -> Epoch:
        deadline = time.monotonic() + 60
        while len(beats) < 3 and time.monotonic() < deadline:
            with engine.connect() as connection:
                beats.add(connection.execute(sa.text("SELECT beat FROM mlpipe_epochs")).scalar())
        return judged(number, params)

    help_out(sqlite, "a", long, Plan(1, 4, seed=7), beat_seconds=0.02)
    assert len(beats) == 3


def test_what_an_interrupted_worker_finished_is_kept(sqlite, alone):
    def interrupted(number: int, params: dict) -> Epoch:
        if number == 6:
            raise KeyboardInterrupt
        return judged(number, params)

    with pytest.raises(SearchInterrupted, match="5 of 30 epochs"):
        help_out(sqlite, "a", interrupted)
    silence(sqlite, 100)
    made = []

    def noted(number: int, params: dict) -> Epoch:
        made.append(number)
        return judged(number, params)

    assert tried(help_out(sqlite, "b", noted)) == tried(alone)
    assert made == list(range(6, 31))


def test_searches_do_not_see_each_other(sqlite):
    assert Board(sqlite, "study.1", "a").claim(1)
    assert Board(sqlite, "study.2", "b").claim(1)
    assert Board(sqlite, "study.2", "b").finished() == {}


def test_a_worker_with_other_proposals_is_told_so(sqlite):
    help_out(sqlite, "a", plan=Plan(3, 4, seed=7))
    with pytest.raises(TrainingError, match="tried other values than are proposed here"):
        help_out(sqlite, "b", plan=Plan(3, 4, seed=8))


@pytest.mark.parametrize(
    "url, said",
    [
        ("nonsense", "no database address"),
        ("sqlite:////nowhere/at/all.db", "does not answer"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused(url, said, monkeypatch):
    monkeypatch.setattr("freqtrade_mlpipe.retraining.shared._FIRST_SECONDS", 0.1)
    with pytest.raises(StoreUnavailableError, match=said):
        board(url, "a")


@pytest.mark.server
@pytest.mark.slow
def test_on_postgresql_that_is_restarted_no_epoch_is_lost_or_made_twice(alone, request):
    pytest.importorskip("psycopg2", reason="psycopg2 is not installed: pip install '.[server]'")
    server: Server = request.getfixturevalue("server")
    made: list[int] = []

    def slow(number: int, params: dict) -> Epoch:
        made.append(number)
        if number == 5:
            server.postgres.send_signal(signal.SIGINT)
            server.postgres.wait(60)
            time.sleep(1)  # the others ask in vain
            server.start_postgres()
        time.sleep(0.02)
        return judged(number, params)

    results: dict[str, list[Epoch]] = {}
    threads = [
        threading.Thread(
            target=lambda n=name: results.update({n: help_out(server.database, n, slow)})
        )
        for name in "abc"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(180)
    server.wait_until_ready()
    assert {name: tried(found) for name, found in results.items()} == dict.fromkeys(
        "abc", tried(alone)
    )
    assert sorted(made) == list(range(1, 31))
