"""Sizes: how many rows are taken at a time, and windows of what is there for each row."""

from collections.abc import Callable
from typing import Any, Literal

from keras import ops

from multiloss import _arguments
from multiloss._arguments import Tensor

# The most columns of a block: each takes some 28 bytes a feature, and a tile a number for each of its rows.
BLOCK = 2**15
Tile = int | Literal["all"] | None


def tile_size(value: Tile) -> Tile:
    """Return how many rows a tile has, "all", or None to choose by B."""
    if value is None or (isinstance(value, str) and value == "all"):
        return value
    expected = 'None, "all" or a positive integer'
    return min(int(_arguments.number("tile", value, expected, lambda tile: tile >= 1 and tile % 1 == 0)), 2**30)


def in_halves(batch: Any, tile: int | None) -> tuple[Any, Any]:
    """Number of tiles of a batch against itself, and rows of each; `batch` may be a tensor.

    An odd number: then tile i, against the (count - 1) / 2 that follow it, round and round, meets each other tile once.
    """
    count = batch // (tile or _default(batch))
    count = count + 1 - count % 2
    return count, (batch + count - 1) // count


def in_rows(batch: Any, width: Any, tile: int | None) -> tuple[Any, Any]:
    """Number of tiles and rows of each, against blocks of `width` columns."""
    _, greater = choosers(batch, width)
    most = tile or _default(width)
    count = greater((batch + most - 1) // most, 1)
    return count, greater((batch + count - 1) // count, 1)


def in_blocks(columns: Any, least: int) -> tuple[Any, Any]:
    """Number of blocks, as a rule at least so many, and columns of each."""
    lesser, greater = choosers(columns)
    width = greater(lesser((columns + least - 1) // least, BLOCK), 1)
    return (columns + width - 1) // width, width


def _default(columns: Any) -> Any:
    lesser, greater = choosers(columns)
    return lesser(greater(2**21 // greater(columns, 1), 64), 256)


def choosers(*sizes: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The lesser and the greater of two, where sizes may be tensors."""
    return (min, max) if all(isinstance(size, int) for size in sizes) else (ops.minimum, ops.maximum)


def window(rows: Tensor, *places: tuple[Any, Any]) -> Tensor:
    """Part of a tensor: of each of its first axes, so many from a start on."""
    if all(isinstance(start, int) and isinstance(length, int) for start, length in places):
        # As on torch, where `ops.slice` of Keras before 3.15 warns.
        return rows[tuple(slice(start, start + length) for start, length in places)]
    start = places[0][0]
    axes = tuple(ops.shape(rows))[len(places) :]
    starts = (*(start for start, _ in places), *(start * 0 for _ in axes))  # indices of one dtype
    return ops.slice(rows, starts, (*(length for _, length in places), *axes))


def filled(part: Tensor, *sizes: Any) -> Tensor:
    """A tensor with its first axes filled up to so many, with zeros."""
    for axis, size in enumerate(sizes):
        shape = list(ops.shape(part))
        shape[axis] = size - shape[axis]
        part = ops.concatenate([part, ops.zeros(tuple(shape), dtype=part.dtype)], axis=axis)
    return part
