"""scikit-learn's random forest, kept as a skops file that is audited before it is used."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from freqtrade_mlpipe.config import Task
from freqtrade_mlpipe.exceptions import BundleError
from freqtrade_mlpipe.models.spec import (
    FitData,
    FittedModel,
    Matrix,
    ModelSpec,
    SearchRange,
    Vector,
    normalised,
)

# Never extended with what a file asks for: that would run whatever the file names.
TRUSTED_TYPES = ("sklearn.tree._tree.Tree",)
_EPOCH = (1980, 1, 1, 0, 0, 0)
_SCHEMA = "schema.json"
_LEVELS = 63
_FEW_ROWS = 8
# A forest's arrays unpack to 3 to 6 times the file.
_MAX_UNPACKED_BYTES, _MAX_UNPACKED_RATIO = 16 * 1024**2, 30
_BINARY, _THREE, _SHIFT = [0, 1], [2, 3, 4], 3
"""Class names in the file; three classes are shifted, so that two of them are not taken for a binary forest's."""
_DAMAGE = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ImportError,
    EOFError,
    OSError,
    NotImplementedError,
    RecursionError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)


class ForestModel:
    """A forest that predicts tree by tree on one thread: the same mean as scikit-learn's, without its set-up."""

    def __init__(self, forest: Any, raw: bytes | None = None) -> None:
        self._forest = forest
        self._raw = raw
        classes = _classes_of(forest)
        self._task = _task_of(classes)
        self._columns = [_THREE.index(name) for name in classes if self._task == "three_class"]
        leaf = {"binary": 1, "three_class": slice(None), "regression": 0}[self._task]
        self._trees = [
            (tree.tree_, np.ascontiguousarray(tree.tree_.value[:, 0, leaf]))
            for tree in forest.estimators_
        ]

    @cached_property
    def _table(self) -> _NodeTable:
        return _NodeTable(self._trees)

    @property
    def n_features(self) -> int:
        """Number of columns."""
        return int(self._forest.n_features_in_)

    @property
    def n_rounds(self) -> int:
        """Number of trees."""
        return len(self._trees)

    @property
    def task(self) -> Task:
        """What it was fitted for."""
        return self._task

    def predict_proba(self, X: Matrix) -> Vector:
        """Probability of class 1, shape (n,), or of each class, shape (n, 3), or values, shape (n,).

        A class it never saw has the probability 0.
        """
        if len(X) <= _FEW_ROWS:
            found = self._table.mean_share(X)
        else:
            total = np.zeros((len(X), *self._trees[0][1].shape[1:]))
            for tree, share in self._trees:
                total += share.take(tree.apply(X), axis=0)
            found = total / len(self._trees)
        if self._task != "three_class":
            return found
        proba = np.zeros((len(X), len(_THREE)))
        proba[:, self._columns] = found
        return proba

    def importance(self) -> Vector:
        """Mean decrease of impurity, shape (n_features,)."""
        return normalised(self._forest.feature_importances_)

    def contributions(self, X: Matrix) -> None:
        """scikit-learn has no TreeSHAP."""

    def to_bytes(self) -> bytes:
        """The skops file, with object numbers and time stamps that do not depend on the run."""
        if self._raw is None:
            import skops.io

            self._raw = _canonical(skops.io.dumps(self._forest))
        return self._raw


def _sides(trees: list[tuple[Any, Vector]], starts: NDArray[np.int64]) -> Iterator[tuple[Any, Any]]:
    """The right and left children of each tree's nodes, by their place in a table of all trees."""
    for (tree, _), start in zip(trees, starts, strict=True):
        yield tree.children_right + start, tree.children_left + start


