"""The new candles of many pairs at once: NumPy on rows of one number a pair.

Nodes of one operation that wait for nothing are computed by one call, so that some thousand nodes take about a
hundred. Kernels are called pair by pair: each pair has its own states.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from operator import call
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from freqtrade_mlpipe.features import _windows as windows
from freqtrade_mlpipe.features._plan import Carried, Plan, Ring, current, ring_starts
from freqtrade_mlpipe.features._trace import FloatArray, Node, Scalar

_AT_ONCE = 40
"""Pairs on one board: it should fit the cache."""

Rows = slice | NDArray[np.intp]
"""Rows of the board, as a slice where they follow each other."""

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "as_flag": np.positive,
    "as_float": np.positive,
    "as_int": np.trunc,
    "ratio": windows.ratio,
    "zero_if_nan": windows.zero_if_nan,
}
"""The operations that are not NumPy's function of that name. A truth value is 1.0 or 0.0 on the board, an integer a
whole number."""


Function = Callable[[Sequence[Carried], list[FloatArray]], FloatArray]
"""What pairs carry, and operands of shape (n_nodes, n_pairs) → values of shape (n_values, n_pairs)."""


class _Step(NamedTuple):
    """Nodes that are computed together: from which rows, and into which."""

    function: Function
    operands: tuple[Rows, ...]
    target: slice


class PairsProgram:
    """The function of a new candle of many pairs.

    Parameters
    ----------
    plan : Plan
        What it computes.
    rings : list of Ring
        How each pair's memory is laid out.
    inputs : tuple of str
        The numbers of a candle, in the order in which they are given.
    """

    def __init__(self, plan: Plan, rings: list[Ring], inputs: tuple[str, ...]) -> None:
        remembered = [(node, ring.distance) for ring in rings for node in ring.nodes]
        layout = _Layout(plan.lasting, inputs, remembered)
        self._n_given = len(inputs) + len(remembered)
        self._constants = np.array(layout.constants)[:, np.newaxis]
        groups = _groups(plan.lasting, layout)
        self._steps = [_step(group, plan, layout) for group in groups]
        self._n_rows = layout.n
        self._kept = np.array([layout[node] for node, _ in remembered], dtype=np.intp)
        self._outputs = np.array([layout[node] for node in plan.outputs], dtype=np.intp)
        self._places = _Places(rings)

    def __call__(self, carried: Sequence[Carried], candles: FloatArray) -> FloatArray:
        """Take all pairs a candle on.

        Parameters
        ----------
        carried : sequence of Carried
            One a pair.
        candles : array of shape (n_inputs, n_pairs)

        Returns
        -------
        array of shape (n_pairs, n_outputs)
        """
        parts = [
            self._part(carried[first : first + _AT_ONCE], candles[:, first : first + _AT_ONCE])
            for first in range(0, len(carried), _AT_ONCE)
        ]
        return np.concatenate(parts)

    def _part(self, carried: Sequence[Carried], candles: FloatArray) -> FloatArray:
        board = np.empty((self._n_rows, len(carried)))
        board[: len(candles)] = candles
        given = board[len(candles) : self._n_given]
        board[self._n_given : self._n_given + len(self._constants)] = self._constants
        memories = [np.frombuffer(one.memory) for one in carried]
        places = {turn: self._places(turn) for turn in {one.turn for one in carried}}
        for pair, (one, memory) in enumerate(zip(carried, memories, strict=True)):
            given[:, pair] = memory.take(places[one.turn])
        for function, operands, target in self._steps:
            board[target] = function(carried, [_taken(board, rows) for rows in operands])
        kept = board.take(self._kept, axis=0)
        for pair, (one, memory) in enumerate(zip(carried, memories, strict=True)):
            memory[places[one.turn]] = kept[:, pair]
            one.turn += 1
        return board.take(self._outputs, axis=0).T


class _Places:
    """Where in the memory the oldest entries of all rings are, which the newest replace."""

    def __init__(self, rings: list[Ring]) -> None:
        entries = [
            (start + place, len(ring.nodes), ring.distance)
            for ring, start in zip(rings, ring_starts(rings), strict=True)
            for place in range(len(ring.nodes))
        ]
        self._first, self._size, self._distance = np.array(entries, dtype=np.intp).reshape(-1, 3).T

    def __call__(self, turn: int) -> NDArray[np.intp]:
        places: NDArray[np.intp] = self._first + self._size * (turn % self._distance)
        return places


class _Layout:
    """Where on the board the value of each node is.

    First the inputs, then what is remembered (nodes, and of how many candles ago), then constants; other nodes are
    added in the order in which they are computed.
    """

    def __init__(
        self, nodes: Sequence[Node], inputs: Sequence[str], remembered: Sequence[tuple[Node, int]]
    ) -> None:
        by_name = {name: row for row, name in enumerate(inputs)}
        by_age = {entry: row for row, entry in enumerate(remembered, len(inputs))}
        self._rows: dict[Node, int] = {}
        for node in nodes:
            if node.operation == "input":
                self._rows[node] = by_name[node.parameters[0]]
            elif node.operation == "lag":
                self._rows[node] = by_age[current(node.parents[0]), node.parameters[0]]
        operands = (part for node in nodes for part in node.operands)
        numbers = (float(part) for part in operands if not isinstance(part, Node))
        by_text = {repr(number): number for number in numbers}  # 0.0 and -0.0 are equal
        self.constants = list(by_text.values())
        first = len(inputs) + len(remembered)
        self._constant_rows = {text: row for row, text in enumerate(by_text, first)}
        self.n = first + len(by_text)

    def add(self, node: Node) -> None:
        """The next row is the node's; those of a kernel with several values."""
        self._rows[node] = self.n
        self.n += (node.kernel and node.kernel.n_outputs) or 1

    def __contains__(self, node: Node) -> bool:
        return node in self._rows

    def __getitem__(self, part: Node | Scalar) -> int:
        if not isinstance(part, Node):
            return self._constant_rows[repr(float(part))]
        node = current(part)
        if node.operation == "item":
            return self[node.parents[0]] + int(node.parameters[0])
        return self._rows[node]


