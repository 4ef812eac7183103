"""All pairs of a batch that several replicas share: each computes its own rows against the columns of the whole batch.

Columns are taken a block at a time, of the length of an even share: time, and memory beyond the batch itself, are those
of all pairs over the number of replicas. Each pair is computed twice, by the replicas of its two rows. In return no
gradient has to travel, and of the results the values of the rows only.
"""

import functools
from collections.abc import Callable
from typing import Any

from keras import ops

from multiloss.checks import Tensor
from multiloss.distribution import Share
from multiloss.pairwise import distances, tiles
from multiloss.pairwise.distances import Points, Scale
from multiloss.pairwise.tiles import Pairs


def pass_over_share(
    share: Share,
    pairs: Pairs,
    x: Tensor,
    labels: Tensor,
    tile: int | None,
    given: tuple[Tensor, ...] = (),
    steps: Any = 1,
) -> tuple[Tensor, Tensor]:
    """Values `[B, S]` of the whole batch, and the gradient of this replica's rows: as the engine's pass otherwise."""
    t, scale = distances.scaled(x, ops.zeros((64, 256), dtype=x.dtype))
    index = ops.arange(ops.shape(t)[0], dtype="int32")
    whole = (t, labels, tiles.beside(given, t), ops.ones_like(t[:, 0]), index)
    run = _own_rows(pairs, tile, share.count, backward=bool(given))
    values, pulled = share.own(run, (whole, scale, ops.convert_to_tensor(steps, dtype="int32")))
    return values if given else share.whole(values), pulled


@functools.cache
def _own_rows(pairs: Pairs, tile: int | None, blocks: int, backward: bool) -> Callable[[Any, Any, Any], Any]:
    """Make what one replica does: (where its rows start, how many, what all share) -> their values and gradient."""

    def run(start: Any, batch: Any, others: Any) -> tuple[Tensor, Tensor]:
        whole, scale, steps = others
        width = (ops.shape(whole[0])[0] + blocks - 1) // blocks
        count, size = _row_tiles(batch, width, tile)
        whole = _filled(whole, blocks * width + count)  # all tiles have less than one row too many each
        like = (whole[-1][:size], whole[-1][:width])  # as long as a tile, and as a block
        least, *_ = ops.fori_loop(0, blocks, _rounding_of_block, (0 * scale.ratio, whole, like, scale))
        reduced, pulled = tiles.nothing(pairs, ops.zeros((count * size, whole[0].shape[1]), dtype=scale.ratio.dtype))
        for emulate in (False, True):
            runs = blocks * steps * ops.cast(ops.logical_not(scale.exact) if emulate else scale.exact, "int32")
            carry = (reduced, pulled, start, whole, like, scale, least)
            reduced, pulled, *_ = ops.fori_loop(0, runs, _block(pairs, emulate, backward), carry)
        return tiles.finished(reduced)[:batch], pulled[:batch]

    return run


@functools.cache
def _block(pairs: Pairs, emulate: bool, backward: bool) -> Callable[[Any, Any], Any]:
    """Make the body of the loop over blocks of columns: all rows of this replica against one block."""

    def body(k: Any, carry: Any) -> Any:
        reduced, pulled, start, whole, like, scale, least = carry
        size, width = ops.shape(like[0])[0], ops.shape(like[1])[0]
        columns = _points_of(whole, k * width, width, scale)
        inner = (reduced, pulled, start, whole, like[0], columns, scale, least)
        count = ops.shape(pulled)[0] // size
        reduced, pulled, *_ = ops.fori_loop(0, count, _tile_of_block(pairs, emulate, backward), inner)
        return reduced, pulled, start, whole, like, scale, least

    return body


@functools.cache
def _tile_of_block(pairs: Pairs, emulate: bool, backward: bool) -> Callable[[Any, Any], Any]:
    """Make the body of the loop over tiles of this replica's rows, whose sums are carried along rotated."""
    product = distances.emulated_product if emulate else distances.product

    def body(i: Any, carry: Any) -> Any:
        reduced, pulled, start, whole, like, (columns, column), scale, least = carry
        size = ops.shape(like)[0]
        # Made anew for each block, in a loop as the columns are, of what is carried along: made outside, from
        # coordinates that XLA then computed twice, points that coincide were not rounded the same way.
        rows, row = _points_of(whole, start + i * size, size, scale)
        root, distance, same = tiles.pair(rows, columns, scale, least, product)
        apart = ops.cast(row[:, None] != column, root.dtype)  # a point is no pair with itself
        counted = apart * (rows.real[:, None] * columns.real)

        def add(before: tuple[Tensor, ...], after: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return tuple(ops.concatenate([old[size:], new], axis=0) for old, new in zip(before, after, strict=True))

        if not backward:
            reduced = tuple(
                add(
                    before,
                    tiles.merged(name, tuple(part[:size] for part in before), tiles.along(name, value, counted, 1)),
                )
                for name, before, value in zip(pairs.reductions, reduced, pairs.values(distance, same), strict=True)
            )
        if backward or tiles.at_once(pairs):
            weight = tiles.weights(
                pairs, root, distance, same, counted, (rows.given, columns.given) if backward else None
            )
            (pulled,) = add((pulled,), (pulled[:size] + tiles.pull(weight, rows.points, columns.points, product),))
        return reduced, pulled, start, whole, like, (columns, column), scale, least

    return body


def _rounding_of_block(k: Any, carry: Any) -> Any:
    most, whole, like, scale = carry
    width = ops.shape(like[1])[0]
    points, _ = _points_of(whole, k * width, width, scale)
    return ops.maximum(most, distances.rounding(points)), whole, like, scale


def _points_of(whole: Any, start: Any, length: Any, scale: Scale) -> tuple[Points, Tensor]:
    """Points of the batch from `start` on, and their numbers."""
    *rows, index = tiles.window(whole, start, length)
    return distances.points(rows, scale), index


def _filled(parts: tuple[Tensor, ...], rows: Any) -> tuple[Tensor, ...]:
    """Filled up to so many rows, with zeros."""

    def fill(part: Tensor) -> Tensor:
        missing = rows - ops.shape(part)[0]
        return ops.concatenate([part, ops.zeros((missing, *tuple(part.shape)[1:]), dtype=part.dtype)], axis=0)

    return tuple(map(fill, parts))


def _row_tiles(batch: Any, width: Any, tile: int | None) -> tuple[Any, Any]:
    """Number of tiles and rows of each, against blocks of `width` columns."""
    lesser, greater = tiles.choosers(batch, width)
    most = tile or lesser(greater(2**21 // greater(width, 1), 64), 256)
    count = greater((batch + most - 1) // most, 1)
    return count, greater((batch + count - 1) // count, 1)
