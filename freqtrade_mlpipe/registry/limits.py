"""Values against limits: the checks that gates are made of. What is missing, or NaN, fails."""

from __future__ import annotations

import math
from collections.abc import Sequence

from freqtrade_mlpipe.registry.evidence import Finding
from freqtrade_mlpipe.registry.report import Check


def minimum(gate: str, what: str, value: float | None, limit: float | None) -> Sequence[Check]:
    """Whether a value reaches its limit; no check without a limit."""
    return () if limit is None else [at_least(gate, what, value, limit)]


def maximum(gate: str, what: str, value: float | None, limit: float | None) -> Sequence[Check]:
    """Whether a value stays within its limit; no check without a limit."""
    if limit is None:
        return ()
    if value is None or math.isnan(value):
        return [missing(gate, what, limit)]
    text = f"{what} {value:.4g}, at most {limit:g} allowed."
    return [Check(gate, value, limit, value <= limit, text)]


def at_least(gate: str, what: str, value: float | None, limit: float) -> Check:
    """Whether a value reaches its limit; what is missing or NaN fails."""
    if value is None or math.isnan(value):
        return missing(gate, what, limit)
    text = f"{what} {value:.4g}, at least {limit:g} wanted."
    return Check(gate, value, float(limit), value >= limit, text)


def missing(gate: str, what: str, limit: float | None) -> Check:
    """The failed check of a gate that lacks its evidence."""
    return Check(gate, None, limit, False, f"Not measured: {what}; that fails.")


def finding(gate: str, what: str, found: Finding | None) -> Check:
    """The check of a yes or no found elsewhere; what is missing fails."""
    if found is None:
        return missing(gate, what, None)
    return Check(gate, None, None, found.passed, found.sentence)
