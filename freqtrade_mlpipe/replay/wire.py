"""The JSON forms of Binance's public REST API: symbols, klines, tickers; decimals are text."""

from decimal import Decimal
from typing import Any

import numpy as np

from freqtrade_mlpipe.replay.candles import Candles
from freqtrade_mlpipe.replay.markets import Market

# Binance gives every perpetual this delivery date.
_NEVER_MS = 4_133_404_800_000
_LEVEL_DISTANCE = 1e-4
_LEVEL_SHARE = 1e-3


def decimal_text(value: float) -> str:
    """Return the shortest decimal text that reads back as `value`, never in exponent form.

    >>> decimal_text(0.1 + 0.2), decimal_text(1e-7), decimal_text(3)
    ('0.30000000000000004', '0.0000001', '3.0')
    """
    text = repr(float(value))
    return np.format_float_positional(value, trim="0") if "e" in text else text


def klines(candles: Candles, length_ms: int) -> list[list[Any]]:
    """Return kline rows; trade counts and taker volumes, which candles don't hold, are 0."""
    return [
        [
            opened,
            *map(decimal_text, row),
            opened + length_ms - 1,
            decimal_text(row[3] * row[4]),
            0,
            "0",
            "0",
            "0",
        ]
        for opened, row in zip(candles.open_ms.tolist(), candles.values.tolist(), strict=True)
    ]


def symbol(market: Market) -> dict[str, Any]:
    """Return a market's entry in ``exchangeInfo``."""
    entry: dict[str, Any] = {
        "symbol": market.id,
        "status": "TRADING",
        "baseAsset": market.base,
        "baseAssetPrecision": 8,
        "quoteAsset": market.quote,
        "quotePrecision": 8,
        "orderTypes": ["LIMIT", "MARKET"],
    }
    notional = f"{market.min_notional:f}"
    if market.settle is None:
        filters = [*_filters(market), {"filterType": "NOTIONAL", "minNotional": notional}]
        permissions = {"isSpotTradingAllowed": True, "permissions": ["SPOT"]}
        return entry | permissions | {"filters": filters}
    filters = [*_filters(market), {"filterType": "MIN_NOTIONAL", "notional": notional}]
    contract = {
        "pair": market.id,
        "contractType": "PERPETUAL",
        "deliveryDate": _NEVER_MS,
        "marginAsset": market.settle,
    }
    return entry | contract | {"filters": filters}


def _filters(market: Market) -> list[dict[str, str]]:
    tick, step = f"{market.tick_size:f}", f"{market.step_size:f}"
    price = {"minPrice": tick, "maxPrice": "1000000000", "tickSize": tick}
    amount = {"minQty": step, "maxQty": "1000000000000", "stepSize": step}
    return [{"filterType": "PRICE_FILTER"} | price, {"filterType": "LOT_SIZE"} | amount]


def ticker(market: Market, day: Candles, length_ms: int) -> dict[str, Any]:
    """Return the 24-hour ticker of a day of candles."""
    opened, high, low, close, volume = day.values.T
    traded, quote_traded = float(volume.sum()), float((close * volume).sum())
    change = close[-1] - opened[0]
    return {
        "symbol": market.id,
        "priceChange": decimal_text(change),
        "priceChangePercent": decimal_text(round(100 * change / opened[0], 3)),
        "weightedAvgPrice": decimal_text(quote_traded / traded if traded > 0 else close[-1]),
        "lastPrice": decimal_text(close[-1]),
        "openPrice": decimal_text(opened[0]),
        "highPrice": decimal_text(high.max()),
        "lowPrice": decimal_text(low.min()),
        "volume": decimal_text(traded),
        "quoteVolume": decimal_text(quote_traded),
        "openTime": int(day.open_ms[0]),
        "closeTime": int(day.open_ms[-1]) + length_ms - 1,
    }


def quotes(market: Market, price: float, hourly_volume: float) -> dict[str, str]:
    """Return the top of the order book."""
    (bid,), (ask,) = _levels(market, price, hourly_volume, 1)
    return {
        "symbol": market.id,
        "bidPrice": bid[0],
        "bidQty": bid[1],
        "askPrice": ask[0],
        "askQty": ask[1],
    }


def order_book(
    market: Market, price: float, hourly_volume: float, limit: int, now_ms: int
) -> dict[str, Any]:
    """Return an order book: bid at the price, ask one tick above, further levels a basis point apart.

    Each level holds a thousandth of an hour's mean volume: a market order of a few thousandths
    slips by a few basis points.
    """
    bids, asks = _levels(market, price, hourly_volume, limit)
    return {"lastUpdateId": now_ms, "E": now_ms, "T": now_ms, "bids": bids, "asks": asks}


def _levels(
    market: Market, price: float, hourly_volume: float, limit: int
) -> tuple[list[list[str]], list[list[str]]]:
    tick, step = float(market.tick_size), float(market.step_size)
    apart = max(round(price * _LEVEL_DISTANCE / tick), 1) * tick
    amount = max(round(hourly_volume * _LEVEL_SHARE / step), 1) * step
    size = decimal_text(round(amount, _decimals(market.step_size)))
    away = np.arange(limit) * apart
    bids, asks = price - away, price + tick + away
    decimals = _decimals(market.tick_size)
    return tuple(  # type: ignore[return-value]
        [
            [decimal_text(round(value, decimals)), size]
            for value in side.tolist()
            if value >= tick / 2
        ]
        for side in (bids, asks)
    )


def _decimals(grid: Decimal) -> int:
    return max(-int(grid.as_tuple().exponent), 0)


def trades(seconds: Candles, *, aggregated: bool) -> list[dict[str, Any]]:
    """Return a trade at the close of each one-second candle, numbered by the second."""
    names = (
        ("a", "p", "q", "T", "m") if aggregated else ("id", "price", "qty", "time", "isBuyerMaker")
    )
    rows = []
    for at, (opened, _, _, close, volume) in zip(
        seconds.open_ms.tolist(), seconds.values.tolist(), strict=True
    ):
        number = at // 1000
        values = (number, decimal_text(close), decimal_text(volume), at, close < opened)
        rows.append(dict(zip(names, values, strict=True)))
    return rows


def premium_index(market: Market, price: float, rates: Candles, now_ms: int) -> dict[str, Any]:
    """Return mark price and funding; mark and index are the traded price.

    `rates` are the last two: their distance says when the next is due.
    """
    entry = {"symbol": market.id, "time": now_ms}
    entry |= dict.fromkeys(("markPrice", "indexPrice"), decimal_text(price))
    if len(rates) < 2:
        return entry
    before, last = rates.open_ms.tolist()
    return entry | {
        "lastFundingRate": decimal_text(rates.values[-1, 0]),
        "nextFundingTime": 2 * last - before,
    }


def kline_event(symbol: str, interval: str, row: list[Any], now_ms: int, *, closed: bool) -> Any:
    """Return a kline row as the event of a stream."""
    names = ("t", "o", "h", "l", "c", "v", "T", "q", "n", "V", "Q", "B")
    kline = dict(zip(names, row, strict=True)) | {"s": symbol, "i": interval, "x": closed}
    return {"e": "kline", "E": now_ms, "s": symbol, "k": kline}
