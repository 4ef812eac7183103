"""The loop over pairs that every pairwise loss stands on, but for few pairs: rows against columns, tile by tile.

A loss says what a pair is worth, as a function of its distance and of whether its labels are the same, and how a row of
pairs is reduced (`Formula`). `reduced` does the rest: time O(B B' D) in matrix products, memory O((B + B') D) and a
tile. The backward pass computes the tiles anew instead of keeping them.

There are two ways through the pairs, of the same tiles:

- **in halves**: a batch against itself, each pair once for both of its rows;
- **in blocks**: rows against columns, a block of columns at a time. The columns are references; or the batch itself,
  where a replica computes its own rows only, or pairs have weights that are not the same for both of their rows. Then
  each pair is computed twice, once for each row, whose gradient is complete: none has to travel between replicas.

Where the hardware may round the inputs of products, they are computed another way if it does (`products`). Both are
loops, one of which runs for 0 tiles, since a conditional costs more on some backends.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

from keras import ops

from multiloss import _frameworks
from multiloss._arguments import Tensor
from multiloss.distribution import Share
from multiloss.pairwise._engine import accumulate, distances, products, tiles
from multiloss.pairwise._engine.accumulate import Parts
from multiloss.pairwise._engine.distances import Points, Scale
from multiloss.pairwise._engine.formula import Formula, Side, same_label

_FIRST_ORDER = (
    "a pairwise loss of many pairs has first derivatives in reverse mode: forward mode and second derivatives need "
    '`tile="all"`, which takes memory for B x B\' x D numbers, and sizes that are known'
)
# Up to how many features the closest pairs of a tile are added up by themselves.
_FEW = 16


class _Results(NamedTuple):
    reduced: tuple[Parts, ...]  # of each row
    pulled: Tensor  # gradient of each row, or no rows
    back: Tensor  # gradient of each column that is not among the rows, or no rows
    slopes: tuple[Tensor, ...]  # by each parameter that is learned


@dataclasses.dataclass(frozen=True)
class _Way:
    """What is known in advance of a pass. JAX compiles a loop for each, once."""

    formula: Formula
    square: bool  # the columns are the batch that the rows are of: none is a pair with itself, and a pair pulls both
    halves: bool  # each pair is computed once, for both of its rows
    weighted: bool  # pairs have weights
    back: bool  # columns that are not among the rows get a gradient
    backward: bool = False  # the gradient for given upstream gradients, not the numbers
    emulate: bool = False

    @property
    def at_once(self) -> bool:
        """Whether the gradient, up to a factor, comes with the numbers: that of a sum, whose terms are independent."""
        return self.formula.reductions == ("sum",) and self.formula.is_differentiable

    @property
    def pulls(self) -> bool:
        return self.backward or self.at_once


def reduced(
    formula: Formula,
    parameters: Sequence[Tensor],
    rows: Side,
    references: Side | None = None,
    weights: Tensor | None = None,
    back: bool = False,
    tile: int | None = None,
    share: Share | None = None,
) -> tuple[Tensor, ...]:
    """Reduce the pairs of every row: `[B]` for each reduction.

    The pairs are those of the rows among themselves, each in both of its rows and a row not with itself; or, with
    `references`, all of a row and a reference. A NaN or infinity in anything kept makes every number NaN.

    The gradient by the points, and by those parameters that the formula learns, is exact for any upstream gradient; of
    a single sum, it costs a second pass over the pairs only if the upstream gradient is not the same for all rows.
    First derivatives only, in reverse mode; others raise NotImplementedError.

    Args:
        formula: what the author of a loss writes.
        parameters: scalars, of the dtype of the points.
        rows: those that are reduced.
        references: None, or what they are paired with.
        weights: None, or `[B, B']`, how much a pair counts in its row. They get no gradient.
        back: whether the references get a gradient.
        tile: None, or how many rows to take at a time. By default a tile has 2^21 / B' rows, but 64 at least and 256 at
            most: what caches like, and little beside the batch itself.
        share: None, or which rows to compute here, of rows and a result that are those of all replicas. The gradient is
            that of this replica's rows, and 0 for the others; what is made of the result must be the same everywhere.
    """
    square = references is None
    halves = square and weights is None and share is None
    if 0 in (rows.x.shape[0], (references or rows).x.shape[0]):
        return accumulate.none(formula.reductions, 0 * ops.sum(rows.x, axis=1))
    way = _Way(formula, square, halves, weights is not None, back)
    if share is not None:
        rows = Side(*(None if part is None else share.laid_out(part) for part in rows))
    # All tensors are arguments: JAX cannot differentiate, within `jit`, `scan` or `checkpoint`, what closes over them.
    scalars = {f"parameter {k}": parameter for k, parameter in enumerate(parameters)}
    learned = [name for name, new in zip(scalars, formula.learned, strict=True) if new]
    every = {
        "x": rows.x,
        **scalars,
        **{f"ref_{name}": part for name, part in (references._asdict() if references else {}).items()},
        "labels": rows.labels,
        "kept": rows.kept,
        "weights": weights,
    }
    tracked = {"x", *learned, *(["ref_x"] if back else [])}
    names = sorted((name for name, tensor in every.items() if tensor is not None), key=lambda name: name not in tracked)

    def run(tensors: Sequence[Tensor], way: _Way, given: tuple[Tensor, ...] = (), steps: Any = 1) -> _Results:
        # Without `stop_gradient`, TensorFlow outside a graph keeps all that the loops compute.
        named = dict(zip(names, map(ops.stop_gradient, tensors), strict=True))
        carried = tuple(named[name] for name in scalars)
        side = Side(named["x"], named["labels"], named.get("kept"))
        if way.halves:
            return _in_halves(way, side, carried, tile, given, steps)
        sides = [side] if square else [side, Side(named["ref_x"], named["ref_labels"], named.get("ref_kept"))]
        return _in_blocks(way, sides, named.get("weights"), carried, tile, share, given, steps)

    @ops.custom_gradient  # type: ignore[untyped-decorator]  # Keras has no types
    def differentiable(*tensors: Tensor) -> tuple[Tensor, Any]:
        results = run(tensors, way)
        (numbers,) = results.reduced[0]
        known = ops.stop_gradient(numbers)  # not the result, which on torch would hold this closure, and so itself
        at_once = _gradients(results)

        def gradient(*args: Any, upstream: Any = None) -> tuple[Tensor | None, ...]:
            upstream = args[-1] if upstream is None else upstream  # torch passes it by name, the others by position
            gradients = derivative(tensors, ops.stop_gradient(upstream), known, at_once)
            by_name = dict(zip(("x", "ref_x", *learned), gradients, strict=True))
            sources = (*tensors[: len(tracked)], upstream)
            return tuple(_once(by_name[name], *sources) if name in tracked else None for name in names)

        return numbers, gradient

    def derivative(tensors: Sequence[Tensor], upstream: Tensor, known: Tensor, at_once: list[Tensor]) -> list[Tensor]:
        shared, proportional = ops.max(upstream), ops.zeros((), dtype="bool")
        if way.at_once:
            even = ops.equal(upstream, shared)
            if "kept" in names:  # what is not kept gets no upstream gradient
                even = ops.logical_or(even, ops.equal(tensors[names.index("kept")][:, None], 0))
            proportional = ops.all(even)
        steps = ops.cast(ops.logical_not(proportional), "int32")
        gradients = _gradients(run(tensors, dataclasses.replace(way, backward=True), (upstream, known), steps))
        if way.at_once:
            # A pair pulls both of its rows, each with half of what comes with the numbers.
            factor = 2 * shared if square else shared
            gradients = [ops.where(proportional, factor * a, b) for a, b in zip(at_once, gradients, strict=True)]
        if share is not None:
            gradients[0] = share.placed(gradients[0])
        return gradients

    with _frameworks.explained(_FIRST_ORDER):
        result = differentiable(*(every[name] for name in names))
    return tuple(result[:, s] for s in range(len(formula.reductions)))


def _gradients(results: _Results) -> list[Tensor]:
    return [results.pulled, results.back, *results.slopes]


@ops.custom_gradient  # type: ignore[untyped-decorator]  # as above
def _once(gradient: Tensor, *sources: Tensor) -> tuple[Tensor, Any]:
    """A gradient that has none itself, of what it was computed from."""

    def second(*args: Any, upstream: Any = None) -> NoReturn:
        raise NotImplementedError(_FIRST_ORDER)

    return gradient, second


# --- a tile ----------------------------------------------------------------------------------------------------------


class _Tile(NamedTuple):
    rows: tuple[Parts, ...]  # parts of its rows
    columns: tuple[Parts, ...]  # parts of its columns, in halves
    weight: Tensor | None  # of each pair, how hard it pulls along the line between its points, in the unit
    slopes: Sequence[Tensor]


def _tile(
    way: _Way,
    rows: Points,
    columns: Points,
    counted: Tensor,
    returned: Tensor,
    once: Tensor | None,
    scale: Scale,
    least: Tensor,
    parameters: tuple[Tensor, ...],
) -> _Tile:
    """What the pairs of T rows and W columns come to.

    Args:
        way: what is known in advance.
        rows: points of the rows.
        columns: points of the columns.
        counted: `[T, W]`, how much a pair counts in its row: 0 where it is none.
        returned: the same in the row of its column, which may be the same tensor.
        once: None, or 1/2 for the pairs that are there twice, for the gradient by a parameter.
        scale: of all points.
        least: below what squares of distances are but rounding.
        parameters: of the loss.
    """
    root = ops.sqrt(distances.squares(rows, columns, scale.ratio, least, _product(way)))
    distance = scale.unit * root * scale.factor
    names, positive = way.formula.reductions, same_label(rows.labels, columns.labels)
    if way.pulls:
        values, which, pull_back = way.formula.differentiated(distance, positive, parameters)
    else:
        values, which = way.formula.values(distance, positive, parameters)

    def among(counted: Tensor) -> list[Tensor]:
        return [counted if some is None else counted * ops.cast(some, counted.dtype) for some in which]

    by_row = among(counted)
    by_column = by_row if returned is counted else among(returned)
    row: tuple[Parts, ...] = ()
    column: tuple[Parts, ...] = ()
    if not way.backward:
        row = tuple(map(functools.partial(accumulate.along, axis=1), names, values, by_row))
    if way.halves and not way.backward:
        column = tuple(map(functools.partial(accumulate.along, axis=0), names, values, by_row))
    if not way.pulls:
        return _Tile(row, column, None, ())

    upstream = [
        None if name == "count" else _upstream(way, s, value, by_row[s], by_column[s], rows.given, columns.given)
        for s, (name, value) in enumerate(zip(names, values, strict=True))
    ]
    if once is not None:
        upstream = [part if part is None else part * once for part in upstream]
    slope, slopes = pull_back(upstream)
    if once is not None:
        slope = slope / once
    return _Tile(row, column, ops.where(ops.equal(root, 0), 0.0, slope / root), slopes)


def _upstream(
    way: _Way, s: int, value: Tensor, by_row: Tensor, by_column: Tensor, rows: Tensor, columns: Tensor
) -> Tensor:
    """Derivative of what follows from the numbers by the value of each pair, in its row and in that of its column."""
    if not way.backward:  # as if the derivative by each number were 1, or 1/2 where a pair is in two rows
        return (by_row + by_column) / 2 if way.square and by_row is not by_column else by_row
    name, tie = way.formula.reductions[s], accumulate.place_of_ties(way.formula.reductions, s)
    numbers = rows.shape[1] // 2

    def side(given: Tensor, axis: int) -> Tensor:
        def column(k: int) -> Tensor:
            return ops.expand_dims(given[:, k], axis)

        ties = None if tie is None else column(numbers + tie)
        return column(s) * accumulate.share(name, value, column(numbers + s), ties)

    if name in ("max", "min"):  # whatever a pair counts
        by_row, same = ops.cast(by_row > 0, value.dtype), by_row is by_column
        by_column = by_row if same else ops.cast(by_column > 0, value.dtype)
    if not way.square:
        return side(rows, 1) * by_row
    if by_row is by_column:
        return (side(rows, 1) + side(columns, 0)) * by_row
    return side(rows, 1) * by_row + side(columns, 0) * by_column


def _product(way: _Way) -> Callable[[Tensor, Tensor], Tensor]:
    return products.emulated if way.emulate else products.product


def _pull(way: _Way, weight: Tensor, points: Tensor, others: Tensor) -> Tensor:
    """Row i: `sum_j weight_ij (points_i - others_j)`, for points with a 1 at the end."""

    def pull(weight: Tensor) -> Tensor:
        total = _product(way)(weight, others)
        # Taken here, where weights of close pairs cancel, not once at the end: these are large, and whatever is added
        # to them is rounded accordingly.
        return total[:, -1:] * points[:, :-1] - total[:, :-1]

    if points.shape[1] > _FEW + 1:
        return pull(weight)
    # For the same reason, the largest by themselves. With many features no pair is that much closer than the others.
    size = ops.abs(weight)
    small = size <= ops.max(size) / 64
    return pull(ops.where(small, weight, 0.0)) + pull(ops.where(small, 0.0, weight))


def _merged(way: _Way, before: tuple[Parts, ...], after: tuple[Parts, ...]) -> tuple[Parts, ...]:
    return tuple(map(accumulate.merged, way.formula.reductions, before, after))


# --- both ways -------------------------------------------------------------------------------------------------------


def _beside(given: tuple[Tensor, ...], t: Tensor) -> Tensor:
    """Columns of what is given for each row, or a 1."""
    return ops.concatenate(given or (ops.ones_like(t[:, :1]),), axis=1)


def _nothing(way: _Way, rows: Tensor, columns: Tensor) -> _Results:
    """Results before the first tile, of rows `[N, D]` and columns `[M, D]`."""
    zeros, names = rows[:, 0] * 0, way.formula.reductions
    return _Results(
        () if way.backward else tuple(accumulate.start(name, zeros) for name in names),
        (rows if way.pulls else rows[:0]) * 0,
        (columns if way.pulls and way.back else columns[:0]) * 0,
        tuple(zeros[0] * 0 for new in way.formula.learned if new and way.pulls),
    )


def _numbers(way: _Way, results: _Results, scale: Scale) -> Tensor:
    if way.backward:
        return results.pulled[:, :0]
    # A maximum of NaN is none on TensorFlow.
    return accumulate.finished(way.formula.reductions, results.reduced) + 0 * scale.unit


def _over(
    way: _Way, make: Callable[[_Way], Any], count: Any, steps: Any, scale: Scale, results: _Results, *carried: Any
) -> _Results:
    """Results after `count` steps of a loop; after none if `steps` is 0."""
    for emulate in (False, True) if _frameworks.may_round_products() else (False,):
        runs = count * steps * ops.cast(ops.logical_not(scale.exact) if emulate else scale.exact, "int32")
        body = make(dataclasses.replace(way, emulate=emulate))
        results, *_ = ops.fori_loop(0, runs, body, (results, *carried))
    return results


# --- in halves -------------------------------------------------------------------------------------------------------


def _in_halves(
    way: _Way, side: Side, parameters: tuple[Tensor, ...], tile: int | None, given: tuple[Tensor, ...], steps: Any
) -> _Results:
    """Numbers `[B, S]` and, of a sum, the gradient for upstream gradients of 1/2; or that for those `given`."""
    x, batch = side.x, ops.shape(side.x)[0]
    count, size = tiles.in_halves(batch, tile)
    width = (count + 1) // 2 * size

    def lay_out(rows: Tensor) -> Tensor:
        filled = ops.concatenate([rows, rows[: count * size - batch]], axis=0)
        # One row more than any tile reads: of a single tile, XLA would otherwise work out what both loops do.
        return ops.concatenate([filled, filled[: width - size + 1]], axis=0)

    real = ops.cast(ops.arange(count * size, dtype="int32") < batch, x.dtype)
    if side.kept is not None:
        real = real * tiles.filled(side.kept, count * size)
    place = ops.arange(width, dtype="int32")
    others = ops.cast(ops.arange(size, dtype="int32")[:, None] != place, x.dtype)
    once = 1 - 0.5 * ops.cast(place < size, x.dtype)
    t, scale = distances.scaled(x, others)
    points = distances.points((t, side.labels, _beside(given, t), real[:batch]), scale)
    least = distances.rounding(points)
    points = Points(*map(lay_out, points))._replace(real=ops.concatenate([real, real[: width - size + 1]], axis=0))
    nothing = _nothing(way, points.points[: count * size, :-1], t)
    carried = (points, others, once, scale, least, parameters)
    results = _over(way, _halves_of_a_tile, count, steps, scale, nothing, *carried)
    numbers = _numbers(way, results, scale)
    return results._replace(reduced=((numbers[:batch],),), pulled=results.pulled[:batch])


@functools.cache
def _halves_of_a_tile(way: _Way) -> Callable[[Any, Any], Any]:
    """Make the body of the loop: the T rows from `i T` on against the W rows from `i T` on.

    What is known of rows is carried along rotated, so that row `i T` comes first.
    """
    # One function for each way, and all data carried along: outside `jit`, JAX compiles a loop again at every call if
    # its body is a new function (measured: 360 ms a step where 13 ms do).

    def body(i: Any, carry: Any) -> Any:
        before, points, others, once, scale, least, parameters = carry  # others: [T, W], 1, or 0 on the diagonal
        size, width = ops.shape(others)

        def add(before: Tensor, after: Tensor) -> Tensor:
            return ops.concatenate([after[size:], before[width:], after[:size]], axis=0)

        columns = Points(*(tiles.window(part, (i * size, width)) for part in points))
        rows = Points(*(part[:size] for part in columns))
        counted = others * (rows.real[:, None] * columns.real)
        halved = once if any(way.formula.learned) else None
        tile = _tile(way, rows, columns, counted, counted, halved, scale, least, parameters)

        reduced, pulled, slopes = before.reduced, before.pulled, before.slopes
        if not way.backward:
            # Of the columns that are the rows themselves, each pair is there for either.
            after = tuple(
                tuple(ops.concatenate([r, c[size:]], axis=0) for r, c in zip(row, column, strict=True))
                for row, column in zip(tile.rows, tile.columns, strict=True)
            )
            head = tuple(tuple(part[:width] for part in parts) for parts in reduced)
            reduced = tuple(
                tuple(map(add, old, new)) for old, new in zip(reduced, _merged(way, head, after), strict=True)
            )
        if way.pulls:
            pull = _pull(way, tile.weight, rows.points, columns.points)
            back = _pull(way, ops.transpose(tile.weight), columns.points, rows.points)[size:]
            pulled = add(pulled, pulled[:width] + ops.concatenate([pull, back], axis=0))
            slopes = tuple(a + b for a, b in zip(slopes, tile.slopes, strict=True))
        return before._replace(reduced=reduced, pulled=pulled, slopes=slopes), *carry[1:]

    return body


# --- in blocks -------------------------------------------------------------------------------------------------------


class _Set(NamedTuple):
    """What is there of each row, or of each column, before it is made a point."""

    t: Tensor
    labels: Tensor
    given: Tensor
    real: Tensor
    index: Tensor


def _in_blocks(
    way: _Way,
    sides: list[Side],
    weights: Tensor | None,
    parameters: tuple[Tensor, ...],
    tile: int | None,
    share: Share | None,
    given: tuple[Tensor, ...],
    steps: Any,
) -> _Results:
    """The same of rows against columns, of a replica's own rows if there is a share."""
    every = [side.x for side in sides]
    t, scale = distances.scaled(ops.concatenate(every, axis=0), ops.zeros((64, 256), dtype=every[0].dtype))
    batch = ops.shape(every[0])[0]
    sets: tuple[_Set, ...] = (_set(sides[0], t[:batch], _beside(given, t[:batch])),)
    if not way.square:
        sets = (*sets, _set(sides[1], t[batch:], _beside((), t[batch:])))

    def own(start: Any, size: Any, others: Any) -> tuple[Tensor, ...]:
        results = _rows_in_blocks(way, start, size, tile, 1 if share is None else share.count, *others)
        slopes = [ops.reshape(slope, (1,)) for slope in results.slopes]
        return results.reduced[0][0], results.pulled, results.back, *slopes

    steps = ops.convert_to_tensor(steps, dtype="int32")
    others = (sets, () if weights is None else (weights,), scale, steps, parameters)
    run = (lambda: own(0, batch, others)) if share is None else (lambda: share.own(own, others))
    numbers, pulled, back, *slopes = run()
    if share is not None and not way.backward:
        numbers = share.whole(numbers)
    total = ops.sum if share is None else share.total
    return _Results(((numbers,),), pulled, back, tuple(map(total, slopes)))


