"""Matthews correlation loss."""

from typing import Any, Unpack, final

import keras
from keras import ops

from multiloss._arguments import Tensor
from multiloss.overlap._base import OverlapLoss, OverlapOptions, RatioOptions, of_function
from multiloss.overlap._engine import ratios, sums
from multiloss.overlap._engine.inputs import Masks
from multiloss.overlap._engine.sums import Counts

__all__ = ["MCCLoss", "mcc"]


@final
@keras.saving.register_keras_serializable(package="multiloss")
class MCCLoss(OverlapLoss):
    """1 minus the Matthews correlation coefficient of each class, in the mean over classes and samples.

        1 - (tp tn - fp fn) / sqrt((tp + fp) (tp + fn) (tn + fp) (tn + fn)),   with smooth / 2 added to each of the four

    In [0, 2]: 1 for a prediction without information. Unlike the others it counts true negatives, and stays the same if
    foreground and background change places. Where the root is 0, which takes a `smooth` of 0, the coefficient counts as
    0, with a gradient of 0. With soft labels, p = t is not the minimum: a hard mask may cost less.

    Abhishek and Hamarneh 2021, arXiv:2010.13454, equation 4. Smoothed by counts, since a constant beside the root,
    which is 0 for truth that is all 1, would call the opposite of it perfect.

    Args:
        **options: as in `OverlapLoss`, but for `squared` and `soft_label`, and `smooth` is one number.

    Examples:
        >>> from multiloss import MCCLoss
        >>> round(float(MCCLoss()([[1, 1, 0, 0]], [[1.0, 0.0, 0.0, 0.0]])), 3)  # 1 - 2 / sqrt(1 * 2 * 2 * 3)
        0.423
    """

    _without = ("squared", "soft_label")

    def __init__(self, **options: Unpack[OverlapOptions]):
        super().__init__(**options)
        if isinstance(self.smooth, tuple):
            raise ValueError(f"`smooth` must be one number for {type(self).__name__}. Received: {self.smooth!r}")

    def _losses(self, m: Masks, counts: Counts) -> Tensor:
        t, p = m.t, sums.thresholded(m.p, self.thresh)
        # Each count is summed by itself: as a difference of large sums, one near 0 would be lost to rounding.
        each = sums.totals(m, self, (t, p), (1 - t, p), (t, 1 - p), (1 - t, 1 - p))
        one, half = ops.ones_like(counts.pixels), self.smoothing[0] / 2
        pixels = ops.where(ops.equal(counts.pixels, 0), one, counts.pixels)
        tp, fp, fn, tn = ((count + half) / pixels for count in each)
        root = _root(tp + fp) * _root(tp + fn) * _root(tn + fp) * _root(tn + fn)
        return 1 - self.ratio(tp * tn - fp * fn, root)


def _root(x: Tensor) -> Tensor:
    return ratios.power(x, 0.5)


def mcc(y_true: Any, y_pred: Any, *, mask: Any = None, **options: Unpack[RatioOptions]) -> Tensor:
    """Values of samples `[B]` of `MCCLoss`, which describes the arguments.

    Examples:
        >>> from multiloss.losses import mcc
        >>> round(float(mcc([[1, 1, 0, 0]], [[1.0, 0.0, 0.0, 0.0]])[0]), 3)
        0.423
    """
    return MCCLoss(**of_function(options)).call(y_true, y_pred, mask)
