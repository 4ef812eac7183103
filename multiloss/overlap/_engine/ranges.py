"""Values outside of their range: an error where values are read, and a loss of NaN everywhere else."""

import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from multiloss import _arguments, _frameworks, distribution
from multiloss._arguments import Tensor
from multiloss.overlap._engine.options import Options

# How many calls of a loss read tensors until one had data: Keras first calls a loss with placeholders.
CALLS = 4
# Stands for a class index with a fraction, or of more than 32 bits.
NOT_WHOLE = -(2**31)
# The distance of the two numbers of bfloat16 around 1: by so much, rounding may leave the range.
ROUNDING = 2.0**-7


class Read(NamedTuple):
    """Whether the values of truth and of predictions are read, if they are available."""

    truth: bool
    predictions: bool
    integers: bool  # whether predictions are


def read(y_true: Any, y_pred: Any, options: Options, *, tensors: bool) -> Read:
    """Return what a call reads: arrays of NumPy and lists always, tensors, if at all, in the first calls.

    Across replicas nothing is read: what raises on one of them would leave the others waiting.
    """
    integers = _arguments.is_whole(y_pred)
    if options.across_replicas or not (options.validate or options.mode is None):
        return Read(False, False, integers)
    first = tensors and options._calls < CALLS
    return Read(first or not ops.is_tensor(y_true), first or not ops.is_tensor(y_pred), integers)


Extremes = tuple[Tensor, Tensor]  # the least and the greatest value of each sample, [B]


def count_call(x: Tensor, options: Options) -> None:
    """Count a call whose predictions could be read; the last one if they differ, as those of placeholders do not."""
    ends = _extremes(x, None) if options._calls < CALLS else None
    found = None if ends is None else _values(ends)
    if found is not None:
        options._calls = CALLS if found[0] < found[1] else options._calls + 1


def outside(
    t: Tensor | None, indices: Tensor | None, x: Tensor, left_out: Tensor | None, options: Options, read: Read
) -> Tensor | None:
    """Return which samples have truth or probabilities outside of their range; raise where values are read."""
    classes, found = x.shape[-1], []
    advice: Callable[[float, float], str]
    t, x = (part if part is None else _counted(part, options) for part in (t, x))
    truth = _extremes(t if indices is None else indices, left_out)
    if truth is not None and indices is not None:
        expected = f"whole class indices from 0 to {classes - 1}, the classes of `y_pred`, but for `ignore_index`"
        advice = functools.partial(_advice_on_indices, classes)
        found.append(_outside(truth, "y_true", expected, advice, read=read.truth, most=classes - 1, rounding=0))
    elif truth is not None:
        found.append(_outside(truth, "y_true", "0 and 1, or soft labels between", _advice_on_masks, read=read.truth))
    predictions = None if options.from_logits else _extremes(x, left_out)
    if predictions is not None:
        expected, advice = "probabilities in [0, 1]", _advice_on_predictions
        if options.sparse_y_pred:
            expected, advice = f"whole class indices from 0 to {classes - 1}", _advice_on_label_maps
        found.append(_outside(predictions, "y_pred", expected, advice, read=read.predictions))
    return functools.reduce(operator.or_, found) if found else None


def _counted(x: Tensor, options: Options) -> Tensor:
    """Return the classes that count, of `[B, ..., C]`."""
    classes, weights = x.shape[-1], options.class_weight
    indices = [c for c in options._counted(classes) if weights is None or weights[c]]
    return x if len(indices) == classes else ops.take(x, indices, axis=-1)


def _advice_on_indices(classes: int, low: float, high: float) -> str:
    if low == NOT_WHOLE:
        return "Soft labels need the shape of `y_pred`"
    if high == classes and low >= 0:
        return f"Subtract 1 from labels 1 to {classes}. `ignore_index` names a label that does not count"
    return "`ignore_index` names a label that does not count. Divide masks of 0 and 255 by 255"


def _advice_on_masks(low: float, high: float) -> str:
    if low < 0:
        return "Labels of -1 and 1 are 0 and 1 as `(y_true + 1) / 2`"
    if high > 128:
        return "Divide masks of 0 and 255 by 255"
    return (
        "Class indices need predictions `[B, ..., C]`, and truth without their last axis, or, in metrics, "
        "`sparse_y_pred=True`"
    )


def _advice_on_predictions(low: float, high: float) -> str:
    return "Logits need `from_logits=True`, or a sigmoid or softmax in the model"


def _advice_on_label_maps(low: float, high: float) -> str:
    return (
        "Probabilities need `sparse_y_pred=False`" if low == NOT_WHOLE else "`num_classes` is the number of all classes"
    )


def marked(values: Tensor, outside: Tensor | None, options: Options) -> Tensor:
    """Return values `[R]` or `[R, C]`, NaN for ratios of samples that have values outside, without a gradient."""
    across = options.validate and options.batch and options.across_replicas
    if outside is None and not across:
        return values
    if options.batch:
        outside = ops.zeros((1,), dtype="bool") if outside is None else ops.any(outside, axis=0, keepdims=True)
        if across:  # in which all replicas take part, whatever their rows are
            counts = distribution.added_up([ops.cast(outside, "float32")[:, None]], options.across_replicas)
            outside = counts[0][:, 0] > 0
    outside = outside if len(values.shape) == 1 else ops.expand_dims(outside, 1)
    return ops.where(outside, float("nan"), values)


def _extremes(x: Tensor | None, left_out: Tensor | None) -> Extremes | None:
    """Return the extremes of `[B, ...]`, 0 for samples that are left out; None if there are no elements."""
    if x is None or 0 in tuple(x.shape):
        return None
    # Not `ops.min` and `ops.max`, at which torch.compile breaks its graph.
    x, axes = ops.stop_gradient(x), tuple(range(1, len(x.shape)))
    low, high = (ops.amin(x, axis=axes), ops.amax(x, axis=axes)) if axes else (x, x)
    if left_out is None:
        return low, high
    return ops.where(left_out, ops.zeros_like(low), low), ops.where(left_out, ops.zeros_like(high), high)


def _outside(
    ends: Extremes,
    name: str,
    expected: str,
    advice: Callable[[float, float], str],
    *,
    read: bool,
    most: float = 1,
    rounding: float = ROUNDING,
) -> Tensor:
    """Return which samples have a value outside of 0 ... most, `[B]`; raise if values are read."""
    least, most = -rounding, most + rounding
    found = _values(ends) if read else None
    if found is not None and (found[0] < least or found[1] > most):
        whole = found[0] != NOT_WHOLE
        received = (
            f"values from {found[0]:g} to {found[1]:g}" if whole else "values that are not whole numbers of 32 bits"
        )
        raise ValueError(
            f"`{name}` must have {expected}. Received {received}. {advice(*found)}. `validate=False` takes any values"
        )
    return (ends[0] < least) | (ends[1] > most)


def _values(ends: Extremes) -> tuple[float, float] | None:
    """Return the least and the greatest value of all samples, if they are available."""
    if not _frameworks.has_value(ends[0]):
        return None
    low, high = (np.asarray(ops.convert_to_numpy(end)) for end in ends)
    return float(low.min()), float(high.max())
