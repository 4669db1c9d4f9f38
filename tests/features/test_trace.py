"""The parts of a stream one by one: each operation on one number, each kernel candle by candle."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freqtrade_mlpipe.features import FeatureEngineer, _code_window, _kernels, _talib
from freqtrade_mlpipe.features import _windows as windows
from freqtrade_mlpipe.features._plan import ordered
from freqtrade_mlpipe.features._program import _divide, trace
from freqtrade_mlpipe.features._trace import OPERATIONS, Graph, Kernel, Traced, UntraceableError
from freqtrade_mlpipe.features.columns import compute_block
from freqtrade_mlpipe.features.indicator import Candles, FeatureColumn
from tests.features.market import needs_handles, random_walk

ENGINEER = FeatureEngineer()
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, 3.0, 1e-320, 1e308, -1e308, math.inf, -math.inf, math.nan]
NUMBERS = st.one_of(st.sampled_from(SPECIAL), st.floats())
SCOPE: dict[str, Any] = {
    "nan": math.nan, "inf": math.inf, "sqrt": math.sqrt, "divide": _divide,
    "np": np, "ratio": windows.ratio, "zero_if_nan": windows.zero_if_nan,
}  # fmt: skip
WRITTEN = {name: row for name, row in OPERATIONS.items() if row.scalar}
FLAGS = {"logical_and", "logical_or", "logical_not", "as_flag"}


def n_operands(scalar: str) -> int:
    return 1 + max(k for k in range(3) if f"{{{k}}}" in scalar)


@pytest.mark.parametrize("name", WRITTEN)
@settings(max_examples=300, deadline=None)
@given(numbers=st.tuples(NUMBERS, NUMBERS, NUMBERS))
def test_operation_on_one_number_equals_numpy(name: str, numbers: tuple[float, ...]) -> None:
    row = OPERATIONS[name]
    operands: list[Any] = list(numbers[: n_operands(row.scalar)])
    if name in FLAGS or name == "where":
        operands[0] = bool(operands[0] > 0)
    if name in ("logical_and", "logical_or"):
        operands[1] = bool(operands[1] > 0)
    if name == "as_int":
        operands = [0.0 if not abs(operands[0]) < 1e9 else operands[0]]
    if name == "clip":
        operands[1:] = [-1.0, 1.0]
    if name == "ratio":
        operands[2] = 0.5
    names = "abc"[: len(operands)]
    one = dict(zip(names, operands, strict=True))
    # Nine of each: NumPy's vectorised loops must agree, too. A third operand of `ratio` is a constant.
    many = {k: v if (name, k) == ("ratio", "c") else np.full(9, v) for k, v in one.items()}
    array = row.array or f"np.{name}({', '.join('{' + str(k) + '}' for k in range(len(names)))})"
    with np.errstate(all="ignore"):
        expected = eval(array.format(*names), {**SCOPE, **many})
    found = eval(row.scalar.format(*names), {**SCOPE, **one})
    np.testing.assert_array_equal(np.full(9, found), expected)
    assert type(found) is not np.float64


@settings(max_examples=100, deadline=None)
@given(values=st.lists(st.floats(1e-300, 1e300), min_size=1, max_size=40), place=st.integers(0, 39))
@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - set(WRITTEN)))
def test_transcendental_function_does_not_depend_on_the_place_in_an_array(
    name: str, values: list[float], place: int
) -> None:
    array = np.array(values)
    place %= len(array)
    function = getattr(np, name)
    with np.errstate(all="ignore"):
        assert function(array)[place] == function(array[place : place + 1])[0]


VALUES = np.random.default_rng(3).normal(0.0, 1.0, 400).round(1)
POSITIVE = np.exp(0.01 * np.cumsum(VALUES))
KERNELS: dict[str, tuple[Kernel[Any], tuple[np.ndarray, ...], tuple[Any, ...]]] = {
    "rank": (_kernels.RANK, (VALUES,), (20,)),
    "run length": (_kernels.RUN_LENGTH, (np.sign(VALUES),), (5,)),
    "weighted": (_kernels.WEIGHTED, (VALUES,), (np.linspace(1.0, 3.0, 49),)),
    "weighted, short": (_kernels.WEIGHTED, (VALUES,), (np.linspace(1.0, 3.0, 5),)),
    "look up": (_kernels.LOOK_UP, (np.arange(400) % 7,), (np.sqrt(np.arange(7.0)),)),
} | {
    name: (kernel, (1.01 * POSITIVE, 0.98 * POSITIVE, POSITIVE)[: kernel.n_arrays], (14,) if name != "SAR" else ())
    for name, kernel in vars(_talib).items()
    if isinstance(kernel, Kernel)
}  # fmt: skip


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("n_window", [150, 399])
def test_kernel_candle_by_candle_equals_whole_arrays(name: str, n_window: int) -> None:
    kernel, arrays, parameters = KERNELS[name]
    if kernel.open is None:
        pytest.skip("this TA-Lib has no handles")
    whole = kernel.batch(*arrays, *parameters)
    start, update = kernel.open(*(part[:n_window] for part in arrays), *parameters)
    rows = [update(*(part[row].item() for part in arrays)) for row in range(n_window, 400)]
    if not kernel.n_outputs:
        whole, start, rows = (whole,), (start,), [(row,) for row in rows]
    for expected, opened, values in zip(whole, start, zip(*rows, strict=True), strict=True):
        np.testing.assert_array_equal(np.concatenate([opened, values]), expected)


def test_weighted_window_goes_on_when_its_buffer_is_full() -> None:
    values = np.random.default_rng(4).normal(size=4000)
    weights = np.linspace(-1.0, 1.0, 30)
    _, update = _kernels.WEIGHTED.open(values[:30], weights)
    found = [update(value) for value in values[30:].tolist()]
    np.testing.assert_array_equal(found, _kernels.WEIGHTED.batch(values, weights)[30:])


@pytest.mark.parametrize("name", KERNELS)
def test_reach_of_a_kernel_is_how_far_back_it_looks(name: str) -> None:
    kernel, arrays, parameters = KERNELS[name]
    if kernel.reach is None:
        return
    reach = kernel.reach(*parameters)
    part = kernel.batch(*(array[100 - reach :] for array in arrays), *parameters)
    np.testing.assert_array_equal(part[reach:], kernel.batch(*arrays, *parameters)[100:])


@pytest.fixture
def x() -> Traced:
    graph = Graph()
    return Traced(graph, graph.node("input", (), ("close",)))


def test_equal_expressions_are_one_node(x: Traced) -> None:
    assert (2.0 * x + 1.0).node is (2.0 * x + 1.0).node
    assert (2.0 * x).node is not (x * 2.0).node
    assert windows.rolling_sum(x, 14).node is windows.rolling_sum(x, 14).node
    shared = set(ordered([windows.rolling_sum(x, 7).node])) & set(
        ordered([windows.rolling_sum(x, 14).node])
    )
    assert sum(node.operation == "add" for node in shared) == 2
    assert x.lag(2).lag(3).node is x.lag(5).node


def test_stand_in_is_written_to_as_an_array_is(x: Traced) -> None:
    double, other = 2.0 * x, x.copy()
    before = double.node
    alias = double
    double += 1.0
    assert alias.node is (2.0 * x + 1.0).node
    np.copyto(double, 0.0, where=x > 3.0)
    assert alias.node.operation == "where"
    assert alias.node.operands[2] is (2.0 * x + 1.0).node
    np.maximum(other, 5.0, out=other)
    assert (other.node.operation, x.node.operation) == ("maximum", "input")
    assert before is (2.0 * x).node


@pytest.mark.parametrize(
    "use",
    [
        len, list, bool, float, np.array, np.cumsum, np.sort,
        lambda x: x[0], lambda x: x**3, lambda x: np.add.reduce(x), lambda x: np.add.accumulate(x),
        lambda x: x + np.ones(3), lambda x: x.astype(np.float32), lambda x: np.log10(x), lambda x: x & 1,
        lambda x: np.add(x, 1.0, out=np.empty(3)), lambda x: np.clip(x, 0, None), lambda x: np.where(x),
    ],
)  # fmt: skip
def test_what_has_no_counterpart_for_one_candle_is_refused(x: Traced, use: Any) -> None:
    with pytest.raises(UntraceableError):
        use(x)


@needs_handles
def test_every_row_can_be_traced_and_shares_its_parts_with_others() -> None:
    nodes = [node for node in trace(ENGINEER.columns) if node]
    assert len(nodes) == len(ENGINEER.columns)
    alone = sum(len(ordered([node])) for node in nodes)
    assert len(ordered(nodes)) < 0.6 * alone


@pytest.fixture(scope="module")
def candles() -> pd.DataFrame:
    return random_walk(ENGINEER.startup_candles + 60, seed=31, untraded_share=0.05, burst=10.0)


@pytest.fixture(scope="module")
def features(candles: pd.DataFrame) -> pd.DataFrame:
    return ENGINEER.transform(candles)


@pytest.mark.parametrize("n_rows", [7, 97, 500, 10_000])
def test_window_computed_in_parts_equals_the_whole(
    candles: pd.DataFrame, features: pd.DataFrame, n_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_code_window, "_PART", n_rows)
    pd.testing.assert_frame_equal(ENGINEER.transform(candles), features, check_exact=True)


@pytest.mark.parametrize("n_rows", [1, 2, 3, 7, 20, 50, 51, 99, 150, 300])
def test_short_window_has_the_values_that_its_candles_allow(
    candles: pd.DataFrame, features: pd.DataFrame, n_rows: int
) -> None:
    found = compute_block(candles.iloc[:n_rows], ENGINEER.columns)
    np.testing.assert_array_equal(found, features.to_numpy()[:n_rows])


@pytest.mark.parametrize("column", ENGINEER.columns, ids=lambda column: column.name)
def test_transform_equals_the_definition(
    column: FeatureColumn, candles: pd.DataFrame, features: pd.DataFrame
) -> None:
    with np.errstate(all="ignore"):
        expected = column.compute(Candles(candles)).astype(np.float32)
    found = features[column.name].to_numpy()
    np.testing.assert_array_equal(found[column.warmup :], expected[column.warmup :])
