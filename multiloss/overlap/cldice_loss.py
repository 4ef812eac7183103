"""Soft centreline Dice (clDice) loss, for tubes: vessels, roads, neurites."""

import functools
import operator
from typing import Any, Unpack, final

import keras
from keras import ops

from multiloss import _arguments
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
    where neighbours are equal, as in hard masks, one of them gets it, and which one is up to the backend. With soft
    labels, p = t is not the minimum: a hard mask may cost less. Costs `4 + 3 iterations` passes of pooling.

    Shit et al. 2021, arXiv:2003.07311, algorithms 1 and 2.

    Args:
        iterations: how often to erode, an integer >= 0: at least the radius of the widest tube, in pixels.
        **options: as in `OverlapLoss`, but for `squared`, `soft_label` and `label_smoothing`. Where a mask is 0, there
            is no image: skeletons are as if it ended there.

    Example:
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
    axes = range(1, len(x.shape) - 1)
    # Beside a sample of nothing: frameworks refuse to pool an empty batch, or die of its gradient.
    x, there = (
        None if a is None else ops.concatenate([ops.zeros((1, *ops.shape(a)[1:]), a.dtype), a]) for a in (x, there)
    )

    def highest(x: Tensor, axis: int) -> Tensor:
        """Of three pixels along an axis."""
        # As a pool of two dimensions: in three, TensorFlow on a CPU gives the whole gradient to each of equal pixels.
        shape = ops.shape(x)
        before, after = (functools.reduce(operator.mul, part, 1) for part in (shape[:axis], shape[axis + 1 : -1]))
        image = ops.reshape(x, (before, shape[axis], after, shape[-1]))
        return ops.reshape(ops.max_pool(image, (3, 1), 1, "same", "channels_last"), shape)

    def erode(x: Tensor) -> Tensor:
        x = -x if there is None else -(x * there + (1 - there))
        # On torch, `ops.maximum` makes float32 of float64.
        return -ops.max(ops.stack([highest(x, axis) for axis in axes]), axis=0)

    def opened(x: Tensor) -> Tensor:
        x = erode(x)
        return functools.reduce(highest, axes, x if there is None else x * there)

    result = ops.relu(x - opened(x))
    for _ in range(iterations):
        x = erode(x)
        removed = ops.relu(x - opened(x))
        result = result + ops.relu(removed - result * removed)
    return result[1:]


def cldice(
    y_true: Any, y_pred: Any, *, iterations: int = 3, mask: Any = None, **options: Unpack[RatioOptions]
) -> Tensor:
    """Values of samples `[B]` of `ClDiceLoss`, which describes the arguments.

    Example:
        >>> import numpy as np
        >>> from multiloss.losses import cldice
        >>> line = np.eye(5)[None]
        >>> round(abs(float(cldice(line, line, mode="binary")[0])), 4)
        0.0
    """
    return ClDiceLoss(iterations, **of_function(options)).call(y_true, y_pred, mask)
