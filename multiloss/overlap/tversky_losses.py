"""Tversky loss, and its powers: Dice with false positives and false negatives weighted apart."""

from typing import Any, final

import keras

from multiloss import checks
from multiloss.checks import Tensor
from multiloss.overlap import engine
from multiloss.overlap.base import OverlapLoss
from multiloss.overlap.options import OverlapOptions

__all__ = ["FocalTverskyLoss", "TverskyLoss", "focal_tversky", "tversky"]


def tversky(
    y_true: Any, y_pred: Any, *, alpha: float = 0.5, beta: float = 0.5, mask: Any = None, **options: Any
) -> Tensor:
    """Tversky loss of each sample, in the mean over its classes.

        1 - (tp + smooth / 2) / (tp + alpha fp + beta fn + smooth / 2)

    `alpha = beta = 0.5` is `dice`, `alpha = beta = 1` is `jaccard`. Salehi, Erdogmus, Gholipour 2017,
    arXiv:1706.05721, equation 4.

    Args:
        y_true: as in `dice`.
        y_pred: as in `dice`.
        alpha: what a false positive weighs, a finite number >= 0.
        beta: what a false negative weighs, a finite number >= 0.
        mask: as in `dice`.
        **options: what `OverlapOptions` lists, all of it.

    Returns:
        As `dice`. For soft labels least at `p = t` with `squared=True`, if both smooths are equal, and else not.

    Raises:
        TypeError, ValueError: as `dice`; ValueError for `squared=True` unless `alpha` equals `beta`. With squares only
            the sum of false positives and false negatives, `sum((p - t)^2)`, is never negative; each by itself may be.

    Example:
        >>> from multiloss import tversky
        >>> round(float(tversky([[1, 1, 0, 0]], [[0.9, 0.4, 0.2, 0.1]], alpha=0.3, beta=0.7)[0]), 4)  # 1 - 1.3 / 1.88
        0.3085
    """
    return focal_tversky(y_true, y_pred, alpha=alpha, beta=beta, gamma=1.0, mask=mask, **options)


def focal_tversky(
    y_true: Any,
    y_pred: Any,
    *,
    alpha: float = 0.3,
    beta: float = 0.7,
    gamma: float = 0.75,
    mask: Any = None,
    **options: Any,
) -> Tensor:
    """Tversky loss of each class to the power of `gamma`, of each sample in the mean over its classes.

    Abraham and Khan 2019, arXiv:1810.07842, equation 3, where the exponent is written `1 / gamma` (4/3 there is 0.75
    here) and alpha is the weight of false negatives. `gamma > 1` draws attention to classes that overlap badly,
    `gamma < 1` keeps it on those that nearly overlap.

    Args:
        y_true: as in `dice`.
        y_pred: as in `dice`.
        alpha: what a false positive weighs, a finite number >= 0.
        beta: what a false negative weighs, a finite number >= 0.
        gamma: the exponent, a finite number > 0 (at least 1.2e-38).
        mask: as in `dice`.
        **options: what `OverlapOptions` lists, all of it.

    Returns:
        As `tversky`, for soft labels too.

    Raises:
        TypeError, ValueError: as `tversky`: `squared=True` does not go with the defaults of `alpha` and `beta`.

    Gradient: for `gamma < 1` it grows without bound towards a perfect prediction; at it, it is 0.

    Example:
        >>> from multiloss import focal_tversky
        >>> round(float(focal_tversky([[1, 1, 0, 0]], [[0.9, 0.4, 0.2, 0.1]])[0]), 4)  # 0.3085 ** 0.75
        0.414
    """
    _parameters(alpha, beta, gamma)
    chosen = _chosen("tversky losses", alpha, beta, options)
    m = engine.masks(y_true, y_pred, mask, chosen)
    c = engine.counts(m, chosen)
    losses = engine.power(engine.tversky_loss(c, alpha, beta, chosen), gamma)
    return engine.mean(losses, c, m, chosen)


def _parameters(alpha: float, beta: float, gamma: float | None = None) -> dict[str, float]:
    parameters = {"alpha": checks.non_negative("alpha", alpha), "beta": checks.non_negative("beta", beta)}
    return parameters if gamma is None else {**parameters, "gamma": checks.positive("gamma", gamma)}


def _chosen(function: str, alpha: float, beta: float, options: dict[str, Any]) -> OverlapOptions:
    chosen = OverlapOptions.of(function, options)
    if chosen.squared and alpha != beta:
        raise ValueError(f"`squared=True` needs `alpha` equal to `beta`. Received: alpha={alpha}, beta={beta}")
    return chosen


@final
@keras.saving.register_keras_serializable(package="multiloss")
class TverskyLoss(OverlapLoss):
    """`tversky` as a Keras loss, for `compile(loss=...)`. Weights and masks are treated as in `DiceLoss`.

    Args:
        alpha: as in `tversky`.
        beta: as in `tversky`.
        reduction: as in `DiceLoss`.
        name: as in `DiceLoss`.
        dtype: as in `DiceLoss`.
        **options: as in `tversky`.

    Raises:
        TypeError, ValueError: as `DiceLoss`.

    Example:
        >>> from multiloss import TverskyLoss
        >>> round(float(TverskyLoss(alpha=0.3, beta=0.7)([[1, 1, 0, 0]], [[0.9, 0.4, 0.2, 0.1]])), 4)
        0.3085
    """

    def __init__(
        self,
        alpha: float = 0.5,
        beta: float = 0.5,
        reduction: str | None = "sum_over_batch_size",
        name: str = "tversky",
        dtype: Any = None,
        **options: Any,
    ):
        parameters = _parameters(alpha, beta)
        _chosen("TverskyLoss", alpha, beta, options)
        super().__init__(tversky, parameters, options, (), reduction, name, dtype)


@final
@keras.saving.register_keras_serializable(package="multiloss")
class FocalTverskyLoss(OverlapLoss):
    """`focal_tversky` as a Keras loss, for `compile(loss=...)`. Weights and masks are treated as in `DiceLoss`.

    Args:
        alpha: as in `focal_tversky`.
        beta: as in `focal_tversky`.
        gamma: as in `focal_tversky`.
        reduction: as in `DiceLoss`.
        name: as in `DiceLoss`.
        dtype: as in `DiceLoss`.
        **options: as in `focal_tversky`.

    Raises:
        TypeError, ValueError: as `DiceLoss`.

    Example:
        >>> from multiloss import FocalTverskyLoss
        >>> round(float(FocalTverskyLoss()([[1, 1, 0, 0]], [[0.9, 0.4, 0.2, 0.1]])), 4)
        0.414
    """

    def __init__(
        self,
        alpha: float = 0.3,
        beta: float = 0.7,
        gamma: float = 0.75,
        reduction: str | None = "sum_over_batch_size",
        name: str = "focal_tversky",
        dtype: Any = None,
        **options: Any,
    ):
        parameters = _parameters(alpha, beta, gamma)
        _chosen("FocalTverskyLoss", alpha, beta, options)
        super().__init__(focal_tversky, parameters, options, (), reduction, name, dtype)
