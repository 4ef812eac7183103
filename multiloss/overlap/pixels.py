"""What the losses of single pixels are made of: logarithms of probabilities, and means over pixels."""

import dataclasses

from keras import ops

from multiloss.checks import Tensor
from multiloss.overlap import engine
from multiloss.overlap.engine import Masks
from multiloss.overlap.options import OverlapOptions

# What probabilities are kept from 0 and 1. float32 has 1 minus it exactly, which it has not of 1e-7.
_EPSILON = 2.0**-23


def logs(m: Masks, options: OverlapOptions) -> tuple[Tensor, Tensor | None]:
    """Logarithms of p and of 1 - p; from logits the latter is of no use, and None, if classes exclude each other."""
    if m.logits is None:
        p = ops.clip(m.p, _EPSILON, 1 - _EPSILON)
        return ops.log(p), ops.log1p(-p)
    if options.mode == "multiclass":
        return ops.log_softmax(m.logits, axis=-1), None
    return ops.log_sigmoid(m.logits), ops.log_sigmoid(-m.logits)


def focused(log_p: Tensor, gamma: float) -> Tensor:
    """Return `-(1 - p)^gamma log(p)`."""
    return -log_p if gamma == 0 else -engine.power(-ops.expm1(log_p), gamma) * log_p


def mean(losses: Tensor, m: Masks, options: OverlapOptions) -> Tensor:
    """Mean of `[B, ..., C]` over pixels, and over classes, which are added up if they exclude each other."""
    apart = dataclasses.replace(options, over="batch" if options.whole_batch else "sample")
    weights = engine.class_weights(m, apart)
    each = engine.ratio(engine.totals(m, apart, (losses,))[0], engine.pixels(m, apart))
    values = ops.sum(each * weights, axis=1)
    if options.mode != "multiclass":
        values = values / ops.sum(weights)
    return values[0] if options.whole_batch else values
