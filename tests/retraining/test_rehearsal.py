"""A rehearsal repeats only what an epoch changes, sees no candle of the final window, and says what a member would."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from freqtrade_mlpipe.config import FeatureConfig, LabelConfig, MLPipeConfig, ModelConfig
from freqtrade_mlpipe.dataset import TrainingData, build_dataset
from freqtrade_mlpipe.exceptions import ConfigError, DataError
from freqtrade_mlpipe.features import FeatureEngineer
from freqtrade_mlpipe.member import predict
from freqtrade_mlpipe.retraining import MAX_LOSS, MetricObjective, Rehearsal, SearchSpace
from freqtrade_mlpipe.retraining.search import evaluate
from freqtrade_mlpipe.trainer import ModelTrainer

FEATURES = FeatureConfig(include=("return", "rsi", "range_position"), long_period=30)
LABELS = LabelConfig(horizon_candles=12)
CONFIG = MLPipeConfig(
    features=FEATURES,
    labels=LABELS,
    model=ModelConfig(
        model_type="random_forest", optimize_hyperparams=False, cv_folds=2, embargo_candles=12,
        parameters={"n_estimators": 20}, n_jobs=1,
    ),
)  # fmt: skip


def compute_of(features: FeatureConfig):
    engineer = FeatureEngineer(features)
    return lambda frame, pair, frames: engineer.transform(frame, pair=pair, frames=frames)


def market_of(candles: dict[str, pd.DataFrame]) -> TrainingData:
    startup = FeatureEngineer(FEATURES).startup_candles
    return TrainingData(candles, "1h", pd.Timedelta("1h"), compute_of(FEATURES), startup, "hash")


@pytest.fixture(scope="module")
def history(market) -> TrainingData:
    return market_of({pair: frame.iloc[:2_500] for pair, frame in market.items()})


@pytest.fixture(scope="module")
def forest(history):
    """Rehearsed once, and the same trained by the trainer."""
    rehearsal = Rehearsal(history, compute_of)
    return rehearsal, rehearsal.rehearse(CONFIG)


def changed(**sections) -> MLPipeConfig:
    copies = {
        name: type(getattr(CONFIG, name))(**{**getattr(CONFIG, name).model_dump(), **changes})
        for name, changes in sections.items()
    }
    return CONFIG.model_copy(update=copies)


def test_answers_are_those_of_walk_forward_members(forest, history):
    """A forest does not stop early, so that the trainer's members are the very fits of the rehearsal."""
    _, rehearsed = forest
    dataset = build_dataset(history, CONFIG)
    model, metrics = ModelTrainer(CONFIG.model, FEATURES).train(
        dataset.X, dataset.y, known_at=dataset.known_at, weight=dataset.weight,
        forward_return=dataset.forward_return, round_trip_cost=dataset.round_trip_cost,
        candle=history.candle, horizon_candles=12,
    )  # fmt: skip
    found = rehearsed.predictions().sort_index()
    oos = model.report.oos.sort_index()
    assert found.index.equals(oos.index)
    np.testing.assert_array_equal(found["mlpipe_proba"], oos["proba"])
    np.testing.assert_array_equal(found["mlpipe_edge"], oos["edge"])
    np.testing.assert_array_equal(found["mlpipe_signal"], oos["signal"])
    dates = pd.DatetimeIndex(oos.index.get_level_values("date"))
    served = predict(model.members, dataset.X.loc[oos.index], dates)
    np.testing.assert_array_equal(found["mlpipe_proba"], served.proba)
    judgement = MetricObjective("sharpe", 1).judge(rehearsed)
    assert judgement.sharpe == pytest.approx(metrics["sharpe_per_candle"])


@pytest.mark.parametrize(
    "change, repeated",
    [
        ({"model": {"calibration": "none", "threshold_caution": 0.0}}, set()),
        ({"model": {"n_trials": 3, "n_jobs": 2}}, set()),
        ({"model": {"parameters": {"n_estimators": 5}}}, {"fits"}),
        ({"model": {"class_weight": "balanced"}}, {"slices", "fits"}),
        ({"features": {"correlation_threshold": 0.5}}, {"slices", "fits"}),
        ({"features": {"short_period": 5}}, {"features", "rows", "slices", "fits"}),
        ({"labels": {"horizon_candles": 6}}, {"labels", "rows", "slices", "fits"}),
    ],
)
def test_only_what_an_epoch_changes_is_done_again(forest, change, repeated):
    rehearsal, _ = forest
    shelves = ("features", "labels", "rows", "slices", "fits")
    rehearsal.rehearse(CONFIG)
    before = {name: getattr(rehearsal, name).n_made for name in shelves}
    rehearsal.rehearse(changed(**change))
    assert {n for n in shelves if getattr(rehearsal, n).n_made > before[n]} == repeated


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"calibration": "isotonic", "threshold_max_share": 0.1}},
        {"labels": {"horizon_candles": 6}},
        {"features": {"correlation_threshold": 0.5}},
    ],
)
def test_what_was_kept_gives_what_a_fresh_start_gives(forest, history, change):
    rehearsal, _ = forest
    kept = rehearsal.rehearse(changed(**change)).predictions()
    fresh = Rehearsal(history, compute_of).rehearse(changed(**change)).predictions()
    pd.testing.assert_frame_equal(kept, fresh)


