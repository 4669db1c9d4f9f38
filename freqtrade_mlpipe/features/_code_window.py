"""The function of a window of candles, written out as Python.

A lag is a slice there; rows that would look back beyond the first candle are left out, for they belong to the warm-up.
Only what feeds a recursive kernel (TA-Lib starts with the first row) keeps every row.

What no recursive kernel needs depends on a bounded number of candles. A long window computes it in parts of equal
length, so that a million candles cost a candle what a hundred thousand do, and little memory besides the result.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from freqtrade_mlpipe.features._plan import Plan, Ring, Text, literal
from freqtrade_mlpipe.features._trace import OPERATIONS, Node

_BEGIN = "n, columns = len(target), list(target.T)"
_PART = 110_000
"""Most rows that are computed together, a year of 5m candles. Fewer fit the cache better, but NumPy hands the
interpreter over at each operation, and threads that do so too often wait for each other; more need more memory for
what is in between."""


def fill_source(plan: Plan) -> str:
    """Source of `fill(candles, block)`."""
    text = Text(_occurrences(plan, plan.whole))
    for node in plan.order:
        if node in plan.whole:
            _write(node, plan, text, "batch")
    wholes, text.lines = text.lines, []
    _write_columns([node for node in plan.order if node not in plan.whole], plan, text)
    names = sorted(_names(wholes) & _names(text.lines))
    _release(wholes, keep=names)
    _release(text.lines)
    given = f"[{', '.join(names)}]"
    return "\n".join(
        [
            "def part(target, start, shift, given):",
            *(
                f"    {line}"
                for line in (f"{given} = given", "given.clear()", _BEGIN, *text.lines, _bound(plan))
            ),
            "def fill(candles, block):",
            *(f"    {line}" for line in wholes),
            f"    wholes = {given}",
            *([f"    del {', '.join(names)}"] if names else []),
            f"    for first, start, stop in parts(len(block), {plan.reach}):",
            "        given = [whole[first:stop] for whole in wholes]",
            "        if stop == len(block):  # the last part gives each back as soon as it is used",
            "            wholes.clear()",
            "        part(block[start:stop], start, first - start, given)",
        ]
    )


def _bound(plan: Plan) -> str:
    first, last = min(plan.places, default=0), max(plan.places, default=0)
    return f"bound(target[:, {first}:{last + 1}])"


def parts(n_rows: int, reach: int) -> Iterator[tuple[int, int, int]]:
    """First row to look at, first row and end of each part of a window."""
    size = math.ceil(n_rows / math.ceil(n_rows / _PART)) if n_rows else 1
    for start in range(0, n_rows, size):
        yield max(start - reach, 0), start, min(start + size, n_rows)


def resume_source(plan: Plan, rings: list[Ring]) -> str:
    """Source of `resume(candles, target)`, which also opens the rings and the kernels' states and returns what is
    carried."""
    tails = _tails(rings)
    text = Text(_occurrences(plan, tails))
    _write_columns(plan.order, plan, text, "open", tails)
    _release(text.lines)
    carried = _carried(rings, len(plan.kernels), text)
    lines = ("start = shift = 0", _BEGIN, *text.lines, _bound(plan), *carried)
    return "\n".join(["def resume(candles, target):", *(f"    {line}" for line in lines)])


def _write_columns(
    nodes: list[Node],
    plan: Plan,
    text: Text,
    kernels: str = "batch",
    tails: Mapping[Node, int] = MappingProxyType({}),
) -> None:
    """Write the nodes, and each column as soon as it is known."""
    columns = defaultdict(list)
    for place, node, warmup in zip(plan.places, plan.outputs, plan.warmups, strict=True):
        columns[node].append((place, warmup))
    ready = columns.keys() - set(nodes)
    for node in (*(node for node in plan.outputs if node in ready), *nodes):
        if node not in ready:
            _write(node, plan, text, kernels)
        if node in tails:
            text.lines.append(f"tail_{text[node]} = {text[node]}[-{tails[node]}:].copy()")
        for place, warmup in columns[node]:
            offset = plan.offset[node]
            values = _aligned(node, offset, plan, text)
            rows = f"min(max({warmup} - start, 0), n), {offset} + shift"
            text.lines.append(f"write(columns[{place}], {values}, {rows})")


def _tails(rings: list[Ring]) -> dict[Node, int]:
    """How many last values of each node are remembered."""
    tails: dict[Node, int] = {}
    for ring in rings:
        for node in ring.nodes:
            tails[node] = max(tails.get(node, 0), ring.distance)
    return tails


def packed(rings: Iterable[tuple[int, Iterable[NDArray[np.generic]]]]) -> bytearray:
    """The memory of rings: distance and last values of the nodes of each."""
    memory = bytearray()
    for distance, tails in rings:
        memory += (
            np.stack([tail[-distance:] for tail in tails], axis=1).astype(np.float64).tobytes()
        )
    return memory


def _carried(rings: list[Ring], n_kernels: int, text: Text) -> Iterator[str]:
    opened = []
    for ring in rings:
        tails = "".join(f"tail_{text[node]}, " for node in ring.nodes)
        opened.append(f"({ring.distance}, ({tails})), ")
    states = "".join(f"state{number}, " for number in range(n_kernels))
    yield f"memory, states = packed(({''.join(opened)})), ({states})"
    yield "return Carried(memory, states, build(memory, states))"


def _source_of(node: Node, plan: Plan) -> tuple[Node, int]:
    """The array that a node is a part of, and how many candles before."""
    before = 0
    while node.operation in ("lag", "missing") and node not in plan.exact:
        before += node.parameters[0] if node.operation == "lag" else 0
        node = node.parents[0]
    return node, before


def _aligned(node: Node, offset: int, plan: Plan, text: Text) -> str:
    """The rows from `offset` on of a node."""
    source, before = _source_of(node, plan)
    start = offset - before - plan.offset[source]
    if not (start or before):
        return text[source]
    return f"{text[source]}[{start or ''}:{-before or ''}]"


def _occurrences(plan: Plan, named: Iterable[Node]) -> Counter[Node]:
    """How often each array is written; those that must have a name count as more than one."""
    occurrences: Counter[Node] = Counter()
    for node in plan.order:
        if node.operation not in ("lag", "missing") or node in plan.exact:
            occurrences.update(_source_of(parent, plan)[0] for parent in node.parents)
    occurrences.update(_source_of(node, plan)[0] for node in plan.outputs)
    occurrences.update(dict.fromkeys(named, 2))
    return occurrences


def _write(node: Node, plan: Plan, text: Text, kernels: str) -> None:
    if node.operation in ("lag", "missing") and node not in plan.exact:
        return
    offset = plan.offset[node]
    operands = [
        _aligned(part, offset, plan, text) if isinstance(part, Node) else literal(part)
        for part in node.operands
    ]
    if node.kernel:
        number = plan.kernels.index(node)
        call = f"({', '.join(operands)}, *parameters{number})"
        target = text.name(node)
        states = f", state{number}" if kernels == "open" else ""
        text.lines.append(f"{target}{states} = {kernels}{number}{call}")
    elif node.operation == "input":
        text.lines.append(f"{text.name(node)} = candles.{node.parameters[0]}")
    elif node.operation in ("lag", "missing"):
        text.put(node, f"{node.operation}({operands[0]}, {node.parameters[0]})")
    elif node.operation == "item":
        text.put(node, f"{operands[0]}[{node.parameters[0]}]")
    else:
        array = OPERATIONS[str(node.operation)].array
        plain = f"np.{node.operation}({', '.join(operands)})"
        text.put(node, array.format(*operands) if array else plain)


def _names(lines: Iterable[str]) -> set[str]:
    return {name for line in lines for name in re.findall(r"\bv\d+\b", line)}


def _release(lines: list[str], keep: Iterable[str] = ()) -> None:
    """Delete each array after its last use."""
    last = {name: row for row, line in enumerate(lines) for name in _names([line])}
    for name, row in last.items():
        if name not in keep:
            lines[row] += f"; del {name}"
