"""Feature columns as code: a function of a window, which also leaves the state behind, and one of a new candle.

Each column is traced (`_trace`), the graph written out (`_code_update`, `_code_window`) and compiled, once for all
pairs; or put into an order in which it is computed for many pairs at once (`_pairs`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from itertools import groupby
from struct import Struct
from typing import Any, cast

import numpy as np

from freqtrade_mlpipe.features import _windows as windows
from freqtrade_mlpipe.features._block import Block, bound, write_column
from freqtrade_mlpipe.features._code_update import update_source
from freqtrade_mlpipe.features._code_window import fill_source, packed, parts, resume_source
from freqtrade_mlpipe.features._pairs import PairsProgram
from freqtrade_mlpipe.features._plan import Carried, Plan, Ring, ordered
from freqtrade_mlpipe.features._trace import FloatArray, Graph, Kernel, Node, Traced
from freqtrade_mlpipe.features.indicator import Candles, FeatureColumn

CALENDAR = ("minute_of_day", "weekday", "day_of_month", "month")
PRICES = ("open", "high", "low", "close", "volume", "quoted_close")
INPUTS = (*PRICES, *CALENDAR)

Inputs = tuple[float, ...]
"""The numbers of a candle that INPUTS names."""


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


class Program:
    """The code of some columns. It keeps no state, so one does for all pairs.

    Parameters
    ----------
    columns : tuple of FeatureColumn
        Which.

    Attributes
    ----------
    traced : tuple of int
        Positions of the columns that it computes.
    untraced : tuple of int
        Positions of the others: `FeatureColumn.compute` has to do it, on all candles.
    """

    def __init__(self, columns: tuple[FeatureColumn, ...]) -> None:
        self._columns = columns
        self._nodes = trace(columns)
        self.traced = tuple(place for place, node in enumerate(self._nodes) if node)
        self.untraced = tuple(place for place, node in enumerate(self._nodes) if not node)

    def fill(self, candles: Candles, block: Block) -> None:
        """Write the columns of a window into a float32 block, warm-up rows as NaN."""
        for fill in self._fill_groups:
            fill(candles, block)

    def resume(self, candles: Candles, block: Block) -> Carried:
        """The same, and what `update` needs to go on."""
        return self._resume(candles, block)

    def update(self, carried: Carried, candle: Inputs) -> FloatArray:
        """The traced columns for the next candle, float64 of shape (n_traced,).

        Parameters
        ----------
        carried : Carried
            Of the pair; it has gone on afterwards.
        candle : tuple
            Open, high, low, close and volume (scaled as the window's), the quoted close, and minute of day, weekday,
            day of month and month.
        """
        found: FloatArray = carried.update(carried.turn, *candle)
        carried.turn += 1
        return found

    def update_many(self, carried: Sequence[Carried], candles: Sequence[Inputs]) -> FloatArray:
        """`update` of many pairs, a candle each: shape (n_pairs, n_traced)."""
        return self._pairs(carried, np.array(candles, dtype=np.float64).T)

    @cached_property
    def _fill_groups(self) -> list[Callable[[Candles, Block], None]]:
        # A function for each group of rows: what groups share is soon computed again, and long to keep.
        groups = groupby(self.traced, lambda place: self._columns[place].indicator.group)
        plans = [self._plan(tuple(places)) for _, places in groups]
        return [_run(plan, fill_source(plan))["fill"] for plan in plans]

    @cached_property
    def _resume(self) -> Callable[[Candles, Block], Carried]:
        plan, (update, rings) = self._carried_plan, self._update
        found: Callable[[Candles, Block], Carried] = _run(plan, update, resume_source(plan, rings))[
            "resume"
        ]
        return found

    @cached_property
    def _pairs(self) -> PairsProgram:
        return PairsProgram(self._carried_plan, self._update[1], INPUTS)

    @cached_property
    def _carried_plan(self) -> Plan:
        return self._plan(self.traced)

    @cached_property
    def _update(self) -> tuple[str, list[Ring]]:
        return update_source(self._carried_plan, INPUTS)

    def _plan(self, places: tuple[int, ...]) -> Plan:
        outputs = [self._nodes[place] for place in places]
        return Plan(
            [node for node in outputs if node],
            places,
            [self._columns[place].warmup for place in places],
        )


@lru_cache(maxsize=32)
def compile_program(columns: tuple[FeatureColumn, ...]) -> Program:
    """The code of `columns`, made once."""
    return Program(columns)


def _run(plan: Plan, *sources: str) -> dict[str, Any]:
    """What the sources define."""
    scope: dict[str, Any] = {
        "np": np,
        "nan": np.nan,
        "inf": np.inf,
        "Struct": Struct,
        "Carried": Carried,
        "packed": packed,
        "sqrt": math.sqrt,
        "divide": _divide,
        "lag": windows.lag,
        "missing": _missing,
        "ratio": windows.ratio,
        "zero_if_nan": windows.zero_if_nan,
        "write": write_column,
        "bound": bound,
        "parts": parts,
    }
    for number, node in enumerate(plan.kernels):
        assert node.kernel is not None
        scope[f"batch{number}"], scope[f"open{number}"] = node.kernel.batch, node.kernel.open
        scope[f"parameters{number}"] = node.parameters
    for source in sources:
        exec(compile(source, "<features>", "exec"), scope)
    return scope


def _divide(a: float, b: float) -> float:
    """a / b as NumPy has it, where Python raises."""
    return float(np.float64(a) / b)


def _missing(values: FloatArray, n: int) -> FloatArray:
    shortened = values.copy()
    shortened[:n] = np.nan
    return shortened
