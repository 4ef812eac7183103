"""Contrastive loss: pairs of one label within a margin of each other, pairs of different labels beyond another."""

from typing import Any, Unpack, final

import keras
from keras import ops

from multiloss import _arguments
from multiloss._arguments import Tensor
from multiloss.pairwise._base import PairOptions, PairwiseLoss, PairwiseOptions

__all__ = ["ContrastiveLoss", "contrastive"]


@final
@keras.saving.register_keras_serializable(package="multiloss")
class ContrastiveLoss(PairwiseLoss):
    """Half the square by which a pair misses its margin, in the mean over the pairs of each row.

        loss_i = 1 / (B - 1) * sum_(j != i) 1/2 m_ij^2,   d_ij = ||x_i - x_j||
        m_ij = max(0, d_ij - pos_margin) for the same label, max(0, neg_margin - d_ij) otherwise

    so that the mean of the rows is the mean over all pairs, whatever their labels. Hadsell, Chopra, LeCun,
    "Dimensionality reduction by learning an invariant mapping", CVPR 2006, equation 4, whose `pos_margin` is 0. (The
    loss of that name in PyTorch Metric Learning does not square, and averages the pairs of same and of different label
    apart.) 0 for a row without pairs, and where every pair keeps its margin.

    Args:
        pos_margin: a finite number >= 0, in the unit of the distances: how far apart pairs of one label may be.
        neg_margin: a finite number >= 0: how far apart pairs of different labels need to be.
        **options: as in `PairwiseLoss`, which also says what data a loss takes, what it returns and what it costs.

    Example:
        >>> from multiloss import ContrastiveLoss
        >>> x = [[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]]
        >>> round(float(ContrastiveLoss(neg_margin=4)([7, 7, 9], x)), 3)  # (5^2 / 2 + 3^2 / 2) / 3
        5.667
    """

    def __init__(self, pos_margin: float = 0.0, neg_margin: float = 1.0, **options: Unpack[PairwiseOptions]):
        super().__init__(**options)
        self.pos_margin = _arguments.parameter("pos_margin", pos_margin, _arguments.non_negative)
        self.neg_margin = _arguments.parameter("neg_margin", neg_margin, _arguments.non_negative)

    def values(self, distance: Tensor, positive: Tensor) -> tuple[Tensor]:
        """Return half the square of what is missed."""
        # `where`, not `maximum`: a NaN stays NaN.
        too_far = ops.where(distance <= self.pos_margin, 0.0, distance - self.pos_margin)
        too_close = ops.where(distance >= self.neg_margin, 0.0, self.neg_margin - distance)
        return (0.5 * ops.square(ops.where(positive, too_far, too_close)),)

    def row(self, reduced: tuple[Tensor, ...], count: Tensor) -> Tensor:
        """Return the mean over pairs."""
        return reduced[0] / count


def contrastive(
    labels: Any, embeddings: Any, /, *, pos_margin: float = 0.0, neg_margin: float = 1.0, **options: Unpack[PairOptions]
) -> Tensor:
    """Rows `[B]` of `ContrastiveLoss`, which describes the arguments.

    Example:
        >>> from multiloss.losses import contrastive
        >>> x = [[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]]  # distances 5, 1 and 4.243
        >>> [round(float(row), 3) for row in contrastive([7, 7, 9], x, pos_margin=1, neg_margin=4)]
        [6.25, 4.0, 2.25]
    """
    return ContrastiveLoss(pos_margin, neg_margin).rows(labels, embeddings, **options)
