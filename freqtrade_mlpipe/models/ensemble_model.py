"""The mean of a forest, XGBoost and LightGBM, trained on the same rows: one file that holds their native files."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from freqtrade_mlpipe.config import Task
from freqtrade_mlpipe.exceptions import BundleError
from freqtrade_mlpipe.models import forest_model, lightgbm_model, xgboost_model
from freqtrade_mlpipe.models.spec import (
    FitData,
    FittedModel,
    Matrix,
    ModelSpec,
    Parameters,
    Vector,
)

_PARTS = {spec.name: spec for spec in (forest_model.SPEC, xgboost_model.SPEC, lightgbm_model.SPEC)}
_SHARED = "n_estimators"
_EPOCH = (1980, 1, 1, 0, 0, 0)


class EnsembleModel:
    """Fitted parts by name; every one has the same say."""

    def __init__(self, parts: Mapping[str, FittedModel]) -> None:
        self.parts = dict(parts)

    @property
    def n_features(self) -> int:
        """Number of columns."""
        return next(iter(self.parts.values())).n_features

    @property
    def n_rounds(self) -> int:
        """Number of trees of all parts."""
        return sum(part.n_rounds for part in self.parts.values())

    @property
    def task(self) -> Task:
        """What all parts were fitted for."""
        return next(iter(self.parts.values())).task

    def predict_proba(self, X: Matrix) -> Vector:
        """Mean probability of class 1, shape (n,), or of each class, shape (n, 3), or values, shape (n,)."""
        first, *others = self.parts.values()
        total = first.predict_proba(X)
        for part in others:
            total = total + part.predict_proba(X)
        return np.asarray(total / len(self.parts))

    def importance(self) -> Vector:
        """Mean share of the gain over the parts that split at all, shape (n_features,)."""
        shares = np.array([part.importance() for part in self.parts.values()])
        return np.asarray(shares.sum(axis=0) / max(1.0, float(np.round(shares.sum()))))

    def contributions(self, X: Matrix) -> None:
        """The forest has no TreeSHAP, so the mean has none."""

    def to_bytes(self) -> bytes:
        """An uncompressed zip of the native files, with time stamps that do not depend on the run."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            for name, part in self.parts.items():
                entry = zipfile.ZipInfo(_file(name), _EPOCH)
                entry.create_system = 3
                entry.external_attr = 0o600 << 16
                archive.writestr(entry, part.to_bytes())
        return buffer.getvalue()


def _file(name: str) -> str:
    return name + _PARTS[name].file_suffix


def _train(params: Mapping[str, Any], data: FitData, seed: int, patience: int) -> FittedModel:
    return EnsembleModel(
        {
            name: spec.train(_own(params, spec), data, seed, patience)
            for name, spec in _PARTS.items()
        }
    )


def _own(params: Mapping[str, Any], spec: ModelSpec) -> Parameters:
    """Parameters of a part: its defaults, then those with its name before a dot; `n_estimators` limits all parts."""
    own = dict(spec.defaults)
    own |= {k.partition(".")[2]: v for k, v in params.items() if k.startswith(f"{spec.name}.")}
    return own | {_SHARED: min(own[_SHARED], params[_SHARED])}


def _load(data: bytes) -> FittedModel:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if [entry.filename for entry in entries] != [_file(name) for name in _PARTS]:
                raise BundleError(
                    f"The ensemble file holds {', '.join(e.filename for e in entries) or 'nothing'}, "
                    f"expected {', '.join(map(_file, _PARTS))}."
                )
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise BundleError("The ensemble file is compressed; this package never writes one.")
            contents = [archive.read(entry) for entry in entries]
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, EOFError) as error:
        raise BundleError(f"The ensemble file cannot be read: {error}") from error
    parts = {
        name: spec.load_native(content)
        for (name, spec), content in zip(_PARTS.items(), contents, strict=True)
    }
    found = {part.n_features for part in parts.values()}
    if len(found) > 1:
        raise BundleError(f"The parts of the ensemble expect different columns: {sorted(found)}.")
    tasks = {part.task for part in parts.values()}
    if len(tasks) > 1:
        raise BundleError(f"The parts of the ensemble are of different tasks: {sorted(tasks)}.")
    return EnsembleModel(parts)


def _kept_rounds(model: FittedModel) -> Parameters:
    assert isinstance(model, EnsembleModel)
    return {f"{name}.{_SHARED}": part.n_rounds for name, part in model.parts.items()}


def _prefixed(attribute: str) -> dict[str, Any]:
    """The rows of all parts under names with the part's before a dot."""
    return {
        f"{name}.{key}": value
        for name, spec in _PARTS.items()
        for key, value in getattr(spec, attribute).items()
    }


_SEARCHED = ("num_leaves", "max_depth", "learning_rate", "min_leaf_fraction", "max_features")
"""What matters most of each part: the mean forgives the rest, and a search has few trials."""

SPEC = ModelSpec(
    name="ensemble",
    file_suffix=".zip",
    stops_early=True,
    defaults={
        _SHARED: max(int(spec.defaults[_SHARED]) for spec in _PARTS.values()),
        **_prefixed("defaults"),
    },
    space={
        name: searched
        for name, searched in _prefixed("space").items()
        if name.partition(".")[2] in _SEARCHED
    },
    other_parameters=frozenset(
        f"{name}.{key}" for name, spec in _PARTS.items() for key in spec.other_parameters
    ),
    train=_train,
    load_native=_load,
    while_searching=_prefixed("while_searching"),
    kept_rounds=_kept_rounds,
)
