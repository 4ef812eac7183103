"""Sums of the Dice loss and a loss of pixels: cross-entropy, or the focal loss."""

from typing import Any, Unpack, final

import keras

from multiloss import _arguments
from multiloss._arguments import Tensor
from multiloss.overlap._base import OverlapLoss, OverlapOptions, RatioOptions, of_function
from multiloss.overlap._engine import pixelwise, ratios
from multiloss.overlap._engine.inputs import Masks
from multiloss.overlap._engine.sums import Counts

__all__ = ["DiceCrossEntropyLoss", "DiceFocalLoss", "dice_cross_entropy", "dice_focal"]


class _DiceAndPixels(OverlapLoss):
    """The weighted sum that both classes share."""

    gamma = 0.0

    def __init__(self, dice_weight: float, pixel_weight: float, **options: Unpack[OverlapOptions]):
        super().__init__(**options)
        self.dice_weight = _arguments.non_negative("dice_weight", dice_weight)
        self.pixel_weight = _arguments.non_negative("pixel_weight", pixel_weight)
        if self.average is None:
            raise ValueError("`average` must be 'macro' or 'micro' in a sum with a loss of pixels. Received: None")

    def _values(self, m: Masks) -> tuple[Tensor, None]:
        counts = Counts(m, self)
        losses = ratios.where_empty(self.tversky(counts, 0.5, 0.5), counts, self)
        dice, pixels = ratios.mean(losses, counts, m, self), pixelwise.focal_losses(m, self.gamma)
        return self.dice_weight * dice + self.pixel_weight * pixelwise.mean(pixels, m, self), None


@final
@keras.saving.register_keras_serializable(package="multiloss")
class DiceCrossEntropyLoss(_DiceAndPixels):
    """Weighted sum of the losses of `DiceLoss` and `CrossEntropyLoss`, of each sample.

    With soft labels, p = t is the minimum only if `squared=True` and the smoothing terms are equal, or
    `soft_label=True`. Isensee et al. 2021, "nnU-Net", Nature Methods 18, with weights of 1.

    Args:
        dice_weight: a finite number >= 0.
        pixel_weight: a finite number >= 0.
        **options: as in `OverlapLoss`, for both where both have it; `average` is not None. With `empty="skip"`, a
            sample without any class stays in the mean over samples, since its pixels count.

    Examples:
        >>> from multiloss import DiceCrossEntropyLoss
        >>> round(float(DiceCrossEntropyLoss()([[1, 0]], [[0.5, 0.25]])), 4)  # 1 - 1 / 1.75 + 0.4904
        0.919
    """

    def __init__(self, dice_weight: float = 1.0, pixel_weight: float = 1.0, **options: Unpack[OverlapOptions]):
        super().__init__(dice_weight, pixel_weight, **options)


@final
@keras.saving.register_keras_serializable(package="multiloss")
class DiceFocalLoss(_DiceAndPixels):
    """Weighted sum of the losses of `DiceLoss` and `FocalLoss`, of each sample.

    With soft labels, p = t is not the minimum, but for `gamma=0`. Zhu et al. 2019, "AnatomyNet", arXiv:1808.05238.

    Args:
        gamma: as in `FocalLoss`.
        dice_weight: a finite number >= 0.
        pixel_weight: a finite number >= 0.
        **options: as in `DiceCrossEntropyLoss`.

    Examples:
        >>> from multiloss import DiceFocalLoss
        >>> round(float(DiceFocalLoss()([[1, 0]], [[0.5, 0.25]])), 4)  # 1 - 1 / 1.75 + 0.0956
        0.5242
    """

    def __init__(
        self,
        gamma: float = 2.0,
        dice_weight: float = 1.0,
        pixel_weight: float = 1.0,
        **options: Unpack[OverlapOptions],
    ):
        super().__init__(dice_weight, pixel_weight, **options)
        self.gamma = _arguments.non_negative("gamma", gamma)


def dice_cross_entropy(
    y_true: Any,
    y_pred: Any,
    *,
    dice_weight: float = 1.0,
    pixel_weight: float = 1.0,
    mask: Any = None,
    **options: Unpack[RatioOptions],
) -> Tensor:
    """Values of samples `[B]` of `DiceCrossEntropyLoss`, which describes the arguments.

    Examples:
        >>> from multiloss.losses import dice_cross_entropy
        >>> round(float(dice_cross_entropy([[1, 0]], [[0.5, 0.25]])[0]), 4)
        0.919
    """
    return DiceCrossEntropyLoss(dice_weight, pixel_weight, **of_function(options)).call(y_true, y_pred, mask)


def dice_focal(
    y_true: Any,
    y_pred: Any,
    *,
    gamma: float = 2.0,
    dice_weight: float = 1.0,
    pixel_weight: float = 1.0,
    mask: Any = None,
    **options: Unpack[RatioOptions],
) -> Tensor:
    """Values of samples `[B]` of `DiceFocalLoss`, which describes the arguments.

    Examples:
        >>> from multiloss.losses import dice_focal
        >>> round(float(dice_focal([[1, 0]], [[0.5, 0.25]])[0]), 4)
        0.5242
    """
    return DiceFocalLoss(gamma, dice_weight, pixel_weight, **of_function(options)).call(y_true, y_pred, mask)
