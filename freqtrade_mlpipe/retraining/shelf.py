"""The last few results of an expensive step, by what they were made from."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Shelf(Generic[Item]):
    """Keeps the `room` results that were used last.

    Examples
    --------
    >>> shelf = Shelf[int](room=1)
    >>> shelf.get("a", lambda: 1), shelf.get("a", lambda: 2), shelf.n_made
    (1, 1, 1)
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self.n_made = 0
        self._items: OrderedDict[Hashable, Item] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Item]) -> Item:
        """What was made from `key`, made now if it is not there."""
        if key not in self._items:
            while len(self._items) >= self.room:
                self._items.popitem(last=False)
            self._items[key] = make()
            self.n_made += 1
        self._items.move_to_end(key)
        return self._items[key]
