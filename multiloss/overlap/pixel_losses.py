"""Losses of single pixels, in the mean over those of a sample: cross-entropy and focal loss."""

from typing import Any, final

import keras

from multiloss import checks
from multiloss.checks import Tensor
from multiloss.overlap import engine, pixels
from multiloss.overlap.base import OverlapLoss
from multiloss.overlap.options import OverlapOptions

__all__ = ["CrossEntropyLoss", "FocalLoss", "cross_entropy", "focal"]

WITHOUT = ("empty", "smooth", "squared", "thresh")


def cross_entropy(y_true: Any, y_pred: Any, *, mask: Any = None, **options: Any) -> Tensor:
    """Cross-entropy of each sample, in the mean over its pixels.

        binary, multilabel:  -t log(p) - (1 - t) log(1 - p), in the mean over pixels and classes
        multiclass:          -sum_c w_c t_c log(p_c), in the mean over pixels

    with w_c the `class_weight`, which in the mean over labels is divided by the sum of the weights, and over classes
    that exclude each other is not. Pixels of weight 0 (`mask`, `ignore_index`) do not count in the mean.

    Args:
        y_true: as in `dice`.
        y_pred: as in `dice`. Probabilities are kept 2^-23 from 0 and 1; logits are exact.
        mask: as in `dice`.
        **options: what `OverlapOptions` lists, but for `empty`, `smooth`, `squared` and `thresh`.

    Returns:
        `[B]`, or a scalar for `over="batch"` and `over="all"`; float32, or float64 if `y_pred` is and the backend has
        it. 0 for a sample without pixels. For soft labels least, though not 0, at `p = t`.

    Raises:
        TypeError, ValueError: as `dice`.

    Example:
        >>> from multiloss import cross_entropy
        >>> round(float(cross_entropy([[1, 0]], [[0.5, 0.25]])[0]), 4)  # (log(2) + log(4 / 3)) / 2
        0.4904
    """
    return focal(y_true, y_pred, gamma=0.0, mask=mask, **options)


def focal(y_true: Any, y_pred: Any, *, gamma: float = 2.0, mask: Any = None, **options: Any) -> Tensor:
    """Focal loss of each sample: the terms of `cross_entropy`, those of log(q) times `(1 - q)^gamma`.

    So pixels that are predicted well count less. Lin et al. 2017, arXiv:1708.02002, equation 4; for its alpha there
    is `class_weight` in multiclass mode.

    Args:
        y_true: as in `dice`.
        y_pred: as in `cross_entropy`.
        gamma: the exponent, a finite number >= 0; 0 is `cross_entropy`.
        mask: as in `dice`.
        **options: as in `cross_entropy`.

    Returns:
        As `cross_entropy`, but for soft labels least at `p = t` for `gamma=0` only.

    Raises:
        TypeError, ValueError: as `dice`.

    Example:
        >>> from multiloss import focal
        >>> round(float(focal([[1, 0]], [[0.5, 0.25]])[0]), 4)  # (0.25 log(2) + 0.0625 log(4 / 3)) / 2
        0.0956
    """
    _parameters(gamma)
    chosen = OverlapOptions.of("pixel losses", options, WITHOUT)
    m = engine.masks(y_true, y_pred, mask, chosen)
    log_p, log_q = pixels.logs(m, chosen)
    losses = m.t * pixels.focused(log_p, gamma)
    if chosen.mode != "multiclass":
        losses = losses + (1 - m.t) * pixels.focused(log_q, gamma)
    return pixels.mean(losses, m, chosen)


def _parameters(gamma: float) -> dict[str, float]:
    return {"gamma": checks.non_negative("gamma", gamma)}


@final
@keras.saving.register_keras_serializable(package="multiloss")
class CrossEntropyLoss(OverlapLoss):
    """`cross_entropy` as a Keras loss, for `compile(loss=...)`. Weights and masks are treated as in `DiceLoss`.

    Args:
        reduction: as in `DiceLoss`.
        name: as in `DiceLoss`.
        dtype: as in `DiceLoss`.
        **options: as in `cross_entropy`.

    Raises:
        TypeError, ValueError: as `DiceLoss`.

    Example:
        >>> from multiloss import CrossEntropyLoss
        >>> round(float(CrossEntropyLoss()([[1, 0]], [[0.5, 0.25]])), 4)
        0.4904
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str = "cross_entropy",
        dtype: Any = None,
        **options: Any,
    ):
        super().__init__(cross_entropy, {}, options, WITHOUT, reduction, name, dtype)


@final
@keras.saving.register_keras_serializable(package="multiloss")
class FocalLoss(OverlapLoss):
    """`focal` as a Keras loss, for `compile(loss=...)`. Weights and masks are treated as in `DiceLoss`.

    Args:
        gamma: as in `focal`.
        reduction: as in `DiceLoss`.
        name: as in `DiceLoss`.
        dtype: as in `DiceLoss`.
        **options: as in `focal`.

    Raises:
        TypeError, ValueError: as `DiceLoss`.

    Example:
        >>> from multiloss import FocalLoss
        >>> round(float(FocalLoss()([[1, 0]], [[0.5, 0.25]])), 4)
        0.0956
    """

    def __init__(
        self,
        gamma: float = 2.0,
        reduction: str | None = "sum_over_batch_size",
        name: str = "focal",
        dtype: Any = None,
        **options: Any,
    ):
        super().__init__(focal, _parameters(gamma), options, WITHOUT, reduction, name, dtype)
