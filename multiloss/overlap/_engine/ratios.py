"""Ratios of counts, the loss of ratios without truth, and means over classes."""

from keras import ops

from multiloss._arguments import Tensor
from multiloss.overlap._engine.inputs import Masks
from multiloss.overlap._engine.options import Options
from multiloss.overlap._engine.sums import Counts, class_weights

# The least number that float32 has all digits of, and one whose square float32 has.
_TINY = 2.0**-126
_SMALL = 2.0**-60


def tversky_loss(c: Counts, alpha: float, beta: float, options: Options) -> Tensor:
    """`1 - (tp + s / 2) / (tp + alpha fp + beta fn + s / 2)` of each ratio."""
    above, below = (part / 2 for part in options.smoothing)
    wrong = alpha * c.fp + beta * c.fn
    found, missed, total = c.tp + above, wrong + (below - above), c.tp + wrong + below
    # The gradient of the larger part of a sum would be the difference of numbers that are nearly equal.
    return ops.where(found < missed, 1 - ratio(found, total, least=below), ratio(missed, total, least=below))


def where_empty(losses: Tensor, c: Counts, options: Options) -> Tensor:
    """Losses of ratios, replaced by what `empty` says where there is no truth, and by 0 where there are no pixels."""
    if options.empty == "penalize":
        losses = ops.where(c.absent, ratio(c.tp + c.fp, c.pixels), losses)
    elif options.empty != "formula":
        losses = ops.where(c.absent, ops.full_like(losses, 1.0 if options.empty == "worst" else 0.0), losses)
    return ops.where(ops.equal(c.pixels, 0), ops.zeros_like(losses), losses) if c.weighted else losses


def mean(losses: Tensor, c: Counts, m: Masks, options: Options) -> Tensor:
    """Mean over the classes of each ratio, weighted: `[R, C]` -> `[R]`, or as they are for `average=None`."""
    skipped = c.absent if options.empty == "skip" else None
    if skipped is not None:
        losses = ops.where(skipped, ops.zeros_like(losses), losses)
    if options.average is None:
        return losses
    if losses.shape[1] == 1:
        return losses[:, 0]
    weights = ops.broadcast_to(class_weights(m, options), ops.shape(losses))
    weights = weights if skipped is None else ops.where(skipped, ops.zeros_like(weights), weights)
    return ratio(ops.sum(losses * weights, axis=1), ops.sum(weights, axis=1))


def ratio(above: Tensor, below: Tensor, *, least: float = 0.0, default: float = 0.0) -> Tensor:
    """Divide, and return `default`, with a gradient of 0, where the denominator is 0 or nearly so.

    `least` is a lower bound of the denominator: above 2^-60, no check is needed.
    """
    if least > _SMALL:
        return above / below
    empty = ops.abs(below) < _TINY
    below = ops.where(empty, ops.ones_like(below), below)
    # Small denominators are scaled up: their square, by which a gradient divides, may underflow in float32.
    unit = ops.where(ops.abs(below) < _SMALL, 2.0**64 * ops.ones_like(below), ops.ones_like(below))
    return ops.where(empty, ops.full_like(above, default), (above * unit) / (below * unit))


def power(x: Tensor, exponent: float) -> Tensor:
    """Return `x ** exponent` for x >= 0, with a gradient of 0 at 0 and close to it, where it may be infinite."""
    if exponent == 1:
        return x
    zero = x < _TINY  # false for NaN
    return ops.where(zero, ops.zeros_like(x), ops.where(zero, ops.ones_like(x), x) ** exponent)
