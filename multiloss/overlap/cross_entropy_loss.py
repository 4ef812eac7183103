"""Cross-entropy of pixels."""

from collections.abc import Sequence
from typing import Any, Unpack, final

import keras

from multiloss import _arguments
from multiloss._arguments import Tensor
from multiloss.overlap._base import OverlapLoss, OverlapOptions, RatioOptions, of_function
from multiloss.overlap._engine import pixelwise
from multiloss.overlap._engine.inputs import Masks
from multiloss.overlap._engine.options import non_negatives

__all__ = ["CrossEntropyLoss", "cross_entropy"]


@final
@keras.saving.register_keras_serializable(package="multiloss")
class CrossEntropyLoss(OverlapLoss):
    """Cross-entropy of pixels, in the mean over those of a sample and over samples.

        binary, multilabel:  -pos_weight t log(p) - (1 - t) log(1 - p), in the mean over pixels and classes
        multiclass:          -sum_c w_c t_c log(p_c), in the mean over pixels

    with w_c the `class_weight`, which in the mean over labels is divided by the sum of the weights, and over classes
    that exclude each other is not, unless `weighted_mean`. Pixels of weight 0 (`mask`, `ignore_index`) do not count in
    the mean. 0 for a sample without pixels. Probabilities are kept 2^-23 from 0 and 1; logits are exact. With soft
    labels, p = t is the minimum, though not 0.

    Args:
        pos_weight: None, a number >= 0, or C of them in multilabel mode: the weight of the positives, as in
            `torch.nn.BCEWithLogitsLoss`. Not for multiclass mode, which has `class_weight`.
        weighted_mean: in multiclass mode, whether the mean divides by the class weights of the pixels instead of by how
            many they are, as `torch.nn.CrossEntropyLoss(weight=...)` does for hard labels, with `batch=True`.
        **options: as in `OverlapLoss`, but for `average`, `smooth`, `squared`, `soft_label`, `empty` and `thresh`.

    Examples:
        >>> from multiloss import CrossEntropyLoss
        >>> round(float(CrossEntropyLoss()([[1, 0]], [[0.5, 0.25]])), 4)  # (log(2) + log(4 / 3)) / 2
        0.4904
    """

    _without = ("average", "smooth", "squared", "soft_label", "empty", "thresh")

    def __init__(
        self,
        pos_weight: float | Sequence[float] | None = None,
        weighted_mean: bool = False,
        **options: Unpack[OverlapOptions],
    ):
        super().__init__(**options)
        self.pos_weight = non_negatives("pos_weight", pos_weight)
        self.weighted_mean = _arguments.boolean("weighted_mean", weighted_mean)
        if weighted_mean and self.class_weight is None:
            raise ValueError("`weighted_mean=True` needs `class_weight`. Received: None")

    def _values(self, m: Masks) -> tuple[Tensor, None]:
        pixelwise.refuse_modes(m, ("binary", "multilabel"), pos_weight=self.pos_weight)
        pixelwise.refuse_modes(m, ("multiclass",), weighted_mean=self.weighted_mean or None)
        positive = None if self.pos_weight is None else pixelwise.of_classes("pos_weight", self.pos_weight, m)
        losses = pixelwise.focal_losses(m, gamma=0.0, positive=positive)
        return pixelwise.mean(losses, m, self, weighted=self.weighted_mean), None


def cross_entropy(
    y_true: Any,
    y_pred: Any,
    *,
    pos_weight: float | Sequence[float] | None = None,
    weighted_mean: bool = False,
    mask: Any = None,
    **options: Unpack[RatioOptions],
) -> Tensor:
    """Values of samples `[B]` of `CrossEntropyLoss`, which describes the arguments.

    Examples:
        >>> from multiloss.losses import cross_entropy
        >>> round(float(cross_entropy([[1, 0]], [[0.5, 0.25]])[0]), 4)
        0.4904
    """
    return CrossEntropyLoss(pos_weight, weighted_mean, **of_function(options)).call(y_true, y_pred, mask)
