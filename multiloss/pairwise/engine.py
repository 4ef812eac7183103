"""What every pairwise loss is made of: distances of all pairs of a batch and what a loss makes of them, tile by tile.

A loss says what a pair is worth, as a function of its distance and of whether its labels are the same, and how a row of
pairs is reduced (`Pairs`). `rows` does the rest: time O(B^2 D) in matrix products, memory O(B D) and a tile, each pair
computed once for both of its rows. The backward pass computes the tiles anew instead of keeping them.

**Distances.** A matrix product gives `|x|^2 + |y|^2 - 2xy`, which loses every digit where training goes: where points
lie close together. So the batch is centred and each point written as `h0 + h1 / ratio + rest`, with h0 and h1 small
integers. All products and sums among those are exact, since none has more than the 24 bits of float32, so that points
that coincide have a distance of exactly 0. Only the products with `rest`, about 2^-18 of the largest entry, are
rounded. That makes distances as good as the float32 entries are; below about 1e-6 of the largest (centred) entry they
may count as 0, and so does their gradient.

**Precision of the hardware.** Accelerators round the inputs of a float32 product, to 8 bits (bfloat16) or 11 (TF32),
unless told otherwise. One product finds out, at each call and on the device itself; where inputs are rounded, they are
split into three parts of 8 bits each and multiplied part by part, which is float32 again. Both ways are loops, one of
which runs for 0 tiles, since a conditional costs more on some backends.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from keras import backend, ops

from multiloss import checks
from multiloss.checks import Tensor

# Stands for minus infinity where a difference of two must not be NaN.
_LOWEST = -1e30

# Up to how many features the closest pairs of a tile are added up by themselves.
_FEW = 16


class Pairs(NamedTuple):
    """What a loss makes of one pair, and how the pairs of a row are reduced: S numbers for each row.

    Make it once for each set of parameters (`functools.cache`): the compiled loop is found again by its identity.
    """

    values: Callable[[Tensor, Tensor], tuple[Tensor, ...]]
    """(distances `[T, W]`, whether the labels are the same, bool `[T, W]`) -> S values `[T, W]`."""
    slopes: Callable[[Tensor, Tensor], tuple[Tensor | None, ...]]
    """The same -> S derivatives of the values with respect to the distance, None where there is none."""
    reductions: tuple[str, ...]
    """S times "sum" or "logsumexp", over the B - 1 pairs of a row. The latter of no pair is about -1e30."""


def tile_size(value: int | None) -> int | None:
    """Return how many rows a tile has, or None to choose by B."""
    expected = "None or a positive integer"
    if value is None:
        return None
    return min(int(checks.number("tile", value, expected, lambda tile: tile >= 1 and tile % 1 == 0)), 2**30)


def rows(pairs: Pairs, x: Tensor, labels: Tensor, tile: int | None = None) -> Tensor:
    """Reduce the pairs of every row of `x` `[B, D]`, labelled by `labels` `[B, K]`: `[B, S]`.

    A pair counts in both of its rows; a point is no pair with itself. A NaN or infinity anywhere makes every value NaN.
    The gradient with respect to `x` is exact for any upstream gradient; of a single sum, it costs a second pass over
    the pairs only if the upstream gradient is not the same for all rows. First derivatives only, in reverse mode; the
    second raises NotImplementedError.

    Rows are taken `tile` at a time, against half of all rows. By default a tile has 2^21 / B rows, but 64 at least and
    256 at most: what caches like, and little beside the batch itself.
    """
    if x.shape[0] == 0:
        return ops.zeros((0, len(pairs.reductions)), dtype=x.dtype) + ops.sum(x, axis=1, keepdims=True)

    # All tensors are arguments: JAX cannot differentiate, within `jit`, `scan` or `checkpoint`, what closes over them.
    @ops.custom_gradient  # type: ignore[untyped-decorator]  # Keras has no types
    def differentiable(tracked: Tensor, labels: Tensor) -> tuple[Tensor, Any]:
        # Without `stop_gradient`, TensorFlow outside a graph keeps all that the loops compute.
        values, pulled = _pass(pairs, ops.stop_gradient(tracked), labels, tile)
        kept = ops.stop_gradient(values)  # not the result itself, which on torch would hold this closure, and so itself

        def gradient(*args: Any, upstream: Any = None) -> tuple[Tensor, None]:
            upstream = args[-1] if upstream is None else upstream  # torch passes it by name, the others by position
            return derivative(tracked, labels, upstream, kept, pulled), None

        return values, gradient

    @ops.custom_gradient  # type: ignore[untyped-decorator]  # as above
    def derivative(tracked: Tensor, labels: Tensor, *floats: Tensor) -> tuple[Tensor, Any]:
        x, upstream, values, pulled = (ops.stop_gradient(tensor) for tensor in (tracked, *floats))
        shared = ops.max(upstream)
        proportional = ops.all(ops.equal(upstream, shared)) if _at_once(pairs) else ops.zeros((), dtype="bool")
        steps = ops.cast(ops.logical_not(proportional), "int32")
        _, result = _pass(pairs, x, labels, tile, given=(upstream, values), steps=steps)

        def second(*args: Any, upstream: Any = None) -> NoReturn:
            raise NotImplementedError("second derivatives of pairwise losses are not supported")

        return ops.where(proportional, 2 * shared * pulled, result), second

    result: Tensor = differentiable(x, labels)
    return result


def _at_once(pairs: Pairs) -> bool:
    """Tell whether the gradient, up to a factor, comes with the values: it takes a sum, whose terms are independent."""
    return pairs.reductions == ("sum",)


# --- one pass over all pairs -----------------------------------------------------------------------------------------


class _Operands(NamedTuple):
    """What a tile reads. The first eight have a row for each point, and the first rows again at the end."""

    coarse: Tensor  # h0
    grid: Tensor  # h0, h1
    fine: Tensor  # the rest of the point, and the middle between grid point and point
    points: Tensor  # in the unit of h0, and a 1
    norms: Tensor  # of each level, the product of the row with itself
    labels: Tensor
    real: Tensor  # 1, or 0 for rows that only fill up the last tile
    given: Tensor  # upstream gradients and values of the row
    others: Tensor  # [T, W], 1, or 0 on the diagonal
    unit: Tensor  # of h0, over the factor
    factor: Tensor  # a power of 2
    ratio: Tensor  # of the units of h0 and h1
    least: Tensor  # below which the square of a distance is rounding


def _pass(
    pairs: Pairs,
    x: Tensor,
    labels: Tensor,
    tile: int | None,
    given: tuple[Tensor, ...] = (),
    steps: Any = 1,
) -> tuple[Tensor, Tensor]:
    """Values `[B, S]` and, of a sum, the gradient `[B, D]` for upstream gradients of 0.5; or that for those `given`.

    Nothing is done, and zeros are returned, if `steps` is 0.
    """
    batch, features = ops.shape(x)
    count, size = _tiling(batch, tile)
    width = (count + 1) // 2 * size
    one = ops.ones_like(x[:, :1])

    def lay_out(rows: Tensor) -> Tensor:
        filled = ops.concatenate([rows, rows[: count * size - batch]], axis=0)
        # One row more than any tile reads: of a single tile, XLA would otherwise work out what both loops do.
        return ops.concatenate([filled, filled[: width - size + 1]], axis=0)

    real = ops.cast(ops.arange(count * size, dtype="int32") < batch, x.dtype)
    others = ops.cast(ops.arange(size, dtype="int32")[:, None] != ops.arange(width, dtype="int32"), x.dtype)
    # The midrange, not the mean: it cannot overflow, and leaves the smallest entries.
    t = x - (ops.min(x, axis=0) / 2 + ops.max(x, axis=0) / 2)
    extent = ops.max(ops.abs(t))
    extent = ops.where(extent < 2.0**-126, 1.0, extent)
    # Away from the ends of float32, where a reciprocal or a part of the extent is nothing.
    unity = ops.ones_like(extent)
    factor = ops.where(extent < 2.0**-64, unity * 2.0**-64, unity)
    factor = ops.where(extent > 2.0**64, unity * 2.0**64, factor)
    extent = extent / factor
    t = (t / factor) / extent
    exact = _products_are_exact(t, others)
    scale, ratio = _scales(t, exact)
    t = t * scale
    h0 = ops.round(t)
    h1 = ops.round((t - h0) * ratio)
    grid = h0 + h1 / ratio
    rest, middle = t - grid, (t + grid) / 2
    norms = ops.stack([_dots(h0, h0), 2 * _dots(h0, h1), _dots(h1, h1), 2 * _dots(rest, middle)], axis=1)
    # The last of these products is rounded by an epsilon of its partial sums. They may end up near 0, and have then
    # come, if their terms are of random sign, as far as the norms over the root of D.
    partial = ops.abs(norms[:, 3]) + ops.sqrt(_dots(rest, rest) * _dots(middle, middle) / features)
    operands = _Operands(
        coarse=lay_out(h0),
        grid=lay_out(ops.concatenate([h0, h1], axis=1)),
        fine=lay_out(ops.concatenate([rest, middle], axis=1)),
        points=lay_out(ops.concatenate([t, one], axis=1)),
        norms=lay_out(norms),
        labels=lay_out(labels),
        real=ops.concatenate([real, real[: width - size + 1]], axis=0),
        given=lay_out(ops.concatenate(given or (one,), axis=1)),
        others=others,
        unit=extent / scale,
        factor=factor,
        ratio=ratio,
        least=2 * _epsilon(x) * ops.max(partial),
    )
    nothing = operands.points[: count * size, 0] * 0
    reduced = tuple((nothing,) if name == "sum" else (nothing + _LOWEST, nothing) for name in pairs.reductions)
    pulled = operands.points[: count * size, :features] * 0
    for emulate in (False, True):
        runs = count * steps * ops.cast(ops.logical_not(exact) if emulate else exact, "int32")
        body = _tile(pairs, emulate, backward=bool(given))
        reduced, pulled, _ = ops.fori_loop(0, runs, body, (reduced, pulled, operands))
    values = [part[0] if len(part) == 1 else part[0] + ops.log(part[1]) for part in reduced]
    return ops.stack(values, axis=1)[:batch], pulled[:batch]


@functools.cache
def _tile(pairs: Pairs, emulate: bool, backward: bool) -> Callable[[Any, Any], Any]:
    """Make the body of the loop: the T rows from `i T` on against the W rows from `i T` on.

    Sums over rows are carried along rotated, so that those of row `i T` come first.
    """
    # One function for each set of arguments, and all data carried along: outside `jit`, JAX compiles a loop again at
    # every call if its body is a new function (measured: 360 ms a step where 13 ms do).
    product = _emulated_product if emulate else _product

    def body(i: Any, carry: Any) -> Any:
        reduced, pulled, every = carry
        size, width = ops.shape(every.others)

        def window(rows: Tensor) -> Tensor:
            axes = tuple(ops.shape(rows))[1:]
            return ops.slice(rows, (i * size, *(i * 0 for _ in axes)), (width, *axes))  # indices of one dtype

        def add(before: tuple[Tensor, ...], after: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return tuple(
                ops.concatenate([new[size:], old[width:], new[:size]], axis=0)
                for old, new in zip(before, after, strict=True)
            )

        o = every._replace(**{name: window(getattr(every, name)) for name in _Operands._fields[:8]})
        root = ops.sqrt(_squares(o, size, product))
        distance, same = o.unit * root * o.factor, _same(o.labels, size)
        counted = o.others * (o.real[:size, None] * o.real)

        if not backward:
            reduced = tuple(
                add(before, _REDUCE[name](tuple(part[:width] for part in before), value, counted, size))
                for name, before, value in zip(pairs.reductions, reduced, pairs.values(distance, same), strict=True)
            )
        if backward or _at_once(pairs):
            slope = _slope(pairs, distance, same, o.given, size) if backward else pairs.slopes(distance, same)[0]
            weight = ops.where(ops.equal(root, 0), 0.0, slope * counted / root)
            pull = _pull(weight, o.points[:size], o.points, product)
            back = _pull(ops.transpose(weight), o.points, o.points[:size], product)[size:]
            (pulled,) = add((pulled,), (pulled[:width] + ops.concatenate([pull, back], axis=0),))
        return reduced, pulled, every

    return body


def _slope(pairs: Pairs, distance: Tensor, same: Tensor, given: Tensor, size: Any) -> Tensor:
    """Derivative of what follows from the values `[B, S]` with respect to each distance: `[T, W]`."""
    values, total = pairs.values(distance, same), 0.0
    for s, (name, value, slope) in enumerate(zip(pairs.reductions, values, pairs.slopes(distance, same), strict=True)):
        if slope is None:
            continue
        upstream = given[:, s]
        row, column = upstream[:size, None], upstream
        if name == "logsumexp":
            result = given[:, len(values) + s]
            # The share of the pair in the row's sum, at most 1 (but on the diagonal, which does not count).
            row = row * ops.exp(ops.minimum(value - result[:size, None], 0))
            column = column * ops.exp(ops.minimum(value - result, 0))
        total = total + (row + column) * slope
    return total


def _pull(weight: Tensor, points: Tensor, others: Tensor, product: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Row i: `sum_j weight_ij (points_i - others_j)`, for points with a 1 at the end."""

    def pull(weight: Tensor) -> Tensor:
        total = product(weight, others)
        # Taken here, where weights of close pairs cancel, not once at the end: these are large, and whatever is added
        # to them is rounded accordingly.
        return total[:, -1:] * points[:, :-1] - total[:, :-1]

    if points.shape[1] > _FEW + 1:
        return pull(weight)
    # For the same reason, the largest by themselves. With many features no pair is that much closer than the others.
    size = ops.abs(weight)
    small = size <= ops.max(size) / 64
    return pull(ops.where(small, weight, 0.0)) + pull(ops.where(small, 0.0, weight))


