"""Feature columns as code: a function of a window, which also leaves the state behind, and one of a new candle.

Each column is traced (`_trace`), the graph written out (`_code_update`, `_code_window`) and compiled, once for all pairs.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from struct import Struct
from typing import Any, cast

import numpy as np

from freqtrade_mlpipe.features import _windows as windows
from freqtrade_mlpipe.features._block import Block, write_column
from freqtrade_mlpipe.features._code_update import update_source
from freqtrade_mlpipe.features._code_window import window_source
from freqtrade_mlpipe.features._plan import Plan, ordered
from freqtrade_mlpipe.features._trace import FloatArray, Graph, Kernel, Node, Traced
from freqtrade_mlpipe.features.indicator import Candles, FeatureColumn

CALENDAR = ("minute_of_day", "weekday", "day_of_month", "month")
PRICES = ("open", "high", "low", "close", "volume", "quoted_close")

Update = Callable[..., FloatArray]


class _TracedCandles:
    """Stand-in for `Candles`."""

    def __init__(self, graph: Graph) -> None:
        self._shared: dict[tuple[object, ...], Any] = {}
        for name in PRICES:
            setattr(self, name, Traced(graph, graph.node("input", (), (name,))))
        for name in CALENDAR:
            setattr(self, name, Traced(graph, graph.node("input", (), (name,), "int")))

    def shared(self, compute: Callable[..., Any], *arguments: int | str) -> Any:
        key = (compute, *arguments)
        if key not in self._shared:
            self._shared[key] = compute(self, *arguments)
        return self._shared[key]


def trace(columns: tuple[FeatureColumn, ...]) -> list[Node | None]:
    """The node of each column; None for one that has no counterpart for a single candle."""
    candles = cast(Candles, _TracedCandles(Graph()))
    return [_trace(column, candles) for column in columns]


def _trace(column: FeatureColumn, candles: Candles) -> Node | None:
    try:
        found: object = column.compute(candles)
    except (TypeError, AttributeError):
        return None
    if not isinstance(found, Traced):
        return None
    kernels = (node.kernel for node in ordered([found.node]))
    return found.node if all(carried(kernel) for kernel in kernels if kernel) else None


def carried(kernel: Kernel[Any]) -> bool:
    """Whether the kernel can go on candle by candle."""
    return kernel.open is not None


@dataclass(frozen=True, slots=True)
class Program:
    """Code of a selection of columns; it keeps no state.

    Attributes
    ----------
    traced : tuple of int
        Positions of the columns that it computes; the others can't be traced.
    fill : callable
        (candles, block) writes the columns of a window into a float32 block.
    resume : callable
        The same, and returns the function of the next candle: its open, high, low, close and volume (scaled as the
        window's), quoted close, and minute of day, weekday, day of month and month → float64 array of the traced
        columns, always the same one.
    sources : tuple of str
        What was compiled, for debugging.
    """

    traced: tuple[int, ...]
    fill: Callable[[Candles, Block], None]
    resume: Callable[[Candles, Block], Update]
    sources: tuple[str, ...]


@lru_cache(maxsize=32)
def compile_program(columns: tuple[FeatureColumn, ...]) -> Program:
    """The code of `columns`, made once."""
    found = trace(columns)
    traced = tuple(place for place, node in enumerate(found) if node is not None)
    outputs = [node for node in found if node is not None]
    plan = Plan(outputs, traced, [columns[place].warmup for place in traced])
    update, queues = update_source(plan, (*PRICES, *CALENDAR))
    sources = (update, window_source(plan, queues), window_source(plan))
    scope: dict[str, Any] = {
        "np": np,
        "nan": np.nan,
        "inf": np.inf,
        "deque": deque,
        "Struct": Struct,
        "sqrt": math.sqrt,
        "divide": _divide,
        "lag": windows.lag,
        "missing": _missing,
        "ratio": windows.ratio,
        "zero_if_nan": windows.zero_if_nan,
        "write": write_column,
    }
    for number, node in enumerate(plan.kernels):
        assert node.kernel is not None
        scope[f"batch{number}"], scope[f"open{number}"] = node.kernel.batch, node.kernel.open
        scope[f"parameters{number}"] = node.parameters
    for source in sources:
        exec(compile(source, "<features>", "exec"), scope)
    return Program(traced, scope["fill"], scope["resume"], sources)


def _divide(a: float, b: float) -> float:
    """a / b as NumPy has it, where Python raises."""
    return float(np.float64(a) / b)


def _missing(values: FloatArray, n: int) -> FloatArray:
    shortened = values.copy()
    shortened[:n] = np.nan
    return shortened
