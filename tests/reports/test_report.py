"""The page as text: complete, self-contained, safe, honest about what is missing."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from plotly.offline import get_plotlyjs

from freqtrade_mlpipe.reports import ReportData, render_report
from freqtrade_mlpipe.reports.blocks import Chart
from freqtrade_mlpipe.reports.data import Tone
from freqtrade_mlpipe.reports.page import build_sections
from tests.reports.sample import sample_report

SECTIONS = [
    "gates",
    "walk-forward",
    "folds",
    "scores",
    "features",
    "backtest",
    "search",
    "configuration",
]
CHARTS = {
    "timeline",
    "fold-ranking",
    "fold-skill",
    "roc",
    "precision",
    "calibration",
    "distribution",
    "returns",
    "gain",
    "permutation",
    "shap",
    "selection",
    "drift",
    "equity",
    "prices",
    "trades",
    "search",
    "front",
    "parameters",
}

NAMED_ROWS = {"gain", "permutation", "shap", "drift", "parameters", "timeline"}


def page_of(report: ReportData, folder: Path) -> str:
    """The page without the plotting library."""
    text = render_report(report, folder / "page.html").read_text(encoding="utf-8")
    library = get_plotlyjs()
    assert text.count(library) == 1
    return text.replace(library, "")


def figures_of(page: str) -> dict[str, dict[str, list[dict[str, list[object]]]]]:
    found = re.search(r'<script type="application/json" id="figures">(.*?)</script>', page, re.S)
    assert found is not None
    return json.loads(found[1])  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def full_page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return page_of(sample_report(), tmp_path_factory.mktemp("full"))


@pytest.fixture(scope="module")
def empty_page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return page_of(ReportData("Nothing", ["Nothing yet."]), tmp_path_factory.mktemp("empty"))


def test_twelve_pairs_and_eighteen_months_fit_in_six_megabytes(tmp_path: Path) -> None:
    path = render_report(sample_report(n_trades=3000), tmp_path / "new" / "page.html")
    assert path.is_absolute()
    assert path.stat().st_size <= 6_000_000
    assert [p.name for p in path.parent.iterdir()] == ["page.html"]


@pytest.mark.parametrize("page", ["full_page", "empty_page"])
def test_nothing_is_loaded_from_elsewhere(page: str, request: pytest.FixtureRequest) -> None:
    text = request.getfixturevalue(page)
    assert not re.findall(r"""(?:src|href|action)\s*=\s*["']?\s*(?:https?:)?//""", text, re.I)
    assert not re.findall(r"@import|url\(", text)
    assert "default-src 'none'" in text


@pytest.mark.parametrize("page", ["full_page", "empty_page"])
@pytest.mark.parametrize("section", SECTIONS)
def test_every_section_is_there(page: str, section: str, request: pytest.FixtureRequest) -> None:
    assert f'<section id="{section}">' in request.getfixturevalue(page)


def test_a_full_report_draws_every_chart_and_excuses_nothing(full_page: str) -> None:
    assert set(figures_of(full_page)) == CHARTS
    assert 'class="empty"' not in full_page


def test_an_empty_report_draws_nothing_and_says_so_everywhere(empty_page: str) -> None:
    assert figures_of(empty_page) == {}
    assert "data-figure=" not in empty_page
    sentences = re.findall(r'<p class="empty">(.*?)</p>', empty_page)
    assert len(sentences) >= len(CHARTS)
    assert all(sentence.endswith(".") and len(sentence) > 15 for sentence in sentences)


@pytest.mark.parametrize(
    ("badge", "tone"), [("In production", "good"), ("Refused", "bad"), ("Archived", "")]
)
def test_the_verdict_comes_first_in_words(badge: str, tone: Tone, tmp_path: Path) -> None:
    page = page_of(ReportData("T", ["Because of the Sharpe ratio."], badge, tone), tmp_path)
    assert f'class="verdict {tone}"' in page
    assert page.index(badge) < page.index("Because of the Sharpe ratio.") < page.index("<section")


def test_names_from_outside_are_text_never_markup(tmp_path: Path) -> None:
    attack = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
    report = replace(
        sample_report(n_pairs=1, n_candles=600),
        title=attack,
        verdict=[attack],
        badge=attack,
        problems={"training": attack, "oos": attack, "drift": attack},
        data_note=attack,
        summary={attack: attack},
        gates=[{"name": attack, "value": 1, "threshold": 2, "passed": True, "sentence": attack}],
        feature_importance=pd.Series({attack: 1.0, "b": 2.0}),
        backtest={attack: attack, "pairs": [{"pair": attack}]},
        metric=attack,
        config={attack: attack},
    )
    page = page_of(report, tmp_path)
    assert "<script>alert" not in page
    assert "<img" not in page
    assert attack in figures_of(page)["gain"]["data"][0]["y"]


