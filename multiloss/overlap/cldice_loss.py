"""Soft centreline Dice (clDice) loss, for tubes: vessels, roads, neurites."""

import functools
from typing import Any, Unpack, final

import keras
from keras import ops

from multiloss import _arguments, _frameworks
from multiloss._arguments import Tensor
from multiloss.overlap._base import OverlapLoss, OverlapOptions, RatioOptions, of_function
from multiloss.overlap._engine import sums
from multiloss.overlap._engine.inputs import Masks
from multiloss.overlap._engine.sums import Counts

__all__ = ["ClDiceLoss", "cldice"]


@final
@keras.saving.register_keras_serializable(package="multiloss")
class ClDiceLoss(OverlapLoss):
    """Soft clDice loss of each class, in the mean over classes and samples: are centrelines found?

        1 - 2 P S / (P + S),   P = (sum(S(p) t) + smooth / 2) / (sum(S(p)) + smooth / 2),
                               S = (sum(S(t) p) + smooth / 2) / (sum(S(t)) + smooth / 2)

    with the soft skeleton S(x): what opening by a cross of 3 removes from x, from x eroded once, twice ...
    `iterations` times, united as fuzzy sets. In [0, 1]. In the paper it is used beside a Dice loss, see `CombinedLoss`.
    Truth and predictions have two or three axes of pixels. The gradient is that of minima and maxima over neighbours;
    where neighbours are equal, as in hard masks, the backend chooses one of them. With soft
    labels, p = t is not the minimum: a hard mask may cost less. Costs `2 + 2 iterations` passes of pooling.

    Shit et al. 2021, arXiv:2003.07311, algorithms 1 and 2.

    Args:
        iterations: how often to erode, an integer >= 0: at least the radius of the widest tube, in pixels.
        **options: as in `OverlapLoss`, but for `squared`, `soft_label` and `label_smoothing`. Where a mask is 0, there
            is no image: skeletons are as if it ended there.

    Examples:
        >>> import numpy as np
        >>> from multiloss import ClDiceLoss
        >>> truth = np.zeros((1, 5, 7))
        >>> truth[0, 1:4, 1:6] = 1  # a thick line, whose skeleton is its middle row
        >>> thin = truth * (np.arange(5) == 2)[:, None]
        >>> round(float(ClDiceLoss()(truth, thin)), 4)
        0.0
    """

    _without = ("squared", "soft_label", "label_smoothing")

    def __init__(self, iterations: int = 3, **options: Unpack[OverlapOptions]):
        super().__init__(**options)
        whole = _arguments.number("iterations", iterations, "an integer >= 0", lambda x: x >= 0 and x.is_integer())
        self.iterations = int(whole)

    def _losses(self, m: Masks, counts: Counts) -> Tensor:
        if m.mode == "binary" and len(m.p.shape) == 6 and m.p.shape[-2] == 1:  # a volume with an axis of channels
            t, p, weight = (None if x is None else ops.squeeze(x, -1) for x in (m.t, m.p, m.weight))
            m = m._replace(t=t, p=p, weight=weight)
        if len(m.p.shape) not in (4, 5):
            raise ValueError(f"`y_pred` must have two or three axes of pixels. Received: {len(m.p.shape) - 2}")
        if 0 in tuple(m.p.shape)[1:]:
            raise ValueError(f"`y_pred` must have pixels. Received shape: {tuple(m.p.shape)[:-1]}")
        p = sums.thresholded(m.p, self.thresh)
        there = None if m.weight is None else ops.cast(ops.broadcast_to(m.weight, ops.shape(p)) > 0, p.dtype)
        above, below = (part / 2 for part in self.smoothing)
        lines = _skeleton(p, self.iterations, there), _skeleton(m.t, self.iterations, there)
        found, size, covered, length = sums.totals(m, self, (lines[0], m.t), (lines[0],), (lines[1], p), (lines[1],))
        precision, sensitivity = self.ratio(found + above, size + below), self.ratio(covered + above, length + below)
        return 1 - self.ratio(2 * precision * sensitivity, precision + sensitivity)


def _skeleton(x: Tensor, iterations: int, there: Tensor | None) -> Tensor:
    """Soft skeleton of `[B, ..., C]` in [0, 1], of two or three axes of pixels; what is not `there` is no neighbour."""
    if x.shape[0] == 0:
        return x
    if x.shape[0] is None:
        # A sample of zeros is put in front: TensorFlow refuses to pool an empty batch.
        x, there = (
            None if a is None else ops.concatenate([ops.zeros((1, *ops.shape(a)[1:]), a.dtype), a]) for a in (x, there)
        )
        return _skeletons(x, iterations, there)[1:]
    return _skeletons(x, iterations, there)


def _skeletons(x: Tensor, iterations: int, there: Tensor | None) -> Tensor:
    """Return `_skeleton` of a batch that is not empty."""
    axes = range(1, len(x.shape) - 1)
    highest = _highest_of_shifted if _frameworks.pools_slowly(x) else _highest

    def erode(x: Tensor) -> Tensor:
        x = -x if there is None else -(x * there + (1 - there))
        return -functools.reduce(_either, [highest(x, axis) for axis in axes])

    def dilate(x: Tensor) -> Tensor:
        return functools.reduce(highest, axes, x if there is None else x * there)

    result = 0
    for _ in range(iterations + 1):
        eroded = erode(x)
        removed = ops.relu(x - dilate(eroded))
        result, x = result + ops.relu(removed - result * removed), eroded
    return result


def _highest(x: Tensor, axis: int) -> Tensor:
    """Return the maximum of three neighbours along an axis.

    It is a pool of two dimensions: with three, TensorFlow on a CPU gives the whole gradient to each of equal pixels.
    """
    shape, last = ops.shape(x), len(x.shape) - 2
    # The slices of a volume are images; along its first axis, each slice is a row of one image.
    image = (-1, *shape[-3:]) if axis > last - 2 else (shape[0], shape[1], shape[2] * shape[3], shape[4])
    pooled = ops.max_pool(ops.reshape(x, image), (1, 3) if axis == last else (3, 1), 1, "same", "channels_last")
    return ops.reshape(pooled, shape)


def _highest_of_shifted(x: Tensor, axis: int) -> Tensor:
    """Return the same as `_highest`, from the array and its copies shifted by a pixel to either side."""
    beyond = [(int(k == axis),) * 2 for k in range(len(x.shape))]
    padded = ops.pad(x, beyond, constant_values=-float("inf"))
    for side in (slice(None, -2), slice(2, None)):
        x = _either(x, padded[(slice(None),) * axis + (side,)])
    return x


def _either(x: Tensor, y: Tensor) -> Tensor:
    """Return the maximum, with the gradient of x where they are equal. On torch, `ops.maximum` loses float64."""
    return ops.where(y > x, y, x)


def cldice(
    y_true: Any, y_pred: Any, *, iterations: int = 3, mask: Any = None, **options: Unpack[RatioOptions]
) -> Tensor:
    """Values of samples `[B]` of `ClDiceLoss`, which describes the arguments.

    Examples:
        >>> import numpy as np
        >>> from multiloss.losses import cldice
        >>> line = np.eye(5)[None]
        >>> round(abs(float(cldice(line, line, mode="binary")[0])), 4)
        0.0
    """
    return ClDiceLoss(iterations, **of_function(options)).call(y_true, y_pred, mask)
