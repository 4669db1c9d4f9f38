"""Functions of a window that are no chain of elementwise operations, each for whole arrays and candle by candle."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Callable

import numpy as np

from freqtrade_mlpipe.features._trace import FloatArray, IntArray, Kernel

Update = Callable[[float], float]

_RANK_TIE = 1e-9
_ROOM = 1000
"""Candles that a window moves through its buffer before it is copied back to the start."""


def _pad(values: FloatArray, n_rows: int) -> FloatArray:
    padded = np.empty(n_rows)
    padded[: n_rows - len(values)] = np.nan
    padded[n_rows - len(values) :] = values
    return padded


def _rank(values: FloatArray, width: int) -> FloatArray:
    n_rows = len(values)
    if n_rows < width:
        return np.full(n_rows, np.nan)
    current = values[width - 1 :]
    margin = _RANK_TIE * np.abs(current)
    low, high = current - margin, current + margin
    score = np.zeros(len(current), dtype=np.int16)
    for age in range(1, width):
        before = values[width - 1 - age : n_rows - age]
        score += before < low
        score += before <= high
    return _pad(score / (2.0 * (width - 1)), n_rows)


def _open_rank(values: FloatArray, width: int) -> tuple[FloatArray, Update]:
    window = deque(values[len(values) - width + 1 :].tolist())
    ordered = sorted(window)
    most = 2.0 * (width - 1)

    def update(value: float) -> float:
        margin = _RANK_TIE * abs(value)
        score = bisect_left(ordered, value - margin) + bisect_right(ordered, value + margin)
        del ordered[bisect_left(ordered, window.popleft())]
        insort(ordered, value)
        window.append(value)
        return score / most

    return _rank(values, width), update


def _run_length(values: FloatArray, longest: int) -> FloatArray:
    row = np.arange(len(values))
    turned = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=turned[1:])
    length = row - np.maximum.accumulate(np.where(turned, row, 0)) + 1
    return np.asarray(np.minimum(length, longest), dtype=np.float64)


def _open_run_length(values: FloatArray, longest: int) -> tuple[FloatArray, Update]:
    lengths = _run_length(values, longest)
    last, length = float(values[-1]), float(lengths[-1])

    def update(value: float) -> float:
        nonlocal last, length
        length = min(length + 1.0, longest) if value == last else 1.0
        last = value
        return length

    return lengths, update


def _weighted(values: FloatArray, weights: FloatArray) -> FloatArray:
    if len(values) < len(weights):
        return np.full(len(values), np.nan)
    return _pad(np.correlate(values, weights), len(values))


def _open_weighted(values: FloatArray, weights: FloatArray) -> tuple[FloatArray, Update]:
    before = len(weights) - 1
    buffer = np.empty(before + _ROOM)
    buffer[:before] = values[len(values) - before :]
    correlate, last = np.correlate, before

    def update(value: float) -> float:
        nonlocal last
        if last == len(buffer):
            buffer[:before] = buffer[last - before :]
            last = before
        buffer[last] = value
        last += 1
        return correlate(buffer[last - before - 1 : last], weights).item()

    return _weighted(values, weights), update


def _look_up(position: IntArray, table: FloatArray) -> FloatArray:
    return table[position]


def _open_look_up(
    position: IntArray, table: FloatArray
) -> tuple[FloatArray, Callable[[int], float]]:
    return table[position], table.tolist().__getitem__


RANK = Kernel("rolling_rank", 1, _rank, _open_rank, lambda width: width - 1)
RUN_LENGTH = Kernel("run_length", 1, _run_length, _open_run_length, lambda longest: longest - 1)
WEIGHTED = Kernel("weighted", 1, _weighted, _open_weighted, lambda weights: len(weights) - 1)
"""Its weights begin with the oldest candle's."""
LOOK_UP = Kernel("look_up", 1, _look_up, _open_look_up, lambda table: 0)
