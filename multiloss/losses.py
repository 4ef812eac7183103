"""The one base class of the losses: Keras's, with labels left exact and the dtype kept in the config."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from multiloss import checks
from multiloss.checks import Tensor


class Loss(keras.losses.Loss):  # type: ignore[misc]  # Keras has no types
    """A loss of values `[B]` whose `call(y_true, y_pred)` gets its labels as the caller handed them over.

    Keras casts labels to the dtype of the loss, which merges integers above 2^24. Everything else is Keras's own:
    predictions cast to `dtype`, masks, `sample_weight`, reduction. Three differences: half precision is raised to
    float32; weights or masks that are not one a row are refused, where Keras would broadcast them; and an empty batch
    reduces to 0 whether or not its size is known in advance.
    """

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Tensor:
        """Return the reduced loss, or its values if `reduction` is None, of labels as they come."""
        y_pred = _as_tensor(y_pred)
        if sample_weight is not None:
            sample_weight = checks.weights("sample_weight", sample_weight, y_pred, axes=1)
        mask = keras_mask(y_pred)
        if mask is not None:
            checks.weights("mask", mask, y_pred, axes=1)  # to be applied by Keras
        dtype = checks.at_least_float32(self.dtype)
        held = _Held(lambda y_pred: self.call(y_true, y_pred), self.name, self.reduction, dtype)
        value = held(y_pred, y_pred, sample_weight)
        return ops.sum(value) if self.reduction not in (None, "none") and tuple(value.shape) == (0,) else value

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {**super().get_config(), "dtype": self.dtype}


def keras_mask(y_pred: Any) -> Tensor | None:
    """Return the mask that Keras attached to predictions, as floats, or None."""
    # Keras has no public function for this. Its loss without reduction gives the mask times whatever `call` returns,
    # or, where there is no mask, that very tensor.
    y_pred = _as_tensor(y_pred)
    one = ops.ones(())
    mask = _Held(lambda _: one, name="mask", reduction=None, dtype="float32")(y_pred, y_pred)
    return None if mask is one else mask


def _as_tensor(y_pred: Any) -> Tensor:
    result = checks.numeric("y_pred", y_pred)
    return y_pred if ops.is_tensor(y_pred) else result  # the very object: a mask hangs on it


class _Held(keras.losses.Loss):  # type: ignore[misc]
    """One call of a loss, what it computes held in a closure, out of reach of the cast that Keras applies to labels."""

    def __init__(self, values: Callable[[Tensor], Tensor], name: str, reduction: str | None, dtype: str):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self._values = values

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return self._values(y_pred)
