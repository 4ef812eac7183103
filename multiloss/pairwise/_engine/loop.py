"""The loop over tiles of pairs, for all but few pairs: rows against columns.

A loss defines the value of a pair, as a function of its distance and of whether its labels are the same, and the
reduction of the pairs of a row (`Formula`). `reduced` takes time O(B B' D) in matrix products, and memory
O((B + B') D) plus one tile. The backward pass recomputes the tiles instead of storing them.

There are two traversals of the pairs, with the same tiles:

- **in halves**: a batch against itself, each pair once for both of its rows;
- **in blocks**: rows against columns, one block of columns at a time. The columns are references; or the batch itself,
  if a replica computes only its own rows, or if pairs have weights, which may differ between their two rows. Then each
  pair is computed twice, once for each row, so that the gradient of a row is complete without communication.

If the hardware may round the inputs of products, a second loop emulates exact ones (`products`). One of the two loops
runs for 0 tiles, since a conditional costs more on some backends.
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
    "a pairwise loss of many pairs has only first derivatives in reverse mode: forward mode and second derivatives "
    'need `tile="all"`, which takes memory for B x B\' x D numbers, and static sizes'
)
# The number of features up to which the closest pairs of a tile are summed separately.
_FEW = 16


class _Results(NamedTuple):
    reduced: tuple[Parts, ...]  # of each row
    pulled: Tensor  # gradient of each row, or no rows
    back: Tensor  # gradient of each reference, or no rows
    slopes: tuple[Tensor, ...]  # gradient of each learned parameter


@dataclasses.dataclass(frozen=True)
class _Plan:
    """The static properties of a pass. JAX compiles one loop for each plan."""

    formula: Formula
    square: bool  # the columns are the batch of the rows: no row is paired with itself, and both rows get a gradient
    halves: bool  # each pair is computed once, for both of its rows
    weighted: bool  # pairs have weights
    back: bool  # references get a gradient
    backward: bool = False  # compute the gradient for given upstream gradients instead of the results
    emulate: bool = False

    @property
    def at_once(self) -> bool:
        """Whether the forward pass computes the gradient up to a factor: for a sum, whose terms are independent."""
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

    The pairs are those within the rows, each counted in both of its rows and no row paired with itself; or, with
    `references`, all pairs of a row and a reference. A NaN or infinity in any kept row makes every result NaN.

    The gradient by the points, and by the learned parameters of the formula, is exact for any upstream gradient. For a
    single sum, it takes a second pass over the pairs only if the upstream gradient differs between rows. There are only
    first derivatives in reverse mode; others raise NotImplementedError.

    Args:
        formula: the formula of the loss.
        parameters: scalars, of the dtype of the points.
        rows: the rows to reduce.
        references: None, or the columns that the rows are paired with.
        weights: None, or `[B, B']`, the weight of a pair in its row. They get no gradient.
        back: whether the references get a gradient.
        tile: None, or the number of rows per tile. By default 2^21 / B', at least 64 and at most 256, which fits into
            caches and is small compared with the batch.
        share: None, or the rows to compute on this replica; rows and result are those of all replicas. The gradient is
            that of this replica's rows, and 0 for the others. All replicas must use the result in the same way.
    """
    square = references is None
    halves = square and weights is None and share is None
    if 0 in (rows.x.shape[0], (references or rows).x.shape[0]):
        return accumulate.none(formula.reductions, 0 * ops.sum(rows.x, axis=1))
    plan = _Plan(formula, square, halves, weights is not None, back)
    if share is not None:
        rows = Side(*(None if part is None else share.laid_out(part) for part in rows))
    # All tensors are arguments: within `jit`, `scan` or `checkpoint`, JAX cannot differentiate closures over them.
    scalars = {f"parameter {k}": parameter for k, parameter in enumerate(parameters)}
    learned = [name for name, new in zip(scalars, formula.learned, strict=True) if new]
    every = {
        "x": rows.x,
        **scalars,
        **{f"ref_{name}": part for name, part in (references._asdict() if references else {}).items()},
        "apart": rows.apart,
        "labels": rows.labels,
        "kept": rows.kept,
        "weights": weights,
    }
    tracked = {"x", *learned, *(["ref_x"] if back else [])}
    names = sorted((name for name, tensor in every.items() if tensor is not None), key=lambda name: name not in tracked)

    def run(tensors: Sequence[Tensor], plan: _Plan, given: tuple[Tensor, ...] = (), steps: Any = 1) -> _Results:
        # Without `stop_gradient`, TensorFlow's eager mode stores all intermediate results of the loops.
        named = dict(zip(names, map(ops.stop_gradient, tensors), strict=True))
        carried = tuple(named[name] for name in scalars)
        side = Side(named["x"], named.get("apart"), named["labels"], named.get("kept"))
        if plan.halves:
            return _in_halves(plan, side, carried, tile, given, steps)
        sides = [side]
        if not square:
            sides.append(Side(*(named.get(f"ref_{name}") for name in Side._fields)))
        return _in_blocks(plan, sides, named.get("weights"), carried, tile, share, given, steps)

    @ops.custom_gradient  # type: ignore[untyped-decorator]  # Keras has no types
    def differentiable(*tensors: Tensor) -> tuple[Tensor, Any]:
        results = run(tensors, plan)
        (numbers,) = results.reduced[0]
        known = ops.stop_gradient(numbers)  # on torch, the result would reference this closure, a cycle
        at_once = _gradients(results)

        def gradient(*args: Any, upstream: Any = None) -> tuple[Tensor | None, ...]:
            upstream = args[-1] if upstream is None else upstream  # by name on torch, else by position
            gradients = derivative(tensors, ops.stop_gradient(upstream), known, at_once)
            by_name = dict(zip(("x", "ref_x", *learned), gradients, strict=True))
            sources = (*tensors[: len(tracked)], upstream)
            return tuple(_first_order_only(by_name[name], *sources) if name in tracked else None for name in names)

        return numbers, gradient

    def derivative(tensors: Sequence[Tensor], upstream: Tensor, known: Tensor, at_once: list[Tensor]) -> list[Tensor]:
        shared, proportional = ops.max(upstream), ops.zeros((), dtype="bool")
        if plan.at_once:
            even = ops.equal(upstream, shared)
            if "kept" in names:  # other rows get no upstream gradient
                even = ops.logical_or(even, ops.equal(tensors[names.index("kept")][:, None], 0))
            proportional = ops.all(even)
        steps = ops.cast(ops.logical_not(proportional), "int32")
        gradients = _gradients(run(tensors, dataclasses.replace(plan, backward=True), (upstream, known), steps))
        if plan.at_once:
            # Both rows of a pair contribute, each half of the gradient from the forward pass.
            factor = 2 * shared if square else shared
            gradients = [ops.where(proportional, factor * a, b) for a, b in zip(at_once, gradients, strict=True)]
        if share is not None:
            gradients[0] = share.placed(gradients[0])
        return gradients

    with _frameworks.explained(_FIRST_ORDER):
        result = differentiable(*_frameworks.varying_alike([every[name] for name in names]))
    return tuple(result[:, s] for s in range(len(formula.reductions)))


