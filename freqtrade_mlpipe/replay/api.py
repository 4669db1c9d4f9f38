"""The exchange's public REST API in Binance's shape: a path and its parameters in, JSON out.

No transport here: the in-process ccxt class and a server answer from the same `ReplayApi`.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any

from freqtrade.exchange import timeframe_to_msecs

from freqtrade_mlpipe.exceptions import DataError
from freqtrade_mlpipe.replay import wire
from freqtrade_mlpipe.replay.candles import Candles, CandleStore
from freqtrade_mlpipe.replay.markets import Market, find_markets

SPOT = "/api/v3"
FUTURES = "/fapi/v1"
INTERVALS = frozenset(
    {"1s", "1m", "3m", "5m", "15m", "30m"}
    | {"1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M"}
)
_HOUR_MS = 3_600_000
_DAY_MS = 86_400_000
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


def _now_ms() -> int:
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
        Returns the current time in milliseconds, UTC. Only ``serverTime`` uses it.
    """

    def __init__(
        self, store: CandleStore, pairs: Iterable[str] = (), clock: Callable[[], int] = _now_ms
    ) -> None:
        self.store = store
        self._pairs = tuple(pairs)
        self._clock = clock
        answers: dict[str, Callable[[str, Mapping[str, str]], Any]] = {
            "ping": lambda _path, _params: {},
            "time": lambda _path, _params: {"serverTime": self._clock()},
            "exchangeInfo": self._exchange_info,
            "ticker/24hr": self._tickers,
            "ticker/bookTicker": self._book_tickers,
        }
        self._routes = {
            f"{prefix}/{name}": answer
            for prefix in (SPOT, FUTURES)
            for name, answer in answers.items()
        }
        self._routes |= dict.fromkeys(_KLINES, self._klines)
        self._routes[f"{FUTURES}/fundingRate"] = self._funding_rates

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
        return tuple(find_markets(self.store, self._pairs))

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
        candles = self.store.read(market.pair, interval, kind)
        highest = 1000 if kind == "spot" else 1500
        return wire.klines(
            _window(candles, params, default=500, highest=highest), timeframe_to_msecs(interval)
        )

    def _funding_rates(self, path: str, params: Mapping[str, str]) -> list[dict[str, Any]]:
        market = self._market(path, params)
        # The timeframe in the file's name is freqtrade's fetching interval, not the rates'.
        recorded = self.store.timeframes(market.pair, "funding_rate") or ["1h"]
        rates = self.store.read(market.pair, recorded[0], "funding_rate")
        rates = _window(rates, params, default=100, highest=1000)
        return [
            {"symbol": market.id, "fundingTime": at, "fundingRate": wire.decimal_text(rate)}
            for at, (rate,) in zip(rates.open_ms.tolist(), rates.values.tolist(), strict=True)
        ]

    def _last_day(self, market: Market) -> tuple[Candles, int] | None:
        """Return the last recorded 24 hours and a candle's length in ms; None without candles."""
        recorded = self.store.timeframes(market.pair, market.candle_type)
        if not recorded:
            return None
        up_to_hourly = [name for name in recorded if timeframe_to_msecs(name) <= _HOUR_MS]
        timeframe = (up_to_hourly or recorded[:1])[-1]
        candles = self.store.read(market.pair, timeframe, market.candle_type)
        length = timeframe_to_msecs(timeframe)
        if len(candles) == 0:
            return None
        end = int(candles.open_ms[-1]) + length
        return candles.window(end - max(_DAY_MS, length), None), length

    def _tickers(self, path: str, params: Mapping[str, str]) -> Any:
        days = {market: self._last_day(market) for market in self._asked_for(path, params)}
        return _one_or_all(
            params, [wire.ticker(market, *day) for market, day in days.items() if day is not None]
        )

    def _book_tickers(self, path: str, params: Mapping[str, str]) -> Any:
        days = {market: self._last_day(market) for market in self._asked_for(path, params)}
        return _one_or_all(
            params,
            [
                wire.quotes(market, day[0].values[-1, 3])
                for market, day in days.items()
                if day is not None
            ],
        )


def _price_type(path: str) -> str:
    return "spot" if path.startswith(SPOT) else "futures"


def _one_or_all(params: Mapping[str, str], found: list[dict[str, Any]]) -> Any:
    if "symbol" not in params:
        return found
    if not found:
        raise ApiError(400, -1121, f"No candles are recorded for {params['symbol']}.")
    return found[0]


def _window(candles: Candles, params: Mapping[str, str], *, default: int, highest: int) -> Candles:
    limit = _integer(params, "limit")
    if limit is not None and limit <= 0:
        raise ApiError(400, -1130, f"limit must be positive, found {limit}.")
    return candles.window(
        _integer(params, "startTime"), _integer(params, "endTime"), min(limit or default, highest)
    )


def _integer(params: Mapping[str, str], name: str) -> int | None:
    try:
        return int(params[name]) if name in params else None
    except ValueError:
        raise ApiError(
            400, -1100, f"{name} must be a whole number, found {params[name]!r}."
        ) from None
