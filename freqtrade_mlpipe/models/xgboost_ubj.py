"""Checks an XGBoost UBJSON file before XGBoost's own parser sees it.

That parser trusts counts and branches, and prediction walks whatever tree it was given. The file is
read here by a bounded reader of the few UBJSON types XGBoost writes, and each tree must be a tree.
Formats: ubjson.org; XGBoost's doc/model.schema.
"""

from __future__ import annotations

import re
import struct
from typing import Any

import numpy as np

from freqtrade_mlpipe.exceptions import BundleError

_MAX_DEPTH = 12
_NO_PARENT = (2**31 - 1, -1)
_SCALARS = {b"i": ">b", b"U": ">B", b"I": ">h", b"l": ">i", b"L": ">q", b"d": ">f", b"D": ">d"}
_ARRAYS = {b"i": "i1", b"U": "u1", b"I": ">i2", b"l": ">i4", b"L": ">i8", b"d": ">f4", b"D": ">f8"}
_LEARNER = {
    "attributes", "feature_names", "feature_types", "gradient_booster", "learner_model_param",
    "objective",
}  # fmt: skip
_PER_NODE = (
    "base_weights", "default_left", "left_children", "loss_changes", "parents", "right_children",
    "split_conditions", "split_indices", "split_type", "sum_hessian",
)  # fmt: skip
_CATEGORIES = ("categories", "categories_nodes", "categories_segments", "categories_sizes")
_INTEGERS = ("default_left", "left_children", "parents", "right_children", "split_indices",
             "split_type")  # fmt: skip


def check_xgboost_ubj(data: bytes) -> None:
    """Refuse `data` unless XGBoost's parser and prediction can be trusted with it.

    Raises
    ------
    BundleError
        Not a two-class tree model without categorical splits, as XGBoost writes it.
    """
    try:
        _check_model(_Reader(data).document())
    except (KeyError, TypeError, ValueError, AttributeError, struct.error) as error:
        raise _refused(f"{type(error).__name__}: {str(error)[:100]}") from error


