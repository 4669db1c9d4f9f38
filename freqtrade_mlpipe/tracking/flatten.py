"""Configurations as parameters: nested objects flattened to dotted names, secrets left out."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from freqtrade_mlpipe.tracking.secrets import hidden, redact


def plain(value: Any) -> Any:
    """`value` as JSON types: pydantic models and dataclasses as objects, NaN as text.

    Values whose name looks like a credential are replaced, as are passwords in URLs.

    Examples
    --------
    >>> plain({"exchange": {"name": "binance", "key": "abc"}, "db": "postgresql://u:p@host/x"})
    {'exchange': {'name': 'binance', 'key': '[redacted]'}, 'db': 'postgresql://u:[redacted]@host/x'}
    """
    if hasattr(value, "model_dump"):
        value = value.model_dump(mode="json")
    elif is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    elif isinstance(value, pd.Series):
        value = value.to_dict()
    elif isinstance(value, pd.DataFrame):
        value = value.reset_index().to_dict("records")
    if isinstance(value, Mapping):
        return {str(k): hidden(str(k), plain(v)) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value.as_posix() if isinstance(value, Path) else str(value)
    return redact(text)


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Dotted names to text: lists are JSON, empty objects are left out.

    Examples
    --------
    >>> flatten({"model": {"n_trials": 50, "spaces": ["a", "b"]}, "seed": None})
    {'model.n_trials': '50', 'model.spaces': '["a", "b"]', 'seed': 'None'}
    """
    flat: dict[str, str] = {}
    for key, item in plain(value).items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping):
            flat |= flatten(item, f"{name}.")
        else:
            flat[name] = json.dumps(item) if isinstance(item, list) else str(item)
    return flat


def numbers(value: Mapping[str, Any]) -> dict[str, float]:
    """The entries that are single numbers, as floats; booleans are 0.0 or 1.0.

    Examples
    --------
    >>> numbers({"sharpe": 1.5, "trades": 20, "pairs": {"A": 1}, "best_pair": "A", "ok": True})
    {'sharpe': 1.5, 'trades': 20.0, 'ok': 1.0}
    """
    return {
        str(key): float(item)
        for key, item in value.items()
        if isinstance(item, bool | int | float | np.number | np.bool_)
    }
