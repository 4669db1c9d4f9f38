"""freqtrade's exchange class for `replay`, and its registration."""

from pathlib import Path
from typing import Any

import ccxt
import ccxt.async_support
import ccxt.pro
import freqtrade.exchange
import pandas as pd
from freqtrade.data.converter import ohlcv_to_dataframe
from freqtrade.enums import TRADE_MODES, CandleType, TradingMode
from freqtrade.exceptions import OperationalException
from freqtrade.exchange import Binance

from freqtrade_mlpipe.config import ReplayConfig
from freqtrade_mlpipe.exceptions import ConfigError, DataError
from freqtrade_mlpipe.replay.candles import CandleStore
from freqtrade_mlpipe.replay.transport import ReplayAsync, ReplayPro, ReplayRest

NAME = "replay"
# Notional up to, maintenance margin rate, highest leverage: cautious ones, for pairs that
# freqtrade's table of Binance's tiers doesn't have.
_FALLBACK_TIERS = (
    (10_000.0, 0.01, 50.0),
    (100_000.0, 0.025, 20.0),
    (1_000_000.0, 0.05, 10.0),
    (50_000_000.0, 0.125, 4.0),
)


class Replay(Binance):
    """Binance's rules on recorded candles: spot, and linear perpetuals, isolated or cross margin.

    Raises
    ------
    OperationalException
        No candle files to serve, a wrong setting, real orders, or ``--erase`` would delete the very
        files that are served.
    """

    _can_use_data_download_fast = False
    # freqtrade's destructor reads it, also of an exchange that was refused before it was set up.
    _exchange_ws = None
    _ft_has = {**Binance._ft_has, "ws_enabled": False}  # noqa: RUF012
    _ft_has_futures = {**Binance._ft_has_futures, "ws_enabled": False}  # noqa: RUF012

    def __init__(self, config: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        exchange_config = kwargs.get("exchange_config") or config["exchange"]
        self._replay_settings = _settings(exchange_config)
        self._replay_live = _is_live(config, self._replay_settings)
        self._replay_store = CandleStore(source_directory(config, self._replay_settings))
        _refuse_impossible(config, self._replay_store)
        pairs = [*exchange_config.get("pair_whitelist", []), *(config.get("pairs") or [])]
        self._replay_pairs = list(dict.fromkeys(pairs))
        # As Backtesting does: real money would need an account, its leverage tiers for one.
        config["dry_run"] = True
        # Binance's class else downloads archives from a web site (before freqtrade 2026 there was
        # no _can_use_data_download_fast).
        config["exchange"]["only_from_ccxt"] = True
        super().__init__(config, *args, **kwargs)
        # Recorded candles are complete; freqtrade would drop the last one as unfinished.
        self._ohlcv_partial_candle = self._replay_live
        if self._replay_live:
            self._check_recordings()

    @property
    def _ccxt_config(self) -> dict[str, Any]:
        served: dict[str, Any] = {
            "directory": str(self._replay_store.directory),
            "pairs": self._replay_pairs,
        }
        if self._replay_live:
            served["live"] = self._replay_settings.model_dump(mode="json")
        inherited: dict[str, Any] = super()._ccxt_config
        return {**inherited, "options": {**inherited.get("options", {}), NAME: served}}

    def _check_recordings(self) -> None:
        try:
            self._api._core().check(self._replay_pairs)
        except DataError as error:
            raise OperationalException(str(error)) from error

    def additional_exchange_init(self) -> None:
        """Do nothing: Binance's checks of the account need one."""

    def get_historic_ohlcv(
        self,
        pair: str,
        timeframe: str,
        since_ms: int,
        candle_type: CandleType,
        is_new_pair: bool = False,
        until_ms: int | None = None,
    ) -> pd.DataFrame:
        """Return the recorded candles from `since_ms` on, as Binance would.

        Raises
        ------
        OperationalException
            A new pair has none in that time; freqtrade would write an empty file.
        """
        frame: pd.DataFrame = super().get_historic_ohlcv(
            pair=pair,
            timeframe=timeframe,
            since_ms=since_ms,
            candle_type=candle_type,
            is_new_pair=is_new_pair,
            until_ms=until_ms,
        )
        if not self._replay_live and not hasattr(Binance, "_drop_incomplete_candle"):
            after_ms = (
                since_ms if frame.empty else int(frame["date"].iloc[-1].timestamp()) * 1000 + 1
            )
            dropped = self._candles_up_to(pair, timeframe, candle_type, after_ms, until_ms)
            frame = pd.concat([frame, dropped], ignore_index=True) if len(dropped) else frame
        if is_new_pair and frame.empty:
            since = pd.Timestamp(since_ms, unit="ms", tz="UTC")
            raise OperationalException(
                f"No {timeframe} {candle_type} candles of {pair} are recorded from {since} on in "
                f"{self._replay_store.directory}. Ask for a recorded period with --timerange."
            )
        return frame

    def _candles_up_to(
        self,
        pair: str,
        timeframe: str,
        candle_type: CandleType,
        since_ms: int,
        until_ms: int | None,
    ) -> pd.DataFrame:
        """Return the next page of candles whole: older freqtrades always drop the last candle."""
        with self._loop_lock:
            answer = self.loop.run_until_complete(
                self._async_get_candle_history(pair, timeframe, candle_type, since_ms)
            )
        rows = [row for row in answer[3] if until_ms is None or row[0] <= until_ms]
        frame: pd.DataFrame = ohlcv_to_dataframe(
            rows, timeframe, pair, fill_missing=False, drop_incomplete=False
        )
        return frame

    def load_leverage_tiers(self) -> dict[str, list[dict[str, Any]]]:
        """Return freqtrade's table of Binance's tiers, and cautious ones for other perpetuals."""
        if self.trading_mode != TradingMode.FUTURES:
            return {}
        tiers: dict[str, list[dict[str, Any]]] = super().load_leverage_tiers()
        perpetuals = [
            pair for pair, market in self.markets.items() if self.market_is_future(market)
        ]
        return {pair: fallback_tiers(pair) for pair in perpetuals} | tiers


def source_directory(config: dict[str, Any], settings: ReplayConfig) -> Path:
    """Return where candles are served from: ``exchange.replay_source``, else the data directory.

    Raises
    ------
    OperationalException
        Neither is set.
    """
    if settings.replay_source is not None:
        return Path(config.get("user_data_dir", ".")) / settings.replay_source.expanduser()
    if not config.get("datadir"):
        raise OperationalException(
            "The replay exchange needs candle files: set datadir, or exchange.replay_source, to a "
            "freqtrade data directory."
        )
    return Path(config["datadir"])


def _settings(exchange_config: dict[str, Any]) -> ReplayConfig:
    try:
        return ReplayConfig.from_exchange(exchange_config)
    except ConfigError as error:
        raise OperationalException(str(error)) from error


def _is_live(config: dict[str, Any], settings: ReplayConfig) -> bool:
    trading = config.get("runmode") in TRADE_MODES
    if trading and settings.replay_clock == "recorded":
        raise OperationalException(
            'exchange.replay_clock is "recorded", where time stands still: trade needs "live".'
        )
    return settings.replay_clock == "live" or trading


def fallback_tiers(pair: str) -> list[dict[str, Any]]:
    """Return leverage tiers in ccxt's form.

    ``cum`` makes the maintenance margin (notional × rate − cum) continuous across tiers.
    """
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
                "maxNotional": cap,
                "maintenanceMarginRate": rate,
                "maxLeverage": leverage,
                "info": {"cum": cumulative},
            }
        )
        floor, previous_rate = cap, rate
    return tiers


def _refuse_impossible(config: dict[str, Any], store: CandleStore) -> None:
    if config.get("runmode") in TRADE_MODES and not config.get("dry_run"):
        raise OperationalException(
            "The replay exchange can't place real orders: set dry_run to true."
        )
    try:
        store.require_candles()
    except DataError as error:
        raise OperationalException(str(error)) from error
    target = config.get("datadir")
    if config.get("erase") and target and store.directory.resolve() == Path(target).resolve():
        raise OperationalException(
            f"--erase would delete the candle files in {target} that the replay exchange serves. "
            "Leave it out, or set exchange.replay_source to another directory."
        )


def register() -> None:
    """Put `replay` where ccxt and freqtrade look exchanges up by name; repeated calls are fine."""
    classes = {ccxt: ReplayRest, ccxt.async_support: ReplayAsync, ccxt.pro: ReplayPro}
    for module, exchange_class in classes.items():
        setattr(module, NAME, exchange_class)
        if NAME not in module.exchanges:
            module.exchanges.append(NAME)
    # freqtrade's resolver looks for the capitalised name here.
    freqtrade.exchange.Replay = Replay


# Hyperopt's workers get here by unpickling a Replay, and must know the name as well.
register()
