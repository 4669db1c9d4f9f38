"""The page's section about live predictions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from freqtrade_mlpipe.monitoring.checks import Reading
from freqtrade_mlpipe.monitoring.looks import Look
from freqtrade_mlpipe.reports import ReportData, render_report
from freqtrade_mlpipe.reports.live import drift_over_time, live_sections

START = pd.Timestamp("2026-01-01", tz="UTC")


def look(day: int, value: float) -> Look:
    state = "bad" if value > 1 else "ok"
    readings = (
        Reading("feature drift (PSI)", "features", state, value, 1.0, 240, "It <b>moved</b>."),  # type: ignore[arg-type]
        Reading("feature drift (KS)", "features", "ok", 0.1, 1.0, 240, "Not much."),
        Reading(
            "loss", "outcomes", "waiting", float("nan"), float("nan"), 3, "3 of 228 rows are there."
        ),
    )
    return Look(START + pd.Timedelta(days=day), readings)


def test_without_looks_there_is_no_section():
    assert live_sections(()) == []


def test_the_worst_check_of_a_family_is_drawn_over_time():
    figure = drift_over_time([look(0, 0.4), look(1, 1.6)]).figure
    assert figure is not None
    (trace,) = figure["data"]
    assert (trace["name"], trace["y"]) == ("features", [0.4, 1.6])


def test_the_page_shows_every_check_and_escapes_it(tmp_path: Path):
    report = ReportData(title="m", verdict=["v"])
    without = render_report(report, tmp_path / "a.html").read_text()
    assert "Since it trades" not in without
    page = render_report(replace(report, looks=[look(0, 0.4), look(1, 1.6)]), tmp_path / "b.html")
    text = page.read_text()
    assert "Since it trades" in text
    assert "3 of 228 rows are there." in text
    assert "<b>moved</b>" not in text
