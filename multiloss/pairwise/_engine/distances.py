"""Distances of pairs from matrix products, accurate for close points, on hardware of any precision.

The usual `|x|^2 + |y|^2 - 2xy` from a matrix product loses all precision for close points, which training produces.
Instead the batch is centred and each point written as `h0 + h1 / ratio + rest`, with small integers h0 and h1. All
products and sums of these are exact, since none needs more than the 24 bits of float32, so that coincident points have
a distance of exactly 0. Only products with `rest`, about 2^-18 of the largest entry, are rounded. Distances are then as
accurate as the float32 entries. Below about 1e-6 of the largest (centred) entry, a distance and its gradient may be 0.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from keras import backend, ops

from multiloss._arguments import Tensor
from multiloss.pairwise._engine import products


class Points(NamedTuple):
    """The data of each point that a tile reads."""

    coarse: Tensor  # h0
    grid: Tensor  # h0, h1
    fine: Tensor  # the rest of the point, and the midpoint of grid point and point
    points: Tensor  # in the unit of h0, and a 1
    norms: Tensor  # at each level, the product of the row with itself
    labels: Tensor
    given: Tensor  # upstream gradients and results of the row
    real: Tensor  # 1, or 0 for rows that pad the last tile


class Scale(NamedTuple):
    """Scalars shared by all points of a batch."""

    unit: Tensor  # of h0, over the factor
    factor: Tensor  # a power of 2
    ratio: Tensor  # of the units of h0 and h1
    exact: Tensor  # whether products keep the precision of float32


def scaled(x: Tensor, tile: Tensor) -> tuple[Tensor, Scale]:
    """Centre the batch and scale it to the unit of h0; `tile` has the shape of a tile."""
    # The midrange instead of the mean: it cannot overflow, and minimizes the largest entry.
    t = x - (ops.min(x, axis=0) / 2 + ops.max(x, axis=0) / 2)
    extent = ops.max(ops.abs(t)) + ops.sum(0 * t)  # XLA in TensorFlow ignores NaN in a maximum
    extent = ops.where(extent < 2.0**-126, 1.0, extent)
    # Keeps away from the ends of the range of float32, where a reciprocal or a fraction of the extent underflows.
    unity = ops.ones_like(extent)
    factor = ops.where(extent < 2.0**-64, unity * 2.0**-64, unity)
    factor = ops.where(extent > 2.0**64, unity * 2.0**64, factor)
    extent = extent / factor
    t = (t / factor) / extent
    exact = products.are_exact(t, tile)
    scale, ratio = _scales(t, exact)
    return t * scale, Scale(unit=extent / scale, factor=factor, ratio=ratio, exact=exact)


def points(rows: Any, scale: Scale) -> Points:
    """Return the points of rows: centred coordinates, labels, given columns, and `real`.

    That may be `[N, 2]`, with what to add to the squared distance of each pair of the row, `Side.apart`. Added to the
    norm of the row, it costs nothing per pair.
    """
    t, labels, given, real = rows
    h0 = ops.round(t)
    h1 = ops.round((t - h0) * scale.ratio)
    grid = h0 + h1 / scale.ratio
    rest, middle = t - grid, (t + grid) / 2
    norm = _dots(h0, h0)
    if len(real.shape) == 2:
        norm, real = norm + real[:, 1] / scale.unit / scale.unit / scale.factor / scale.factor, real[:, 0]
    return Points(
        coarse=h0,
        grid=ops.concatenate([h0, h1], axis=1),
        fine=ops.concatenate([rest, middle], axis=1),
        points=ops.concatenate([t, ops.ones_like(t[:, :1])], axis=1),
        norms=ops.stack([norm, 2 * _dots(h0, h1), _dots(h1, h1), 2 * _dots(rest, middle)], axis=1),
        labels=labels,
        given=given,
        real=real,
    )


def rounding(points: Points) -> Tensor:
    """Return the bound below which a squared distance is only rounding error."""
    features = points.coarse.shape[1]
    rest, middle = points.fine[:, :features], points.fine[:, features:]
    # The error of the last product is an epsilon of its partial sums. Even if these end near 0, terms of random sign
    # make them as large as the product of the norms over the root of D.
    partial = ops.abs(points.norms[:, 3]) + ops.sqrt(_dots(rest, rest) * _dots(middle, middle) / features)
    return 2 * _epsilon(rest) * ops.max(partial)


def _scales(t: Tensor, exact: Tensor) -> tuple[Tensor, Tensor]:
    """Return the number of units of h0 in 1, and of units of h1 in a unit of h0.

    Both are as large as exact products allow. Entries have 8 bits if the hardware keeps no more. The norm of a row of
    h0 is at most 2^11. A row of h1, the rounding errors of h0 times the ratio, has the same norm if these are random,
    and sqrt(3) times that at worst, so that twice the product of both fits into the 24 bits of float32.
    """
    longest = 2.0**25 if _is_float64(t) else 2.0**11
    largest = 2.0**8 + (longest - 2.0**8) * ops.cast(exact, t.dtype)
    scale = ops.minimum(largest, longest / ops.maximum(ops.sqrt(ops.max(_dots(t, t))), 1.0))
    ratio = ops.minimum(2 * largest, 2.0 ** math.floor(math.log2(longest / math.sqrt(t.shape[1] / 12))))
    return ops.cast(scale, t.dtype), ops.cast(ratio, t.dtype)  # `minimum` with a Python number may have narrowed them


def squares(
    rows: Points, columns: Points, ratio: Tensor, least: Tensor, product: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Return squared distances `[T, W]`, in the squared unit."""
    features = rows.coarse.shape[1]

    def swapped(part: Tensor) -> Tensor:
        return ops.concatenate([part[:, features:], part[:, :features]], axis=1)

    def difference(level: int, both: Tensor) -> Tensor:
        # Not `[:, level, None]`: after a stack, TensorFlow's optimizer drops the new axis.
        row, column = ops.expand_dims(rows.norms[:, level], 1), columns.norms[:, level]
        return (row - both) + (column - both)  # both exact for close points

    exact = difference(2, product(rows.grid[:, features:], ops.transpose(columns.grid[:, features:]))) / ratio
    exact = (exact + difference(1, product(swapped(rows.grid), ops.transpose(columns.grid)))) / ratio
    exact = exact + difference(0, product(rows.coarse, ops.transpose(columns.coarse)))
    # So far this is the squared distance of the grid points. The remainder of |x - y|^2 is twice the difference of the
    # rests times the difference of the midpoints.
    squares = exact + difference(3, product(swapped(rows.fine), ops.transpose(columns.fine)))
    return ops.where(ops.logical_or(ops.equal(exact, 0), squares <= least), 0.0, squares)  # propagates NaN


def _dots(a: Tensor, b: Tensor) -> Tensor:
    return ops.sum(a * b, axis=1)


def _is_float64(x: Tensor) -> bool:
    return bool(backend.standardize_dtype(x.dtype) == "float64")


def _epsilon(x: Tensor) -> float:
    return 2.0**-53 if _is_float64(x) else 2.0**-24
