"""The page opened in a real browser: every chart drawn, no error, no request, nothing cut off."""

from __future__ import annotations

from pathlib import Path

import pytest

from freqtrade_mlpipe.reports import ReportData, render_report
from tests.reports.browser import CHROMIUM, Opened, open_page
from tests.reports.sample import sample_report

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine"),
]

N_CHARTS = 19


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("full")
    return render_report(sample_report(n_pairs=3, n_candles=3000), folder / "page.html")


def quiet(found: Opened) -> bool:
    """Nothing on the console, and nothing asked for but the page itself."""
    away = [url for url in found.requests if not url.startswith(("file:", "data:", "blob:"))]
    return not found.console and not away and found.requests[0].startswith("file:")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_every_chart_is_drawn_within_the_window_without_an_error(
    width: int, dark: bool, full: Path, tmp_path: Path
) -> None:
    found = open_page(full, tmp_path, width=width, dark=dark)
    assert quiet(found), (found.console, found.requests)
    assert found.overflowing == []
    assert len(found.charts) == N_CHARTS
    for chart in found.charts:
        assert chart["marks"] > 0, chart
        assert 250 <= chart["width"] <= width, chart
        assert chart["height"] >= 250, chart
        assert any(chart["titles"]), chart


def test_the_scheme_of_the_reader_colours_page_and_charts(full: Path, tmp_path: Path) -> None:
    look = (
        "getComputedStyle(document.body).backgroundColor",
        "getComputedStyle(document.querySelector('#block-roc path.js-line')).stroke",
    )
    light, dark = (
        open_page(full, tmp_path / str(scheme), dark=scheme, evaluate=look).values
        for scheme in (False, True)
    )
    assert light == ["rgb(255, 255, 255)", "rgb(0, 103, 168)"]
    assert dark == ["rgb(20, 23, 28)", "rgb(95, 179, 236)"]


def test_another_pair_can_be_chosen(full: Path, tmp_path: Path) -> None:
    title = "document.querySelector('#block-prices .gtitle, #block-prices .ytitle').textContent"
    points = "document.querySelector('#block-prices path.js-line').getAttribute('d')"
    choose = (
        "(() => { const menu = document.querySelector('[data-choose=prices]'); menu.value = '1';"
        "menu.dispatchEvent(new Event('change')); return menu.options.length; })()"
    )
    values = open_page(full, tmp_path, evaluate=(title, points, choose, points)).values
    assert values[0] == "Price (USDT)"
    assert values[2] == 3
    assert values[1] != values[3]


def test_it_prints_in_light_colours_whatever_the_screen_is(full: Path, tmp_path: Path) -> None:
    look = ("getComputedStyle(document.body).backgroundColor",)
    found = open_page(full, tmp_path, dark=True, media="print", evaluate=look)
    assert found.values == ["rgb(255, 255, 255)"]
    assert quiet(found)


def test_an_empty_report_opens_without_an_error(tmp_path: Path) -> None:
    page = render_report(ReportData("Nothing", ["Nothing yet."]), tmp_path / "page.html")
    found = open_page(page, tmp_path, width=390)
    assert quiet(found)
    assert found.charts == []
    assert found.overflowing == []


def test_a_request_would_be_refused_and_seen(tmp_path: Path) -> None:
    page = render_report(ReportData("Nothing", ["Nothing yet."]), tmp_path / "page.html")
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("<main>", '<main><img src="http://127.0.0.1:9/x.png">', 1))
    found = open_page(page, tmp_path, width=390)
    assert not quiet(found)
    assert any("Content Security Policy" in line for line in found.console)
