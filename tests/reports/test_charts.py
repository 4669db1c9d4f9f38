"""What the charts draw, against scikit-learn, scipy and properties."""

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from freqtrade_mlpipe.reports.blocks import thinned
from freqtrade_mlpipe.reports.money import equity_chart
from freqtrade_mlpipe.reports.scores import calibration_bins, roc_points
from freqtrade_mlpipe.reports.search import search_chart


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=60).filter(
        lambda rows: len({hit for hit, _ in rows}) == 2
    )
)
def test_the_roc_area_is_that_of_scikit_learn_ties_included(rows: list[tuple[bool, int]]) -> None:
    y = np.array([float(hit) for hit, _ in rows])
    proba = np.array([score / 5 for _, score in rows])
    false, true, area = roc_points(y, proba)
    assert area == pytest.approx(roc_auc_score(y, proba))
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)


def test_calibration_intervals_are_wilsons() -> None:
    random = np.random.default_rng(0)
    proba = random.random(2000)
    y = (random.random(2000) < proba).astype(float)
    table = calibration_bins(y, proba)
    assert table["n"].sum() == 2000
    for _, row in table.iterrows():
        hits = round(row["observed"] * row["n"])
        expected = binomtest(hits, int(row["n"])).proportion_ci(0.95, method="wilson")
        assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high), abs=1e-6)


@given(
    st.lists(st.floats(-1e6, 1e6) | st.just(float("nan")), min_size=1, max_size=400),
    st.integers(10, 60),
)
def test_thinning_keeps_extremes_ends_and_order(values: list[float], limit: int) -> None:
    series = pd.Series(values, dtype=float)
    thin = thinned(series, limit)
    assert len(thin) <= max(limit, 2)
    assert thin.index.is_monotonic_increasing
    assert {0, len(values) - 1} <= set(thin.index)
    if series.notna().any():
        assert thin.max() == series.max()
        assert thin.min() == series.min()


def test_equity_says_gain_and_drawdown_of_the_whole_curve() -> None:
    days = pd.date_range("2024-01-01", periods=9000, freq="h", tz="UTC")
    values = pd.Series(np.linspace(100, 200, 9000), days)
    values.iloc[5000] = values.iloc[:5001].max() * 0.5  # one candle, lost if every n-th were drawn
    chart = equity_chart(values, values * 2)
    assert "gained 100.00 %" in chart.title
    assert "50.0" in chart.title
    assert chart.figure is not None
    depth = next(trace for trace in chart.figure["data"] if trace["yaxis"] == "y2")
    assert min(depth["y"]) == pytest.approx(-50, abs=0.1)
    gap = pd.Timestamp(depth["x"][1]) - pd.Timestamp(depth["x"][0])
    assert gap < timedelta(days=2)


@pytest.mark.parametrize(("direction", "best"), [("maximize", 3.0), ("minimize", 1.0)])
def test_best_so_far_follows_the_direction(direction: str, best: float) -> None:
    trials = [
        {"number": i, "value": v, "state": "complete"}
        for i, v in enumerate([2.0, 1.0, None, 3.0, 2.5])
    ]
    # Stopped after the first folds: a better score there is no better score.
    trials += [{"number": 5 + i, "value": v, "state": "pruned"} for i, v in enumerate([0.1, 9.0])]
    chart = search_chart(trials, "score", direction)
    assert chart.figure is not None
    assert chart.figure["data"][-1]["name"] == "best so far"
    assert chart.figure["data"][-1]["y"][-1] == best
    assert [trace["name"] for trace in chart.figure["data"][:2]] == ["finished", "stopped early"]
    assert "1 trials failed" in chart.note
