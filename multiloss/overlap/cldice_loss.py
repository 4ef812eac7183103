"""Soft centreline Dice (clDice) loss, for tubes: vessels, roads, neurites."""

import functools
import operator
from typing import Any, final

import keras
from keras import ops

from multiloss import checks
from multiloss.checks import Tensor
from multiloss.overlap import engine
from multiloss.overlap.base import OverlapLoss
from multiloss.overlap.options import OverlapOptions

__all__ = ["ClDiceLoss", "cldice"]

_WITHOUT = ("squared", "label_smoothing")


def cldice(y_true: Any, y_pred: Any, *, iterations: int = 3, mask: Any = None, **options: Any) -> Tensor:
    """Soft clDice loss of each sample, in the mean over its classes: are centrelines found, whatever their width?

        1 - 2 P S / (P + S),   P = (sum(S(p) t) + smooth / 2) / (sum(S(p)) + smooth / 2),
                               S = (sum(S(t) p) + smooth / 2) / (sum(S(t)) + smooth / 2)

    with the soft skeleton S(x): what opening by a cross of 3 removes from x, from x eroded once, twice ...
    `iterations` times, united as fuzzy sets. Shit et al. 2021, arXiv:2003.07311, algorithms 1 and 2. In the paper it is
    used beside a Dice loss, see `CombinedLoss`.

    Args:
        y_true: as in `dice`, `[B, H, W]` or `[B, D, H, W]`, and C.
        y_pred: as in `dice`, of two or three axes of pixels.
        iterations: how often to erode, an integer >= 0: at least the radius of the widest tube, in pixels.
        mask: as in `dice`. Where it is 0, there is no image: skeletons are as if it ended there.
        **options: what `OverlapOptions` lists, but for `squared` and `label_smoothing`.

    Returns:
        As `dice`. For soft labels not least at `p = t`, where a hard mask may cost less, and no option makes it so.

    Raises:
        TypeError, ValueError: as `dice`; ValueError for other than two or three axes of pixels.

    Gradient: that of minima and maxima over neighbours; where neighbours are equal, as in hard masks, one of them
    gets it, and which one is up to the backend.

    Cost: `4 + 3 iterations` passes of pooling.

    Example:
        >>> import numpy as np
        >>> from multiloss import cldice
        >>> truth = np.zeros((1, 5, 7))
        >>> truth[0, 1:4, 1:6] = 1  # a thick line, whose skeleton is its middle row
        >>> thin = truth * (np.arange(5) == 2)[:, None]
        >>> round(float(cldice(truth, thin)[0]), 4)
        0.0
    """
    _parameters(iterations)
    chosen = OverlapOptions.of("cldice", options, _WITHOUT)
    m = engine.masks(y_true, y_pred, mask, chosen)
    if len(m.p.shape) not in (4, 5):
        raise ValueError(f"`y_pred` must have two or three axes of pixels. Received: {len(m.p.shape) - 2}")
    if 0 in tuple(m.p.shape)[1:]:
        raise ValueError(f"`y_pred` must have pixels. Received shape: {tuple(m.p.shape)[:-1]}")
    c = engine.counts(m, chosen)
    p = engine.thresholded(m.p, chosen.thresh)
    there = None if m.weight is None else ops.cast(ops.broadcast_to(m.weight, ops.shape(p)) > 0, p.dtype)

    above, below = (part / 2 for part in chosen.smoothing)
    shares = []
    for line, body in ((_skeleton(p, iterations, there), m.t), (_skeleton(m.t, iterations, there), p)):
        found, whole = engine.totals(m, chosen, (line, body), (line,))
        shares.append(engine.ratio(found + above, whole + below))
    precision, sensitivity = shares
    losses = 1 - engine.ratio(2 * precision * sensitivity, precision + sensitivity)
    return engine.mean(engine.where_empty(losses, c, chosen), c, m, chosen)


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


def _parameters(iterations: int) -> dict[str, int]:
    expected = "an integer >= 0"
    return {"iterations": int(checks.number("iterations", iterations, expected, lambda x: x >= 0 and x.is_integer()))}


@final
@keras.saving.register_keras_serializable(package="multiloss")
class ClDiceLoss(OverlapLoss):
    """`cldice` as a Keras loss, for `compile(loss=...)`. Weights and masks are treated as in `DiceLoss`.

    Args:
        iterations: as in `cldice`.
        reduction: as in `DiceLoss`.
        name: as in `DiceLoss`.
        dtype: as in `DiceLoss`.
        **options: as in `cldice`.

    Raises:
        TypeError, ValueError: as `DiceLoss`.

    Example:
        >>> import numpy as np
        >>> from multiloss import ClDiceLoss
        >>> line = np.eye(5)[None]
        >>> round(float(ClDiceLoss()(line, line)), 4)
        0.0
    """

    def __init__(
        self,
        iterations: int = 3,
        reduction: str | None = "sum_over_batch_size",
        name: str = "cldice",
        dtype: Any = None,
        **options: Any,
    ):
        super().__init__(cldice, _parameters(iterations), options, _WITHOUT, reduction, name, dtype)
