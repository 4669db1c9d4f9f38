"""FreqAI's own keys: what becomes of each, and the estimator that `model_training_parameters` describe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from freqtrade_mlpipe.config import MLPipeConfig, ModelConfig
from freqtrade_mlpipe.exceptions import ConfigError

Verdict = Literal["as documented", "done otherwise", "refused"]

_SPLIT, _FEATURES = "data_split_parameters", "feature_parameters"


@dataclass(frozen=True)
class Key:
    """One key below `freqai`, and what becomes of it.

    A refused key is refused where its value means something: `shuffle: false` is what we do anyway.
    """

    path: str
    verdict: Verdict
    sentence: str
    matters: Callable[[Any], bool] = bool


_TREES = "trees see one row and need no such step"
KEYS = (
    Key("enabled", "as documented", "FreqAI is on."),
    Key("identifier", "as documented", "The folder below user_data/models."),
    Key("train_period_days", "as documented", "Length of the training window."),
    Key("backtest_period_days", "as documented", "How long a model predicts in a backtest."),
    Key("live_retrain_hours", "as documented", "How often a bot trains anew, at most once a candle."),
    Key("expiration_hours", "as documented", "An older model gives do_predict 2; predictions are missing, not 0."),
    Key("purge_old_models", "as documented",
        "Models of a pair that a bot keeps on disk, and versions in the registry; refused ones are counted apart."),
    Key("save_backtest_models", "as documented", "False: only predictions are kept, no bundles."),
    Key("fit_live_predictions_candles", "as documented",
        "Mean and deviation of the last predictions; missing ones are left out."),
    Key("extra_returns_per_train", "as documented", "Constant columns beside the predictions."),
    Key("write_metrics_to_disk", "as documented", "Train and inference times in metric_tracker.json."),
    Key("wait_for_training_iteration_on_reload", "as documented", "A bot that stops waits for the training at work."),
    Key("override_exchange_check", "as documented", "freqtrade's own check."),
    Key("live_trained_timestamp", "as documented", "Unused by freqtrade, too."),
    Key("data_kitchen_thread_count", "done otherwise", "Everything runs on one thread, models included."),
    Key("activate_tensorboard", "done otherwise", "Windows are runs in the experiment tracker."),
    Key("conv_width", "done otherwise", "A model sees one row; more rows change nothing, as with FreqAI's trees."),
    Key("continual_learning", "refused",
        "a model that has seen the newest purged rows cannot be judged on them; each window is trained "
        "afresh, and the gate keeps the better one"),
    Key("keras", "refused", "the models are trees"),
    Key("rl_config", "refused", "reinforcement learning is not supervised learning; use FreqAI's own model for it"),
    Key("model_save_type", "refused", "models are saved as bundles, never pickled"),
    Key(f"{_SPLIT}.test_size", "as documented",
        "Share of the newest rows (or their number) on which the gate judges; the rows before them whose "
        "targets reach into them are purged. 0: nothing is judged, the gate must be `always`."),
    Key(f"{_SPLIT}.shuffle", "refused",
        "rows drawn at random share their future with their neighbours on the other side of the split"),
    Key(f"{_SPLIT}.random_state", "done otherwise",
        "The split is by time; the model's seed is model_training_parameters.random_state."),
    Key(f"{_SPLIT}.train_size", "refused", "the rest of test_size is trained on", lambda value: value is not None),
    Key(f"{_SPLIT}.stratify", "refused", "the split is by time"),
    Key(f"{_FEATURES}.include_timeframes", "as documented", "Computed by our own engine, FreqAI's values to the bit."),
    Key(f"{_FEATURES}.include_corr_pairlist", "as documented", "The same."),
    Key(f"{_FEATURES}.include_shifted_candles", "as documented", "The same."),
    Key(f"{_FEATURES}.indicator_periods_candles", "as documented", "The same."),
    Key(f"{_FEATURES}.label_period_candles", "as documented", "For the strategy; the purge is at least this long."),
    Key(f"{_FEATURES}.buffer_train_data_candles", "as documented", "Cut off both ends of the training rows."),
    Key(f"{_FEATURES}.weight_factor", "as documented", "Recent rows count more; weights are scaled to mean 1."),
    Key(f"{_FEATURES}.DI_threshold", "as documented",
        "DI_values, and do_predict 0 beyond it; distances as FreqAI's, on the rows trained on."),
    Key(f"{_FEATURES}.use_SVM_to_remove_outliers", "as documented",
        "Outliers are not trained on, and give do_predict 0."),
    Key(f"{_FEATURES}.svm_params", "as documented",
        "Of scikit-learn's SGDOneClassSVM; shuffled with the model's seed."),
    Key(f"{_FEATURES}.plot_feature_importances", "done otherwise", "Importances are with each window's run."),
    Key(f"{_FEATURES}.outlier_protection_percentage", "done otherwise", "freqtrade does not read it any more."),
    Key(f"{_FEATURES}.indicator_max_period_candles", "done otherwise", "freqtrade does not read it any more."),
    Key(f"{_FEATURES}.principal_component_analysis", "refused",
        f"{_TREES}; correlated columns are pruned (mlpipe.features.remove_correlated)"),
    Key(f"{_FEATURES}.use_DBSCAN_to_remove_outliers", "refused",
        "its clusters cannot be asked about a new row without the whole training set; use DI_threshold or "
        "use_SVM_to_remove_outliers"),
    Key(f"{_FEATURES}.noise_standard_deviation", "refused",
        "noise hides what the gate measures; subsampling (bagging_fraction, subsample) prevents the same "
        "overfitting"),
    Key(f"{_FEATURES}.inlier_metric_window", "refused", "freqtrade has dropped it"),
    Key(f"{_FEATURES}.shuffle_after_split", "refused", "early stopping and calibration need rows in order of time"),
    Key(f"{_FEATURES}.reverse_train_test_order", "refused",
        "the model would be judged on rows before those it learned from"),
    Key(f"{_FEATURES}.stratify_training_data", "refused", "the split is by time"),
)  # fmt: skip
"""What becomes of FreqAI's keys, in the order of its parameter table."""