def _gradients(results: _Results) -> list[Tensor]:
    return [results.pulled, results.back, *results.slopes]


@ops.custom_gradient  # type: ignore[untyped-decorator]  # as above
def _first_order_only(gradient: Tensor, *sources: Tensor) -> tuple[Tensor, Any]:
    """Return a gradient that raises if it is itself differentiated by its sources."""

    def second(*args: Any, upstream: Any = None) -> NoReturn:
        raise NotImplementedError(_FIRST_ORDER)

    return gradient, second


# --- a tile ----------------------------------------------------------------------------------------------------------


class _Tile(NamedTuple):
    rows: tuple[Parts, ...]  # parts of its rows
    columns: tuple[Parts, ...]  # parts of its columns, in halves
    weight: Tensor | None  # of each pair, the factor of the difference of its points in the gradient, in the unit
    slopes: Sequence[Tensor]


def _tile(
    plan: _Plan,
    rows: Points,
    columns: Points,
    counted: Tensor,
    returned: Tensor,
    once: Tensor | None,
    scale: Scale,
    least: Tensor,
    parameters: tuple[Tensor, ...],
) -> _Tile:
    """Reduce the pairs of T rows and W columns.

    Args:
        plan: the static properties of the pass.
        rows: points of the rows.
        columns: points of the columns.
        counted: `[T, W]`, the weight of each pair in its row; 0 if it is not a pair.
        returned: the weight of each pair in the row of its column; may be the same tensor.
        once: None, or 1/2 for pairs that occur twice, for the gradient by a parameter.
        scale: the scale of all points.
        least: the bound below which squared distances are only rounding error.
        parameters: the parameters of the loss.
    """
    root = ops.sqrt(distances.squares(rows, columns, scale.ratio, least, _product(plan)))
    distance = scale.unit * root * scale.factor
    names, positive = plan.formula.reductions, same_label(rows.labels, columns.labels)
    if plan.pulls:
        values, which, pull_back = plan.formula.differentiated(distance, positive, parameters)
    else:
        values, which = plan.formula.values(distance, positive, parameters)

    def among(counted: Tensor) -> list[Tensor]:
        return [counted if some is None else counted * ops.cast(some, counted.dtype) for some in which]

    by_row = among(counted)
    by_column = by_row if returned is counted else among(returned)
    row: tuple[Parts, ...] = ()
    column: tuple[Parts, ...] = ()
    if not plan.backward:
        row = tuple(map(functools.partial(accumulate.along, axis=1), names, values, by_row))
    if plan.halves and not plan.backward:
        column = tuple(map(functools.partial(accumulate.along, axis=0), names, values, by_row))
    if not plan.pulls:
        return _Tile(row, column, None, ())

    upstream = [
        None if name == "count" else _upstream(plan, s, value, by_row[s], by_column[s], rows.given, columns.given)
        for s, (name, value) in enumerate(zip(names, values, strict=True))
    ]
    if once is not None:
        upstream = [part if part is None else part * once for part in upstream]
    slope, slopes = pull_back(upstream)
    if once is not None:
        slope = slope / once
    return _Tile(row, column, ops.where(ops.equal(root, 0), 0.0, slope / root), slopes)


