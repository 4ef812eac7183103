"""What every pairwise loss is made of: for all pairs of a batch, the distance and whether the labels are the same.

Distances are sums of squared differences, one feature at a time, never `|x|^2 + |y|^2 - 2xy`, which is faster and loses
every digit where training goes: where the points of one user lie close together. Nothing rests on the precision of a
matrix product, which on accelerators may be lower than that of its inputs. Memory is a few matrices `[B, B]`, time is
O(B^2 D), and O(B^2 D + B D^2) for the gradient.
"""

from typing import Any, NoReturn

from keras import ops

from multiloss.checks import Tensor

# The loop bodies are functions of the module, and what they read is carried along, because JAX compiles a loop again at
# every call outside `jit` if its body is a new closure (measured: 360 ms a step where 13 ms do).


def same(labels: Tensor) -> Tensor:
    """Tell for every pair of rows of labels `[B, K]` whether all K are equal: bool `[B, B]`."""
    batch, columns = ops.shape(labels)
    equal = ops.ones((batch, batch), dtype="bool")
    return ops.fori_loop(0, columns, _compare_column, (equal, labels))[0]


def distances(x: Tensor) -> Tensor:
    """Euclidean distances of all rows of `x` `[B, D]`: `[B, B]`, exactly 0 with gradient 0 where rows coincide.

    Squares are taken relative to the largest entry, and neither overflow nor underflow unless entries differ by a
    factor of 1e18. A row with a NaN or infinity has a distance of NaN to itself. Has first derivatives only, in
    reverse mode; the second raises NotImplementedError.
    """
    return _distances(x)


@ops.custom_gradient  # type: ignore[untyped-decorator]
def _distances(tracked: Tensor) -> tuple[Tensor, Any]:
    # Else TensorFlow, outside a graph, keeps all that the loop computes, B^2 D numbers, for derivatives nobody wants.
    x = ops.stop_gradient(tracked)
    largest = ops.max(ops.abs(x), initial=0)
    scale = ops.where(largest > 0, largest, ops.ones_like(largest))
    batch, features = ops.shape(x)
    zeros = ops.zeros((batch, batch), dtype=x.dtype)
    squares = ops.fori_loop(0, features, _add_square, (zeros, zeros, x, scale))[0]
    distance = scale * ops.sqrt(squares)

    def gradient(*args: Any, upstream: Any = None) -> Tensor:
        upstream = args[-1] if upstream is None else upstream  # torch passes it by name, the others by position
        # Where the distance is 0 the differences are, too.
        divisor = ops.where(ops.equal(distance, 0), ops.ones_like(distance), distance)
        return _pull_back(tracked, upstream + ops.transpose(upstream), divisor)

    return distance, gradient


@ops.custom_gradient  # type: ignore[untyped-decorator]
def _pull_back(x: Tensor, weight: Tensor, distance: Tensor) -> tuple[Tensor, Any]:
    """Gradient `[B, D]` with row i `sum_j weight_ij (x_i - x_j) / distance_ij`."""

    def gradient(*args: Any, upstream: Any = None) -> NoReturn:
        raise NotImplementedError("second derivatives of pairwise distances are not supported")

    columns = ops.zeros_like(ops.transpose(x))
    columns = ops.fori_loop(0, ops.shape(x)[1], _set_column, (columns, x, weight, distance))[0]
    return ops.transpose(columns), gradient


def _compare_column(k: Any, carry: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    equal, labels = carry
    label = ops.take(labels, k, axis=1)
    return ops.logical_and(equal, ops.equal(label[:, None], label[None, :])), labels


def _add_square(k: Any, carry: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    squares, excess, x, scale = carry
    # Scaled after the subtraction, which is exact for close points: before it, x would be rounded. Added with Kahan's
    # compensation: a thousand equal terms are all rounded the same way, which does not average out (1e-5 at D = 4096).
    term = ops.square(_differences(x, k) / scale) - excess
    total = squares + term
    return total, (total - squares) - term, x, scale


def _set_column(k: Any, carry: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    columns, x, weight, distance = carry
    # Divided first: the quotient is at most 1, where weight / distance may overflow.
    column = ops.sum(weight * (_differences(x, k) / distance), axis=1)
    # `slice_update` warns on torch in Keras before 3.15, `scatter_update` fails on TensorFlow for a batch of 0.
    kth = ops.equal(ops.arange(ops.shape(columns)[0], dtype="int32"), k)
    return ops.where(kth[:, None], column[None, :], columns), x, weight, distance


def _differences(x: Tensor, k: Any) -> Tensor:
    column = ops.take(x, k, axis=1)
    return column[:, None] - column[None, :]
