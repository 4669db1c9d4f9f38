"""What a catalogue row computes, as a graph.

A row's `compute` works on whole arrays. Called once with stand-ins for the arrays it leaves behind a graph of its
operations, from which `_program` generates code for the next candle: the same additions in the same order, so the same
bits, and no indicator is written twice. Equal nodes are one: rolling sums of widths 7, 14 and 50 share their blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Generic, Literal, TypeVar, cast

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Kind = Literal["float", "int", "bool"]
Scalar = float | int | bool
F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")


class UntraceableError(TypeError):
    """A row did something with a stand-in that has no counterpart for a single candle."""


@dataclass(frozen=True, slots=True)
class Operation:
    """How a node is computed from one number a operand.

    Attributes
    ----------
    scalar : str
        Python expression of {0}, {1} … that equals NumPy's result bit for bit, NaN and zero division included; "" for
        those that only NumPy itself reproduces.
    kind : str or None
        Type of the result; None: that of the operands.
    array : str
        The same on arrays; by default a call of the NumPy function of that name.
    """

    scalar: str
    kind: Kind | None = "float"
    array: str = ""


_DIVIDE = "({0} / {1} if {1} else divide({0}, {1}))"
OPERATIONS: dict[str, Operation] = {
    "add": Operation("({0} + {1})", None, "({0} + {1})"),
    "subtract": Operation("({0} - {1})", None, "({0} - {1})"),
    "multiply": Operation("({0} * {1})", None, "({0} * {1})"),
    "divide": Operation(_DIVIDE, "float", "({0} / {1})"),
    "negative": Operation("(-{0})", None, "(-{0})"),
    "absolute": Operation("({0} if {0} >= 0 else -{0})", None),
    "sign": Operation("(1.0 if {0} > 0 else -1.0 if {0} < 0 else 0.0 if {0} == 0 else {0})"),
    "sqrt": Operation("(sqrt({0}) if {0} >= 0 else nan)"),
    "maximum": Operation("({0} if {0} >= {1} or {0} != {0} else {1})", None),
    "minimum": Operation("({0} if {0} <= {1} or {0} != {0} else {1})", None),
    "greater": Operation("({0} > {1})", "bool", "({0} > {1})"),
    "greater_equal": Operation("({0} >= {1})", "bool", "({0} >= {1})"),
    "less": Operation("({0} < {1})", "bool", "({0} < {1})"),
    "less_equal": Operation("({0} <= {1})", "bool", "({0} <= {1})"),
    "equal": Operation("({0} == {1})", "bool", "({0} == {1})"),
    "not_equal": Operation("({0} != {1})", "bool", "({0} != {1})"),
    "logical_and": Operation("({0} and {1})", "bool", "({0} & {1})"),
    "logical_or": Operation("({0} or {1})", "bool", "({0} | {1})"),
    "logical_not": Operation("(not {0})", "bool", "(~{0})"),
    "where": Operation("({1} if {0} else {2})"),
    "clip": Operation("({1} if {0} < {1} else {2} if {0} > {2} else {0})"),
    "as_flag": Operation("(1.0 if {0} else 0.0)", "float", "{0}.astype(np.float64)"),
    "as_float": Operation("float({0})", "float", "{0}.astype(np.float64)"),
    "as_int": Operation("int({0})", "int", "{0}.astype(np.int64)"),
    "ratio": Operation("({0} / {1} if {1} > 0 else {2})", "float", "ratio({0}, {1}, {2})"),
    "zero_if_nan": Operation("({0} if {0} == {0} else 0.0)", "float", "zero_if_nan({0})"),
    "log": Operation(""),
    "log2": Operation(""),
    "expm1": Operation(""),
    "tanh": Operation(""),
}
"""One row an operation. A transcendental function of NumPy (SIMD) differs from libm's in the last bit."""

_BITWISE = {"bitwise_and": "logical_and", "bitwise_or": "logical_or", "invert": "logical_not"}


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One operation of the graph; a graph holds each once, so nodes are equal only if identical.

    Attributes
    ----------
    operation : str or Kernel
        A key of OPERATIONS, "input", "lag", "missing", "item", or a kernel.
    operands : tuple
        Nodes and constants.
    parameters : tuple
        Name of the input, number of candles, index of the item, or the kernel's arguments after its arrays.
    kind : str
        Type of its values.
    """

    operation: str | Kernel[Any]
    operands: tuple[Node | Scalar, ...]
    parameters: tuple[Any, ...]
    kind: Kind

    @property
    def parents(self) -> tuple[Node, ...]:
        """The operands that are nodes."""
        return tuple(part for part in self.operands if isinstance(part, Node))

    @property
    def kernel(self) -> Kernel[Any] | None:
        """The kernel, if it is one."""
        return self.operation if isinstance(self.operation, Kernel) else None


class Graph:
    """Nodes, each once."""

    def __init__(self) -> None:
        self._nodes: dict[tuple[object, ...], Node] = {}

    def node(
        self,
        operation: str | Kernel[Any],
        operands: tuple[Node | Scalar, ...] = (),
        parameters: tuple[Any, ...] = (),
        kind: Kind = "float",
    ) -> Node:
        """The node, made unless it is there already."""
        keys = (_hashable(part) for part in (*operands, None, *parameters))
        key = (operation, *keys)
        return self._nodes.setdefault(key, Node(operation, operands, parameters, kind))

    def lag(self, node: Node, n: int) -> Node:
        """The node's value n candles ago; lags add up."""
        if n and node.operation == "lag":
            return self.lag(node.operands[0], n + node.parameters[0])  # type: ignore[arg-type]
        return self.node("lag", (node,), (n,), node.kind) if n else node

    def apply(self, name: str, operands: Sequence[Any]) -> Traced:
        """An operation of the table on stand-ins and constants."""
        found = tuple(_operand(part) for part in operands)
        kind = OPERATIONS[name].kind
        if kind is None:
            kinds = {_kind_of(part) for part in found}
            kind = "float" if "float" in kinds else "int"
        return Traced(self, self.node(name, found, (), kind))