def test_every_configuration_is_judged_from_the_same_candle(forest):
    rehearsal, _ = forest
    start = rehearsal.judged_from(CONFIG.model)
    for horizon in (1, 12, 48):
        rehearsed = rehearsal.rehearse(changed(labels={"horizon_candles": horizon}))
        dates = rehearsed.data.dates[rehearsed.rows]
        assert dates.min() <= start < dates.min() + 48 * pd.Timedelta("1h")


def test_three_classes_and_returns_answer_with_the_columns_of_the_mixin(history):
    small = {"model": {"model_type": "lightgbm", "parameters": {"n_estimators": 5}}}
    rehearsal = Rehearsal(history, compute_of)
    three = rehearsal.rehearse(changed(labels={"classes": 3}, **small)).predictions()
    total = three[["mlpipe_proba", "mlpipe_proba_short", "mlpipe_proba_flat"]].sum(axis=1)
    np.testing.assert_allclose(total, 1.0)
    assert "mlpipe_edge_short" in three
    value = rehearsal.rehearse(changed(labels={"kind": "forward_return"}, **small)).predictions()
    assert value["mlpipe_proba"].isna().all()
    assert value["mlpipe_prediction"].notna().all()


def test_too_few_trades_are_a_bad_epoch(forest):
    _, rehearsed = forest
    found = MetricObjective("sharpe", 1).judge(rehearsed)
    n = found.metrics["total_trades"]
    assert n == found.metrics["wins"] + found.metrics["draws"] + found.metrics["losses"] > 5
    assert found.loss < MAX_LOSS
    assert MetricObjective("sharpe", n).judge(rehearsed).loss == found.loss
    assert MetricObjective("sharpe", n + 1).judge(rehearsed).loss == MAX_LOSS


def test_losses_get_smaller_as_the_metric_gets_better(forest):
    from freqtrade_mlpipe.metrics import classification_scores

    _, rehearsed = forest
    loss = MetricObjective("log_loss", 1).judge(rehearsed).loss
    auc = MetricObjective("roc_auc", 1).judge(rehearsed).loss
    scores = [
        classification_scores(rehearsed.data.y[answer.fold.test], answer.proba)
        for answer in rehearsed.answers
    ]
    assert loss == pytest.approx(np.mean([s["log_loss"] for s in scores]))
    assert auc == pytest.approx(-np.mean([s["roc_auc"] for s in scores]))


def test_a_configuration_that_cannot_be_learned_from_is_a_bad_epoch_not_the_end(forest):
    rehearsal, _ = forest
    space = SearchSpace(CONFIG, ("labels",))
    epoch = evaluate(
        rehearsal, MetricObjective("sharpe", 1), space, 3, {"labels.horizon_candles": 2_430}
    )
    assert epoch.loss == MAX_LOSS
    assert epoch.judgement.error
    with pytest.raises(DataError, match="Too few candles"):
        rehearsal.rehearse(changed(labels={"horizon_candles": 2_430}))


def test_a_metric_of_the_labels_cannot_choose_among_labels():
    with pytest.raises(ConfigError, match="cannot be compared"):
        MetricObjective("log_loss", 1).check(CONFIG, ("labels", "model"))
    MetricObjective("log_loss", 1).check(CONFIG, ("features", "model"))
    MetricObjective("expected_profit", 1).check(CONFIG, ("labels", "model"))
    with pytest.raises(ConfigError, match="does not suit the task"):
        MetricObjective("rmse", 1).check(CONFIG, ("model",))


def test_candles_of_the_final_window_are_not_there(market):
    """The workshop cuts them off; whatever they hold, an epoch's candles, and so its answers, are the same."""
    from freqtrade_mlpipe.commands.workshop import _before

    moment = pd.Timestamp("2023-04-01", tz="UTC")
    frames = {("SYNA/USDT", "4h"): market["SYNA/USDT"].iloc[::4]}
    whole = replace(market_of(market), frames=frames)
    cut = _before(whole, moment)
    assert all((frame["date"] < moment).all() for frame in cut.candles.values())
    assert all(len(frame) for frame in cut.candles.values())
    (longer,) = cut.frames.values()
    assert (longer["date"] + pd.Timedelta("4h") <= moment).all()
