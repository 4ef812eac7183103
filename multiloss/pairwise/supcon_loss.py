"""Supervised contrastive loss: each row is to find those of its label among all others. NT-Xent is a case of it."""

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

__all__ = ["SupConLoss", "supcon"]


def supcon(
    labels: Any, embeddings: Any, *, temperature: float = 0.1, tile: int | None = None, share: Share | None = None
) -> Tensor:
    """Cross-entropy of picking the rows of one's own label out of all others, by the cosine of their embeddings.

        loss_i = -1 / |P(i)| * sum_(p in P(i)) log( exp(z_i.z_p / t) / sum_(a != i) exp(z_i.z_a / t) )

    with z = x / ||x||, t the temperature and P(i) the other rows of the label of row i. Khosla et al., "Supervised
    contrastive learning", NeurIPS 2020, equation 2 (L_out), without the factor t / 0.07 of their code. NT-Xent (Chen et
    al., "A simple framework for contrastive learning of visual representations", ICML 2020, equation 1) is the case of
    two views of each sample: `supcon(concatenate([samples, samples]), concatenate([view_1, view_2]))`.

    Args:
        labels: integers `[B]`, `[B, 1]` or `[B, K]`; two rows have the same label if all K are equal. Compared exactly:
            NumPy arrays and lists up to 64 bits on every backend, tensors in their own dtype. Anything else, see
            `encode_ids`.
        embeddings: numbers `[B, D]`, of any length; only their directions count. Half precision and integers are
            computed in float32.
        temperature: a finite number > 0, in units of a cosine.
        tile: None, or how many rows to take at a time, as in `pairwise_user_loss`.
        share: None, or the rows to compute here, as in `pairwise_user_loss`.

    Returns:
        `[B]`, float32, or float64 if `embeddings` is and the backend has it. 0 for a row that is the only one of its
        label (the mean over the batch counts it, unlike that of PyTorch Metric Learning); NaN in every row if any
        embedding has a NaN or infinity.

    Raises:
        TypeError: if `labels` is not of integers, `embeddings` not of numbers, `temperature` or `tile` not a number.
        ValueError: if ranks or batch sizes do not fit, or `temperature` or `tile` is out of range.

    A row of zeros has no direction: it counts as being at distance 1, so at a cosine of 1/2, from all rows that have
    one, and gets no gradient. First derivatives only, in reverse mode.

    Exactness: a cosine comes from the distance of the two directions, `1 - ||z_i - z_p||^2 / 2`, so that differences
    of cosines near 1 keep their digits. Cost: as `pairwise_user_loss`, and twice that with the gradient.

    Example:
        >>> import numpy as np
        >>> from multiloss import supcon
        >>> x = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]])
        >>> [round(float(row), 3) for row in supcon([7, 7, 9], x, temperature=1)]  # log(1 + exp(-1)), and no positive
        [0.313, 0.313, 0.0]
    """
    temperature, tile = checks.positive("temperature", temperature), engine.tile_size(tile)
    x = checks.embeddings("embeddings", embeddings)
    ids = checks.labels("labels", labels, "embeddings", x)

    statistics = engine.rows(_pairs(temperature), _directions(x), ids, tile, share)
    total, positive, positives = statistics[:, 0], statistics[:, 1], statistics[:, 2]
    loss = total - positive / ops.where(positives > 0, positives, ops.ones_like(positives))
    # For a row without positives, `0 * loss` and not 0: a NaN stays NaN. (And 0 * -1 + 0 is 0, not -0.)
    return loss * ops.cast(positives > 0, loss.dtype) + 0.0


@functools.cache
def _pairs(temperature: float) -> Pairs:
    # With z.z = 1 - d^2 / 2, the 1 drops out between numerator and denominator.
    def values(distance: Tensor, same: Tensor) -> tuple[Tensor, ...]:
        logit = ops.square(distance) * (-0.5 / temperature)
        return logit, ops.where(same, logit, 0.0 * logit), ops.cast(same, logit.dtype)

    def slopes(distance: Tensor, same: Tensor) -> tuple[Tensor | None, ...]:
        slope = distance * (-1.0 / temperature)
        return slope, ops.where(same, slope, 0.0), None

    return Pairs(values, slopes, ("logsumexp", "sum", "sum"))


def _directions(x: Tensor) -> Tensor:
    """Rows divided by their length; rows of zeros, and their gradients, stay zeros."""
    # First by the largest entry, whose square may overflow or underflow. The direction does not depend on it.
    largest = ops.stop_gradient(ops.max(ops.abs(x), axis=1, keepdims=True, initial=0))
    x = x / ops.where(ops.equal(largest, 0), ops.ones_like(largest), largest)
    squares = ops.sum(ops.square(x), axis=1, keepdims=True)
    return x / ops.sqrt(ops.where(ops.equal(squares, 0), ops.ones_like(squares), squares))


@final
@keras.saving.register_keras_serializable(package="multiloss")
class SupConLoss(PairwiseLoss):
    """`supcon` as a Keras loss, for `compile(loss=...)` with the labels as integers.

    Labels and masks are treated as in `PairwiseUserLoss`. A `sample_weight` weights rows: how much each of them is to
    find its positives, not how much it counts for others.

    Args:
        temperature: as in `supcon`.
        reduction: as in `keras.losses.Loss`; the default is the mean over all rows of a batch.
        name: name of the loss.
        dtype: dtype to compute in, Keras's `floatx` by default; half precision is raised to float32.
        tile: as in `supcon`.
        across_replicas: as in `PairwiseUserLoss`.

    Raises:
        TypeError, ValueError: as `supcon`, in the constructor for its arguments and at a call for the data; ValueError
            for a `sample_weight` that is not one number a row.

    Example:
        >>> import numpy as np
        >>> from multiloss import SupConLoss
        >>> x = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]])
        >>> round(float(SupConLoss(temperature=1)([7, 7, 9], x)), 3)
        0.209
    """

    def __init__(
        self,
        temperature: float = 0.1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "supcon",
        dtype: Any = None,
        tile: int | None = None,
        across_replicas: bool = False,
    ):
        super().__init__(supcon, ("temperature",), tile, across_replicas, reduction, name, dtype)
        self.temperature = checks.positive("temperature", temperature)
