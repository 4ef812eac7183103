"""Tile sizes, windows and padding."""

from collections.abc import Callable
from typing import Any, Literal

from keras import ops

from multiloss import _arguments
from multiloss._arguments import Tensor

# The largest number of columns of a block. A column takes about 28 bytes per feature, and one number per row of a tile.
BLOCK = 2**15
Tile = int | Literal["all"] | None


def tile_size(value: Tile) -> Tile:
    """Return the checked `tile`: the number of rows, "all", or None for a default that depends on B."""
    if value is None or (isinstance(value, str) and value == "all"):
        return value
    expected = 'None, "all" or a positive integer'
    return min(int(_arguments.number("tile", value, expected, lambda tile: tile >= 1 and tile % 1 == 0)), 2**30)


def in_halves(batch: Any, tile: int | None) -> tuple[Any, Any]:
    """Return the number of tiles of a batch against itself, and the rows of each; `batch` may be a tensor.

    The number is odd: then tile i, paired with the (count - 1) / 2 tiles after it, cyclically, meets each other tile
    once.
    """
    count = batch // (tile or _default(batch))
    count = count + 1 - count % 2
    return count, (batch + count - 1) // count


def in_rows(batch: Any, width: Any, tile: int | None) -> tuple[Any, Any]:
    """Return the number of tiles and the rows of each, for blocks of `width` columns."""
    _, maximum = min_and_max(batch, width)
    most = tile or _default(width)
    count = maximum((batch + most - 1) // most, 1)
    return count, maximum((batch + count - 1) // count, 1)


def in_blocks(columns: Any, least: int) -> tuple[Any, Any]:
    """Return the number of blocks, usually at least `least`, and the columns of each."""
    minimum, maximum = min_and_max(columns)
    width = maximum(minimum((columns + least - 1) // least, BLOCK), 1)
    return (columns + width - 1) // width, width


def _default(columns: Any) -> Any:
    minimum, maximum = min_and_max(columns)
    return minimum(maximum(2**21 // maximum(columns, 1), 64), 256)


def min_and_max(*sizes: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the functions for the minimum and maximum of sizes, which may be tensors."""
    return (min, max) if all(isinstance(size, int) for size in sizes) else (ops.minimum, ops.maximum)


def window(rows: Tensor, *places: tuple[Any, Any]) -> Tensor:
    """Return a slice of a tensor, given `(start, length)` for each of its first axes."""
    if all(isinstance(start, int) and isinstance(length, int) for start, length in places):
        # This includes torch, where `ops.slice` of Keras before 3.15 warns.
        return rows[tuple(slice(start, start + length) for start, length in places)]
    start = places[0][0]
    axes = tuple(ops.shape(rows))[len(places) :]
    starts = (*(start for start, _ in places), *(start * 0 for _ in axes))  # indices of one dtype
    return ops.slice(rows, starts, (*(length for _, length in places), *axes))


def filled(part: Tensor, *sizes: Any) -> Tensor:
    """Pad the first axes of a tensor with zeros to the given sizes."""
    for axis, size in enumerate(sizes):
        shape = list(ops.shape(part))
        shape[axis] = size - shape[axis]
        part = ops.concatenate([part, ops.zeros(tuple(shape), dtype=part.dtype)], axis=axis)
    return part
