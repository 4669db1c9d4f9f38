"""Comparing what was said live: challenger with production, and live with a backtest."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from freqtrade_mlpipe.config import LabelConfig
from freqtrade_mlpipe.monitoring.parity import compare
from freqtrade_mlpipe.monitoring.shadow import shadow_report

LABELS = LabelConfig(kind="direction", horizon_candles=2)
CANDLE = pd.Timedelta("1h")


def _market(n: int = 1_000, seed: int = 0) -> tuple[dict[str, pd.DataFrame], np.ndarray]:
    rng = np.random.default_rng(seed)
    price = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, n)))
    dates = pd.date_range("2026-01-01", periods=n, freq="1h", tz="UTC")
    frame = pd.DataFrame({"date": dates, **dict.fromkeys(("open", "high", "low", "close"), price)})
    return {"A": frame}, np.r_[price[2:] > price[:-2], False, False]


def _rows(candles, proba, version: str) -> pd.DataFrame:
    n = len(proba)
    return pd.DataFrame(
        {"pair": "A", "date": candles["A"]["date"], "version": version, "digest": f"of {version}",
         "proba": proba, "edge": np.asarray(proba) - 0.5,
         "signal": (np.asarray(proba) > 0.5).astype(np.int8), "do_predict": np.ones(n, np.int8), "value": np.nan,
         "proba_short": np.nan, "close": candles["A"]["close"], "features": [None] * n, "repeats": 0,
         "repeat_version": None, "repeat_edge": np.nan}
    )  # fmt: skip


def test_better_challenger_is_called_better_and_a_worse_one_worse():
    candles, up = _market()
    knows, guesses = (
        _rows(candles, np.where(up, 0.7, 0.3), "2"),
        _rows(candles, np.full(1_000, 0.5), "1"),
    )
    found = shadow_report(guesses, knows, candles, LABELS)
    assert "Challenger 2 is better than production 1" in found.sentence
    assert found.n_common == 1_000
    assert found.n_known == 998
    assert found.challenger.hit_rate == 1.0
    assert found.challenger.loss == pytest.approx(-np.log(0.7))
    assert found.profit is not None
    assert found.profit.high < 0, "the challenger earns more"
    assert "is worse than production" in shadow_report(knows, guesses, candles, LABELS).sentence


def test_equal_models_differ_by_noise_only_and_few_candles_are_too_few():
    candles, _ = _market(seed=1)
    rng = np.random.default_rng(1)
    one, two = (_rows(candles, 0.5 + rng.normal(0, 0.02, 1_000), v) for v in "12")
    assert "beyond noise" in shadow_report(one, two, candles, LABELS).sentence
    found = shadow_report(one.head(60), two.head(60), candles, LABELS)
    assert "Too early" in found.sentence
    assert found.loss is None


def test_only_candles_that_both_predicted_count():
    candles, up = _market()
    one, two = (_rows(candles, np.where(up, 0.7, 0.3), v) for v in "12")
    found = shadow_report(one.iloc[:700], two.iloc[300:], candles, LABELS)
    assert found.n_common == 400


def test_equal_predictions_are_in_parity():
    candles, up = _market(100)
    live = _rows(candles, np.where(up, 0.7, 0.3), "1")
    found = compare(live, live.assign(proba=live["proba"] + 5e-7), CANDLE, {})
    assert not found.mismatches
    assert found.n_compared == 100
    assert "agree on all 100" in found.sentence


def test_each_candle_that_differs_is_named_with_the_features_behind_it():
    candles, _ = _market(10)
    live = _rows(candles, np.full(10, 0.6), "1")
    live["features"] = pd.Series([np.array([1.0, 2.0, 3.0], np.float32)] * 10, dtype=object)
    again = live.copy()
    again.loc[4, ["proba", "edge"]] = [0.61, 0.11]
    again["features"] = [
        np.array([1.0, 2.5 if k == 4 else 2.0, 3.0], np.float32) for k in range(10)
    ]
    again.loc[4, "close"] += 1
    again.loc[7, ["proba", "edge", "do_predict"]] = [np.nan, np.nan, 0]
    found = compare(live, again, CANDLE, {"of 1": ("a", "b", "c")})
    assert [m.date for m in found.mismatches] == [live["date"][4], live["date"][7]]
    assert found.mismatches[0].features == ("b by 0.5",)
    assert found.mismatches[0].close_moved
    assert set(found.mismatches[0].what) == {"proba", "edge"}
    assert "do_predict" in found.mismatches[1].what


def test_repeats_gaps_and_what_could_not_be_checked_are_counted():
    candles, _ = _market(10)
    live = _rows(candles, np.full(10, 0.6), "1")
    live.loc[2, ["repeats", "repeat_version", "repeat_edge"]] = [1, "1", live["edge"][2]]
    live.loc[3, ["repeats", "repeat_version", "repeat_edge"]] = [1, "1", live["edge"][3] + 0.01]
    live.loc[6, ["repeats", "repeat_version", "repeat_edge"]] = [2, "2", 0.4]
    live = live.drop(index=[5, 8])
    found = compare(live, live.iloc[:-1], CANDLE, {})
    assert [(m.date, m.what) for m in found.mismatches] == [(live["date"][3], ("predicted twice",))]
    assert [times for _, _, times in found.repeated] == [2, 2, 3]
    dates = candles["A"]["date"]
    assert [date for _, date in found.missing] == [dates[5], dates[8]]
    assert found.n_unchecked == 1
    assert found.to_dict()["mismatches"][0]["date"] == dates[3].isoformat()
