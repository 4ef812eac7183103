"""The pairwise user loss: draw the embeddings of one user together, push those of different users apart."""

import functools
from typing import Any, final

import keras
from keras import ops

from multiloss import checks
from multiloss.checks import Tensor
from multiloss.losses import Loss
from multiloss.pairwise import engine

__all__ = ["PairwiseUserLoss", "pairwise_user_loss"]


def pairwise_user_loss(user_id: Any, encodings: Any, *, margin: float | None = None, tile: int | None = None) -> Tensor:
    """Signed distances of all pairs: added where both rows belong to the same user, subtracted where they do not.

        loss_i = 0.5 * sum_j s_ij d_ij,   d_ij = ||x_i - x_j||,   s_ij = +1 for the same user, -1 otherwise

    so that the rows add up to the sum over the pairs i < j. With `margin`, d_ij of different users counts as
    `min(d_ij, margin)`. Without it the loss is unbounded below, and an encoder whose output is not bounded either (by
    a `UnitNormalization` layer, say) is driven to infinity.

    Args:
        user_id: integers `[B]`, `[B, 1]` or `[B, K]`; two rows are of the same user if all K columns are equal.
            Compared exactly: NumPy arrays and lists up to 64 bits on every backend, tensors in their own dtype.
            Anything else, see `encode_ids`.
        encodings: numbers `[B, D]`. Half precision and integers are computed in float32.
        margin: None, or a finite number >= 0, in the unit of the distances: how far apart two users need to be.
        tile: None, or how many rows to take at a time, a positive integer: fewer take less memory. By default 2^21 / B,
            at least 64 and at most 256.

    Returns:
        `[B]`, float32, or float64 if `encodings` is and the backend has it. Zeros for B = 0 and B = 1; NaN in every
        row if any embedding has a NaN or infinity.

    Raises:
        TypeError: if `user_id` is not of integers, `encodings` not of numbers, `margin` or `tile` not a number.
        ValueError: if ranks or batch sizes do not fit, or `margin` or `tile` is out of range.

    Gradient: unit vectors (x_i - x_j) / d_ij with the signs above; exactly 0 for pairs that coincide, where the
    distance has no derivative, and for different users further apart than `margin`. First derivatives only, in reverse
    mode (`jax.jvp` and `torch.func` are refused).

    Exactness, in float32: distances are rounded by about 1e-7 of themselves and 1e-7 of the largest entry of the
    (centred) batch, with no epsilon. Rows are within 1e-6 of the sum of their distances, the gradient within 1e-5 of
    its largest entry, and 1e-3 where users are drawn together to clusters 1e-4 wide; up to 1e-2 if pairs are 1e-5 of
    the largest entry apart and few others are near, or if some points lie a thousand times further out than the rest.
    Pairs closer than about 1e-6 of the largest entry may count as coinciding. The engine's notes say how, and why
    accelerators that round the inputs of matrix products, and torch's autocast, change none of it.

    Cost: time O(B^2 D), about that of five matrix products of all pairs; memory O(B D). An upstream gradient that is
    not the same for all rows, as with a `sample_weight`, doubles the time.

    Example:
        >>> import numpy as np
        >>> from multiloss import pairwise_user_loss
        >>> x = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
        >>> [round(float(row), 3) for row in pairwise_user_loss([7, 7, 9], x)]  # distances 5, 1 and 4.243
        [2.0, 0.379, -2.621]
        >>> [float(row) for row in pairwise_user_loss([7, 7, 9], x, margin=1.0)]
        [2.0, 2.0, -1.0]
    """
    margin, tile = _margin(margin), engine.tile_size(tile)
    x = checks.embeddings("encodings", encodings)
    labels = checks.labels("user_id", user_id, "encodings", x)

    return 0.5 * engine.rows(_pairs(margin), x, labels, tile)[:, 0]


@functools.cache
def _pairs(margin: float | None) -> engine.Pairs:
    def values(distance: Tensor, same: Tensor) -> tuple[Tensor, ...]:
        # `where`, not `minimum`: a NaN stays NaN.
        capped = distance if margin is None else ops.where(distance > margin, margin, distance)
        return (ops.where(same, distance, -capped),)

    def slopes(distance: Tensor, same: Tensor) -> tuple[Tensor, ...]:
        one = ops.ones_like(distance)
        apart = -one if margin is None else ops.where(distance > margin, 0.0, -one)
        return (ops.where(same, one, apart),)

    return engine.Pairs(values, slopes, ("sum",))


@final
@keras.saving.register_keras_serializable(package="multiloss")
class PairwiseUserLoss(Loss):
    """`pairwise_user_loss` as a Keras loss, for `compile(loss=...)` with the user ids as labels.

    Integer labels are compared exactly, through `fit`, `evaluate` and `train_on_batch` as well. What the backend itself
    does to a label before any loss sees it remains: JAX narrows int64 to int32, so that ids of 2^31 and more need
    `encode_ids`.

    A `sample_weight` of shape `[B]` (or `[B, 1]`, or a scalar) weights rows, so that a pair weighs (w_i + w_j) / 2. A
    mask on the predictions leaves rows out as in any Keras loss: it is a weight of 0, with the mean taken over the rows
    that remain; a pair with one row masked counts half.

    Args:
        margin: as in `pairwise_user_loss`.
        tile: as in `pairwise_user_loss`.
        reduction: as in `keras.losses.Loss`: `"sum_over_batch_size"` (the mean over the rows of a batch), `"sum"` (the
            sum over all pairs i < j), `"mean"`, `"mean_with_sample_weight"`, or None for the rows.
        name: name of the loss.
        dtype: dtype to compute in, Keras's `floatx` by default; half precision is raised to float32.

    Raises:
        TypeError, ValueError: as `pairwise_user_loss`, in the constructor for its arguments and at a call for the data;
            ValueError for a `sample_weight` that is not one number a row.

    Example:
        >>> import numpy as np
        >>> from multiloss import PairwiseUserLoss
        >>> x = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
        >>> round(float(PairwiseUserLoss(reduction="sum")([7, 7, 9], x)), 3)  # 5 - 1 - 4.243
        -0.243
    """

    def __init__(
        self,
        margin: float | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str = "pairwise_user_loss",
        dtype: Any = None,
        tile: int | None = None,
    ):
        super().__init__(reduction=reduction, name=name, dtype=dtype)
        self.margin, self.tile = _margin(margin), engine.tile_size(tile)

    def call(self, y_true: Any, y_pred: Any) -> Tensor:
        """Return the rows `[B]`, neither weighted nor reduced."""
        return pairwise_user_loss(y_true, y_pred, margin=self.margin, tile=self.tile)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {**super().get_config(), "margin": self.margin, "tile": self.tile}


def _margin(value: float | None) -> float | None:
    if value is None:
        return None
    return checks.non_negative("margin", value, "None or a finite number >= 0")