def _upstream(
    plan: _Plan, s: int, value: Tensor, by_row: Tensor, by_column: Tensor, rows: Tensor, columns: Tensor
) -> Tensor:
    """Return the upstream gradient of the value of each pair, summed over its row and the row of its column."""
    if not plan.backward:  # as if the upstream gradient of each row were 1, or 1/2 if a pair is in two rows
        return (by_row + by_column) / 2 if plan.square and by_row is not by_column else by_row
    name, tie = plan.formula.reductions[s], accumulate.place_of_ties(plan.formula.reductions, s)
    numbers = rows.shape[1] // 2

    def side(given: Tensor, axis: int) -> Tensor:
        def column(k: int) -> Tensor:
            return ops.expand_dims(given[:, k], axis)

        ties = None if tie is None else column(numbers + tie)
        return column(s) * accumulate.share(name, value, column(numbers + s), ties)

    if name in ("max", "min"):  # which ignore the size of a weight
        by_row, same = ops.cast(by_row > 0, value.dtype), by_row is by_column
        by_column = by_row if same else ops.cast(by_column > 0, value.dtype)
    if not plan.square:
        return side(rows, 1) * by_row
    if by_row is by_column:
        return (side(rows, 1) + side(columns, 0)) * by_row
    return side(rows, 1) * by_row + side(columns, 0) * by_column


def _product(plan: _Plan) -> Callable[[Tensor, Tensor], Tensor]:
    return products.emulated if plan.emulate else products.product


def _pull(plan: _Plan, weight: Tensor, points: Tensor, others: Tensor) -> Tensor:
    """Return in row i `sum_j weight_ij (points_i - others_j)`, for points with a 1 at the end."""

    def pull(weight: Tensor) -> Tensor:
        total = _product(plan)(weight, others)
        # Subtracted per tile, where the large weights of close pairs cancel: at the end, everything added to them would
        # already be rounded to their precision.
        return total[:, -1:] * points[:, :-1] - total[:, :-1]

    if points.shape[1] > _FEW + 1:
        return pull(weight)
    # For the same reason, sum the largest separately. With many features no pair is that much closer than the others.
    size = ops.abs(weight)
    small = size <= ops.max(size) / 64
    return pull(ops.where(small, weight, 0.0)) + pull(ops.where(small, 0.0, weight))


def _merged(plan: _Plan, before: tuple[Parts, ...], after: tuple[Parts, ...]) -> tuple[Parts, ...]:
    return tuple(map(accumulate.merged, plan.formula.reductions, before, after))


# --- both traversals -------------------------------------------------------------------------------------------------


def _concatenated(given: tuple[Tensor, ...], t: Tensor) -> Tensor:
    """Return the given tensors as columns for each row, or a column of ones."""
    return ops.concatenate(given or (ops.ones_like(t[:, :1]),), axis=1)


