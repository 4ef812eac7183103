"""The seam where hardware differs: whether a matrix product takes float32 as it is, and what to do where it does not.

Accelerators round the inputs of a float32 product, to 8 bits (bfloat16) or 11 (TF32), unless told otherwise. JAX is
told, and would round in products of some shapes and not in others. The others have one setting, the user's: there one
product finds out, at each call and on the device itself, unless TensorFlow has none but processors. Where inputs are
rounded, they are split into three parts of 8 bits each and multiplied part by part, which is float32 again.
"""

from keras import ops

from multiloss import _frameworks
from multiloss._arguments import Tensor


def are_exact(t: Tensor, others: Tensor) -> Tensor:
    """Tell whether products take float32 as it is, by one of the size of a tile's: bool, a scalar."""
    # A 1 that comes from the data: of constants, a compiler may work out the product in a precision of its own.
    finer = ops.max(ops.abs(t)) + 2.0**-20
    if not _frameworks.may_round_products():
        # True, which no compiler knows in advance: a loop that it knew to run once it would dissolve, and round points
        # that coincide in two ways.
        return ops.logical_not(finer < 0)
    first = ops.cast(ops.equal(ops.arange(ops.shape(others)[1], dtype="int32"), 0), t.dtype)
    ones = ops.ones((ops.shape(others)[1], ops.shape(t)[1] + 1), dtype=t.dtype)
    return ops.all(ops.equal(product(ops.zeros_like(others) + finer * first, ones), finer))


def product(a: Tensor, b: Tensor) -> Tensor:
    """Product in the dtype of its inputs, to the precision of the hardware."""
    result = _frameworks.product(a, b)
    if result.dtype == a.dtype:
        return result
    # Autocast, which rounds inputs and results to half precision but leaves float64 alone.
    return ops.cast(ops.cast(a, "float64") @ ops.cast(b, "float64"), a.dtype)


def emulated(a: Tensor, b: Tensor) -> Tensor:
    """Product to the precision of float32 where its inputs are rounded to 8 bits."""
    a1, a2, a3 = _parts(a)
    b1, b2, b3 = _parts(b)
    return product(ops.concatenate([a3, a2, a1, a2, a1, a1], axis=1), ops.concatenate([b1, b2, b3, b1, b2, b1], axis=0))


def _parts(a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Three tensors of 8 bits each whose sum is `a`."""
    parts = []
    for _ in range(2):
        shifted = a * (2.0**16 + 1)
        parts.append(shifted - (shifted - a))
        a = a - parts[-1]
    return parts[0], parts[1], a