_COMMON = {"n_jobs": None, "thread_count": None, "nthread": None, "num_threads": None, "verbosity": None,
           "verbose": None, "verbose_eval": None, "device": None, "random_state": "seed"}  # fmt: skip
ALIASES: Mapping[str, Mapping[str, str | None]] = {
    "lightgbm": {
        "min_child_samples": "min_data_in_leaf", "min_child_weight": "min_sum_hessian_in_leaf",
        "min_split_gain": "min_gain_to_split", "colsample_bytree": "feature_fraction",
        "subsample": "bagging_fraction", "subsample_freq": None, "bagging_freq": None, "reg_lambda": "lambda_l2",
        "reg_alpha": "lambda_l1", "boosting_type": "boosting",
    },
    "xgboost": {"eta": "learning_rate", "lambda": "reg_lambda", "alpha": "reg_alpha", "tree_method": None,
                "min_split_loss": "gamma"},
}  # fmt: skip
"""Parameter names of scikit-learn's wrappers, which FreqAI configurations use → ours; None: accepted, without effect,
because models are deterministic and use one thread."""


def check_keys(freqai: Mapping[str, Any], *, gate: str) -> None:
    """Refuse what cannot be done honestly.

    Raises
    ------
    ConfigError
        Naming every such key of the block, and why.
    """
    refused = [
        f"freqai.{key.path}: {key.sentence}."
        for key in KEYS
        if key.verdict == "refused" and key.matters(_value(freqai, key.path))
    ]
    if gate != "always" and _value(freqai, f"{_SPLIT}.test_size") == 0:
        refused.append(
            f"freqai.{_SPLIT}.test_size: 0 leaves nothing to judge a fresh model on, as mlpipe.freqai.gate "
            f"'{gate}' asks for. Set it to 0.1, or the gate to 'always'."
        )
    if refused:
        raise ConfigError("MLPipe models refuse these keys:\n- " + "\n- ".join(refused))


def _value(freqai: Mapping[str, Any], path: str) -> Any:
    found: Any = freqai
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def judged_share(freqai: Mapping[str, Any], n_rows: int) -> float:
    """Share of the rows on which a fresh model is judged, FreqAI's default 0.1; a number of rows becomes a share."""
    size = _value(freqai, f"{_SPLIT}.test_size")
    size = 0.1 if size is None else size
    return float(size) if size < 1 else float(size) / max(n_rows, 1)


def model_config(config: MLPipeConfig, parameters: Mapping[str, Any]) -> ModelConfig:
    """The estimator and its search, from FreqAI's `model_training_parameters` laid over `mlpipe.model`.

    Names of `ModelConfig` set it; `optuna` switches the search on and sets it (`n_trials`, `cv_folds`,
    `timeout_seconds`, `optimization_metric` …); all others are parameters of the estimator, which are then fixed.

    Raises
    ------
    ConfigError
        For a value out of range, or a parameter the estimator does not have.
    """
    from freqtrade_mlpipe.models import MODELS

    given = dict(parameters)
    search = given.pop("optuna", None)
    if search is not None and not isinstance(search, Mapping):
        raise ConfigError(
            f'freqai.model_training_parameters.optuna must be an object such as {{"n_trials": 20}}, found {search!r}.'
        )
    settings = config.model.model_dump()
    own = {name: given.pop(name) for name in list(given) if _is_setting(name)}
    model_type = own.get("model_type", settings["model_type"])
    # What mlpipe.model fixes is meant for the estimator that it names.
    fixed = dict(settings["parameters"]) if model_type == settings["model_type"] else {}
    names = {**_COMMON, **ALIASES.get(model_type, {})}
    for name, value in {**given, **own.pop("parameters", {})}.items():
        ours = names.get(name, name)
        if name == "random_state":
            own["random_state"] = 0 if value is None else value
        elif ours is not None:
            fixed[ours] = value
    settings |= own | dict(search or {}) | {"parameters": fixed}
    settings["optimize_hyperparams"] = search is not None
    chosen = ModelConfig(**settings)
    MODELS[chosen.model_type].check_parameters(chosen.parameters)
    return chosen


def _is_setting(name: str) -> bool:
    # n_jobs is our own worker count, but in a FreqAI configuration it is the booster's; max_features a forest's.
    return name in ModelConfig.model_fields and name not in (
        "n_jobs",
        "max_features",
        "random_state",
    )
