"""Batches of different backends, as bytes: whether they are the same, and what differs."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from multiloss.check import tree


def bytes_of(batch: Any) -> tuple[Any, ...]:
    """Return what is equal for equal batches."""
    return tuple(
        None if part is None else tuple((leaf.dtype.str, leaf.shape, leaf.tobytes()) for leaf in tree.leaves(part))
        for part in batch
    )


def labels(batches: Sequence[Any]) -> list[np.ndarray]:
    """Return the arrays of y."""
    return [leaf for _, y, _ in batches if y is not None for leaf in tree.leaves(y)]


def _rows_of(batches: Sequence[Any]) -> list[tuple[bytes, ...]]:
    """Return the rows of all batches, sorted."""
    parts = [[leaf for leaf in tree.leaves(batch) if leaf is not None] for batch in batches]
    return sorted(
        row for leaves in parts for row in zip(*([one.tobytes() for one in leaf] for leaf in leaves), strict=True)
    )


def differs(theirs: Sequence[Any], mine: Sequence[Any]) -> str:
    """Say what differs between two lists of batches."""
    if len(theirs) != len(mine):
        return f"{len(mine)} batches, elsewhere {len(theirs)}"
    same_rows = _rows_of(theirs) == _rows_of(mine)
    for number, (one, other) in enumerate(zip(theirs, mine, strict=True)):
        for root, a, b in zip(("x", "y", "sample_weight"), one, other, strict=True):
            if (a is None) != (b is None):
                return f"`{root}` of batch {number} is there on some backends only"
            if a is None:
                continue
            for name, left, right in zip(tree.names(a, root), tree.leaves(a), tree.leaves(b), strict=False):
                if left.shape != right.shape or left.dtype != right.dtype:
                    return f"`{name}` is {right.dtype} {list(right.shape)}, elsewhere {left.dtype} {list(left.shape)}"
                if left.tobytes() != right.tobytes():
                    what = "other numbers, of the same rows in another order" if same_rows else "other numbers"
                    return f"`{name}` of batch {number} has {what}"
    return "other batches"
