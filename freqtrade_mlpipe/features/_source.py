"""A graph of feature columns written out as Python.

For a new candle: straight-line code on floats. What it remembers is one queue for each distance in candles, whose
entries hold all numbers that are needed again after that many candles, and the states of the kernels. Transcendental
functions are NumPy's, on all numbers of a stage at once.

For a window: the same graph on arrays. There a lag is a slice; rows that would look back beyond the first candle are
left out, for they belong to the warm-up. Only what feeds a recursive kernel (TA-Lib starts with the first row) keeps
every row.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable

from freqtrade_mlpipe.features._trace import OPERATIONS, Node, Scalar

_DEEPEST = 25
"""Nested operations in one expression; the parser allows some 90."""


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
    """

    def __init__(self, outputs: list[Node], places: tuple[int, ...], warmups: list[int]) -> None:
        self.outputs, self.places, self.warmups = outputs, places, warmups
        self.order = ordered(outputs)
        self.kernels = [node for node in self.order if node.kernel]
        self.exact = self._exact()
        self.offset: dict[Node, int] = {}
        for node in self.order:
            start = max((self.offset[parent] for parent in node.parents), default=0)
            if node.operation == "lag" and node not in self.exact:
                start += node.parameters[0]
            self.offset[node] = start
        self.remembered: dict[int, list[Node]] = defaultdict(list)
        for node in self.order:
            if node.operation == "lag":
                self.remembered[node.parameters[0]].append(current(node.parents[0]))

    def _exact(self) -> set[Node]:
        """Nodes of which a window's every row is needed, the first ones too."""
        exact: set[Node] = set()
        _mark(exact, (node for node in self.kernels if node.kernel and not node.kernel.reach))
        settled: dict[Node, int] = {}
        for node in self.order:
            settled[node] = 0 if node in exact else _settled(node, settled)
        late = zip(self.outputs, self.warmups, strict=True)
        _mark(exact, (node for node, warmup in late if settled[node] > warmup))
        return exact


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


def _is_transcendental(node: Node) -> bool:
    return node.operation in OPERATIONS and not OPERATIONS[str(node.operation)].scalar


def _template(node: Node) -> str:
    """Scalar expression of an operation."""
    if node.operation == "divide" and not isinstance(node.operands[1], Node) and node.operands[1]:
        return "({0} / {1})"
    return OPERATIONS[str(node.operation)].scalar


class _Text:
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

    def name(self, node: Node) -> str:
        """A new name for the node."""
        self._texts[node] = f"v{len(self._texts)}"
        self._depths[node] = 0
        return self._texts[node]

    def put(self, node: Node, expression: str) -> None:
        """Say what computes the node."""
        depth = 1 + max((self._depths.get(parent, 0) for parent in node.parents), default=0)
        if self._occurrences[node] == 1 and depth < _DEEPEST:
            self._texts[node], self._depths[node] = expression, depth
            self._texts.setdefault(node, expression)
        else:
            self.lines.append(f"{self.name(node)} = {expression}")


def update_source(plan: Plan, inputs: tuple[str, ...]) -> str:
    """Source of `build(queues, states)`, which returns the function of a new candle."""
    nodes = [node for node in plan.order if node.operation != "missing"]
    text = _Text(_scalar_occurrences(plan, nodes))
    for node in nodes:
        if node.operation == "input":
            text.lines.append(f"{text.name(node)} = {node.parameters[0]}")
    queues = sorted(plan.remembered)
    lagged = [node for node in nodes if node.operation == "lag"]
    for distance in queues:
        names = "".join(f"{text.name(n)}, " for n in lagged if n.parameters[0] == distance)
        text.lines.append(f"({names}) = queue{distance}[0]")
    setup = _write_stages(nodes, plan, text)
    for distance in queues:
        values = "".join(f"{text[node]}, " for node in plan.remembered[distance])
        text.lines.append(f"append{distance}(({values}))")
    row = ", ".join(text[current(node)] for node in plan.outputs)
    text.lines += [f"pack(row, 0, {row})", "return row"]
    n = len(plan.outputs)
    head = [
        f"({''.join(f'queue{distance}, ' for distance in queues)}) = queues",
        f"({''.join(f'state{number}, ' for number in range(len(plan.kernels)))}) = states",
        *(f"append{distance} = queue{distance}.append" for distance in queues),
        *setup,
        f"row, pack = np.empty({n}), Struct('{n}d').pack_into",
    ]
    return "\n".join(
        [
            "def build(queues, states):",
            *(f"    {line}" for line in head),
            f"    def update({', '.join(inputs)}):",
            *(f"        {line}" for line in text.lines),
            "    return update",
        ]
    )


def _scalar_occurrences(plan: Plan, nodes: list[Node]) -> Counter[Node]:
    occurrences: Counter[Node] = Counter()
    for node in nodes:
        is_plain = node.operation in OPERATIONS and not _is_transcendental(node)
        template = _template(node) if is_plain else ""
        for place, operand in enumerate(node.operands):
            if isinstance(operand, Node):
                occurrences[current(operand)] += max(template.count(f"{{{place}}}"), 1)
    occurrences.update(current(node) for node in plan.outputs)
    return occurrences


