"""Shapes of truth and predictions: an axis of one class may be missing, and what does not match is explained."""

from keras import ops

from multiloss import _arguments
from multiloss._arguments import Tensor
from multiloss.overlap._engine.options import Mode, Options

Shape = tuple[int | None, ...]


def aligned(truth: Tensor, x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Give truth or predictions the axis of one class that only the other has."""
    rank = _arguments.rank("y_true", truth)
    if rank + 1 == len(x.shape) and x.shape[axis] == 1:
        return ops.expand_dims(truth, axis), x
    if rank == len(x.shape) + 1 and truth.shape[axis] == 1:
        return truth, ops.expand_dims(x, axis)
    return truth, x


def check(truth: Shape, full: Shape, mode: Mode, axis: int, options: Options) -> None:
    """Raise if static shapes do not match, with what may be meant."""
    if _fits(truth, [full, *(_of_indices(full, axis) if mode == "multiclass" else [])]):
        return
    advice = ""
    if mode == "multiclass" and _fits(truth, _of_indices(full, -1 if axis == 1 else 1)):
        other = "channels_last" if axis == 1 else "channels_first"
        advice = f". The axis of classes is {axis}, by `data_format`: pass data_format={other!r} for the other order"
    elif mode != "multiclass" and _fits(truth, _of_indices(full, axis)):
        other = "`DiceLoss(mode='multiclass')`, or `DiceCoefficient(mode='multiclass')` as a metric"
        takes = other if options._binary_only else "mode='multiclass'"
        advice = f". Class indices need {takes}"
    elif sorted(map(str, truth)) == sorted(map(str, full)):  # as strings, since a size may be None
        advice = ". Their axes are in another order: `data_format` tells that of the classes"
    size = "batch size" if _fits(truth[1:], [full[1:]]) else "shape"
    raise ValueError(f"`y_true` and `y_pred` must have the same {size}. Received shapes: {truth} and {full}{advice}")


def _of_indices(full: Shape, axis: int) -> list[Shape]:
    """Return the shapes of class indices for predictions of a shape with an axis of classes."""
    if len(full) < 2:
        return []
    axis %= len(full)
    return [full[:axis] + full[axis + 1 :], (*full[:axis], 1, *full[axis + 1 :])]


def _fits(shape: Shape, allowed: list[Shape]) -> bool:
    return any(
        len(shape) == len(other) and all(None in pair or pair[0] == pair[1] for pair in zip(shape, other, strict=True))
        for other in allowed
    )