def _sum(before: tuple[Tensor, ...], value: Tensor, counted: Tensor, size: Any) -> tuple[Tensor, ...]:
    value = value * counted
    return (before[0] + ops.concatenate([ops.sum(value, axis=1), ops.sum(value, axis=0)[size:]], axis=0),)


def _logsumexp(before: tuple[Tensor, ...], value: Tensor, counted: Tensor, size: Any) -> tuple[Tensor, ...]:
    """Add to the largest value so far, and to the sum of the exponentials relative to it."""
    value = value + (1 - counted) * _LOWEST
    row, column = ops.max(value, axis=1), ops.max(value, axis=0)
    largest = ops.concatenate([row, column[size:]], axis=0)
    row, column = ops.sum(ops.exp(value - row[:, None]), axis=1), ops.sum(ops.exp(value - column), axis=0)
    total = ops.concatenate([row, column[size:]], axis=0)
    top = ops.maximum(before[0], largest)
    return top, before[1] * ops.exp(before[0] - top) + total * ops.exp(largest - top)


_REDUCE = {"sum": _sum, "logsumexp": _logsumexp}


def _same(labels: Tensor, size: Any) -> Tensor:
    if labels.shape[1] == 1:
        return ops.equal(labels[:size], labels[:, 0])
    return ops.all(ops.equal(labels[:size, None], labels), axis=-1)