def _write_stages(nodes: list[Node], plan: Plan, text: _Text) -> list[str]:
    """Write all operations; a stage ends where transcendental functions are taken of what it computed.

    Returns the lines that make their buffers.
    """
    stage: dict[Node, int] = {}
    for node in nodes:
        waits = 0
        if node.operation != "lag":
            waits = max((stage[current(parent)] for parent in node.parents), default=0)
        stage[node] = waits + _is_transcendental(node)
    setup = []
    for number in range(max(stage.values(), default=0) + 1):
        here = [node for node in nodes if stage[node] == number]
        functions = sorted({str(node.operation) for node in here if _is_transcendental(node)})
        for function in functions:
            group = [node for node in here if node.operation == function]
            suffix, n = f"_{function}{number}", len(group)
            arguments = ", ".join(text[current(node.parents[0])] for node in group)
            names = "".join(f"{text.name(node)}, " for node in group)
            text.lines += [
                f"pack{suffix}(in{suffix}, 0, {arguments})",
                f"{function}(in{suffix}, out{suffix})",
                f"({names}) = list{suffix}()",
            ]
            setup += [
                f"in{suffix}, out{suffix} = np.empty({n}), np.empty({n})",
                f"pack{suffix}, list{suffix} = Struct('{n}d').pack_into, out{suffix}.tolist",
                f"{function} = np.{function}",
            ]
        for node in here:
            _write_scalar(node, plan, text)
    return setup


def _write_scalar(node: Node, plan: Plan, text: _Text) -> None:
    if node.operation in ("input", "lag") or _is_transcendental(node):
        return
    operands = [
        text[current(part)] if isinstance(part, Node) else literal(part) for part in node.operands
    ]
    if node.kernel:
        call = f"state{plan.kernels.index(node)}({', '.join(operands)})"
        text.lines.append(f"{text.name(node)} = {call}")
    elif node.operation == "item":
        text.put(node, f"{operands[0]}[{node.parameters[0]}]")
    else:
        text.put(node, _template(node).format(*operands))


def window_source(plan: Plan, name: str) -> str:
    """Source of `fill(candles, block)`, or of `resume`, which also returns the function of the next candle."""
    resume = name == "resume"
    distance = {
        node: lag for lag, nodes in sorted(plan.remembered.items()) for node in nodes if resume
    }
    text = _Text(_array_occurrences(plan, distance))
    writes = defaultdict(list)
    for place, node, warmup in zip(plan.places, plan.outputs, plan.warmups, strict=True):
        writes[node].append((place, warmup))
    for node in plan.order:
        _write_array(node, plan, text, resume)
        if node in distance:
            text.lines.append(f"tail_{text[node]} = {text[node]}[-{distance[node]}:].tolist()")
        for place, warmup in writes[node]:
            offset = plan.offset[node]
            column = _aligned(node, offset, plan, text)
            text.lines.append(f"write(block[:, {place}], {column}, {warmup}, {offset})")
    _release(text.lines)
    if resume:
        text.lines.append(_build_call(plan, text))
    return "\n".join([f"def {name}(candles, block):", *(f"    {line}" for line in text.lines)])


def _build_call(plan: Plan, text: _Text) -> str:
    queues = "".join(
        f"deque(zip({', '.join(f'tail_{text[node]}[-{lag}:]' for node in nodes)}), {lag}), "
        for lag, nodes in sorted(plan.remembered.items())
    )
    states = "".join(f"state{number}, " for number in range(len(plan.kernels)))
    return f"return build(({queues}), ({states}))"


def _source_of(node: Node, plan: Plan) -> tuple[Node, int]:
    """The array that a node is a part of, and how many candles before."""
    before = 0
    while node.operation in ("lag", "missing") and node not in plan.exact:
        before += node.parameters[0] if node.operation == "lag" else 0
        node = node.parents[0]
    return node, before


def _aligned(node: Node, offset: int, plan: Plan, text: _Text) -> str:
    """The rows from `offset` on of a node."""
    source, before = _source_of(node, plan)
    start = offset - before - plan.offset[source]
    if not (start or before):
        return text[source]
    return f"{text[source]}[{start or ''}:{-before or ''}]"


def _array_occurrences(plan: Plan, tails: Iterable[Node]) -> Counter[Node]:
    occurrences: Counter[Node] = Counter()
    for node in plan.order:
        if node.operation not in ("lag", "missing") or node in plan.exact:
            occurrences.update(_source_of(parent, plan)[0] for parent in node.parents)
    occurrences.update(_source_of(node, plan)[0] for node in plan.outputs)
    occurrences.update(dict.fromkeys(tails, 2))
    return occurrences


def _write_array(node: Node, plan: Plan, text: _Text, resume: bool) -> None:
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
