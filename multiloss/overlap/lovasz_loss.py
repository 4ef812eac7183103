"""Lovász losses: the Jaccard loss of hard predictions, extended to soft ones."""

from typing import Any, final

import keras
from keras import ops

from multiloss.checks import Tensor
from multiloss.overlap import engine
from multiloss.overlap.base import OverlapLoss
from multiloss.overlap.options import OverlapOptions

__all__ = ["LovaszLoss", "lovasz"]

_WITHOUT = ("smooth", "squared", "thresh", "label_smoothing")


def lovasz(y_true: Any, y_pred: Any, *, hinge: bool = False, mask: Any = None, **options: Any) -> Tensor:
    """Lovász extension of the Jaccard loss, of each sample in the mean over its classes.

        sum_i e_i (J({1..i}) - J({1..i-1})),   pixels in descending order of their errors e_i

    where J of a set of pixels is the Jaccard loss of the prediction that is wrong at just those. e_i is `|t - p|` (for
    "multiclass", the Lovász-Softmax), or `max(0, 1 - (2 t - 1) logit)` for `hinge`. For hard predictions, it is the
    Jaccard loss. Berman, Triki, Blaschko 2018, arXiv:1705.08790, equations 8 to 11.

    Args:
        y_true: as in `dice`, but hard: 0 and 1.
        y_pred: as in `dice`.
        hinge: whether errors are those of the hinge loss. It takes logits, `from_logits=True`, and classes that may
            coincide.
        mask: as in `dice`. A pixel of weight w counts as w pixels.
        **options: what `OverlapOptions` lists, but for `smooth`, `squared`, `thresh` and `label_smoothing`. The formula
            gives the largest error for a class without truth (`empty="formula"`).

    Returns:
        As `dice`; with `hinge`, >= 0.

    Raises:
        TypeError, ValueError: as `dice`; ValueError for `hinge` without logits or with exclusive classes.

    Gradient: that of the order at hand, a subgradient where errors are equal.

    Cost: that of sorting the pixels.

    Example:
        >>> from multiloss import lovasz
        >>> round(float(lovasz([[1, 1, 0, 0]], [[0.9, 0.4, 0.2, 0.1]])[0]), 4)  # 0.6 / 2 + 0.2 / 6 + 0.1 / 3
        0.3667
    """
    chosen = _chosen("lovasz", hinge, options)
    m = engine.masks(y_true, y_pred, mask, chosen)
    c = engine.counts(m, chosen)
    p = m.p if not hinge else m.logits
    errors = ops.relu(1 - (2 * m.t - 1) * p) if hinge else ops.abs(m.t - p)

    weight = ops.ones_like(m.t) if m.weight is None else ops.broadcast_to(m.weight, ops.shape(m.t))
    if chosen.class_weight is not None and chosen.over in ("class", "all"):
        weight = weight * ops.convert_to_tensor(list(chosen.class_weight), dtype=weight.dtype)
    errors, true, false = (engine.columns(x, chosen) for x in (errors, m.t * weight, (1 - m.t) * weight))
    order = ops.argsort(-errors, axis=1)
    errors, true, false = (ops.take_along_axis(x, order, axis=1) for x in (errors, true, false))
    # J after pixel i is 1 - left / union: the truth not yet missed, and the truth with what was added to it. The
    # difference of two such, written so that nothing cancels:
    truth = ops.expand_dims(engine.add_up([(true,)])[0], 1)
    left, union = truth - ops.cumsum(true, axis=1), truth + ops.cumsum(false, axis=1)
    before = union - false
    steps = engine.ratio(true * union + false * left, before * union)
    steps = ops.where(ops.logical_and(ops.equal(before, 0), false > 0), ops.ones_like(steps), steps)
    (losses,) = engine.add_up([(errors, ops.stop_gradient(steps))])
    return engine.mean(engine.where_empty(losses, c, chosen), c, m, chosen)


def _chosen(function: str, hinge: bool, options: dict[str, Any]) -> OverlapOptions:
    chosen = OverlapOptions.of(function, options, _WITHOUT)
    if not isinstance(hinge, bool):
        raise TypeError(f"`hinge` must be True or False. Received: {hinge!r}")
    if hinge and (not chosen.from_logits or chosen.mode == "multiclass"):
        raise ValueError(
            "`hinge=True` takes `from_logits=True` and `mode` 'binary' or 'multilabel'. "
            f"Received: {chosen.from_logits} and {chosen.mode!r}"
        )
    return chosen


@final
@keras.saving.register_keras_serializable(package="multiloss")
class LovaszLoss(OverlapLoss):
    """`lovasz` as a Keras loss, for `compile(loss=...)`. Weights and masks are treated as in `DiceLoss`.

    Args:
        hinge: as in `lovasz`.
        reduction: as in `DiceLoss`.
        name: as in `DiceLoss`.
        dtype: as in `DiceLoss`.
        **options: as in `lovasz`.

    Raises:
        TypeError, ValueError: as `DiceLoss`.

    Example:
        >>> from multiloss import LovaszLoss
        >>> round(float(LovaszLoss()([[1, 1, 0, 0]], [[0.9, 0.4, 0.2, 0.1]])), 4)
        0.3667
    """

    def __init__(
        self,
        hinge: bool = False,
        reduction: str | None = "sum_over_batch_size",
        name: str = "lovasz",
        dtype: Any = None,
        **options: Any,
    ):
        _chosen("LovaszLoss", hinge, options)
        super().__init__(lovasz, {"hinge": hinge}, options, _WITHOUT, reduction, name, dtype)
