"""What a loss makes of the pairs of a tile: `T` rows against `W` columns."""

from collections.abc import Callable
from typing import Any, NamedTuple

from keras import ops

from multiloss.checks import Tensor
from multiloss.pairwise import distances
from multiloss.pairwise.distances import Points, Scale

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


def at_once(pairs: Pairs) -> bool:
    """Tell whether the gradient, up to a factor, comes with the values: it takes a sum, whose terms are independent."""
    return pairs.reductions == ("sum",)


def nothing(pairs: Pairs, t: Tensor) -> tuple[tuple[tuple[Tensor, ...], ...], Tensor]:
    """Results before the first tile: values and gradient."""
    zeros = t[:, 0] * 0
    reduced = tuple((zeros,) if name == "sum" else (zeros + _LOWEST, zeros) for name in pairs.reductions)
    return reduced, t * 0


def finished(reduced: tuple[tuple[Tensor, ...], ...]) -> Tensor:
    """Results after the last tile: `[B, S]`."""
    return ops.stack([part[0] if len(part) == 1 else part[0] + ops.log(part[1]) for part in reduced], axis=1)


def window(parts: Any, start: Any, length: Any) -> Any:
    """Rows from `start` on of each part."""

    def window(rows: Tensor) -> Tensor:
        axes = tuple(ops.shape(rows))[1:]
        return ops.slice(rows, (start, *(start * 0 for _ in axes)), (length, *axes))  # indices of one dtype

    windows = map(window, parts)
    return Points(*windows) if isinstance(parts, Points) else tuple(windows)


def beside(given: tuple[Tensor, ...], t: Tensor) -> Tensor:
    """Columns of what is given for each row, or a 1."""
    return ops.concatenate(given or (ops.ones_like(t[:, :1]),), axis=1)


def choosers(*sizes: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The lesser and the greater of two, where sizes may be tensors."""
    return (min, max) if all(isinstance(size, int) for size in sizes) else (ops.minimum, ops.maximum)


def pair(
    rows: Points, columns: Points, scale: Scale, least: Tensor, product: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Of each pair the distance in the unit, the distance, and whether the labels are the same."""
    root = ops.sqrt(distances.squares(rows, columns, scale.ratio, least, product))
    return root, scale.unit * root * scale.factor, _same(rows.labels, columns.labels)


def _same(rows: Tensor, columns: Tensor) -> Tensor:
    if rows.shape[1] == 1:
        return ops.equal(rows, columns[:, 0])
    return ops.all(ops.equal(rows[:, None], columns), axis=-1)


def along(name: str, value: Tensor, counted: Tensor, axis: int) -> tuple[Tensor, ...]:
    """Reduce the pairs that count along an axis: to a sum, or to the largest and the sum of exponentials over its."""
    if name == "sum":
        return (ops.sum(value * counted, axis=axis),)
    value = value + (1 - counted) * _LOWEST
    largest = ops.max(value, axis=axis, keepdims=True)
    return ops.squeeze(largest, axis=axis), ops.sum(ops.exp(value - largest), axis=axis)


def both(name: str, value: Tensor, counted: Tensor, size: Any) -> tuple[Tensor, ...]:
    """Reduce along both axes, of columns that start with the rows: those count once."""
    row, column = along(name, value, counted, 1), along(name, value, counted, 0)
    return tuple(ops.concatenate([r, c[size:]], axis=0) for r, c in zip(row, column, strict=True))


def merged(name: str, before: tuple[Tensor, ...], after: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """What `along` gives for two sets of pairs, for both together."""
    if name == "sum":
        return (before[0] + after[0],)
    top = ops.maximum(before[0], after[0])
    return top, before[1] * ops.exp(before[0] - top) + after[1] * ops.exp(after[0] - top)


def weights(
    pairs: Pairs,
    root: Tensor,
    distance: Tensor,
    same: Tensor,
    counted: Tensor,
    given: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """Of each pair, how hard it pulls its points along the line between them, for that line in the unit."""
    slope = _slope(pairs, distance, same, *given) if given else pairs.slopes(distance, same)[0]
    return ops.where(ops.equal(root, 0), 0.0, slope * counted / root)


def _slope(pairs: Pairs, distance: Tensor, same: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Derivative of what follows from the values `[B, S]` with respect to each distance: `[T, W]`."""
    values, total = pairs.values(distance, same), 0.0
    for s, (name, value, slope) in enumerate(zip(pairs.reductions, values, pairs.slopes(distance, same), strict=True)):
        if slope is None:
            continue
        row, column = ops.expand_dims(rows[:, s], 1), columns[:, s]
        if name == "logsumexp":
            result = len(values) + s
            # The share of the pair in the row's sum, at most 1 (but on the diagonal, which does not count).
            row = row * ops.exp(ops.minimum(value - ops.expand_dims(rows[:, result], 1), 0))
            column = column * ops.exp(ops.minimum(value - columns[:, result], 0))
        total = total + (row + column) * slope
    return total


def pull(weight: Tensor, points: Tensor, others: Tensor, product: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
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
