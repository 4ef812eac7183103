"""Generalized Dice loss: one ratio over all classes, each weighted by its size."""

from typing import Any, Literal, Unpack, final, get_args

import keras
from keras import ops

from multiloss import _arguments
from multiloss._arguments import Tensor
from multiloss.overlap._base import OverlapLoss, OverlapOptions, RatioOptions, of_function
from multiloss.overlap._engine import sums
from multiloss.overlap._engine.inputs import Masks
from multiloss.overlap._engine.sums import Counts

__all__ = ["GeneralizedDiceLoss", "generalized_dice"]
Weighting = Literal["square", "simple", "uniform"]


@final
@keras.saving.register_keras_serializable(package="multiloss")
class GeneralizedDiceLoss(OverlapLoss):
    """Generalized Dice loss of each sample: classes are added up, weighted by their sizes v in the truth.

        1 - (2 sum_c w_c tp_c + smooth) / (sum_c w_c (2 tp_c + fp_c + fn_c) + smooth),   w_c = 1 / v_c^2

    In [0, 1]. A class that is absent from the truth, whose weight would be infinite, gets the largest weight among the
    classes that are there. Weights are relative to that largest one, so that `smooth` counts pixels of the smallest
    class. If no class is there at all, `empty` sets the loss. Weights are of the truth alone, and have no gradient.
    With soft labels, p = t is the minimum only if `squared=True` and the smoothing terms are equal, or
    `soft_label=True`.

    Sudre et al. 2017, arXiv:1707.03237, equation in section 2.1; Crum et al. 2006 for the other weightings.

    Args:
        weighting: "square" for 1 / v^2, "simple" for 1 / v, "uniform" for 1. Taken of hard or soft truth, as it is.
        **options: as in `OverlapLoss`, but for `average`; `class_weight` multiplies the weights, and "skip" leaves
            absent classes out.

    Examples:
        >>> import numpy as np
        >>> from multiloss import GeneralizedDiceLoss
        >>> soft = np.array([[[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]]])
        >>> round(float(GeneralizedDiceLoss()([[0, 0, 1]], soft)), 4)  # w = 1/4, 1
        0.2713
    """

    _without = ("average",)

    def __init__(self, weighting: Weighting = "square", **options: Unpack[OverlapOptions]):
        super().__init__(**options)
        self.weighting = _arguments.one_of("weighting", weighting, get_args(Weighting))

    def losses(self, counts: Counts) -> Tensor:
        """Return the Dice loss of the weighted counts."""
        return self.tversky(counts, 0.5, 0.5)

    def _pooled(self, counts: Counts, m: Masks) -> Counts:
        size = counts.tp + counts.fn
        size = ops.where(counts.absent, ops.full_like(size, float("inf")), size)
        # TensorFlow takes no minimum of a batch of 0. torch.compile cannot trace `ops.min`, which is the same.
        least = size if 0 in size.shape else ops.amin(size, axis=1, keepdims=True)
        one = ops.ones_like(size)
        relative = ops.where(counts.absent, one, least / ops.where(counts.absent, one, size))
        weights = {"square": ops.square(relative), "simple": relative, "uniform": one}[self.weighting]
        weights = ops.stop_gradient(weights) * sums.class_weights(m, self)
        if self.empty == "skip":
            weights = ops.where(counts.absent, ops.zeros_like(weights), weights)
        return counts.weighted_sum(weights)


def generalized_dice(
    y_true: Any, y_pred: Any, *, weighting: Weighting = "square", mask: Any = None, **options: Unpack[RatioOptions]
) -> Tensor:
    """Values of samples `[B]` of `GeneralizedDiceLoss`, which describes the arguments.

    Examples:
        >>> import numpy as np
        >>> from multiloss.losses import generalized_dice
        >>> soft = np.array([[[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]]])
        >>> round(float(generalized_dice([[0, 0, 1]], soft)[0]), 4)
        0.2713
    """
    return GeneralizedDiceLoss(weighting, **of_function(options)).call(y_true, y_pred, mask)
