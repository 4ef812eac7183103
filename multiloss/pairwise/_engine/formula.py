"""The formula of a loss in the form that the engine needs: parameters are data, everything else is static."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

from keras import ops

from multiloss import _arguments, _frameworks
from multiloss._arguments import Tensor

Values = tuple[Tensor, ...]


class Side(NamedTuple):
    """One side of the pairs."""

    x: Tensor  # [N, D]; rows excluded from all pairs are replaced by one that is not
    apart: Tensor | None  # [N], what to add to the squared distance of each pair of the row, or None
    labels: Tensor  # [N, K]
    kept: Tensor | None  # [N], 1, or 0 for excluded rows; None if all are kept


def same_label(rows: Tensor, columns: Tensor) -> Tensor:
    """Return whether labels `[T, K]` and `[W, K]` are the same: `[T, W]`."""
    if rows.shape[1] == 1:
        return rows == columns[:, 0]  # faster than `ops.equal` for few pairs in eager mode
    return ops.all(ops.equal(rows[:, None], columns), axis=-1)


@dataclasses.dataclass(frozen=True)
class Formula:
    """A loss without the values of its parameters. Losses that differ only in these are equal, and compiled once.

    The methods `values` and `row` are called on an object whose only attributes are the arguments of the constructor,
    with parameters as tensors.
    """

    kind: Any  # the class of the loss
    parameters: tuple[str, ...]
    learned: tuple[bool, ...]  # whether each parameter gets a gradient
    constants: tuple[tuple[str, Any], ...]

    @property
    def reductions(self) -> tuple[str, ...]:
        """The reduction of each value of a pair."""
        return tuple(self.kind.reductions)

    @property
    def is_differentiable(self) -> bool:
        """Whether the loss or the framework provides derivatives."""
        return hasattr(self.kind, "slopes") or _frameworks.differentiates()

    def bound(self, parameters: Sequence[Tensor]) -> Any:
        """Return the loss with the values of its parameters."""
        loss = self.kind.__new__(self.kind)
        for name, value in (*self.constants, *zip(self.parameters, parameters, strict=True)):
            setattr(loss, name, value)
        return loss

    def values(self, distance: Tensor, positive: Tensor, parameters: Sequence[Tensor]) -> tuple[Values, Any]:
        """Return the values of pairs, and for each the pairs that it applies to, None for all."""
        values = self.bound(parameters).values(distance, positive)
        if not isinstance(values, (tuple, list)) or len(values) != len(self.reductions):
            got = len(values) if isinstance(values, (tuple, list)) else type(values).__name__
            self._refuse(distance, f"Received: {got}")
        parts = [tuple(value) if isinstance(value, (tuple, list)) else (value,) for value in values]
        for part in parts:
            if len(part) not in (1, 2):
                self._refuse(distance, f"Received one of {len(part)}")
            for tensor in part:
                if not _arguments.has_shape(tensor, distance):
                    self._refuse(distance, f"Received {_arguments.described(tensor)}")
        floats = (
            value if name == "count" or value.dtype == distance.dtype else ops.cast(value, distance.dtype)
            for name, (value, *_) in zip(self.reductions, parts, strict=True)
        )
        return tuple(floats), tuple(part[1] if len(part) == 2 else None for part in parts)

    def _refuse(self, distance: Tensor, received: str) -> NoReturn:
        raise ValueError(
            f"`{self.kind.__name__}.values` must return a tuple of {len(self.reductions)}, one for each of "
            f"`reductions`, each a tensor with the shape of `distance`, {tuple(distance.shape)}, or a tuple of two "
            f"such tensors: a value, and the pairs for which it counts. {received}"
        )

    def differentiated(
        self, distance: Tensor, positive: Tensor, parameters: Sequence[Tensor]
    ) -> tuple[Values, Any, Callable[[Sequence[Tensor]], tuple[Tensor, Sequence[Tensor]]]]:
        """Return the result of `values`, and a function that takes the upstream gradients of the values.

        That function returns the gradient by each distance, and by each learned parameter.
        """
        if hasattr(self.kind, "slopes") and not any(self.learned):
            values, which = self.values(distance, positive, parameters)
            slopes = self.bound(parameters).slopes(distance, positive)

            def pull(upstream: Sequence[Tensor]) -> tuple[Tensor, Sequence[Tensor]]:
                given = (g * s for g, s in zip(upstream, slopes, strict=True) if s is not None and g is not None)
                return sum(given, start=ops.zeros_like(distance)), ()

            return values, which, pull

        # The values of a "count" have no derivative.
        real = [name != "count" for name in self.reductions]

        def function(distance: Tensor, *learned: Tensor) -> tuple[Values, Any]:
            given = iter(learned)
            every = [next(given) if new else old for old, new in zip(parameters, self.learned, strict=True)]
            values, which = self.values(distance, positive, every)
            counted = [None if is_real else value for is_real, value in zip(real, values, strict=True)]
            return tuple(value for is_real, value in zip(real, values, strict=True) if is_real), (counted, which)

        learned = [parameter for parameter, new in zip(parameters, self.learned, strict=True) if new]
        results, (counted, which), pull_back = _frameworks.vjp(function, [distance, *learned])
        given = iter(results)
        values = tuple(next(given) if value is None else value for value in counted)

        def pull_all(upstream: Sequence[Tensor]) -> tuple[Tensor, Sequence[Tensor]]:
            if not any(real):
                return ops.zeros_like(distance), [ops.zeros_like(parameter) for parameter in learned]
            slope, *by_parameter = pull_back([g for is_real, g in zip(real, upstream, strict=True) if is_real])
            return slope, by_parameter

        return values, which, pull_all
