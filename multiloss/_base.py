"""The one Keras loss that both families stand on: labels left exact, and the dtype kept in the config."""

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
        y_pred, weights = self._taken("y_pred", y_pred, sample_weight)
        inside = {name: weight for name, weight in weights.items() if self._goes_inside(weight)}
        outside = {name: weight for name, weight in weights.items() if name not in inside}
        for name, weight in outside.items():
            checks.weights(name, weight, y_pred, axes=1)
        return self._reduced(self._values(y_true, y_pred, inside), outside)

    def _taken(self, name: str, y_pred: Any, sample_weight: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Return predictions in the dtype to compute in, and the weights and the mask, where given, as floats."""
        y_pred = _as_tensor(name, y_pred)
        given = {"sample_weight": sample_weight, "mask": keras_mask(y_pred)}
        weights = {name: checks.floats(name, weight) for name, weight in given.items() if weight is not None}
        for name, weight in weights.items():
            checks.rank(name, weight)
        return ops.cast(y_pred, checks.at_least_float32(self.dtype)), weights

    def _reduced(self, values: Tensor, weights: dict[str, Tensor]) -> Tensor:
        """Weight and reduce values as Keras does; weights and mask are scalars or one a value, whatever axes of 1."""
        flat = {name: ops.reshape(weight, (-1,)[: len(weight.shape)]) for name, weight in weights.items()}
        weight, mask = flat.get("sample_weight"), flat.get("mask")
        if mask is not None and self.means:  # over what the mask leaves
            mask = mask * _quotient(ops.cast(ops.size(mask), mask.dtype), ops.sum(mask))
        if mask is not None:
            weight = mask if weight is None else weight * mask
        dtype = checks.at_least_float32(self.dtype)
        if dtype == "float64" and self.reduction not in (None, "none", "sum") and len(values.shape):
            return self._mean(values, weight)
        value = _Held(values, self.name, self.reduction, dtype)(values, values, weight)
        return ops.sum(value) if self.reduction not in (None, "none") and tuple(value.shape) == (0,) else value

    def _mean(self, values: Tensor, weight: Tensor | None) -> Tensor:
        """Weight and average values in float64, of which Keras's own mean makes float32 on torch."""
        by_weights = self.reduction == "mean_with_sample_weight" and weight is not None
        values = ops.cast(values, "float64")
        total = ops.sum(values if weight is None else values * ops.cast(weight, values.dtype))
        divisor = ops.sum(weight) if by_weights else ops.size(values)
        # Keras's mean of a single 1: what it divides by besides, the number of TensorFlow's replicas.
        one = ops.ones((1,))
        share = _Held(one, self.name, "mean", "float32")(one, one)
        return _quotient(total, ops.cast(divisor, values.dtype)) * ops.cast(share, values.dtype)

    @property
    def means(self) -> bool:
        """Whether the reduction divides by the number of values."""
        return self.reduction in ("sum_over_batch_size", "mean")

    def _goes_inside(self, weight: Tensor) -> bool:
        """Tell whether weights are for `_values`, not for the values."""
        return False

    def _values(self, y_true: Any, y_pred: Tensor, weights: dict[str, Tensor]) -> Tensor:
        return self.call(y_true, y_pred)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {**super().get_config(), "dtype": self.dtype}


def _quotient(a: Tensor, b: Tensor) -> Tensor:
    """Return `a / b`, and 0 where b is 0, in their own dtype."""
    zero = ops.equal(b, 0)
    return ops.where(zero, ops.zeros_like(a), a / ops.where(zero, ops.ones_like(b), b))


def keras_mask(y_pred: Any) -> Tensor | None:
    """Return the mask that Keras attached to predictions, as floats, or None."""
    # Keras has no public function for this. Its loss without reduction gives the mask times whatever `call` returns,
    # or, where there is no mask, that very tensor.
    y_pred = _as_tensor("y_pred", y_pred)
    one = ops.ones(())
    mask = _Held(one, name="mask", reduction=None, dtype="float32")(y_pred, y_pred)
    return None if mask is one else mask


def _as_tensor(name: str, y_pred: Any) -> Tensor:
    result = checks.numeric(name, y_pred)
    return y_pred if ops.is_tensor(y_pred) else result  # the very object: a mask hangs on it


class _Held(keras.losses.Loss):  # type: ignore[misc]  # as above
    """Values that are there already, to be weighted and reduced by Keras, out of reach of its cast of the labels."""

    def __init__(self, values: Tensor, name: str, reduction: str | None, dtype: str):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self._values = values

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return self._values
