"""Machine learning for freqtrade: honest backtests, gated promotion, one-command rollback.

Public names load on first use, so that importing the package stays cheap.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "FeatureConfig": "freqtrade_mlpipe.config",
    "LabelConfig": "freqtrade_mlpipe.config",
    "ModelConfig": "freqtrade_mlpipe.config",
    "GateConfig": "freqtrade_mlpipe.config",
    "MLPipeConfig": "freqtrade_mlpipe.config",
    "MLPipeError": "freqtrade_mlpipe.exceptions",
    "FeatureEngineer": "freqtrade_mlpipe.features",
    "make_labels": "freqtrade_mlpipe.labels",
    "ModelTrainer": "freqtrade_mlpipe.trainer",
    "ExperimentTracker": "freqtrade_mlpipe.tracking",
    "ModelRegistry": "freqtrade_mlpipe.registry",
    "MLPipeMixin": "freqtrade_mlpipe.integration.strategy",
}

__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
