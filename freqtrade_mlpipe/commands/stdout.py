"""Standard output whose reader may leave early, as `| head -1` does.

The command then goes on, unheard, to its end and to the exit code it would have had.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping
from typing import Any


def write(text: str) -> None:
    """Print text as it is; nothing happens when nobody reads any more."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        discard()


def write_json(value: Any) -> None:
    """Print strict JSON: NaN and infinities, which JSON does not have, are null."""
    write(json.dumps(_finite(value), indent=2, allow_nan=False) + "\n")


def flush() -> None:
    """Write out what is buffered, before the interpreter does and complains."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        discard()


def discard() -> None:
    """Send everything that follows nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
