"""Dice of all pixels of a batch at once: the coefficient, and minus the coefficient as a loss."""

from typing import Any, final

import keras

from multiloss import _arguments
from multiloss._arguments import Tensor
from multiloss.overlap._base import OverlapLoss
from multiloss.overlap._engine import ratios
from multiloss.overlap._engine.inputs import Masks
from multiloss.overlap._engine.sums import thresholded, totals

__all__ = ["BatchDiceLoss", "dice_coef", "dice_loss"]


@final
@keras.saving.register_keras_serializable(package="multiloss")
class BatchDiceLoss(OverlapLoss):
    """Minus `dice_coef` of the batch, from -1, for a perfect prediction, to 0: what `dice_loss` makes.

    `DiceLoss` is something else: 1 minus the coefficient of each sample and class, in their mean. This one plus 1 is
    `DiceLoss(mode="binary", batch=True, average="micro", empty="formula")`.

    Weights and masks go into the sums: a `sample_weight` of shape `[B]`, or of any further leading axes of `y_pred`
    (each of size 1 or in full), and a Keras mask of such a shape weight the pixels, in the overlap as in the sizes. A
    sample of weight 0 is absent.

    Args:
        smooth: as in `dice_coef`.
        thresh: as in `dice_coef`. The value is the hard Dice, and the gradient straight-through.
        validate: as in `OverlapLoss`.
        across_replicas: as in `OverlapLoss`.
        name: name of the loss; by default it tells the parameters.
        dtype: dtype to compute in, Keras's `floatx` by default; half precision is raised to float32.

    Raises:
        TypeError, ValueError: as `dice_coef`: in the constructor for its parameters, at a call for the data; ValueError
            for a `sample_weight` or a mask that does not fit `y_pred`.

    Examples:
        >>> from multiloss import BatchDiceLoss
        >>> float(BatchDiceLoss(smooth=1.0, thresh=0.5)([[1, 1, 0]], [[0.9, 0.2, 0.1]]))  # -(2 * 1 + 1) / (2 + 1 + 1)
        -0.75
    """

    _binary_only = True

    def __init__(
        self,
        smooth: float = 1e-5,
        thresh: float | None = None,
        *,
        validate: bool = True,
        across_replicas: bool | str = False,
        name: str | None = None,
        dtype: Any = None,
    ):
        smooth, thresh = _arguments.non_negative("smooth", smooth), _arguments.threshold(thresh)
        told = f"dice_loss_smooth_{smooth:g}" + ("" if thresh is None else f"_thresh_{thresh:g}")
        super().__init__(
            mode="binary",
            batch=True,
            average="micro",
            smooth=smooth,
            thresh=thresh,
            validate=validate,
            across_replicas=across_replicas,
            name=told if name is None else name,
            dtype=dtype,
        )

    def _values(self, m: Masks) -> tuple[Tensor, None]:
        p = thresholded(m.p, self.thresh)
        tp, truth, found = totals(m, self, (m.t, p), (m.t,), (p,))
        smooth = self.smoothing[0]
        # Not as a loss minus 1, which would round small coefficients away.
        return -ratios.ratio(2 * tp + smooth, truth + found + smooth, least=smooth, default=1.0)[:, 0], None


def dice_loss(
    smooth: float = 1e-5,
    thresh: float | None = None,
    *,
    validate: bool = True,
    across_replicas: bool | str = False,
    name: str | None = None,
    dtype: Any = None,
) -> BatchDiceLoss:
    """Make a loss whose value is `-dice_coef(y_true, y_pred, smooth, thresh)`, for `compile(loss=...)`.

    From -1, for a perfect prediction, to 0; `DiceLoss`, from 0 to 1, has a value for each sample and class. The loss
    survives `model.save` and `load_model` with no `custom_objects`, in any process that has imported `multiloss`.
    `BatchDiceLoss` describes the arguments, weights and masks.

    Examples:
        >>> from multiloss import dice_loss
        >>> loss = dice_loss(smooth=1.0, thresh=0.5)
        >>> float(loss([[1, 1, 0]], [[0.9, 0.2, 0.1]]))
        -0.75
        >>> loss.name
        'dice_loss_smooth_1_thresh_0.5'
    """
    return BatchDiceLoss(smooth, thresh, validate=validate, across_replicas=across_replicas, name=name, dtype=dtype)


def dice_coef(
    y_true: Any, y_pred: Any, smooth: float = 1e-5, thresh: float | None = None, *, validate: bool = True
) -> Tensor:
    """Dice coefficient over the whole batch: all axes are summed at once.

        (2 * sum(t * p) + smooth) / (sum(t) + sum(p) + smooth)

    With `thresh`, p is `y_pred > thresh` in the value, compared in float32 or better. The gradient is straight-through:
    that of the formula at those hard values, handed to `y_pred` as it is (Bengio, Léonard and
    Courville 2013, arXiv:1308.3432), so that a thresholded Dice trains.

    Args:
        y_true: truth, `[B, ...]`: booleans, integers or floats, 0 and 1 or soft labels in [0, 1].
        y_pred: predicted probabilities in [0, 1] (no logits), of the same shape. Half precision is summed in float32.
        smooth: finite number >= 0, in pixels. It keeps empty masks finite: both empty gives 1. At 0 that limit is kept,
            with a gradient of 0.
        thresh: None for the soft Dice, or a number in (0, 1).
        validate: whether values outside [0, 1] are refused, as in `OverlapLoss`.

    Returns:
        Scalar in [0, 1], float32, or float64 if `y_pred` is and the backend has it. A batch of 0 counts as empty masks.

    Raises:
        TypeError: if an input is not of numbers, or a parameter not a number.
        ValueError: if the shapes differ (nothing is broadcast; a last axis of 1 may be missing from either), for values
            outside [0, 1], a parameter out of range, and predictions with a Keras mask: as a metric of a model with
            masks, use `DiceCoefficient`.

    Cost: linear in the number of pixels, in time and in memory.

    Examples:
        >>> import numpy as np
        >>> from multiloss import dice_coef
        >>> truth = np.array([[1, 1, 0, 0]])
        >>> soft = np.array([[0.9, 0.4, 0.2, 0.1]])
        >>> round(float(dice_coef(truth, soft)), 4)  # 2 * 1.3 / (2 + 1.6)
        0.7222
        >>> round(float(dice_coef(truth, soft, thresh=0.5)), 4)  # 2 * 1 / (2 + 1)
        0.6667

    Dice 1945, as in `DiceLoss`. `keras.losses.Dice` is 1 minus this, with `smooth` in the denominator only, so that it
    calls two empty masks a total miss.
    """
    return -BatchDiceLoss(smooth, thresh, validate=validate).call(y_true, y_pred)


# For models saved with `metrics=[dice_coef]`. Not as a decorator: Keras has no types, and would hide those above.
keras.saving.register_keras_serializable(package="multiloss")(dice_coef)
