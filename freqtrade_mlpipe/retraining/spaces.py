"""What `retrain` may change: one row a dimension, drawn by Optuna, written into the `mlpipe` block."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from freqtrade_mlpipe.config import FeatureConfig, LabelConfig, MLPipeConfig, ModelConfig, Space
from freqtrade_mlpipe.exceptions import ConfigError
from freqtrade_mlpipe.models import MODELS, SearchRange

Value = bool | int | float | str
Params = dict[str, Value]
"""Values by the name of their dimension, in the order they were drawn."""

SPACES: tuple[str, ...] = get_args(Space)


@dataclass(frozen=True)
class Dimension:
    """One thing that is searched.

    Attributes
    ----------
    space : of `SPACES`.
    name : `section.key` of the `mlpipe` block, or `estimator.parameter`.
    drawn : an interval, or the values to choose among.
    applies : whether it means anything under a configuration, which holds what was drawn before.
    """

    space: str
    name: str
    drawn: SearchRange | tuple[Value, ...]
    applies: Callable[[MLPipeConfig], bool] = lambda config: True

    def suggest(self, trial: Any) -> Value:
        """A value from an Optuna trial."""
        if isinstance(self.drawn, SearchRange):
            return self.drawn.suggest(trial, self.name)
        chosen: Value = trial.suggest_categorical(self.name, self.drawn)
        return chosen


def _whole(low: int, high: int, *, log: bool = False) -> SearchRange:
    return SearchRange(low, high, log=log, integer=True)


def _by_group(config: MLPipeConfig) -> bool:
    return not config.features.include


def _barriers_in(unit: str) -> Callable[[MLPipeConfig], bool]:
    return lambda config: (
        config.labels.kind == "triple_barrier" and config.labels.barrier_unit == unit
    )


_GROUPS = ("volume", "momentum", "volatility", "trend", "statistics", "time")
ROWS: tuple[Dimension, ...] = (
    *(Dimension("features", f"features.include_{g}_features", (True, False), _by_group) for g in _GROUPS),
    Dimension("features", "features.short_period", _whole(3, 10)),
    Dimension("features", "features.medium_period", _whole(11, 28)),
    Dimension("features", "features.long_period", _whole(30, 120, log=True)),
    Dimension("features", "features.include_shifted_candles", _whole(0, 3)),
    Dimension("features", "features.remove_correlated", (True, False)),
    Dimension("features", "features.correlation_threshold", SearchRange(0.7, 0.99),
              lambda c: c.features.remove_correlated),
    Dimension("labels", "labels.horizon_candles", _whole(4, 48, log=True)),
    Dimension("labels", "labels.take_profit", SearchRange(0.5, 5.0, log=True), _barriers_in("atr")),
    Dimension("labels", "labels.stop_loss", SearchRange(0.5, 5.0, log=True), _barriers_in("atr")),
    Dimension("labels", "labels.take_profit", SearchRange(0.5, 10.0, log=True), _barriers_in("percent")),
    Dimension("labels", "labels.stop_loss", SearchRange(0.5, 10.0, log=True), _barriers_in("percent")),
    Dimension("model", "model.model_type", ("lightgbm", "xgboost", "random_forest")),
    *(Dimension("model", f"{spec.name}.{name}", drawn, lambda c, own=spec.name: c.model.model_type == own)  # type: ignore[misc]
      for spec in MODELS.values() for name, drawn in spec.space.items()),
    Dimension("signal", "model.calibration", ("sigmoid", "isotonic", "none"), lambda c: c.labels.task != "regression"),
    Dimension("signal", "model.calibration", ("sigmoid", "none"), lambda c: c.labels.task == "regression"),
    Dimension("signal", "model.threshold_caution", SearchRange(0.0, 2.0)),
    Dimension("signal", "model.threshold_max_share", SearchRange(0.02, 0.5, log=True)),
)  # fmt: skip
"""All dimensions, in the order they are drawn: what others depend on comes first."""

_SECTIONS: Mapping[str, type[FeatureConfig] | type[LabelConfig] | type[ModelConfig]] = {
    "features": FeatureConfig,
    "labels": LabelConfig,
    "model": ModelConfig,
}


@dataclass(frozen=True)
class SearchSpace:
    """The dimensions of some spaces around a configuration.

    Raises
    ------
    ConfigError
        For an unknown space, or `retrain.choices` of an unknown dimension.
    """

    base: MLPipeConfig
    spaces: tuple[str, ...]

    def __post_init__(self) -> None:
        unknown = [name for name in self.spaces if name not in SPACES]
        if unknown or not self.spaces:
            raise ConfigError(
                f"Unknown space {', '.join(unknown) or '(none)'}. Choose among {', '.join(SPACES)}, or all."
            )
        names = {row.name for row in ROWS}
        for name in self.base.retrain.choices:
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
                hint = (
                    f"Did you mean '{near[0]}'?"
                    if near
                    else f"There are: {', '.join(sorted(names))}."
                )
                raise ConfigError(f"RetrainConfig.choices: no dimension is called '{name}'. {hint}")

    def suggest(self, trial: Any) -> Params:
        """What an Optuna trial draws, dimension by dimension."""
        params: Params = {}
        config = self.base
        for row in self._rows():
            if self._searched(row, config):
                params[row.name] = self._drawn(row).suggest(trial)
                config = _noted(config, row.name, params[row.name])
        return params

    def present(self) -> Params:
        """The values of the present configuration; where `retrain.choices` exclude one, the first choice."""
        params: Params = {}
        config = self.base
        for row in self._rows():
            if self._searched(row, config):
                value, drawn = value_of(self.base, row.name), self._drawn(row).drawn
                params[row.name] = (
                    value if isinstance(drawn, SearchRange) or value in drawn else drawn[0]
                )
                config = _noted(config, row.name, params[row.name])
        return params

    def widest(self) -> FeatureConfig:
        """The features with the longest warm-up that the space can draw."""
        config = self.base
        for row in self._rows():
            if row.space == "features" and row.applies(config):
                drawn = self._drawn(row).drawn
                longest: Value = max(drawn) if isinstance(drawn, tuple) else drawn.high
                whole = isinstance(drawn, SearchRange) and drawn.integer
                config = _noted(config, row.name, int(longest) if whole else longest)
        return config.features

    def _rows(self) -> Iterator[Dimension]:
        return (row for row in ROWS if row.space in self.spaces)

    def _searched(self, row: Dimension, config: MLPipeConfig) -> bool:
        fixed = _is_parameter(row.name) and row.name.partition(".")[2] in config.model.parameters
        return row.applies(config) and not fixed

    def _drawn(self, row: Dimension) -> Dimension:
        """The row as the configuration narrows it, or widened so that the present value can be drawn."""
        choices = self.base.retrain.choices.get(row.name)
        if choices is not None:
            return Dimension(row.space, row.name, choices)
        value = value_of(self.base, row.name)
        if isinstance(row.drawn, tuple):
            known = value in row.drawn
            return row if known else Dimension(row.space, row.name, (*row.drawn, value))
        low, high = min(row.drawn.low, float(value)), max(row.drawn.high, float(value))
        widened = SearchRange(low, high, log=row.drawn.log, integer=row.drawn.integer)
        return Dimension(row.space, row.name, widened)


def configured(base: MLPipeConfig, params: Mapping[str, Value]) -> MLPipeConfig:
    """The configuration with the values of an epoch in it; what is trained from it is not searched again.

    Raises
    ------
    ConfigError
        When the values do not go together.
    """
    changes: dict[str, dict[str, Any]] = {name: {} for name in _SECTIONS}
    fixed: dict[str, Any] = dict(base.model.parameters)
    model_type = params.get("model.model_type", base.model.model_type)
    if model_type != base.model.model_type:
        fixed = {}
    for name, value in params.items():
        section, _, key = name.partition(".")
        if section in _SECTIONS:
            changes[section][key] = value
        else:
            fixed[key] = value
    changes["model"] |= {"parameters": fixed, "optimize_hyperparams": False}
    sections = {
        name: kind(**{**getattr(base, name).model_dump(), **changes[name]})
        for name, kind in _SECTIONS.items()
    }
    config = base.model_copy(update=sections)
    config.model.check_task(config.labels.task)
    return config


def value_of(config: MLPipeConfig, name: str) -> Value:
    """What a dimension is under a configuration."""
    section, _, key = name.partition(".")
    if section in _SECTIONS:
        value: Value = getattr(getattr(config, section), key)
        return value
    return config.model.parameters.get(key, MODELS[section].defaults[key])


def by_space(params: Mapping[str, Value]) -> dict[str, Params]:
    """The values of an epoch, grouped by space."""
    space_of = {row.name: row.space for row in ROWS}
    found: dict[str, Params] = {space: {} for space in SPACES}
    for name, value in params.items():
        found[space_of[name]][name] = value
    return {space: values for space, values in found.items() if values}


def named_spaces(names: Sequence[str] | None) -> tuple[str, ...]:
    """Spaces in their order; nothing and `all` are all of them."""
    if not names or "all" in names:
        return SPACES
    unknown = tuple(name for name in names if name not in SPACES)
    return unknown or tuple(name for name in SPACES if name in names)


def _is_parameter(name: str) -> bool:
    return name.partition(".")[0] in MODELS


def _noted(config: MLPipeConfig, name: str, value: Value) -> MLPipeConfig:
    """The configuration with one more value, unchecked: it only has to say which dimensions apply next."""
    section, _, key = name.partition(".")
    if section in MODELS:
        return _noted(config, "model.parameters", {**config.model.parameters, key: value})  # type: ignore[arg-type]
    changes: dict[str, Any] = {key: value}
    if name == "model.model_type" and value != config.model.model_type:
        changes["parameters"] = {}
    changed = getattr(config, section).model_copy(update=changes)
    return config.model_copy(update={section: changed})
