"""What the operator is told through freqtrade's own messages: each trouble once, and once when it is over."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Collection

logger = logging.getLogger(__name__)

_LONGEST = 1_000
"""Characters; freqtrade refuses messages beyond 4096, and a phone shows less."""


class Notifier:
    """Knows what was said. Messages wait until the bot's own thread passes them on.

    Any thread may say something. freqtrade's queue of messages is not made for that, so `flush` is called by
    the bot's.

    Examples
    --------
    >>> notifier, sent = Notifier(), []
    >>> for pair in ("BTC/USDT", "ETH/USDT", "BTC/USDT"):
    ...     notifier.trouble("features", f"{pair}: no predictions", pair)
    >>> notifier.over("features", "All pairs are predicted again.", "BTC/USDT")
    >>> notifier.over("features", "All pairs are predicted again.", "ETH/USDT")
    >>> notifier.flush(sent.append)
    >>> sent
    ['BTC/USDT: no predictions', 'All pairs are predicted again.']
    """

    def __init__(self) -> None:
        self._open: dict[str, set[str]] = {}
        self._waiting: deque[str] = deque(maxlen=100)
        self._lock = threading.Lock()

    def trouble(self, what: str, message: str, who: str = "") -> None:
        """Tell of trouble of a kind unless it is going on; it is logged once for each `who` that it affects."""
        with self._lock:
            affected = self._open.setdefault(what, set())
            if who in affected:
                return
            first = not affected
            affected.add(who)
        logger.warning(message)
        if first:
            self._waiting.append(message)

    def over(self, what: str, message: str, who: str = "") -> None:
        """Tell that trouble of a kind is over, once it is for everyone whom it had affected."""
        if what not in self._open:
            return
        with self._lock:
            affected = self._open.get(what, set())
            affected.discard(who)
            if affected:
                return
            self._open.pop(what, None)
        self.tell(message)

    def keep_only(self, what: str, present: Collection[str], message: str) -> None:
        """Forget those whom trouble of a kind had affected and who are gone."""
        for who in self._open.get(what, set()) - set(present):
            self.over(what, message, who)

    def tell(self, message: str) -> None:
        """Tell of something that happened."""
        logger.info(message)
        self._waiting.append(message)

    def flush(self, send: Callable[[str], None]) -> None:
        """Pass on what waits; an error of `send` is logged and loses one message."""
        while self._waiting:
            message = self._waiting.popleft()
            try:
                send(message if len(message) <= _LONGEST else f"{message[: _LONGEST - 2]} …")
            except Exception:
                logger.exception("A message to the operator was not sent: %s", message)
