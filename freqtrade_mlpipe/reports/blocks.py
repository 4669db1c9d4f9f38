"""The parts a page is put together from, and how numbers are written on it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Figure = dict[str, Any]

# Replaced in the browser by the colour of the scheme in use: see the style sheet of the template.
MODEL, OTHER, REFERENCE = "@@model", "@@other", "@@reference"
GOOD, BAD, SOFT, BACKGROUND = "@@good", "@@bad", "@@soft", "@@background"
LOW, HIGH = "@@low", "@@high"

MAX_POINTS = 2000
MISSING = "—"


@dataclass(frozen=True)
class Chart:
    """A chart, or the sentence that stands in its place (`figure` None, `note` says why).

    With `choices` the reader picks one of several figures by name; `figure` is the first of them.
    """

    key: str
    title: str
    figure: Figure | None = None
    note: str = ""
    height: int = 320
    wide: bool = True
    choices: Mapping[str, Figure] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A table, or the sentence that stands in its place (no `rows`)."""

    title: str
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    note: str = ""
    wide: bool = True


@dataclass(frozen=True)
class Section:
    """A heading, an optional sentence and what is below."""

    key: str
    heading: str
    blocks: Sequence[Chart | Table] = field(default_factory=tuple)
    sentence: str = ""


def axis(title: str, **more: Any) -> Figure:
    """An axis with a title, room for its labels and whatever else plotly knows."""
    return {"title": {"text": title}, "automargin": True, **more}


def number(value: Any) -> str:
    """`value` as people write it; what is missing is a dash.

    Examples
    --------
    >>> [number(v) for v in (0.123456, 12345.678, 20, float("nan"), None, True, "a")]
    ['0.1235', '12,345.7', '20', '—', '—', 'yes', 'a']
    """
    if value is None or value is pd.NaT:
        return MISSING
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return day(value)
    if isinstance(value, int | np.integer):
        return f"{int(value):,}"
    if isinstance(value, float | np.floating):
        if not math.isfinite(value):
            return MISSING if math.isnan(value) else ("∞" if value > 0 else "-∞")
        plain = float(value)
        return f"{plain:,.1f}" if abs(plain) >= 1000 else f"{plain:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {number(v)}" for k, v in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(number(item) for item in value)
    return str(value)


def percent(value: Any) -> str:
    """A ratio as a percentage.

    Examples
    --------
    >>> percent(-0.1234), percent(None)
    ('-12.34 %', '—')
    """
    if isinstance(value, int | float | np.number) and math.isfinite(value):
        return f"{100 * float(value):.2f} %"
    return number(None if isinstance(value, float | np.floating) else value)


def moved(change: float) -> str:
    """ "gained 3.00 %" or "lost 3.00 %"."""
    return f"{'gained' if change >= 0 else 'lost'} {percent(abs(change))}"


def day(value: Any) -> str:
    """A moment to the day, or to the minute where it is not midnight."""
    moment = pd.Timestamp(value)
    if pd.isna(moment):
        return MISSING
    return moment.strftime("%Y-%m-%d" if moment == moment.normalize() else "%Y-%m-%d %H:%M")


def short(values: NDArray[Any] | pd.Series[Any] | Sequence[float], digits: int = 5) -> list[Any]:
    """Floats with so many significant digits, as JSON takes them: NaN is null."""
    return [
        float(f"{v:.{digits}g}") if math.isfinite(v) else None
        for v in np.asarray(values, dtype=float).tolist()
    ]


def moments(index: Any) -> list[str]:
    """Times as plotly takes them, to the minute, UTC."""
    return [str(text) for text in pd.DatetimeIndex(index).strftime("%Y-%m-%d %H:%M")]


def thinned(series: pd.Series[float], limit: int = MAX_POINTS) -> pd.Series[float]:
    """At most `limit` points: the lowest and the highest of each stretch, and both ends.

    Peaks and troughs keep their place and size, which every n-th point would not.
    """
    if len(series) <= limit:
        return series
    values = series.to_numpy(dtype=float)
    edges = np.linspace(0, len(values), limit // 2, dtype=int)
    keep = {0, len(values) - 1}
    for start, end in pairwise(edges):
        stretch = values[start:end]
        if not np.isnan(stretch).all():
            keep |= {start + int(np.nanargmin(stretch)), start + int(np.nanargmax(stretch))}
    return series.iloc[sorted(keep)]
