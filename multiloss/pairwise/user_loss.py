"""The pairwise user loss: pulls embeddings of one user together, pushes those of different users apart."""

from typing import Any, Literal, Unpack, final

import keras
from keras import ops

from multiloss import _arguments
from multiloss._arguments import Tensor
from multiloss.pairwise._base import PairOptions, PairwiseLoss, PairwiseOptions

__all__ = ["PairwiseUserLoss", "pairwise_user_loss"]
Pairs = Literal["sum", "mean"]


@final
@keras.saving.register_keras_serializable(package="multiloss")
class PairwiseUserLoss(PairwiseLoss):
    """Signed distances of all pairs: added for two rows of the same user, subtracted for rows of different users.

        loss_i = 0.5 * sum_j s_ij d_ij,   d_ij = ||x_i - x_j||,   s_ij = +1 for the same user, -1 otherwise

    The rows add up to the sum over the pairs i < j; with references, there is no factor 0.5. The sum grows with the
    batch size; `pairs="mean"` does not: `loss_i = mean_j s_ij d_ij`.

    Args:
        margin: None, or a finite number >= 0: the upper limit of d_ij for different users. Without it the loss has no
            lower bound, and the embeddings of an unbounded encoder diverge.
        pairs: "sum" or "mean" over the pairs of a row.
        **options: as in `PairwiseLoss`, which also describes inputs, outputs and cost.

    Examples:
        >>> from multiloss import PairwiseUserLoss  # 5 - 1 - 4.243
        >>> round(float(PairwiseUserLoss(reduction="sum")([7, 7, 9], [[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])), 3)
        -0.243
    """

    def __init__(self, margin: float | None = None, pairs: Pairs = "sum", **options: Unpack[PairwiseOptions]):
        super().__init__(**options)
        self.margin = _arguments.parameter("margin", margin, _arguments.non_negative_or_none)
        self.pairs = _arguments.one_of("pairs", pairs, ("sum", "mean"))

    def values(self, distance: Tensor, positive: Tensor) -> tuple[Tensor]:
        """Return the signed distance."""
        # `where` propagates NaN, `minimum` may not.
        capped = distance if self.margin is None else ops.where(distance > self.margin, self.margin, distance)
        return (ops.where(positive, distance, -capped),)

    def row(self, reduced: tuple[Tensor, ...], count: Tensor) -> Tensor:
        """Return the sum or the mean."""
        return reduced[0] / count if self.pairs == "mean" else reduced[0] * (1 / self.rows_per_pair)


def pairwise_user_loss(
    labels: Any,
    embeddings: Any,
    /,
    *,
    margin: float | None = None,
    pairs: Pairs = "sum",
    **options: Unpack[PairOptions],
) -> Tensor:
    """Return the rows `[B]` of `PairwiseUserLoss`; see there for the arguments.

    Examples:
        >>> from multiloss import pairwise_user_loss  # distances 5, 1 and 4.243
        >>> [round(float(row), 3) for row in pairwise_user_loss([7, 7, 9], [[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])]
        [2.0, 0.379, -2.621]
    """
    return PairwiseUserLoss(margin, pairs).rows(labels, embeddings, **options)