def _hashable(value: object) -> object:
    if isinstance(value, np.ndarray):
        return (value.shape, value.dtype.str, value.tobytes())
    return value if isinstance(value, Node) else (type(value), value)


def _kind_of(value: Node | Scalar) -> Kind:
    if isinstance(value, Node):
        return value.kind
    if isinstance(value, bool):
        return "bool"
    return "int" if isinstance(value, int) else "float"


def _operand(value: object) -> Node | Scalar:
    if isinstance(value, Traced):
        return value.node
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool | int | float):
        return value
    raise UntraceableError(f"{type(value).__name__} can't be combined with a stand-in.")


class Traced(NDArrayOperatorsMixin):
    """Stand-in for an array. Like one it can be written to as a whole (`out=`, `+=`, np.copyto); then it stands for
    another node."""

    def __init__(self, graph: Graph, node: Node) -> None:
        self.graph = graph
        self.node = node

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Traced:
        (target,) = options.pop("out", (None,))
        if method != "__call__" or options or not (target is None or isinstance(target, Traced)):
            raise UntraceableError(f"np.{ufunc.__name__}.{method} can't be traced.")
        found = self._elementwise(ufunc.__name__, inputs)
        if target is None:
            return found
        target.node = found.node
        return target

    def _elementwise(self, name: str, inputs: tuple[Any, ...]) -> Traced:
        if name == "power" and inputs[1] == 2:
            return self.graph.apply("multiply", (inputs[0], inputs[0]))
        if name in _BITWISE:
            name = _BITWISE[name]
            if any(_kind_of(_operand(part)) != "bool" for part in inputs):
                raise UntraceableError(f"{name} of numbers can't be traced.")
        if name not in OPERATIONS:
            raise UntraceableError(f"np.{name} can't be traced: OPERATIONS has no row for it.")
        return self.graph.apply(name, inputs)

    def __array_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        if function is np.copyto:
            target, values = args
            condition = kwargs.pop("where", True)
            target.node = self.graph.apply("where", (condition, values, target)).node
            return None
        if function not in (np.where, np.clip) or kwargs or len(args) != 3:
            raise UntraceableError(f"np.{function.__name__} can't be traced.")
        return self.graph.apply(function.__name__, args)

    def astype(self, dtype: Any) -> Traced:
        """As float64 or int64."""
        if dtype is np.float64:
            name = "as_flag" if self.node.kind == "bool" else "as_float"
        elif dtype is np.int64:
            name = "as_int"
        else:
            raise UntraceableError(f"astype({dtype}) can't be traced.")
        return self.graph.apply(name, (self,))

    def copy(self) -> Any:
        """Another stand-in for the same node."""
        return Traced(self.graph, self.node)

    def lag(self, n: int) -> Any:
        """The values n candles ago, the first one in the first n rows."""
        return Traced(self.graph, self.graph.lag(self.node, n))

    def missing(self, n: int) -> Any:
        """The same with the first n rows NaN: nothing to do for a candle once the warm-up is over."""
        return Traced(self.graph, self.graph.node("missing", (self.node,), (n,), self.node.kind))

    def _refuse(self, *_arguments: Any, **_options: Any) -> Any:
        raise UntraceableError("A stand-in has no rows, length or truth value.")

    __len__ = __iter__ = __getitem__ = __setitem__ = __bool__ = __float__ = __int__ = __array__ = (
        _refuse
    )
    __hash__ = None  # type: ignore[assignment]


def elementwise(function: F) -> F:
    """A function of arrays that OPERATIONS has under its name: of stand-ins it makes a node."""

    @wraps(function)
    def call(*operands: Any) -> Any:
        for part in operands:
            if isinstance(part, Traced):
                return part.graph.apply(function.__name__, operands)
        return function(*operands)

    return cast(F, call)


@dataclass(frozen=True, slots=True, eq=False)
class Kernel(Generic[R]):
    """A function of arrays that is carried from candle to candle by a state of its own.

    Called with arrays it computes them whole, called with stand-ins it becomes one node.

    Attributes
    ----------
    name : str
        For messages.
    n_arrays : int
        Leading arguments that are arrays; the others are parameters.
    batch : callable
        (*arrays, *parameters) → the values of all candles.
    open : callable
        (*arrays, *parameters) → the same, and a function that takes the numbers of the next candle and returns its
        value; None if it can only be computed whole.
    reach : callable or None
        (*parameters) → candles before the current one that its value depends on; None: all since the first.
    n_outputs : int
        Length of the tuple of its values; 0 if it has one and no tuple.
    """

    name: str
    n_arrays: int
    batch: Callable[..., R]
    open: Callable[..., tuple[R, Callable[..., Any]]] | None
    reach: Callable[..., int] | None = None
    n_outputs: int = 0

    def __call__(self, *arguments: Any) -> R:
        first = arguments[0]
        if not isinstance(first, Traced):
            return self.batch(*arguments)
        graph = first.graph
        arrays = tuple(_operand(part) for part in arguments[: self.n_arrays])
        node = graph.node(self, arrays, arguments[self.n_arrays :])
        parts = (graph.node("item", (node,), (k,)) for k in range(self.n_outputs))
        found: Any = tuple(Traced(graph, part) for part in parts) or Traced(graph, node)
        return found  # type: ignore[no-any-return]
