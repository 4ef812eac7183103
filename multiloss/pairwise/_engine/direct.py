"""The direct way: all pairs at once, from differences of the points, in plain operations.

For few pairs it is quicker than the loop, which takes seconds to compile, or many operations to run. It takes memory
for B x B' x D numbers. A framework differentiates it in whatever way it has, and as often as one likes.

Distances are rounded by a few epsilons of themselves: the difference of points that are close is exact.
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

# If the largest entry is between these, squares of differences of points that float32 tells apart are finite, and far
# above `_nothing`.
_LEAST, _MOST = 2.0**-20, 2.0**54
# Up to how many entries of B x B' x D the direct way is the quicker one, or to compile both takes longer than they run:
# as measured by `benchmarks/pairwise.py`. Where each operation costs much, whatever its size, it is for longer.
_MOST_ENTRIES, _MOST_ENTRIES_BY_OPERATION, _MOST_ENTRIES_OF_AN_ACCELERATOR = 2**20, 2**23, 2**26
# Some compilers add up features one by one, and are off by so many roundings.
_MOST_FEATURES = 512


def suits(rows: Side, references: Side | None, tile: Tile) -> bool:
    """Whether to go the direct way: sizes are known, and it is asked for, or there are few pairs."""
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
    """Reduce the pairs of every row, as `loop.reduced` does: `[B]` for each reduction."""
    columns = references or rows
    unit, one = _unit([side.x for side in (rows, references) if side is not None])
    x = rows.x if unit is None else rows.x / unit
    y = x if columns is rows else columns.x if unit is None else columns.x / unit
    square = ops.sum(ops.square(x[:, None] - y), axis=-1)
    distance = _root(square)
    distance = distance if unit is None else distance * unit
    values, which = formula.values(distance, same_label(rows.labels, columns.labels), parameters)
    counted = _counted(rows, columns, weights)
    numbers = (
        accumulate.at_once(name, value, counted if some is None else counted * ops.cast(some, counted.dtype), one)
        for name, value, some in zip(formula.reductions, values, which, strict=True)
    )
    # Of counts alone the gradient is 0, and not none.
    return tuple(number + 0 * x[:, 0] if {*formula.reductions} == {"count"} else number for number in numbers)


def _unit(points: Sequence[Tensor]) -> tuple[Any, Any]:
    """In which to compute, and a 1 that is NaN if any point has a NaN or infinity; None where they are seen to be 1."""
    extents = map(_frameworks.known_extent, points)
    known = [extent for extent in extents if extent is not None and extent <= _MOST]
    if len(known) == len(points) and max(known) >= _LEAST:
        return None, None
    points = [ops.stop_gradient(x) for x in points]
    extent = ops.max(ops.stack([ops.max(abs(x)) for x in points])) + _nothing(points[0])
    # Not of the maximum, to which XLA in TensorFlow sees no NaN.
    one = 1 + sum(ops.sum(0 * x) for x in points)
    return extent / ops.cast(ops.clip(extent, _LEAST, _MOST), extent.dtype), one


def _counted(rows: Side, columns: Side, weights: Tensor | None) -> Tensor:
    """How much each pair counts in its row: `[B, B']`."""
    size, dtype = rows.x.shape[0], rows.x.dtype
    counted = 1 - ops.eye(size, dtype=dtype) if columns is rows else ops.ones((size, columns.x.shape[0]), dtype=dtype)
    for kept, axis in ((rows.kept, 1), (columns.kept, 0)):
        counted = counted if kept is None else counted * ops.expand_dims(kept, axis)
    return counted if weights is None else counted * weights


def _root(square: Tensor) -> Tensor:
    """Return the root, and of 0 that of a constant, since there it has no derivative.

    It is chosen before the root is taken, and not by a `maximum`: what comes after may have an infinite derivative, and
    the framework is not to multiply that by 0.
    """
    least = _nothing(square)
    # As a tensor: Keras's `where` on torch makes float32 of a number, in which that of float64 would be 0.
    constant = ops.convert_to_tensor(least, dtype=square.dtype)
    return ops.sqrt(ops.where(square <= least, constant, square)) - least**0.5  # NaN stays


def _nothing(x: Tensor) -> float:
    """Return the least normal number of a dtype, whose root is a power of 2."""
    return 2.0**-1022 if backend.standardize_dtype(x.dtype) == "float64" else 2.0**-126
