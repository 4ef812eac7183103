"""Truth, predictions and masks of every mode, checked and brought into one form: classes last, in float32 or better."""

import functools
import operator
import warnings
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import backend, ops

from multiloss import _arguments, _frameworks
from multiloss._arguments import Tensor
from multiloss.overlap._engine import ranges, shapes
from multiloss.overlap._engine.options import Mode, Options
from multiloss.overlap._engine.ranges import Read


class Masks(NamedTuple):
    """Truth and predictions, classes last; in binary mode there is one class."""

    mode: Mode
    t: Tensor  # [B, ..., C], after label smoothing
    p: Tensor  # [B, ..., C], probabilities
    logits: Tensor | None  # [B, ..., C], where predictions are logits
    weight: Tensor | None  # [B, ..., 1 or C], of each pixel, axes of pixels may be 1; None if all are 1
    raw: Tensor  # t before label smoothing
    outside: Tensor | None  # [B], whether a sample has values outside of their range; None if that is not asked


def masks(
    y_true: Any,
    y_pred: Any,
    weights: dict[str, Any],
    options: Options,
    *,
    left_out: Tensor | None = None,
    read: Read,
) -> Masks:
    """Check truth, predictions and weights of pixels by their names, and bring them into one form.

    What has weight 0, and the samples that are `left_out`, booleans `[B]`, may be anything.
    """
    x, truth = _arguments.floats("y_pred", y_pred), _arguments.classes("y_true", y_true)
    if not len(x.shape):
        raise ValueError("`y_pred` must have shape [B, ...]. Received a scalar")
    first = (options.data_format or keras.config.image_data_format()) == "channels_first"
    axis = 1 if first else -1
    if options.sparse_y_pred:
        x = _of_label_map(_arguments.classes("y_pred", y_pred), truth, axis, options)
    truth, x = shapes.aligned(truth, x, axis)
    mode = options.mode or _inferred_mode(truth, x, first, options, read.truth)
    given_shapes = (tuple(truth.shape), tuple(x.shape))
    if mode == "multiclass" and read.integers and not options.sparse_y_pred:
        _refuse_label_map(truth, x, axis)
    first = first and mode != "binary"
    if mode != "binary":
        if len(x.shape) < 2:
            raise ValueError(f"`y_pred` must have shape [B, ..., C] in {mode} mode. Received: {tuple(x.shape)}")
        truth = ops.moveaxis(truth, 1, -1) if first and len(truth.shape) == len(x.shape) else truth
        x = ops.moveaxis(x, 1, -1) if first else x
        _check_classes(x, mode, options)
    shapes.check(*given_shapes, mode, axis, options)
    given = [_weight(name, weight, x, mode, first) for name, weight in weights.items()]
    labels, ignored, zeros, indices = _labels(truth, x, mode, options)
    if ignored is not None:
        given.append(ops.cast(ops.logical_not(ignored), x.dtype))
    t = ops.cast(labels, x.dtype)
    t = sum((ops.cast(zero, x.dtype) for zero in zeros), start=t)
    if mode == "binary":
        # Not `[..., None]`, which TensorFlow takes for a slice, with a gradient that it copies.
        t, x, *given = (ops.expand_dims(tensor, -1) for tensor in (t, x, *given))

    weight = functools.reduce(operator.mul, given) if given else None
    if weight is not None:
        absent = ops.equal(weight, 0)
        t = ops.where(absent, ops.zeros_like(t), t)
        if indices is not None:
            indices = ops.where(ops.all(absent, axis=-1, keepdims=True), ops.zeros_like(indices), indices)
        if options.from_logits and mode == "multiclass":  # whose softmax takes the classes of weight 0 as well
            absent = ops.all(absent, axis=-1, keepdims=True)
        x = ops.where(absent, ops.zeros_like(x), x)
    if left_out is not None:
        samples = ops.reshape(left_out, (-1, *[1] * (len(x.shape) - 1)))
        x = ops.where(samples, ops.zeros_like(x), x)
        # Finite truth stays: it tells whether a sample has a class, and so whether `skip` counts it.
        t = ops.where(ops.logical_and(samples, ops.logical_not(ops.isfinite(t))), ops.zeros_like(t), t)

    outside = None
    if options.validate:
        sure = backend.standardize_dtype(labels.dtype) == "bool"  # as those of class indices are
        outside = ranges.outside(None if sure else t, indices, x, left_out, options, read)
    if read.predictions:
        ranges.count_call(x, options)
    raw, smoothing = t, options.label_smoothing
    if smoothing:
        t = t * (1 - smoothing) + smoothing / (x.shape[-1] if mode == "multiclass" else 2)
    if not options.from_logits:
        return Masks(mode, t, x, None, weight, raw, outside)
    p = ops.softmax(x, axis=-1) if mode == "multiclass" else ops.sigmoid(x)
    return Masks(mode, t, p, x, weight, raw, outside)


