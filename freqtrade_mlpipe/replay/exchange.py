"""freqtrade's exchange class for `replay`, and its registration."""

from pathlib import Path
from typing import Any

import ccxt
import ccxt.async_support
import ccxt.pro
import freqtrade.exchange
from freqtrade.enums import TRADE_MODES, TradingMode
from freqtrade.exceptions import OperationalException
from freqtrade.exchange import Binance

from freqtrade_mlpipe.exceptions import DataError
from freqtrade_mlpipe.replay.candles import CandleStore
from freqtrade_mlpipe.replay.transport import ReplayAsync, ReplayPro, ReplayRest

NAME = "replay"
# Notional up to, maintenance margin rate, highest leverage: a cautious altcoin's, for pairs freqtrade has no table of.
_FALLBACK_TIERS = (
    (10_000, 0.01, 50),
    (100_000, 0.025, 20),
    (1_000_000, 0.05, 10),
    (50_000_000, 0.125, 4),
)


class Replay(Binance):  # type: ignore[misc]
    """Binance's rules on recorded candles: spot, and linear perpetuals with isolated or cross margin."""

    _can_use_data_download_fast = False
    _ft_has = {**Binance._ft_has, "ws_enabled": False}  # noqa: RUF012
    _ft_has_futures = {**Binance._ft_has_futures, "ws_enabled": False}  # noqa: RUF012

    def __init__(self, config: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        if config.get("runmode") in TRADE_MODES:
            _refuse_trading(config)
        exchange_config = kwargs.get("exchange_config") or config["exchange"]
        self._replay_directory = source_directory(config, exchange_config)
        try:
            CandleStore(self._replay_directory).require_candles()
        except DataError as error:
            raise OperationalException(str(error)) from error
        self._replay_pairs = [
            *exchange_config.get("pair_whitelist", []),
            *(config.get("pairs") or []),
        ]
        super().__init__(config, *args, **kwargs)
        # Recorded candles are complete; freqtrade would drop the last one as unfinished.
        self._ohlcv_partial_candle = False

    @property
    def _ccxt_config(self) -> dict[str, Any]:
        options = {"directory": str(self._replay_directory), "pairs": self._replay_pairs}
        inherited: dict[str, Any] = super()._ccxt_config
        return {**inherited, "options": {**inherited.get("options", {}), NAME: options}}

    def additional_exchange_init(self) -> None:
        """Do nothing: Binance's checks of the account need one."""

    def load_leverage_tiers(self) -> dict[str, list[dict[str, Any]]]:
        """Return freqtrade's recorded Binance tiers, and cautious ones for perpetuals it doesn't know."""
        if self.trading_mode != TradingMode.FUTURES:
            return {}
        real_money = self._config.get("dry_run")
        self._config["dry_run"] = True
        try:
            tiers: dict[str, list[dict[str, Any]]] = super().load_leverage_tiers()
        finally:
            self._config["dry_run"] = real_money
        unknown = [pair for pair, market in self.markets.items() if self.market_is_future(market)]
        return {pair: fallback_tiers(pair) for pair in unknown} | tiers


def source_directory(config: dict[str, Any], exchange_config: dict[str, Any]) -> Path:
    """Return the directory that candles are served from: ``exchange.replay_source``, else freqtrade's data directory.

    Raises
    ------
    OperationalException
        Neither is set.
    """
    source = exchange_config.get("replay_source")
    if source:
        return Path(config.get("user_data_dir", ".")) / Path(source).expanduser()
    if not config.get("datadir"):
        raise OperationalException(
            "The replay exchange needs candle files: set datadir, or exchange.replay_source, to a freqtrade data directory."
        )
    return Path(config["datadir"])


def fallback_tiers(pair: str) -> list[dict[str, Any]]:
    """Return leverage tiers in ccxt's form, ``cum`` making the maintenance margin continuous across tiers."""
    tiers: list[dict[str, Any]] = []
    floor, cumulative, previous_rate = 0.0, 0.0, 0.0
    for number, (cap, rate, leverage) in enumerate(_FALLBACK_TIERS, start=1):
        cumulative += floor * (rate - previous_rate)
        tiers.append(
            {
                "tier": number,
                "symbol": pair,
                "currency": pair.split(":")[-1],
                "minNotional": floor,
                "maxNotional": float(cap),
                "maintenanceMarginRate": rate,
                "maxLeverage": float(leverage),
                "info": {"cum": cumulative},
            }
        )
        floor, previous_rate = float(cap), rate
    return tiers


def _refuse_trading(config: dict[str, Any]) -> None:
    if not config.get("dry_run"):
        raise OperationalException(
            "The replay exchange can't place real orders: set dry_run to true."
        )
    raise OperationalException(
        "The replay exchange has no live clock yet: it runs backtesting, hyperopt, download-data and the analyses, not trade."
    )


def register() -> None:
    """Put `replay` where ccxt and freqtrade look exchanges up by name; calling it again changes nothing."""
    classes = {ccxt: ReplayRest, ccxt.async_support: ReplayAsync, ccxt.pro: ReplayPro}
    for module, exchange_class in classes.items():
        setattr(module, NAME, exchange_class)
        if NAME not in module.exchanges:
            module.exchanges.append(NAME)
    # freqtrade's resolver looks for the capitalised name here.
    freqtrade.exchange.Replay = Replay


# Hyperopt's workers get here by unpickling a Replay and must know the name as well.
register()
