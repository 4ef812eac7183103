"""Unified focal loss: focal and focal Tversky loss with their parameters in common."""

from typing import Any, final

import keras
from keras import ops

from multiloss import checks
from multiloss.checks import Tensor
from multiloss.overlap import engine, pixels
from multiloss.overlap.base import OverlapLoss
from multiloss.overlap.options import OverlapOptions

__all__ = ["UnifiedFocalLoss", "unified_focal"]

_WITHOUT = ("classes", "include_background", "squared", "thresh")


def unified_focal(
    y_true: Any,
    y_pred: Any,
    *,
    weight: float = 0.5,
    delta: float = 0.6,
    gamma: float = 0.5,
    symmetric: bool = False,
    mask: Any = None,
    **options: Any,
) -> Tensor:
    """Unified focal loss of each sample.

        weight * T + (1 - weight) * F
        T = mean over classes of m_c^(1 - gamma) for foreground, and m_c (m_c^(1 - gamma) if symmetric) for background
        m_c = 1 - tp / (tp + (1 - delta) fp + delta fn), smoothed as in `tversky`
        F = mean over pixels of -delta t log(p) (times (1 - p)^gamma if symmetric), summed over foreground classes,
            and -(1 - delta) t log(p) (1 - p)^gamma for background

    so that foreground is enhanced and background suppressed. Yeung et al. 2022, arXiv:2102.04525, section 3.3, with
    the exponents of the authors' code, which are those of the paper at its gamma of 0.5.

    Background is class 0 in multiclass mode. In binary and multilabel mode each class is foreground, and 1 - p is the
    background that belongs to it; the mean over classes is that of these pairs.

    Args:
        y_true: as in `dice`.
        y_pred: as in `cross_entropy`.
        weight: of the Tversky part, in [0, 1].
        delta: what a false negative weighs, in [0, 1]; a false positive weighs 1 - delta.
        gamma: in [0, 1): how much is enhanced and suppressed.
        symmetric: whether background is treated as foreground is.
        mask: as in `dice`.
        **options: what `OverlapOptions` lists, but for `classes`, `include_background`, `squared` and `thresh`, and
            `over` is "sample" or "batch".

    Returns:
        As `dice`, >= 0. For soft labels not least at `p = t`, and no option makes it so.

    Raises:
        TypeError, ValueError: as `dice`.

    Gradient: of T, for `gamma > 0`, it grows without bound towards a perfect prediction; at it, it is 0.

    Example:
        >>> from multiloss import unified_focal
        >>> round(float(unified_focal([[1, 1, 0, 0]], [[0.9, 0.4, 0.2, 0.1]])[0]), 4)
        0.272
    """
    _parameters(weight, delta, gamma, symmetric)
    chosen = _chosen("unified_focal", options)
    m = engine.masks(y_true, y_pred, mask, chosen)
    c = engine.counts(m, chosen)
    log_p, log_q = pixels.logs(m, chosen)
    gammas = gamma, gamma if symmetric else 0.0  # of background and foreground

    if chosen.mode == "multiclass":
        missed = engine.tversky_loss(c, 1 - delta, delta, chosen)
        background, foreground = missed[:, :1], missed[:, 1:]
        losses = [
            (1 - delta) * m.t[..., :1] * pixels.focused(log_p[..., :1], gammas[0]),
            delta * m.t[..., 1:] * pixels.focused(log_p[..., 1:], gammas[1]),
        ]
        in_pixels = ops.concatenate(losses, axis=-1)
    else:
        others = engine.counts(m._replace(t=1 - m.t, p=1 - m.p, raw=1 - m.raw), chosen)
        background = engine.tversky_loss(others, 1 - delta, delta, chosen)
        foreground = engine.tversky_loss(c, 1 - delta, delta, chosen)
        in_pixels = (1 - delta) * (1 - m.t) * pixels.focused(log_q, gammas[0])
        in_pixels = in_pixels + delta * m.t * pixels.focused(log_p, gammas[1])

    foreground = engine.power(foreground, 1 - gamma)
    background = engine.power(background, 1 - gamma) if symmetric else background
    if chosen.mode == "multiclass":
        ratios = ops.concatenate([background, foreground], axis=1)
    else:
        ratios = (background + foreground) / 2
    regions = engine.mean(ratios, c, m, chosen)
    return weight * regions + (1 - weight) * pixels.mean(in_pixels, m, chosen)


def _parameters(weight: float, delta: float, gamma: float, symmetric: bool) -> dict[str, Any]:
    for name, value in (("weight", weight), ("delta", delta)):
        checks.number(name, value, "a number in [0, 1]", lambda x: 0 <= x <= 1)
    checks.number("gamma", gamma, "a number in [0, 1)", lambda x: 0 <= x < 1)
    if not isinstance(symmetric, bool):
        raise TypeError(f"`symmetric` must be True or False. Received: {symmetric!r}")
    return {"weight": float(weight), "delta": float(delta), "gamma": float(gamma), "symmetric": symmetric}


def _chosen(function: str, options: dict[str, Any]) -> OverlapOptions:
    chosen = OverlapOptions.of(function, options, _WITHOUT)
    if chosen.over not in ("sample", "batch"):
        raise ValueError(f"`over` must be 'sample' or 'batch' for {function}. Received: {chosen.over!r}")
    return chosen


@final
@keras.saving.register_keras_serializable(package="multiloss")
class UnifiedFocalLoss(OverlapLoss):
    """`unified_focal` as a Keras loss, for `compile(loss=...)`. Weights and masks are treated as in `DiceLoss`.

    Args:
        weight: as in `unified_focal`.
        delta: as in `unified_focal`.
        gamma: as in `unified_focal`.
        symmetric: as in `unified_focal`.
        reduction: as in `DiceLoss`.
        name: as in `DiceLoss`.
        dtype: as in `DiceLoss`.
        **options: as in `unified_focal`.

    Raises:
        TypeError, ValueError: as `DiceLoss`.

    Example:
        >>> from multiloss import UnifiedFocalLoss
        >>> round(float(UnifiedFocalLoss()([[1, 1, 0, 0]], [[0.9, 0.4, 0.2, 0.1]])), 4)
        0.272
    """

    def __init__(
        self,
        weight: float = 0.5,
        delta: float = 0.6,
        gamma: float = 0.5,
        symmetric: bool = False,
        reduction: str | None = "sum_over_batch_size",
        name: str = "unified_focal",
        dtype: Any = None,
        **options: Any,
    ):
        _chosen("UnifiedFocalLoss", options)
        parameters = _parameters(weight, delta, gamma, symmetric)
        super().__init__(unified_focal, parameters, options, _WITHOUT, reduction, name, dtype)
