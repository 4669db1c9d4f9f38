"""One self-contained HTML page a trained version."""

from freqtrade_mlpipe.reports.data import Drift, ReportData
from freqtrade_mlpipe.reports.page import render_report

__all__ = ["Drift", "ReportData", "render_report"]
