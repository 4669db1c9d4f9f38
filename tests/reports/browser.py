"""A page in headless Chromium, driven over the DevTools protocol: what it drew, asked for and complained about."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--remote-debugging-port=0",
)  # fmt: skip

# For each chart: how many pixels it has, and how many marks plotly drew in it.
_CHARTS = """
JSON.stringify(Array.from(document.querySelectorAll("[data-figure]")).map((node) => ({
  key: node.dataset.figure,
  width: node.getBoundingClientRect().width,
  height: node.getBoundingClientRect().height,
  marks: node.querySelectorAll(".points path, .bars path, path.js-line, .point").length,
  titles: Array.from(node.querySelectorAll(".xtitle, .ytitle, .x2title, .y2title")).map((t) => t.textContent),
})))
"""
# Whatever reaches over the right edge of the window, except inside boxes that scroll.
_OVERFLOWING = """
JSON.stringify(Array.from(document.querySelectorAll("body *")).filter((node) =>
  node.getBoundingClientRect().right > innerWidth + 1 && !node.closest(".scroll, pre, svg")
).map((node) => node.tagName + "." + node.className))
"""


@dataclass(frozen=True)
class Opened:
    """A page after its scripts ran."""

    console: list[str]
    requests: list[str]
    charts: list[dict[str, Any]]
    overflowing: list[str]
    values: list[Any]
    screenshot: bytes


def open_page(
    page: Path,
    profile: Path,
    *,
    width: int = 1280,
    dark: bool = False,
    media: str = "screen",
    evaluate: tuple[str, ...] = (),
) -> Opened:
    """Open `page` in a window of `width` pixels and look at it."""
    command = [str(CHROMIUM), *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:
        try:
            port = _port(profile / "DevToolsActivePort")
            return asyncio.run(_look(page, port, width, dark, media, evaluate))
        finally:
            browser.terminate()
            browser.wait(timeout=20)


def _port(file: Path) -> int:
    for _ in range(300):
        if file.exists() and (text := file.read_text()):
            return int(text.splitlines()[0])
        time.sleep(0.1)
    raise TimeoutError("Chromium did not start.")


async def _look(
    page: Path, port: int, width: int, dark: bool, media: str, evaluate: tuple[str, ...]
) -> Opened:
    import aiohttp

    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            targets = await answer.json(content_type=None)
        address = next(t["webSocketDebuggerUrl"] for t in targets if t["type"] == "page")
        async with session.ws_connect(address, max_msg_size=0) as socket:
            return await _Devtools(socket).look(page, width, dark, media, evaluate)


class _Devtools:
    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.number = 0
        self.console: list[str] = []
        self.requests: list[str] = []
        self.loaded = False

    async def look(
        self, page: Path, width: int, dark: bool, media: str, evaluate: tuple[str, ...]
    ) -> Opened:
        for domain in ("Page", "Network", "Log", "Runtime"):
            await self.call(f"{domain}.enable")
        phone = width < 700
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=844 if phone else 900, deviceScaleFactor=2 if phone else 1, mobile=phone,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])
        await self.call("Page.navigate", url=page.as_uri())
        while not self.loaded:
            await self.receive()
        await self.evaluate("new Promise((done) => setTimeout(done, 500))")
        values = [await self.evaluate(text) for text in evaluate]
        charts = json.loads(await self.evaluate(_CHARTS))
        overflowing = json.loads(await self.evaluate(_OVERFLOWING))
        image = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        picture = base64.b64decode(image["data"])
        return Opened(self.console, self.requests, charts, overflowing, values, picture)

    async def evaluate(self, text: str) -> Any:
        answer = await self.call(
            "Runtime.evaluate", expression=text, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"])
        return answer["result"].get("value")

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        self.number += 1
        number = self.number
        await self.socket.send_json({"id": number, "method": method, "params": params})
        while True:
            message = await self.receive()
            if message.get("id") == number:
                if "error" in message:
                    raise AssertionError(message["error"])
                return message["result"]  # type: ignore[no-any-return]

    async def receive(self) -> dict[str, Any]:
        message = await asyncio.wait_for(self.socket.receive_json(), timeout=60)
        method, params = message.get("method"), message.get("params", {})
        if method == "Page.loadEventFired":
            self.loaded = True
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.console.append(str(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled":
            self.console.append(f"{params['type']}: {params['args']}")
        elif method == "Log.entryAdded":
            self.console.append(f"{params['entry']['level']}: {params['entry']['text']}")
        return message  # type: ignore[no-any-return]
