"""Sums of overlap losses: the combinator, and its two best-known cases."""

from collections.abc import Sequence
from typing import Any, final

import keras

from multiloss import checks
from multiloss._base import Loss
from multiloss.checks import Tensor
from multiloss.overlap.base import OverlapLoss
from multiloss.overlap.dice_losses import dice
from multiloss.overlap.pixel_losses import WITHOUT as WITHOUT_IN_PIXELS
from multiloss.overlap.pixel_losses import focal

__all__ = [
    "CombinedLoss",
    "DiceCrossEntropyLoss",
    "DiceFocalLoss",
    "dice_cross_entropy",
    "dice_focal",
]


def dice_cross_entropy(
    y_true: Any,
    y_pred: Any,
    *,
    dice_weight: float = 1.0,
    pixel_weight: float = 1.0,
    mask: Any = None,
    **options: Any,
) -> Tensor:
    """Weighted sum of `dice` and `cross_entropy`, of each sample.

        dice_weight * dice + pixel_weight * cross_entropy

    Isensee et al. 2021, "nnU-Net", Nature Methods 18, with weights of 1.

    Args:
        y_true: as in `dice`.
        y_pred: as in `dice`.
        dice_weight: a finite number >= 0.
        pixel_weight: a finite number >= 0.
        mask: as in `dice`.
        **options: what `OverlapOptions` lists, all of it, for both where both have it.

    Returns:
        As `dice`. For soft labels least at `p = t` with `squared=True`, if both smooths are equal, and else not.

    Raises:
        TypeError, ValueError: as `dice`.

    Example:
        >>> from multiloss import dice_cross_entropy
        >>> round(float(dice_cross_entropy([[1, 0]], [[0.5, 0.25]])[0]), 4)  # 1 - 1 / 1.75 + 0.4904
        0.919
    """
    return dice_focal(
        y_true, y_pred, gamma=0.0, dice_weight=dice_weight, pixel_weight=pixel_weight, mask=mask, **options
    )


def dice_focal(
    y_true: Any,
    y_pred: Any,
    *,
    gamma: float = 2.0,
    dice_weight: float = 1.0,
    pixel_weight: float = 1.0,
    mask: Any = None,
    **options: Any,
) -> Tensor:
    """Weighted sum of `dice` and `focal`, of each sample.

        dice_weight * dice + pixel_weight * focal

    Zhu et al. 2019, "AnatomyNet", arXiv:1808.05238.

    Args:
        y_true: as in `dice`.
        y_pred: as in `dice`.
        gamma: as in `focal`.
        dice_weight: a finite number >= 0.
        pixel_weight: a finite number >= 0.
        mask: as in `dice`.
        **options: what `OverlapOptions` lists, all of it, for both where both have it.

    Returns:
        As `dice`. For soft labels least at `p = t` with `squared=True` and `gamma=0`, if both smooths are equal, and
        else not.

    Raises:
        TypeError, ValueError: as `dice`.

    Example:
        >>> from multiloss import dice_focal
        >>> round(float(dice_focal([[1, 0]], [[0.5, 0.25]])[0]), 4)  # 1 - 1 / 1.75 + 0.0956
        0.5242
    """
    _parameters(dice_weight=dice_weight, pixel_weight=pixel_weight)
    of_pixels = {name: value for name, value in options.items() if name not in WITHOUT_IN_PIXELS}
    overlap = dice(y_true, y_pred, mask=mask, **options)
    return dice_weight * overlap + pixel_weight * focal(y_true, y_pred, gamma=gamma, mask=mask, **of_pixels)


def _parameters(**weights: float) -> dict[str, float]:
    return {name: checks.non_negative(name, value) for name, value in weights.items()}


@final
@keras.saving.register_keras_serializable(package="multiloss")
class DiceCrossEntropyLoss(OverlapLoss):
    """`dice_cross_entropy` as a Keras loss, for `compile(loss=...)`. Weights and masks are treated as in `DiceLoss`.

    Args:
        dice_weight: as in `dice_cross_entropy`.
        pixel_weight: as in `dice_cross_entropy`.
        reduction: as in `DiceLoss`.
        name: as in `DiceLoss`.
        dtype: as in `DiceLoss`.
        **options: as in `dice_cross_entropy`.

    Raises:
        TypeError, ValueError: as `DiceLoss`.

    Example:
        >>> from multiloss import DiceCrossEntropyLoss
        >>> round(float(DiceCrossEntropyLoss()([[1, 0]], [[0.5, 0.25]])), 4)
        0.919
    """

    def __init__(
        self,
        dice_weight: float = 1.0,
        pixel_weight: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str = "dice_cross_entropy",
        dtype: Any = None,
        **options: Any,
    ):
        parameters = _parameters(dice_weight=dice_weight, pixel_weight=pixel_weight)
        super().__init__(dice_cross_entropy, parameters, options, (), reduction, name, dtype)


