"""The Dice coefficient of a whole batch, and the loss factory `dice_loss(smooth, thresh)` for `compile(loss=...)`."""

from collections.abc import Sequence
from typing import Any, final

import keras
from keras import ops

from multiloss import checks
from multiloss.checks import Tensor
from multiloss.losses import Loss, keras_mask

__all__ = ["dice_coef", "dice_loss"]


def dice_coef(y_true: Any, y_pred: Any, smooth: float = 1e-5, thresh: float | None = None) -> Tensor:
    """Dice coefficient over the whole batch: all axes are summed at once.

        (2 * sum(t * p) + smooth) / (sum(t) + sum(p) + smooth)

    With `thresh`, p is `y_pred > thresh` in the value, compared in float32 or better. The gradient is straight-through:
    that of the formula at those hard values, handed to `y_pred` as it is (Bengio, Léonard and
    Courville 2013, arXiv:1308.3432), so that a thresholded Dice trains.

    Args:
        y_true: truth, any shape: booleans, integers or floats, 0 and 1 or soft labels in [0, 1].
        y_pred: predicted probabilities in [0, 1] (no logits), of the same shape. Half precision is summed in float32.
        smooth: finite number >= 0, in pixels. It keeps empty masks finite: both empty gives 1. At 0 that limit is kept,
            with a gradient of 0.
        thresh: None for the soft Dice, or a number in (0, 1).

    Returns:
        Scalar in [0, 1], float32, or float64 if `y_pred` is and the backend has it. A batch of 0 counts as empty masks.

    Raises:
        TypeError: if an input is not of numbers, or a parameter not a number.
        ValueError: if the shapes differ in any way (nothing is broadcast or squeezed), or a parameter is out of range.

    Cost: linear in the number of pixels, in time and in memory.

    Example:
        >>> import numpy as np
        >>> from multiloss import dice_coef
        >>> truth = np.array([[1, 1, 0, 0]])
        >>> soft = np.array([[0.9, 0.4, 0.2, 0.1]])
        >>> round(float(dice_coef(truth, soft)), 4)  # 2 * 1.3 / (2 + 1.6)
        0.7222
        >>> round(float(dice_coef(truth, soft, thresh=0.5)), 4)  # 2 * 1 / (2 + 1)
        0.6667

    Source: Dice 1945, "Measures of the Amount of Ecologic Association Between Species". `keras.losses.Dice` is 1
    minus this, with `smooth` in the denominator only, so that it calls two empty masks a total miss.
    """
    return _dice(y_true, y_pred, _smooth(smooth), _thresh(thresh))


# For models saved with `metrics=[dice_coef]`. Not as a decorator: Keras has no types, and would hide those above.
keras.saving.register_keras_serializable(package="multiloss")(dice_coef)


def dice_loss(
    smooth: float = 1e-5, thresh: float | None = None, *, name: str | None = None, dtype: Any = None
) -> keras.losses.Loss:
    """Make a loss whose value is `-dice_coef(y_true, y_pred, smooth, thresh)`, for `compile(loss=...)`.

    With `thresh` the value is the hard Dice and the gradient is straight-through, see `dice_coef`.

    Args:
        smooth: as in `dice_coef`.
        thresh: as in `dice_coef`.
        name: name of the loss; by default it tells the parameters.
        dtype: dtype to compute in, Keras's `floatx` by default; half precision is raised to float32.

    Returns:
        A new `keras.losses.Loss`, called as `loss(y_true, y_pred, sample_weight=None)`, which gives a scalar from -1,
        for a perfect prediction, to 0. It survives `model.save` and `load_model` with no `custom_objects`, in any
        process that has imported `multiloss`. A statistic of the whole batch has nothing to reduce over, so weights
        and masks go into its sums: `sample_weight`, of shape `[B]` or of any further leading axes of `y_pred` (each
        of size 1 or in full), and a Keras mask of such a shape weight the pixels, in the overlap as in the sizes. A
        sample of weight 0 is as good as absent.

    Raises:
        TypeError, ValueError: as `dice_coef`: here for its parameters, at a call for the data; ValueError for a
            `sample_weight` or a mask that does not fit `y_pred`.

    Example:
        >>> from multiloss import dice_loss
        >>> loss = dice_loss(smooth=1.0, thresh=0.5)
        >>> float(loss([[1, 1, 0]], [[0.9, 0.2, 0.1]]))  # -(2 * 1 + 1) / (2 + 1 + 1)
        -0.75
        >>> loss.name
        'dice_loss_smooth_1_thresh_0.5'
    """
    return _BatchDiceLoss(smooth, thresh, name, dtype)


@final
@keras.saving.register_keras_serializable(package="multiloss", name="dice_loss")
class _BatchDiceLoss(Loss):
    def __init__(self, smooth: float = 1e-5, thresh: float | None = None, name: str | None = None, dtype: Any = None):
        self.smooth, self.thresh = _smooth(smooth), _thresh(thresh)
        told = f"dice_loss_smooth_{self.smooth:g}" + ("" if self.thresh is None else f"_thresh_{self.thresh:g}")
        super().__init__(reduction=None, name=told if name is None else name, dtype=dtype)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Tensor:
        weights = [("sample_weight", sample_weight), ("mask", keras_mask(y_pred))]
        dtype = checks.at_least_float32(self.dtype)
        return -_dice(y_true, y_pred, self.smooth, self.thresh, [w for w in weights if w[1] is not None], dtype)

    def get_config(self) -> dict[str, Any]:
        return {"smooth": self.smooth, "thresh": self.thresh, "name": self.name, "dtype": self.dtype}


def _dice(
    y_true: Any,
    y_pred: Any,
    smooth: float,
    thresh: float | None,
    weights: Sequence[tuple[str, Any]] = (),
    dtype: str | None = None,
) -> Tensor:
    p = checks.floats("y_pred", y_pred)
    p = p if dtype is None else ops.cast(p, dtype)
    t = ops.cast(checks.numeric("y_true", y_true), p.dtype)
    zeros = checks.same_shape("y_true", t, "y_pred", p)
    if thresh is not None:
        # Added last, the difference is exactly 0 (or NaN) in the value and 1 in the slope.
        p = ops.cast(p > thresh, p.dtype) + (p - ops.stop_gradient(p))

    rank = len(p.shape)
    factors = [ops.cast(checks.weights(name, weight, p, axes=rank), p.dtype) for name, weight in weights]
    factors = [ops.reshape(w, (*ops.shape(w), *[1] * (rank - len(w.shape)))) for w in factors]

    def total(x: Tensor) -> Tensor:
        for factor in factors:
            x = x * factor
        return ops.sum(x)

    numerator = 2 * total(t * p) + smooth + sum(ops.cast(zero, p.dtype) for zero in zeros)
    denominator = total(t) + total(p) + smooth
    empty, one = ops.equal(denominator, 0), ops.ones_like(denominator)
    return ops.where(empty, one, numerator / ops.where(empty, one, denominator))


def _smooth(value: float) -> float:
    return checks.non_negative("smooth", value)


def _thresh(value: float | None) -> float | None:
    return None if value is None else checks.number("thresh", value, "None or a number in (0, 1)", lambda x: 0 < x < 1)
