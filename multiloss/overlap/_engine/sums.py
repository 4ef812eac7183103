"""Sums over the pixels of each ratio: true positives, false positives, false negatives, true negatives, pixels."""

import functools
import operator
from collections.abc import Sequence
from typing import Any

from keras import backend, ops

from multiloss import distribution
from multiloss._arguments import Tensor
from multiloss.overlap._engine.inputs import Masks
from multiloss.overlap._engine.options import Options

_BLOCKS = 512


class Counts:
    """Sums over the pixels of each ratio, `[R, C]`: R = B, or 1 for a whole batch; C the classes that count, or 1.

    Attributes:
        tp: true positives, `sum(t p)`.
        fp: false positives, `sum((1 - t) p)`.
        fn: false negatives, `sum(t (1 - p))`.
        tn: true negatives, `sum((1 - t) (1 - p))`.
        pixels: the number of pixels, or the sum of their weights.
        absent: booleans, whether there is no truth.

    With `squared`, fp and fn are sums of squares minus tp; with `soft_label`, tp is a sum of minima. tn is a sum of
    products in any case. fp and fn are differences, within 1e-6 of the sums.

    Examples:
        >>> from multiloss.losses import OverlapLoss
        >>> class MissedShare(OverlapLoss):
        ...     def losses(self, counts):
        ...         return self.ratio(counts.fn, counts.tp + counts.fn)
        >>> float(MissedShare()([[1, 1, 0]], [[0.5, 1.0, 0.0]]))
        0.25
    """

    def __init__(self, m: Masks, options: Options):
        self._masks, self._options = m, options
        self.weighted = m.weight is not None
        p = thresholded(m.p, options.thresh)
        self._p = p
        times = 2 if options.squared else 1
        products = [(m.t, p), (m.t,) * times, (p,) * times]
        if m.raw is not m.t:
            products.append((m.raw,))
        if options.soft_label:  # Wang et al. 2023, "Dice semimetric losses", arXiv:2303.16296
            products[0] = (absolute(m.t - p),)
        tp, truth, found, *raw = totals(m, options, *products)
        self.tp = (truth + found - tp) / 2 if options.soft_label else tp
        self.fp, self.fn = found - self.tp, truth - self.tp
        self.pixels = pixels(m, options)
        self.absent = ops.equal(raw[0] if raw else truth, 0)

    @property
    def tn(self) -> Tensor:
        """True negatives, added up by themselves: as a difference of large sums they would be lost to rounding."""
        return totals(self._masks, self._options, (1 - self._masks.t, 1 - self._p))[0]

    def weighted_sum(self, weights: Tensor) -> "Counts":
        """Return the counts of all classes as one, each times its weight `[R, C]`; absent if all are."""
        result: Counts = object.__new__(Counts)
        for name in ("tp", "fp", "fn", "pixels"):
            setattr(result, name, ops.sum(weights * getattr(self, name), axis=1, keepdims=True))
        result.absent, result.weighted = ops.all(self.absent, axis=1, keepdims=True), self.weighted
        return result


def absolute(x: Tensor) -> Tensor:
    """Return |x|, with a gradient of 0 at 0, where JAX's is 1."""
    return x * ops.stop_gradient(ops.sign(x))


def thresholded(p: Tensor, thresh: float | None) -> Tensor:
    """Return `p > thresh` as numbers, with the gradient of `p`."""
    if thresh is None:
        return p
    # Added last, the difference is exactly 0 (or NaN) in the value and 1 in the slope.
    return ops.cast(p > thresh, p.dtype) + (p - ops.stop_gradient(p))


def totals(m: Masks, options: Options, *products: tuple[Tensor, ...], pooled: bool | None = None) -> list[Tensor]:
    """Sum each product of factors `[B, ..., C]` over the pixels of each ratio, classes pooled or not."""
    weight = () if m.weight is None else (ops.broadcast_to(m.weight, ops.shape(m.p)),)
    return _of_ratios(add_up([(*product, *weight) for product in products]), options, pooled)


def pixels(m: Masks, options: Options, pooled: bool | None = None) -> Tensor:
    """Return the number of pixels of each ratio, or the sum of their weights."""
    if m.weight is not None:
        # Not ones times the weights: for an empty batch, TensorFlow's optimised graph of that crashes.
        return totals(m, options, (), pooled=pooled)[0]
    shape = ops.shape(m.p)
    each = ops.cast(functools.reduce(operator.mul, shape[1:-1], 1), m.p.dtype)
    return _of_ratios([ops.ones((shape[0], shape[-1]), dtype=m.p.dtype) * each], options, pooled)[0]


