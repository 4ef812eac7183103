"""Jaccard loss: 1 minus the intersection over the union."""

from typing import Any, Unpack, final

import keras

from multiloss._arguments import Tensor
from multiloss.overlap._base import OverlapLoss, RatioOptions, of_function
from multiloss.overlap._engine.sums import Counts

__all__ = ["JaccardLoss", "jaccard"]


@final
@keras.saving.register_keras_serializable(package="multiloss")
class JaccardLoss(OverlapLoss):
    """Jaccard loss (intersection over union) of each class, in the mean over classes and samples.

        1 - (tp + smooth / 2) / (tp + fp + fn + smooth / 2)

    In [0, 1]. It is `2 d / (1 + d)` of the Dice loss d of the same ratio, for any `smooth`. With soft labels, p = t is
    the minimum only if `squared=True` and the smoothing terms are equal, or `soft_label=True`.

    Jaccard 1912, "The distribution of the flora in the alpine zone"; as a loss, Rahman and Wang 2016, "Optimizing
    intersection-over-union in deep neural networks for image segmentation". `OverlapLoss` describes the arguments.

    Examples:
        >>> from multiloss import JaccardLoss
        >>> round(float(JaccardLoss()([[1, 1, 0, 0]], [[0.9, 0.4, 0.2, 0.1]])), 4)  # 1 - 1.3 / 2.3
        0.4348
    """

    def losses(self, counts: Counts) -> Tensor:
        """Return the Jaccard loss of each ratio."""
        return self.tversky(counts, 1.0, 1.0)


def jaccard(y_true: Any, y_pred: Any, *, mask: Any = None, **options: Unpack[RatioOptions]) -> Tensor:
    """Values of samples `[B]` of `JaccardLoss`. `OverlapLoss` describes the arguments.

    Examples:
        >>> from multiloss.losses import jaccard
        >>> round(float(jaccard([[1, 1, 0, 0]], [[0.9, 0.4, 0.2, 0.1]])[0]), 4)
        0.4348
    """
    return JaccardLoss(**of_function(options)).call(y_true, y_pred, mask)
