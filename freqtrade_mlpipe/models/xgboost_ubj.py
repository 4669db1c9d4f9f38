"""Checks an XGBoost UBJSON file before XGBoost's own parser sees it.

That parser trusts counts and branches, and prediction walks whatever tree it was given. The file is
read here by a bounded reader of the few UBJSON types XGBoost writes, and each tree must be a tree. A
tree takes microseconds: its tables have a fixed order, and those of all trees are checked at once.
Formats: ubjson.org; XGBoost's doc/model.schema; objects are written in the order of their names.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from functools import lru_cache
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from freqtrade_mlpipe.exceptions import BundleError

_MAX_DEPTH = 12
_NO_PARENT = (2**31 - 1, -1)
_SCALARS = {b"i": ">b", b"U": ">B", b"I": ">h", b"l": ">i", b"L": ">q", b"d": ">f", b"D": ">d"}
_ARRAYS = {b"i": "i1", b"U": "u1", b"I": ">i2", b"l": ">i4", b"L": ">i8", b"d": ">f4", b"D": ">f8"}
_WIDTHS = {kind: np.dtype(form).itemsize for kind, form in _ARRAYS.items()}
_OBJECTIVES = {
    "binary:logistic": ("reg_loss_param", "scale_pos_weight", 1),
    "multi:softprob": ("softmax_multiclass_param", "num_class", 3),
    "reg:squarederror": ("reg_loss_param", "scale_pos_weight", 1),
}
"""Name → its block of parameters, the one in it, and trees a round."""
_LEARNER = {
    "attributes", "feature_names", "feature_types", "gradient_booster", "learner_model_param",
    "objective",
}  # fmt: skip
_CATEGORIES = ("categories", "categories_nodes", "categories_segments", "categories_sizes")
_TABLES = {
    "base_weights": b"d", "categories": b"l", "categories_nodes": b"l", "categories_segments": b"L",
    "categories_sizes": b"L", "default_left": b"U", "id": b"", "left_children": b"l", "loss_changes": b"d",
    "parents": b"l", "right_children": b"l", "split_conditions": b"d", "split_indices": b"l", "split_type": b"U",
    "sum_hessian": b"d",
}  # fmt: skip
_USED = ("default_left", "left_children", "parents", "right_children", "split_conditions",
         "split_indices", "split_type")  # fmt: skip


def _named(name: str, then: bytes) -> bytes:
    return b"L" + struct.pack(">q", len(name)) + name.encode() + then


def _size(name: str) -> bytes:
    return re.escape(_named(name, b"SL")) + rb"\x00{7}([\x01-\x09])([0-9]{1,9})"


_FIRST, _NUMBER = b"{" + _named("base_weights", b"[$d#L"), _named("id", b"")
_SIZES = re.compile(
    re.escape(_named("tree_param", b"{"))
    + b"".join(map(_size, ("num_deleted", "num_feature", "num_nodes", "size_leaf_vector")))
    + rb"\}\}"
)


@dataclass
class _Trees:
    """The tables in use of each tree, in the order of `_USED`, and the sizes it says it has."""

    tables: list[tuple[bytes, ...]] = field(default_factory=list)
    n_nodes: list[int] = field(default_factory=list)
    n_deleted: list[int] = field(default_factory=list)
    n_features: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.n_nodes)

    def table(self, name: str) -> NDArray[Any]:
        """One table of all trees."""
        column = map(itemgetter(_USED.index(name)), self.tables)
        values = np.frombuffer(b"".join(column), _ARRAYS[_TABLES[name]])
        return values if values.dtype.kind == "f" else values.astype(np.int64)


def check_xgboost_ubj(data: bytes) -> None:
    """Refuse `data` unless XGBoost's parser and prediction can be trusted with it.

    Raises
    ------
    BundleError
        Not a tree model of two or three classes or of values, without categorical splits, as XGBoost writes it.
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
            found[name] = (
                self._trees() if name == "trees" else self._value(self._take(1), depth + 1)
            )
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

    def _trees(self) -> _Trees:
        if self._take(2) != b"[#":
            raise _refused("its trees have no count")
        trees = _Trees()
        for number in range(self._count()):
            self._tree(number, trees)
        return trees

    def _tree(self, number: int, trees: _Trees) -> None:
        n_nodes = self._n_nodes(number)
        front, back = _layouts(n_nodes)
        numbers = front.read(self._data, self._at)
        self._at += front.heads.size
        if self._take(len(_NUMBER)) != _NUMBER or self._scalar(self._take(1)) != number:
            raise _refused(f"tree {number} has the number of another one")
        numbers += back.read(self._data, self._at)
        self._at += back.heads.size
        sizes = _SIZES.match(self._data, self._at)
        if sizes is None or any(sizes[k][0] != len(sizes[k + 1]) for k in (1, 3, 5, 7)):
            raise _refused(f"the sizes of tree {number} are damaged")
        self._at = sizes.end()
        if int(sizes[6]) != n_nodes or n_nodes < 1 or sizes[8] not in (b"0", b"1"):
            raise _refused(f"tree {number} is not as large as it says")
        trees.tables.append(numbers)
        trees.n_nodes.append(n_nodes)
        trees.n_deleted.append(int(sizes[2]))
        trees.n_features.append(int(sizes[4]))

    def _n_nodes(self, number: int) -> int:
        """What the first table of a tree says; every other must say the same."""
        at = self._at + len(_FIRST)
        if not self._data.startswith(_FIRST, self._at):
            raise _refused(f"tree {number} does not begin as a tree")
        n = int.from_bytes(self._data[at : at + 8], "big", signed=True)
        if not 0 <= n <= len(self._data) - self._at:
            raise _refused(f"tree {number} is longer than the file")
        return n