def _initial(plan: _Plan, rows: Tensor, columns: Tensor) -> _Results:
    """Return the results before the first tile, for rows `[N, D]` and columns `[M, D]`."""
    zeros, names = rows[:, 0] * 0, plan.formula.reductions
    return _Results(
        () if plan.backward else tuple(accumulate.start(name, zeros) for name in names),
        (rows if plan.pulls else rows[:0]) * 0,
        (columns if plan.pulls and plan.back else columns[:0]) * 0,
        tuple(zeros[0] * 0 for new in plan.formula.learned if new and plan.pulls),
    )


def _numbers(plan: _Plan, results: _Results, scale: Scale) -> Tensor:
    if plan.backward:
        return results.pulled[:, :0]
    # TensorFlow ignores NaN in a maximum.
    return accumulate.finished(plan.formula.reductions, results.reduced) + 0 * scale.unit


def _loop(
    plan: _Plan, make: Callable[[_Plan], Any], count: Any, steps: Any, scale: Scale, results: _Results, *carried: Any
) -> _Results:
    """Return the results after `count` steps of a loop; `steps` is 1, or 0 to skip the loop."""
    for emulate in (False, True) if _frameworks.may_round_products() else (False,):
        runs = count * steps * ops.cast(ops.logical_not(scale.exact) if emulate else scale.exact, "int32")
        body = make(dataclasses.replace(plan, emulate=emulate))
        results, *_ = ops.fori_loop(0, runs, body, _frameworks.varying_alike((results, *carried)))
    return results


# --- in halves -------------------------------------------------------------------------------------------------------


def _in_halves(
    plan: _Plan, side: Side, parameters: tuple[Tensor, ...], tile: int | None, given: tuple[Tensor, ...], steps: Any
) -> _Results:
    """Return results `[B, S]` and, for a sum, the gradient for upstream gradients of 1/2; or that for `given`."""
    x, batch = side.x, ops.shape(side.x)[0]
    count, size = tiles.in_halves(batch, tile)
    width = (count + 1) // 2 * size

    def lay_out(rows: Tensor) -> Tensor:
        filled = ops.concatenate([rows, rows[: count * size - batch]], axis=0)
        # One row more than any tile reads: with a single tile, XLA would otherwise evaluate the bodies of both loops.
        return ops.concatenate([filled, filled[: width - size + 1]], axis=0)

    real = ops.cast(ops.arange(count * size, dtype="int32") < batch, x.dtype)
    if side.kept is not None:
        real = real * tiles.filled(side.kept, count * size)
    place = ops.arange(width, dtype="int32")
    others = ops.cast(ops.arange(size, dtype="int32")[:, None] != place, x.dtype)
    once = 1 - 0.5 * ops.cast(place < size, x.dtype)
    t, scale = distances.scaled(x, others)
    points = distances.points((t, side.labels, _concatenated(given, t), _marks(real[:batch], side)), scale)
    least = distances.rounding(points)
    points = Points(*map(lay_out, points))._replace(real=ops.concatenate([real, real[: width - size + 1]], axis=0))
    initial = _initial(plan, points.points[: count * size, :-1], t)
    carried = (points, others, once, scale, least, parameters)
    results = _loop(plan, _halves_of_a_tile, count, steps, scale, initial, *carried)
    numbers = _numbers(plan, results, scale)
    return results._replace(reduced=((numbers[:batch],),), pulled=results.pulled[:batch])


@functools.cache
def _halves_of_a_tile(plan: _Plan) -> Callable[[Any, Any], Any]:
    """Return the body of the loop: the T rows from `i T` on against the W rows from `i T` on.

    The carried results of rows are rotated, so that row `i T` comes first.
    """
    # One function for each plan, and all data in the carry: outside `jit`, JAX recompiles a loop at every call if its
    # body is a new function (measured: 360 ms a step instead of 13 ms).

    def body(i: Any, carry: Any) -> Any:
        before, points, others, once, scale, least, parameters = carry  # others: [T, W], 1, or 0 on the diagonal
        size, width = ops.shape(others)

        def add(before: Tensor, after: Tensor) -> Tensor:
            return ops.concatenate([after[size:], before[width:], after[:size]], axis=0)

        columns = Points(*(tiles.window(part, (i * size, width)) for part in points))
        rows = Points(*(part[:size] for part in columns))
        counted = others * (rows.real[:, None] * columns.real)
        halved = once if any(plan.formula.learned) else None
        tile = _tile(plan, rows, columns, counted, counted, halved, scale, least, parameters)

        reduced, pulled, slopes = before.reduced, before.pulled, before.slopes
        if not plan.backward:
            # Among the rows of the tile itself, each pair already occurs in both orders.
            after = tuple(
                tuple(ops.concatenate([r, c[size:]], axis=0) for r, c in zip(row, column, strict=True))
                for row, column in zip(tile.rows, tile.columns, strict=True)
            )
            head = tuple(tuple(part[:width] for part in parts) for parts in reduced)
            reduced = tuple(
                tuple(map(add, old, new)) for old, new in zip(reduced, _merged(plan, head, after), strict=True)
            )
        if plan.pulls:
            pull = _pull(plan, tile.weight, rows.points, columns.points)
            back = _pull(plan, ops.transpose(tile.weight), columns.points, rows.points)[size:]
            pulled = add(pulled, pulled[:width] + ops.concatenate([pull, back], axis=0))
            slopes = tuple(a + b for a, b in zip(slopes, tile.slopes, strict=True))
        return before._replace(reduced=reduced, pulled=pulled, slopes=slopes), *carry[1:]

    return body


