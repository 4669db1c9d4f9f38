"""Checks a LightGBM text file before LightGBM's own parser sees it.

That parser trusts its input: a wrong count, size or branch aborts the interpreter, reads foreign
memory or never returns. What passes here is laid out as LightGBM 4 writes it (`SaveModelToString`,
`Tree::ToString`), and each of its trees is a tree.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from freqtrade_mlpipe.exceptions import BundleError

_FIRST_TREE, _AFTER_TREES = b"Tree=0\n", b"end of trees\n"
_NUMBER = rb"-?[0-9]{1,20}(?:\.[0-9]{1,30})?(?:e[+-]?[0-9]{1,3})?"
_NAMES = rb"[!-~]{1,300}(?: [!-~]{1,300})*"
_HEADER = {
    b"version": rb"v[0-9]{1,3}",
    b"num_class": rb"1",
    b"num_tree_per_iteration": rb"1",
    b"label_index": rb"0",
    b"max_feature_idx": rb"[0-9]{1,6}",
    b"objective": rb"binary sigmoid:" + _NUMBER,
    b"average_output": rb"",
    b"feature_names": _NAMES,
    b"monotone_constraints": rb"-?[01](?: -?[01])*",
    b"feature_infos": _NAMES,
    b"tree_sizes": rb"[0-9]{1,9}(?: [0-9]{1,9})*",
}
_OPTIONAL = {b"average_output", b"monotone_constraints"}
_PER_FEATURE = (b"feature_names", b"feature_infos", b"monotone_constraints")
_WHOLE_PER_SPLIT = (b"split_feature", b"decision_type", b"left_child", b"right_child")
_STATISTICS_PER_SPLIT = (b"split_gain", b"internal_value", b"internal_weight", b"internal_count")
_STATISTICS_PER_LEAF = (b"leaf_weight", b"leaf_count")
_PER_SPLIT = (*_WHOLE_PER_SPLIT, b"threshold")
_ALONE = {b"num_cat": b"0", b"is_linear": b"0"}
_TREE = {b"num_leaves", *_ALONE, *_PER_SPLIT, *_STATISTICS_PER_SPLIT, *_STATISTICS_PER_LEAF,
         b"leaf_value", b"shrinkage"}  # fmt: skip
_TAIL_LINE = re.compile(
    rb"|feature_importances:|parameters:|end of parameters|pandas_categorical:null"
    rb"|\[[a-z0-9_]{1,60}: [ -~]{0,400}\]|[!-~]{1,300}=[0-9]{1,12}"
)
_CATEGORICAL, _MISSING = 1, 12


def check_lightgbm_text(data: bytes) -> None:
    """Refuse `data` unless LightGBM's parser and prediction can be trusted with it.

    Raises
    ------
    BundleError
        Not a two-class model, without categorical splits and linear leaves, as LightGBM writes it.
    """
    head, first, rest = data.partition(_FIRST_TREE)
    trees, end, tail = (first + rest).partition(_AFTER_TREES)
    if not end:
        raise _refused("it has no trees, or no end of them")
    n_features, sizes = _check_header(head)
    if sum(sizes) != len(trees):
        raise _refused("its trees are not as long as it says")
    start = 0
    for number, size in enumerate(sizes):
        _check_tree(trees[start : start + size], number, n_features)
        start += size
    for line in tail.split(b"\n"):
        if not _TAIL_LINE.fullmatch(line):
            raise _refused(f"odd line {line[:60]!r} after the trees")


def _check_header(head: bytes) -> tuple[int, list[int]]:
    """The number of features, and the length of each tree in bytes."""
    if not head.startswith(b"tree\n") or not head.endswith(b"\n\n"):
        raise _refused("its header is damaged")
    values = _pairs(head[len(b"tree\n") : -2], set(_HEADER), _OPTIONAL)
    for key, value in values.items():
        if not re.fullmatch(_HEADER[key], value):
            raise _refused(f"{key.decode()} is {value[:60]!r}")
    n_features = int(values[b"max_feature_idx"]) + 1
    for key in _PER_FEATURE:
        if key in values and values[key].count(b" ") + 1 != n_features:
            raise _refused(f"{key.decode()} does not name {n_features} features")
    return n_features, [int(size) for size in values[b"tree_sizes"].split(b" ")]


def _check_tree(text: bytes, number: int, n_features: int) -> None:
    title = b"Tree=%d\n" % number
    if not text.startswith(title) or not text.endswith(b"\n\n\n"):
        raise _refused(f"tree {number} is not where it should be")
    values = _pairs(text[len(title) : -3], _TREE, set())
    if any(values[key] != value for key, value in _ALONE.items()):
        raise _refused(f"tree {number} has categorical splits or linear leaves")
    if not re.fullmatch(_NUMBER, values[b"shrinkage"]):
        raise _refused(f"tree {number} has an odd shrinkage")
    if not re.fullmatch(rb"[1-9][0-9]{0,6}", values[b"num_leaves"]):
        raise _refused(f"tree {number} has an odd number of leaves")
    n_leaves = int(values[b"num_leaves"])
    numbers = {key: _numbers(values[key], n_leaves - 1) for key in _PER_SPLIT}
    _numbers(values[b"leaf_value"], n_leaves)
    for key in _STATISTICS_PER_SPLIT:
        _check_shape(values[key], n_leaves - 1)
    for key in _STATISTICS_PER_LEAF:
        _check_shape(values[key], n_leaves)
    problem = _tree_problem(numbers, n_leaves, n_features)
    if problem:
        raise _refused(f"in tree {number} {problem}")


def _tree_problem(
    numbers: Mapping[bytes, NDArray[np.float64]], n_leaves: int, n_features: int
) -> str | None:
    whole = {key: numbers[key].astype(np.int64) for key in _WHOLE_PER_SPLIT}
    if any(np.any(whole[key] != numbers[key]) for key in _WHOLE_PER_SPLIT):
        return "a number that must be whole is not"
    feature, decision, left, right = (whole[key] for key in _WHOLE_PER_SPLIT)
    if np.any(feature < 0) or np.any(feature >= n_features):
        return "a split is on a column that does not exist"
    if np.any(decision & ~(2 | _MISSING)) or np.any((decision & _MISSING) == _MISSING):
        return "a split is of an unknown kind"
    here = np.arange(n_leaves - 1)
    for child in (left, right):
        if np.any((child >= 0) & (child <= here)):
            return "a branch does not lead forward"
    children = np.sort(np.concatenate([left, right]))
    if not np.array_equal(children, np.r_[np.arange(-n_leaves, 0), here[1:]][: len(children)]):
        return "branches do not reach every split and leaf once"
    return None


def _pairs(text: bytes, known: set[bytes], optional: set[bytes]) -> dict[bytes, bytes]:
    values: dict[bytes, bytes] = {}
    for line in text.split(b"\n"):
        key, _, value = line.partition(b"=")
        if key not in known or key in values:
            raise _refused(f"odd line {line[:60]!r}")
        values[key] = value
    missing = known - optional - set(values)
    if missing:
        raise _refused(f"there is no {min(missing).decode()}")
    return values


def _check_shape(text: bytes, n: int) -> None:
    """`n` words that look like numbers; LightGBM itself refuses those that are none."""
    if text.translate(None, b"0123456789.e+- ") or len(text.split()) != n or b"  " in text:
        raise _refused(f"a line does not hold {n} numbers")


def _numbers(text: bytes, n: int) -> NDArray[np.float64]:
    """The `n` finite numbers of a line."""
    _check_shape(text, n)
    with warnings.catch_warnings():  # numpy before 2.4 warns of what is no number, and stops there
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            values = np.fromstring(text.decode(), dtype=np.float64, sep=" ")
        except ValueError as error:
            raise _refused("a line holds what is no number") from error
    if len(values) != n or not (np.abs(values) < 1e306).all():
        raise _refused(f"a line does not hold {n} finite numbers")
    return values


def _refused(problem: str) -> BundleError:
    return BundleError(f"The LightGBM model file cannot be read: {problem}. Get the bundle again.")
