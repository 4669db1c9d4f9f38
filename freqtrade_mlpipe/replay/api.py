"""The exchange's public REST API in Binance's shape: a path and its parameters in, JSON out.

No transport here: the in-process ccxt class and a server answer from the same `ReplayApi`.
"""

import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from freqtrade.exchange import timeframe_to_msecs

from freqtrade_mlpipe.config import ReplayConfig
from freqtrade_mlpipe.exceptions import DataError
from freqtrade_mlpipe.replay import wire
from freqtrade_mlpipe.replay.candles import CandleStore
from freqtrade_mlpipe.replay.feed import Clock, Feed, LiveFeed, Quote, RecordedFeed, Window
from freqtrade_mlpipe.replay.markets import Market, find_markets

SPOT = "/api/v3"
FUTURES = "/fapi/v1"
INTERVALS = frozenset(
    {"1s", "1m", "3m", "5m", "15m", "30m"}
    | {"1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M"}
)
_DEEPEST_BOOK = 1000
_KLINES = {
    f"{SPOT}/klines": "spot",
    f"{FUTURES}/klines": "futures",
    f"{FUTURES}/markPriceKlines": "mark",
    f"{FUTURES}/indexPriceKlines": "index",
    f"{FUTURES}/premiumIndexKlines": "premiumIndex",
}