def _groups(nodes: list[Node], layout: _Layout) -> Iterator[list[Node]]:
    """Groups of nodes that can be computed at once, first what the longest chain waits for, until all have a row."""
    todo = [node for node in nodes if node not in layout and node.operation != "item"]
    users: dict[Node, list[Node]] = defaultdict(list)
    waits: dict[Node, int] = {}
    for node in todo:
        waited = {_computed(parent) for parent in node.parents}.intersection(waits)
        waits[node] = len(waited)
        for parent in waited:
            users[parent].append(node)
    chain: dict[Node, int] = {}
    for node in reversed(todo):
        chain[node] = 1 + max((chain[user] for user in users[node]), default=0)
    ready: dict[object, list[Node]] = defaultdict(list)
    for node in todo:
        if not waits[node]:
            ready[_kind(node)].append(node)
    while ready:
        group = ready.pop(max(ready, key=lambda kind: max(chain[node] for node in ready[kind])))
        yield group
        for node in group:
            for user in users[node]:
                waits[user] -= 1
                if not waits[user]:
                    ready[_kind(user)].append(user)


def _computed(parent: Node) -> Node:
    """The node that has to be computed for this one."""
    node = current(parent)
    return current(node.parents[0]) if node.operation == "item" else node


def _kind(node: Node) -> object:
    """Equal for nodes that can be computed at once."""
    if not node.kernel:
        return node.operation
    return (node.kernel.n_outputs, _are_integers(node)) if _looks_back(node) else node


def _looks_back(kernel: Node) -> bool:
    """Whether its value depends on more than the current candle."""
    reach = kernel.kernel and kernel.kernel.reach
    return not reach or reach(*kernel.parameters) > 0


def _are_integers(kernel: Node) -> tuple[bool, ...]:
    return tuple(isinstance(part, Node) and part.kind != "float" for part in kernel.operands)


def _step(group: list[Node], plan: Plan, layout: _Layout) -> _Step:
    """How a group is computed; its rows are the next ones."""
    operands = tuple(
        _compact([layout[part] for part in parts])
        for parts in zip(*(node.operands for node in group), strict=True)
    )
    start = layout.n
    for node in group:
        layout.add(node)
    return _Step(_function(group, plan), operands, slice(start, layout.n))


def _function(group: list[Node], plan: Plan) -> Function:
    node = group[0]
    if not node.kernel:
        name = str(node.operation)
        function = _FUNCTIONS.get(name) or getattr(np, name)
        return lambda _, operands: function(*operands)
    are_integers = _are_integers(node)
    if _looks_back(node):
        numbers = tuple(plan.kernels.index(kernel) for kernel in group)
        return lambda carried, operands: _called(numbers, carried, _typed(operands, are_integers))
    batch, parameters = node.kernel.batch, node.parameters
    return lambda _, operands: batch(*_typed(operands, are_integers), *parameters)


def _typed(operands: list[FloatArray], are_integers: tuple[bool, ...]) -> list[NDArray[Any]]:
    return [
        rows.astype(np.int64) if is_integer else rows
        for rows, is_integer in zip(operands, are_integers, strict=True)
    ]


def _compact(rows: list[int]) -> Rows:
    first, beyond = rows[0], rows[0] + len(rows)
    return slice(first, beyond) if rows == list(range(first, beyond)) else np.array(rows)


def _taken(board: FloatArray, rows: Rows) -> FloatArray:
    return board[rows] if isinstance(rows, slice) else board.take(rows, axis=0)


def _called(
    numbers: tuple[int, ...], carried: Sequence[Carried], operands: list[NDArray[Any]]
) -> FloatArray:
    """The values of kernels, of which each pair has its own states."""
    by_pair = [rows.T.tolist() for rows in operands]
    values = [
        list(map(call, [states[number] for number in numbers], *given))
        for states, *given in zip([one.states for one in carried], *by_pair, strict=True)
    ]
    return np.array(values).reshape(len(carried), -1).T