# --- in blocks -------------------------------------------------------------------------------------------------------


class _Set(NamedTuple):
    """The data of all rows, or of all columns, from which points are computed."""

    t: Tensor
    labels: Tensor
    given: Tensor
    marks: Tensor
    index: Tensor


def _in_blocks(
    plan: _Plan,
    sides: list[Side],
    weights: Tensor | None,
    parameters: tuple[Tensor, ...],
    tile: int | None,
    share: Share | None,
    given: tuple[Tensor, ...],
    steps: Any,
) -> _Results:
    """Return the same for rows against columns, for this replica's rows if there is a share."""
    every = [side.x for side in sides]
    t, scale = distances.scaled(ops.concatenate(every, axis=0), ops.zeros((64, 256), dtype=every[0].dtype))
    batch = ops.shape(every[0])[0]
    sets: tuple[_Set, ...] = (_set(sides[0], t[:batch], _concatenated(given, t[:batch])),)
    if not plan.square:
        sets = (*sets, _set(sides[1], t[batch:], _concatenated((), t[batch:])))

    def own(start: Any, size: Any, others: Any) -> tuple[Tensor, ...]:
        results = _rows_in_blocks(plan, start, size, tile, 1 if share is None else share.count, *others)
        slopes = [ops.reshape(slope, (1,)) for slope in results.slopes]
        return results.reduced[0][0], results.pulled, results.back, *slopes

    steps = ops.convert_to_tensor(steps, dtype="int32")
    others = (sets, () if weights is None else (weights,), scale, steps, parameters)
    run = (lambda: own(0, batch, others)) if share is None else (lambda: share.own(own, others))
    numbers, pulled, back, *slopes = run()
    if share is not None and not plan.backward:
        numbers = share.whole(numbers)
    total = ops.sum if share is None else share.total
    return _Results(((numbers,),), pulled, back, tuple(map(total, slopes)))


def _set(side: Side, t: Tensor, given: Tensor) -> _Set:
    real = ops.ones_like(t[:, 0]) if side.kept is None else side.kept
    return _Set(t, side.labels, given, _marks(real, side), ops.arange(ops.shape(t)[0], dtype="int32"))


def _marks(real: Tensor, side: Side) -> Tensor:
    """Return which rows are in pairs `[N]`; and what is added to squared distances, `[N, 2]`, where it may not be 0."""
    return real if side.apart is None else ops.stack([real, side.apart], axis=1)


