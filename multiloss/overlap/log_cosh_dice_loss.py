"""Log-cosh Dice loss."""

from typing import Any, Unpack, final

import keras
from keras import ops

from multiloss._arguments import Tensor
from multiloss.overlap._base import OverlapLoss, RatioOptions, of_function
from multiloss.overlap._engine.sums import Counts

__all__ = ["LogCoshDiceLoss", "log_cosh_dice"]


@final
@keras.saving.register_keras_serializable(package="multiloss")
class LogCoshDiceLoss(OverlapLoss):
    """`log(cosh(d))` of the Dice loss d of each class, in the mean over classes and samples.

    Half the square of a small d, with a slope that vanishes towards a perfect prediction. In [0, 0.434], which is
    log(cosh(1)). With soft labels, p = t is the minimum only if `squared=True` and the smoothing terms are equal, or
    `soft_label=True`.

    Jadon 2020, arXiv:2006.14822, section II-L. `OverlapLoss` describes the arguments; `empty` sets d.

    Examples:
        >>> from multiloss import LogCoshDiceLoss
        >>> round(float(LogCoshDiceLoss()([[1, 1, 0, 0]], [[0.9, 0.4, 0.2, 0.1]])), 4)  # log(cosh(0.2778))
        0.0381
    """

    def losses(self, counts: Counts) -> Tensor:
        """Return the Dice loss of each ratio."""
        return self.tversky(counts, 0.5, 0.5)

    def transform(self, losses: Tensor) -> Tensor:
        """Return log(cosh(d))."""
        # log(cosh(d)) = log1p(sinh(d)^2) / 2, which keeps the digits of a small d.
        return ops.log1p(ops.square(ops.sinh(losses))) / 2


def log_cosh_dice(y_true: Any, y_pred: Any, *, mask: Any = None, **options: Unpack[RatioOptions]) -> Tensor:
    """Values of samples `[B]` of `LogCoshDiceLoss`. `OverlapLoss` describes the arguments.

    Examples:
        >>> from multiloss.losses import log_cosh_dice
        >>> round(float(log_cosh_dice([[1, 1, 0, 0]], [[0.9, 0.4, 0.2, 0.1]])[0]), 4)
        0.0381
    """
    return LogCoshDiceLoss(**of_function(options)).call(y_true, y_pred, mask)
