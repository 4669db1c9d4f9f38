"""The function of a new candle, written out as Python: straight-line code on floats.

It remembers numbers that are needed again after so many candles, and the states of the kernels. The numbers of a
pair are packed in one memory: as objects of their own they would lie all over, and to fetch them for each of many
pairs in turn takes longer than to compute with them. Transcendental functions are NumPy's, on all numbers of a stage
at once.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator

from freqtrade_mlpipe.features._plan import Plan, Ring, Text, current, literal, ring_starts
from freqtrade_mlpipe.features._trace import OPERATIONS, Node

_ENTRY = 24
"""Numbers read, kept or given out together. Fewer mean more calls; more mean more names alive, and 256 are quick to
reach."""
_NAME = re.compile(r"\bv\d+\b")
_SIZE = re.compile(r"\b(?:un)?pack(\d+)\(")


def _is_transcendental(node: Node) -> bool:
    return node.operation in OPERATIONS and not OPERATIONS[str(node.operation)].scalar


def _template(node: Node) -> str:
    """Scalar expression of an operation."""
    if node.operation == "divide" and not isinstance(node.operands[1], Node) and node.operands[1]:
        return "({0} / {1})"
    return OPERATIONS[str(node.operation)].scalar


def update_source(plan: Plan, inputs: tuple[str, ...]) -> tuple[str, list[Ring]]:
    """Source of `build(memory, states)`, which returns the function of a new candle, and the rings in its memory.

    The function takes how many candles came before, since it was built, and the inputs.
    """
    nodes = plan.lasting
    text = Text(_occurrences(plan, nodes))
    for node in nodes:
        if node.operation == "input":
            text.name(node, node.parameters[0])
        elif node.operation == "lag":
            text.name(node)
    stage = _stages(nodes)
    setup = _write_stages(nodes, stage, plan, text)
    body = _Body(text.lines)
    lagged = [node for node in nodes if node.operation == "lag"]
    rings = _remember(lagged, stage, text, body)
    columns = sorted(
        range(len(plan.outputs)), key=lambda k: body.known(text[current(plan.outputs[k])])
    )
    for first in range(0, len(columns), _ENTRY):
        part = [text[current(plan.outputs[k])] for k in columns[first : first + _ENTRY]]
        body.when_known(f"pack{len(part)}(row, {8 * first}, {', '.join(part)})")
    order = sorted(range(len(columns)), key=columns.__getitem__)
    statements = body.lines()
    lines = [
        "def build(memory, states):",
        f"    ({''.join(f'state{number}, ' for number in range(len(plan.kernels)))}) = states",
        f"    row, order = bytearray({8 * len(columns)}), np.array({order}, dtype=np.intp)",
        "    take = np.frombuffer(row).take",
        *(
            f"    pack{n}, unpack{n} = Struct('{n}d').pack_into, Struct('{n}d').unpack_from"
            for n in sorted({int(n) for line in statements for n in _SIZE.findall(line)})
        ),
        *(f"    {line}" for line in setup),
        f"    def update(turn, {', '.join(inputs)}):",
        *(f"        {line}" for line in _turns(rings)),
        *(f"        {line}" for line in statements),
        "        return take(order)",
        "    return update",
    ]
    return "\n".join(lines), rings


def _turns(rings: list[Ring]) -> Iterator[str]:
    """Where in the memory the oldest entry of each ring is, which the newest replaces."""
    for ring, start in zip(rings, ring_starts(rings), strict=True):
        size = 8 * len(ring.nodes)
        yield f"at{ring.distance} = {8 * start} + {size} * (turn % {ring.distance})"


class _Body:
    """Statements in an order that keeps few numbers alive.

    Parameters
    ----------
    lines : list of str
        The computation, in order.
    """

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self._before: dict[int, list[str]] = defaultdict(list)
        self._after: dict[int, list[str]] = defaultdict(list)
        self.first_use: dict[str, int] = {}
        self._known: dict[str, int] = {}
        for row, line in enumerate(lines):
            for name in _NAME.findall(line):
                self.first_use.setdefault(name, row)
            for name in _NAME.findall(line.partition(" = ")[0] if " = " in line else ""):
                self._known[name] = row

    def before_use(self, names: list[str], line: str) -> int:
        """Put a line that sets the names right before the first of them is needed; its place."""
        row = min(self.first_use.get(name, len(self._lines)) for name in names)
        self._before[row].append(line)
        self._known.update(dict.fromkeys(names, row))
        return row

    def when_known(self, line: str, not_before: int = 0) -> None:
        """Put a line as soon as the names in it are known."""
        self._after[max(not_before, self.known(line))].append(line)

    def known(self, expression: str) -> int:
        """The row after which the names in an expression are known."""
        return max((self._known[name] for name in _NAME.findall(expression)), default=0)

    def lines(self) -> list[str]:
        """All statements; names that are needed no more are used again."""
        lines = []
        for row in range(len(self._lines) + 1):
            lines += self._before[row] + self._lines[row : row + 1] + self._after[row]
        last = {name: row for row, line in enumerate(lines) for name in _NAME.findall(line)}
        given: dict[str, str] = {}
        free: list[str] = []
        for row, line in enumerate(lines):
            names = dict.fromkeys(_NAME.findall(line))
            free += [given[name] for name in names if last[name] == row and name in given]
            for name in names:
                if name not in given:
                    given[name] = free.pop() if free else f"x{len(set(given.values()))}"
            lines[row] = _NAME.sub(lambda match: given[match[0]], line)
        return lines


def _remember(lagged: list[Node], stage: dict[Node, int], text: Text, body: _Body) -> list[Ring]:
    """Read each lagged number from a ring before it is needed, and put the current ones in their place."""
    alike: dict[int, dict[int, list[Node]]] = defaultdict(lambda: defaultdict(list))
    for node in sorted(lagged, key=lambda node: body.first_use.get(text[node], 0)):
        alike[node.parameters[0]][stage[current(node.parents[0])]].append(node)
    rings, written = [], []
    for distance, by_stage in sorted(alike.items()):
        ring = Ring(distance, [])
        for _, nodes in sorted(by_stage.items()):
            for first in range(0, len(nodes), _ENTRY):
                entry = nodes[first : first + _ENTRY]
                offset = f" + {8 * len(ring.nodes)}" if ring.nodes else ""
                place = f"(memory, at{distance}{offset}"
                names = [text[node] for node in entry]
                read = body.before_use(names, f"({', '.join(names)},) = unpack{len(entry)}{place})")
                ring.nodes.extend(current(node.parents[0]) for node in entry)
                written.append((f"pack{len(entry)}{place}, ", ring.nodes[-len(entry) :], read))
        rings.append(ring)
    for call, nodes, read in written:
        body.when_known(f"{call}{', '.join(text[node] for node in nodes)})", read)
    return rings


def _occurrences(plan: Plan, nodes: list[Node]) -> Counter[Node]:
    occurrences: Counter[Node] = Counter()
    for node in nodes:
        is_plain = node.operation in OPERATIONS and not _is_transcendental(node)
        template = _template(node) if is_plain else ""
        for place, operand in enumerate(node.operands):
            if isinstance(operand, Node):
                occurrences[current(operand)] += max(template.count(f"{{{place}}}"), 1)
    occurrences.update(current(node) for node in plan.outputs)
    return occurrences


def _stages(nodes: list[Node]) -> dict[Node, int]:
    """How many transcendental functions after one another each node has to wait for."""
    stage: dict[Node, int] = {}
    for node in nodes:
        waits = 0
        if node.operation != "lag":
            waits = max((stage[current(parent)] for parent in node.parents), default=0)
        stage[node] = waits + _is_transcendental(node)
    return stage


def _write_stages(nodes: list[Node], stage: dict[Node, int], plan: Plan, text: Text) -> list[str]:
    """Write all operations; a stage ends where transcendental functions are taken of what it computed.

    Returns the lines that make their buffers.
    """
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
                f"pack{suffix}(given{suffix}, 0, {arguments})",
                f"{function}(in{suffix}, out{suffix})",
                f"({names}) = list{suffix}()",
            ]
            setup += [
                f"given{suffix}, out{suffix} = bytearray({8 * n}), np.empty({n})",
                f"in{suffix} = np.frombuffer(given{suffix})",
                f"pack{suffix}, list{suffix} = Struct('{n}d').pack_into, out{suffix}.tolist",
                f"{function} = np.{function}",
            ]
        for node in here:
            _write(node, plan, text)
    return setup


def _write(node: Node, plan: Plan, text: Text) -> None:
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
