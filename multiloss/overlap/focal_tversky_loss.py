"""Focal Tversky loss: a power of the Tversky loss."""

from typing import Any, Unpack, final

import keras

from multiloss import _arguments
from multiloss._arguments import Tensor
from multiloss.overlap._base import OverlapLoss, OverlapOptions, RatioOptions, of_function
from multiloss.overlap._engine import ratios
from multiloss.overlap._engine.sums import Counts

__all__ = ["FocalTverskyLoss", "focal_tversky"]


@final
@keras.saving.register_keras_serializable(package="multiloss")
class FocalTverskyLoss(OverlapLoss):
    """Tversky loss of each class to the power of `gamma`, in the mean over classes and samples.

    `gamma > 1` draws attention to classes that overlap badly, `gamma < 1` keeps it on those that nearly overlap. For
    `gamma < 1` the gradient grows without bound towards a perfect prediction; at it, it is 0. With soft labels, p = t
    is the minimum only if `squared=True` and the smoothing terms are equal, or `soft_label=True`.

    Abraham and Khan 2019, arXiv:1810.07842, equation 3, with 1 / gamma for gamma, and alpha for beta.

    Args:
        alpha: what a false positive weighs, a finite number >= 0.
        beta: what a false negative weighs, a finite number >= 0.
        gamma: the exponent, a finite number > 0 (at least 1.2e-38).
        **options: as in `TverskyLoss`; `empty` sets the loss before the power.

    Examples:
        >>> from multiloss import FocalTverskyLoss
        >>> round(float(FocalTverskyLoss()([[1, 1, 0, 0]], [[0.9, 0.4, 0.2, 0.1]])), 4)  # 0.3085 ** 0.75
        0.414
    """

    def __init__(self, alpha: float = 0.3, beta: float = 0.7, gamma: float = 0.75, **options: Unpack[OverlapOptions]):
        super().__init__(**options)
        self.alpha, self.beta = self._weights_of_false(alpha, beta)
        self.gamma = _arguments.positive("gamma", gamma)

    def losses(self, counts: Counts) -> Tensor:
        """Return the Tversky loss of each ratio."""
        return self.tversky(counts, self.alpha, self.beta)

    def transform(self, losses: Tensor) -> Tensor:
        """Return the power."""
        return ratios.power(losses, self.gamma)


def focal_tversky(
    y_true: Any,
    y_pred: Any,
    *,
    alpha: float = 0.3,
    beta: float = 0.7,
    gamma: float = 0.75,
    mask: Any = None,
    **options: Unpack[RatioOptions],
) -> Tensor:
    """Values of samples `[B]` of `FocalTverskyLoss`, which describes the arguments.

    Examples:
        >>> from multiloss.losses import focal_tversky
        >>> round(float(focal_tversky([[1, 1, 0, 0]], [[0.9, 0.4, 0.2, 0.1]])[0]), 4)
        0.414
    """
    return FocalTverskyLoss(alpha, beta, gamma, **of_function(options)).call(y_true, y_pred, mask)