def test_credentials_in_the_configuration_are_not_shown(full_page: str) -> None:
    assert "hunter2" not in full_page
    assert "postgresql://me:[redacted]@host/db" in full_page


def test_every_axis_says_what_it_shows_and_no_curve_is_heavy(full_page: str) -> None:
    found = figures_of(full_page)
    drawn = [(key, one) for key, figure in found.items() for one in figure.get("choices", [figure])]
    assert len(drawn) > len(found)
    for key, figure in drawn:
        layout = figure["layout"]
        assert {"xaxis", "yaxis"} <= set(layout), key
        for name, spec in layout.items():
            named = "axis" not in name or spec["title"]["text"]
            # Feature and fold names say themselves what they are.
            assert named or (key in NAMED_ROWS and name == "yaxis"), (key, name)
        for trace in figure["data"]:
            limit = 5000 if key == "shap" else 2000
            assert len(trace["x"]) == len(trace["y"]) <= limit, key


def test_the_page_is_valid_json_and_text_with_odd_numbers(tmp_path: Path) -> None:
    report = replace(
        sample_report(n_pairs=1, n_candles=600),
        gates=[{"name": "sharpe", "value": float("nan"), "threshold": np.inf, "passed": False}],
        backtest={"sharpe": float("nan"), "profit_total": None, "calmar": np.float64(np.inf)},
    )
    page = page_of(report, tmp_path)
    figures_of(page)
    assert ">nan<" not in page.lower()
    assert "NaN" not in page.split('id="figures">')[1].split("</script>")[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"oos": pd.DataFrame({"y": [], "proba": [], "forward_return": []})},
        {"oos": pd.DataFrame({"y": [1.0, 1.0], "proba": [0.5, 0.5]})},
        {"oos": pd.DataFrame({"y": [np.nan] * 3, "proba": [0.1, 0.2, 0.3]})},
        {"oos": pd.DataFrame({"other": [1]})},
        {
            "oos": pd.DataFrame(
                {"y": [0.0] * 200, "proba": [0.4] * 200, "forward_return": [0] * 200}
            )
        },
        {"equity": pd.Series(dtype=float)},
        {"equity": pd.Series([1.0, -1.0], pd.date_range("2024", periods=2, tz="UTC"))},
        {"equity": pd.Series([1.0, np.nan], pd.date_range("2024", periods=2, tz="UTC"))},
        {"market": None},
        {"trades": pd.DataFrame({"close_date": pd.to_datetime([]), "profit_ratio": []})},
        {"trades": pd.DataFrame({"other": [1]})},
        {"trials": [{"number": 0, "value": None, "state": "FAIL"}]},
        {"trials": [{"value": float("inf")}, {"value": 0.5}]},
        {"feature_importance": pd.Series({"a": 0.0, "b": np.nan})},
        {"folds": [{"train_start": None}]},
        {"folds": [{"metrics": {"accuracy": float("nan")}}]},
        {
            "folds": [
                {
                    "train_start": pd.Timestamp("2024-01-01", tz="UTC"),
                    "train_end": pd.Timestamp("2024-02-01", tz="UTC"),
                    "test_start": pd.Timestamp("2024-02-02", tz="UTC"),
                    "test_end": None,
                    "metrics": {"roc_auc": 0.6},
                }
            ]
        },
        {"backtest": {"profit_total": 0.1, "pairs": [{"key": "BTC/USDT", "trades": 3}]}},
        {"permutation": pd.Series({"a": -0.1, "b": np.nan})},
        {"shap": pd.Series({"a": 0.1})},
        {"contributions": None},
        {"contributions": pd.DataFrame({"rsi_5": [0.1]})},
        {"feature_values": pd.DataFrame({"other": [0.1]})},
        {"drift": replace(sample_report(1, 600).drift, recent=pd.Series({"a": np.nan}))},
        {"drift": replace(sample_report(1, 600).drift, usual=pd.Series(dtype=float), n_windows=0)},
        {"closes": None},
        {"closes": pd.DataFrame({"OTHER/USDT": [1.0]}, pd.date_range("2024", periods=1, tz="UTC"))},
        {"parameter_importance": None},
        {"folds": []},
        {"oos": None, "metrics": {}, "backtest": {}, "trades": None},
    ],
)
def test_scanty_data_still_makes_a_page(changes: dict[str, object], tmp_path: Path) -> None:
    report = replace(sample_report(n_pairs=1, n_candles=600), **changes)  # type: ignore[arg-type]
    figures_of(page_of(report, tmp_path))
    for section in build_sections(report):
        for block in section.blocks:
            if isinstance(block, Chart):
                assert block.figure is not None or block.note.endswith("."), block.key