class _NodeTable:
    """The nodes of all trees in one table: a few rows go down all trees at once.

    For one row this is several times as fast as scikit-learn's call for each tree, and the same to the last bit.
    """

    def __init__(self, trees: list[tuple[Any, Vector]]) -> None:
        sizes = [int(tree.node_count) for tree, _ in trees]
        starts = np.cumsum([0, *sizes[:-1]])
        self._roots = starts.astype(np.intp)
        self._share = np.concatenate([share for _, share in trees])
        leaf = np.concatenate([tree.children_left == -1 for tree, _ in trees])
        here = np.arange(len(leaf))
        self._feature = np.concatenate([tree.feature for tree, _ in trees]).astype(np.intp)
        self._feature[leaf] = 0
        self._threshold = np.concatenate([tree.threshold for tree, _ in trees])
        children = [
            np.where(leaf, here, np.concatenate(side)) for side in zip(*_sides(trees, starts), strict=True)
        ]  # fmt: skip
        self._children = np.column_stack(children).astype(np.intp).ravel()
        self._depth = self._levels(leaf)

    def _levels(self, leaf: NDArray[np.bool_]) -> int:
        """Steps from a root to the deepest leaf; the file's own word for it may be wrong."""
        level, depth = self._roots, 0
        while not leaf[level].all():
            inner = level[~leaf[level]]
            level = np.unique(self._children.reshape(-1, 2)[inner])
            depth += 1
        return depth

    def mean_share(self, X: Matrix) -> Vector:
        """Mean over the trees of what a row's leaf holds, added up in the order of the trees."""
        # scikit-learn compares float32 features with float64 thresholds.
        values = X.astype(np.float64).ravel()
        base = np.arange(len(X))[:, None] * X.shape[1]
        node = np.repeat(self._roots[None, :], len(X), axis=0)
        for _ in range(self._depth):
            left = values.take(self._feature.take(node) + base) <= self._threshold.take(node)
            node = self._children.take(2 * node + left)
        total: Vector = np.add.accumulate(self._share.take(node, axis=0), axis=1)[:, -1]
        return total / len(self._roots)


# Leaves are a share of a tree's rows: smaller trees of fewer rows, as while searching, have the shape of larger ones.
def _train(params: Mapping[str, Any], data: FitData, seed: int, patience: int) -> FittedModel:
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    settings = dict(params)
    leaf = float(settings.pop("min_leaf_fraction"))
    rows = round(float(settings["max_samples"]) * len(data.y))
    settings["max_samples"] = max(1, min(rows, int(settings.pop("max_rows"))))
    settings.setdefault("min_samples_leaf", max(3, round(leaf * settings["max_samples"])))
    kind = RandomForestRegressor if data.task == "regression" else RandomForestClassifier
    forest = kind(
        **settings, bootstrap=True, n_jobs=1, random_state=seed, monotonic_cst=data.monotone
    )
    if "forest" not in data.native:
        data.native["forest"] = _coarse(data.X)
    X = data.native["forest"]
    shift = _SHIFT if data.task == "three_class" else 0
    y = data.y if data.task == "regression" else data.y.astype(np.int64) + shift
    return ForestModel(forest.fit(X, y, sample_weight=data.weight))


def _coarse(X: Matrix) -> Matrix:
    """Each column with at most `_LEVELS` values: the mean of each quantile bin.

    Sorting few distinct values halves the time of a fit; the thresholds stay on the scale of `X`.
    """
    coarse = np.empty_like(X)
    for k in range(X.shape[1]):
        column = X[:, k]
        edges = np.unique(np.quantile(column, np.arange(1, _LEVELS) / _LEVELS))
        bins = np.searchsorted(edges, column)
        sizes = np.bincount(bins, minlength=len(edges) + 1)
        means = np.bincount(bins, column, len(edges) + 1) / np.maximum(sizes, 1)
        coarse[:, k] = means[bins]
    return coarse


def _canonical(archive: bytes) -> bytes:
    """Rewrite a skops archive so that it depends on the object only.

    skops names objects and files by memory address and stamps them with the current time.
    """
    source = zipfile.ZipFile(io.BytesIO(archive))
    schema = json.loads(source.read(_SCHEMA))
    numbers: dict[int, int] = {}
    files: dict[str, str] = {}

    def rename(node: Any) -> None:
        if isinstance(node, list):
            for item in node:
                rename(item)
        elif isinstance(node, dict):
            if isinstance(node.get("__id__"), int):
                node["__id__"] = numbers.setdefault(node["__id__"], len(numbers))
            if isinstance(node.get("file"), str):
                old = node["file"]
                node["file"] = files.setdefault(old, f"{len(files)}{old[old.rfind('.') :]}")
            for value in node.values():
                rename(value)

    rename(schema)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for old, new in files.items():
            target.writestr(_entry(new), source.read(old))
        target.writestr(_entry(_SCHEMA), json.dumps(schema, separators=(",", ":")))
    return buffer.getvalue()


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3
    entry.external_attr = 0o600 << 16
    return entry


