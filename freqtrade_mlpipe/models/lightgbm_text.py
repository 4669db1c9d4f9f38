"""Checks a LightGBM text file before LightGBM's own parser sees it.

That parser trusts its input: a wrong count, size or branch aborts the interpreter, reads foreign
memory or never returns. What passes here is laid out as LightGBM 4 writes it (`SaveModelToString`,
`Tree::ToString`), and each of its trees is a tree. A tree takes microseconds: its layout is one
regular expression, and the numbers of all trees are checked at once.
"""

from __future__ import annotations

import re
import warnings
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from freqtrade_mlpipe.exceptions import BundleError

Number = TypeVar("Number", np.float64, np.int64)

_FIRST_TREE, _AFTER_TREES = b"Tree=0\n", b"end of trees\n"
_NUMBER = rb"-?[0-9]{1,20}(?:\.[0-9]{1,30})?(?:e[+-]?[0-9]{1,3})?"
_NAMES = rb"[!-~]{1,300}(?: [!-~]{1,300})*"
_HEADER = re.compile(
    rb"tree\nversion=v[0-9]{1,3}\nnum_class=(?P<classes>[13])\n"
    rb"num_tree_per_iteration=(?P=classes)\nlabel_index=0\n"
    rb"max_feature_idx=(?P<last>[0-9]{1,6})\n"
    rb"objective=(?:binary sigmoid:" + _NUMBER + rb"|regression|(?P<many>multiclass num_class:3))\n"
    rb"(?:average_output\n)?feature_names=(?P<names>" + _NAMES + rb")\n"
    rb"(?:monotone_constraints=(?P<monotone>-?[01](?: -?[01])*)\n)?"
    rb"feature_infos=(?P<infos>" + _NAMES + rb")\n"
    rb"tree_sizes=(?P<sizes>[0-9]{1,9}(?: [0-9]{1,9})*)\n\n"
)
_LINES = (
    "split_feature", "split_gain", "threshold", "decision_type", "left_child", "right_child",
    "leaf_value", "leaf_weight", "leaf_count", "internal_value", "internal_weight", "internal_count",
)  # fmt: skip
_LINES_BEFORE = 3
_TREE = re.compile(
    rb"Tree=([0-9]{1,6})\nnum_leaves=([1-9][0-9]{0,6})\nnum_cat=0\n"
    + b"".join(name.encode() + rb"=([^\n]*)\n" for name in _LINES)
    + rb"is_linear=0\nshrinkage=" + _NUMBER + rb"\n\n\n"
)  # fmt: skip
_PER_LEAF = ("leaf_value", "leaf_weight", "leaf_count")
# LightGBM refuses by itself what is no number in the other lines; it does nothing with them here.
_USED = ("split_feature", "threshold", "decision_type", "left_child", "right_child", "leaf_value")
_FLOAT_CHARACTERS, _WHOLE_CHARACTERS = b"0123456789.e+- ", b"0123456789- "
_INTEGERS = ("split_feature", "decision_type", "left_child", "right_child")
_WRITTEN_WHOLE = (*_INTEGERS, "leaf_count", "internal_count")
_LARGEST, _LONE_SIGN = 1e306, re.compile(rb"-(?![0-9])")
_SPACE, _NEW_LINE, _EQUALS = b" \n="
_TAIL_LINE = re.compile(
    rb"|feature_importances:|parameters:|end of parameters|pandas_categorical:null"
    rb"|\[[a-z0-9_]{1,60}: [ -~]{0,400}\]|[!-~]{1,300}=[0-9]{1,12}"
)
_DEFAULT_LEFT, _MISSING = 2, 12


def check_lightgbm_text(data: bytes) -> None:
    """Refuse `data` unless LightGBM's parser and prediction can be trusted with it.

    Raises
    ------
    BundleError
        Not a model of two or three classes or of values, without categorical splits and linear
        leaves, as LightGBM writes it.
    """
    head, first, rest = data.partition(_FIRST_TREE)
    trees, end, tail = (first + rest).partition(_AFTER_TREES)
    if not end:
        raise _refused("it has no trees, or no end of them")
    header = _HEADER.fullmatch(head)
    if header is None:
        raise _refused("its header is damaged")
    n_features = int(header["last"]) + 1
    for names in (header["names"], header["infos"], header["monotone"]):
        if names is not None and names.count(b" ") + 1 != n_features:
            raise _refused(f"its header does not describe {n_features} features")
    sizes = [int(size) for size in header["sizes"].split(b" ")]
    n_classes = int(header["classes"])
    if (header["many"] is None) != (n_classes == 1) or len(sizes) % n_classes:
        raise _refused("its objective, classes and trees do not belong together")
    if sum(sizes) != len(trees):
        raise _refused("its trees are not as long as it says")
    _check_trees(trees, sizes, n_features)
    for line in tail.split(b"\n"):
        if not _TAIL_LINE.fullmatch(line):
            raise _refused(f"odd line {line[:60]!r} after the trees")


