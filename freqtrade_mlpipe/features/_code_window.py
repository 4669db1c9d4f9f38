"""The function of a window of candles, written out as Python.

A lag is a slice there; rows that would look back beyond the first candle are left out, for they belong to the warm-up.
Only what feeds a recursive kernel (TA-Lib starts with the first row) keeps every row.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable

from freqtrade_mlpipe.features._plan import Plan, Queue, Text, literal
from freqtrade_mlpipe.features._trace import OPERATIONS, Node


def window_source(plan: Plan, queues: list[Queue] | None = None) -> str:
    """Source of `fill(candles, block)`, or of `resume`, which opens these queues and the kernels' states and returns
    `build` of them."""
    tails = _tails(queues or [])
    text = Text(_occurrences(plan, tails))
    writes = defaultdict(list)
    for place, node, warmup in zip(plan.places, plan.outputs, plan.warmups, strict=True):
        writes[node].append((place, warmup))
    for node in plan.order:
        _write(node, plan, text, queues is not None)
        if node in tails:
            text.lines.append(f"tail_{text[node]} = {text[node]}[-{tails[node]}:].tolist()")
        for place, warmup in writes[node]:
            offset = plan.offset[node]
            column = _aligned(node, offset, plan, text)
            text.lines.append(f"write(block[:, {place}], {column}, {warmup}, {offset})")
    _release(text.lines)
    if queues is not None:
        text.lines.append(_build_call(queues, len(plan.kernels), text))
    name = "fill" if queues is None else "resume"
    return "\n".join([f"def {name}(candles, block):", *(f"    {line}" for line in text.lines)])


def _tails(queues: list[Queue]) -> dict[Node, int]:
    """How many last values of each node are remembered."""
    tails: dict[Node, int] = {}
    for queue in queues:
        for node in queue.nodes:
            tails[node] = max(tails.get(node, 0), queue.distance)
    return tails


def _build_call(queues: list[Queue], n_kernels: int, text: Text) -> str:
    opened = []
    for queue in queues:
        tails = ", ".join(f"tail_{text[node]}[-{queue.distance}:]" for node in queue.nodes)
        opened.append(f"deque(zip({tails}), {queue.distance}), ")
    states = "".join(f"state{number}, " for number in range(n_kernels))
    return f"return build(({''.join(opened)}), ({states}))"


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


def _occurrences(plan: Plan, tails: Iterable[Node]) -> Counter[Node]:
    occurrences: Counter[Node] = Counter()
    for node in plan.order:
        if node.operation not in ("lag", "missing") or node in plan.exact:
            occurrences.update(_source_of(parent, plan)[0] for parent in node.parents)
    occurrences.update(_source_of(node, plan)[0] for node in plan.outputs)
    occurrences.update(dict.fromkeys(tails, 2))
    return occurrences


def _write(node: Node, plan: Plan, text: Text, resume: bool) -> None:
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
        line = f"{target}, state{number} = open{number}" if resume else f"{target} = batch{number}"
        text.lines.append(line + call)
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


def _release(lines: list[str]) -> None:
    """Delete each array after its last use."""
    last = {name: row for row, line in enumerate(lines) for name in re.findall(r"\bv\d+\b", line)}
    for name, row in last.items():
        lines[row] += f"; del {name}"
