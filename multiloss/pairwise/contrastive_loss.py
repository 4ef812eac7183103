"""Contrastive loss: pairs of one label within a margin of each other, pairs of different labels beyond another."""

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

__all__ = ["ContrastiveLoss", "contrastive"]


def contrastive(
    labels: Any,
    embeddings: Any,
    *,
    pos_margin: float = 0.0,
    neg_margin: float = 1.0,
    tile: int | None = None,
    share: Share | None = None,
) -> Tensor:
    """Half the square by which a pair misses its margin, in the mean over the pairs of each row.

        loss_i = 1 / (B - 1) * sum_(j != i) 1/2 m_ij^2
        m_ij = max(0, d_ij - pos_margin) for the same label, max(0, neg_margin - d_ij) otherwise

    with d_ij = ||x_i - x_j||, so that the mean of the rows is the mean over all pairs, whatever their labels. Hadsell,
    Chopra, LeCun, "Dimensionality reduction by learning an invariant mapping", CVPR 2006, equation 4, whose
    `pos_margin` is 0. (The loss of that name in PyTorch Metric Learning does not square, and averages the pairs of same
    and of different label apart.)

    Args:
        labels: integers `[B]`, `[B, 1]` or `[B, K]`; two rows have the same label if all K are equal. Compared exactly:
            NumPy arrays and lists up to 64 bits on every backend, tensors in their own dtype. Anything else, see
            `encode_ids`.
        embeddings: numbers `[B, D]`. Half precision and integers are computed in float32.
        pos_margin: a finite number >= 0, in the unit of the distances: how far apart pairs of one label may be.
        neg_margin: a finite number >= 0: how far apart pairs of different labels need to be.
        tile: None, or how many rows to take at a time, as in `pairwise_user_loss`.
        share: None, or the rows to compute here, as in `pairwise_user_loss`.

    Returns:
        `[B]`, float32, or float64 if `embeddings` is and the backend has it. Zeros for B = 0 and B = 1, and where every
        pair keeps its margin; NaN in every row if any embedding has a NaN or infinity.

    Raises:
        TypeError: if `labels` is not of integers, `embeddings` not of numbers, or a margin or `tile` not a number.
        ValueError: if ranks or batch sizes do not fit, or a margin or `tile` is out of range.

    Gradient: exactly 0 for pairs that coincide, of different labels, too, where the distance has no derivative. First
    derivatives only, in reverse mode.

    Exactness and cost: as `pairwise_user_loss`.

    Example:
        >>> import numpy as np
        >>> from multiloss import contrastive
        >>> x = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])  # distances 5, 1 and 4.243
        >>> [round(float(row), 3) for row in contrastive([7, 7, 9], x, pos_margin=1, neg_margin=4)]
        [6.25, 4.0, 2.25]
    """
    pos_margin, neg_margin = (
        checks.non_negative("pos_margin", pos_margin),
        checks.non_negative("neg_margin", neg_margin),
    )
    tile = engine.tile_size(tile)
    x = checks.embeddings("embeddings", embeddings)
    ids = checks.labels("labels", labels, "embeddings", x)

    others = ops.cast(ops.maximum(ops.shape(x)[0] - 1, 1), x.dtype)
    return engine.rows(_pairs(pos_margin, neg_margin), x, ids, tile, share)[:, 0] / others


@functools.cache
def _pairs(pos_margin: float, neg_margin: float) -> Pairs:
    def slopes(distance: Tensor, same: Tensor) -> tuple[Tensor]:
        # `where`, not `maximum`: a NaN stays NaN.
        too_far = ops.where(distance <= pos_margin, 0.0, distance - pos_margin)
        too_close = ops.where(distance >= neg_margin, 0.0, distance - neg_margin)
        return (ops.where(same, too_far, too_close),)

    def values(distance: Tensor, same: Tensor) -> tuple[Tensor]:
        return (0.5 * ops.square(slopes(distance, same)[0]),)

    return Pairs(values, slopes, ("sum",))


@final
@keras.saving.register_keras_serializable(package="multiloss")
class ContrastiveLoss(PairwiseLoss):
    """`contrastive` as a Keras loss, for `compile(loss=...)` with the labels as integers.

    Labels, weights and masks are treated as in `PairwiseUserLoss`.

    Args:
        pos_margin: as in `contrastive`.
        neg_margin: as in `contrastive`.
        reduction: as in `keras.losses.Loss`; the default is the mean over all pairs of a batch.
        name: name of the loss.
        dtype: dtype to compute in, Keras's `floatx` by default; half precision is raised to float32.
        tile: as in `contrastive`.
        across_replicas: as in `PairwiseUserLoss`.

    Raises:
        TypeError, ValueError: as `contrastive`, in the constructor for its arguments and at a call for the data;
            ValueError for a `sample_weight` that is not one number a row.

    Example:
        >>> import numpy as np
        >>> from multiloss import ContrastiveLoss
        >>> x = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
        >>> round(float(ContrastiveLoss(neg_margin=4)([7, 7, 9], x)), 3)  # (5^2 / 2 + 3^2 / 2) / 3
        5.667
    """

    def __init__(
        self,
        pos_margin: float = 0.0,
        neg_margin: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str = "contrastive",
        dtype: Any = None,
        tile: int | None = None,
        across_replicas: bool = False,
    ):
        super().__init__(contrastive, ("pos_margin", "neg_margin"), tile, across_replicas, reduction, name, dtype)
        self.pos_margin = checks.non_negative("pos_margin", pos_margin)
        self.neg_margin = checks.non_negative("neg_margin", neg_margin)
