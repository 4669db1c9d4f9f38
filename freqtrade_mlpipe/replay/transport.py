"""ccxt's exchange `replay`: Binance's classes with the network taken out."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import ccxt
import ccxt.async_support
import ccxt.pro

from freqtrade_mlpipe.config import ReplayConfig
from freqtrade_mlpipe.replay.api import FUTURES, SPOT, ApiError, ReplayApi
from freqtrade_mlpipe.replay.candles import CandleStore

# A host under .invalid never resolves (RFC 2606), should anything ever bypass the transport.
_HOST = "https://replay.invalid"
_SERVED = {"public": SPOT, "fapiPublic": FUTURES}


class _Offline:
    """Replaces what would reach the network, for the sync, async and pro class alike.

    The option ``replay`` says what to serve: ``{"directory": <freqtrade data directory>, "pairs":
    [<markets besides the recorded ones>], "live": <keys of `ReplayConfig`, if time shall pass>}``.
    """

    _api: ReplayApi | None = None

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__(config or {})  # type: ignore[call-arg]
        # Names in the files are names of markets: no renaming of currencies.
        self.commonCurrencies: dict[str, str] = {}

    def describe(self) -> dict[str, Any]:
        """Return Binance's description without streams, accounts and addresses.

        Fees are those of Binance's lowest tier: 0.1 % spot, 0.02 % maker and 0.05 % taker futures.
        """
        described: dict[str, Any] = super().describe()  # type: ignore[misc]
        streams = {
            name: False
            for name in described["has"]
            if name == "ws" or name.endswith("Ws") or name.startswith(("watch", "unWatch"))
        }
        overrides: dict[str, Any] = {
            "id": "replay",
            "name": "Replay",
            "enableRateLimit": False,
            "pro": False,
            "has": streams,
            "urls": {
                name: _local(described["urls"].get(name, {})) for name in ("api", "test", "demo")
            },
            "options": {
                "fetchMarkets": ["spot", "linear"],
                "fetchCurrencies": False,
                "fetchMargins": False,
                "adjustForTimeDifference": False,
            },
            "fees": {
                "trading": {"taker": 0.001, "maker": 0.001},
                "linear": {"trading": {"taker": 0.0005, "maker": 0.0002}},
            },
        }
        return dict(self.deep_extend(described, overrides))  # type: ignore[attr-defined]

    def sign(
        self, path: str, api: Any = "public", method: str = "GET", *args: Any, **kwargs: Any
    ) -> Any:
        """Refuse everything but public GET requests, before keys are looked at."""
        name = api if isinstance(api, str) else api[0]
        self._refuse_writing(method, path)
        if name not in _SERVED:
            raise ccxt.PermissionDenied(
                f"replay: {name}/{path} refused: it needs an account or a market that the replay "
                "exchange doesn't have; it serves public spot and linear futures data only."
            )
        return super().sign(path, api, method, *args, **kwargs)  # type: ignore[misc]

    def _answer(self, url: str, method: str) -> Any:
        self._refuse_writing(method, url)
        parts = urlsplit(url)
        try:
            return self._core().get(parts.path, dict(parse_qsl(parts.query)))
        except ApiError as error:
            body = error.to_json()
            text = json.dumps(body)
            self.handle_errors(error.status, "", url, method, {}, text, body, {}, None)  # type: ignore[attr-defined]
            raise ccxt.ExchangeError(f"replay: {error}") from error

    def _refuse_writing(self, method: str, what: str) -> None:
        if method.upper() != "GET":
            raise ccxt.PermissionDenied(
                f"replay: {method} {what} refused: the replay exchange only replays recorded "
                "candles and can't place, change or cancel a real order."
            )

    def _core(self) -> ReplayApi:
        if self._api is None:
            options: dict[str, Any] = self.options.get("replay", {})  # type: ignore[attr-defined]
            if not options.get("directory"):
                raise ccxt.ExchangeError(
                    "replay: no candle directory is set. freqtrade passes its datadir; elsewhere "
                    "construct it with {'options': {'replay': {'directory': …}}}."
                )
            live = ReplayConfig(**options["live"]) if options.get("live") else None
            store = CandleStore(Path(options["directory"]))
            self._api = ReplayApi(store, options.get("pairs", ()), live=live)
        return self._api


def _local(addresses: Any, path: str = "/not-served") -> Any:
    if isinstance(addresses, dict):
        return {name: _local(value, _SERVED.get(name, path)) for name, value in addresses.items()}
    return _HOST + path


class ReplayRest(_Offline, ccxt.binance):
    """ccxt.replay"""

    def fetch(self, url: str, method: str = "GET", headers: Any = None, body: Any = None) -> Any:
        """Return the decoded answer of the core."""
        return self._answer(url, method)


class ReplayAsync(_Offline, ccxt.async_support.binance):
    """ccxt.async_support.replay"""

    async def fetch(
        self, url: str, method: str = "GET", headers: Any = None, body: Any = None
    ) -> Any:
        """Return the decoded answer of the core."""
        return self._answer(url, method)


class ReplayPro(_Offline, ccxt.pro.binance):
    """ccxt.pro.replay"""

    async def fetch(
        self, url: str, method: str = "GET", headers: Any = None, body: Any = None
    ) -> Any:
        """Return the decoded answer of the core."""
        return self._answer(url, method)

    def client(self, url: str) -> Any:
        """Refuse: there are no streams, and orders could be sent through one."""
        raise ccxt.NotSupported(
            "replay: websockets are refused: the replay exchange answers GET requests only."
        )