@dataclass(frozen=True)
class _Layout:
    """Neighbouring tables of a tree of some size: the bytes before each, and the numbers of those in use."""

    expected: tuple[bytes, ...]
    heads: struct.Struct
    numbers: struct.Struct

    def read(self, data: bytes, at: int) -> tuple[bytes, ...]:
        """The numbers of each table in use, in the order of `_USED`."""
        if self.heads.size > len(data) - at:
            raise _refused("it is cut short")
        if self.heads.unpack_from(data, at) != self.expected:
            raise _refused("the tables of a tree are damaged")
        return self.numbers.unpack_from(data, at)


@lru_cache(maxsize=512)
def _layouts(n_nodes: int) -> tuple[_Layout, _Layout]:
    """Of a tree of that many nodes: the tables before its number, and those after it."""
    names = list(_TABLES)
    at = names.index("id")
    return _layout(b"{", names[:at], n_nodes), _layout(b"", names[at + 1 :], n_nodes)


def _layout(first: bytes, names: list[str], n_nodes: int) -> _Layout:
    expected, heads, numbers = [], ">", ">"
    for name in names:
        n = 0 if name in _CATEGORIES else n_nodes
        head = first + _named(name, b"[$" + _TABLES[name] + b"#L") + struct.pack(">q", n)
        body = n * _WIDTHS[_TABLES[name]]
        expected.append(head)
        heads += f"{len(head)}s{body}x"
        numbers += f"{len(head)}x{body}{'s' if name in _USED else 'x'}"
        first = b""
    return _Layout(tuple(expected), struct.Struct(heads), struct.Struct(numbers))


def _check_model(model: dict[str, Any]) -> None:
    _require(set(model) == {"learner", "version"}, "it is not an XGBoost model")
    _require(_whole(model["version"]) and len(model["version"]) == 3, "its version is damaged")
    learner = model["learner"]
    _require(set(learner) == _LEARNER, "its learner is damaged")
    texts = learner["attributes"]
    _require(all(type(value) is str for value in texts.values()), "its attributes are damaged")
    _require(len(learner["feature_names"]) == len(learner["feature_types"]) == 0, "it has names")
    n_classes = _check_objective(learner["objective"])
    n_features = _check_parameters(learner["learner_model_param"], n_classes)
    booster = learner["gradient_booster"]
    _require(set(booster) == {"model", "name"} and booster["name"] == "gbtree", "no tree booster")
    _check_trees(booster["model"], n_features, n_classes)


