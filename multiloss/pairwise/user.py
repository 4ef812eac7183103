"""The pairwise user loss: draw the embeddings of one user together, push those of different users apart."""

import math
from typing import Any, final

import keras
from keras import ops

from multiloss import checks
from multiloss.checks import Tensor
from multiloss.losses import Loss
from multiloss.pairwise import engine

__all__ = ["PairwiseUserLoss", "pairwise_user_loss"]


def pairwise_user_loss(user_id: Any, encodings: Any, *, margin: float | None = None) -> Tensor:
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

    Returns:
        `[B]`, float32, or float64 if `encodings` is and the backend has it. Zeros for B = 0 and B = 1; NaN in
        every row that has a NaN or infinity among its pairs.

    Raises:
        TypeError: if `user_id` is not of integers, `encodings` not of numbers, or `margin` not a number.
        ValueError: if ranks or batch sizes do not fit, or `margin` is out of range.

    Gradient: unit vectors (x_i - x_j) / d_ij with the signs above; exactly 0 for pairs that coincide, where the
    distance has no derivative, and for different users further apart than `margin`. First derivatives only, in reverse
    mode (`jax.jvp` and `torch.func` are refused).

    Exact to 1e-6 of the sum of all distances in float32, with no epsilon, however close the points are. (Beyond
    B = 2048 the sums over a row add to that on TensorFlow: 3e-6 at B = 4096 where all distances are equal.)

    Cost: time O(B^2 D), for the gradient O(B^2 D + B D^2); memory O(B^2).

    Example:
        >>> import numpy as np
        >>> from multiloss import pairwise_user_loss
        >>> x = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
        >>> [round(float(row), 3) for row in pairwise_user_loss([7, 7, 9], x)]  # distances 5, 1 and 4.243
        [2.0, 0.379, -2.621]
        >>> [float(row) for row in pairwise_user_loss([7, 7, 9], x, margin=1.0)]
        [2.0, 2.0, -1.0]
    """
    margin = _margin(margin)
    x = checks.embeddings("encodings", encodings)
    labels = checks.labels("user_id", user_id, "encodings", x)

    distance = engine.distances(x)
    # `where`, not `minimum`: a NaN stays NaN, and there is no backend's own choice of slope where the two are equal.
    capped = distance if margin is None else ops.where(distance > margin, margin, distance)
    return 0.5 * ops.sum(ops.where(engine.same(labels), distance, -capped), axis=1)


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
    ):
        super().__init__(reduction=reduction, name=name, dtype=dtype)
        self.margin = _margin(margin)

    def call(self, y_true: Any, y_pred: Any) -> Tensor:
        """Return the rows `[B]`, neither weighted nor reduced."""
        return pairwise_user_loss(y_true, y_pred, margin=self.margin)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {**super().get_config(), "margin": self.margin}


def _margin(value: float | None) -> float | None:
    if value is None:
        return None
    return checks.number("margin", value, "None or a finite number >= 0", lambda m: 0 <= m < math.inf)
