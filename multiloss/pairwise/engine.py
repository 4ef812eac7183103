"""What every pairwise loss is made of: distances of all pairs of a batch and what a loss makes of them, tile by tile.

A loss says what a pair is worth, as a function of its distance and of whether its labels are the same, and how a row of
pairs is reduced (`Pairs`). `rows` does the rest: time O(B^2 D) in matrix products, memory O(B D) and a tile, each pair
computed once for both of its rows. The backward pass computes the tiles anew instead of keeping them.

Where the hardware rounds the inputs of products, they are computed another way (`distances`). Both ways are loops, one
of which runs for 0 tiles, since a conditional costs more on some backends.
"""

import functools
from collections.abc import Callable
from typing import Any, NoReturn

from keras import ops

from multiloss import checks
from multiloss.checks import Tensor
from multiloss.distribution import Share
from multiloss.pairwise import distances, tiles
from multiloss.pairwise.distances import Points
from multiloss.pairwise.replicas import pass_over_share
from multiloss.pairwise.tiles import Pairs


def tile_size(value: int | None) -> int | None:
    """Return how many rows a tile has, or None to choose by B."""
    expected = "None or a positive integer"
    if value is None:
        return None
    return min(int(checks.number("tile", value, expected, lambda tile: tile >= 1 and tile % 1 == 0)), 2**30)


def rows(pairs: Pairs, x: Tensor, labels: Tensor, tile: int | None = None, share: Share | None = None) -> Tensor:
    """Reduce the pairs of every row of `x` `[B, D]`, labelled by `labels` `[B, K]`: `[B, S]`.

    A pair counts in both of its rows; a point is no pair with itself. A NaN or infinity anywhere makes every value NaN.
    The gradient with respect to `x` is exact for any upstream gradient; of a single sum, it costs a second pass over
    the pairs only if the upstream gradient is not the same for all rows. First derivatives only, in reverse mode; the
    second raises NotImplementedError.

    Rows are taken `tile` at a time, against half of all rows. By default a tile has 2^21 / B rows, but 64 at least and
    256 at most: what caches like, and little beside the batch itself.

    With a `share`, x and labels are those of all replicas, and so is the result, on each of them; the gradient is that
    of this replica's rows, and 0 for the others. What is made of the result must be the same on every replica.
    """
    if x.shape[0] == 0:
        return ops.zeros((0, len(pairs.reductions)), dtype=x.dtype) + ops.sum(x, axis=1, keepdims=True)

    pass_over = _pass
    if share is not None:
        pass_over = functools.partial(pass_over_share, share)
        x, labels = share.laid_out(x), share.laid_out(labels)

    # All tensors are arguments: JAX cannot differentiate, within `jit`, `scan` or `checkpoint`, what closes over them.
    @ops.custom_gradient  # type: ignore[untyped-decorator]  # Keras has no types
    def differentiable(tracked: Tensor, labels: Tensor) -> tuple[Tensor, Any]:
        # Without `stop_gradient`, TensorFlow outside a graph keeps all that the loops compute.
        values, pulled = pass_over(pairs, ops.stop_gradient(tracked), labels, tile)
        kept = ops.stop_gradient(values)  # not the result itself, which on torch would hold this closure, and so itself

        def gradient(*args: Any, upstream: Any = None) -> tuple[Tensor, None]:
            upstream = args[-1] if upstream is None else upstream  # torch passes it by name, the others by position
            return derivative(tracked, labels, upstream, kept, pulled), None

        return values, gradient

    @ops.custom_gradient  # type: ignore[untyped-decorator]  # as above
    def derivative(tracked: Tensor, labels: Tensor, *floats: Tensor) -> tuple[Tensor, Any]:
        x, upstream, values, pulled = (ops.stop_gradient(tensor) for tensor in (tracked, *floats))
        shared = ops.max(upstream)
        proportional = ops.all(ops.equal(upstream, shared)) if tiles.at_once(pairs) else ops.zeros((), dtype="bool")
        steps = ops.cast(ops.logical_not(proportional), "int32")
        _, result = pass_over(pairs, x, labels, tile, given=(upstream, values), steps=steps)
        result = ops.where(proportional, 2 * shared * pulled, result)

        def second(*args: Any, upstream: Any = None) -> NoReturn:
            raise NotImplementedError("second derivatives of pairwise losses are not supported")

        return result if share is None else share.placed(result), second

    result: Tensor = differentiable(x, labels)
    return result


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
    batch = ops.shape(x)[0]
    count, size = _tiling(batch, tile)
    width = (count + 1) // 2 * size

    def lay_out(rows: Tensor) -> Tensor:
        filled = ops.concatenate([rows, rows[: count * size - batch]], axis=0)
        # One row more than any tile reads: of a single tile, XLA would otherwise work out what both loops do.
        return ops.concatenate([filled, filled[: width - size + 1]], axis=0)

    real = ops.cast(ops.arange(count * size, dtype="int32") < batch, x.dtype)
    others = ops.cast(ops.arange(size, dtype="int32")[:, None] != ops.arange(width, dtype="int32"), x.dtype)
    t, scale = distances.scaled(x, others)
    points = distances.points((t, labels, tiles.beside(given, t), real[:batch]), scale)
    least = distances.rounding(points)
    points = Points(*map(lay_out, points))._replace(real=ops.concatenate([real, real[: width - size + 1]], axis=0))
    reduced, pulled = tiles.nothing(pairs, points.points[: count * size, :-1])
    for emulate in (False, True):
        runs = count * steps * ops.cast(ops.logical_not(scale.exact) if emulate else scale.exact, "int32")
        body = _tile(pairs, emulate, backward=bool(given))
        reduced, pulled, *_ = ops.fori_loop(0, runs, body, (reduced, pulled, points, others, scale, least))
    return tiles.finished(reduced)[:batch], pulled[:batch]


