"""The base of the pairwise losses: a function with its parameters, of the batch of one replica or of all."""

from collections.abc import Callable, Sequence
from typing import Any

from keras import ops

from multiloss import checks, distribution
from multiloss.checks import Tensor
from multiloss.losses import Loss
from multiloss.pairwise import engine


class PairwiseLoss(Loss):
    """A loss `function(y_true, y_pred, tile=..., share=...)`, which also takes `parameters`, attributes of the loss."""

    def __init__(
        self,
        function: Callable[..., Tensor],
        parameters: Sequence[str],
        tile: int | None,
        across_replicas: bool,
        reduction: str | None,
        name: str,
        dtype: Any,
    ):
        super().__init__(reduction=reduction, name=name, dtype=dtype)
        self.tile = engine.tile_size(tile)
        self.across_replicas = checks.boolean("across_replicas", across_replicas)
        self._function, self._parameters = function, parameters

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Tensor:
        """Return the reduced loss, or its rows if `reduction` is None, of labels as they come."""
        y_true = distribution.unaveraged(y_true)
        if not self.across_replicas:
            return super().__call__(y_true, y_pred, sample_weight)
        y_pred, weights = self._taken(y_pred, sample_weight)
        x = checks.embeddings("y_pred", y_pred)
        for name, weight in weights.items():
            checks.weights(name, weight, x, axes=1)
            weights[name] = ops.reshape(weight, (-1, 1)) + 0 * ops.cast(x[:, :1], weight.dtype)
        own = {"y_pred": x, "y_true": checks.labels("y_true", y_true, "y_pred", x)}
        whole, share = distribution.gather({**own, "sample_weight": None, "mask": None, **weights})
        values = self._function(whole.pop("y_true"), whole.pop("y_pred"), **self._arguments, share=share)
        value = self._reduced(values, {name: weight for name, weight in whole.items() if weight is not None})
        return value if share is None else share.loss(value, averaged=self.reduction not in ("sum", "none", None))

    def call(self, y_true: Any, y_pred: Any) -> Tensor:
        """Return the rows `[B]`, neither weighted nor reduced, of the batch that is given."""
        return self._function(y_true, y_pred, **self._arguments)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {**super().get_config(), **self._arguments, "across_replicas": self.across_replicas}

    @property
    def _arguments(self) -> dict[str, Any]:
        return {**{name: getattr(self, name) for name in self._parameters}, "tile": self.tile}
