"""Values outside of their range: an error where values are read, and a loss of NaN everywhere else."""

import functools
import operator
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from multiloss import _frameworks, distribution
from multiloss._arguments import Tensor
from multiloss.overlap._engine.options import Options

# How many calls of a loss read tensors until one had data: Keras first calls a loss with placeholders.
CALLS = 4
# Stands for a class index with a fraction, or of more than 32 bits.
NOT_WHOLE = -(2**31)
# The distance of the two numbers of bfloat16 around 1: by so much, rounding may leave the range.
_ROUNDING = 2.0**-7


class Read(NamedTuple):
    """Whether the values of truth and of predictions are read, if they are available."""

    truth: bool
    predictions: bool


def read(y_true: Any, y_pred: Any, options: Options, *, tensors: bool) -> Read:
    """Return what a call reads: arrays of NumPy and lists always, tensors, if at all, in the first calls."""
    first = tensors and options._calls < CALLS
    return Read(first or not ops.is_tensor(y_true), first or not ops.is_tensor(y_pred))


Extremes = tuple[Tensor, Tensor]  # the least and the greatest value of each sample, [B]


def count_call(x: Tensor, options: Options) -> None:
    """Count a call whose predictions could be read; the last one if they differ, as those of placeholders do not."""
    if options._calls < CALLS and (ends := _extremes(x, None)) and (found := _values(ends)):
        options._calls = CALLS if found[0] < found[1] else options._calls + 1


def outside(
    t: Tensor | None, indices: Tensor | None, x: Tensor, left_out: Tensor | None, options: Options, read: Read
) -> Tensor | None:
    """Return which samples have truth or probabilities outside of their range; raise where values are read."""
    found = []
    if indices is not None and (ends := _extremes(indices, left_out)):
        classes = x.shape[-1]
        advice = f"Subtract 1 from labels 1 to {classes}, and name a label that does not count by `ignore_index`"
        expected = f"whole class indices from 0 to {classes - 1}, the classes of `y_pred`, but for `ignore_index`"
        found.append(_outside(ends, "y_true", expected, advice, read=read.truth, most=classes - 1, rounding=0))
    elif t is not None and (ends := _extremes(t, left_out)):
        advice = "Divide masks of 0 and 255 by 255. Class indices need predictions `[B, ..., C]`"
        found.append(_outside(ends, "y_true", "0 and 1, or soft labels between", advice, read=read.truth))
    if not options.from_logits and (ends := _extremes(x, left_out)):
        advice = "Logits need `from_logits=True`, or a sigmoid or softmax before the loss"
        found.append(_outside(ends, "y_pred", "probabilities in [0, 1]", advice, read=read.predictions))
    return functools.reduce(operator.or_, found) if found else None


def marked(values: Tensor, outside: Tensor | None, options: Options) -> Tensor:
    """Return values `[R]` or `[R, C]`, NaN for ratios of samples that have values outside, without a gradient."""
    if outside is None:
        return values
    if options.batch:
        outside = ops.any(outside, keepdims=True)
        if options.across_replicas:
            counts = distribution.added_up([ops.cast(outside, "float32")[:, None]], options.across_replicas)
            outside = counts[0][:, 0] > 0
    outside = outside if len(values.shape) == 1 else ops.expand_dims(outside, 1)
    return ops.where(outside, float("nan"), values)


def _extremes(x: Tensor, left_out: Tensor | None) -> Extremes | None:
    """Return the extremes of `[B, ...]`, 0 for samples that are left out; None if there are no elements."""
    if 0 in tuple(x.shape):
        return None
    # Not `ops.min` and `ops.max`, at which torch.compile breaks its graph.
    x, axes = ops.stop_gradient(x), tuple(range(1, len(x.shape)))
    low, high = (ops.amin(x, axis=axes), ops.amax(x, axis=axes)) if axes else (x, x)
    if left_out is None:
        return low, high
    return ops.where(left_out, ops.zeros_like(low), low), ops.where(left_out, ops.zeros_like(high), high)


def _outside(
    ends: Extremes, name: str, expected: str, advice: str, *, read: bool, most: float = 1, rounding: float = _ROUNDING
) -> Tensor:
    """Return which samples have a value outside of 0 ... most, `[B]`; raise if values are read."""
    least, most = -rounding, most + rounding
    found = _values(ends) if read else None
    if found and (found[0] < least or found[1] > most):
        whole = found[0] != NOT_WHOLE
        received = (
            f"values from {found[0]:g} to {found[1]:g}" if whole else "values that are not whole numbers of 32 bits"
        )
        raise ValueError(
            f"`{name}` must have {expected}. Received {received}. {advice}. `validate=False` takes any values"
        )
    return (ends[0] < least) | (ends[1] > most)


def _values(ends: Extremes) -> tuple[float, float] | None:
    """Return the least and the greatest value of all samples, if they are available."""
    if not _frameworks.has_value(ends[0]):
        return None
    low, high = (np.asarray(ops.convert_to_numpy(end)) for end in ends)
    return float(low.min()), float(high.max())
