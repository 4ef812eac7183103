"""How the pairs of a row are reduced to one number: tile by tile, and which share of its gradient each pair has.

A reduction is carried from tile to tile as one or two parts for each row. `along` makes the parts of the pairs of a
tile, `merged` those of two sets of pairs together, `finished` the number.

A pair counts with a weight >= 0: for "max" and "min", if it is above 0; for "logsumexp", as so many pairs.
"""

import math
from typing import Any

from keras import backend, ops

from multiloss._arguments import Tensor

REDUCTIONS = ("sum", "logsumexp", "max", "min", "count")
Parts = tuple[Tensor, ...]

# The logsumexp and the maximum of no pair, of which differences are to be finite.
_NONE = -1e30
# The same while there may still come some: the least finite float32.
_LEAST = -(2.0**128 - 2.0**104)


def start(name: str, zeros: Tensor) -> Parts:
    """Parts of no pairs; `zeros` `[N]`."""
    return (zeros,) if name in ("sum", "count") else (zeros + _LEAST, zeros)


def none(names: tuple[str, ...], zeros: Tensor) -> Parts:
    """Numbers of no pairs; `zeros` `[N]`."""
    return tuple(zeros if name in ("sum", "count") else zeros + _signed(name, _NONE) for name in names)


def along(name: str, value: Tensor, counted: Tensor, axis: int) -> Parts:
    """Parts of the pairs `[T, W]` of a tile along an axis; of "count", values are whether they are counted."""
    if name in ("sum", "count"):
        return (ops.sum((ops.cast(value, counted.dtype) if name == "count" else value) * counted, axis=axis),)
    value = _signed(name, value)
    value = ops.where(counted > 0, value, ops.full_like(value, _LEAST))
    largest = ops.max(value, axis=axis, keepdims=True)
    if name == "logsumexp":
        terms = ops.exp(value - largest) * counted
    else:
        terms = ops.cast(ops.logical_and(counted > 0, _attains(value, largest)), value.dtype)
    return ops.squeeze(largest, axis=axis), ops.sum(terms, axis=axis)


def merged(name: str, before: Parts, after: Parts) -> Parts:
    """Parts of two sets of pairs together."""
    if name in ("sum", "count"):
        return (before[0] + after[0],)
    top = ops.where(before[0] > after[0], before[0], after[0])  # on torch, `maximum` makes float32 of float64
    terms = []
    for largest, term in (before, after):
        kept = ops.exp(largest - top) if name == "logsumexp" else ops.cast(_attains(largest, top), top.dtype)
        terms.append(term * kept)
    return top, terms[0] + terms[1]


def finished(names: tuple[str, ...], reduced: tuple[Parts, ...]) -> Tensor:
    """Numbers `[N, S]`, and how many pairs attain each maximum and minimum: `[N, S + M]`."""
    numbers, ties = [], []
    for name, parts in zip(names, reduced, strict=True):
        if name in ("sum", "count"):
            numbers.append(parts[0])
            continue
        none = ops.equal(parts[1], 0)
        term = ops.where(none, ops.ones_like(parts[1]), parts[1])
        largest = ops.where(none, ops.full_like(parts[0], _NONE), parts[0])
        if name == "logsumexp":
            numbers.append(largest + ops.log(term))
        else:
            numbers.append(_signed(name, largest))
            ties.append(term)
    return ops.stack(numbers + ties, axis=1)


def at_once(name: str, value: Tensor, counted: Tensor, one: Tensor | None) -> Tensor:
    """Number of each row of pairs `[B, B']`, in plain operations, to be differentiated as often as one likes.

    It is NaN if `one` is, which otherwise is None or 1.
    """
    if name in ("sum", "count"):
        (number,) = along(name, value, counted, axis=1)
        return number if one is None else number * one  # not before: XLA makes 0 of a NaN times a boolean that is false
    value, is_counted = _signed(name, value), counted > 0
    value = ops.where(is_counted, value, ops.full_like(value, _LEAST))
    known = ops.stop_gradient(value)
    largest = ops.max(known, axis=1, keepdims=True)
    if name == "logsumexp":
        terms = ops.exp(value - largest) * counted
    else:
        terms = ops.cast(ops.logical_and(is_counted, _attains(known, largest)), value.dtype)
    total = ops.sum(terms, axis=1)
    none = ops.equal(total, 0)
    total = ops.where(none, ops.ones_like(total), total)
    largest = ops.where(none, ops.full_like(total, _NONE), ops.squeeze(largest, axis=1))
    largest = largest if one is None else largest * one
    if name == "logsumexp":
        return largest + ops.log(total)
    # And 0, whose gradient goes in equal shares to those that attain the maximum.
    alike = ops.logical_and(terms > 0, ops.abs(known) < math.inf)  # not a product, which may be NaN
    shared = ops.where(alike, value - known, ops.zeros_like(value))
    return _signed(name, largest + ops.sum(shared, axis=1) / total)


def share(name: str, value: Tensor, number: Tensor, ties: Tensor | None) -> Tensor | float:
    """Derivative of the row's number by the value of a pair that counts once."""
    if name == "sum":
        return 1.0
    if name == "logsumexp":
        # At most 1, or 1 over the least weight; of pairs that do not count it may be anything that is finite.
        more = value - number
        return ops.exp(ops.where(more > 80, ops.full_like(more, 80.0), more))
    attained = ops.cast(_attains(_signed(name, value), _signed(name, number)), value.dtype)
    return attained / ops.maximum(ties, ops.ones_like(ties))  # 0 where a row only fills up a tile


def _signed(name: str, value: Any) -> Any:
    return -value if name == "min" else value


def _attains(value: Tensor, largest: Tensor) -> Tensor:
    """Whether values are the largest within their rounding, which differs between tiles and between compilers."""
    rounding = 2.0**-48 if backend.standardize_dtype(value.dtype) == "float64" else 2.0**-20
    return ops.logical_or(value >= largest, value >= largest - rounding * ops.abs(largest))  # of infinity, NaN


def place_of_ties(names: tuple[str, ...], s: int) -> int | None:
    """Which column of `finished` says how many pairs attain a maximum or minimum; None for other reductions."""
    if names[s] not in ("max", "min"):
        return None
    return len(names) + sum(name in ("max", "min") for name in names[:s])
