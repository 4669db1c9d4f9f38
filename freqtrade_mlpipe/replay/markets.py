"""The exchange's markets, worked out from the candles: ids, tick sizes, order limits."""

import logging
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from freqtrade_mlpipe.replay.candles import CandleStore, SeriesKey

logger = logging.getLogger(__name__)

_PAIR = re.compile(r"^(?P<base>[\w-]+)/(?P<quote>[\w-]+)(:(?P<settle>[\w-]+))?$")
_MAX_DECIMALS = 8
_SIGNIFICANT_DIGITS = 7
_SAMPLED_ROWS = 5_000
_ENOUGH_BYTES = 20_000
# Smallest order value by quote currency; Binance's own, and its 5 dollars for the rest.
_MIN_NOTIONAL = {"BTC": "0.0001", "ETH": "0.001", "BNB": "0.01"}
_DEFAULT_MIN_NOTIONAL = "5"
# freqtrade takes a market with a tick of 1e-11 or less for untradable.
_SMALLEST_TICK = Decimal("1e-10")
_DEFAULT_TICK = Decimal("0.0001")
_DEFAULT_STEP = Decimal("0.001")


@dataclass(frozen=True)
class Market:
    """One market, spot (`settle` is None) or linear perpetual.

    Attributes
    ----------
    id : str
        Binance's name for it: base and quote in one word.
    tick_size, min_notional : Decimal
        In the quote currency.
    step_size : Decimal
        In the base currency.
    """

    pair: str
    id: str
    base: str
    quote: str
    settle: str | None
    tick_size: Decimal
    step_size: Decimal
    min_notional: Decimal

    @property
    def candle_type(self) -> str:
        """freqtrade's candle type of the traded price."""
        return "spot" if self.settle is None else "futures"


def find_markets(store: CandleStore, configured: Iterable[str]) -> list[Market]:
    """Return a market for each recorded and each configured pair, sorted by pair.

    Configured names that are patterns (``.*/USDT``) name no market. Recorded contracts other than
    linear perpetuals are left out with a warning: freqtrade doesn't trade them.
    """
    recorded = set(store.pairs("spot")) | set(store.pairs("futures"))
    markets: list[Market] = []
    taken: set[tuple[str, bool]] = set()
    for pair in sorted(recorded | set(configured)):
        match = _PAIR.match(pair)
        base, quote, settle = match.group("base", "quote", "settle") if match else ("", "", None)
        if not match or (settle is not None and settle != quote):
            if pair in recorded:
                logger.warning(
                    "%s in %s is no spot pair or linear perpetual: left out.", pair, store.directory
                )
            continue
        name = base + quote
        if (name, settle is None) in taken:
            name = f"{base}_{quote}"
        taken.add((name, settle is None))
        minimum = Decimal(_MIN_NOTIONAL.get(quote, _DEFAULT_MIN_NOTIONAL))
        prices = _sample_prices(store, pair, "spot" if settle is None else "futures")
        tick, step = _DEFAULT_TICK, _DEFAULT_STEP
        if len(prices):
            tick, step = price_tick(prices), amount_step(prices, minimum)
        markets.append(Market(pair, name, base, quote, settle, tick, step, minimum))
    return markets


def price_tick(prices: NDArray[np.float64]) -> Decimal:
    """Return the largest power of ten that all prices are multiples of.

    Prices on no grid of up to eight decimals (computed ones) get a tick of seven significant digits
    of the smallest price.
    """
    positive = prices[np.isfinite(prices) & (prices > 0)]
    if len(positive) == 0:
        return _DEFAULT_TICK
    for decimals in range(_MAX_DECIMALS + 1):
        if np.allclose(np.round(positive, decimals), positive, rtol=1e-12, atol=0):
            return Decimal(1).scaleb(-decimals)
    exponent = math.floor(math.log10(positive.min())) - _SIGNIFICANT_DIGITS + 1
    return max(Decimal(1).scaleb(exponent), _SMALLEST_TICK)


def amount_step(prices: NDArray[np.float64], min_notional: Decimal) -> Decimal:
    """Return the largest power of ten, at most 1, worth at most a fifth of the smallest order."""
    highest = float(np.max(prices))
    if not math.isfinite(highest) or highest <= 0:
        return _DEFAULT_STEP
    decimals = math.ceil(math.log10(highest / (float(min_notional) / 5)))
    return Decimal(1).scaleb(-min(max(decimals, 0), _MAX_DECIMALS))


def _sample_prices(store: CandleStore, pair: str, candle_type: str) -> NDArray[np.float64]:
    """Return the latest opens and closes of the pair's smallest file that has enough of them."""
    paths = {
        timeframe: store.series[SeriesKey(pair, timeframe, candle_type)].stat().st_size
        for timeframe in store.timeframes(pair, candle_type)
    }
    if not paths:
        return np.empty(0)
    by_size = sorted(paths, key=lambda timeframe: paths[timeframe])
    timeframe = next((t for t in by_size if paths[t] >= _ENOUGH_BYTES), by_size[-1])
    values = store.read(pair, timeframe, candle_type).values[-_SAMPLED_ROWS:]
    return values[:, [0, 3]].ravel() if len(values) else np.empty(0)
