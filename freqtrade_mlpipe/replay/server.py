"""The replay exchange on a port of this machine: Binance's REST paths and kline streams.

For the unmodified ``freqtrade`` executable, whose Binance class is pointed at it by a few keys of
its configuration. Only 127.0.0.1 is listened on, and anything but GET is refused.
"""

import asyncio
import contextlib
import errno
import json
import logging
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

from freqtrade_mlpipe.exceptions import ConfigError
from freqtrade_mlpipe.replay import wire
from freqtrade_mlpipe.replay.api import ApiError, ReplayApi

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
SPOT_STREAM, FUTURES_STREAM = "/stream/ws", "/futures/ws"
PUSH_SECONDS = 0.5
"""Time between two messages of a stream; Binance's come each second or two."""
_INTERRUPTED = 130


@dataclass
class Server:
    """Serves one `ReplayApi`.

    Parameters
    ----------
    api : ReplayApi
        What answers.
    port : int
        Port on 127.0.0.1; 0: any free one.
    """

    api: ReplayApi
    port: int
    push_seconds: float = PUSH_SECONDS
    _sockets: set[web.WebSocketResponse] = field(default_factory=set)

    def run(self, ready: Callable[[int], None]) -> int:
        """Serve until SIGINT or SIGTERM.

        Parameters
        ----------
        ready : callable
            Called with the port once connections are accepted.

        Returns
        -------
        int
            Exit code: 130 after SIGINT, 0 after SIGTERM.

        Raises
        ------
        ConfigError
            The port is taken or not allowed.
        """
        return asyncio.run(self._run(ready))

    async def _run(self, ready: Callable[[int], None]) -> int:
        ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def end(code: int) -> None:
            if not ended.done():
                ended.set_result(code)

        for number, code in ((signal.SIGINT, _INTERRUPTED), (signal.SIGTERM, 0)):
            asyncio.get_running_loop().add_signal_handler(number, end, code)
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
        await runner.setup()
        try:
            ready(await self._listen(runner))
            return await ended
        finally:
            for socket in list(self._sockets):
                with contextlib.suppress(ConnectionError):
                    await socket.close()
            await runner.cleanup()

    async def _listen(self, runner: web.AppRunner) -> int:
        try:
            # Without reuse_address a restarted server waits a minute for its old port.
            await web.TCPSite(runner, HOST, self.port, reuse_address=True).start()
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            raise ConfigError(
                f"Port {self.port} of {HOST} can't be used: "
                f"{'another program listens on it' if taken else error.strerror}. "
                "Give another one with --port, or 0 for any free one."
            ) from error
        port: int = runner.addresses[0][1]
        return port

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.method != "GET":
            return _refusal(
                ApiError(
                    403,
                    -2015,
                    f"{request.method} {request.path} refused: the replay exchange only "
                    "replays recorded candles and can't place, change or cancel a real order.",
                )
            )
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._stream(request)
        try:
            body = self.api.get(request.path, dict(request.query))
        except ApiError as error:
            return _refusal(error)
        return web.json_response(body)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        if not request.path.startswith((SPOT_STREAM, FUTURES_STREAM.rpartition("/")[0])):
            return _refusal(ApiError(404, -5000, f"No streams at {request.path}."))
        candle_type = "spot" if request.path.startswith(SPOT_STREAM) else "futures"
        socket = web.WebSocketResponse(heartbeat=30)
        await socket.prepare(request)
        self._sockets.add(socket)
        subscribed: dict[str, _Stream] = {}
        pushing = asyncio.create_task(self._push(socket, subscribed))
        try:
            async for message in socket:
                if message.type == WSMsgType.TEXT:
                    answer = self._subscribe(message.data, candle_type, subscribed)
                    await socket.send_json(answer)
        finally:
            pushing.cancel()
            self._sockets.discard(socket)
        return socket

    def _subscribe(
        self, text: str, candle_type: str, subscribed: "dict[str, _Stream]"
    ) -> dict[str, Any]:
        """Return the answer to a request of the client; unknown ones change nothing."""
        try:
            request = json.loads(text)
            method, names = request["method"], [str(name) for name in request.get("params", [])]
        except (ValueError, TypeError, KeyError, AttributeError):
            return {"error": {"code": 2, "msg": "Expected JSON with method, params and id."}}
        answered: dict[str, Any] = {"result": None, "id": request.get("id")}
        try:
            if method == "SUBSCRIBE":
                wanted = {name: _Stream.parse(name, candle_type) for name in names}
                for stream in wanted.values():
                    stream.events(self.api)  # refuses unknown markets
                subscribed.update(wanted)
            elif method == "UNSUBSCRIBE":
                for name in names:
                    subscribed.pop(name, None)
            else:
                raise ApiError(400, 2, f"Unknown method {method!r}.")
        except ApiError as error:
            return {"error": error.to_json(), "id": request.get("id")}
        return answered

    async def _push(self, socket: web.WebSocketResponse, subscribed: "dict[str, _Stream]") -> None:
        with contextlib.suppress(ConnectionError):
            while not socket.closed:
                for stream in list(subscribed.values()):
                    for event in stream.events(self.api):
                        await socket.send_json(event)
                await asyncio.sleep(self.push_seconds)