def _check_objective(values: dict[str, Any]) -> int:
    """Number of trees a round: 1, or one for each of three classes."""
    _require(values["name"] in _OBJECTIVES, "it has another objective")
    own, parameter, n_classes = _OBJECTIVES[values["name"]]
    _require(set(values) == {"name", own}, "its objective is damaged")
    _require(set(values[own]) == {parameter}, "its objective is damaged")
    text = values[own][parameter]
    whole = n_classes == 1 or text == str(n_classes)
    _require(_is_number(text) and whole, "its objective is damaged")
    return n_classes


def _check_parameters(values: dict[str, Any], n_classes: int) -> int:
    _require(
        set(values)
        == {"base_score", "boost_from_average", "num_class", "num_feature", "num_target"},
        "its parameters are damaged",
    )
    scores = values["base_score"].removeprefix("[").removesuffix("]").split(",")
    _require(len(scores) in (1, n_classes), "its base score is damaged")
    _require(all(map(_is_number, scores)), "its base score is damaged")
    classes = "0" if n_classes == 1 else str(n_classes)
    _require(values["num_class"] == classes and values["num_target"] == "1", "it has other classes")
    _require(values["boost_from_average"] in ("0", "1"), "its parameters are damaged")
    return _digits(values["num_feature"])


def _check_trees(model: dict[str, Any], n_features: int, n_classes: int) -> None:
    known = {"cats", "gbtree_model_param", "iteration_indptr", "tree_info", "trees"}
    _require(known - {"cats"} <= set(model) <= known, "its booster is damaged")
    for values in model.get("cats", {}).values():
        _require(len(values) == 0, "it has categories")
    trees, sizes = model["trees"], model["gbtree_model_param"]
    _require(set(sizes) == {"num_parallel_tree", "num_trees"}, "its booster is damaged")
    _require(sizes["num_parallel_tree"] == "1", "it has parallel trees")
    _require(
        type(trees) is _Trees and _digits(sizes["num_trees"]) == len(trees), "trees are missing"
    )
    class_of = [number % n_classes for number in range(len(trees))]
    _require(list(model["tree_info"]) == class_of, "its trees are of other classes")
    rounds = list(range(0, len(trees) + 1, n_classes))
    whole = len(trees) % n_classes == 0
    _require(whole and list(model["iteration_indptr"]) == rounds, "its rounds are damaged")
    if len(trees):
        problem = _problem(trees, n_features)
        _require(problem is None, str(problem))


def _problem(trees: _Trees, n_features: int) -> str | None:
    """What is wrong with the trees."""
    sizes = np.array(trees.n_nodes)
    first = np.cumsum(sizes) - sizes
    tree = np.repeat(np.arange(len(sizes)), sizes)
    here = np.arange(len(tree)) - first[tree]
    left, right = trees.table("left_children"), trees.table("right_children")
    inner = left != -1
    if np.any(inner != (right != -1)):
        return "a node has one branch"
    child = np.concatenate([left[inner], right[inner]])
    of, parent = np.tile(tree[inner], 2), np.tile(here[inner], 2)
    if np.any(child <= parent) or np.any(child >= sizes[of]):
        return "a branch does not lead forward"
    reached = first[of] + child
    if np.any(np.bincount(reached, minlength=1) > 1):
        return "two branches lead to the same node"
    if np.any(np.bincount(of, minlength=len(sizes)) != sizes - 1 - np.array(trees.n_deleted)):
        return "branches do not reach every node"
    parents = trees.table("parents")
    if np.any(parents[reached] != parent) or not np.isin(parents[first], _NO_PARENT).all():
        return "parents and branches differ"
    return _split_problem(trees, inner, n_features)


def _split_problem(trees: _Trees, inner: NDArray[Any], n_features: int) -> str | None:
    used = trees.table("split_indices")[inner]
    if np.any(np.array(trees.n_features) != n_features):
        return "a tree is of other features"
    if np.any(used < 0) or np.any(used >= n_features):
        return "a split is on a column that does not exist"
    if np.any(trees.table("split_type")) or np.any(trees.table("default_left") > 1):
        return "a split is of an unknown kind"
    if not np.isfinite(trees.table("split_conditions")).all():
        return "a split or leaf is not finite"
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
