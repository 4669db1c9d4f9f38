"""Gates of the user's own: classes named in `gates.custom`.

A gate is a class with one method::

    from freqtrade_mlpipe import registry

    class MinHitRate:
        def check(self, evidence: registry.Evidence) -> registry.Check:
            value = evidence.metrics.get("precision")
            passed = value is not None and value >= 0.55
            return registry.Check("hit rate", value, 0.55, passed, "Wins more often than it loses.")

`gates.custom: ["my_gates.MinHitRate"]` finds it in `user_data/gates/my_gates.py`, else as an importable
module. Whatever goes wrong in it refuses the version.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Protocol

import numpy as np

from freqtrade_mlpipe.config import GateConfig
from freqtrade_mlpipe.exceptions import ConfigError
from freqtrade_mlpipe.registry.evidence import Evidence
from freqtrade_mlpipe.registry.gates import Gate
from freqtrade_mlpipe.registry.report import Check

logger = logging.getLogger(__name__)


class CustomGate(Protocol):
    """What a class named in `gates.custom` must offer; it is made without arguments."""

    def check(self, evidence: Evidence) -> Check | Sequence[Check]:
        """One verdict or several. Evidence that is None was not measured; it should not pass."""


def load_custom_gates(names: Sequence[str], directory: Path | None = None) -> tuple[Gate, ...]:
    """The gates with these names, ready for `run_gates`.

    Parameters
    ----------
    names
        `module.Class` each.
    directory
        Folder that is searched for `module.py` before Python's path.

    Raises
    ------
    ConfigError
        No such module or class, or it cannot be made, or has no method `check`.
    """
    return tuple(_load(name, directory) for name in names)


def _load(name: str, directory: Path | None) -> Gate:
    module_name, _, class_name = name.rpartition(".")
    module = _module(module_name, name, directory)
    kind = getattr(module, class_name, None)
    if not isinstance(kind, type):
        known = [key for key, value in vars(module).items() if isinstance(value, type)]
        raise ConfigError(
            f"gates.custom: {module.__file__} has no class {class_name!r}. "
            f"It has: {', '.join(known[:10]) or 'none'}."
        )
    try:
        gate = kind()
    except Exception as error:
        raise ConfigError(
            f"gates.custom: {name}() failed: {type(error).__name__}: {error}. A gate is made "
            "without arguments."
        ) from error
    if not callable(getattr(gate, "check", None)):
        raise ConfigError(f"gates.custom: {name} has no method `check(self, evidence)`.")
    return _guarded(name, gate)


def _module(module_name: str, name: str, directory: Path | None) -> ModuleType:
    if not module_name:
        raise ConfigError(f"gates.custom: {name!r} names no module. Write module.Class.")
    file = (
        None
        if directory is None
        else directory.joinpath(*module_name.split(".")).with_suffix(".py")
    )
    try:
        if file is None or not file.is_file():
            return importlib.import_module(module_name)
        spec = importlib.util.spec_from_file_location(f"mlpipe_gates.{module_name}", file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    except ModuleNotFoundError as error:
        looked = "" if file is None else f" There is no {file}, and"
        raise ConfigError(f"gates.custom: cannot find {name}.{looked} {error}.") from error
    except Exception as error:
        raise ConfigError(
            f"gates.custom: the module of {name} cannot be loaded: {type(error).__name__}: {error}."
        ) from error


def _guarded(name: str, gate: CustomGate) -> Gate:
    """The gate as one of ours: what it must not do becomes a refusal."""

    def run(evidence: Evidence, config: GateConfig) -> Sequence[Check]:
        try:
            found = gate.check(evidence)
        except Exception as error:
            logger.exception("The gate %s failed.", name)
            return [_failed(name, f"It failed with {type(error).__name__}: {error}")]
        checks = [found] if isinstance(found, Check) else found
        if not isinstance(checks, list | tuple) or not checks:
            return [_failed(name, f"It gave {type(found).__name__} instead of checks")]
        return [_sound(name, check) for check in checks]

    return run


def _sound(name: str, check: object) -> Check:
    if not isinstance(check, Check):
        return _failed(name, f"It gave {type(check).__name__} instead of a check")
    figures = (check.value, check.threshold)
    if not all(figure is None or isinstance(figure, int | float) for figure in figures):
        return _failed(name, "Its value or threshold is not a number")
    if not isinstance(check.passed, bool | np.bool_):
        return _failed(name, f"Its verdict is {type(check.passed).__name__}, not True or False")
    if check.passed and check.value is not None and math.isnan(check.value):
        return _failed(name, "It passed a value that is not a number")
    return replace(
        check, name=str(check.name), passed=bool(check.passed), sentence=str(check.sentence)
    )


def _failed(name: str, why: str) -> Check:
    return Check(name, None, None, False, f"{why}; that refuses the version.")