def _set(side: Side, t: Tensor, given: Tensor) -> _Set:
    real = ops.ones_like(t[:, 0]) if side.kept is None else side.kept
    return _Set(t, side.labels, given, real, ops.arange(ops.shape(t)[0], dtype="int32"))


def _rows_in_blocks(
    way: _Way,
    start: Any,
    batch: Any,
    tile: int | None,
    parts: int,
    sets: tuple[_Set, ...],
    weights: tuple[Tensor, ...],
    scale: Scale,
    steps: Any,
    parameters: tuple[Tensor, ...],
) -> _Results:
    """Results of `batch` rows from `start` on, for which there is 1 of so many parts of the memory."""
    every, total = ops.shape(sets[0].t)[0], ops.shape(sets[-1].t)[0]
    blocks, width = tiles.in_blocks(total, parts)
    count, size = tiles.in_rows(batch, width, tile)
    # All tiles have less than one row too many each; a batch is filled up for rows and columns alike.
    edges = [every + count, blocks * width]
    if way.square:
        edges = [tiles.choosers(*edges)[1](*edges)] * 2
    sets = tuple(_Set(*(tiles.filled(part, edge) for part in one)) for one, edge in zip(sets, edges, strict=False))
    weights = tuple(tiles.filled(part, *edges) for part in weights)
    # Sizes, which may be tensors but are known in advance where they can be, as the shapes of tensors without entries.
    like = tuple(ops.zeros((length, 0), dtype="int32") for length in (size, width, count))
    least, *_ = ops.fori_loop(0, blocks, _rounding, (0 * scale.ratio, sets[-1], like[1], scale))
    if not way.square:
        least, *_ = ops.fori_loop(0, count, _rounding, (least, sets[0], like[0], scale))
    zeros = ops.zeros((count * size, sets[0].t.shape[1]), dtype=sets[0].t.dtype)
    nothing = _nothing(way, zeros, sets[-1].t)
    carried = (start, start + batch, sets, weights, like, scale, least, parameters)
    results = _over(way, _block, blocks, steps, scale, nothing, *carried)
    half = 0.5 if way.square else 1.0  # of pairs that are there twice
    slopes = tuple(half * slope for slope in results.slopes)
    numbers = _numbers(way, results, scale)
    return _Results(((numbers[:batch],),), results.pulled[:batch], results.back[:total], slopes)


