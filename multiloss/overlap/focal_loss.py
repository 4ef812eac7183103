"""Focal loss of pixels."""

from typing import Any, Unpack, final

import keras

from multiloss import _arguments
from multiloss._arguments import Tensor
from multiloss.overlap._base import OverlapLoss, OverlapOptions, RatioOptions, of_function
from multiloss.overlap._engine import pixelwise
from multiloss.overlap._engine.inputs import Masks

__all__ = ["FocalLoss", "focal"]


@final
@keras.saving.register_keras_serializable(package="multiloss")
class FocalLoss(OverlapLoss):
    """Focal loss: the terms of cross-entropy, those of log(q) times `(1 - q)^gamma`, so that sure pixels count less.

        binary, multilabel:  -alpha t (1 - p)^gamma log(p) - (1 - alpha) (1 - t) p^gamma log(1 - p)
        multiclass:          -sum_c w_c t_c (1 - p_c)^gamma log(p_c),   w_c the `class_weight`

    in the means of `CrossEntropyLoss`. With soft labels, p = t is the minimum only if `gamma=0`.

    Lin et al. 2017, arXiv:1708.02002, equations 4 and 5.

    Args:
        gamma: the exponent, a finite number >= 0; 0 is cross-entropy.
        alpha: None for both terms as they are, or a number in [0, 1]: the weight of the positives, with 1 - alpha that
            of the negatives. Not for multiclass mode, which has `class_weight`.
        **options: as in `CrossEntropyLoss`.

    Examples:
        >>> from multiloss import FocalLoss
        >>> round(float(FocalLoss()([[1, 0]], [[0.5, 0.25]])), 4)  # (0.25 log(2) + 0.0625 log(4 / 3)) / 2
        0.0956
    """

    _without = ("average", "smooth", "squared", "soft_label", "empty", "thresh")

    def __init__(self, gamma: float = 2.0, alpha: float | None = None, **options: Unpack[OverlapOptions]):
        super().__init__(**options)
        self.gamma = _arguments.non_negative("gamma", gamma)
        expected = "None or a number in [0, 1]"
        self.alpha = None if alpha is None else _arguments.number("alpha", alpha, expected, lambda x: 0 <= x <= 1)

    def _values(self, m: Masks) -> tuple[Tensor, None]:
        pixelwise.refuse_modes(m, ("binary", "multilabel"), alpha=self.alpha)
        weights = {} if self.alpha is None else {"positive": self.alpha, "negative": 1 - self.alpha}
        return pixelwise.mean(pixelwise.focal_losses(m, self.gamma, **weights), m, self), None


def focal(
    y_true: Any,
    y_pred: Any,
    *,
    gamma: float = 2.0,
    alpha: float | None = None,
    mask: Any = None,
    **options: Unpack[RatioOptions],
) -> Tensor:
    """Values of samples `[B]` of `FocalLoss`, which describes the arguments.

    Examples:
        >>> from multiloss.losses import focal
        >>> round(float(focal([[1, 0]], [[0.5, 0.25]])[0]), 4)
        0.0956
    """
    return FocalLoss(gamma, alpha, **of_function(options)).call(y_true, y_pred, mask)
