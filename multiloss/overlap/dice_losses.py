"""Dice loss: of samples (`dice`, `DiceLoss`), and of a whole batch (`dice_coef`, `dice_loss(smooth, thresh)`)."""

from typing import Any, final

import keras

from multiloss import checks
from multiloss._base import Loss
from multiloss.checks import Tensor
from multiloss.overlap import engine
from multiloss.overlap.base import OverlapLoss
from multiloss.overlap.options import OverlapOptions

__all__ = ["DiceLoss", "dice", "dice_coef", "dice_loss"]


def dice(y_true: Any, y_pred: Any, *, mask: Any = None, **options: Any) -> Tensor:
    """Dice loss of each sample, in the mean over its classes.

        1 - (2 tp + smooth) / (2 tp + fp + fn + smooth),   tp = sum(t p), fp = sum((1 - t) p), fn = sum(t (1 - p))

    with sums over pixels, and sizes in squares for `squared`. Dice 1945, "Measures of the Amount of Ecologic
    Association Between Species"; as a loss, Milletari et al. 2016, arXiv:1606.04797.

    Args:
        y_true: truth, in the shape that `mode` says: 0 and 1, soft labels in [0, 1], or class indices.
        y_pred: predictions `[B, ...]`, or `[B, ..., C]` if `mode` is not "binary": probabilities, or logits for
            `from_logits`. Half precision is computed in float32.
        mask: None, or which pixels count, and how much: numbers >= 0 `[B, ...]` without classes, of each pixel or of
            leading axes only, or `[B, ..., 1]` or `[B, ..., C]`. Axes of pixels may be 1, for all along them.
        **options: what `OverlapOptions` lists, all of it.

    Returns:
        `[B]`, or a scalar for `over="batch"` and `over="all"`; float32, or float64 if `y_pred` is and the backend has
        it. In [0, 1] for predictions in [0, 1]. A ratio without truth is what `empty` says; one without truth,
        prediction and smooth is 0, and so is one all of whose pixels are masked or ignored.

    Raises:
        TypeError: if an argument is unknown, or not of the kind that it must be.
        ValueError: if shapes do not fit (nothing but a `mask` is broadcast), or an option is out of range.

    Soft labels: with plain sums the loss is not least at `p = t`, but where p is 1 for t above half the best
    coefficient and else 0; with `squared=True` it is least, and 0, at `p = t`, if both smooths are equal.

    Cost: linear in the number of pixels, in time and in memory.

    Example:
        >>> import numpy as np
        >>> from multiloss import dice
        >>> truth = np.array([[1, 1, 0, 0], [0, 0, 0, 0]])
        >>> soft = np.array([[0.9, 0.4, 0.2, 0.1], [0.0, 0.0, 0.0, 0.4]])
        >>> [round(float(row), 4) for row in dice(truth, soft)]  # 1 - 2 * 1.3 / (2 + 1.6), and the mean of the second
        [0.2778, 0.1]
    """
    chosen = OverlapOptions.of("dice", options)
    m = engine.masks(y_true, y_pred, mask, chosen)
    c = engine.counts(m, chosen)
    return engine.mean(engine.tversky_loss(c, 0.5, 0.5, chosen), c, m, chosen)


@final
@keras.saving.register_keras_serializable(package="multiloss")
class DiceLoss(OverlapLoss):
    """`dice` as a Keras loss, for `compile(loss=...)`. Labels are left as they come, integers exact.

    A `sample_weight` (or Keras mask) of one number a sample weights the losses of samples. One that has axes of pixels
    weights pixels in the sums, as `mask` does in `dice`; so does any if `over` is "batch" or "all".

    Args:
        reduction: as in `keras.losses.Loss`; the default is the mean over samples.
        name: name of the loss.
        dtype: dtype to compute in, Keras's `floatx` by default; half precision is raised to float32.
        **options: as in `dice`.

    Raises:
        TypeError, ValueError: as `dice`, in the constructor for its options and at a call for the data.

    Example:
        >>> import numpy as np
        >>> from multiloss import DiceLoss
        >>> loss = DiceLoss(mode="multiclass", from_logits=True, include_background=False)
        >>> logits = np.array([[[5.0, -5.0], [-5.0, 5.0], [5.0, -5.0]]])
        >>> round(float(loss([[0, 1, 1]], logits)), 4)
        0.3333
    """

    def __init__(
        self, reduction: str | None = "sum_over_batch_size", name: str = "dice", dtype: Any = None, **options: Any
    ):
        super().__init__(dice, {}, options, (), reduction, name, dtype)


# --- of a whole batch ------------------------------------------------------------------------------------------------


def dice_coef(y_true: Any, y_pred: Any, smooth: float = 1e-5, thresh: float | None = None) -> Tensor:
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

    Source: Dice 1945, as in `dice`. `keras.losses.Dice` is 1 minus this, with `smooth` in the denominator only, so that
        it calls two empty masks a total miss.
    """
    return _coefficient(y_true, y_pred, None, _of_the_whole_batch(smooth, thresh))


def _coefficient(y_true: Any, y_pred: Any, mask: Any, options: OverlapOptions) -> Tensor:
    m = engine.masks(y_true, y_pred, mask, options)
    p = engine.thresholded(m.p, options.thresh)
    tp, truth, found = engine.totals(m, options, (m.t, p), (m.t,), (p,))
    smooth = options.smoothing[0]
    # Not 1 minus the loss, which has no small coefficients.
    return engine.ratio(2 * tp + smooth, truth + found + smooth, least=smooth, nothing=1.0)[0, 0]


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
        self._options = _of_the_whole_batch(smooth, thresh)
        self.smooth, self.thresh = self._options.smoothing[0], self._options.thresh
        told = f"dice_loss_smooth_{self.smooth:g}" + ("" if self.thresh is None else f"_thresh_{self.thresh:g}")
        super().__init__(reduction=None, name=told if name is None else name, dtype=dtype)

    def _goes_inside(self, weight: Tensor) -> bool:
        return True

    def _values(self, y_true: Any, y_pred: Tensor, weights: dict[str, Tensor]) -> Tensor:
        return -_coefficient(y_true, y_pred, weights, self._options)

    def get_config(self) -> dict[str, Any]:
        return {"smooth": self.smooth, "thresh": self.thresh, "name": self.name, "dtype": self.dtype}


def _of_the_whole_batch(smooth: float, thresh: float | None) -> OverlapOptions:
    smooth = checks.non_negative("smooth", smooth)
    return OverlapOptions(over="all", smooth=smooth, thresh=checks.threshold(thresh))
