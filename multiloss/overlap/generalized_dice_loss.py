"""Generalized Dice loss: one ratio over all classes, each weighted by its size."""

from typing import Any, final

import keras
from keras import ops

from multiloss.checks import Tensor
from multiloss.overlap import engine
from multiloss.overlap.base import OverlapLoss
from multiloss.overlap.options import OverlapOptions

__all__ = ["GeneralizedDiceLoss", "generalized_dice"]

WEIGHTINGS = ("square", "simple", "uniform")


def generalized_dice(
    y_true: Any, y_pred: Any, *, weighting: str = "square", mask: Any = None, **options: Any
) -> Tensor:
    """Generalized Dice loss of each sample: classes are added up, weighted by their sizes v in the truth.

        1 - (2 sum_c w_c tp_c + smooth) / (sum_c w_c (2 tp_c + fp_c + fn_c) + smooth),   w_c = 1 / v_c^2

    Sudre et al. 2017, arXiv:1707.03237, equation in section 2.1; Crum et al. 2006 for the other weightings. A class
    that is absent from the truth, whose weight would be infinite, gets the largest weight among the classes that are
    there. Weights are relative to that largest one, so that `smooth` counts pixels of the smallest class. If no class
    is there at all, `empty` says what the loss is.

    Args:
        y_true: as in `dice`.
        y_pred: as in `dice`.
        weighting: "square" for 1 / v^2, "simple" for 1 / v, "uniform" for 1. Taken of hard or soft truth, as it is.
        mask: as in `dice`.
        **options: what `OverlapOptions` lists, but `over` is "sample" or "batch"; "skip" leaves absent classes out.
            `class_weight` multiplies the weights.

    Returns:
        As `dice`. For soft labels least at `p = t` with `squared=True`, if both smooths are equal, and else not.

    Raises:
        TypeError, ValueError: as `dice`; ValueError for an unknown weighting or another `over`.

    Gradient: weights are of the truth alone, so none goes through them to the prediction.

    Example:
        >>> import numpy as np
        >>> from multiloss import generalized_dice
        >>> soft = np.array([[[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]]])
        >>> round(float(generalized_dice([[0, 0, 1]], soft, mode="multiclass")[0]), 4)  # w = 1/4, 1
        0.2713
    """
    _parameters(weighting)
    chosen = _chosen("generalized_dice", options)
    m = engine.masks(y_true, y_pred, mask, chosen)
    c = engine.counts(m, chosen)

    size = c.tp + c.fn
    size = ops.where(c.absent, ops.full_like(size, float("inf")), size)
    # Not `initial=`, for a batch of 0: on torch, Keras puts that on the CPU, wherever the rest is.
    least = size if 0 in size.shape else ops.min(size, axis=1, keepdims=True)
    relative = ops.where(c.absent, ops.ones_like(size), least / ops.where(c.absent, ops.ones_like(size), size))
    weights = {"square": ops.square(relative), "simple": relative, "uniform": ops.ones_like(size)}[weighting]
    weights = ops.stop_gradient(weights) * engine.class_weights(m, chosen)
    if chosen.empty == "skip":
        weights = ops.where(c.absent, ops.zeros_like(weights), weights)

    def together(x: Tensor) -> Tensor:
        return ops.sum(weights * x, axis=1, keepdims=True)

    absent = ops.all(c.absent, axis=1, keepdims=True)
    c = engine.Counts(together(c.tp), together(c.fp), together(c.fn), together(c.pixels), absent, c.masked)
    return engine.mean(engine.tversky_loss(c, 0.5, 0.5, chosen), c, m, chosen)


def _parameters(weighting: str) -> dict[str, str]:
    if weighting not in WEIGHTINGS:
        raise ValueError(f"`weighting` must be one of {', '.join(map(repr, WEIGHTINGS))}. Received: {weighting!r}")
    return {"weighting": weighting}


def _chosen(function: str, options: dict[str, Any]) -> OverlapOptions:
    chosen = OverlapOptions.of(function, options)
    if chosen.over not in ("sample", "batch"):
        raise ValueError(f"`over` must be 'sample' or 'batch': classes are added up anyway. Received: {chosen.over!r}")
    return chosen


@final
@keras.saving.register_keras_serializable(package="multiloss")
class GeneralizedDiceLoss(OverlapLoss):
    """`generalized_dice` as a Keras loss, for `compile(loss=...)`. Weights and masks are treated as in `DiceLoss`.

    Args:
        weighting: as in `generalized_dice`.
        reduction: as in `DiceLoss`.
        name: as in `DiceLoss`.
        dtype: as in `DiceLoss`.
        **options: as in `generalized_dice`.

    Raises:
        TypeError, ValueError: as `DiceLoss`.

    Example:
        >>> import numpy as np
        >>> from multiloss import GeneralizedDiceLoss
        >>> soft = np.array([[[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]]])
        >>> round(float(GeneralizedDiceLoss(mode="multiclass")([[0, 0, 1]], soft)), 4)
        0.2713
    """

    def __init__(
        self,
        weighting: str = "square",
        reduction: str | None = "sum_over_batch_size",
        name: str = "generalized_dice",
        dtype: Any = None,
        **options: Any,
    ):
        _chosen("GeneralizedDiceLoss", options)
        super().__init__(generalized_dice, _parameters(weighting), options, (), reduction, name, dtype)
