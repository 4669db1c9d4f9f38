"""The exchange's public REST API, Binance's shape: a path and its parameters in, JSON out. No transport, no state of its own."""

import re
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
from freqtrade.exchange import timeframe_to_msecs

from freqtrade_mlpipe.exceptions import DataError
from freqtrade_mlpipe.replay.candles import Candles, CandleStore
from freqtrade_mlpipe.replay.markets import Market, find_markets

SPOT = "/api/v3"
FUTURES = "/fapi/v1"
INTERVALS = frozenset(
    [
        "1s",
        "1m",
        "3m",
        "5m",
        "15m",
        "30m",
        "1h",
        "2h",
        "4h",
        "6h",
        "8h",
        "12h",
        "1d",
        "3d",
        "1w",
        "1M",
    ]
)
# Binance gives every perpetual this delivery date.
_NEVER_MS = 4_133_404_800_000
_DAY_MS = 86_400_000
_KLINE_PATHS = {
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
        Pairs that shall be markets although nothing is recorded for them (a configuration's whitelist).
    clock : callable
        Returns the current time in milliseconds, UTC. Only ``time`` and ``serverTime`` use it.
    """

    def __init__(
        self, store: CandleStore, pairs: Iterable[str] = (), clock: Callable[[], int] = _now_ms
    ) -> None:
        self.store = store
        self._pairs = tuple(pairs)
        self._clock = clock
        self._routes: dict[str, Callable[[str, Mapping[str, str]], Any]] = {
            f"{prefix}/{name}": answer
            for prefix in (SPOT, FUTURES)
            for name, answer in {
                "ping": lambda _path, _params: {},
                "time": lambda _path, _params: {"serverTime": self._clock()},
                "exchangeInfo": self._exchange_info,
                "ticker/24hr": self._ticker_24hr,
                "ticker/bookTicker": self._book_ticker,
            }.items()
        }
        self._routes |= dict.fromkeys(_KLINE_PATHS, self._klines)
        self._routes[f"{FUTURES}/fundingRate"] = self._funding_rate

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
            raise ApiError(
                404, -5000, f"The replay exchange doesn't serve {path}: it replays candles only."
            )
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

    def _of(self, path: str) -> list[Market]:
        kind = "spot" if path.startswith(SPOT) else "futures"
        return [market for market in self.markets if market.candle_type == kind]

    def _market(self, path: str, params: Mapping[str, str], name: str = "symbol") -> Market:
        kind = "spot" if path.startswith(SPOT) else "futures"
        try:
            return self._by_id[kind, params[name]]
        except KeyError:
            raise ApiError(400, -1121, f"Invalid symbol: {params.get(name)}.") from None

    def _exchange_info(self, path: str, params: Mapping[str, str]) -> dict[str, Any]:
        describe = _spot_symbol if path.startswith(SPOT) else _futures_symbol
        return {
            "timezone": "UTC",
            "serverTime": self._clock(),
            "rateLimits": [],
            "exchangeFilters": [],
            "symbols": [describe(market) for market in self._of(path)],
        }

    def _klines(self, path: str, params: Mapping[str, str]) -> list[list[Any]]:
        kind = _KLINE_PATHS[path]
        market = self._market(path, params, "pair" if kind == "index" else "symbol")
        interval = params.get("interval", "")
        if interval not in INTERVALS:
            raise ApiError(400, -1120, f"Invalid interval: {interval!r}.")
        candles = self.store.read(market.pair, interval, kind).window(
            _integer(params, "startTime"), _integer(params, "endTime"), _limit(params, 500, 1500)
        )
        length = timeframe_to_msecs(interval)
        return [
            [
                opened,
                *map(decimal_text, row),
                opened + length - 1,
                decimal_text(row[3] * row[4]),
                0,
                "0",
                "0",
                "0",
            ]
            for opened, row in zip(candles.open_ms.tolist(), candles.values.tolist(), strict=True)
        ]

    def _funding_rate(self, path: str, params: Mapping[str, str]) -> list[dict[str, Any]]:
        market = self._market(path, params)
        recorded = self.store.timeframes(market.pair, "funding_rate")
        rates = self.store.read(
            market.pair, recorded[0] if recorded else "1h", "funding_rate"
        ).window(
            _integer(params, "startTime"), _integer(params, "endTime"), _limit(params, 100, 1000)
        )
        return [
            {"symbol": market.id, "fundingTime": at, "fundingRate": decimal_text(rate)}
            for at, (rate,) in zip(rates.open_ms.tolist(), rates.values.tolist(), strict=True)
        ]

    def _asked_for(self, path: str, params: Mapping[str, str]) -> list[Market]:
        if "symbol" in params:
            return [self._market(path, params)]
        if "symbols" in params:
            names = re.findall(r'"([^"]+)"', params["symbols"])
            return [self._market(path, {"symbol": name}) for name in names]
        return self._of(path)

    def _last_day(self, market: Market) -> tuple[Candles, int] | None:
        """Return the last recorded 24 hours and the length of a candle in ms; None for a pair without candles."""
        recorded = self.store.timeframes(market.pair, market.candle_type)
        if not recorded:
            return None
        hourly = [timeframe for timeframe in recorded if timeframe_to_msecs(timeframe) <= 3_600_000]
        timeframe = hourly[-1] if hourly else recorded[0]
        candles = self.store.read(market.pair, timeframe, market.candle_type)
        if len(candles) == 0:
            return None
        length = timeframe_to_msecs(timeframe)
        return candles.window(
            int(candles.open_ms[-1]) + length - max(_DAY_MS, length), None
        ), length

    def _ticker_24hr(self, path: str, params: Mapping[str, str]) -> Any:
        found = [self._ticker(market) for market in self._asked_for(path, params)]
        answer = [ticker for ticker in found if ticker is not None]
        return answer[0] if "symbol" in params and answer else answer

    def _ticker(self, market: Market) -> dict[str, Any] | None:
        day = self._last_day(market)
        if day is None:
            return None
        candles, length = day
        opened, high, low, close, volume = candles.values.T
        change = close[-1] - opened[0]
        quote_volume = float(np.sum(close * volume))
        ticker = {
            "symbol": market.id,
            "priceChange": decimal_text(change),
            "priceChangePercent": decimal_text(round(100 * change / opened[0], 3)),
            "weightedAvgPrice": decimal_text(
                quote_volume / volume.sum() if volume.sum() > 0 else close[-1]
            ),
            "lastPrice": decimal_text(close[-1]),
            "openPrice": decimal_text(opened[0]),
            "highPrice": decimal_text(high.max()),
            "lowPrice": decimal_text(low.min()),
            "volume": decimal_text(volume.sum()),
            "quoteVolume": decimal_text(quote_volume),
            "openTime": int(candles.open_ms[0]),
            "closeTime": int(candles.open_ms[-1]) + length - 1,
        }
        return ticker if market.settle else ticker | _quotes(market, close[-1])

    def _book_ticker(self, path: str, params: Mapping[str, str]) -> Any:
        answer = []
        for market in self._asked_for(path, params):
            day = self._last_day(market)
            if day is not None:
                answer.append({"symbol": market.id} | _quotes(market, day[0].values[-1, 3]))
        return answer[0] if "symbol" in params and answer else answer


def _quotes(market: Market, close: float) -> dict[str, str]:
    """Return bid and ask one tick apart around the last close: candles hold no quotes."""
    ask = close + float(market.tick_size)
    return {
        "bidPrice": decimal_text(close),
        "askPrice": decimal_text(round(ask, 12)),
        "bidQty": "1",
        "askQty": "1",
    }


def _spot_symbol(market: Market) -> dict[str, Any]:
    return {
        "symbol": market.id,
        "status": "TRADING",
        "baseAsset": market.base,
        "baseAssetPrecision": 8,
        "quoteAsset": market.quote,
        "quotePrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT"],
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "permissions": ["SPOT"],
        "filters": [
            *_filters(market),
            {"filterType": "NOTIONAL", "minNotional": f"{market.min_notional:f}"},
        ],
    }


def _futures_symbol(market: Market) -> dict[str, Any]:
    return {
        "symbol": market.id,
        "pair": market.id,
        "contractType": "PERPETUAL",
        "deliveryDate": _NEVER_MS,
        "status": "TRADING",
        "baseAsset": market.base,
        "quoteAsset": market.quote,
        "marginAsset": market.settle,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "orderTypes": [
            "LIMIT",
            "MARKET",
            "STOP",
            "STOP_MARKET",
            "TAKE_PROFIT",
            "TAKE_PROFIT_MARKET",
        ],
        "filters": [
            *_filters(market),
            {"filterType": "MIN_NOTIONAL", "notional": f"{market.min_notional:f}"},
        ],
    }


def _filters(market: Market) -> list[dict[str, str]]:
    tick, step = f"{market.tick_size:f}", f"{market.step_size:f}"
    return [
        {
            "filterType": "PRICE_FILTER",
            "minPrice": tick,
            "maxPrice": "1000000000",
            "tickSize": tick,
        },
        {"filterType": "LOT_SIZE", "minQty": step, "maxQty": "1000000000000", "stepSize": step},
    ]


def decimal_text(value: float) -> str:
    """Return the shortest decimal text that reads back as `value`, never in exponent form."""
    text = repr(float(value))
    return np.format_float_positional(value, trim="-") if "e" in text else text


def _integer(params: Mapping[str, str], name: str) -> int | None:
    try:
        return int(params[name]) if name in params else None
    except ValueError:
        raise ApiError(
            400, -1100, f"{name} must be a whole number, found {params[name]!r}."
        ) from None


def _limit(params: Mapping[str, str], default: int, highest: int) -> int:
    limit = _integer(params, "limit")
    if limit is not None and limit <= 0:
        raise ApiError(400, -1130, f"limit must be positive, found {limit}.")
    return min(limit or default, highest)
