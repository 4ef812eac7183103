"""A weighted sum of losses."""

from collections.abc import Sequence
from typing import Any, final

import keras
from keras import ops

from multiloss import _arguments
from multiloss._arguments import Tensor
from multiloss._base import Loss

__all__ = ["CombinedLoss"]


@final
@keras.saving.register_keras_serializable(package="multiloss")
class CombinedLoss(Loss):
    """Weighted sum of Keras losses: those of this library, of Keras, and your own.

    Each loss is called as it would be alone, with truth, predictions, their Keras mask and the `sample_weight`, and
    reduces its values by its own `reduction`. So the sum is a scalar, or `[B]` if no loss reduces its values. Losses of
    Keras broadcast a `sample_weight` `[B]` along the last axis of their values: for theirs of pixels, whose values are
    `[B, ..., N]`, pass weights `[B, ..., 1]`, which losses of this library take as well.

    Args:
        losses: one or more instances of `keras.losses.Loss`.
        weights: None for 1 each, or as many finite numbers >= 0.
        name: name of the loss; by default that of the class.
        dtype: dtype of the sum, Keras's `floatx` by default; half precision is raised to float32. Each loss computes in
            its own.

    Raises:
        TypeError, ValueError: for losses that are none, or other weights; at a call as each loss, and for values that
            do not have the same shape.

    Examples:
        >>> import keras
        >>> from multiloss import CombinedLoss, DiceLoss
        >>> loss = CombinedLoss([DiceLoss(), keras.losses.BinaryCrossentropy()], weights=[1, 0.5])
        >>> round(float(loss([[1, 0]], [[0.5, 0.25]])), 4)
        0.6738
    """

    def __init__(
        self,
        losses: Sequence[keras.losses.Loss],
        weights: Sequence[float] | None = None,
        *,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(reduction=None, name=name, dtype=dtype)
        self.losses: list[keras.losses.Loss] = _listed("losses", losses)
        for loss in self.losses:
            if not isinstance(loss, keras.losses.Loss):
                raise TypeError(f"`losses` must be instances of keras.losses.Loss. Received: {type(loss).__name__}")
        if not self.losses:
            raise ValueError("`losses` must be one or more. Received: none")
        weights = [1.0] * len(self.losses) if weights is None else _listed("weights", weights)
        if len(weights) != len(self.losses):
            raise ValueError(f"`weights` must be one for each of {len(self.losses)} losses. Received: {len(weights)}")
        self.weights = [_arguments.non_negative("weights", weight) for weight in weights]

    @property
    def straight_through(self) -> bool:
        """Whether this is so of one of the losses, see `OverlapLoss.straight_through`."""
        return any(getattr(loss, "straight_through", False) for loss in self.losses)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Tensor:
        """Return the weighted sum."""
        dtype = _arguments.at_least_float32(self.dtype)
        values = [ops.cast(loss(y_true, y_pred, sample_weight=sample_weight), dtype) for loss in self.losses]
        for value in values[1:]:
            if not _arguments.has_shape(value, values[0]):
                raise ValueError(
                    "`losses` must have values of one shape: each a scalar, or `reduction=None` in all. Received: "
                    f"{[tuple(value.shape) for value in values]}"
                )
        return sum(weight * value for weight, value in zip(self.weights, values, strict=True))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {**super().get_config(), "losses": [keras.losses.serialize(loss) for loss in self.losses]}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "CombinedLoss":
        """Make the loss of a config."""
        return cls(**{**config, "losses": [keras.losses.deserialize(loss) for loss in config["losses"]]})


def _listed(name: str, value: Any) -> list[Any]:
    try:
        return list(value)
    except TypeError as error:
        raise TypeError(f"`{name}` must be a sequence. Received: {type(value).__name__}") from error
