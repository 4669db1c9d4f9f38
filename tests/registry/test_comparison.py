"""Verdicts: found where there is a difference, held back where there is none or no common ground."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss, mean_squared_error

from freqtrade_mlpipe.registry.comparison import Contender, compare

N, HORIZON = 6000, 4


def contender(label: str, skill: float, seed: int = 0, n: int = N, **changes: object) -> Contender:
    """Predictions of a market whose up-moves have a known probability, seen through noise."""
    market = np.random.default_rng(0)
    edge = market.normal(size=n)
    y = (market.random(n) < 1 / (1 + np.exp(-edge))).astype(float)
    noise = np.random.default_rng(seed).normal(size=n)
    seen = skill * edge + np.sqrt(1 - skill**2) * noise
    proba = 1 / (1 + np.exp(-skill * seen))
    oos = pd.DataFrame(
        {
            "pair": "A/B",
            "date": pd.date_range("2024-01-01", periods=n, freq="1h", tz="UTC"),
            "y": y,
            "proba": proba,
            "fold": np.arange(n) // (n // 4),
        }
    )
    return replace(Contender(label, oos=oos, horizon_candles=HORIZON), **changes)  # type: ignore[arg-type]


def test_the_better_model_is_named_whichever_comes_first() -> None:
    good, bad = contender("good", 0.9, 1), contender("bad", 0.1, 2)
    for pair in ((good, bad), (bad, good)):
        (verdict,) = compare(pair).verdicts
        assert verdict.better == "good"
        assert verdict.sentence.startswith("good predicts better")
        assert verdict.difference is not None
        other = pair[1].oos
        assert other is not None
        assert verdict.other_loss == pytest.approx(log_loss(other["y"], other["proba"]))


def test_equal_skill_is_called_noise() -> None:
    named = 0
    for seed in range(20):
        first, other = contender("a", 0.5, 2 * seed + 1), contender("b", 0.5, 2 * seed + 2)
        (verdict,) = compare([first, other]).verdicts
        named += verdict.better is not None
    assert named <= 3


def test_the_same_predictions_are_the_same() -> None:
    (verdict,) = compare([contender("a", 0.5), contender("b", 0.5)]).verdicts
    assert verdict.better is None
    assert "say the same" in verdict.sentence


def test_only_common_candles_count_in_whatever_order() -> None:
    good, bad = contender("good", 0.9, 1), contender("bad", 0.1, 2)
    assert bad.oos is not None
    part = bad.oos.iloc[2000:].sample(frac=1, random_state=0)
    (verdict,) = compare([good, replace(bad, oos=part)]).verdicts
    assert verdict.difference is not None
    assert verdict.difference.n_rows == N - 2000
    assert verdict.start == bad.oos["date"].iloc[2000].to_pydatetime()


def no_verdict(first: Contender, other: Contender) -> str:
    (verdict,) = compare([first, other]).verdicts
    assert verdict.better is None
    assert verdict.difference is None
    assert verdict.sentence.startswith("No verdict: ")
    return verdict.sentence


def test_without_a_common_candle_there_is_no_verdict() -> None:
    first, other = contender("a", 0.9), contender("b", 0.1, 5)
    assert other.oos is not None
    later = other.oos.assign(date=other.oos["date"] + pd.Timedelta(days=4000))
    assert "no candle in common" in no_verdict(first, replace(other, oos=later))
    elsewhere = other.oos.assign(pair="C/D")
    assert "no candle in common" in no_verdict(first, replace(other, oos=elsewhere))


def test_a_short_common_span_gives_no_verdict() -> None:
    first, other = contender("a", 0.9), contender("b", 0.1, 5)
    assert other.oos is not None
    assert "span is short" in no_verdict(first, replace(other, oos=other.oos.iloc[:200]))
    assert "span is short" in no_verdict(first, replace(other, horizon_candles=100))


def test_other_labels_answer_another_question() -> None:
    first, other = contender("a", 0.9), contender("b", 0.1, 5)
    assert other.oos is not None
    flipped = other.oos.assign(y=1 - other.oos["y"])
    assert "labels differ" in no_verdict(first, replace(other, oos=flipped))


def test_predictions_that_were_not_kept_give_no_verdict() -> None:
    first = contender("a", 0.9)
    sentence = no_verdict(first, Contender("b", metrics={"log_loss": 0.6}))
    assert "of b were not kept" in sentence


def test_more_contenders_widen_each_interval() -> None:
    first, other = contender("a", 0.5, 1), contender("b", 0.4, 2)
    alone = compare([first, other]).verdicts[0].difference
    among = compare([first, other, *(contender(str(i), 0.4, i) for i in range(3, 8))])
    gap = among.verdicts[0].difference
    assert alone is not None
    assert gap is not None
    assert gap.mean == alone.mean
    assert gap.high - gap.low > 1.15 * (alone.high - alone.low)


def test_only_parameters_that_differ_are_shown() -> None:
    a = contender("a", 0.5, parameters={"same": "1", "other": "x", "only": "y", "version.x": "1"})
    b = contender("b", 0.5, parameters={"same": "1", "other": "z", "version.x": "2"})
    found = compare([a, b, Contender("c")])
    assert found.parameters == {"other": ("x", "z", None), "only": ("y", None, None)}


def test_metrics_carry_intervals_where_predictions_were_kept() -> None:
    found = compare([contender("a", 0.9), Contender("b", metrics={"log_loss": 0.6, "f1": 0.5})])
    a, b = found.metrics["log_loss"]
    assert a is not None
    assert b is not None
    assert a.low < a.value < a.high
    assert b.value == 0.6
    assert np.isnan(b.low)
    assert found.metrics["f1"][0] is None


def test_one_alone_is_no_comparison() -> None:
    with pytest.raises(ValueError, match="at least two"):
        compare([contender("a", 0.5)])


def three_classes(label: str, skill: float, seed: int) -> Contender:
    """Short, flat or long by an edge that is seen through noise."""
    market, noise = (np.random.default_rng(s) for s in (0, seed))
    edge = market.normal(size=N)
    y = np.select(
        [edge + market.normal(size=N) > 0.7, edge + market.normal(size=N) < -0.7], [1, -1]
    )
    seen = skill * edge + np.sqrt(1 - skill**2) * noise.normal(size=N)
    odds = np.exp(np.column_stack([-skill * seen, np.full(N, 0.3), skill * seen]))
    proba = odds / odds.sum(axis=1, keepdims=True)
    columns = dict(zip(("proba_short", "proba_flat", "proba"), proba.T, strict=True))
    oos = index_of(N).assign(y=y.astype(float), **columns)
    return Contender(label, oos=oos, task="three_class", horizon_candles=HORIZON)


def regression(label: str, skill: float, seed: int) -> Contender:
    """Returns with a predictable part that is seen through noise."""
    market, noise = (np.random.default_rng(s) for s in (0, seed))
    edge = market.normal(size=N)
    y = 0.01 * (0.3 * edge + market.normal(size=N))
    seen = skill * edge + np.sqrt(1 - skill**2) * noise.normal(size=N)
    oos = index_of(N).assign(y=y, prediction=0.003 * skill * seen)
    return Contender(label, oos=oos, task="regression", horizon_candles=HORIZON)


def index_of(n: int) -> pd.DataFrame:
    dates = pd.date_range("2024-01-01", periods=n, freq="1h", tz="UTC")
    return pd.DataFrame({"pair": "A/B", "date": dates, "fold": np.arange(n) // (n // 4)})


def test_three_classes_are_compared_by_their_log_loss() -> None:
    good, bad = three_classes("good", 0.9, 1), three_classes("bad", 0.1, 2)
    found = compare([bad, good])
    (verdict,) = found.verdicts
    assert verdict.better == "good"
    assert verdict.loss == "log_loss"
    assert good.oos is not None
    proba = good.oos[["proba_short", "proba_flat", "proba"]]
    assert verdict.other_loss == pytest.approx(log_loss(good.oos["y"], proba, labels=[-1, 0, 1]))
    (_, better) = found.metrics["roc_auc"]
    assert better is not None
    assert 0.5 < better.low < better.value


def test_regressions_are_compared_by_their_squared_error() -> None:
    good, bad = regression("good", 0.9, 1), regression("bad", 0.1, 2)
    found = compare([good, bad])
    (verdict,) = found.verdicts
    assert verdict.better == "good"
    assert verdict.loss == "squared_error"
    assert "squared error of bad less that of good" in verdict.sentence
    assert "nats" not in verdict.sentence
    assert good.oos is not None
    error = mean_squared_error(good.oos["y"], good.oos["prediction"])
    assert verdict.first_loss == pytest.approx(error)
    assert list(found.metrics)[:3] == ["squared_error", "rmse", "spearman"]


def test_different_tasks_are_not_weighed_against_each_other() -> None:
    models = [contender("two", 0.5), three_classes("three", 0.5, 1), regression("value", 0.5, 1)]
    for first, other in combinations(models, 2):
        assert "answer different questions" in no_verdict(first, other)
