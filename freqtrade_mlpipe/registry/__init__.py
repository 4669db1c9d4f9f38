"""The model registry: safe bundles, their life cycle, the gates and the bot's cache."""

from freqtrade_mlpipe.registry.baseline import drift_baseline
from freqtrade_mlpipe.registry.bundle import Bundle, BundleContent, write_bundle
from freqtrade_mlpipe.registry.cache import BundleCache, ResolvedVersion
from freqtrade_mlpipe.registry.comparison import Contender, Verdict, VersionComparison, compare
from freqtrade_mlpipe.registry.contention import RegistryUnavailableError
from freqtrade_mlpipe.registry.custom_gates import CustomGate, load_custom_gates
from freqtrade_mlpipe.registry.evidence import (
    BacktestSummary,
    Comparison,
    Evidence,
    Finding,
)
from freqtrade_mlpipe.registry.gates import run_gates
from freqtrade_mlpipe.registry.ledger import LedgerEntry
from freqtrade_mlpipe.registry.loading import load_bundle
from freqtrade_mlpipe.registry.manifest import Manifest
from freqtrade_mlpipe.registry.record import Record
from freqtrade_mlpipe.registry.report import Check, GateReport
from freqtrade_mlpipe.registry.saving import save_model
from freqtrade_mlpipe.registry.selftest import SelfTest, selftest_from_candles, selftest_from_rows
from freqtrade_mlpipe.registry.signing import generate_key
from freqtrade_mlpipe.registry.store import ModelRegistry
from freqtrade_mlpipe.registry.upkeep import Problem, Prunable
from freqtrade_mlpipe.registry.verification import copy_bundle, verify_bundle
from freqtrade_mlpipe.registry.versions import ModelStatus, ModelVersion

__all__ = [
    "BacktestSummary",
    "Bundle",
    "BundleCache",
    "BundleContent",
    "Check",
    "Comparison",
    "Contender",
    "CustomGate",
    "Evidence",
    "Finding",
    "GateReport",
    "LedgerEntry",
    "Manifest",
    "ModelRegistry",
    "ModelStatus",
    "ModelVersion",
    "Problem",
    "Prunable",
    "Record",
    "RegistryUnavailableError",
    "ResolvedVersion",
    "SelfTest",
    "Verdict",
    "VersionComparison",
    "compare",
    "copy_bundle",
    "drift_baseline",
    "generate_key",
    "load_bundle",
    "load_custom_gates",
    "run_gates",
    "save_model",
    "selftest_from_candles",
    "selftest_from_rows",
    "verify_bundle",
    "write_bundle",
]
