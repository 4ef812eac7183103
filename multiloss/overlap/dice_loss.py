"""Dice loss."""

from typing import Any, Unpack, final

import keras

from multiloss._arguments import Tensor
from multiloss.overlap._base import OverlapLoss, RatioOptions, of_function
from multiloss.overlap._engine.sums import Counts

__all__ = ["DiceLoss", "dice"]


@final
@keras.saving.register_keras_serializable(package="multiloss")
class DiceLoss(OverlapLoss):
    """Dice loss of each class, in the mean over classes and samples.

        1 - (2 tp + smooth) / (2 tp + fp + fn + smooth),   tp = sum(t p), fp = sum((1 - t) p), fn = sum(t (1 - p))

    with sums over pixels. In [0, 1]. `dice_loss(smooth, thresh)` is something else: minus the coefficient, from -1 to
    0, of all pixels of a batch at once.

    With soft labels, p = t is the minimum only if `squared=True` and the smoothing terms are equal, or
    `soft_label=True`; with plain sums it is where p is 1 for t above half the best coefficient and else 0.

    Dice 1945, "Measures of the Amount of Ecologic Association Between Species"; as a loss, Milletari et al. 2016,
    arXiv:1606.04797. `OverlapLoss` describes the arguments and the data.

    Examples:
        >>> import numpy as np
        >>> from multiloss import DiceLoss
        >>> loss = DiceLoss(from_logits=True, include_background=False)
        >>> logits = np.array([[[5.0, -5.0], [-5.0, 5.0], [5.0, -5.0]]])
        >>> round(float(loss([[0, 1, 1]], logits)), 4)
        0.3333
    """

    def losses(self, counts: Counts) -> Tensor:
        """Return the Dice loss of each ratio."""
        return self.tversky(counts, 0.5, 0.5)


def dice(y_true: Any, y_pred: Any, *, mask: Any = None, **options: Unpack[RatioOptions]) -> Tensor:
    """Values of samples `[B]` of `DiceLoss`. `OverlapLoss` describes the arguments.

    Examples:
        >>> from multiloss.losses import dice
        >>> truth, soft = [[1, 1, 0, 0], [0, 0, 0, 0]], [[0.9, 0.4, 0.2, 0.1], [0.0, 0.0, 0.0, 0.4]]
        >>> [round(float(value), 4) for value in dice(truth, soft)]  # 1 - 2 * 1.3 / (2 + 1.6), and the mean prediction
        [0.2778, 0.1]
    """
    return DiceLoss(**of_function(options)).call(y_true, y_pred, mask)
