"""Jaccard loss: 1 minus the intersection over the union."""

from typing import Any, final

import keras

from multiloss.checks import Tensor
from multiloss.overlap import engine
from multiloss.overlap.base import OverlapLoss
from multiloss.overlap.options import OverlapOptions

__all__ = ["JaccardLoss", "jaccard"]


def jaccard(y_true: Any, y_pred: Any, *, mask: Any = None, **options: Any) -> Tensor:
    """Jaccard loss (intersection over union) of each sample, in the mean over its classes.

        1 - (tp + smooth / 2) / (tp + fp + fn + smooth / 2)

    It is `2 d / (1 + d)` of the Dice loss d of the same ratio, for any `smooth`. Jaccard 1912, "The distribution of the
    flora in the alpine zone"; as a loss, Rahman and Wang 2016, "Optimizing intersection-over-union in deep neural
    networks for image segmentation".

    Args:
        y_true: as in `dice`.
        y_pred: as in `dice`.
        mask: as in `dice`.
        **options: what `OverlapOptions` lists, all of it.

    Returns:
        As `dice`. For soft labels least at `p = t` with `squared=True`, if both smooths are equal, and else not.

    Raises:
        TypeError, ValueError: as `dice`.

    Example:
        >>> import numpy as np
        >>> from multiloss import jaccard
        >>> round(float(jaccard(np.array([[1, 1, 0, 0]]), np.array([[0.9, 0.4, 0.2, 0.1]]))[0]), 4)  # 1 - 1.3 / 2.3
        0.4348
    """
    chosen = OverlapOptions.of("jaccard", options)
    m = engine.masks(y_true, y_pred, mask, chosen)
    c = engine.counts(m, chosen)
    return engine.mean(engine.tversky_loss(c, 1.0, 1.0, chosen), c, m, chosen)


@final
@keras.saving.register_keras_serializable(package="multiloss")
class JaccardLoss(OverlapLoss):
    """`jaccard` as a Keras loss, for `compile(loss=...)`. Weights and masks are treated as in `DiceLoss`.

    Args:
        reduction: as in `DiceLoss`.
        name: as in `DiceLoss`.
        dtype: as in `DiceLoss`.
        **options: as in `jaccard`.

    Raises:
        TypeError, ValueError: as `DiceLoss`.

    Example:
        >>> from multiloss import JaccardLoss
        >>> round(float(JaccardLoss()([[1, 1, 0, 0]], [[0.9, 0.4, 0.2, 0.1]])), 4)
        0.4348
    """

    def __init__(
        self, reduction: str | None = "sum_over_batch_size", name: str = "jaccard", dtype: Any = None, **options: Any
    ):
        super().__init__(jaccard, {}, options, (), reduction, name, dtype)