def _inferred_mode(truth: Tensor, x: Tensor, first: bool, options: Options, look: bool) -> Mode:
    """Infer the mode from shapes: truth without the class axis of the predictions has class indices."""
    axis, ranks = 1 if first else -1, (len(x.shape) - 1, len(x.shape))
    beside_classes = len(x.shape) > 1 and (x.shape[axis] or 0) > 1 and len(truth.shape) in ranks
    if beside_classes and len(truth.shape) < len(x.shape):
        return "multiclass"
    if beside_classes and truth.shape[axis] == 1:
        if _arguments.is_whole(truth):
            return "multiclass"
        raise ValueError(
            "`mode` must be 'multiclass' for class indices of floats with an axis of 1. Received: None, for shapes "
            f"{tuple(truth.shape)} of `y_true` and {tuple(x.shape)} of `y_pred`"
        )
    options._refuse_classes("'binary', inferred from the shapes of `y_true` and `y_pred`")
    look = look and len(truth.shape) > 2 and options._calls < ranges.CALLS and _frameworks.has_value(truth)
    if look and _is_one_hot(truth, axis):
        options._calls = ranges.CALLS
        warnings.warn(
            f"`y_true` is one-hot along axis {axis}, and counts as a mask of one class, since `mode` is None. Pass "
            "mode='multiclass' or mode='multilabel' if that is a class axis, or else mode='binary'.",
            UserWarning,
            stacklevel=4,
        )
    return "binary"


def _of_label_map(indices: Tensor, truth: Tensor, axis: int, options: Options) -> Tensor:
    """Return class indices `[B, ...]` as labels of 0 and 1 with a class axis, and those that are none as they are."""
    classes, rank = options._classes, len(indices.shape)
    one_more = rank == len(truth.shape) + 1 or (rank == len(truth.shape) and truth.shape[axis] == classes)
    if rank > 1 and one_more and indices.shape[axis] == 1:
        indices = ops.squeeze(indices, axis)
    elif rank == len(truth.shape) + 1:
        raise ValueError(
            f"`y_pred` must be class indices of the shape of `y_true`, {tuple(truth.shape)}, for `sparse_y_pred=True`. "
            f"Received shape: {tuple(indices.shape)}. Probabilities need `sparse_y_pred=False`"
        )
    indices = ops.expand_dims(_whole(indices), -1)
    labels = ops.cast(ops.equal(indices, ops.arange(classes, dtype="int32")), "float32")
    inside = ops.logical_and(indices >= 0, indices < classes)
    return ops.moveaxis(ops.where(inside, labels, ops.cast(indices, "float32")), -1, axis)


def _refuse_label_map(truth: Tensor, x: Tensor, axis: int) -> None:
    """Raise if predictions, which are integers, are class indices: their last axis would be taken for classes."""
    if len(truth.shape) < len(x.shape) or (len(x.shape) > 1 and truth.shape[axis] == 1 != x.shape[axis]):
        return
    if _frameworks.has_value(x):
        values = np.asarray(ops.convert_to_numpy(x))
        if len(values.shape) > 1 and np.isin(values, (0, 1)).all() and (values.sum(axis=axis) == 1).all():
            return
    raise ValueError(
        f"`y_pred` must have probabilities of classes along axis {axis} in multiclass mode. Received integers of the "
        f"shape of `y_true`, {tuple(truth.shape)}, that are not one-hot there (in a model, where nothing is known of "
        "values at first, make one-hot ones floats). Metrics take class indices as predictions with "
        "`sparse_y_pred=True` and `num_classes`; a loss cannot be trained with them"
    )


def _is_one_hot(truth: Tensor, axis: int) -> bool:
    values = np.asarray(ops.convert_to_numpy(truth))
    if not values.size or values.shape[axis] == 1:
        return False
    return bool(((values == 0) | (values == 1)).all() and (values.sum(axis=axis) == 1).all())


