"""Experiments people can compare: one tracker, backends behind one protocol."""

from freqtrade_mlpipe.tracking.tracker import ActiveRun, ExperimentTracker

__all__ = ["ActiveRun", "ExperimentTracker"]
