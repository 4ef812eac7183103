"""Computes all pairs at once, from differences of the points, in plain operations.

For few pairs this is faster than the loop, which takes seconds to compile or runs many operations. It takes memory for
B x B' x D numbers, and supports every kind and order of derivative that the framework has.

The relative error of a distance is a few epsilons, since the difference of close points is exact.
"""

import math
from collections.abc import Sequence
from typing import Any

from keras import backend, ops

from multiloss import _frameworks
from multiloss._arguments import Tensor
from multiloss.pairwise._engine import accumulate
from multiloss.pairwise._engine.formula import Formula, Side, same_label
from multiloss.pairwise._engine.tiles import Tile

# If the largest entry is in this range, squared differences of distinct float32 points are finite and far above
# `_smallest_normal`.
_LEAST, _MOST = 2.0**-20, 2.0**54
# The numbers of entries B x B' x D up to which this is faster than the loop, or both take longer to compile than to
# run, as measured by `benchmarks/pairwise.py`. The limit is higher where each operation has a large fixed cost.
_MOST_ENTRIES, _MOST_ENTRIES_BY_OPERATION, _MOST_ENTRIES_OF_AN_ACCELERATOR = 2**20, 2**23, 2**26
# Some compilers add features sequentially, so that rounding errors grow with their number.
_MOST_FEATURES = 512


def suits(rows: Side, references: Side | None, tile: Tile) -> bool:
    """Return whether to compute all pairs at once: sizes are static, and it is requested or there are few pairs."""
    sizes = (rows.x.shape[0], *(references or rows).x.shape)
    if isinstance(tile, int) or not all(isinstance(size, int) and size for size in sizes):
        return False
    if tile == "all":
        return True
    entries: int = math.prod(sizes)
    if sizes[2] > _MOST_FEATURES:
        return False
    if entries <= _MOST_ENTRIES:
        return True
    if _frameworks.has_accelerator(rows.x):
        return entries <= _MOST_ENTRIES_OF_AN_ACCELERATOR
    return entries <= _MOST_ENTRIES_BY_OPERATION and _frameworks.runs_slowly_by_operation(rows.x)


def reduced(
    formula: Formula, parameters: Sequence[Tensor], rows: Side, references: Side | None, weights: Tensor | None
) -> tuple[Tensor, ...]:
    """Reduce the pairs of every row, as `loop.reduced`: `[B]` for each reduction."""
    columns = references or rows
    sides = [side for side in (rows, references) if side is not None]
    unit, one = _unit([side.x for side in sides], [side.apart for side in sides if side.apart is not None])
    x = rows.x if unit is None else rows.x / unit
    y = x if columns is rows else columns.x if unit is None else columns.x / unit
    square = ops.sum(ops.square(x[:, None] - y), axis=-1)
    if rows.apart is not None and columns.apart is not None:
        apart = rows.apart[:, None] + columns.apart
        square = square + (apart if unit is None else apart / unit / unit)
    distance = _root(square)
    distance = distance if unit is None else distance * unit
    values, which = formula.values(distance, same_label(rows.labels, columns.labels), parameters)
    counted = _counted(rows, columns, weights)
    numbers = (
        accumulate.at_once(name, value, counted if some is None else counted * ops.cast(some, counted.dtype), one)
        for name, value, some in zip(formula.reductions, values, which, strict=True)
    )
    # If all reductions are counts, the gradient is 0 instead of None.
    return tuple(number + 0 * x[:, 0] if {*formula.reductions} == {"count"} else number for number in numbers)


def _unit(points: Sequence[Tensor], apart: Sequence[Tensor]) -> tuple[Any, Any]:
    """Return the unit of the computation, and a 1 that is NaN if a point is not finite; None if both must be 1."""
    extents = map(_frameworks.known_extent, points)
    known = [extent for extent in extents if extent is not None and extent <= _MOST]
    if len(known) == len(points) and max(known) >= _LEAST:
        return None, None
    points = [ops.stop_gradient(x) for x in points]
    # What is added to squared distances counts as well: all points may be zeros.
    extent = ops.max(ops.stack([ops.max(abs(x)) for x in (*points, *apart)])) + _smallest_normal(points[0])
    # From a sum: XLA in TensorFlow ignores NaN in a maximum.
    one = 1 + sum(ops.sum(0 * x) for x in points)
    return extent / ops.cast(ops.clip(extent, _LEAST, _MOST), extent.dtype), one


def _counted(rows: Side, columns: Side, weights: Tensor | None) -> Tensor:
    """Return the weight of each pair in its row: `[B, B']`."""
    size, dtype = rows.x.shape[0], rows.x.dtype
    counted = 1 - ops.eye(size, dtype=dtype) if columns is rows else ops.ones((size, columns.x.shape[0]), dtype=dtype)
    for kept, axis in ((rows.kept, 1), (columns.kept, 0)):
        counted = counted if kept is None else counted * ops.expand_dims(kept, axis)
    return counted if weights is None else counted * weights


def _root(square: Tensor) -> Tensor:
    """Return the square root; 0 is replaced by a constant first, since the root has no derivative there.

    The replacement is a `where` before the root, not a `maximum`, so that the framework never multiplies an infinite
    derivative by 0.
    """
    least = _smallest_normal(square)
    # As a tensor: Keras's `where` on torch casts a number to float32, where the constant of float64 would be 0.
    constant = ops.convert_to_tensor(least, dtype=square.dtype)
    return ops.sqrt(ops.where(square <= least, constant, square)) - least**0.5  # propagates NaN


def _smallest_normal(x: Tensor) -> float:
    """Return the smallest normal number of a dtype, whose root is a power of 2."""
    return 2.0**-1022 if backend.standardize_dtype(x.dtype) == "float64" else 2.0**-126
