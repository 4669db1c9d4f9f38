"""On random walks with overlapping labels nothing can be known: whatever the label and the split, scores are chance."""

import numpy as np
import pandas as pd
import pytest

from freqtrade_mlpipe.config import FeatureConfig, LabelConfig, ModelConfig
from freqtrade_mlpipe.labels import make_labels
from freqtrade_mlpipe.metrics import roc_auc, value_scores
from freqtrade_mlpipe.splits import make_splitter
from freqtrade_mlpipe.tuning import Recipe, TrainingData, prepare_slice

HOUR = pd.Timedelta("1h")
HORIZON = 12
METHODS = ["timeseries", "sliding", "purged_kfold", "cpcv"]
SEEDS = range(5)
CLASSES_OF_KINDS = [
    (kind, classes) for kind in ("direction", "threshold", "triple_barrier") for classes in (2, 3)
]


def random_walk(seed: int, n: int = 1500) -> pd.DataFrame:
    """Candles of a driftless walk that open where the last one closed."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, n)))
    start = np.r_[100.0, close[:-1]]
    wick = np.exp(np.abs(rng.normal(0, 0.004, (2, n))))
    return pd.DataFrame(
        {
            "date": pd.date_range("2024-01-01", periods=n, freq="1h", tz="UTC", unit="ns"),
            "open": start,
            "high": np.maximum(start, close) * wick[0],
            "low": np.minimum(start, close) / wick[1],
            "close": close,
        }
    )


def unpredictable(seed: int, labels: LabelConfig) -> TrainingData:
    """Labels of a walk, and slow features that know nothing but which rows are neighbours in time."""
    candles = random_walk(seed)
    found = make_labels(candles, labels)
    rng = np.random.default_rng(1000 + seed)
    features = {"time": np.arange(len(candles), dtype=float)}
    for name, memory in (("slow", 0.995), ("medium", 0.97), ("fast", 0.8)):
        noise = pd.Series(rng.normal(size=len(candles)))
        features[name] = noise.ewm(alpha=1 - memory).mean().to_numpy()
    known = found.y.notna().to_numpy()
    return TrainingData(
        X=pd.DataFrame(features).astype(np.float32)[known],
        y=found.y[known].to_numpy(),
        weight=found.weight[known].to_numpy(),
        dates=pd.DatetimeIndex(candles["date"])[known],
        known_at=pd.DatetimeIndex(found.known_at[known]),
        pairs=np.full(known.sum(), "A/B", dtype=object),
        candle=HOUR,
        horizon_candles=HORIZON,
        forward_return=found.forward_return[known].to_numpy(),
        round_trip_cost=found.round_trip_cost,
        task=labels.task,
        short_return=None if found.short_return is None else found.short_return[known].to_numpy(),
    )


def splitter_of(method: str):
    window = {"cv_method": "timeseries", "train_window_candles": 600} if method == "sliding" else {}
    settings = ModelConfig(
        **{"cv_method": method, "cv_folds": 3, "embargo_candles": HORIZON, **window}
    )
    return make_splitter(settings, HOUR)


def skill(data: TrainingData, method: str) -> float:
    """Mean over folds and classes of how well the test rows are ranked: 0.5 is chance.

    For returns half of one plus the rank correlation.
    """
    calibration = "sigmoid" if data.task == "regression" else "isotonic"
    recipe = Recipe(
        ModelConfig(parameters={"n_estimators": 15}, calibration=calibration, n_jobs=1),
        FeatureConfig(),
    )
    scores = []
    for fold in splitter_of(method).split(data.dates, data.known_at):
        fitted = prepare_slice(data, fold.train, recipe, early_stopping=False).fit({})
        proba = fitted.predict_proba(fitted.preprocessor.transform(data.X.iloc[fold.test]))
        y = data.y[fold.test]
        if data.task == "regression":
            scores.append(0.5 * (1 + value_scores(y, proba)["spearman"]))
        elif data.task == "binary":
            scores.append(roc_auc(y, proba))
        else:
            scores += [roc_auc(y == side, proba[:, k]) for k, side in ((0, -1.0), (2, 1.0))]
    return float(np.nanmean(scores))


@pytest.mark.parametrize(("kind", "classes"), [*CLASSES_OF_KINDS, ("forward_return", 2)])
@pytest.mark.parametrize("method", METHODS)
def test_no_label_and_no_split_finds_skill_in_a_random_walk(method, kind, classes) -> None:
    labels = LabelConfig(kind=kind, classes=classes, horizon_candles=HORIZON)
    found = [skill(unpredictable(seed, labels), method) for seed in SEEDS]
    error = np.std(found, ddof=1) / np.sqrt(len(found))
    assert abs(np.mean(found) - 0.5) < 3 * error + 0.01
    assert max(found) < 0.68


@pytest.mark.parametrize(("kind", "classes"), CLASSES_OF_KINDS)
def test_the_trap_is_armed(kind, classes) -> None:
    """Rows drawn at random into training and test rank far above chance on the same data."""
    from sklearn.ensemble import RandomForestClassifier

    data = unpredictable(0, LabelConfig(kind=kind, classes=classes, horizon_candles=HORIZON))
    test = np.random.default_rng(0).random(len(data)) < 0.3
    forest = RandomForestClassifier(50, max_depth=8, random_state=0)
    forest.fit(data.X[~test], data.y[~test])
    proba = forest.predict_proba(data.X[test])
    assert roc_auc(data.y[test] == 1, proba[:, list(forest.classes_).index(1.0)]) > 0.75
