"""Experiments people can compare: one tracker, backends behind one protocol."""

from freqtrade_mlpipe.tracking.run import ActiveRun
from freqtrade_mlpipe.tracking.spool import unsent
from freqtrade_mlpipe.tracking.tracker import ExperimentTracker

__all__ = ["ActiveRun", "ExperimentTracker", "unsent"]
