"""The JSON forms of Binance's public REST API: symbols, klines, tickers; decimals are text."""

from typing import Any

import numpy as np

from freqtrade_mlpipe.replay.candles import Candles
from freqtrade_mlpipe.replay.markets import Market

# Binance gives every perpetual this delivery date.
_NEVER_MS = 4_133_404_800_000


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
    """Return the 24-hour ticker of a day of candles; spot tickers hold the quotes too."""
    opened, high, low, close, volume = day.values.T
    traded, quote_traded = float(volume.sum()), float((close * volume).sum())
    change = close[-1] - opened[0]
    entry = {
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
    return entry if market.settle else entry | quotes(market, close[-1])


def quotes(market: Market, close: float) -> dict[str, str]:
    """Return bid at the last close and ask one tick above: recorded candles hold no quotes."""
    ask = round(close + float(market.tick_size), 12)
    return {
        "symbol": market.id,
        "bidPrice": decimal_text(close),
        "bidQty": "1",
        "askPrice": decimal_text(ask),
        "askQty": "1",
    }