class _Reader:
    """UBJSON with counts on every array, nothing nested deep, nothing beyond the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def document(self) -> Any:
        found = self._value(self._take(1), 0)
        if self._at != len(self._data):
            raise _refused("something follows its end")
        return found

    def _take(self, n: int) -> bytes:
        if not 0 <= n <= len(self._data) - self._at:
            raise _refused("it is cut short")
        self._at += n
        return self._data[self._at - n : self._at]

    def _scalar(self, kind: bytes) -> int | float:
        form = _SCALARS[kind]
        number: int | float = struct.unpack(form, self._take(struct.calcsize(form)))[0]
        return number

    def _count(self) -> int:
        if self._take(1) != b"L":
            raise _refused("a count is missing")
        return int(self._scalar(b"L"))

    def _text(self) -> str:
        n = int(self._scalar(b"L"))
        return self._take(n).decode("ascii")

    def _value(self, kind: bytes, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise _refused("it is nested too deep")
        if kind == b"{":
            return self._object(depth)
        if kind == b"[":
            return self._array(depth)
        if kind == b"S":
            if self._take(1) != b"L":
                raise _refused("a text has no length")
            return self._text()
        return self._scalar(kind)

    def _object(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while (mark := self._take(1)) != b"}":
            if mark != b"L":
                raise _refused("a name has no length")
            name = self._text()
            if name in found:
                raise _refused(f"{name[:40]!r} is there twice")
            found[name] = self._value(self._take(1), depth + 1)
        return found

    def _array(self, depth: int) -> Any:
        mark = self._take(1)
        if mark == b"$":
            kind = self._take(1)
            form = np.dtype(_ARRAYS[kind])
            if self._take(1) != b"#":
                raise _refused("an array has no count")
            n = self._count()
            return np.frombuffer(self._take(n * form.itemsize), form)
        if mark != b"#":
            raise _refused("an array has no count")
        n = self._count()
        if not 0 <= n <= len(self._data) - self._at:
            raise _refused("an array is longer than the file")
        return [self._value(self._take(1), depth + 1) for _ in range(n)]


def _check_model(model: dict[str, Any]) -> None:
    _require(set(model) == {"learner", "version"}, "it is not an XGBoost model")
    _require(_whole(model["version"]) and len(model["version"]) == 3, "its version is damaged")
    learner = model["learner"]
    _require(set(learner) == _LEARNER, "its learner is damaged")
    texts = learner["attributes"]
    _require(all(type(value) is str for value in texts.values()), "its attributes are damaged")
    _require(len(learner["feature_names"]) == len(learner["feature_types"]) == 0, "it has names")
    _require(learner["objective"]["name"] == "binary:logistic", "it has another objective")
    weight = learner["objective"]["reg_loss_param"]
    _require(set(learner["objective"]) == {"name", "reg_loss_param"}, "its objective is damaged")
    _require(set(weight) == {"scale_pos_weight"}, "its objective is damaged")
    _require(_is_number(weight["scale_pos_weight"]), "its objective is damaged")
    n_features = _check_parameters(learner["learner_model_param"])
    booster = learner["gradient_booster"]
    _require(set(booster) == {"model", "name"} and booster["name"] == "gbtree", "no tree booster")
    _check_trees(booster["model"], n_features)


def _check_parameters(values: dict[str, Any]) -> int:
    _require(
        set(values)
        == {"base_score", "boost_from_average", "num_class", "num_feature", "num_target"},
        "its parameters are damaged",
    )
    score = values["base_score"].removeprefix("[").removesuffix("]")
    _require(_is_number(score), "its base score is damaged")
    _require(values["num_class"] == "0" and values["num_target"] == "1", "it has other classes")
    _require(values["boost_from_average"] in ("0", "1"), "its parameters are damaged")
    return _digits(values["num_feature"])


def _check_trees(model: dict[str, Any], n_features: int) -> None:
    known = {"cats", "gbtree_model_param", "iteration_indptr", "tree_info", "trees"}
    _require(known - {"cats"} <= set(model) <= known, "its booster is damaged")
    for values in model.get("cats", {}).values():
        _require(len(values) == 0, "it has categories")
    trees, sizes = model["trees"], model["gbtree_model_param"]
    _require(set(sizes) == {"num_parallel_tree", "num_trees"}, "its booster is damaged")
    _require(sizes["num_parallel_tree"] == "1", "it has parallel trees")
    _require(type(trees) is list and _digits(sizes["num_trees"]) == len(trees), "trees are missing")
    _require(list(model["tree_info"]) == [0] * len(trees), "its trees are of other classes")
    _require(
        list(model["iteration_indptr"]) == list(range(len(trees) + 1)), "its rounds are damaged"
    )
    for number, tree in enumerate(trees):
        problem = _tree_problem(tree, number, n_features)
        _require(problem is None, f"in tree {number} {problem}")


def _tree_problem(tree: dict[str, Any], number: int, n_features: int) -> str | None:
    if set(tree) != {*_PER_NODE, *_CATEGORIES, "id", "tree_param"} or tree["id"] != number:
        return "the tables are other ones"
    if any(len(tree[name]) for name in _CATEGORIES):
        return "a split is by category"
    size = tree["tree_param"]
    if set(size) != {"num_deleted", "num_feature", "num_nodes", "size_leaf_vector"}:
        return "the sizes are other ones"
    n = _digits(size["num_nodes"])
    n_deleted, n_own = _digits(size["num_deleted"]), _digits(size["num_feature"])
    if n < 1 or n_own != n_features or size["size_leaf_vector"] not in ("0", "1"):
        return "the sizes are other ones"
    for name in _PER_NODE:
        values = tree[name]
        if not isinstance(values, np.ndarray) or len(values) != n:
            return f"{name} does not have a value for each node"
        if name in _INTEGERS and values.dtype.kind not in "iu":
            return f"{name} does not hold whole numbers"
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            return f"{name} is not finite"
    return _branch_problem(
        {name: np.asarray(tree[name]) for name in _PER_NODE}, n_features, n_deleted
    )


def _branch_problem(tree: dict[str, Any], n_features: int, n_deleted: int) -> str | None:
    left, right = (tree[name].astype(np.int64) for name in ("left_children", "right_children"))
    n, here = len(left), np.arange(len(left))
    inner = left != -1
    if np.any(inner != (right != -1)):
        return "a node has one branch"
    for child in (left[inner], right[inner]):
        if np.any(child <= here[inner]) or np.any(child >= n):
            return "a branch does not lead forward"
    children = np.concatenate([left[inner], right[inner]])
    if len(np.unique(children)) != len(children) or len(children) != n - 1 - n_deleted:
        return "branches do not reach every node once"
    parents = tree["parents"].astype(np.int64)
    if np.any(parents[children] != np.tile(here[inner], 2)) or parents[0] not in _NO_PARENT:
        return "parents and branches differ"
    used = tree["split_indices"][inner]
    if np.any(used < 0) or np.any(used >= n_features):
        return "a split is on a column that does not exist"
    if np.any(tree["split_type"] != 0) or not np.isin(tree["default_left"], (0, 1)).all():
        return "a split is of an unknown kind"
    return None


def _whole(values: Any) -> bool:
    return type(values) is list and all(type(value) is int for value in values)


def _digits(text: str) -> int:
    _require(re.fullmatch(r"[0-9]{1,9}", text) is not None, f"a size is {text[:40]!r}")
    return int(text)


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"-?[0-9]{1,20}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?", text))


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise _refused(problem)


def _refused(problem: str) -> BundleError:
    return BundleError(f"The XGBoost model file cannot be read: {problem}. Get the bundle again.")