def _tiling(batch: Any, tile: int | None) -> tuple[Any, Any]:
    """Number of tiles and rows of each; `batch` may be a tensor.

    An odd number: then tile i, against the (count - 1) / 2 that follow it, round and round, meets each other tile once.
    """
    lesser, greater = (min, max) if isinstance(batch, int) else (ops.minimum, ops.maximum)
    count = batch // (tile or lesser(greater(2**21 // greater(batch, 1), 64), 256))
    count = count + 1 - count % 2
    return count, (batch + count - 1) // count


# --- squares of distances, and products ------------------------------------------------------------------------------


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


def _squares(o: _Operands, size: Any, product: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Squares of distances, in the square of the unit: `[T, W]`."""
    features = o.coarse.shape[1]

    def swapped(rows: Tensor) -> Tensor:
        return ops.concatenate([rows[:size, features:], rows[:size, :features]], axis=1)

    def difference(level: int, both: Tensor) -> Tensor:
        norms = o.norms[:, level]
        return (norms[:size, None] - both) + (norms - both)  # each exact where the points are close

    h1 = o.grid[:, features:]
    exact = difference(2, product(h1[:size], ops.transpose(h1))) / o.ratio
    exact = (exact + difference(1, product(swapped(o.grid), ops.transpose(o.grid)))) / o.ratio
    exact = exact + difference(0, product(o.coarse[:size], ops.transpose(o.coarse)))
    # That was the square of the difference of the grid points. What |x - y|^2 has beyond it is twice the difference
    # of the rests times that of the middles.
    squares = exact + difference(3, product(swapped(o.fine), ops.transpose(o.fine)))
    return ops.where(ops.logical_or(ops.equal(exact, 0), squares <= o.least), 0.0, squares)  # NaN stays


def _products_are_exact(t: Tensor, others: Tensor) -> Tensor:
    """Tell whether products take float32 as it is, by one of the size of a tile's: bool, a scalar."""
    # A 1 that comes from the data: of constants, a compiler may work out the product in a precision of its own.
    finer = ops.max(ops.abs(t)) + 2.0**-20
    first = ops.cast(ops.equal(ops.arange(ops.shape(others)[1], dtype="int32"), 0), t.dtype)
    ones = ops.ones((ops.shape(others)[1], ops.shape(t)[1] + 1), dtype=t.dtype)
    return ops.all(ops.equal(_product(ops.zeros_like(others) + finer * first, ones), finer))


def _product(a: Tensor, b: Tensor) -> Tensor:
    product = a @ b  # on torch, `ops.matmul` makes float32 of float64
    if product.dtype == a.dtype:
        return product
    # Autocast, which rounds inputs and results to half precision but leaves float64 alone.
    return ops.cast(ops.cast(a, "float64") @ ops.cast(b, "float64"), a.dtype)


def _emulated_product(a: Tensor, b: Tensor) -> Tensor:
    """Product to the precision of float32 where its inputs are rounded to 8 bits."""
    a1, a2, a3 = _parts(a)
    b1, b2, b3 = _parts(b)
    return _product(
        ops.concatenate([a3, a2, a1, a2, a1, a1], axis=1), ops.concatenate([b1, b2, b3, b1, b2, b1], axis=0)
    )


def _parts(a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Three tensors of 8 bits each whose sum is `a`."""
    parts = []
    for _ in range(2):
        shifted = a * (2.0**16 + 1)
        parts.append(shifted - (shifted - a))
        a = a - parts[-1]
    return parts[0], parts[1], a


def _dots(a: Tensor, b: Tensor) -> Tensor:
    return ops.sum(a * b, axis=1)


def _is_float64(x: Tensor) -> bool:
    return bool(backend.standardize_dtype(x.dtype) == "float64")


def _epsilon(x: Tensor) -> float:
    return 2.0**-53 if _is_float64(x) else 2.0**-24
