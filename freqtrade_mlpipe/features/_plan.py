"""The nodes of a selection of columns: in which order, with which rows, and how they are written as expressions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

from freqtrade_mlpipe.features._trace import Node, Scalar

_DEEPEST = 25
"""Nested operations in one expression; the parser allows some 90."""


class Ring(NamedTuple):
    """Numbers that are needed again after so many candles, packed: those of a candle are next to each other.

    Attributes
    ----------
    distance : int
        How many candles it holds; the oldest gives way to the newest.
    nodes : list of Node
        Whose values it holds of each.
    """

    distance: int
    nodes: list[Node]


def ring_starts(rings: Iterable[Ring]) -> list[int]:
    """Where in the memory each ring begins, in numbers; its candles lie one after the other."""
    sizes = (len(ring.nodes) * ring.distance for ring in rings)
    return list(accumulate(sizes, initial=0))[:-1]


@dataclass(slots=True, eq=False)
class Carried:
    """What a pair takes along from candle to candle.

    Attributes
    ----------
    memory : bytearray
        Of its rings, see `ring_starts`.
    states : tuple of callable
        One a kernel: the numbers of the next candle → its value.
    update : callable
        The function of the next candle, of this pair alone.
    turn : int
        How many candles it has been taken on.
    """

    memory: bytearray
    states: tuple[Callable[..., Any], ...]
    update: Callable[..., Any]
    turn: int = 0


class Plan:
    """The nodes of some columns in an order in which they can be computed.

    Parameters
    ----------
    outputs : list of Node
        One a column.
    places : tuple of int
        Their positions in the block.
    warmups : list of int
        Their rows without a value.

    Attributes
    ----------
    lasting : list of Node
        `order` without missing rows, which a candle after the warm-up does not have; see `current`.
    exact : set of Node
        Those of which a window's every row is needed, the first ones too: they feed a recursive kernel.
    whole : set of Node
        Those, and what needs no computation.
    reach : int
        Candles before the current one on which the columns depend otherwise.
    offset : dict
        First row of each node's array.
    """

    def __init__(self, outputs: list[Node], places: tuple[int, ...], warmups: list[int]) -> None:
        self.outputs, self.places, self.warmups = outputs, places, warmups
        self.order = ordered(outputs)
        self.lasting = [node for node in self.order if node.operation != "missing"]
        self.kernels = [node for node in self.order if node.kernel]
        self.exact, self.reach = self._exact()
        self.whole = {
            node
            for node in self.order
            if node in self.exact
            or node.operation == "input"
            or (node.operation == "item" and node.parents[0] in self.exact)
        }
        self.offset: dict[Node, int] = {}
        for node in self.order:
            start = max((self.offset[parent] for parent in node.parents), default=0)
            if node.operation == "lag" and node not in self.exact:
                start += node.parameters[0]
            self.offset[node] = start

    def _exact(self) -> tuple[set[Node], int]:
        exact: set[Node] = set()
        _mark(exact, (node for node in self.kernels if node.kernel and not node.kernel.reach))
        settled = self._settled(exact)
        late = zip(self.outputs, self.warmups, strict=True)
        _mark(exact, [node for node, warmup in late if settled[node] > warmup])
        settled = self._settled(exact)
        return exact, max((settled[node] for node in self.outputs), default=0)

    def _settled(self, exact: set[Node]) -> dict[Node, int]:
        settled: dict[Node, int] = {}
        for node in self.order:
            settled[node] = 0 if node in exact else _settled(node, settled)
        return settled


def _settled(node: Node, settled: dict[Node, int]) -> int:
    """The first row that does not depend on what lies before the window."""
    rows = max((settled[parent] for parent in node.parents), default=0)
    if node.operation == "lag":
        return rows + int(node.parameters[0])
    if node.operation == "missing":
        return max(rows, int(node.parameters[0]))
    if node.kernel and node.kernel.reach:
        return rows + node.kernel.reach(*node.parameters)
    return rows


def _mark(exact: set[Node], nodes: Iterable[Node]) -> None:
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node not in exact:
            exact.add(node)
            waiting.extend(node.parents)


def ordered(outputs: list[Node]) -> list[Node]:
    """All nodes that the outputs need, each after its operands."""
    order: dict[Node, None] = {}
    waiting = [(node, False) for node in reversed(outputs)]
    while waiting:
        node, ready = waiting.pop()
        if node in order:
            continue
        if ready:
            order[node] = None
        else:
            waiting.append((node, True))
            waiting.extend((parent, False) for parent in reversed(node.parents))
    return list(order)


def current(node: Node) -> Node:
    """The node whose value a candle after the warm-up has: missing rows are behind it."""
    while node.operation == "missing":
        node = node.parents[0]
    return node


def literal(value: Scalar) -> str:
    """A constant as it stands in an expression."""
    text = repr(value)
    return f"({text})" if text.startswith("-") else text


class Text:
    """Expressions of nodes: those that occur once are put where they occur, the others get a name.

    Parameters
    ----------
    occurrences : Counter
        How often each node is written in other expressions.
    """

    def __init__(self, occurrences: Counter[Node]) -> None:
        self._occurrences = occurrences
        self._texts: dict[Node, str] = {}
        self._depths: dict[Node, int] = {}
        self.lines: list[str] = []

    def __getitem__(self, node: Node) -> str:
        return self._texts[node]

    def name(self, node: Node, name: str = "") -> str:
        """Give the node a name, by default a new one."""
        self._texts[node] = name or f"v{len(self._texts)}"
        return self._texts[node]

    def put(self, node: Node, expression: str) -> None:
        """Say what computes the node."""
        depth = 1 + max(
            (self._depths.get(current(parent), 0) for parent in node.parents), default=0
        )
        if self._occurrences[node] == 1 and depth < _DEEPEST:
            self._texts[node], self._depths[node] = expression, depth
        else:
            self.lines.append(f"{self.name(node)} = {expression}")
