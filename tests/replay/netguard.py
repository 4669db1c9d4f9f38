"""Fails attempts to reach another machine, in this process and as `sitecustomize` in children."""

import os
import socket
from pathlib import Path
from typing import Any

REPORT_VARIABLE = "REPLAY_TEST_NETWORK_REPORT"
_LOCAL = {"127.0.0.1", "::1", "localhost", ""}


class NetworkUsedError(BaseException):
    """Not an Exception: nothing that retries or falls back may swallow it."""


def check(host: Any) -> None:
    name = host.decode() if isinstance(host, bytes) else host
    if name is None or name in _LOCAL:
        return
    if os.environ.get(REPORT_VARIABLE):
        with Path(os.environ[REPORT_VARIABLE]).open("a") as report:
            report.write(f"{os.getpid()} {name}\n")
    raise NetworkUsedError(name)


def install(replace: Any = setattr) -> None:
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex
    getaddrinfo = socket.getaddrinfo

    def guarded(original: Any) -> Any:
        def call(self: socket.socket, address: Any) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6):
                check(address[0])
            return original(self, address)

        return call

    def guarded_getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        check(host)
        return getaddrinfo(host, *args, **kwargs)

    replace(socket.socket, "connect", guarded(connect))
    replace(socket.socket, "connect_ex", guarded(connect_ex))
    replace(socket, "getaddrinfo", guarded_getaddrinfo)
