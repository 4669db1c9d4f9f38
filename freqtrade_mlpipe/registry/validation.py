"""Judging a version by the gates, and keeping the verdict with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from freqtrade_mlpipe.config import GateConfig
from freqtrade_mlpipe.exceptions import RegistryError
from freqtrade_mlpipe.registry.catalogue import Catalogue
from freqtrade_mlpipe.registry.evidence import Evidence, evidence_from_metrics
from freqtrade_mlpipe.registry.gates import GATES, METRIC_GATES, Gate, run_gates
from freqtrade_mlpipe.registry.report import GateReport
from freqtrade_mlpipe.registry.versions import (
    REPORT_TAG,
    STATUS_TAG,
    ModelVersion,
    encode,
    plain_metrics,
    status_of,
)


def judge_metrics(
    chosen: ModelVersion,
    min_metrics: Mapping[str, float] | None,
    limits: Mapping[str, float | None],
    metrics: Mapping[str, float] | None,
    now: datetime,
) -> GateReport:
    """The report of the thresholds given, on the metrics registered with a version and newer ones.

    Parameters
    ----------
    limits
        Thresholds by the names of `GateConfig`; None: not judged.

    Raises
    ------
    RegistryError
        No threshold, or a metric that is no number.
    """
    if not min_metrics and all(limit is None for limit in limits.values()):
        raise RegistryError(
            "validate_model was given no threshold, and nothing cannot be passed. Give "
            "min_metrics, min_backtest_sharpe or another."
        )
    config = GateConfig.model_validate({"min_metrics": dict(min_metrics or {}), **limits})
    evidence = evidence_from_metrics({**chosen.metrics, **plain_metrics(metrics or {})})
    return run_gates(evidence, config, now, digest=chosen.digest, gates=METRIC_GATES)


def judge_evidence(
    catalogue: Catalogue,
    name: str,
    version: str,
    evidence: Evidence,
    config: GateConfig,
    custom_gates: Sequence[Gate],
    now: datetime,
) -> tuple[ModelVersion, GateReport]:
    """A version and the report of all gates on it; the use of its final window is counted."""
    state = catalogue.ledger(name).read()
    chosen = catalogue.find(name, version, state)
    if evidence.champion_version is None and state.production != chosen.version:
        evidence = replace(evidence, champion_version=state.production)
    if evidence.backtest and evidence.backtest.start and evidence.backtest.end:
        span = (evidence.backtest.start, evidence.backtest.end)
        uses = catalogue.count_use(name, chosen.version, span)
        evidence = replace(evidence, window_uses=uses)
    gates = (*GATES, *custom_gates)
    return chosen, run_gates(evidence, config, now, digest=chosen.digest, gates=gates)


def keep_report(catalogue: Catalogue, chosen: ModelVersion, report: GateReport) -> GateReport:
    """Keep a report, and the status that follows from it, as tags of the version; the report.

    Raises
    ------
    BundleError
        The store does not hold what was judged.
    """
    catalogue.check_stored(chosen)
    connection = catalogue.connection
    connection.set_tag(chosen.name, chosen.version, REPORT_TAG, encode(report.to_dict()))
    status = status_of(chosen.version, report, catalogue.ledger(chosen.name).read())
    connection.set_tag(chosen.name, chosen.version, STATUS_TAG, status.value)
    return report
