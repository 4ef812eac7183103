"""Matthews correlation loss."""

from typing import Any, final

import keras
from keras import ops

from multiloss.checks import Tensor
from multiloss.overlap import engine
from multiloss.overlap.base import OverlapLoss
from multiloss.overlap.options import OverlapOptions

__all__ = ["MCCLoss", "mcc"]

_WITHOUT = ("squared",)


def mcc(y_true: Any, y_pred: Any, *, mask: Any = None, **options: Any) -> Tensor:
    """1 minus the Matthews correlation coefficient of each class, of each sample in the mean over its classes.

        1 - (tp tn - fp fn) / sqrt((tp + fp) (tp + fn) (tn + fp) (tn + fn)),   with smooth / 2 added to each of the four

    Unlike the others it counts true negatives, and stays the same if foreground and background change places. Abhishek
    and Hamarneh 2021, arXiv:2010.13454, equation 4. Smoothed by counts, since a constant beside the root, which is 0
    for truth that is all 1, would call the opposite of it perfect.

    Args:
        y_true: as in `dice`.
        y_pred: as in `dice`.
        mask: as in `dice`.
        **options: what `OverlapOptions` lists, but for `squared`, and `smooth` is one number.

    Returns:
        As `dice`, but in [0, 2]: 1 for a prediction that knows nothing. Where the root is 0, which takes a `smooth` of
        0, the coefficient counts as 0. For soft labels not least at `p = t`, where a hard mask may cost less, and no
        option makes it so.

    Raises:
        TypeError, ValueError: as `dice`.

    Gradient: 0 where the root is 0.

    Example:
        >>> from multiloss import mcc
        >>> round(float(mcc([[1, 1, 0, 0]], [[1.0, 0.0, 0.0, 0.0]])[0]), 3)  # 1 - 2 / sqrt(1 * 2 * 2 * 3)
        0.423
    """
    chosen = _chosen("mcc", options)
    m = engine.masks(y_true, y_pred, mask, chosen)
    c = engine.counts(m, chosen)

    t, p = m.t, engine.thresholded(m.p, chosen.thresh)
    pixels, half = ops.where(ops.equal(c.pixels, 0), ops.ones_like(c.pixels), c.pixels), chosen.smoothing[0] / 2
    # Each by itself: as the difference of large sums, a count near 0 would be rounding, and the root is divided by.
    each = engine.totals(m, chosen, (t, p), (1 - t, p), (t, 1 - p), (1 - t, 1 - p))
    tp, fp, fn, tn = ((count + half) / pixels for count in each)
    root = _root(tp + fp) * _root(tp + fn) * _root(tn + fp) * _root(tn + fn)
    losses = 1 - engine.ratio(tp * tn - fp * fn, root)
    return engine.mean(engine.where_empty(losses, c, chosen), c, m, chosen)


def _root(x: Tensor) -> Tensor:
    return engine.power(x, 0.5)


def _chosen(function: str, options: dict[str, Any]) -> OverlapOptions:
    chosen = OverlapOptions.of(function, options, _WITHOUT)
    if chosen.smoothing[0] != chosen.smoothing[1]:
        raise ValueError(f"`smooth` must be one number for {function}. Received: {chosen.smooth!r}")
    return chosen


@final
@keras.saving.register_keras_serializable(package="multiloss")
class MCCLoss(OverlapLoss):
    """`mcc` as a Keras loss, for `compile(loss=...)`. Weights and masks are treated as in `DiceLoss`.

    Args:
        reduction: as in `DiceLoss`.
        name: as in `DiceLoss`.
        dtype: as in `DiceLoss`.
        **options: as in `mcc`.

    Raises:
        TypeError, ValueError: as `DiceLoss`.

    Example:
        >>> from multiloss import MCCLoss
        >>> round(float(MCCLoss()([[1, 1, 0, 0]], [[1.0, 0.0, 0.0, 0.0]])), 3)
        0.423
    """

    def __init__(
        self, reduction: str | None = "sum_over_batch_size", name: str = "mcc", dtype: Any = None, **options: Any
    ):
        _chosen("MCCLoss", options)
        super().__init__(mcc, {}, options, _WITHOUT, reduction, name, dtype)