@final
@keras.saving.register_keras_serializable(package="multiloss")
class DiceFocalLoss(OverlapLoss):
    """`dice_focal` as a Keras loss, for `compile(loss=...)`. Weights and masks are treated as in `DiceLoss`.

    Args:
        gamma: as in `dice_focal`.
        dice_weight: as in `dice_focal`.
        pixel_weight: as in `dice_focal`.
        reduction: as in `DiceLoss`.
        name: as in `DiceLoss`.
        dtype: as in `DiceLoss`.
        **options: as in `dice_focal`.

    Raises:
        TypeError, ValueError: as `DiceLoss`.

    Example:
        >>> from multiloss import DiceFocalLoss
        >>> round(float(DiceFocalLoss()([[1, 0]], [[0.5, 0.25]])), 4)
        0.5242
    """

    def __init__(
        self,
        gamma: float = 2.0,
        dice_weight: float = 1.0,
        pixel_weight: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str = "dice_focal",
        dtype: Any = None,
        **options: Any,
    ):
        parameters = _parameters(gamma=gamma, dice_weight=dice_weight, pixel_weight=pixel_weight)
        super().__init__(dice_focal, parameters, options, (), reduction, name, dtype)


def _listed(name: str, value: Any) -> list[Any]:
    try:
        return list(value)
    except TypeError as error:
        raise TypeError(f"`{name}` must be a sequence. Received: {type(value).__name__}") from error


@final
@keras.saving.register_keras_serializable(package="multiloss")
class CombinedLoss(Loss):
    """Weighted sum of overlap losses, each with its own options. Values stay those of samples until they are reduced.

    Weights and masks are treated as in `DiceLoss`, by all losses alike.

    Args:
        losses: overlap losses of this library, one or more; either all or none of them have `over` "batch" or "all".
            Their own `reduction`, `name` and `dtype` do not count.
        weights: None for 1 each, or as many finite numbers >= 0.
        reduction: as in `DiceLoss`.
        name: as in `DiceLoss`.
        dtype: as in `DiceLoss`.

    Raises:
        TypeError, ValueError: for losses that are not overlap losses, or do not go together; for other weights; at a
            call as `DiceLoss`.

    Example:
        >>> from multiloss import CombinedLoss, DiceLoss, FocalLoss
        >>> loss = CombinedLoss([DiceLoss(), FocalLoss(gamma=2)], weights=[1, 0.5])
        >>> round(float(loss([[1, 0]], [[0.5, 0.25]])), 4)
        0.4764
    """

    def __init__(
        self,
        losses: Sequence[OverlapLoss],
        weights: Sequence[float] | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str = "combined",
        dtype: Any = None,
    ):
        super().__init__(reduction=reduction, name=name, dtype=dtype)
        self.losses: list[OverlapLoss | CombinedLoss] = _listed("losses", losses)
        for loss in self.losses:
            if not isinstance(loss, (OverlapLoss, CombinedLoss)):
                raise TypeError(f"`losses` must be overlap losses of multiloss. Received: {type(loss).__name__}")
        if not self.losses or len({loss.whole_batch for loss in self.losses}) > 1:
            raise ValueError(
                "`losses` must be one or more, all with a value for each sample or all with one for the batch. "
                f"Received: {[loss.name for loss in self.losses]}"
            )
        weights = [1.0] * len(self.losses) if weights is None else _listed("weights", weights)
        if len(weights) != len(self.losses):
            raise ValueError(f"`weights` must be one for each of {len(self.losses)} losses. Received: {len(weights)}")
        self.weights = [checks.non_negative("weights", weight) for weight in weights]

    @property
    def whole_batch(self) -> bool:
        """Whether the value is one number for the whole batch."""
        return self.losses[0].whole_batch

    def call(self, y_true: Any, y_pred: Any) -> Tensor:
        """Return the values `[B]`, or the scalar of the whole batch, neither weighted nor reduced."""
        return self._values(y_true, y_pred, {})

    def _goes_inside(self, weight: Tensor) -> bool:
        return self.losses[0]._goes_inside(weight)

    def _values(self, y_true: Any, y_pred: Tensor, weights: dict[str, Tensor]) -> Tensor:
        return sum(
            weight * loss._values(y_true, y_pred, weights)
            for weight, loss in zip(self.weights, self.losses, strict=True)
        )

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        losses = [keras.losses.serialize(loss) for loss in self.losses]
        return {**super().get_config(), "losses": losses, "weights": self.weights}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "CombinedLoss":
        """Make the loss of a config."""
        losses = [keras.losses.deserialize(loss) for loss in config["losses"]]
        return cls(**{**config, "losses": losses})
