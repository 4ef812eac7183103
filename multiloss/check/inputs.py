"""The batches that a loss is checked on, and those of a user's file or function. NumPy only."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from multiloss.check import tree
from multiloss.check.targets import TargetError, resolve
from multiloss.check.tree import Tree

_HALF_MAXIMUM = 65504  # the largest float16


class Case(NamedTuple):
    """One batch.

    Attributes:
        name: how the report names it.
        y: labels, an array or a tree of arrays.
        x: predictions, an array or a tree of arrays: all float32, or integers for metrics of class indices.
        plain: marks the case for checks that need only one batch.
        low, high: the range in which predictions have a meaning; a tuple of one each for the leaves of `x` if they
            differ, see `bounds`.
        optional: whether a loss or an oracle may refuse it.
    """

    name: str
    y: Tree
    x: Tree
    plain: bool = False
    low: float | tuple[float, ...] = -np.inf
    high: float | tuple[float, ...] = np.inf
    optional: bool = False

    @property
    def size(self) -> int:
        """The count of numbers in the predictions."""
        return sum(leaf.size for leaf in tree.leaves(self.x))

    @property
    def rows(self) -> int:
        """The count of rows: the length of the first axis."""
        return len(tree.leaves(self.x)[0])

    @property
    def large(self) -> bool:
        """Whether it has more than 65504 numbers, the largest float16: too many for central differences."""
        return self.size > _HALF_MAXIMUM

    @property
    def bounds(self) -> list[tuple[float, float]]:
        """The range of each leaf of `x`."""
        many = len(tree.leaves(self.x))
        low, high = (end if isinstance(end, tuple) else (end,) * many for end in (self.low, self.high))
        return list(zip(low, high, strict=True))

    @property
    def code(self) -> str:
        """The batch as two lines of Python code."""
        return f"y_true = {tree.code(self.y)}\ny_pred = {tree.code(self.x)}"

    @property
    def described(self) -> str:
        """Names, dtypes and shapes of all arrays."""
        return f"{tree.described(self.y, 'y_true')}, {tree.described(self.x, 'y_pred')}"

    def take(self, rows: Any) -> "Case":
        """Return some rows of every array, by a slice or an array of indices."""
        return self._replace(**{part: tree.map(lambda leaf: leaf[rows], getattr(self, part)) for part in "yx"})


def with_small_batches(cases: list[Case], rows: int, integers: bool = False) -> list[Case]:
    """Return the cases with more of the first one's: its first rows twice, and batches of few rows.

    Predictions become float32; `integers` keeps those that are.
    """
    first = cases[0]
    twice = np.tile(np.arange(rows // 2), 2)
    more = [("duplicated rows", twice), *((f"batch of {count}", slice(count)) for count in (2, 1, 0))]
    cases = [*cases, *(first.take(some)._replace(name=name) for name, some in more)]
    return [
        case._replace(x=tree.map(lambda leaf: _single(leaf, integers), case.x), plain=not i)
        for i, case in enumerate(cases)
    ]


def _single(leaf: np.ndarray, integers: bool) -> np.ndarray:
    return leaf if integers and leaf.dtype.kind in "biu" else leaf.astype(np.float32)


def load(text: str, seed: int, integers: bool = False) -> list[Case]:
    """Return a user's cases, from an `.npz` file or a function.

    Args:
        text: path of an `.npz` with arrays `y_true` and `y_pred`, or `NAME_y_true` and `NAME_y_pred` for each case; a
            name goes on as `y_true.labels` for a dict and `y_true.0` for a tuple. Or a target (see
            `targets.resolve`): a function of a seed that returns `{name: (y_true, y_pred)}`. Both of the pair are
            arrays, or dicts, tuples or lists of arrays.
        seed: passed to the function.
        integers: whether predictions may be integers, such as class indices.

    Raises:
        TargetError: if the file does not exist, or if the cases have another form.
    """
    if text.endswith(".npz"):
        given: Any = _of_file(text)
    else:
        make = resolve(text)
        if not callable(make):
            raise TargetError(f"`inputs` must be a family, an .npz file or a function. Received: {text!r}")
        try:
            given = make(seed)
        except (Exception, SystemExit) as error:  # user code may raise anything
            raise TargetError(
                f"{text} must take a seed and return cases. With {seed} it raises {type(error).__name__}: {error}"
            ) from error
    if not isinstance(given, dict) or not given:
        raise TargetError(f"{text} must hold `y_true` and `y_pred`, or cases by name. Received: {type(given).__name__}")
    cases: list[Case] = []
    for name, pair in given.items():
        if not isinstance(pair, tuple | list) or len(pair) != 2 or any(part is None for part in pair):
            raise TargetError(f"case {name!r} of {text} must be a pair (y_true, y_pred)")
        try:
            y, x = (_tree(part) for part in pair)
        except (ValueError, TypeError) as error:  # TypeError: keys of a dict that cannot be sorted
            raise TargetError(f"case {name!r} of {text} must consist of arrays: {error}") from error
        case = Case(str(name), y, x, not cases)
        labels, predictions = tree.leaves(y), tree.leaves(x)
        arrays = [*labels, *predictions]
        if (
            not (labels and predictions)
            or any(leaf.dtype.kind not in ("biuf" if integers else "f") for leaf in predictions)
            or any(leaf.dtype.kind not in "biuf" for leaf in labels)
            or not all(leaf.ndim for leaf in arrays)
            or len({len(leaf) for leaf in arrays}) > 1
        ):
            raise TargetError(
                f"case {name!r} of {text} must have {'numeric' if integers else 'float'} `y_pred` and numeric `y_true` "
                f"with as many rows. Received: {case.described}"
            )
        cases.append(case._replace(x=tree.map(lambda leaf: _single(leaf, integers), x)))
    return cases


def _tree(part: Any) -> Tree:
    """Return a tree of arrays. Lists of numbers are arrays; lists that hold an array or a dict are a part of a tree."""

    def inner(part: Any) -> bool:
        if isinstance(part, tuple | list):
            return any(getattr(item, "ndim", 0) or inner(item) for item in part)
        return isinstance(part, dict)

    if not inner(part):
        return np.asarray(part)
    if isinstance(part, dict):
        return {key: _tree(part[key]) for key in sorted(part)}
    return tuple(map(_tree, part)) if isinstance(part, tuple) else [_tree(item) for item in part]


def _of_file(path: str) -> dict[str, tuple[Tree, Tree]]:
    """Return the pairs of an `.npz` file by name; None for a missing part."""
    if not Path(path).is_file():
        raise TargetError(f"no such file: {path}")
    try:
        with open(path, "rb") as opened, np.load(opened) as file:  # NumPy does not close a broken file
            arrays = dict(file)
    except Exception as error:  # from zip, zlib or pickle, or for an .npy file
        raise TargetError(f"{path} is not a readable .npz file: {type(error).__name__}: {error}") from error
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for key, array in arrays.items():
        if match := re.fullmatch(r"(?:(.*?)_)?(y_true|y_pred)(?:\.(.+))?", key):
            name, part, rest = match.groups()
            found.setdefault(name or "batch", {}).setdefault(part, {})[rest or ""] = array
    try:
        return {
            name: (tree.nested(pair.get("y_true")), tree.nested(pair.get("y_pred"))) for name, pair in found.items()
        }
    except ValueError as error:
        raise TargetError(f"{path} has both an array and parts of it: {error}") from error