@functools.cache
def _block(way: _Way) -> Callable[[Any, Any], Any]:
    """Make the body of the loop over blocks of columns: all rows against one block."""

    def body(k: Any, carry: Any) -> Any:
        before, start, end, sets, weights, like, scale, least, parameters = carry
        width = ops.shape(like[1])[0]
        block, index = _points_of(sets[-1], k * width, width, scale)
        count = ops.shape(like[2])[0]
        inner = before._replace(back=before.back[:width])
        carried = (start, end, k, sets[0], block, index, weights, like, scale, least, parameters)
        after, *_ = ops.fori_loop(0, count, _tile_of_block(way), (inner, *carried))
        # Rotated, as the rows are in the loop within.
        after = after._replace(back=ops.concatenate([before.back[width:], after.back], axis=0))
        return after, *carry[1:]

    return body


@functools.cache
def _tile_of_block(way: _Way) -> Callable[[Any, Any], Any]:
    """Make the body of the loop over tiles of rows, of which what is known is carried along rotated."""

    def body(i: Any, carry: Any) -> Any:
        before, start, end, k, every, columns, index, weights, like, scale, least, parameters = carry
        size, width = ops.shape(like[0])[0], ops.shape(like[1])[0]
        # Made anew for each block, in a loop as the columns are, of what is carried along: made outside, from
        # coordinates that XLA then computed twice, points that coincide were not rounded the same way.
        rows, place = _points_of(every, start + i * size, size, scale)
        # Beyond the end are rows of another replica.
        counted = (rows.real * ops.cast(place < end, rows.real.dtype))[:, None] * columns.real
        if way.square:
            counted = counted * ops.cast(place[:, None] != index, counted.dtype)  # a point is no pair with itself
        returned = counted
        if way.weighted:
            here, there = (start + i * size, size), (k * width, width)
            if way.square:
                returned = counted * ops.transpose(tiles.window(weights[0], there, here))
            counted = counted * tiles.window(weights[0], here, there)
        tile = _tile(way, rows, columns, counted, returned, None, scale, least, parameters)

        def add(before: Tensor, after: Tensor) -> Tensor:
            return ops.concatenate([before[size:], after], axis=0)

        reduced, pulled, back, slopes = before
        if not way.backward:
            head = tuple(tuple(part[:size] for part in parts) for parts in reduced)
            reduced = tuple(
                tuple(map(add, old, new)) for old, new in zip(reduced, _merged(way, head, tile.rows), strict=True)
            )
        if way.pulls:
            pulled = add(pulled, pulled[:size] + _pull(way, tile.weight, rows.points, columns.points))
            slopes = tuple(a + b for a, b in zip(slopes, tile.slopes, strict=True))
        if way.pulls and way.back:
            back = back + _pull(way, ops.transpose(tile.weight), columns.points, rows.points)
        return _Results(reduced, pulled, back, slopes), *carry[1:]

    return body


def _rounding(k: Any, carry: Any) -> Any:
    most, rows, like, scale = carry
    width = ops.shape(like)[0]
    points, _ = _points_of(rows, k * width, width, scale)
    return ops.maximum(most, distances.rounding(points)), *carry[1:]


def _points_of(rows: _Set, start: Any, length: Any, scale: Scale) -> tuple[Points, Tensor]:
    """Points of so many rows from `start` on, and their numbers."""
    *parts, index = (tiles.window(part, (start, length)) for part in rows)
    return distances.points(parts, scale), index