def _load(data: bytes) -> FittedModel:
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > _MAX_UNPACKED_BYTES + _MAX_UNPACKED_RATIO * len(data):
            raise BundleError(
                f"The forest file of {len(data)} bytes unpacks to {unpacked}: refused."
            )
        forest = skops.io.loads(data, trusted=list(TRUSTED_TYPES))
    except UntrustedTypesFoundException as error:
        raise BundleError(f"The forest file holds types that are never loaded: {error}") from error
    except _DAMAGE as error:
        raise BundleError(f"The forest file cannot be read: {error}") from error
    _audit(forest)
    return ForestModel(forest, data)


def _audit(forest: Any) -> None:
    """Check what scikit-learn's prediction takes for granted; it would crash or read foreign memory otherwise."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    trees = {
        RandomForestClassifier: DecisionTreeClassifier,
        RandomForestRegressor: DecisionTreeRegressor,
    }
    if type(forest) not in trees:
        raise BundleError(f"The forest file holds a {type(forest).__name__}, not a forest.")
    estimators = getattr(forest, "estimators_", None)
    n_features = getattr(forest, "n_features_in_", None)
    if not isinstance(estimators, list) or not estimators or not isinstance(n_features, int):
        raise BundleError("The forest file holds a forest that was never fitted.")
    classes = _classes_of(forest)
    if (_task_of(classes) == "regression") != (type(forest) is RandomForestRegressor):
        raise BundleError(
            f"The forest has classes {classes}, expected {_BINARY}, two or all of {_THREE}, or none of a regressor."
        )
    for number, estimator in enumerate(estimators):
        if type(estimator) is not trees[type(forest)]:
            raise BundleError(f"Tree {number} of the forest is a {type(estimator).__name__}.")
        problem = _tree_problem(getattr(estimator, "tree_", None), n_features, classes)
        if problem:
            raise BundleError(f"Tree {number} of the forest is damaged: {problem}.")


def _classes_of(forest: Any) -> list[int]:
    """Class names in a file, ascending; none of a regressor.

    Raises
    ------
    BundleError
        For names that no forest of ours has.
    """
    found = np.asarray(getattr(forest, "classes_", []))
    names: list[Any] = found.tolist()
    three = found.ndim == 1 and [name for name in _THREE if name in names] == names
    if names and names != _BINARY and not (three and len(names) >= 2):
        raise BundleError(
            f"The forest has classes {names}, expected {_BINARY} or two or all of {_THREE}."
        )
    return [int(name) for name in names]


def _task_of(classes: list[int]) -> Task:
    if not classes:
        return "regression"
    return "binary" if classes == _BINARY else "three_class"


def _tree_problem(tree: Any, n_features: int, classes: list[int]) -> str | None:
    from sklearn.tree._tree import Tree

    if type(tree) is not Tree:
        return "it has no node table"
    n = int(tree.node_count)
    if n < 1 or tree.n_features != n_features or tree.value.shape != (n, 1, max(1, len(classes))):
        return "its tables have the wrong shape"
    left, right = tree.children_left, tree.children_right
    inner = left != -1
    here = np.arange(n)
    if (
        np.any(inner != (right != -1))
        or np.any((left <= here)[inner])
        or np.any((right <= here)[inner])
        or np.any(left >= n)
        or np.any(right >= n)
    ):
        return "a branch does not lead forward"
    feature = tree.feature[inner]
    if np.any(feature < 0) or np.any(feature >= n_features):
        return "it splits on a column that does not exist"
    if not np.isfinite(tree.threshold).all() or not np.isfinite(tree.value).all():
        return "it holds numbers that are not finite"
    whole = np.allclose(tree.value.sum(axis=2), 1.0, atol=1e-6)
    if classes and (np.any(tree.value < 0) or not whole):
        return "its leaves do not hold probabilities"
    return None


SPEC = ModelSpec(
    name="random_forest",
    file_suffix=".skops",
    stops_early=False,
    defaults={
        "n_estimators": 100,
        "max_features": 0.5,
        "max_samples": 0.6,
        "max_rows": 10_000,
        "min_leaf_fraction": 0.01,
    },
    space={
        "max_features": SearchRange(0.2, 1.0),
        "min_leaf_fraction": SearchRange(0.004, 0.1, log=True),
    },
    other_parameters=frozenset(
        {
            "criterion",
            "max_depth",
            "min_samples_leaf",
            "min_samples_split",
            "min_impurity_decrease",
            "max_leaf_nodes",
            "ccp_alpha",
        }
    ),
    train=_train,
    load_native=_load,
    while_searching={"n_estimators": 20, "max_rows": 4_000},
)
