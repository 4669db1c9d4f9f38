"""What monitoring found since a version trades: drawn when there is anything."""

from __future__ import annotations

from collections.abc import Sequence

from freqtrade_mlpipe.monitoring.looks import Look
from freqtrade_mlpipe.reports.blocks import Chart, Section, Table, axis, number

_SHARE = "value / limit"


def live_sections(looks: Sequence[Look]) -> list[Section]:
    """The section about live predictions; none without a look."""
    if not looks:
        return []
    last = looks[-1]
    bad = sorted(last.bad)
    sentence = (
        f"Bad in the window until {last.at:%Y-%m-%d %H:%M} UTC: {', '.join(bad)}." if bad else ""
    )
    return [
        Section("live", "Since it trades", [drift_over_time(looks), checks_table(last)], sentence)
    ]


def drift_over_time(looks: Sequence[Look]) -> Chart:
    """The worst check of each family at each look, as a share of its limit."""
    shares: dict[str, dict[str, float]] = {}
    for look in looks:
        for reading in look.readings:
            if reading.limit > 0 and reading.value == reading.value:
                series = shares.setdefault(reading.family, {})
                at = f"{look.at:%Y-%m-%d %H:%M}"
                series[at] = max(series.get(at, 0.0), reading.value / reading.limit)
    title = "How far is it from the limits?"
    if not shares:
        return Chart("live-drift", title, note="No check has had enough rows yet.")
    traces = [
        {"type": "scatter", "mode": "lines+markers", "name": family, "x": list(series),
         "y": [round(value, 4) for value in series.values()]}
        for family, series in shares.items()
    ]  # fmt: skip
    layout = {
        "xaxis": axis("Window until (UTC)", type="date"),
        "yaxis": axis(_SHARE, rangemode="tozero"),
    }
    note = "The worst check of each family. Beyond 1 a window is bad; several bad ones in a row are an alarm."
    return Chart("live-drift", title, {"data": traces, "layout": layout}, note)


def checks_table(look: Look) -> Table:
    """Every check of one look."""
    rows = [
        [r.check, r.state, number(r.value), number(r.limit), number(r.n), r.sentence]
        for r in look.readings
    ]
    columns = ["Check", "State", "Value", "Limit", "Rows", "What it says"]
    return Table(f"Checks of the window until {look.at:%Y-%m-%d %H:%M} UTC", columns, rows)