def _check_trees(trees: bytes, sizes: list[int], n_features: int) -> None:
    found = []
    start = 0
    for number, size in enumerate(sizes):
        tree = _TREE.fullmatch(trees, start, start + size)
        if tree is None or int(tree[1]) != number:
            raise _refused(f"tree {number} is not laid out as a tree")
        found.append(tree.groups())
        start += size
    _, leaves, *lines = zip(*found, strict=True)
    counts = np.array(leaves).astype(np.int64)
    _check_words(trees, counts)
    texts = {
        name: b" ".join(filter(None, of_trees))
        for name, of_trees in zip(_LINES, lines, strict=True)
    }
    for name, text in texts.items():
        known = _WHOLE_CHARACTERS if name in _WRITTEN_WHOLE else _FLOAT_CHARACTERS
        if text.translate(None, known):
            raise _refused("a line holds what is no number")
    totals = {name: int(counts.sum() - (name not in _PER_LEAF) * len(counts)) for name in _USED}
    for name in ("threshold", "leaf_value"):
        if not (np.abs(_numbers(texts[name], totals[name], np.float64)) < _LARGEST).all():
            raise _refused("a line holds what is no finite number")
    whole = {name: _numbers(texts[name], totals[name], np.int64) for name in _INTEGERS}
    problem = _problem(whole, counts, n_features)
    if problem:
        raise _refused(problem)


def _check_words(trees: bytes, leaves: NDArray[np.int64]) -> None:
    """Refuse a line that does not hold one word a leaf, or a split, with single spaces between them."""
    text = np.frombuffer(trees, np.uint8)
    spaces, ends = np.flatnonzero(text == _SPACE), np.flatnonzero(text == _NEW_LINE)
    after, before = text[spaces + 1], text[spaces - 1]
    if np.any((after == _SPACE) | (after == _NEW_LINE) | (before == _EQUALS)):
        raise _refused("its trees hold odd spaces")
    # Every tree has as many lines: that is how it is laid out.
    shape = (len(leaves), len(ends) // len(leaves))
    own = slice(_LINES_BEFORE, _LINES_BEFORE + len(_LINES))
    length = np.diff(ends, prepend=-1).reshape(shape)[:, own] - 1
    n_spaces = np.diff(np.searchsorted(spaces, ends), prepend=0).reshape(shape)[:, own]
    n_words = n_spaces + (length > [len(name) + 1 for name in _LINES])
    wanted = leaves[:, np.newaxis] - [name not in _PER_LEAF for name in _LINES]
    if np.any(n_words != wanted):
        number = int(np.argwhere(n_words != wanted)[0, 0])
        raise _refused(f"a line of tree {number} does not hold as many numbers as it should")


def _problem(
    whole: dict[str, NDArray[np.int64]], leaves: NDArray[np.int64], n_features: int
) -> str | None:
    """What is wrong with the trees, one after the other in each array."""
    if np.any(whole["split_feature"] < 0) or np.any(whole["split_feature"] >= n_features):
        return "a split is on a column that does not exist"
    decision = whole["decision_type"]
    if np.any(decision & ~(_DEFAULT_LEFT | _MISSING)) or np.any((decision & _MISSING) == _MISSING):
        return "a split is of an unknown kind"
    splits = leaves - 1
    tree = np.repeat(np.arange(len(leaves)), splits)
    first_split, first_leaf = np.cumsum(splits) - splits, np.cumsum(leaves) - leaves
    here = np.arange(len(tree)) - first_split[tree]
    child = np.concatenate([whole["left_child"], whole["right_child"]])
    tree, here = np.tile(tree, 2), np.tile(here, 2)
    is_split = child >= 0
    if np.any(is_split & ((child <= here) | (child >= splits[tree]))):
        return "a branch does not lead forward"
    if np.any(~is_split & (~child >= leaves[tree])):
        return "a branch leads to a leaf that does not exist"
    reached = np.where(
        is_split, first_split[tree] + child, splits.sum() + first_leaf[tree] + ~child
    )
    # Each split but the first of its tree, and each leaf, once: that makes it a tree.
    if np.any(np.bincount(reached, minlength=1) > 1):
        return "two branches lead to the same place"
    return None


def _numbers(text: bytes, n: int, kind: type[Number]) -> NDArray[Number]:
    """`n` numbers separated by single spaces; a whole one beyond 64 bits becomes the largest there is."""
    with warnings.catch_warnings():  # numpy before 2.4 warns of what is no number, and stops there
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            values = np.fromstring(text.decode(), dtype=kind, sep=" ")
        except ValueError as error:
            raise _refused("a line holds what is no number") from error
    if len(values) != n or _LONE_SIGN.search(text):  # which numpy takes for a whole number
        raise _refused("a line holds what is no number")
    return values


def _refused(problem: str) -> BundleError:
    return BundleError(f"The LightGBM model file cannot be read: {problem}. Get the bundle again.")