def _rows_in_blocks(
    plan: _Plan,
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
    """Return the results of `batch` rows from `start` on, with columns divided into at least `parts` blocks."""
    every, total = ops.shape(sets[0].t)[0], ops.shape(sets[-1].t)[0]
    blocks, width = tiles.in_blocks(total, parts)
    count, size = tiles.in_rows(batch, width, tile)
    # Each tile has less than one row too many; a batch is padded for rows and columns alike.
    edges = [every + count, blocks * width]
    if plan.square:
        edges = [tiles.min_and_max(*edges)[1](*edges)] * 2
    sets = tuple(_Set(*(tiles.filled(part, edge) for part in one)) for one, edge in zip(sets, edges, strict=False))
    weights = tuple(tiles.filled(part, *edges) for part in weights)
    # Sizes are carried as the shapes of empty tensors, so that they stay static where possible.
    like = tuple(ops.zeros((length, 0), dtype="int32") for length in (size, width, count))
    least, *_ = ops.fori_loop(0, blocks, _rounding, (0 * scale.ratio, sets[-1], like[1], scale))
    if not plan.square:
        least, *_ = ops.fori_loop(0, count, _rounding, (least, sets[0], like[0], scale))
    zeros = ops.zeros((count * size, sets[0].t.shape[1]), dtype=sets[0].t.dtype)
    initial = _initial(plan, zeros, sets[-1].t)
    carried = (start, start + batch, sets, weights, like, scale, least, parameters)
    results = _loop(plan, _block, blocks, steps, scale, initial, *carried)
    half = 0.5 if plan.square else 1.0  # for pairs that occur twice
    slopes = tuple(half * slope for slope in results.slopes)
    numbers = _numbers(plan, results, scale)
    return _Results(((numbers[:batch],),), results.pulled[:batch], results.back[:total], slopes)


@functools.cache
def _block(plan: _Plan) -> Callable[[Any, Any], Any]:
    """Return the body of the loop over blocks of columns: all rows against one block."""

    def body(k: Any, carry: Any) -> Any:
        before, start, end, sets, weights, like, scale, least, parameters = carry
        width = ops.shape(like[1])[0]
        block, index = _points_of(sets[-1], k * width, width, scale)
        count = ops.shape(like[2])[0]
        inner = before._replace(back=before.back[:width])
        carried = (start, end, k, sets[0], block, index, weights, like, scale, least, parameters)
        after, *_ = ops.fori_loop(0, count, _tile_of_block(plan), _frameworks.varying_alike((inner, *carried)))
        # Rotated, as the rows are in the inner loop.
        after = after._replace(back=ops.concatenate([before.back[width:], after.back], axis=0))
        return after, *carry[1:]

    return body


@functools.cache
def _tile_of_block(plan: _Plan) -> Callable[[Any, Any], Any]:
    """Return the body of the loop over tiles of rows, whose carried results are rotated."""

    def body(i: Any, carry: Any) -> Any:
        before, start, end, k, every, columns, index, weights, like, scale, least, parameters = carry
        size, width = ops.shape(like[0])[0], ops.shape(like[1])[0]
        # Computed again for each block, from carried coordinates and in a loop, as the columns are: computed outside,
        # XLA evaluated the coordinates twice, and coincident points were not rounded in the same way.
        rows, place = _points_of(every, start + i * size, size, scale)
        # Rows beyond the end belong to another replica.
        counted = (rows.real * ops.cast(place < end, rows.real.dtype))[:, None] * columns.real
        if plan.square:
            counted = counted * ops.cast(place[:, None] != index, counted.dtype)  # a point is not paired with itself
        returned = counted
        if plan.weighted:
            here, there = (start + i * size, size), (k * width, width)
            if plan.square:
                returned = counted * ops.transpose(tiles.window(weights[0], there, here))
            counted = counted * tiles.window(weights[0], here, there)
        tile = _tile(plan, rows, columns, counted, returned, None, scale, least, parameters)

        def add(before: Tensor, after: Tensor) -> Tensor:
            return ops.concatenate([before[size:], after], axis=0)

        reduced, pulled, back, slopes = before
        if not plan.backward:
            head = tuple(tuple(part[:size] for part in parts) for parts in reduced)
            reduced = tuple(
                tuple(map(add, old, new)) for old, new in zip(reduced, _merged(plan, head, tile.rows), strict=True)
            )
        if plan.pulls:
            pulled = add(pulled, pulled[:size] + _pull(plan, tile.weight, rows.points, columns.points))
            slopes = tuple(a + b for a, b in zip(slopes, tile.slopes, strict=True))
        if plan.pulls and plan.back:
            back = back + _pull(plan, ops.transpose(tile.weight), columns.points, rows.points)
        return _Results(reduced, pulled, back, slopes), *carry[1:]

    return body


def _rounding(k: Any, carry: Any) -> Any:
    most, rows, like, scale = carry
    width = ops.shape(like)[0]
    points, _ = _points_of(rows, k * width, width, scale)
    return ops.maximum(most, distances.rounding(points)), *carry[1:]


def _points_of(rows: _Set, start: Any, length: Any, scale: Scale) -> tuple[Points, Tensor]:
    """Return the points of `length` rows from `start` on, and their indices."""
    *parts, index = (tiles.window(part, (start, length)) for part in rows)
    return distances.points(parts, scale), index