@dataclass
class _Stream:
    """One subscribed kline stream, such as ``btcusdt@kline_1m``."""

    candle_type: str
    symbol: str
    interval: str
    opened: int | None = None

    @classmethod
    def parse(cls, name: str, candle_type: str) -> "_Stream":
        symbol, _, kind = name.partition("@")
        if not kind.startswith("kline_"):
            raise ApiError(400, 2, f"Stream {name!r} isn't served: only SYMBOL@kline_INTERVAL.")
        return cls(candle_type, symbol.upper(), kind.removeprefix("kline_"))

    def events(self, api: ReplayApi) -> list[dict[str, Any]]:
        """Return the candles that were finished since the last call, and the current one."""
        current = api.kline(self.candle_type, self.symbol, self.interval)
        rows = []
        if self.opened is not None and self.opened < current[0]:
            rows = api.klines_between(
                self.candle_type, self.symbol, self.interval, self.opened, current[0] - 1
            )
        self.opened = current[0]
        return [
            wire.kline_event(self.symbol, self.interval, row, row[6], closed=True) for row in rows
        ] + [wire.kline_event(self.symbol, self.interval, current, api.now_ms(), closed=False)]


def _refusal(error: ApiError) -> web.Response:
    return web.json_response(error.to_json(), status=error.status)


def client_settings(port: int, pairs: list[str], *, futures: bool) -> dict[str, Any]:
    """Return the freqtrade configuration that sends a dry-run bot to this server.

    Parameters
    ----------
    port : int
        Where the server listens.
    pairs : list of str
        The whitelist.
    futures : bool
        Perpetuals with isolated margin instead of spot.
    """
    rest, stream = f"http://{HOST}:{port}", f"ws://{HOST}:{port}"
    ccxt_config = {
        "enableRateLimit": False,
        # ccxt would ask for Binance's other markets, too, which are not served.
        "options": {"fetchMarkets": ["linear" if futures else "spot"]},
        "urls": {
            "api": {
                "public": f"{rest}/api/v3",
                "fapiPublic": f"{rest}/fapi/v1",
                "ws": {
                    "spot": stream + SPOT_STREAM,
                    "linear": stream + FUTURES_STREAM,
                    "future": stream + FUTURES_STREAM,
                },
            }
        },
    }
    exchange = {
        "name": "binance",
        # Nothing is fetched from Binance's archive of candles.
        "only_from_ccxt": True,
        "ccxt_config": ccxt_config,
        "pair_whitelist": pairs,
    }
    mode = {"trading_mode": "futures", "margin_mode": "isolated"} if futures else {}
    return {"dry_run": True, **mode, "exchange": exchange}
