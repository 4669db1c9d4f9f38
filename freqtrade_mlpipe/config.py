"""The `mlpipe` block of freqtrade's config.json, and the same sections for Python users.

Every section is frozen; an unknown key is an error that names the nearest valid one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from freqtrade_mlpipe.exceptions import ConfigError

ModelType = Literal["random_forest", "xgboost", "lightgbm", "ensemble"]
OptimizationMetric = Literal[
    "f1",
    "accuracy",
    "precision",
    "recall",
    "roc_auc",
    "log_loss",
    "mcc",
    "brier",
    "expected_profit",
    "sharpe",
    "rmse",
    "mae",
    "r2",
    "spearman",
]
Direction = Literal["maximize", "minimize"]
Pruner = Literal["median", "hyperband", "none"]
CVMethod = Literal["timeseries", "purged_kfold", "cpcv"]
ScalingMethod = Literal["standard", "minmax", "symmetric", "robust", "none"]
"""`minmax` to 0 … 1, `symmetric` to -1 … 1 (FreqAI's)."""
LabelKind = Literal["direction", "threshold", "triple_barrier", "forward_return"]
Scope = Literal["pooled", "per_pair"]
Space = Literal["model", "features", "labels", "signal"]
"""What `retrain` may change."""
PublicKey = Annotated[str, Field(pattern=r"^ed25519:[A-Za-z0-9+/]{43}=$")]
Task = Literal["binary", "three_class", "regression"]

N_OUTPUTS: Mapping[Task, int] = {"binary": 1, "three_class": 3, "regression": 1}
"""Columns of what a model of the task predicts."""
CLASSES = (-1.0, 0.0, 1.0)
"""Labels of the task "three_class", short, flat and long: the order of its probability columns."""


_TIMEFRAME = re.compile(r"([1-9][0-9]{0,3})([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def timeframe_length(timeframe: str) -> timedelta:
    """Length of a candle.

    Raises
    ------
    ConfigError
        For anything but minutes, hours, days and weeks: a month has no fixed length.

    Examples
    --------
    >>> timeframe_length("4h")
    datetime.timedelta(seconds=14400)
    """
    match = _TIMEFRAME.fullmatch(timeframe)
    if match is None:
        raise ConfigError(
            f"{timeframe!r} is no timeframe of fixed length: use one such as 5m, 4h, 1d or 1w."
        )
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def direction_of(metric: str) -> Direction:
    """Which way a metric is optimised.

    Examples
    --------
    >>> direction_of("log_loss"), direction_of("sharpe")
    ('minimize', 'maximize')
    """
    return "minimize" if metric in ("log_loss", "brier", "rmse", "mae") else "maximize"


class Section(BaseModel):
    """A frozen group of settings.

    Raises
    ------
    ConfigError
        For an unknown key (with the nearest valid one) or a value out of range.

    Examples
    --------
    >>> LabelConfig(horizon_candles=12).horizon_candles
    12
    >>> LabelConfig(horizon_candle=12)
    Traceback (most recent call last):
    freqtrade_mlpipe.exceptions.ConfigError: LabelConfig: unknown key 'horizon_candle'. Did you mean 'horizon_candles'?
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError(_describe(type(self).__name__, error)) from error

    @model_validator(mode="before")
    @classmethod
    def _name_nearest_key(cls, values: Any) -> Any:
        if isinstance(values, dict):
            for key in values:
                if key not in cls.model_fields:
                    near = difflib.get_close_matches(str(key), cls.model_fields, n=1, cutoff=0.5)
                    hint = (
                        f"Did you mean '{near[0]}'?"
                        if near
                        else f"Valid keys: {', '.join(sorted(cls.model_fields))}."
                    )
                    raise ConfigError(f"{cls.__name__}: unknown key '{key}'. {hint}")
        return values


def _describe(owner: str, error: ValidationError) -> str:
    lines = [
        f"{'.'.join(str(part) for part in problem['loc']) or owner}: {problem['msg']} (found {problem['input']!r})"
        for problem in error.errors()
    ]
    return f"{owner}: " + "; ".join(lines)


INFORMATIVE_FEATURES = (
    "return", "range_position", "z_score", "up_share", "volume_ratio", "volume_z_score", "vwap_distance", "mfi",
    "cmf", "stochastic_k", "cci", "cmo", "momentum_atr", "true_range_ratio", "bollinger_width", "bollinger_position",
    "volatility", "volatility_ratio", "sma_distance", "sma_cross", "aroon_oscillator", "linreg_slope", "linreg_r2",
    "efficiency",
)  # fmt: skip


class FeatureConfig(Section):
    """Which indicators are computed, and how they are prepared inside each training slice.

    Periods are in candles. Scaling and correlation pruning are fitted by the trainer on training rows only;
    `FeatureEngineer.transform` never learns anything.
    """

    include_price_features: bool = True
    include_volume_features: bool = True
    include_momentum_features: bool = True
    include_volatility_features: bool = True
    include_trend_features: bool = True
    include_statistics_features: bool = True
    include_time_features: bool = True
    short_period: int = Field(default=7, ge=2)
    medium_period: int = Field(default=14, ge=3)
    long_period: int = Field(default=50, ge=4)
    include: tuple[str, ...] = ()
    """Feature names (`rsi_14`) or indicator names (`rsi`: all its periods): exactly these, whatever the groups."""
    exclude: tuple[str, ...] = ("month_sin", "month_cos", "day_sin", "day_cos")
    """Feature or indicator names to leave out. By default the calendar ones: below several years of
    candles a month names one stretch of the market, not a season."""
    informative_timeframes: tuple[str, ...] = ()
    """Longer timeframes of the pair itself, e.g. 4h and 1d, joined on candle close (FreqAI's include_timeframes)."""
    informative_pairs: tuple[str, ...] = ()
    """Pairs whose candles describe the market to all others, e.g. BTC/USDT (FreqAI's include_corr_pairlist)."""
    informative_features: tuple[str, ...] = INFORMATIVE_FEATURES
    """Feature or indicator names computed on informative candles. By default some with a short memory: a warm-up of
    500 candles is three weeks of 1h candles, but seventeen months of 1d ones."""
    include_shifted_candles: int = Field(default=0, ge=0, le=100)
    """Each feature but the time ones also as it was 1 … n candles of its own timeframe ago."""
    rank_features: tuple[str, ...] = ()
    """Feature or indicator names that are ranked among the whitelist's pairs, 0 lowest to 1 highest."""
    scale_features: bool = True
    scaling_method: ScalingMethod = "robust"
    remove_correlated: bool = True
    correlation_threshold: float = Field(default=0.95, gt=0, le=1)
    correlation_method: Literal["pearson", "spearman"] = "pearson"

    @model_validator(mode="after")
    def _periods_ascend(self) -> Self:
        if not self.short_period < self.medium_period < self.long_period:
            raise ConfigError(
                "FeatureConfig: periods must ascend, found "
                f"short_period={self.short_period}, medium_period={self.medium_period}, long_period={self.long_period}."
            )
        return self

    @model_validator(mode="after")
    def _informative_names_are_names(self) -> Self:
        for timeframe in self.informative_timeframes:
            timeframe_length(timeframe)
        for pair in self.informative_pairs:
            if pair.count("/") != 1 or any(mark in pair for mark in "*?[]()^$|\\ "):
                raise ConfigError(
                    f"FeatureConfig.informative_pairs: {pair!r} is no full pair name such as BTC/USDT."
                )
        for option in ("informative_timeframes", "informative_pairs"):
            given = getattr(self, option)
            if len(set(given)) != len(given):
                raise ConfigError(f"FeatureConfig.{option} names one twice: {', '.join(given)}.")
        return self


FREQAI_ONLY_KEYS = frozenset(
    {
        "label_period_candles", "weight_factor", "principal_component_analysis", "DI_threshold",
        "use_SVM_to_remove_outliers", "svm_params", "use_DBSCAN_to_remove_outliers",
        "outlier_protection_percentage", "inlier_metric_window", "noise_standard_deviation",
        "plot_feature_importances", "shuffle_after_split", "reverse_train_test_order",
        "stratify_training_data", "buffer_train_data_candles", "indicator_max_period_candles",
    }
)  # fmt: skip
"""Keys of FreqAI's `feature_parameters` that say how FreqAI labels, splits, cleans or plots. Features
do not depend on them, so they are accepted and ignored: labels, splits and preprocessing are ours.

From freqtrade's `config_schema.py` and https://www.freqtrade.io/en/stable/freqai-parameter-table/, the
keys of older releases included.
"""


class ExpansionConfig(Section):
    """How a FreqAI strategy's own feature methods are run over timeframes, pairs, periods and shifts.

    The names are FreqAI's. Order matters: it is the order of the columns.
    """

    include_timeframes: tuple[str, ...]
    """Timeframes from the strategy's own on; it is put first if it is not among them."""
    indicator_periods_candles: tuple[int, ...]
    """Each calls `feature_engineering_expand_all` once."""
    include_corr_pairlist: tuple[str, ...] = ()
    include_shifted_candles: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        for key in ("include_timeframes", "indicator_periods_candles", "include_corr_pairlist"):
            values = getattr(self, key)
            if len(set(values)) < len(values):
                raise ConfigError(
                    f"ExpansionConfig: {key} repeats a value, found {list(values)}. Name each once."
                )
        for timeframe in self.include_timeframes:
            timeframe_length(timeframe)
        if any(period < 1 for period in self.indicator_periods_candles):
            raise ConfigError(
                "ExpansionConfig: indicator_periods_candles must be at least 1, found "
                f"{list(self.indicator_periods_candles)}."
            )
        return self

    @classmethod
    def from_freqtrade(cls, config: Mapping[str, Any]) -> Self | None:
        """Read `freqai.feature_parameters` of a freqtrade configuration; None when there is none.

        `FREQAI_ONLY_KEYS` are ignored, and so is a key that resembles none of FreqAI's: FreqAI
        strategies keep parameters of their own in this block.

        Raises
        ------
        ConfigError
            When a key is missing, looks like a misspelt one, or has a wrong value.
        """
        block = config.get("freqai", {}).get("feature_parameters")
        if block is None:
            return None
        if not isinstance(block, dict):
            raise ConfigError(
                "config: 'freqai.feature_parameters' must be a JSON object, found "
                f"{type(block).__name__}."
            )
        known = FREQAI_ONLY_KEYS.union(cls.model_fields)
        for key in sorted(set(block) - known, key=str):
            near = difflib.get_close_matches(str(key), sorted(known), n=1, cutoff=0.8)
            if near:
                raise ConfigError(
                    f"config: freqai.feature_parameters has an unknown key '{key}'. "
                    f"Did you mean '{near[0]}'?"
                )
        return cls(**{key: value for key, value in block.items() if key in cls.model_fields})


class LabelConfig(Section):
    """What is predicted. `fee` is one side's fee as a fraction of the stake (0.001 = 0.1 %)."""

    kind: LabelKind = "threshold"
    horizon_candles: int = Field(default=24, ge=1)
    fee: float = Field(default=0.001, ge=0, lt=0.1)
    classes: Literal[2, 3] = 2
    """2: a long trade pays (1) or not (0). 3: short (-1), flat (0), long (1)."""
    min_return: float | None = Field(default=None, ge=0)
    """Gross return beyond which a trade pays; None: both fees of a round trip. With two classes a `direction` label
    does not use it."""
    take_profit: float = Field(default=2.0, gt=0)
    stop_loss: float = Field(default=2.0, gt=0)
    barrier_unit: Literal["atr", "percent"] = "atr"
    barrier_atr_period: int = Field(default=14, ge=2)
    weighting: Literal["uniqueness", "return", "none"] = "uniqueness"
    """Weight of a label that overlaps others: its average uniqueness, the size of the return that is its own, or 1."""

    @property
    def task(self) -> Task:
        """What a model of these labels has to learn."""
        if self.kind == "forward_return":
            return "regression"
        return "binary" if self.classes == 2 else "three_class"

    @model_validator(mode="after")
    def _returns_have_no_classes(self) -> Self:
        if self.kind == "forward_return" and self.classes != 2:
            raise ConfigError(
                "LabelConfig: a forward_return is a number and has no classes; leave out `classes`."
            )
        return self


class ModelConfig(Section):
    """Estimator, tuning and cross-validation."""

    model_type: ModelType = "lightgbm"
    optimize_hyperparams: bool = True
    n_trials: int = Field(default=20, ge=1)
    timeout_seconds: float | None = Field(default=None, gt=0)
    """The search ends after the trial in which this time is over; the same training goes on where it ended."""
    pruner: Pruner = "median"
    """Ends trials after the first two folds: `median` those worse than half of the others, `hyperband` more of
    them. With several metrics none: a trial bad in one may be best in another."""
    optimization_metric: OptimizationMetric = "log_loss"
    optimization_metrics: tuple[OptimizationMetric, ...] = ()
    """Several metrics at once, the most important first, in place of `optimization_metric`. Of the Pareto front, the
    trials within one standard error of the best by the first metric, of those (and so on) the best by the last."""
    cv_folds: int = Field(default=5, ge=2)
    cv_method: CVMethod = "timeseries"
    embargo_candles: int = Field(default=24, ge=0)
    train_window_candles: int | None = Field(default=None, ge=1)
    """How far back a model may look (sliding window); None: to the first candle (expanding)."""
    weight_half_life_candles: float | None = Field(default=None, gt=0)
    """A row this many candles before the last one that a model is fitted on counts half as much; None: no decay."""
    feature_selection: bool = False
    """Leave columns out, chosen inside every training slice: those without gain, below `min_feature_importance`
    (share of the gain), beyond the best `max_features`, or not better than `shadow_rounds` of shuffled copies."""
    min_feature_importance: float = Field(default=0.0, ge=0, lt=1)
    max_features: int | None = Field(default=None, ge=1)
    shadow_rounds: int = Field(default=0, ge=0, le=100)
    """Rounds in which every column must beat the best of all shuffled copies, most of them (a 5 % binomial test);
    0: no such test, otherwise 5 or more."""
    early_stopping_rounds: int = Field(default=50, ge=1)
    calibration: Literal["sigmoid", "isotonic", "none"] = "sigmoid"
    threshold_caution: float = Field(default=1.0, ge=0, le=5)
    """Standard errors that a threshold's expected profit must exceed (`metrics.choose_threshold`, n_errors)."""
    threshold_max_share: float = Field(default=0.5, gt=0, le=1)
    """Largest share of rows that a threshold may select: being always in the market is no signal."""
    class_weight: Literal["balanced", "none"] = "none"
    n_jobs: int = Field(default=2, ge=1)
    random_state: int = Field(default=42, ge=0)
    parameters: dict[str, float | int | str | bool] = Field(default_factory=dict)
    """Fixed estimator parameters; what is fixed is not searched."""
    monotone: dict[str, Literal[-1, 1]] = Field(default_factory=dict)
    """Features by name whose rise may only raise (1) or only lower (-1) the probability of class 1, or the predicted
    return; not for three classes."""

    @property
    def metrics(self) -> tuple[OptimizationMetric, ...]:
        """What the search optimises, the most important first."""
        return self.optimization_metrics or (self.optimization_metric,)

    @property
    def direction(self) -> Direction:
        """Which way the first of the `metrics` is optimised."""
        return direction_of(self.metrics[0])

    def check_task(self, task: Task) -> None:
        """Refuse settings that mean nothing for a task.

        Raises
        ------
        ConfigError
            Saying what to set instead.
        """
        of_values, of_trades = ("rmse", "mae", "r2", "spearman"), ("expected_profit", "sharpe")
        unfit = [
            metric
            for metric in self.metrics
            if metric not in of_trades and (metric in of_values) != (task == "regression")
        ]
        if self.optimize_hyperparams and unfit:
            wanted = (
                f"one of {', '.join(of_values + of_trades)}"
                if task == "regression"
                else "one of probabilities or trades, such as log_loss or expected_profit"
            )
            raise ConfigError(
                f"ModelConfig: optimization_metric '{unfit[0]}' does not suit the task {task}. Set {wanted}."
            )
        if task == "regression" and self.calibration == "isotonic":
            raise ConfigError(
                "ModelConfig: calibration 'isotonic' needs classes; for forward_return labels use "
                "'sigmoid' (a shrunken line) or 'none'."
            )
        if task == "regression" and self.class_weight != "none":
            raise ConfigError(
                "ModelConfig: class_weight needs classes; leave it out for forward_return labels."
            )
        if task == "three_class" and self.monotone:
            raise ConfigError(
                "ModelConfig: monotone means nothing for three classes, whose probabilities cannot all rise; leave "
                "it out for labels.classes 3."
            )

    @model_validator(mode="after")
    def _shadow_rounds_can_decide(self) -> Self:
        if 0 < self.shadow_rounds < 5:
            raise ConfigError(
                f"ModelConfig.shadow_rounds: {self.shadow_rounds} rounds cannot tell a column from chance: 0, or 5 "
                "and more."
            )
        if self.shadow_rounds and not self.feature_selection:
            raise ConfigError("ModelConfig.shadow_rounds needs feature_selection: true.")
        return self

    @model_validator(mode="after")
    def _metrics_differ(self) -> Self:
        several = self.optimization_metrics
        if len(set(several)) < len(several):
            raise ConfigError(
                f"ModelConfig.optimization_metrics names one twice: {', '.join(several)}."
            )
        return self


class GateConfig(Section):
    """Thresholds of the validation gates. None (or an empty mapping) switches a gate off.

    Each threshold is also an option of `validate`: `max_drawdown` is `--max-drawdown`.
    """

    final_window_fraction: float = Field(default=0.2, gt=0, lt=0.6)
    """Share of the time span, at its end, that training never sees and the backtest gate trades."""
    min_metrics: dict[str, float] = Field(default_factory=dict)
    max_baseline_p_value: float | None = Field(
        default=0.01, gt=0, lt=1, description="Largest p-value against each baseline's log-loss."
    )
    min_deflated_sharpe: float | None = Field(
        default=0.95, gt=0, lt=1,
        description="Least probability that the out-of-sample Sharpe ratio is no luck of many trials.",
    )  # fmt: skip
    min_backtest_sharpe: float | None = Field(
        default=0.5, description="Least Sharpe ratio on the final window."
    )
    min_backtest_trades: int | None = Field(
        default=20, ge=1, description="Fewest trades on the final window."
    )
    min_profit_factor: float | None = Field(
        default=1.0, ge=0, description="Least profit factor on the final window."
    )
    max_drawdown: float | None = Field(
        default=0.35, gt=0, le=1, description="Largest drawdown on the final window, a fraction."
    )
    max_calibration_error: float | None = Field(
        default=0.1, gt=0, le=1, description="Largest expected calibration error out of sample."
    )
    champion_tolerance: float | None = Field(
        default=0.0, ge=0,
        description="How much lower than the champion's the Sharpe ratio on the final window may be.",
    )  # fmt: skip
    min_market_excess: float | None = Field(
        default=None,
        description="By how much the profit on the final window must exceed the market's change (fractions).",
    )
    max_feature_drift: float | None = Field(
        default=None, gt=0,
        description="Largest population stability index of a feature between training and now.",
    )  # fmt: skip
    max_window_uses: int | None = Field(
        default=None, ge=1,
        description="How often versions of one model may be judged on the same final window.",
    )  # fmt: skip
    max_report_age_hours: float = Field(
        default=168.0, gt=0, description="Hours until a validation expires."
    )
    custom: tuple[Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$")], ...] = ()
    """Gates of your own, `module.Class` each, from `user_data/gates/` or any importable module."""


class RegistryConfig(Section):
    """Where versions are kept. Relative paths are relative to freqtrade's `user_data_dir`."""

    tracking_uri: str | None = None
    """An MLflow tracking URI; None: SQLite under `directory`."""
    directory: Path = Path("mlpipe")
    keep_versions: int = Field(default=10, ge=1)
    """How many of the newest versions `prune` keeps."""
    require_signature: bool = False
    """Serve and promote only bundles signed by one of `trusted_keys`."""
    trusted_keys: tuple[PublicKey, ...] = ()
    """Public keys as `freqtrade-mlpipe keys generate` prints them: `ed25519:` and base64."""

    @property
    def required_keys(self) -> tuple[PublicKey, ...] | None:
        """Public keys, one of which has to have signed what is served and promoted; None: nothing has to be signed."""
        return self.trusted_keys if self.require_signature else None

    @model_validator(mode="after")
    def _somebody_is_trusted(self) -> Self:
        if self.require_signature and not self.trusted_keys:
            raise ConfigError(
                "RegistryConfig: require_signature is on, but trusted_keys is empty, so that nothing could be served. "
                "Add a public key; `freqtrade-mlpipe keys generate` makes one."
            )
        return self


class TrackingConfig(Section):
    """Where experiments are logged."""

    backend: Literal["mlflow", "wandb", "none"] = "mlflow"
    log_backtests: bool = False
    """Whether each result that `freqtrade backtesting` stores is attached to the version that served it."""
    project: str = Field(default="freqtrade_mlpipe", coerce_numbers_to_str=True)


class ServingConfig(Section):
    """How the strategy mixin serves a model."""

    version: str | None = Field(default=None, coerce_numbers_to_str=True)
    """Pin a version (or "latest"); None: the production version."""
    on_missing: Literal["raise", "no_entries"] = "raise"
    """When nothing can be served at the start: refuse to start, or make no entries. A bot that was told `no_entries`
    starts whatever is wrong with the model, goes on with exits, and serves as soon as it can."""
    poll_seconds: float = Field(default=30, gt=0)
    """How often a bot asks the registry what it should serve."""


Policy = Literal["alert", "pause_entries", "rollback", "retrain"]


class MonitoringConfig(Section):
    """How the model that trades is watched, and what happens when it drifts.

    `window_candles`, `step_candles` and `false_alarms` are fixed when a model is trained: its limits are made for them.
    """

    enabled: bool = True
    window_candles: int = Field(default=240, ge=20)
    """Candles that are looked at together."""
    step_candles: int = Field(default=24, ge=1)
    """A look every so many candles."""
    false_alarms: float = Field(default=0.05, gt=0, lt=0.5)
    """Chance of an alarm in 720 candles, a month of 1h candles, if nothing has changed."""
    bad_windows: int = Field(default=2, ge=1, le=6)
    """So many bad looks in a row are an alarm."""
    good_windows: int = Field(default=3, ge=1)
    """So many good looks in a row end it."""
    min_rows: float = Field(default=0.95, gt=0, le=1)
    """Share of a window's candles that must be there; below it nothing is said."""
    on_drift: tuple[Policy, ...] = ("alert",)
    """What an alarm does: tell the operator, make no entries until it ends, put the version before into production,
    start `freqtrade-mlpipe retrain` in a process of its own."""
    max_age_days: float | None = Field(default=None, gt=0)
    """Days since the last candle that the model was trained on, beyond which it is stale."""
    max_latency_ms: float | None = Field(default=1000.0, gt=0)
    """What features and prediction of a candle may take, for 95 of 100 candles."""
    keep_features: bool = True
    """Journal the features of each live prediction; without, feature drift is not looked at."""
    max_journal_mb: int = Field(default=256, ge=1)
    """The live journal forgets its oldest rows beyond this size."""

    @model_validator(mode="after")
    def _window_holds_steps(self) -> Self:
        if self.window_candles % self.step_candles:
            raise ConfigError(
                "MonitoringConfig: window_candles must be a multiple of step_candles, found "
                f"{self.window_candles} and {self.step_candles}."
            )
        return self


class RetrainConfig(Section):
    """What `retrain` searches, besides its options."""

    choices: dict[str, tuple[bool | int | float | str, ...]] = Field(default_factory=dict)
    """Values to choose among for a dimension of a space, such as `"labels.horizon_candles": [12, 24]`; one value fixes
    it."""
    ahead: int = Field(default=8, ge=1)
    """An epoch is proposed from the results of all epochs but the last `ahead - 1`: so many can run at once, and the
    search is the same however many do."""

    @model_validator(mode="after")
    def _something_to_choose(self) -> Self:
        for name, values in self.choices.items():
            if not values or len({(type(value), value) for value in values}) < len(values):
                raise ConfigError(
                    f"RetrainConfig.choices: {name} needs one or more different values, found {list(values)}."
                )
        return self


class FreqaiConfig(Section):
    """`--freqaimodel MLPipeClassifier` and `MLPipeRegressor`: what FreqAI's own block cannot say.

    The estimator and its search come from FreqAI's `model_training_parameters`, laid over `mlpipe.model`.
    """

    gate: Literal["always", "not_worse", "better"] = "not_worse"
    """When a fresh model replaces the one before it: always; unless it is worse on the newest purged rows by more than
    noise explains; only if it is better by more than that."""
    on_failure: Literal["warn", "stop"] = "warn"
    """What a training that fails does: a warning and no predictions, or the end of the backtest or bot."""
    stop_and_calibrate: bool = True
    """Keep slices of the training rows, each purged, for early stopping, calibration and thresholds. False: one fit on
    all training rows, as FreqAI's own models do."""
    horizon_candles: int | None = Field(default=None, ge=1)
    """How far a target looks ahead; None: measured on the strategy's own `set_freqai_targets`, at least
    `label_period_candles`."""
    classes: tuple[str | int | float, ...] = ()
    """Class names of a classifier from low to high; () : down, flat and up by their usual names, else sorted."""

    @model_validator(mode="after")
    def _two_or_three_classes(self) -> Self:
        if len(self.classes) not in (0, 2, 3) or len(set(self.classes)) < len(self.classes):
            raise ConfigError(
                f"FreqaiConfig.classes: two or three different names, found {list(self.classes)}."
            )
        return self


class MLPipeConfig(Section):
    """The whole `mlpipe` block."""

    model_name: str = Field(
        default="mlpipe_model",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$",
        coerce_numbers_to_str=True,
    )
    features: FeatureConfig = FeatureConfig()
    labels: LabelConfig = LabelConfig()
    model: ModelConfig = ModelConfig()
    gates: GateConfig = GateConfig()
    registry: RegistryConfig = RegistryConfig()
    tracking: TrackingConfig = TrackingConfig()
    serving: ServingConfig = ServingConfig()
    monitoring: MonitoringConfig = MonitoringConfig()
    scope: Scope = "pooled"
    """One model for all pairs, or one a pair: `model_name` and the pair name them (`registry.names`)."""
    retrain: RetrainConfig = RetrainConfig()
    freqai: FreqaiConfig = FreqaiConfig()

    @model_validator(mode="after")
    def _model_suits_the_labels(self) -> Self:
        self.model.check_task(self.labels.task)
        return self

    @classmethod
    def from_freqtrade(cls, config: dict[str, Any]) -> MLPipeConfig:
        """Read the `mlpipe` key of a freqtrade configuration (a missing key gives the defaults).

        Relative paths are resolved against `user_data_dir`.
        """
        block = config.get("mlpipe", {})
        if not isinstance(block, dict):
            raise ConfigError(
                f"config: 'mlpipe' must be a JSON object, found {type(block).__name__}."
            )
        parsed = cls(**block)
        user_data = Path(config.get("user_data_dir") or "user_data").absolute()
        registry = parsed.registry.model_copy(
            update={"directory": user_data / parsed.registry.directory}
        )
        return parsed.model_copy(update={"registry": registry})


class ReplayConfig(Section):
    """The replay exchange's keys in freqtrade's `exchange` block."""

    replay_source: Path | None = None
    """Directory of candle files to serve from; None: freqtrade's `datadir`."""
    replay_clock: Literal["live", "recorded"] | None = None
    """`live`: the recording is played over and over in wall-clock time, `recorded`: it is served as it is; None:
    live for `trade`, recorded for everything else."""
    replay_speed: int = Field(default=1, ge=1)
    """Recorded minutes in a minute of the live clock: at 60 a one-minute candle is a recorded hour."""
    replay_timeframe: str | None = None
    """Recorded timeframe that the live clock plays; None: the shortest one of each pair."""

    @classmethod
    def from_exchange(cls, exchange: Mapping[str, Any]) -> ReplayConfig:
        """Read the keys that begin with `replay_`.

        Raises
        ------
        ConfigError
            For an unknown one or a value out of range.
        """
        return cls(**{key: value for key, value in exchange.items() if key.startswith("replay_")})
