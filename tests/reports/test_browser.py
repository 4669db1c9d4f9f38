"""The page opened in a real browser: every chart drawn, no error, no request."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from freqtrade_mlpipe.reports import ReportData, render_report
from tests.reports.sample import sample_report

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine"),
]


def opened(page: Path, folder: Path, width: int, *more: str) -> tuple[str, str]:
    """The document after its scripts ran, and what the browser logged."""
    done = subprocess.run(
        [
            str(CHROMIUM),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={folder / 'profile'}",
            f"--window-size={width},900",
            "--enable-logging=stderr",
            "--virtual-time-budget=10000",
            *more,
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout, "\n".join(x for x in done.stderr.splitlines() if "CONSOLE" in x)


@pytest.mark.parametrize("width", [390, 1280])
def test_every_chart_is_drawn_without_an_error(width: int, tmp_path: Path) -> None:
    page = render_report(sample_report(n_pairs=3, n_candles=3000), tmp_path / "page.html")
    document, console = opened(page, tmp_path, width)
    assert console == ""
    charts = re.findall(r'<div class="chart[^"]*"[^>]*data-figure="([\w-]+)"', document)
    assert len(charts) == 10
    assert len(re.findall(r'<div class="plot-container', document)) == 10


def test_an_empty_report_opens_without_an_error(tmp_path: Path) -> None:
    page = render_report(ReportData("Nothing", "Nothing yet."), tmp_path / "page.html")
    document, console = opened(page, tmp_path, 390)
    assert console == ""
    assert "plot-container" not in document.split('id="plotly"')[0]


def test_a_request_would_be_refused_and_seen(tmp_path: Path) -> None:
    page = render_report(ReportData("Nothing", "Nothing yet."), tmp_path / "page.html")
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("<main>", '<main><img src="http://127.0.0.1:9/x.png">', 1))
    _, console = opened(page, tmp_path, 390)
    assert "Content Security Policy" in console
