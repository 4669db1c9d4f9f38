"""What the charts draw, against scikit-learn, scipy and properties."""

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, spearmanr
from sklearn.metrics import average_precision_score, log_loss, mean_squared_error, roc_auc_score

from freqtrade_mlpipe.reports import Drift
from freqtrade_mlpipe.reports.blocks import thinned
from freqtrade_mlpipe.reports.features import drift_chart, selection_chart, shap_chart
from freqtrade_mlpipe.reports.folds import fold_table, ranking_chart, skill_chart
from freqtrade_mlpipe.reports.money import equity_chart
from freqtrade_mlpipe.reports.prices import price_chart
from freqtrade_mlpipe.reports.scores import (
    calibration_bins,
    precision_chart,
    roc_points,
    score_charts,
)
from freqtrade_mlpipe.reports.search import front_charts, search_chart
from freqtrade_mlpipe.reports.values import value_charts
from tests.reports.sample import sample_report


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


def test_the_front_of_several_metrics_is_drawn_and_the_picked_trial_marked() -> None:
    scores = [(0.55, 0.69), (0.57, 0.68), (0.58, 0.685), (0.5, 0.7)]
    trials = [
        {"number": i, "state": "complete", "scores": {"roc_auc": a, "log_loss": b}}
        for i, (a, b) in enumerate(scores)
    ]
    trials.append({"number": 4, "state": "pruned", "scores": {"roc_auc": 0.9, "log_loss": 0.1}})
    (chart,) = front_charts(trials, front=[2, 1], picked=1, rule="the best log_loss")
    assert chart.figure is not None
    drawn = {trace["name"]: trace["text"] for trace in chart.figure["data"]}
    assert drawn == {
        "beaten by another trial": ["trial 0", "trial 3"],
        "on the front": ["trial 2"],
        "picked": ["trial 1"],
    }
    assert chart.title.startswith("2 of 4 trials")
    one_metric = [{"number": 0, "state": "complete", "scores": {"roc_auc": 0.5}}]
    assert front_charts(one_metric, front=[0], picked=0, rule="best roc_auc") == []


def test_features_are_counted_by_the_members_that_use_them() -> None:
    chart = selection_chart(pd.Series({"a": 1.0, "b": 1.0, "c": 1 / 3, "d": 0.0}), 3)
    assert chart.figure is not None
    assert chart.figure["data"][0]["y"] == [1, 1, 0, 2]
    assert chart.title.startswith("2 of 4 features")
    assert selection_chart(None, 3).figure is None


@given(st.integers(0, 1000), st.sampled_from([1, 2, 6]))
@settings(max_examples=20, deadline=None)
def test_average_precision_is_that_of_scikit_learn_ties_included(seed: int, digits: int) -> None:
    random = np.random.default_rng(seed)
    proba = np.round(random.random(300), digits)
    y = (random.random(300) < proba).astype(float)
    chart = precision_chart(y, proba)
    assert chart.figure is not None
    expected = f"average precision {average_precision_score(y, proba):.3f}"
    assert expected in chart.figure["data"][0]["name"]
    assert chart.title.endswith(f"{100 * y.mean():.0f} % of all rows")


def test_each_fold_is_ranked_on_its_own_rows() -> None:
    report = sample_report(n_pairs=2, n_candles=3000)
    chart = ranking_chart(report.folds, report.oos, horizon=1)
    assert chart.figure is not None
    assert report.oos is not None
    known = report.oos.dropna(subset=["y"])
    areas = [roc_auc_score(part["y"], part["proba"]) for _, part in known.groupby("fold")]
    dots = chart.figure["data"][0]
    assert dots["y"] == pytest.approx(areas, abs=1e-4)
    assert all(up > 0 and down > 0 for up, down in zip(
        dots["error_y"]["array"], dots["error_y"]["arrayminus"], strict=True
    ))  # fmt: skip
    assert chart.title.startswith(f"{sum(area > 0.5 for area in areas)} of 5 folds")


def test_fold_table_names_the_parameters_where_a_search_chose_them() -> None:
    folds = [{"metrics": {"roc_auc": 0.6}, "trial": trial} for trial in (None, 0, 4)]
    table = fold_table(folds)
    shown = list(table.columns).index("Parameters")
    assert [row[shown] for row in table.rows] == ["defaults", "of trial 0", "of trial 4"]
    plain = fold_table([{**fold, "trial": None} for fold in folds])
    assert "Parameters" not in plain.columns
    assert not plain.note


