"""Lovász losses: the Jaccard loss of hard predictions, extended to soft ones."""

from typing import Any, Unpack, final

import keras
from keras import ops

from multiloss import _arguments
from multiloss._arguments import Tensor
from multiloss.overlap._base import OverlapLoss, OverlapOptions, RatioOptions, of_function
from multiloss.overlap._engine import sums
from multiloss.overlap._engine.inputs import Masks
from multiloss.overlap._engine.sums import Counts

__all__ = ["LovaszLoss", "lovasz"]


@final
@keras.saving.register_keras_serializable(package="multiloss")
class LovaszLoss(OverlapLoss):
    """Lovász extension of the Jaccard loss of each class, in the mean over classes and samples.

        sum_i e_i (J({1..i}) - J({1..i-1})),   pixels in descending order of their errors e_i

    where J of a set of pixels is the Jaccard loss of the prediction that is wrong at just those. e_i is `|t - p|` (in
    multiclass mode, the Lovász-Softmax), or `max(0, 1 - (2 t - 1) logit)` for `hinge`. For hard predictions, it is the
    Jaccard loss. In [0, 1], >= 0 with `hinge`. The gradient is that of the sorted order, a subgradient where errors
    are equal. Costs as much as to sort the pixels.

    Berman, Triki, Blaschko 2018, arXiv:1705.08790, equations 8 to 11.

    Args:
        hinge: whether errors are those of the hinge loss. It takes logits, `from_logits=True`, and classes that may
            coincide.
        **options: as in `OverlapLoss`, but for `smooth`, `squared`, `soft_label`, `thresh`, `label_smoothing` and
            `across_replicas`. Truth must be hard, and a pixel of weight w counts as w pixels. The formula gives the
            largest error for a class without truth (`empty="formula"`).

    Examples:
        >>> from multiloss import LovaszLoss
        >>> round(float(LovaszLoss()([[1, 1, 0, 0]], [[0.9, 0.4, 0.2, 0.1]])), 4)  # 0.6 / 2 + 0.2 / 6 + 0.1 / 3
        0.3667
    """

    _without = ("smooth", "squared", "soft_label", "thresh", "label_smoothing", "across_replicas")

    def __init__(self, hinge: bool = False, **options: Unpack[OverlapOptions]):
        super().__init__(**options)
        self.hinge = _arguments.boolean("hinge", hinge)
        if hinge and (not self.from_logits or self.mode == "multiclass"):
            raise ValueError(
                "`hinge=True` takes `from_logits=True` and `mode` 'binary' or 'multilabel'. "
                f"Received: {self.from_logits} and {self.mode!r}"
            )

    def _losses(self, m: Masks, counts: Counts) -> Tensor:
        if self.hinge and m.mode == "multiclass":
            raise ValueError("`hinge=True` takes `mode` 'binary' or 'multilabel'. Received: 'multiclass', inferred")
        errors = ops.relu(1 - (2 * m.t - 1) * m.logits) if self.hinge else sums.absolute(m.t - m.p)
        weight = ops.ones_like(m.t) if m.weight is None else ops.broadcast_to(m.weight, ops.shape(m.t))
        if self.class_weight is not None and self.average == "micro":
            weight = weight * ops.convert_to_tensor(list(self.class_weight), dtype=weight.dtype)
        errors, true, false = (sums.columns(x, self) for x in (errors, m.t * weight, (1 - m.t) * weight))
        order = ops.argsort(-errors, axis=1)
        errors, true, false = (ops.take_along_axis(x, order, axis=1) for x in (errors, true, false))
        # J after pixel i is 1 - left / union: `left` is the truth not yet missed, `union` the truth and the false
        # positives so far. The difference of two successive J, written without cancellation:
        truth = ops.expand_dims(sums.add_up([(true,)])[0], 1)
        left, union = truth - ops.cumsum(true, axis=1), truth + ops.cumsum(false, axis=1)
        before = union - false
        steps = self.ratio(true * union + false * left, before * union)
        steps = ops.where(ops.logical_and(ops.equal(before, 0), false > 0), ops.ones_like(steps), steps)
        return sums.add_up([(errors, ops.stop_gradient(steps))])[0]


def lovasz(
    y_true: Any, y_pred: Any, *, hinge: bool = False, mask: Any = None, **options: Unpack[RatioOptions]
) -> Tensor:
    """Values of samples `[B]` of `LovaszLoss`, which describes the arguments.

    Examples:
        >>> from multiloss.losses import lovasz
        >>> round(float(lovasz([[1, 1, 0, 0]], [[0.9, 0.4, 0.2, 0.1]])[0]), 4)
        0.3667
    """
    return LovaszLoss(hinge, **of_function(options)).call(y_true, y_pred, mask)
