"""Matrix products in float32 on hardware that may round their inputs.

By default, accelerators round the inputs of a float32 product to 8 bits (bfloat16) or 11 bits (TF32). On JAX, which
would round them for some shapes only, each product requests full precision. TensorFlow and torch have one global
setting, which belongs to the user: there a test product on the device detects rounding at each call, except on
TensorFlow without accelerators. If inputs are rounded, they are split into three parts of 8 bits each and multiplied
part by part, which restores float32 precision.
"""

from keras import ops

from multiloss import _frameworks
from multiloss._arguments import Tensor


def are_exact(t: Tensor, others: Tensor) -> Tensor:
    """Return whether a test product of a tile's size keeps the precision of float32: bool, a scalar."""
    # A 1 that depends on the data: a compiler may evaluate a product of constants in another precision.
    finer = ops.max(ops.abs(t)) + 2.0**-20
    if not _frameworks.may_round_products():
        # True, but not a compile-time constant: a compiler would inline a loop that is known to run once, and round
        # coincident points in two ways.
        return ops.logical_not(finer < 0)
    first = ops.cast(ops.equal(ops.arange(ops.shape(others)[1], dtype="int32"), 0), t.dtype)
    ones = ops.ones((ops.shape(others)[1], ops.shape(t)[1] + 1), dtype=t.dtype)
    return ops.all(ops.equal(product(ops.zeros_like(others) + finer * first, ones), finer))


def product(a: Tensor, b: Tensor) -> Tensor:
    """Return the product in the dtype of its inputs, in the precision of the hardware."""
    result = _frameworks.product(a, b)
    if result.dtype == a.dtype:
        return result
    # Under autocast, which rounds inputs and results to half precision, but does not change float64.
    return ops.cast(ops.cast(a, "float64") @ ops.cast(b, "float64"), a.dtype)


def emulated(a: Tensor, b: Tensor) -> Tensor:
    """Return the product in float32 precision on hardware that rounds inputs to 8 bits."""
    a1, a2, a3 = _parts(a)
    b1, b2, b3 = _parts(b)
    return product(ops.concatenate([a3, a2, a1, a2, a1, a1], axis=1), ops.concatenate([b1, b2, b3, b1, b2, b1], axis=0))


def _parts(a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Split `a` into three tensors of 8 bits each, whose sum it is."""
    parts = []
    for _ in range(2):
        shifted = a * (2.0**16 + 1)
        parts.append(shifted - (shifted - a))
        a = a - parts[-1]
    return parts[0], parts[1], a
