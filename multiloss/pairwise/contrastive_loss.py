"""Contrastive loss: pulls pairs of one label within a margin, pushes pairs of different labels beyond another."""

from typing import Any, Unpack, final

import keras
from keras import ops

from multiloss import _arguments
from multiloss._arguments import Tensor
from multiloss.pairwise import _doubts
from multiloss.pairwise._base import PairOptions, PairwiseLoss, PairwiseOptions

__all__ = ["ContrastiveLoss", "contrastive"]


@final
@keras.saving.register_keras_serializable(package="multiloss")
class ContrastiveLoss(PairwiseLoss):
    """Half the squared margin violation of a pair, averaged over the pairs of each row.

        loss_i = 1 / (B - 1) * sum_(j != i) 1/2 m_ij^2,   d_ij = ||x_i - x_j||
        m_ij = max(0, d_ij - pos_margin) for the same label, max(0, neg_margin - d_ij) otherwise

    The mean of the rows is the mean over all pairs, whatever their labels. Hadsell, Chopra, LeCun, "Dimensionality
    reduction by learning an invariant mapping", CVPR 2006, equation 4, where `pos_margin` is 0. No pairs give 0.
    Labels are classes of rows, not flags of ready-made pairs (`docs/concepts/pairs.md` has a loss): it warns once.

    Args:
        pos_margin: a finite number >= 0: the distance up to which pairs of one label have no loss.
        neg_margin: a finite number >= 0: the distance from which pairs of different labels have no loss.
        **options: as in `PairwiseLoss`, which also describes inputs, outputs and cost.

    Examples:
        >>> from multiloss import ContrastiveLoss
        >>> x = [[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]]
        >>> round(float(ContrastiveLoss(neg_margin=4)([7, 7, 9], x)), 3)  # (5^2 / 2 + 3^2 / 2) / 3
        5.667
    """

    _doubt = staticmethod(_doubts.flags_of_pairs)

    def __init__(self, pos_margin: float = 0.0, neg_margin: float = 1.0, **options: Unpack[PairwiseOptions]):
        super().__init__(**options)
        self.pos_margin = _arguments.parameter("pos_margin", pos_margin, _arguments.non_negative)
        self.neg_margin = _arguments.parameter("neg_margin", neg_margin, _arguments.non_negative)

    def values(self, distance: Tensor, positive: Tensor) -> tuple[Tensor]:
        """Return half the squared margin violation."""
        # `where` propagates NaN, `maximum` may not.
        too_far = ops.where(distance <= self.pos_margin, 0.0, distance - self.pos_margin)
        too_close = ops.where(distance >= self.neg_margin, 0.0, self.neg_margin - distance)
        return (0.5 * ops.square(ops.where(positive, too_far, too_close)),)

    def row(self, reduced: tuple[Tensor, ...], count: Tensor) -> Tensor:
        """Return the mean over pairs."""
        return reduced[0] / count


def contrastive(
    labels: Any, embeddings: Any, /, *, pos_margin: float = 0.0, neg_margin: float = 1.0, **options: Unpack[PairOptions]
) -> Tensor:
    """Return the rows `[B]` of `ContrastiveLoss`; see there for the arguments.

    Examples:
        >>> from multiloss.losses import contrastive
        >>> x = [[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]]  # distances 5, 1 and 4.243
        >>> [round(float(row), 3) for row in contrastive([7, 7, 9], x, pos_margin=1, neg_margin=4)]
        [6.25, 4.0, 2.25]
    """
    return ContrastiveLoss(pos_margin, neg_margin).rows(labels, embeddings, **options)
