"""One self-contained HTML page a trained version."""

from freqtrade_mlpipe.reports.data import ReportData
from freqtrade_mlpipe.reports.page import render_report

__all__ = ["ReportData", "render_report"]
