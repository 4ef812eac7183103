"""Log-cosh Dice loss."""

from typing import Any, final

import keras
from keras import ops

from multiloss.checks import Tensor
from multiloss.overlap import engine
from multiloss.overlap.base import OverlapLoss
from multiloss.overlap.options import OverlapOptions

__all__ = ["LogCoshDiceLoss", "log_cosh_dice"]


def log_cosh_dice(y_true: Any, y_pred: Any, *, mask: Any = None, **options: Any) -> Tensor:
    """`log(cosh(d))` of the Dice loss d of each class, of each sample in the mean over its classes.

    Half the square of a small d, with a slope that vanishes towards a perfect prediction. Jadon 2020, arXiv:2006.14822,
    section II-L.

    Args:
        y_true: as in `dice`.
        y_pred: as in `dice`.
        mask: as in `dice`.
        **options: what `OverlapOptions` lists, all of it.

    Returns:
        As `dice`, in [0, log(cosh(1)) = 0.434]. For soft labels least at `p = t` with `squared=True`, if both smooths
        are equal, and else not.

    Raises:
        TypeError, ValueError: as `dice`.

    Example:
        >>> from multiloss import log_cosh_dice
        >>> round(float(log_cosh_dice([[1, 1, 0, 0]], [[0.9, 0.4, 0.2, 0.1]])[0]), 4)  # log(cosh(0.2778))
        0.0381
    """
    chosen = OverlapOptions.of("log_cosh_dice", options)
    m = engine.masks(y_true, y_pred, mask, chosen)
    c = engine.counts(m, chosen)
    # log(cosh(d)) = log1p(sinh(d)^2) / 2, which keeps the digits of a small d.
    sinh = ops.sinh(engine.tversky_loss(c, 0.5, 0.5, chosen))
    return engine.mean(ops.log1p(ops.square(sinh)) / 2, c, m, chosen)


@final
@keras.saving.register_keras_serializable(package="multiloss")
class LogCoshDiceLoss(OverlapLoss):
    """`log_cosh_dice` as a Keras loss, for `compile(loss=...)`. Weights and masks are treated as in `DiceLoss`.

    Args:
        reduction: as in `DiceLoss`.
        name: as in `DiceLoss`.
        dtype: as in `DiceLoss`.
        **options: as in `log_cosh_dice`.

    Raises:
        TypeError, ValueError: as `DiceLoss`.

    Example:
        >>> from multiloss import LogCoshDiceLoss
        >>> round(float(LogCoshDiceLoss()([[1, 1, 0, 0]], [[0.9, 0.4, 0.2, 0.1]])), 4)
        0.0381
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str = "log_cosh_dice",
        dtype: Any = None,
        **options: Any,
    ):
        super().__init__(log_cosh_dice, {}, options, (), reduction, name, dtype)
