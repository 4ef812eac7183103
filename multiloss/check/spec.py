"""Batches from a specification, as in `--inputs "y: int[B, 8] in 0..3, x: prob[B, 8, 3]"`. NumPy only.

    specification = entry, entry, ...
    entry         = name: kind[B, 8, ...]            and, for `int` and `float`,  in LOW..HIGH
    name          = y (or y_true) | x (or y_pred)    and, for dicts and tuples,   .key or .0

B is the number of rows, all other dimensions are integers. With an integer instead of B, every batch has so many rows.
Predictions `x` are of a kind of real numbers, of a metric of any kind. The kinds, which `KINDS` describes:

    y.labels: int[B, 8] in 0..4, y.mask: bool[B, 8], x: float[B, 8]
    y: ids[B], x: unit[B, 16]
    y.0: onehot[B, 3], y.1: float[B, 1], x.0: prob[B, 3], x.1: float[B, 1] in -1..1
"""

import dataclasses
import re
from typing import Any

import numpy as np

from multiloss.check import tree
from multiloss.check.inputs import Case, with_small_batches
from multiloss.check.targets import TargetError
from multiloss.check.tree import Tree

KINDS = {
    "int": "integers `in LOW..HIGH`, both included",
    "ids": "integers with repetitions, such as the labels of users",
    "bool": "true or false",
    "float": "normally distributed numbers, or uniformly distributed `in LOW..HIGH`",
    "positive": "numbers above 0",
    "prob": "probabilities: of classes, whose sum along the last axis is 1, or where that has length 1, of one class",
    "mask": "0 or 1, as float32",
    "onehot": "one-hot vectors along the last axis",
    "logit": "numbers with ends at -1e4 and 1e4",
    "unit": "vectors of length 1 along the last axis",
    "sign": "-1 or 1, as float32",
}
_INTEGERS = {"int": np.int32, "ids": np.int32, "bool": np.bool_}
_ROWS = 6
_LARGE = 65_505  # one more than the largest float16
STYLES = ("random", "tied", "ends")