def _check_classes(x: Tensor, mode: Mode, options: Options) -> None:
    classes, least = x.shape[-1], 2 if mode == "multiclass" else 1
    if classes is None or classes < least:
        raise ValueError(
            f"`y_pred` must have a class axis of known size >= {least} in {mode} mode, by `data_format`. "
            f"Received size: {classes}"
        )
    if options._classes not in (None, classes):
        raise ValueError(
            f"`y_pred` must have {options._classes} classes, as many as `num_classes`, `class_names` or `class_weight` "
            f"has. Received: {classes}"
        )
    if options.classes is not None and max(options.classes) >= classes:
        raise ValueError(f"`classes` must be less than the {classes} classes of `y_pred`. Received: {options.classes}")
    if classes == 1 and not options.include_background:
        raise ValueError("`include_background=False` leaves no class. Expected 2 or more in `y_pred`. Received: 1")
    weights = options.class_weight
    if weights is not None and len(weights) != classes:
        raise ValueError(
            f"`class_weight` must have one number for each of the {classes} classes of `y_pred`. "
            f"Received: {len(weights)}"
        )
    if weights is not None and not sum(weights[c] for c in options._counted(classes)):
        raise ValueError(f"`class_weight` must have one number > 0 among the classes that count. Received: {weights}")


def _weight(name: str, given: Any, x: Tensor, mode: Mode, first: bool) -> Tensor:
    """Return weights with all axes of `x`, given for leading axes, for pixels, or for pixels and classes."""
    rank = len(x.shape)
    given = _arguments.floats(name, given)
    if mode == "binary" and len(given.shape) == rank + 1 and given.shape[-1] == 1:
        given = ops.squeeze(given, -1)
    if mode != "binary":
        if len(given.shape) == rank:
            given = ops.moveaxis(given, 1, -1) if first else given
        else:
            x = x[..., 0]
    weight = ops.cast(_arguments.weights(name, given, x, axes=len(x.shape)), x.dtype)
    return ops.reshape(weight, (*ops.shape(weight), *[1] * (rank - len(weight.shape))))


def _labels(
    truth: Tensor, x: Tensor, mode: Mode, options: Options
) -> tuple[Tensor, Tensor | None, list[Tensor], Tensor | None]:
    """Return truth in the shape of `x`, ignored pixels, zeros whose computation raises if sizes differ, and indices."""
    ignore = options.ignore_index
    if mode == "multiclass" and (
        len(truth.shape) == len(x.shape) - 1 or (len(truth.shape) == len(x.shape) and truth.shape[-1] == 1)
    ):
        truth = truth if len(truth.shape) == len(x.shape) else ops.expand_dims(truth, -1)
        indices = _whole(truth)
        zeros = _arguments.same_shape("y_true", truth, "y_pred", x[..., :1])
        ignored = None if ignore is None else ops.equal(indices, ignore)
        return ops.equal(indices, ops.arange(x.shape[-1], dtype="int32")), ignored, zeros, indices
    zeros = _arguments.same_shape("y_true", truth, "y_pred", x)
    if ignore is None:
        return truth, None, zeros, None
    if not _arguments.is_whole(truth):
        raise ValueError(
            "`ignore_index` needs `y_true` of integers or booleans: floats may be soft labels, for which there is "
            f"`mask`. Received dtype: {backend.standardize_dtype(truth.dtype)}"
        )
    if mode != "multiclass":
        ignored = ops.equal(ops.cast(truth, "int32"), ignore)
        return ops.where(ignored, ops.zeros_like(truth), truth), ignored, zeros, None
    if not 0 <= ignore < x.shape[-1]:
        raise ValueError(
            f"`ignore_index` must be one of the {x.shape[-1]} classes of one-hot `y_true`. Received: {ignore}"
        )
    return truth, ops.not_equal(truth[..., ignore : ignore + 1], 0), zeros, None


def _whole(truth: Tensor) -> Tensor:
    """Return class indices as int32. Keras makes floats of the labels of a plain function: they may be whole floats."""
    indices = ops.cast(truth, "int32")
    if _arguments.is_whole(truth):
        return indices
    return ops.where(
        ops.equal(ops.cast(indices, truth.dtype), truth), indices, ops.full_like(indices, ranges.NOT_WHOLE)
    )
