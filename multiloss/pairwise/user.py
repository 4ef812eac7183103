"""The pairwise user loss: draw the embeddings of one user together, push those of different users apart."""

import functools
from typing import Any, final

import keras
from keras import ops

from multiloss import checks
from multiloss.checks import Tensor
from multiloss.distribution import Share
from multiloss.pairwise import engine
from multiloss.pairwise.base import PairwiseLoss
from multiloss.pairwise.tiles import Pairs

__all__ = ["PairwiseUserLoss", "pairwise_user_loss"]


def pairwise_user_loss(
    user_id: Any, encodings: Any, *, margin: float | None = None, tile: int | None = None, share: Share | None = None
) -> Tensor:
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
        share: None, or what `multiloss.distribution.gather` returned along with ids and encodings of all replicas: the
            rows to compute here. The result is the same on each replica, the gradient that of its own rows, and
            what is made of the result must be the same, too.

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

    return 0.5 * engine.rows(_pairs(margin), x, labels, tile, share)[:, 0]


@functools.cache
def _pairs(margin: float | None) -> Pairs:
    def values(distance: Tensor, same: Tensor) -> tuple[Tensor, ...]:
        # `where`, not `minimum`: a NaN stays NaN.
        capped = distance if margin is None else ops.where(distance > margin, margin, distance)
        return (ops.where(same, distance, -capped),)

    def slopes(distance: Tensor, same: Tensor) -> tuple[Tensor, ...]:
        one = ops.ones_like(distance)
        apart = -one if margin is None else ops.where(distance > margin, 0.0, -one)
        return (ops.where(same, one, apart),)

    return Pairs(values, slopes, ("sum",))


@final
@keras.saving.register_keras_serializable(package="multiloss")
class PairwiseUserLoss(PairwiseLoss):
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
        across_replicas: whether the pairs are those of the whole batch where it is spread over devices by
            `keras.distribution` (JAX), by a strategy of `tf.distribute`, or over processes of `torch.distributed`.
            Otherwise they are those of the rows on each device, except on JAX, whose arrays are always whole. Where
            nothing of the like is set up, it changes nothing. All replicas must take part in each call.

    With `across_replicas`, each replica computes its own rows against all columns, and weights, masks and the mean are
    those of the whole batch, however its rows are divided. On JAX and torch the result is the loss of the whole batch,
    on TensorFlow, where Keras adds up the losses of replicas, its share in it; without reduction, the rows of the whole
    batch. Gradients are such that parameters move as on one device once the engine has averaged them
    (`DistributedDataParallel`) or added them up (Keras's optimizers under `tf.distribute`). `docs/distribution.md` has
    costs and the ways to launch.

    Raises:
        TypeError, ValueError: as `pairwise_user_loss`, in the constructor for its arguments and at a call for the data;
            ValueError for a `sample_weight` that is not one number a row, and, on each replica, if replicas differ in
            the number of features or the dtype of what they pass, or if only some pass weights.

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
        across_replicas: bool = False,
    ):
        super().__init__(pairwise_user_loss, ("margin",), tile, across_replicas, reduction, name, dtype)
        self.margin = _margin(margin)


def _margin(value: float | None) -> float | None:
    if value is None:
        return None
    return checks.non_negative("margin", value, "None or a finite number >= 0")
