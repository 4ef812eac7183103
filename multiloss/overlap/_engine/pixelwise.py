"""Losses of single pixels: logarithms of probabilities, and means over pixels."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from multiloss._arguments import Tensor
from multiloss.overlap._engine import ratios, sums
from multiloss.overlap._engine.inputs import Masks
from multiloss.overlap._engine.options import Mode, Options

# Probabilities are clipped to [2^-23, 1 - 2^-23]. float32 represents both exactly, unlike 1 - 1e-7.
_EPSILON = 2.0**-23


def logarithms(m: Masks) -> tuple[Tensor, Tensor | None]:
    """Return log(p) and log(1 - p); the latter is None for logits of exclusive classes, where it is not needed."""
    if m.logits is None:
        p = ops.clip(m.p, _EPSILON, 1 - _EPSILON)
        return ops.log(p), ops.log1p(-p)
    if m.mode == "multiclass":
        return ops.log_softmax(m.logits, axis=-1), None
    return ops.log_sigmoid(m.logits), ops.log_sigmoid(-m.logits)


def focused(log_p: Tensor, gamma: float) -> Tensor:
    """Return `-(1 - p)^gamma log(p)`."""
    return -log_p if gamma == 0 else -ratios.power(-ops.expm1(log_p), gamma) * log_p


def focal_losses(m: Masks, gamma: float, positive: Any = None, negative: Any = None) -> Tensor:
    """Focal loss of each pixel and class, its two terms weighted; cross-entropy for a gamma of 0."""
    log_p, log_q = logarithms(m)
    losses = m.t * focused(log_p, gamma)
    losses = losses if positive is None else losses * positive
    if m.mode == "multiclass":
        return losses
    others = (1 - m.t) * focused(log_q, gamma)
    return losses + (others if negative is None else others * negative)


def mean(losses: Tensor, m: Masks, options: Options, *, weighted: bool = False) -> Tensor:
    """Mean of `[B, ..., C]` over pixels, and over classes, which are added up if they exclude each other: `[R]`.

    `weighted`: divided by the weights of the classes of pixels, before label smoothing, not by their number.
    """
    weights = sums.class_weights(m, options)
    if weighted:
        above, below = (
            ops.sum(part * weights, axis=1) for part in sums.totals(m, options, (losses,), (m.raw,), pooled=False)
        )
        return ratios.ratio(above, below)
    total, pixels = sums.totals(m, options, (losses,), pooled=False)[0], sums.pixels(m, options, pooled=False)
    values = ops.sum(ratios.ratio(total, pixels) * weights, axis=1)
    return values if m.mode == "multiclass" else values / ops.sum(weights)


def refuse_modes(m: Masks, takes: Sequence[Mode], **given: Any) -> None:
    """Raise for an argument that the mode does not support."""
    for name, value in given.items():
        if value is not None and m.mode not in takes:
            raise ValueError(f"`{name}` is for `mode` {' and '.join(map(repr, takes))}. Received: {m.mode!r}")


def of_classes(name: str, value: float | Sequence[float], m: Masks) -> Tensor:
    """Return a number for all classes, or one for each of them, `[C]`."""
    classes = m.p.shape[-1]
    if isinstance(value, Sequence) and len(value) != classes:
        raise ValueError(f"`{name}` must be one number, or one for each of {classes} classes. Received: {len(value)}")
    return ops.convert_to_tensor(value, dtype=m.p.dtype)
