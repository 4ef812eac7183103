"""Tversky loss: Dice with false positives and false negatives weighted apart."""

from typing import Any, Unpack, final

import keras

from multiloss._arguments import Tensor
from multiloss.overlap._base import OverlapLoss, OverlapOptions, RatioOptions, of_function
from multiloss.overlap._engine.sums import Counts

__all__ = ["TverskyLoss", "tversky"]


@final
@keras.saving.register_keras_serializable(package="multiloss")
class TverskyLoss(OverlapLoss):
    """Tversky loss of each class, in the mean over classes and samples.

        1 - (tp + smooth / 2) / (tp + alpha fp + beta fn + smooth / 2)

    In [0, 1]. `alpha = beta = 0.5` is the Dice loss, `alpha = beta = 1` the Jaccard loss. With soft labels, p = t is
    the minimum only if `squared=True` and the smoothing terms are equal, or `soft_label=True`.

    Salehi, Erdogmus, Gholipour 2017, arXiv:1706.05721, equation 4: alpha weights false positives, as here and in MONAI
    and segmentation-models-pytorch. In `keras.losses.Tversky` of some versions it weights false negatives.

    Args:
        alpha: what a false positive weighs, a finite number >= 0.
        beta: what a false negative weighs, a finite number >= 0.
        **options: as in `OverlapLoss`. `squared=True` takes `alpha` equal to `beta`: with squares only the sum of false
            positives and false negatives, `sum((p - t)^2)`, is never negative; each by itself may be.

    Examples:
        >>> from multiloss import TverskyLoss
        >>> round(float(TverskyLoss(0.3, 0.7)([[1, 1, 0, 0]], [[0.9, 0.4, 0.2, 0.1]])), 4)  # 1 - 1.3 / 1.88
        0.3085
    """

    def __init__(self, alpha: float = 0.5, beta: float = 0.5, **options: Unpack[OverlapOptions]):
        super().__init__(**options)
        self.alpha, self.beta = self._weights_of_false(alpha, beta)

    def losses(self, counts: Counts) -> Tensor:
        """Return the Tversky loss of each ratio."""
        return self.tversky(counts, self.alpha, self.beta)


def tversky(
    y_true: Any,
    y_pred: Any,
    *,
    alpha: float = 0.5,
    beta: float = 0.5,
    mask: Any = None,
    **options: Unpack[RatioOptions],
) -> Tensor:
    """Values of samples `[B]` of `TverskyLoss`, which describes the arguments.

    Examples:
        >>> from multiloss.losses import tversky
        >>> round(float(tversky([[1, 1, 0, 0]], [[0.9, 0.4, 0.2, 0.1]], alpha=0.3, beta=0.7)[0]), 4)
        0.3085
    """
    return TverskyLoss(alpha, beta, **of_function(options)).call(y_true, y_pred, mask)
