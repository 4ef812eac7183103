"""Reductions over the pairs of a row, computed tile by tile, and the derivative by each pair.

The state of a reduction is one or two parts for each row. `along` computes the parts for one tile, `merged` combines
the parts of two sets of pairs, and `finished` computes the result.

A pair has a weight >= 0. For "max" and "min", pairs with a weight above 0 count; for "logsumexp", the weight is a
multiplicity.
"""

import math
from typing import Any

from keras import backend, ops

from multiloss._arguments import Tensor

REDUCTIONS = ("sum", "logsumexp", "max", "min", "count")
Parts = tuple[Tensor, ...]

# The logsumexp and the maximum of a row without pairs, chosen so that differences are finite.
_NONE = -1e30
# The initial value of both while tiles are reduced: the lowest finite float32.
_LEAST = -(2.0**128 - 2.0**104)


def start(name: str, zeros: Tensor) -> Parts:
    """Return the initial parts; `zeros` `[N]`."""
    return (zeros,) if name in ("sum", "count") else (zeros + _LEAST, zeros)


def none(names: tuple[str, ...], zeros: Tensor) -> Parts:
    """Return the results of rows without pairs; `zeros` `[N]`."""
    return tuple(zeros if name in ("sum", "count") else zeros + _signed(name, _NONE) for name in names)


def along(name: str, value: Tensor, counted: Tensor, axis: int) -> Parts:
    """Reduce the pairs `[T, W]` of a tile along an axis to parts; for "count", values are booleans."""
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
    """Combine the parts of two sets of pairs."""
    if name in ("sum", "count"):
        return (before[0] + after[0],)
    top = ops.where(before[0] > after[0], before[0], after[0])  # on torch, `maximum` casts float64 to float32
    terms = []
    for largest, term in (before, after):
        kept = ops.exp(largest - top) if name == "logsumexp" else ops.cast(_attains(largest, top), top.dtype)
        terms.append(term * kept)
    return top, terms[0] + terms[1]


def finished(names: tuple[str, ...], reduced: tuple[Parts, ...]) -> Tensor:
    """Return the results `[N, S]` and the number of pairs that attain each maximum and minimum: `[N, S + M]`."""
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
    """Reduce pairs `[B, B']` to a result for each row, in plain operations that have derivatives of any order.

    `one` is None, 1, or NaN, which makes every result NaN.
    """
    if name in ("sum", "count"):
        (number,) = along(name, value, counted, axis=1)
        return number if one is None else number * one  # last: XLA turns NaN times a false boolean into 0
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
    # Add a 0 whose gradient goes in equal shares to the pairs that attain the maximum.
    alike = ops.logical_and(terms > 0, ops.abs(known) < math.inf)  # a product could be NaN
    shared = ops.where(alike, value - known, ops.zeros_like(value))
    return _signed(name, largest + ops.sum(shared, axis=1) / total)


def share(name: str, value: Tensor, number: Tensor, ties: Tensor | None) -> Tensor | float:
    """Return the derivative of a row's result by the value of a pair of weight 1."""
    if name == "sum":
        return 1.0
    if name == "logsumexp":
        # At most 1, or 1 over the smallest weight; for pairs that do not count, any finite value will do.
        more = value - number
        return ops.exp(ops.where(more > 80, ops.full_like(more, 80.0), more))
    attained = ops.cast(_attains(_signed(name, value), _signed(name, number)), value.dtype)
    return attained / ops.maximum(ties, ops.ones_like(ties))  # 0 for padding rows


def _signed(name: str, value: Any) -> Any:
    return -value if name == "min" else value


def _attains(value: Tensor, largest: Tensor) -> Tensor:
    """Return whether values equal the largest within rounding, which differs between tiles and compilers."""
    rounding = 2.0**-48 if backend.standardize_dtype(value.dtype) == "float64" else 2.0**-20
    return ops.logical_or(value >= largest, value >= largest - rounding * ops.abs(largest))  # NaN for infinity


def place_of_ties(names: tuple[str, ...], s: int) -> int | None:
    """Return the column of `finished` with the number of ties of a maximum or minimum; None for other reductions."""
    if names[s] not in ("max", "min"):
        return None
    return len(names) + sum(name in ("max", "min") for name in names[:s])
