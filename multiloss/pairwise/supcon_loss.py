"""Supervised contrastive loss: pick the rows of one's label among all others. NT-Xent is a case of it."""

from typing import Any, Unpack, final

import keras
from keras import ops

from multiloss import _arguments
from multiloss._arguments import Tensor
from multiloss.pairwise._base import PairOptions, PairwiseLoss, PairwiseOptions

__all__ = ["SupConLoss", "supcon"]


@final
@keras.saving.register_keras_serializable(package="multiloss")
class SupConLoss(PairwiseLoss):
    """Cross-entropy of picking the rows of one's own label out of all others, by the cosine of their embeddings.

        loss_i = -1 / |P(i)| * sum_(p in P(i)) log( exp(z_i.z_p / t) / sum_(a != i) exp(z_i.z_a / t) )

    with z = x / ||x||, t the temperature and P(i) the other rows of the label of row i. Khosla et al., "Supervised
    contrastive learning", NeurIPS 2020, equation 2 (L_out), without the factor t / 0.07 of their code. NT-Xent (Chen et
    al., "A simple framework for contrastive learning of visual representations", ICML 2020, equation 1) is the case
    of two views of each sample: `supcon(concatenate([samples, samples]), concatenate([view_1, view_2]))`.

    0 for a row without positives (the mean over the batch counts it, unlike that of PyTorch Metric Learning). A row of
    zeros has no direction: it counts as being at a cosine of 1/2 from all rows that have one, and gets no gradient.
    A cosine comes from the distance of the two directions, so that differences of cosines near 1 keep their digits.

    Args:
        temperature: a finite number > 0 (at least 1.2e-38), in units of a cosine.
        **options: as in `PairwiseLoss`, which also says what data a loss takes, what it returns and what it costs.

    Example:
        >>> from multiloss import SupConLoss
        >>> round(float(SupConLoss(temperature=1)([7, 7, 9], [[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]])), 3)
        0.209
    """

    reductions = ("logsumexp", "sum", "count")
    normalize = True

    def __init__(self, temperature: float = 0.1, **options: Unpack[PairwiseOptions]):
        super().__init__(**options)
        self.temperature = _arguments.parameter("temperature", temperature, _arguments.positive)

    def values(self, distance: Tensor, positive: Tensor) -> tuple[Any, ...]:
        """Return the logit, that of positives, and whether it is one."""
        # z.z / t = (1 - d^2 / 2) / t, whose 1 drops out between numerator and denominator.
        logit = ops.square(distance) * (-0.5 / self.temperature)
        return logit, (logit, positive), positive

    def row(self, reduced: tuple[Tensor, ...], count: Tensor) -> Tensor:
        """Return the cross-entropy."""
        total, positive, positives = reduced
        loss = total - positive / ops.where(positives > 0, positives, ops.ones_like(positives))
        # For a row without positives, `0 * loss` and not 0: a NaN stays NaN. (And 0 * -1 + 0 is 0, not -0.)
        return ops.where(positives > 0, loss, 0 * loss) + 0.0


def supcon(labels: Any, embeddings: Any, /, *, temperature: float = 0.1, **options: Unpack[PairOptions]) -> Tensor:
    """Rows `[B]` of `SupConLoss`, which describes the arguments.

    Example:
        >>> from multiloss.losses import supcon  # log(1 + exp(-1)), and no positive
        >>> [round(float(row), 3) for row in supcon([7, 7, 9], [[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]], temperature=1)]
        [0.313, 0.313, 0.0]
    """
    return SupConLoss(temperature).rows(labels, embeddings, **options)