class ApiError(Exception):
    """A refused request: HTTP status, Binance's error code and a message for the user."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message

    def to_json(self) -> dict[str, Any]:
        """Return the body of the response."""
        return {"code": self.code, "msg": self.message}


def wall_clock_ms() -> int:
    """Return the current time in milliseconds since the epoch, UTC."""
    return time.time_ns() // 1_000_000


class ReplayApi:
    """Answers GET requests from a candle store.

    Parameters
    ----------
    store : CandleStore
        Where the candles are.
    pairs : iterable of str
        Pairs that shall be markets although nothing is recorded for them (a whitelist).
    clock : callable
        Returns the current time in milliseconds, UTC.
    live : ReplayConfig, optional
        How to play the recording over the clock's time; without, it is served as it is.
    only : collection of str, optional
        Pairs to leave it at; without, all that are recorded.
    """

    def __init__(
        self,
        store: CandleStore,
        pairs: Iterable[str] = (),
        clock: Clock = wall_clock_ms,
        live: ReplayConfig | None = None,
        only: Collection[str] | None = None,
    ) -> None:
        self.store = store
        self.feed: Feed = RecordedFeed(store) if live is None else LiveFeed(store, live, clock)
        self._pairs = tuple(pairs)
        self._only = only
        self._clock = clock
        answers: dict[str, Callable[[str, Mapping[str, str]], Any]] = {
            "ping": lambda _path, _params: {},
            "time": lambda _path, _params: {"serverTime": self._clock()},
            "exchangeInfo": self._exchange_info,
            "ticker/24hr": self._tickers,
            "ticker/bookTicker": self._book_tickers,
            "depth": self._order_book,
            "trades": self._trades,
            "aggTrades": self._trades,
        }
        self._routes = {
            f"{prefix}/{name}": answer
            for prefix in (SPOT, FUTURES)
            for name, answer in answers.items()
        }
        self._routes |= dict.fromkeys(_KLINES, self._klines)
        self._routes[f"{FUTURES}/fundingRate"] = self._funding_rates
        self._routes[f"{FUTURES}/premiumIndex"] = self._premium_index

    def get(self, path: str, params: Mapping[str, str]) -> Any:
        """Return the decoded JSON body for a GET request.

        Parameters
        ----------
        path : str
            E.g. ``/api/v3/klines``; futures begin with ``/fapi/v1``.
        params : mapping of str to str
            The decoded query.

        Raises
        ------
        ApiError
            Unknown path, symbol or interval, malformed parameter, or nothing recorded.
        """
        route = self._routes.get(path)
        if route is None:
            raise ApiError(404, -5000, f"{path} isn't served: the exchange replays candles only.")
        try:
            return route(path, params)
        except DataError as error:
            raise ApiError(400, -1121, str(error)) from error

    @cached_property
    def markets(self) -> tuple[Market, ...]:
        """All markets, spot and linear perpetuals.

        Raises
        ------
        DataError
            The store holds no candle file.
        """
        self.store.require_candles()
        found = find_markets(self.store, self._pairs)
        return tuple(m for m in found if self._only is None or m.pair in self._only)

    def check(self, pairs: Collection[str]) -> None:
        """Read what the live clock plays for these pairs; unknown ones are passed over.

        Raises
        ------
        DataError
            A recording that can't be used, or too high a speed.
        """
        for market in self.markets:
            if market.pair in pairs:
                self.feed.quote(market)

    @cached_property
    def _by_id(self) -> dict[tuple[str, str], Market]:
        return {(market.candle_type, market.id): market for market in self.markets}

    def _market(self, path: str, params: Mapping[str, str], name: str = "symbol") -> Market:
        try:
            return self._by_id[_price_type(path), params[name]]
        except KeyError:
            raise ApiError(400, -1121, f"Invalid {name}: {params.get(name)!r}.") from None

    def _asked_for(self, path: str, params: Mapping[str, str]) -> list[Market]:
        if "symbol" in params:
            return [self._market(path, params)]
        if "symbols" not in params:
            return [m for m in self.markets if m.candle_type == _price_type(path)]
        try:
            names = [str(name) for name in json.loads(params["symbols"])]
        except (ValueError, TypeError):
            raise ApiError(400, -1100, "symbols must be a JSON list of symbols.") from None
        return [self._market(path, {"symbol": name}) for name in names]

    def _exchange_info(self, path: str, params: Mapping[str, str]) -> dict[str, Any]:
        return {
            "timezone": "UTC",
            "serverTime": self._clock(),
            "rateLimits": [],
            "exchangeFilters": [],
            "symbols": [wire.symbol(market) for market in self._asked_for(path, params)],
        }

    def _klines(self, path: str, params: Mapping[str, str]) -> list[list[Any]]:
        kind = _KLINES[path]
        market = self._market(path, params, "pair" if kind == "index" else "symbol")
        interval = params.get("interval", "")
        if interval not in INTERVALS:
            raise ApiError(400, -1120, f"Invalid interval: {interval!r}.")
        highest = 1000 if kind == "spot" else 1500
        window = _window(params, default=500, highest=highest)
        candles = self.feed.candles(market, interval, kind, window)
        return wire.klines(candles, timeframe_to_msecs(interval))

    def now_ms(self) -> int:
        """Return the exchange's time."""
        return self._clock()

    def kline(self, candle_type: str, symbol: str, interval: str) -> list[Any]:
        """Return the market's current kline, for a stream.

        Raises
        ------
        ApiError
            As `get` does.
        """
        row: list[Any] = self._stream_rows(candle_type, symbol, interval, limit="1")[-1]
        return row

    def klines_between(
        self, candle_type: str, symbol: str, interval: str, start_ms: int, end_ms: int
    ) -> list[list[Any]]:
        """Return the klines that opened between two moments, both included."""
        times = {"startTime": str(start_ms), "endTime": str(end_ms)}
        rows: list[list[Any]] = self._stream_rows(candle_type, symbol, interval, **times)
        return rows

    def _stream_rows(self, candle_type: str, symbol: str, interval: str, **more: str) -> Any:
        path = f"{SPOT if candle_type == 'spot' else FUTURES}/klines"
        return self.get(path, {"symbol": symbol, "interval": interval, **more})

    def _funding_rates(self, path: str, params: Mapping[str, str]) -> list[dict[str, Any]]:
        market = self._market(path, params)
        rates = self.feed.funding_rates(market, _window(params, default=100, highest=1000))
        return [
            {"symbol": market.id, "fundingTime": at, "fundingRate": wire.decimal_text(rate)}
            for at, (rate,) in zip(rates.open_ms.tolist(), rates.values.tolist(), strict=True)
        ]

    def _premium_index(self, path: str, params: Mapping[str, str]) -> Any:
        entries = []
        for market in self._asked_for(path, params):
            quote = self.feed.quote(market)
            if quote is not None and self.store.timeframes(market.pair, "funding_rate"):
                rates = self.feed.funding_rates(market, Window(None, None, 2))
                entries.append(wire.premium_index(market, quote.price, rates, self._clock()))
        return _one_or_all(params, entries)

    def _order_book(self, path: str, params: Mapping[str, str]) -> dict[str, Any]:
        market = self._market(path, params)
        limit = _limit(params, default=100, highest=_DEEPEST_BOOK)
        quote = self.feed.quote(market)
        if quote is None:
            raise ApiError(400, -1121, f"No candles are recorded for {market.pair}.")
        return wire.order_book(market, quote.price, quote.hourly_volume, limit, self._clock())

    def _trades(self, path: str, params: Mapping[str, str]) -> list[dict[str, Any]]:
        market = self._market(path, params)
        window = _window(params, default=500, highest=1000)
        first = _integer(params, "fromId")
        if first is not None:
            window = Window(first * 1000, None, window.limit)
        return wire.trades(self.feed.trades(market, window), aggregated=path.endswith("aggTrades"))

    def _tickers(self, path: str, params: Mapping[str, str]) -> Any:
        entries = []
        for market in self._asked_for(path, params):
            day, quote = self.feed.last_day(market), self.feed.quote(market)
            if day is not None and quote is not None:
                entry = wire.ticker(market, *day)
                # As Binance's: only spot tickers hold quotes.
                at_close = replace(quote, price=float(day[0].values[-1, 3]))
                entries.append(entry | ({} if market.settle else _top_of_book(market, at_close)))
        return _one_or_all(params, entries)

    def _book_tickers(self, path: str, params: Mapping[str, str]) -> Any:
        quotes = {market: self.feed.quote(market) for market in self._asked_for(path, params)}
        return _one_or_all(
            params,
            [_top_of_book(market, quote) for market, quote in quotes.items() if quote is not None],
        )


def _price_type(path: str) -> str:
    return "spot" if path.startswith(SPOT) else "futures"


def _top_of_book(market: Market, quote: Quote) -> dict[str, str]:
    return wire.quotes(market, quote.price, quote.hourly_volume)


def _one_or_all(params: Mapping[str, str], found: list[dict[str, Any]]) -> Any:
    if "symbol" not in params:
        return found
    if not found:
        raise ApiError(400, -1121, f"No candles are recorded for {params['symbol']}.")
    return found[0]


def _window(params: Mapping[str, str], *, default: int, highest: int) -> Window:
    limit = _limit(params, default=default, highest=highest)
    return Window(_integer(params, "startTime"), _integer(params, "endTime"), limit)


def _limit(params: Mapping[str, str], *, default: int, highest: int) -> int:
    limit = _integer(params, "limit")
    if limit is not None and limit <= 0:
        raise ApiError(400, -1130, f"limit must be positive, found {limit}.")
    return min(limit or default, highest)


def _integer(params: Mapping[str, str], name: str) -> int | None:
    try:
        return int(params[name]) if name in params else None
    except ValueError:
        raise ApiError(
            400, -1100, f"{name} must be a whole number, found {params[name]!r}."
        ) from None
