"""The estimators: one module and one table row each.

Adding an estimator is a module with a `SPEC` and its line in `MODELS`.
"""

from collections.abc import Mapping
from types import MappingProxyType

from freqtrade_mlpipe.models import (
    ensemble_model,
    forest_model,
    lightgbm_model,
    xgboost_model,
)
from freqtrade_mlpipe.models.spec import FitData, FittedModel, ModelSpec, Parameters, SearchRange

MODELS: Mapping[str, ModelSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            forest_model.SPEC,
            xgboost_model.SPEC,
            lightgbm_model.SPEC,
            ensemble_model.SPEC,
        )
    }
)

__all__ = ["MODELS", "FitData", "FittedModel", "ModelSpec", "Parameters", "SearchRange"]