def test_folds_without_predictions_show_the_score_that_was_recorded() -> None:
    folds = [{"metrics": {"roc_auc": 0.6}}, {"metrics": {}}]
    chart = ranking_chart(folds, None, horizon=1)
    assert chart.figure is not None
    assert chart.figure["data"][0]["y"] == [0.6, None]


def test_skill_is_the_loss_of_the_class_frequency_less_the_models() -> None:
    report = sample_report(n_pairs=2, n_candles=3000)
    assert report.oos is not None
    chart = skill_chart(report.folds, report.oos, horizon=1)
    assert chart.figure is not None
    known = report.oos.dropna(subset=["y"])
    expected = [
        1000 * (part["loss_class_prior"].mean() - log_loss(part["y"], part["proba"]))
        for _, part in known.groupby("fold")
    ]
    assert chart.figure["data"][0]["y"] == pytest.approx(expected, rel=1e-3, abs=1e-3)


def predictions(task: str, n: int = 3000, seed: int = 0) -> pd.DataFrame:
    """Out-of-sample rows of three classes or of a regression, in five folds."""
    random = np.random.default_rng(seed)
    dates = pd.date_range("2024-01-01", periods=n, freq="h", tz="UTC")
    index = pd.MultiIndex.from_product([["A/USDT"], dates], names=["pair", "date"])
    oos = pd.DataFrame({"fold": np.arange(n) * 5 // n}, index=index)
    if task == "regression":
        value = 0.004 * random.normal(size=n)
        y = value + 0.01 * random.normal(size=n)
        return oos.assign(y=y, prediction=value, forward_return=y, loss_mean=(y - 0.001) ** 2)
    proba = random.dirichlet([2, 3, 2], n)
    y = (random.random((n, 1)) > proba.cumsum(axis=1)).sum(axis=1) - 1.0
    names = ("proba_short", "proba_flat", "proba")
    gain = 0.01 * y + 0.01 * random.normal(size=n)
    return oos.assign(
        y=y, forward_return=gain, short_return=-gain, loss_class_prior=-np.log(1 / 3),
        **dict(zip(names, proba.T, strict=True)),
    )  # fmt: skip


def test_curves_of_three_classes_are_those_of_long_against_the_rest() -> None:
    oos = predictions("three_class")
    charts = {chart.key: chart for chart in score_charts(oos, 0.001)}
    figure = charts["roc"].figure
    assert figure is not None
    area = roc_auc_score(oos["y"] == 1, oos["proba"])
    assert figure["data"][0]["name"] == f"model (area {area:.3f})"
    frequency = charts["precision"].title
    assert frequency.endswith(f"{100 * (oos['y'] == 1).mean():.0f} % of all rows")
    shorts = charts["short-returns"].figure
    assert shorts is not None
    top = oos.nlargest(300, "proba_short")["short_return"].mean()
    assert shorts["data"][0]["y"][-1] == pytest.approx(10_000 * top, rel=1e-3)


@pytest.mark.parametrize("task", ["three_class", "regression"])
def test_folds_of_every_task_are_held_against_their_baseline(task: str) -> None:
    oos = predictions(task)
    folds = [{"metrics": {}} for _ in range(5)]
    skill, ranking = skill_chart(folds, oos, 1, task), ranking_chart(folds, oos, 1, task)  # type: ignore[arg-type]
    assert skill.figure is not None
    assert ranking.figure is not None
    parts = [part for _, part in oos.groupby("fold")]
    if task == "regression":
        errors = [mean_squared_error(part["y"], part["prediction"]) for part in parts]
        bases = [part["loss_mean"].mean() for part in parts]
        saved = [100 * (1 - error / base) for error, base in zip(errors, bases, strict=True)]
        ranks = [spearmanr(part["y"], part["prediction"]).statistic for part in parts]
    else:
        columns = ["proba_short", "proba_flat", "proba"]
        losses = [log_loss(part["y"], part[columns], labels=[-1, 0, 1]) for part in parts]
        saved = [1000 * (-np.log(1 / 3) - loss) for loss in losses]
        ranks = [
            roc_auc_score(part["y"], part[columns], multi_class="ovr", labels=[-1, 0, 1])
            for part in parts
        ]
    assert skill.figure["data"][0]["y"] == pytest.approx(saved, rel=1e-3)
    assert ranking.figure["data"][0]["y"] == pytest.approx(ranks, abs=1e-4)
    assert ranking.title.startswith("5 of 5 folds")


def test_predicted_returns_are_set_against_the_true_ones_by_tenth() -> None:
    oos = predictions("regression")
    outcomes, earned = value_charts(oos, 0.001)
    assert outcomes.figure is not None
    assert earned.figure is not None
    tenth = pd.qcut(oos["prediction"], 10, labels=False)
    means = 10_000 * oos[["prediction", "y"]].groupby(tenth).mean()
    dots = outcomes.figure["data"][0]
    assert dots["x"] == pytest.approx(means["prediction"].tolist(), rel=1e-3)
    assert dots["y"] == pytest.approx(means["y"].tolist(), rel=1e-3)
    assert dots["error_y"]["array"][0] == pytest.approx(
        1.96 * 10_000 * oos["y"][tenth == 0].sem(), rel=1e-3
    )
    assert earned.figure["data"][0]["y"] == pytest.approx(means["y"].tolist(), rel=1e-3)


def test_a_regression_that_says_the_same_of_every_row_is_told_so() -> None:
    outcomes, _ = value_charts(predictions("regression").assign(prediction=0.001), 0.001)
    assert outcomes.figure is None
    assert "Every prediction is the same" in outcomes.note
    assert value_charts(None, 0.0)[0].note.startswith("No out-of-sample predictions")


def test_trades_stand_where_they_were_made_however_thin_the_prices() -> None:
    dates = pd.date_range("2024-01-01", periods=5000, freq="h", tz="UTC")
    closes = pd.DataFrame({"A/USDT": np.linspace(1, 2, 5000), "B/USDT": 1.0}, index=dates)
    trades = pd.DataFrame(
        {
            "pair": ["B/USDT", "A/USDT", "B/USDT"],
            "open_date": dates[[10, 1234, 40]],
            "close_date": dates[[20, 2345, 50]],
            "open_rate": [1.0, 1.24, 1.0],
            "close_rate": [1.0, 1.46, 1.0],
            "profit_ratio": [-0.001, 0.17, -0.001],
        }
    )
    chart = price_chart(closes, trades)
    assert list(chart.choices) == ["A/USDT (1 trades)", "B/USDT (2 trades)"]
    assert chart.figure is chart.choices["A/USDT (1 trades)"]
    drawn = {trace["name"]: trace for trace in chart.figure["data"]}
    assert len(drawn["close"]["x"]) <= 600
    assert (drawn["entry (1)"]["x"], drawn["entry (1)"]["y"]) == (["2024-02-21 10:00"], [1.24])
    assert (drawn["exit, won (1)"]["x"], drawn["exit, won (1)"]["y"]) == (
        ["2024-04-07 17:00"],
        [1.46],
    )
    assert "thinned to 600 points" in chart.note


def test_drift_counts_features_beyond_what_training_ever_showed() -> None:
    recent = pd.Series({"moved": 0.5, "usual": 0.3, "tiny": 0.01, "unknown": np.nan})
    usual = pd.Series({"moved": 0.1, "usual": 0.4, "tiny": 0.001})
    day = pd.Timestamp("2024-01-01", tz="UTC").to_pydatetime()
    drift = Drift(recent, usual, start=day, end=day, n_rows=10, n_windows=12)
    chart = drift_chart(drift, "")
    assert chart.title.startswith("1 of 3 features")
    assert chart.figure is not None
    beyond = next(trace for trace in chart.figure["data"] if "beyond" in trace["name"])
    assert beyond["y"] == ["moved"]
    assert drift_chart(None, "No candles.").note == "No candles."


def test_swarm_draws_every_sampled_row_at_its_push() -> None:
    report = sample_report(n_pairs=1, n_candles=600)
    chart = shap_chart(report.shap, report.contributions, report.feature_values)
    assert chart.figure is not None
    dots = chart.figure["data"][0]
    assert report.contributions is not None
    first = report.contributions.iloc[:, 0]
    assert dots["x"][: len(first)] == pytest.approx(first.tolist(), rel=1e-2)
    assert np.abs(np.asarray(dots["y"]) - np.repeat(np.arange(12), 400)).max() <= 0.4
