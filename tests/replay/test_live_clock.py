"""The exchange with the live clock: what each address answers at a moment, at any speed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from freqtrade_mlpipe.config import ReplayConfig
from freqtrade_mlpipe.exceptions import DataError
from freqtrade_mlpipe.replay.api import ApiError, ReplayApi
from freqtrade_mlpipe.replay.candles import CandleStore
from tests.replay.markets_on_disk import END, funding

MINUTE = 60_000
HOUR = 60 * MINUTE
WEEK = 168 * HOUR


class Clock:
    """A Thursday afternoon, years after the recording; tests move it."""

    def __init__(self) -> None:
        self.ms = int(pd.Timestamp("2026-11-19 15:37:21.500", tz="UTC").timestamp() * 1000)

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


def live(directory: Path, clock: Clock, **settings: Any) -> ReplayApi:
    keys = {"replay_timeframe": "1h"} | {f"replay_{key}": value for key, value in settings.items()}
    return ReplayApi(CandleStore(directory), ["SOL/USDT"], clock, ReplayConfig(**keys))


def klines(
    api: ReplayApi, interval: str, path: str = "/api/v3/klines", **params: Any
) -> np.ndarray:
    asked = {"symbol": "BTCUSDT", "interval": interval} | {k: str(v) for k, v in params.items()}
    rows = api.get(path, asked)
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    return np.array([[float(value) for value in row[:6]] for row in rows]).reshape(-1, 6)


@pytest.mark.parametrize(
    ("interval", "opens"),
    [
        ("1m", "2026-11-19 15:37"),
        ("5m", "2026-11-19 15:35"),
        ("1h", "2026-11-19 15:00"),
        ("1d", "2026-11-19"),
        ("1w", "2026-11-16"),
        ("1M", "2026-11-01"),
    ],
)
def test_the_last_candle_is_the_unfinished_one(
    spot_candles: Path, clock: Clock, interval: str, opens: str
) -> None:
    api = live(spot_candles, clock)
    rows = klines(api, interval, limit=3)
    assert pd.Timestamp(rows[-1, 0], unit="ms") == pd.Timestamp(opens)
    assert len(rows) == 3
    assert rows[-1, 4] == float(api.get("/api/v3/ticker/24hr", {"symbol": "BTCUSDT"})["lastPrice"])


def test_finished_candles_never_change(spot_candles: Path, clock: Clock) -> None:
    api = live(spot_candles, clock, speed=60)
    before = klines(api, "1m", limit=100)
    clock.ms += 41 * MINUTE
    restarted = live(spot_candles, clock, speed=60)
    after = klines(restarted, "1m", startTime=int(before[0, 0]), limit=99)
    assert after.tolist() == before[:-1].tolist()


def test_at_speed_1_hours_and_weekdays_fall_where_they_were_recorded(
    spot_candles: Path, clock: Clock
) -> None:
    frame = pd.read_feather(spot_candles / "BTC_USDT-1h.feather")
    rows = klines(live(spot_candles, clock), "1h", limit=1000)
    weeks = len(frame) // 168
    played = frame.tail(weeks * 168)
    volumes: dict[tuple[int, int], set[float]] = {}
    for date, traded in zip(played["date"], played["volume"], strict=True):
        volumes.setdefault((date.weekday(), date.hour), set()).add(traded)
    for opened, traded in rows[:-1, [0, 5]]:
        date = pd.Timestamp(opened, unit="ms")
        assert traded in volumes[date.weekday(), date.hour]


def test_speed_says_how_much_of_the_recording_a_candle_holds(
    spot_candles: Path, clock: Clock
) -> None:
    minutes = klines(live(spot_candles, clock, speed=60), "1m", limit=1000)[:-1]
    hourly = pd.read_feather(spot_candles / "BTC_USDT-1h.feather")["volume"].to_numpy()
    played = hourly[-8 * 168 :]  # eight whole weeks of the recording's sixty days
    (offset,) = np.flatnonzero(played == minutes[0, 5])
    expected = np.tile(played, 3)[offset : offset + len(minutes)]
    assert minutes[:, 5].tolist() == expected.tolist()


def test_nothing_is_served_from_the_future(spot_candles: Path, clock: Clock) -> None:
    api = live(spot_candles, clock)
    assert len(klines(api, "1h", startTime=clock.ms + HOUR)) == 0
    rows = klines(api, "1m", startTime=clock.ms - 5 * MINUTE, endTime=clock.ms + WEEK)
    assert len(rows) == 5
    assert len(klines(api, "1m", startTime=clock.ms, endTime=clock.ms - 10 * MINUTE)) == 0


def test_paging_gives_every_candle_once(spot_candles: Path, clock: Clock) -> None:
    api = live(spot_candles, clock)
    since = clock.ms - 3500 * 5 * MINUTE
    pages = []
    while len(page := klines(api, "5m", startTime=since, limit=1000)):
        pages.append(page)
        since = int(page[-1, 0]) + 1
    opened = np.concatenate(pages)[:, 0]
    assert (np.diff(opened) == 5 * MINUTE).all()
    assert len(opened) == 3500


def test_the_order_book_follows_the_price(spot_candles: Path, clock: Clock) -> None:
    api = live(spot_candles, clock, speed=60)
    seen = set()
    for _ in range(40):
        clock.ms += 3_000
        book = api.get("/api/v3/depth", {"symbol": "BTCUSDT", "limit": "20"})
        bids, asks = (np.array(book[side], dtype=float) for side in ("bids", "asks"))
        last = klines(api, "1m", limit=1)[0, 4]
        assert bids[0, 0] == last
        assert asks[0, 0] == pytest.approx(last + 0.01)
        assert (np.diff(bids[:, 0]) < 0).all()
        assert (np.diff(asks[:, 0]) > 0).all()
        assert (bids > 0).all()
        assert len(bids) == len(asks) == 20
        assert bids[:, 0] == pytest.approx(bids[:, 0].round(2), abs=1e-9)
        seen.add(last)
        ticker = api.get("/api/v3/ticker/bookTicker", {"symbol": "BTCUSDT"})
        assert (float(ticker["bidPrice"]), float(ticker["askPrice"])) == (bids[0, 0], asks[0, 0])
    assert len(seen) > 30


def test_trades_are_a_second_apart_and_make_up_the_candle_s_volume(
    spot_candles: Path, clock: Clock
) -> None:
    api = live(spot_candles, clock, speed=60)
    candle = klines(api, "1m", limit=2)[0]
    span = {
        "symbol": "BTCUSDT",
        "startTime": str(int(candle[0])),
        "endTime": str(int(candle[0]) + 59_999),
    }
    trades = api.get("/api/v3/aggTrades", span)
    assert len(trades) == 60
    assert sum(float(trade["q"]) for trade in trades) == pytest.approx(candle[5], abs=1e-5)
    prices = [float(trade["p"]) for trade in trades]
    assert prices[-1] == candle[4]
    assert max(prices) <= candle[2]
    assert min(prices) >= candle[3]
    again = api.get(
        "/api/v3/aggTrades", {"symbol": "BTCUSDT", "fromId": str(trades[7]["a"]), "limit": "5"}
    )
    assert again == trades[7:12]
    latest = api.get("/api/v3/trades", {"symbol": "BTCUSDT", "limit": "2"})
    assert clock.ms - 2_000 < latest[-1]["time"] <= clock.ms - 1_000


def test_mark_and_index_follow_the_price_of_the_perpetual(
    futures_candles: Path, clock: Clock
) -> None:
    api = live(futures_candles, clock)
    traded = klines(api, "1h", "/fapi/v1/klines", limit=50)
    mark = klines(api, "1h", "/fapi/v1/markPriceKlines", limit=50)
    index = klines(api, "1h", "/fapi/v1/indexPriceKlines", limit=50, pair="BTCUSDT")
    assert mark[:, :5].tolist() == index[:, :5].tolist() == traded[:, :5].tolist()
    assert not mark[:, 5].any()


def rates(api: ReplayApi, **params: Any) -> list[tuple[int, float]]:
    asked = {"symbol": "BTCUSDT"} | {key: str(value) for key, value in params.items()}
    found = api.get("/fapi/v1/fundingRate", asked)
    return [(entry["fundingTime"], float(entry["fundingRate"])) for entry in found]


def test_at_speed_1_the_recorded_funding_rates_are_due_at_their_hours(
    futures_candles: Path, clock: Clock
) -> None:
    recorded = funding(0)
    found = rates(live(futures_candles, clock), limit=200)
    by_slot: dict[tuple[int, int], set[float]] = {}
    for date, rate in zip(recorded["date"], recorded["open"], strict=True):
        by_slot.setdefault((date.weekday(), date.hour), set()).add(rate)
    assert len(found) == 200
    for at, rate in found:
        date = pd.Timestamp(at, unit="ms")
        assert rate in by_slot[date.weekday(), date.hour]
    assert clock.ms - 8 * HOUR < found[-1][0] <= clock.ms


@pytest.mark.parametrize(("speed", "hours", "turns"), [(2, 4, 1), (8, 1, 1), (60, 1, 5)])
def test_a_faster_clock_pays_as_much_over_a_whole_recording(
    futures_candles: Path, clock: Clock, speed: int, hours: int, turns: int
) -> None:
    found = rates(live(futures_candles, clock, speed=speed), limit=1000)
    times = np.diff([at for at, _ in found])
    assert (times == hours * HOUR).all()
    played = funding(0)
    played = played[played["date"] >= END - pd.Timedelta(weeks=8)]["open"].sum()
    payments = turns * 8 * 168 // (speed * hours)  # in so many turns of eight weeks
    assert sum(rate for _, rate in found[-payments:]) == pytest.approx(turns * played)


def test_premium_index_says_price_last_rate_and_when_the_next_is_due(
    futures_candles: Path, clock: Clock
) -> None:
    api = live(futures_candles, clock)
    entry = api.get("/fapi/v1/premiumIndex", {"symbol": "BTCUSDT"})
    at, rate = rates(api, limit=1)[0]
    assert float(entry["lastFundingRate"]) == rate
    assert entry["nextFundingTime"] == at + 8 * HOUR > clock.ms
    assert float(entry["markPrice"]) == klines(api, "1m", "/fapi/v1/klines", limit=1)[0, 4]
    assert len(api.get("/fapi/v1/premiumIndex", {})) == 2


def test_the_shortest_recorded_timeframe_is_played_by_default(
    spot_candles: Path, clock: Clock
) -> None:
    api = ReplayApi(CandleStore(spot_candles), (), clock, ReplayConfig())
    fine = pd.read_feather(spot_candles / "BTC_USDT-5m.feather")["volume"].to_numpy()
    played = klines(api, "5m", limit=1000)[:-1, 5]
    (offset,) = np.flatnonzero(fine == played[0])
    assert played.tolist() == np.tile(fine, 3)[offset : offset + len(played)].tolist()


def test_a_file_that_breaks_later_changes_nothing(spot_candles: Path, clock: Clock) -> None:
    api = live(spot_candles, clock)
    before = klines(api, "1h", limit=10)
    (spot_candles / "BTC_USDT-1h.feather").write_bytes(b"not a candle file")
    assert klines(api, "1h", limit=10).tolist() == before.tolist()
    (spot_candles / "BTC_USDT-1h.feather").unlink()
    assert klines(api, "1h", limit=10).tolist() == before.tolist()


def test_what_cannot_be_played_says_why(spot_candles: Path, clock: Clock) -> None:
    for speed, message in ((10**6, "Set at most 806"), (806, None)):
        api = live(spot_candles, clock, speed=speed)
        if message:
            with pytest.raises(ApiError, match=message):
                klines(api, "1m")
            with pytest.raises(DataError, match=message):
                api.check(["BTC/USDT"])
        else:
            assert len(klines(api, "1m")) == 500
    with pytest.raises(ApiError, match="SOL/USDT"):
        api.get("/api/v3/klines", {"symbol": "SOLUSDT", "interval": "1m"})
    with pytest.raises(ApiError, match="SOL/USDT"):
        api.get("/api/v3/depth", {"symbol": "SOLUSDT"})
    recorded = ReplayApi(CandleStore(spot_candles), (), clock)
    with pytest.raises(ApiError, match="No trades are recorded"):
        recorded.get("/api/v3/aggTrades", {"symbol": "BTCUSDT"})