def _of_ratios(sums: list[Tensor], options: Options, pooled: bool | None) -> list[Tensor]:
    """Sums of samples and classes `[B, C]` -> those of each ratio."""
    classes = sums[0].shape[1]
    indices = options._counted(classes)
    pooled = options.average == "micro" if pooled is None else pooled
    if indices != list(range(classes)):
        sums = [ops.take(part, indices, axis=1) for part in sums]
    if pooled and options.class_weight is not None:
        sums = [part * _class_weights(part, indices, options) for part in sums]
    axes = (0,) * options.batch + (1,) * pooled
    sums = [ops.sum(part, axis=axes, keepdims=True) for part in sums] if axes else sums
    across = options.batch and options.across_replicas
    return distribution.added_up(sums, across) if across else sums


def columns(x: Tensor, options: Options) -> Tensor:
    """`[B, ..., C]` -> the pixels of each ratio, `[R, N, C]`, unweighted."""
    indices = options._counted(x.shape[-1])
    x = x if indices == list(range(x.shape[-1])) else ops.take(x, indices, axis=-1)
    shape, pooled = ops.shape(x), options.average == "micro"
    size = functools.reduce(operator.mul, shape[1:-1], len(indices) if pooled else 1)
    batch, size = (1, shape[0] * size) if options.batch else (shape[0], size)
    return ops.reshape(x, (batch, size, 1 if pooled else len(indices)))


def class_weights(m: Masks, options: Options) -> Tensor:
    """Return the weights `[C]` of the classes that count."""
    return _class_weights(m.p, options._counted(m.p.shape[-1]), options)


def _class_weights(like: Tensor, indices: Sequence[int], options: Options) -> Tensor:
    weights = [1.0] * len(indices) if options.class_weight is None else [options.class_weight[c] for c in indices]
    return ops.convert_to_tensor(weights, dtype=like.dtype)


def add_up(products: list[tuple[Tensor, ...]]) -> list[Tensor]:
    """Sum each product of factors over all axes but the first and the last: `[B, ..., C]` -> `[B, C]`.

    In blocks: XLA on a CPU adds floats one by one, which in float32 is off by up to 5e-4 after some million. A factor
    is cut into blocks once, before it is multiplied: to cut products takes XLA twice the time, and to cut for each
    product takes TensorFlow's graph half as much again. torch adds in a cascade, and is slow in blocks.
    """
    shape = ops.shape(products[0][0])
    batch, classes, axes = shape[0], shape[-1], tuple(range(1, len(shape) - 1))
    size = functools.reduce(operator.mul, shape[1:-1], 1)
    known = isinstance(size, int)
    if backend.backend() == "torch" or (known and size < 2 * _BLOCKS):
        multiplied = [_multiply(product) for product in products]
        return [ops.sum(x, axis=axes) if axes else x for x in multiplied]

    n = (_divisor(size) or _BLOCKS) if known else _BLOCKS
    rows, rest = size // n, size % n
    blocks: tuple[Any, ...] = (batch, rows, n * classes)
    # Long rows are split once more, since some processors add their elements one by one.
    m = _divisor(rows) or 1 if known and rows >= 2 * _BLOCKS else 1
    if m > 1:
        blocks = (batch, m, rows // m, n * classes)
    heads = {id(x): x for product in products for x in product}
    tails = {}
    if not known or rest:
        flat = {key: ops.reshape(x, (batch, size * classes)) for key, x in heads.items()}
        heads = {key: x[:, : rows * n * classes] for key, x in flat.items()}
        tails = {key: ops.reshape(x[:, rows * n * classes :], (batch, rest, classes)) for key, x in flat.items()}
    heads = {key: ops.reshape(x, blocks) for key, x in heads.items()}

    sums = []
    for product in products:
        x = _multiply([heads[id(factor)] for factor in product])
        if m > 1:
            x = ops.sum(x, axis=2)
            x = x + 0 * ops.stop_gradient(x[:, :1])  # as below
        x = ops.reshape(ops.sum(x, axis=1), (batch, n, classes))
        # Adding a 0 that XLA cannot simplify keeps it from merging the two sums into one long one.
        x = ops.sum(x + 0 * ops.stop_gradient(x[:, :1]), axis=1)
        sums.append(x + ops.sum(_multiply([tails[id(factor)] for factor in product]), axis=1) if tails else x)
    return sums


def _divisor(size: int) -> int | None:
    return next((n for n in range(_BLOCKS, _BLOCKS // 2, -1) if size % n == 0), None)


def _multiply(factors: Sequence[Tensor]) -> Tensor:
    return functools.reduce(operator.mul, factors)
