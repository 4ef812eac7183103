"""Labels and predictions in dicts, tuples and lists, nested or not: a tree of arrays. A bare array is a tree.

The leaves have the order of `keras.tree.flatten`, by sorted keys. Under torch, Keras 3.15 sorts the outermost dict
only, so that a case's dicts have sorted keys to begin with.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

Tree = Any  # an array, or a dict, tuple or list of trees


def _parts(tree: Tree) -> list[tuple[Any, Tree]]:
    """Return keys and subtrees in the order of `keras.tree.flatten`: a dict's by sorted keys."""
    return [(key, tree[key]) for key in sorted(tree)] if isinstance(tree, dict) else list(enumerate(tree))


def bare(tree: Tree) -> bool:
    """Whether a tree is a single array, or anything else that is not a dict, tuple or list."""
    return not isinstance(tree, dict | tuple | list)


def leaves(tree: Tree) -> list[Any]:
    """Return the arrays of a tree, in the order of `keras.tree.flatten`."""
    return [tree] if bare(tree) else [leaf for _, part in _parts(tree) for leaf in leaves(part)]


def like(tree: Tree, leaves: Iterable[Any]) -> Tree:
    """Return a tree of the same form with other leaves."""
    rest = iter(leaves)

    def build(tree: Tree) -> Tree:
        if bare(tree):
            return next(rest)
        parts = {key: build(part) for key, part in _parts(tree)}
        if isinstance(tree, dict):
            return {key: parts[key] for key in tree}  # in the order of the given dict
        return type(tree)(*parts.values()) if hasattr(tree, "_fields") else type(tree)(parts.values())

    return build(tree)


def map(function: Callable[[Any], Any], tree: Tree) -> Tree:
    """Return a tree of the same form, with a function of each leaf."""
    return like(tree, [function(leaf) for leaf in leaves(tree)])


def names(tree: Tree, root: str = "y_true") -> list[str]:
    """Return the name of each leaf as Python code, such as `y_true["labels"]` or `y_true[0]`."""
    if bare(tree):
        return [root]
    keys = [(f'"{key}"' if isinstance(key, str) else repr(key), part) for key, part in _parts(tree)]
    return [name for key, part in keys for name in names(part, f"{root}[{key}]")]


def nested(named: dict[str, Any] | None) -> Tree:
    """Return the tree whose leaves have these names: keys joined by dots, numbers for places in a tuple."""
    if not named or "" in named:
        if named and len(named) > 1:
            raise ValueError(f"`{max(named)}` beside the whole")
        return named[""] if named else None
    parts: dict[str, dict[str, Any]] = {}
    for name, leaf in named.items():
        key, _, rest = name.partition(".")
        parts.setdefault(key, {})[rest] = leaf
    built = {key: nested(part) for key, part in sorted(parts.items())}
    places = [str(place) for place in range(len(built))]
    return tuple(built[place] for place in places) if set(places) == set(built) else built


def described(tree: Tree, root: str) -> str:
    """Return names, dtypes and shapes of the leaves, such as `y_true["mask"]: bool [6, 8]`."""
    return ", ".join(
        f"{name}: {leaf.dtype} {list(leaf.shape)}" for name, leaf in zip(names(tree, root), leaves(tree), strict=True)
    )


def code(tree: Tree) -> str:
    """Return a tree as Python code."""
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{key!r}: {code(part)}" for key, part in tree.items()) + "}"
    if isinstance(tree, tuple | list):
        inside = ", ".join(code(part) for part in tree)
        return f"[{inside}]" if isinstance(tree, list) else f"({inside}{',' * (len(tree) == 1)})"
    if not tree.size:
        return f"np.zeros({tree.shape}, np.{tree.dtype})"
    numbers = np.array2string(tree, separator=", ", floatmode="unique", threshold=tree.size)
    numbers = numbers.replace("nan", "np.nan").replace("inf", "np.inf")
    return f"np.array({' '.join(numbers.split())}, np.{tree.dtype})"
