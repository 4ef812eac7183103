"""Supervised contrastive loss: classifies the positives of a row among all other rows. NT-Xent is a special case."""

from typing import Any, Unpack, final

import keras
from keras import ops

from multiloss import _arguments
from multiloss._arguments import Tensor
from multiloss.pairwise import _doubts
from multiloss.pairwise._base import PairOptions, PairwiseLoss, PairwiseOptions

__all__ = ["SupConLoss", "supcon"]


@final
@keras.saving.register_keras_serializable(package="multiloss")
class SupConLoss(PairwiseLoss):
    """Cross-entropy of identifying the positives of a row among all other rows, by the cosine of their embeddings.

        loss_i = -1 / |P(i)| * sum_(p in P(i)) log( exp(z_i.z_p / t) / sum_(a != i) exp(z_i.z_a / t) )

    with z = x / ||x|| and P(i) the other rows with the label of row i. Khosla et al., "Supervised contrastive
    learning", NeurIPS 2020, equation 2 (L_out), without the factor t / 0.07 of their code. NT-Xent (Chen et al., ICML
    2020, equation 1) is `supcon(concatenate([samples, samples]), concatenate([view_1, view_2]))`. A row without
    positives is 0, which the mean over the batch includes; a batch of such rows warns once. A row of zeros has no
    direction: its cosine with every other row is 0, and it neither gets nor gives a gradient. Cosines are computed from
    distances of normalized rows, so that differences between cosines near 1 keep their precision.

    Args:
        temperature: t, a finite number > 0 (at least 1.2e-38), in units of a cosine.
        **options: as in `PairwiseLoss`, which also describes inputs, outputs and cost.

    Examples:
        >>> from multiloss import SupConLoss
        >>> round(float(SupConLoss(temperature=1)([7, 7, 9], [[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]])), 3)
        0.209
    """

    reductions = ("logsumexp", "sum", "count")
    normalize = True
    _doubt = staticmethod(_doubts.no_positives)

    def __init__(self, temperature: float = 0.1, **options: Unpack[PairwiseOptions]):
        super().__init__(**options)
        self.temperature = _arguments.parameter("temperature", temperature, _arguments.positive)

    def values(self, distance: Tensor, positive: Tensor) -> tuple[Any, ...]:
        """Return the logit, the logit of positives, and whether the pair is positive."""
        # z.z / t = (1 - d^2 / 2) / t, where the 1 cancels between numerator and denominator.
        logit = ops.square(distance) * (-0.5 / self.temperature)
        return logit, (logit, positive), positive

    def row(self, reduced: tuple[Tensor, ...], count: Tensor) -> Tensor:
        """Return the cross-entropy."""
        total, positive, positives = reduced
        loss = total - positive / ops.where(positives > 0, positives, ops.ones_like(positives))
        # For a row without positives, `0 * loss` instead of 0 propagates NaN. (And 0 * -1 + 0 is 0, not -0.)
        return ops.where(positives > 0, loss, 0 * loss) + 0.0


def supcon(labels: Any, embeddings: Any, /, *, temperature: float = 0.1, **options: Unpack[PairOptions]) -> Tensor:
    """Return the rows `[B]` of `SupConLoss`; see there for the arguments.

    Examples:
        >>> from multiloss.losses import supcon  # log(1 + exp(-1)); the last row has no positive
        >>> [round(float(row), 3) for row in supcon([7, 7, 9], [[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]], temperature=1)]
        [0.313, 0.313, 0.0]
    """
    return SupConLoss(temperature).rows(labels, embeddings, **options)