@dataclasses.dataclass(frozen=True)
class _Entry:
    """One array: `shape` has None for B."""

    kind: str
    shape: tuple[int | None, ...]
    range: tuple[float, float] | None

    @property
    def classes(self) -> bool:
        """Whether the last axis is one of classes."""
        return len(self.shape) > 1 and self.shape[-1] != 1

    @property
    def bounds(self) -> tuple[float, float]:
        """The range in which predictions have a meaning."""
        known = {"prob": (0.0, 1.0), "mask": (0.0, 1.0), "onehot": (0.0, 1.0), "positive": (0.0, np.inf)}
        return self.range or known.get(self.kind, (-np.inf, np.inf))

    def draw(self, rng: np.random.Generator, rows: int, style: str) -> np.ndarray:
        """Return an array.

        Args:
            rng: the random numbers.
            rows: the number of rows, if the shape leaves it open.
            style: "random"; "tied", of few distinct values; "ends" of the range; or all at the "low" or "high" end.
        """
        shape = tuple(rows if size is None else size for size in self.shape)
        numbers: np.ndarray = self._numbers(rng, shape, style).astype(_INTEGERS.get(self.kind, np.float32))
        return numbers

    def _numbers(self, rng: np.random.Generator, shape: tuple[int, ...], style: str) -> Any:
        def index(count: int, shape: tuple[int, ...] = shape) -> Any:
            """Return integers from 0 to count - 1, each of them if there is room."""
            if style in ("low", "high"):
                return np.full(shape, count - 1 if style == "high" else 0)
            size = int(np.prod(shape))
            return rng.permutation(
                np.arange(size) % count if count <= size else rng.integers(count, size=size)
            ).reshape(shape)

        def hot(shape: tuple[int, ...] = shape) -> Any:
            return np.eye(shape[-1])[index(shape[-1], shape[:-1])]

        kind, size, plain = self.kind, int(np.prod(shape)), style in ("random", "tied")
        low, high = self.range or {"prob": (0, 1), "positive": (1e-4, 1e4)}.get(kind, (-1e4, 1e4))
        if kind == "int":
            return low + index(int(high - low) + 1)
        if kind == "ids":
            return np.arange(size).reshape(shape) if style == "high" else index(max(1, size // 2))
        if kind in ("bool", "mask"):
            return index(2)
        if kind == "sign":
            return 2 * index(2) - 1
        if kind == "onehot" or (kind == "prob" and self.classes and not plain):
            return hot()
        if kind == "unit" and not plain:
            return hot() * (2 * index(2, (*shape[:-1], 1)) - 1)
        if not plain:
            return np.where(index(2), high, low)
        x = rng.normal(size=shape)
        if kind == "positive":
            return np.exp(x) if style == "random" else 1 + index(2)
        if kind == "prob":
            x = np.exp(x if style == "random" else 0 * x)
            return x / (x.sum(-1, keepdims=True) if self.classes else 1 + x)
        if kind == "unit":
            x = x if style == "random" else 1 + 0 * x
            return x / np.linalg.norm(x, axis=-1, keepdims=True)
        if self.range:
            return rng.uniform(low, high, shape) if style == "random" else np.linspace(low, high, 3)[index(3)]
        return x if style == "random" else index(3) - 1


def is_spec(text: str) -> bool:
    """Whether a text is meant as a specification, valid or not; a target has no blank or bracket after its colon."""
    return bool(re.match(r"\s*[\w.]+\s*:(\s|\s*\w+\s*\[)", text))


def parse(text: str, integers: bool = False) -> tuple[Tree, Tree]:
    """Return the trees of entries for y and x; `integers` allows predictions of all kinds.

    Raises:
        TargetError: for another form; the message shows the place.
    """
    at = 0

    def wrong(expected: str, place: int) -> TargetError:
        place += len(text[place:]) - len(text[place:].lstrip())
        return TargetError(f"`inputs` must have {expected} at the place marked:\n    {text}\n    {' ' * place}^")

    def take(pattern: str, expected: str) -> re.Match[str]:
        nonlocal at
        match = re.compile(rf"\s*{pattern}").match(text, at)
        if not match:
            raise wrong(expected, at)
        at = match.end()
        return match

    number = r"([-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?)"
    found: dict[str, dict[str, _Entry]] = {"y": {}, "x": {}}
    rows: int | None = -1  # not known yet
    while True:
        start = at
        name = take(
            r"(y_true|y_pred|y|x)((?:\.\w+)*)(?!\w)", "`y`, `y_true`, `x` or `y_pred`, and `.key` or `.0` for a part,"
        )
        part, key = found["x" if name[1] in ("x", "y_pred") else "y"], f"{name[2]}."
        if any(key.startswith(other) or other.startswith(key) for other in part):
            raise wrong("one entry for each array, or one for each of its parts,", start)
        take(":", "`:`")
        start = at
        kind = take(r"(\w+)", f"a kind ({', '.join(KINDS)})")[1]
        if kind not in KINDS:
            raise wrong(f"a kind ({', '.join(KINDS)})", start)
        if part is found["x"] and kind in _INTEGERS and not integers:
            raise wrong(f"real predictions ({', '.join(k for k in KINDS if k not in _INTEGERS)})", start)
        shape: list[int | None] = []
        end = take(r"(\[)", "`[`, and dimensions such as `B, 8`,")
        while end[1] != "]":
            start = at
            size = take(r"(B\b|[1-9]\d*)", "`B`, or an integer above 0 after it," if shape else "`B`")[1]
            if shape and size == "B":
                raise wrong("an integer above 0", start)
            shape.append(None if size == "B" else int(size))
            if rows not in (-1, shape[0]):
                raise wrong("as many rows as in the entries before", start)
            rows = shape[0]
            end = take(r"(,|\])", "`,` or `]`")
        if kind in ("onehot", "unit") and len(shape) < 2:
            raise wrong(f"an axis after `{size}` for `{kind}`", start)
        limits = None
        start = at
        if match := re.compile(r"\s*in\b").match(text, at):
            at = match.end()
            ends = take(rf"{number}\s*\.\.\s*{number}", "`LOW..HIGH` after `in`, such as `0..3`,")
            limits = float(ends[1]), float(ends[2])
            whole = kind == "int" and all(end.is_integer() and abs(end) < 2**31 for end in limits)
            fits = whole if kind == "int" else kind == "float" and max(map(abs, limits)) < 1e38
            if not fits or limits[0] >= limits[1] + whole:
                raise wrong("`in LOW..HIGH`, whole for `int`, only after `int` or `float`, and LOW below HIGH,", start)
        elif kind == "int":
            raise wrong("`in LOW..HIGH` after `int[...]`", start)
        part[key] = _Entry(kind, tuple(shape), limits)
        if not text[at:].strip():
            break
        take(",", "`,` or the end")
    for name_, part in found.items():
        if not part:
            raise wrong(f"an entry for `{name_}`", at)
    y, x = (tree.nested({key.strip("."): part[key] for key in part}) for part in found.values())
    return y, x


def cases(text: str, seed: int, integers: bool = False) -> list[Case]:
    """Return the cases of a specification, the same for the same seed.

    They are random values, tied ones, the ends of the range, labels all at one end, duplicated rows, batches of 2, 1
    and 0 rows, and more than 65,504 predictions in many rows. The last is left out for `ids`, whose rows are compared
    in pairs, and with a fixed number of rows all that have another are. `integers` allows predictions of all kinds.
    """
    y, x = parse(text, integers)
    rng = np.random.default_rng(seed)
    made = [
        _case(y, x, rng, name, style) for name, style in zip(("random", "tied values", "sure"), STYLES, strict=True)
    ]
    made[2] = made[2]._replace(name="ends of the range")
    labels = tree.leaves(y)
    for place, (name, entry) in enumerate(zip(tree.names(y), labels, strict=True)):
        ends = ("all the same", "all different") if entry.kind == "ids" else ("at the low end", "at the high end")
        for style, end in zip(("low", "high"), ends, strict=True):
            case = _case(y, x, rng, f"{name} {end}")
            parts = tree.leaves(case.y)
            parts[place] = entry.draw(rng, _ROWS, style)
            made.append(case._replace(y=tree.like(y, parts)))
    if labels[0].shape[0] is not None:
        return [case._replace(plain=not place) for place, case in enumerate(made)]
    if not any(entry.kind == "ids" for entry in labels):
        rows = -(-_LARGE * _ROWS // made[0].size)
        made.append(_case(y, x, rng, "many rows", rows=rows)._replace(optional=True))
    return with_small_batches(made, _ROWS, integers)


def _case(y: Tree, x: Tree, rng: Any, name: str, style: str = "random", rows: int = _ROWS) -> Case:
    low, high = zip(*(entry.bounds for entry in tree.leaves(x)), strict=True)
    return Case(
        name,
        tree.map(lambda entry: entry.draw(rng, rows, "random"), y),
        tree.map(lambda entry: entry.draw(rng, rows, style), x),
        low=low if len(set(low)) > 1 else low[0],
        high=high if len(set(high)) > 1 else high[0],
    )


def drawn(text: str, seed: int, rows: int, style: int) -> Case:
    """Return one more case, of one of `STYLES`; where the number of rows is open, "drawn", of so many."""
    y, x = parse(text)
    name = "drawn" if tree.leaves(x)[0].shape[0] is None else "drawn, of all rows"
    return _case(y, x, np.random.default_rng(seed), name, STYLES[style], rows)
