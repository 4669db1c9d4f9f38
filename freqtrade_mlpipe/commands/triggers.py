"""Whether it is time to retrain: the champion is old, has become worse, or the market has drifted away from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pandas as pd

from freqtrade_mlpipe.commands.context import Context
from freqtrade_mlpipe.config import GateConfig
from freqtrade_mlpipe.exceptions import ConfigError, DataError
from freqtrade_mlpipe.retraining.schedule import age

if TYPE_CHECKING:
    from freqtrade_mlpipe.registry import BacktestSummary, ModelVersion

Trigger = Callable[[Context, "ModelVersion", Mapping[str, Any]], str]
"""Why it is time to retrain, as a sentence; nothing: it is not."""


def reason_to_retrain(context: Context, arguments: Mapping[str, Any]) -> str | None:
    """The first reason that a trigger asked for gives; also where none is asked for, or nothing is in production.

    None: no trigger that was asked for says so.

    Raises
    ------
    ConfigError
        For an age that is none, or gates that cannot tell whether a model has become worse.
    """
    asked = [trigger for option, trigger in TRIGGERS.items() if arguments.get(option)]
    if arguments.get("if_older_than"):
        age(
            arguments["if_older_than"]
        )  # also where there is no champion: a typo must not wait for one
    registry, name = context.registry(), context.mlpipe.model_name
    champion = registry.get_production_model(name) if name in registry.get_model_names() else None
    if not asked:
        return "It was asked for."
    if champion is None:
        return f"Nothing of {name} is in production."
    return next(
        (reason for trigger in asked if (reason := trigger(context, champion, arguments))), None
    )


def _older_than(context: Context, champion: ModelVersion, arguments: Mapping[str, Any]) -> str:
    held = datetime.now(UTC) - champion.created_at
    if held <= age(arguments["if_older_than"]):
        return ""
    return f"Version {champion.version} was trained {held.days} days ago."


def _worse(context: Context, champion: ModelVersion, arguments: Mapping[str, Any]) -> str:
    """Whether the champion would fail the gates of its backtest on candles that came after its validation."""
    gates = context.mlpipe.gates
    if not any(getattr(gates, name) is not None for name in _WORSE):
        raise ConfigError(
            f"--if-worse compares with the gates {', '.join(_WORSE)}, and all of them are off: switch one on."
        )
    if champion.report is None or champion.report.window is None:
        return f"Version {champion.version} was never validated."
    found = _since(context, champion, pd.Timestamp(champion.report.window[1]))
    if found is None or found.n_trades < (gates.min_backtest_trades or 1):
        return ""
    return worse_than_gates(found, gates)


def _drifted(context: Context, champion: ModelVersion, arguments: Mapping[str, Any]) -> str:
    """Whether the `drift` command would raise an alarm about what a bot predicted with its newest version."""
    from freqtrade_mlpipe.commands.drift import drift_of_journal

    _, found, _ = drift_of_journal(context, {**arguments, "model_version": None})
    return "The market has drifted away from what the model learned." if found.alarm else ""


def worse_than_gates(found: BacktestSummary, gates: GateConfig) -> str:
    """What of a backtest the gates would refuse, as a sentence; nothing: they would not."""
    for name, (figure, is_bad) in _WORSE.items():
        limit = getattr(gates, name)
        value = getattr(found, figure)
        if limit is not None and is_bad(value, limit):
            return f"Since {found.start:%Y-%m-%d} the {figure.replace('_', ' ')} is {value:.4g}, the limit {limit:g}."
    return ""


def _since(context: Context, champion: ModelVersion, start: pd.Timestamp) -> BacktestSummary | None:
    from freqtrade_mlpipe.integration.backtest import run_backtest

    pairs = context.registry().load_bundle(champion.name, champion.version).manifest.pairs
    try:
        return run_backtest(
            context.freqtrade, pairs=pairs, model_name=champion.name, version=champion.version, start=start
        ).summary  # fmt: skip
    except DataError:  # no candles came since
        return None


_WORSE: Mapping[str, tuple[str, Callable[[float, float], bool]]] = {
    "min_backtest_sharpe": ("sharpe", lambda value, limit: not value >= limit),
    "min_profit_factor": ("profit_factor", lambda value, limit: not value >= limit),
    "max_drawdown": ("max_drawdown", lambda value, limit: not value <= limit),
}
"""Gate → figure of the backtest, and when it is bad; NaN is."""

TRIGGERS: Mapping[str, Trigger] = {
    "if_older_than": _older_than,
    "if_drift": _drifted,
    "if_worse": _worse,
}
"""Option → trigger, the cheap ones first."""
