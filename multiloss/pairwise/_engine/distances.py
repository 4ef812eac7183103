"""Distances of pairs from matrix products, exact where points lie close together, on hardware of whatever precision.

A matrix product gives `|x|^2 + |y|^2 - 2xy`, which loses every digit where training goes: where points lie close
together. So the batch is centred and each point written as `h0 + h1 / ratio + rest`, with h0 and h1 small integers. All
products and sums among those are exact, since none has more than the 24 bits of float32, so that points that coincide
have a distance of exactly 0. Only the products with `rest`, about 2^-18 of the largest entry, are rounded. That makes
distances as good as the float32 entries are; below about 1e-6 of the largest (centred) entry they may count as 0, and
so does their gradient.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from keras import backend, ops

from multiloss._arguments import Tensor
from multiloss.pairwise._engine import products


class Points(NamedTuple):
    """What a tile reads of each point."""

    coarse: Tensor  # h0
    grid: Tensor  # h0, h1
    fine: Tensor  # the rest of the point, and the middle between grid point and point
    points: Tensor  # in the unit of h0, and a 1
    norms: Tensor  # of each level, the product of the row with itself
    labels: Tensor
    given: Tensor  # upstream gradients and values of the row
    real: Tensor  # 1, or 0 for rows that only fill up the last tile


class Scale(NamedTuple):
    """What all points of a batch share: scalars."""

    unit: Tensor  # of h0, over the factor
    factor: Tensor  # a power of 2
    ratio: Tensor  # of the units of h0 and h1
    exact: Tensor  # whether products take float32 as it is


def scaled(x: Tensor, tile: Tensor) -> tuple[Tensor, Scale]:
    """Centre the batch, in the unit of h0; `tile` has the shape of a tile."""
    # The midrange, not the mean: it cannot overflow, and leaves the smallest entries.
    t = x - (ops.min(x, axis=0) / 2 + ops.max(x, axis=0) / 2)
    extent = ops.max(ops.abs(t)) + ops.sum(0 * t)  # XLA in TensorFlow sees no NaN in a maximum
    extent = ops.where(extent < 2.0**-126, 1.0, extent)
    # Away from the ends of float32, where a reciprocal or a part of the extent is nothing.
    unity = ops.ones_like(extent)
    factor = ops.where(extent < 2.0**-64, unity * 2.0**-64, unity)
    factor = ops.where(extent > 2.0**64, unity * 2.0**64, factor)
    extent = extent / factor
    t = (t / factor) / extent
    exact = products.are_exact(t, tile)
    scale, ratio = _scales(t, exact)
    return t * scale, Scale(unit=extent / scale, factor=factor, ratio=ratio, exact=exact)


def points(rows: Any, scale: Scale) -> Points:
    """Make points of rows: centred coordinates, labels, what is given, and whether they are real."""
    t, labels, given, real = rows
    h0 = ops.round(t)
    h1 = ops.round((t - h0) * scale.ratio)
    grid = h0 + h1 / scale.ratio
    rest, middle = t - grid, (t + grid) / 2
    return Points(
        coarse=h0,
        grid=ops.concatenate([h0, h1], axis=1),
        fine=ops.concatenate([rest, middle], axis=1),
        points=ops.concatenate([t, ops.ones_like(t[:, :1])], axis=1),
        norms=ops.stack([_dots(h0, h0), 2 * _dots(h0, h1), _dots(h1, h1), 2 * _dots(rest, middle)], axis=1),
        labels=labels,
        given=given,
        real=real,
    )


def rounding(points: Points) -> Tensor:
    """Below what the square of a distance is but rounding."""
    features = points.coarse.shape[1]
    rest, middle = points.fine[:, :features], points.fine[:, features:]
    # The last of the products is rounded by an epsilon of its partial sums. They may end up near 0, and have then
    # come, if their terms are of random sign, as far as the norms over the root of D.
    partial = ops.abs(points.norms[:, 3]) + ops.sqrt(_dots(rest, rest) * _dots(middle, middle) / features)
    return 2 * _epsilon(rest) * ops.max(partial)


def _scales(t: Tensor, exact: Tensor) -> tuple[Tensor, Tensor]:
    """How many units of h0 are in 1, and of h1 in a unit of h0.

    As many as leave all products exact. Entries have 8 bits if the hardware keeps no more. Rows of h0 are no longer
    than 2^11. Those of h1, whose entries are the roundings of h0 times the ratio, are as long if these are random, and
    sqrt(3) as long at worst, so that twice the product of the two stays within the 24 bits of float32.
    """
    longest = 2.0**25 if _is_float64(t) else 2.0**11
    largest = 2.0**8 + (longest - 2.0**8) * ops.cast(exact, t.dtype)
    scale = ops.minimum(largest, longest / ops.maximum(ops.sqrt(ops.max(_dots(t, t))), 1.0))
    ratio = ops.minimum(2 * largest, 2.0 ** math.floor(math.log2(longest / math.sqrt(t.shape[1] / 12))))
    return ops.cast(scale, t.dtype), ops.cast(ratio, t.dtype)  # `minimum` with a Python number may have narrowed them


def squares(
    rows: Points, columns: Points, ratio: Tensor, least: Tensor, product: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Squares of distances, in the square of the unit: `[T, W]`."""
    features = rows.coarse.shape[1]

    def swapped(part: Tensor) -> Tensor:
        return ops.concatenate([part[:, features:], part[:, :features]], axis=1)

    def difference(level: int, both: Tensor) -> Tensor:
        # Not `[:, level, None]`: of what was stacked just before, TensorFlow's optimizer forgets the new axis.
        row, column = ops.expand_dims(rows.norms[:, level], 1), columns.norms[:, level]
        return (row - both) + (column - both)  # each exact where the points are close

    exact = difference(2, product(rows.grid[:, features:], ops.transpose(columns.grid[:, features:]))) / ratio
    exact = (exact + difference(1, product(swapped(rows.grid), ops.transpose(columns.grid)))) / ratio
    exact = exact + difference(0, product(rows.coarse, ops.transpose(columns.coarse)))
    # That was the square of the difference of the grid points. What |x - y|^2 has beyond it is twice the difference
    # of the rests times that of the middles.
    squares = exact + difference(3, product(swapped(rows.fine), ops.transpose(columns.fine)))
    return ops.where(ops.logical_or(ops.equal(exact, 0), squares <= least), 0.0, squares)  # NaN stays


def _dots(a: Tensor, b: Tensor) -> Tensor:
    return ops.sum(a * b, axis=1)


def _is_float64(x: Tensor) -> bool:
    return bool(backend.standardize_dtype(x.dtype) == "float64")


def _epsilon(x: Tensor) -> float:
    return 2.0**-53 if _is_float64(x) else 2.0**-24
