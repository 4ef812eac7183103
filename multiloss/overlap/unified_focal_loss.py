"""Unified focal loss: focal and focal Tversky loss with their parameters in common."""

from typing import Any, Unpack, final

import keras
from keras import ops

from multiloss import _arguments
from multiloss._arguments import Tensor
from multiloss.overlap._base import OverlapLoss, OverlapOptions, RatioOptions, of_function
from multiloss.overlap._engine import pixelwise, ratios
from multiloss.overlap._engine.inputs import Masks
from multiloss.overlap._engine.sums import Counts

__all__ = ["UnifiedFocalLoss", "unified_focal"]


@final
@keras.saving.register_keras_serializable(package="multiloss")
class UnifiedFocalLoss(OverlapLoss):
    """Unified focal loss: foreground is enhanced and background suppressed, in regions and in pixels.

        weight * T + (1 - weight) * F
        T = mean over classes of m_c^(1 - gamma) for foreground, and m_c (m_c^(1 - gamma) if symmetric) for background
        m_c = 1 - tp / (tp + (1 - delta) fp + delta fn), smoothed as in TverskyLoss
        F = mean over pixels of -delta t log(p) (times (1 - p)^gamma if symmetric), summed over foreground classes,
            and -(1 - delta) t log(p) (1 - p)^gamma for background

    Background is class 0 in multiclass mode. In binary and multilabel mode each class is foreground, and 1 - p is the
    background that belongs to it; the mean over classes is that of these pairs. For `gamma > 0` the gradient of T
    grows without bound towards a perfect prediction; at it, it is 0. With soft labels, p = t is not the minimum.

    Yeung et al. 2022, arXiv:2102.04525, section 3.3, with the exponents of the authors' code, which are those of the
    paper at its gamma of 0.5.

    Args:
        weight: of the Tversky part, in [0, 1].
        delta: what a false negative weighs, in [0, 1]; a false positive weighs 1 - delta.
        gamma: in [0, 1): how much is enhanced and suppressed.
        symmetric: whether background is treated as foreground is.
        **options: as in `OverlapLoss`, but for `average`, `classes`, `include_background`, `squared`, `soft_label` and
            `thresh`. With `empty="skip"`, a sample without any class stays in the mean over samples: its pixels count.

    Examples:
        >>> from multiloss import UnifiedFocalLoss
        >>> round(float(UnifiedFocalLoss()([[1, 1, 0, 0]], [[0.9, 0.4, 0.2, 0.1]])), 4)
        0.272
    """

    _without = ("average", "classes", "include_background", "squared", "soft_label", "thresh")

    def __init__(
        self,
        weight: float = 0.5,
        delta: float = 0.6,
        gamma: float = 0.5,
        symmetric: bool = False,
        **options: Unpack[OverlapOptions],
    ):
        super().__init__(**options)
        self.weight = _arguments.number("weight", weight, "a number in [0, 1]", lambda x: 0 <= x <= 1)
        self.delta = _arguments.number("delta", delta, "a number in [0, 1]", lambda x: 0 <= x <= 1)
        self.gamma = _arguments.number("gamma", gamma, "a number in [0, 1)", lambda x: 0 <= x < 1)
        self.symmetric = _arguments.boolean("symmetric", symmetric)

    def _values(self, m: Masks) -> tuple[Tensor, None]:
        counts = Counts(m, self)
        missed = self._missed(counts)
        log_p, log_q = pixelwise.logarithms(m)
        gammas = self.gamma, self.gamma if self.symmetric else 0.0  # of background and foreground
        if m.mode == "multiclass":
            background, foreground = missed[:, :1], missed[:, 1:]
            pixels = ops.concatenate(
                [
                    (1 - self.delta) * m.t[..., :1] * pixelwise.focused(log_p[..., :1], gammas[0]),
                    self.delta * m.t[..., 1:] * pixelwise.focused(log_p[..., 1:], gammas[1]),
                ],
                axis=-1,
            )
        else:
            foreground = missed
            background = self._missed(Counts(m._replace(t=1 - m.t, p=1 - m.p, raw=1 - m.raw), self))
            pixels = (1 - self.delta) * (1 - m.t) * pixelwise.focused(log_q, gammas[0])
            pixels = pixels + self.delta * m.t * pixelwise.focused(log_p, gammas[1])

        foreground = ratios.power(foreground, 1 - self.gamma)
        background = ratios.power(background, 1 - self.gamma) if self.symmetric else background
        if m.mode == "multiclass":
            regions = ops.concatenate([background, foreground], axis=1)
        else:
            regions = (background + foreground) / 2
        regions, pixels = ratios.mean(regions, counts, m, self), pixelwise.mean(pixels, m, self)
        return self.weight * regions + (1 - self.weight) * pixels, None

    def _missed(self, counts: Counts) -> Tensor:
        return ratios.where_empty(self.tversky(counts, 1 - self.delta, self.delta), counts, self)


def unified_focal(
    y_true: Any,
    y_pred: Any,
    *,
    weight: float = 0.5,
    delta: float = 0.6,
    gamma: float = 0.5,
    symmetric: bool = False,
    mask: Any = None,
    **options: Unpack[RatioOptions],
) -> Tensor:
    """Values of samples `[B]` of `UnifiedFocalLoss`, which describes the arguments.

    Examples:
        >>> from multiloss.losses import unified_focal
        >>> round(float(unified_focal([[1, 1, 0, 0]], [[0.9, 0.4, 0.2, 0.1]])[0]), 4)
        0.272
    """
    return UnifiedFocalLoss(weight, delta, gamma, symmetric, **of_function(options)).call(y_true, y_pred, mask)