@functools.cache
def _tile(pairs: Pairs, emulate: bool, backward: bool) -> Callable[[Any, Any], Any]:
    """Make the body of the loop: the T rows from `i T` on against the W rows from `i T` on.

    Sums over rows are carried along rotated, so that those of row `i T` come first.
    """
    # One function for each set of arguments, and all data carried along: outside `jit`, JAX compiles a loop again at
    # every call if its body is a new function (measured: 360 ms a step where 13 ms do).
    product = distances.emulated_product if emulate else distances.product

    def body(i: Any, carry: Any) -> Any:
        reduced, pulled, points, others, scale, least = carry  # others: [T, W], 1, or 0 on the diagonal
        size, width = ops.shape(others)

        def add(before: tuple[Tensor, ...], after: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return tuple(
                ops.concatenate([new[size:], old[width:], new[:size]], axis=0)
                for old, new in zip(before, after, strict=True)
            )

        columns = tiles.window(points, i * size, width)
        rows = Points(*(part[:size] for part in columns))
        root, distance, same = tiles.pair(rows, columns, scale, least, product)
        counted = others * (rows.real[:, None] * columns.real)

        if not backward:
            reduced = tuple(
                add(
                    before,
                    tiles.merged(name, tuple(part[:width] for part in before), tiles.both(name, value, counted, size)),
                )
                for name, before, value in zip(pairs.reductions, reduced, pairs.values(distance, same), strict=True)
            )
        if backward or tiles.at_once(pairs):
            weight = tiles.weights(
                pairs, root, distance, same, counted, (rows.given, columns.given) if backward else None
            )
            pull = tiles.pull(weight, rows.points, columns.points, product)
            back = tiles.pull(ops.transpose(weight), columns.points, rows.points, product)[size:]
            (pulled,) = add((pulled,), (pulled[:width] + ops.concatenate([pull, back], axis=0),))
        return reduced, pulled, points, others, scale, least

    return body


def _tiling(batch: Any, tile: int | None) -> tuple[Any, Any]:
    """Number of tiles and rows of each; `batch` may be a tensor.

    An odd number: then tile i, against the (count - 1) / 2 that follow it, round and round, meets each other tile once.
    """
    lesser, greater = tiles.choosers(batch)
    count = batch // (tile or lesser(greater(2**21 // greater(batch, 1), 64), 256))
    count = count + 1 - count % 2
    return count, (batch + count - 1) // count
