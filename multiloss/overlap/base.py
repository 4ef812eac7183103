"""The base of the overlap losses: a function with its parameters, and weights and masks in the right place."""

from collections.abc import Callable, Sequence
from typing import Any

from multiloss._base import Loss
from multiloss.checks import Tensor
from multiloss.overlap.options import NAMES, WHOLE_BATCH, OverlapOptions


class OverlapLoss(Loss):
    """A loss `function(y_true, y_pred, mask=..., **parameters, **options)`, each of which is an attribute.

    A `sample_weight` or Keras mask of one number a sample weights the values of samples, as in any Keras loss. One with
    axes of pixels, or any at all if the loss has one value for the whole batch, weights pixels inside the sums.
    """

    def __init__(
        self,
        function: Callable[..., Tensor],
        parameters: dict[str, Any],
        given: dict[str, Any],
        without: Sequence[str],
        reduction: str | None,
        name: str,
        dtype: Any,
    ):
        super().__init__(reduction=reduction, name=name, dtype=dtype)
        options = OverlapOptions.of(type(self).__name__, given, without)
        arguments = {**parameters, **{name: getattr(options, name) for name in NAMES if name not in without}}
        for name, value in arguments.items():
            setattr(self, name, value)
        self._function, self._names = function, tuple(arguments)

    @property
    def whole_batch(self) -> bool:
        """Whether the value is one number for the whole batch."""
        return self._arguments["over"] in WHOLE_BATCH

    def call(self, y_true: Any, y_pred: Any) -> Tensor:
        """Return the values `[B]`, or the scalar of the whole batch, neither weighted nor reduced."""
        return self._values(y_true, y_pred, {})

    def _goes_inside(self, weight: Tensor) -> bool:
        return self.whole_batch or any(size != 1 for size in tuple(weight.shape)[1:])

    def _values(self, y_true: Any, y_pred: Tensor, weights: dict[str, Tensor]) -> Tensor:
        return self._function(y_true, y_pred, mask=weights, **self._arguments)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {**super().get_config(), **self._arguments}

    @property
    def _arguments(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._names}
