"""What every overlap loss is made of: true positives, false positives and false negatives, and means over classes.

`masks` brings truth and predictions of any mode into one form; `counts` adds them up over the pixels of each ratio;
`tversky_loss` is the ratio that most of the family shares; `mean` makes values of samples out of those of classes.
Everything is computed in float32 or better, whatever the inputs are.
"""

import functools
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
from keras import backend, ops

from multiloss import checks
from multiloss.checks import Tensor
from multiloss.overlap.options import OverlapOptions

_BLOCKS = 512
# The least number that float32 has all digits of, and one whose square float32 has.
_TINY = 2.0**-126
_SMALL = 2.0**-60


class Masks(NamedTuple):
    """Truth and predictions, classes last; in binary mode there is one class."""

    t: Tensor  # [B, ..., C], after label smoothing
    p: Tensor  # [B, ..., C], probabilities
    logits: Tensor | None  # [B, ..., C], where predictions are logits
    weight: Tensor | None  # [B, ..., 1 or C], of each pixel, axes of pixels may be 1; None if all are 1
    raw: Tensor  # t before label smoothing


class Counts(NamedTuple):
    """Sums over the pixels of each ratio: `[R, C]`, for R = B or 1 and C the classes that count, or 1."""

    tp: Tensor
    fp: Tensor
    fn: Tensor
    pixels: Tensor
    absent: Tensor  # bool: no truth
    masked: bool  # whether pixels may count for nothing


# --- truth, predictions and masks in one form ------------------------------------------------------------------------


def masks(y_true: Any, y_pred: Any, mask: Any, options: OverlapOptions) -> Masks:
    """Check truth, predictions and masks, and bring them into one form.

    `mask` is None, one mask, or a dict of masks by their names.
    """
    x, truth = checks.floats("y_pred", y_pred), checks.classes("y_true", y_true)
    if not len(x.shape):
        raise ValueError("`y_pred` must have shape [B, ...]. Received a scalar")
    first = False
    if options.mode != "binary":
        if len(x.shape) < 2:
            raise ValueError(f"`y_pred` must have shape [B, ..., C] in {options.mode} mode. Received: {tuple(x.shape)}")
        first = (options.data_format or keras.config.image_data_format()) == "channels_first"
        truth = ops.moveaxis(truth, 1, -1) if first and len(truth.shape) == len(x.shape) else truth
        x = ops.moveaxis(x, 1, -1) if first else x
        _check_classes(x, options)
    weights = [_weight(name, given, x, options, first) for name, given in _named(mask).items()]
    labels, ignored, zeros = _labels(truth, x, options)
    if ignored is not None:
        weights.append(ops.cast(ops.logical_not(ignored), x.dtype))
    t = ops.cast(labels, x.dtype)
    t = sum((ops.cast(zero, x.dtype) for zero in zeros), start=t)
    if options.mode == "binary":
        # Not `[..., None]`, which TensorFlow takes for a slice, with a gradient that it copies.
        t, x, *weights = (ops.expand_dims(tensor, -1) for tensor in (t, x, *weights))

    raw, smoothing = t, options.label_smoothing
    if smoothing:
        t = t * (1 - smoothing) + smoothing / (x.shape[-1] if options.mode == "multiclass" else 2)
    weight = functools.reduce(operator.mul, weights) if weights else None
    if not options.from_logits:
        return Masks(t, x, None, weight, raw)
    p = ops.softmax(x, axis=-1) if options.mode == "multiclass" else ops.sigmoid(x)
    return Masks(t, p, x, weight, raw)


def _named(mask: Any) -> dict[str, Any]:
    if mask is None:
        return {}
    return mask if isinstance(mask, dict) else {"mask": mask}


def _check_classes(x: Tensor, options: OverlapOptions) -> None:
    classes, least = x.shape[-1], 2 if options.mode == "multiclass" else 1
    if classes is None or classes < least:
        raise ValueError(
            f"`y_pred` must have a class axis of known size >= {least} in {options.mode} mode, by `data_format`. "
            f"Received size: {classes}"
        )
    if options.classes is not None and max(options.classes) >= classes:
        raise ValueError(f"`classes` must be less than the {classes} classes of `y_pred`. Received: {options.classes}")
    if classes == 1 and not options.include_background:
        raise ValueError("`include_background=False` leaves no class. Expected 2 or more in `y_pred`. Received: 1")
    if options.class_weight is not None and len(options.class_weight) != classes:
        raise ValueError(
            f"`class_weight` must have one number for each of the {classes} classes of `y_pred`. "
            f"Received: {len(options.class_weight)}"
        )
    if options.class_weight is not None and not sum(options.class_weight[c] for c in counted(classes, options)):
        raise ValueError(
            f"`class_weight` must have one number > 0 among the classes that count. Received: {options.class_weight}"
        )


def _weight(name: str, given: Any, x: Tensor, options: OverlapOptions, first: bool) -> Tensor:
    """Weights that fit `x`, of all its axes: given for the leading axes, for pixels, or for pixels and classes."""
    rank = len(x.shape)
    given = checks.floats(name, given)
    if options.mode != "binary":
        if len(given.shape) == rank:
            given = ops.moveaxis(given, 1, -1) if first else given
        else:
            x = x[..., 0]
    weight = ops.cast(checks.weights(name, given, x, axes=len(x.shape)), x.dtype)
    return ops.reshape(weight, (*ops.shape(weight), *[1] * (rank - len(weight.shape))))


def _labels(truth: Tensor, x: Tensor, options: OverlapOptions) -> tuple[Tensor, Tensor | None, list[Tensor]]:
    """Truth in the shape of `x`, which pixels are to be ignored, and zeros that raise if sizes do not fit."""
    dtype = backend.standardize_dtype(truth.dtype)
    whole = "int" in dtype or dtype == "bool"
    ignore = options.ignore_index
    if ignore is not None and not whole:
        raise ValueError(
            "`ignore_index` needs `y_true` of integers or booleans: floats may be soft labels, for which there is "
            f"`mask`. Received dtype: {dtype}"
        )
    indices = options.mode == "multiclass" and (
        len(truth.shape) == len(x.shape) - 1 or (len(truth.shape) == len(x.shape) and truth.shape[-1] == 1)
    )
    if indices:
        if not whole:
            raise TypeError(f"`y_true` must be integers where it has no class axis. Received dtype: {dtype}")
        truth = ops.cast(truth if len(truth.shape) == len(x.shape) else ops.expand_dims(truth, -1), "int32")
        zeros = checks.same_shape("y_true", truth, "y_pred", x[..., :1])
        return (
            ops.equal(truth, ops.arange(x.shape[-1], dtype="int32")),
            None if ignore is None else ops.equal(truth, ignore),
            zeros,
        )
    zeros = checks.same_shape("y_true", truth, "y_pred", x)
    if ignore is None:
        return truth, None, zeros
    if options.mode != "multiclass":
        ignored = ops.equal(ops.cast(truth, "int32"), ignore)
        return ops.where(ignored, ops.zeros_like(truth), truth), ignored, zeros
    if not 0 <= ignore < x.shape[-1]:
        raise ValueError(
            f"`ignore_index` must be one of the {x.shape[-1]} classes of one-hot `y_true`. Received: {ignore}"
        )
    return truth, ops.not_equal(truth[..., ignore : ignore + 1], 0), zeros


# --- sums over pixels ------------------------------------------------------------------------------------------------


def counts(m: Masks, options: OverlapOptions) -> Counts:
    """Add up true positives, false positives, false negatives and pixels."""
    p = thresholded(m.p, options.thresh)
    times = 2 if options.squared else 1
    smoothed = [] if m.raw is m.t else [(m.raw,)]
    tp, truth, found, *raw = totals(m, options, (m.t, p), (m.t,) * times, (p,) * times, *smoothed)
    present = raw[0] if raw else truth
    return Counts(tp, found - tp, truth - tp, pixels(m, options), ops.equal(present, 0), m.weight is not None)


def thresholded(p: Tensor, thresh: float | None) -> Tensor:
    """Return `p > thresh` as numbers, with the gradient of `p`."""
    if thresh is None:
        return p
    # Added last, the difference is exactly 0 (or NaN) in the value and 1 in the slope.
    return ops.cast(p > thresh, p.dtype) + (p - ops.stop_gradient(p))


def totals(m: Masks, options: OverlapOptions, *products: tuple[Tensor, ...]) -> list[Tensor]:
    """Sum each product of factors `[B, ..., C]` over the pixels of each ratio."""
    weight = () if m.weight is None else (ops.broadcast_to(m.weight, ops.shape(m.p)),)
    return [_ratios(sums, options) for sums in add_up([(*product, *weight) for product in products])]


def pixels(m: Masks, options: OverlapOptions) -> Tensor:
    """How many pixels each ratio has, by their weights."""
    if m.weight is not None:
        # Not ones times the weights: of an empty batch, TensorFlow's optimised graph of that kills the process.
        return totals(m, options, ())[0]
    shape = ops.shape(m.p)
    each = ops.cast(functools.reduce(operator.mul, shape[1:-1], 1), m.p.dtype)
    return _ratios(ops.ones((shape[0], shape[-1]), dtype=m.p.dtype) * each, options)


def _ratios(sums: Tensor, options: OverlapOptions) -> Tensor:
    """Sums of samples and classes `[B, C]` -> those of each ratio."""
    classes = sums.shape[1]
    indices = counted(classes, options)
    if indices != list(range(classes)):
        sums = ops.take(sums, indices, axis=1)
    merged = options.over in ("class", "all")
    if merged and options.class_weight is not None:
        sums = sums * _class_weights(sums, indices, options)
    axes = (0,) * options.whole_batch + (1,) * merged
    return ops.sum(sums, axis=axes, keepdims=True) if axes else sums


def columns(x: Tensor, options: OverlapOptions) -> Tensor:
    """`[B, ..., C]` -> the pixels of each ratio, `[R, N, C]`, unweighted."""
    indices = counted(x.shape[-1], options)
    x = x if indices == list(range(x.shape[-1])) else ops.take(x, indices, axis=-1)
    shape, merged = ops.shape(x), options.over in ("class", "all")
    size = functools.reduce(operator.mul, shape[1:-1], len(indices) if merged else 1)
    batch, size = (1, shape[0] * size) if options.whole_batch else (shape[0], size)
    return ops.reshape(x, (batch, size, 1 if merged else len(indices)))


def counted(classes: int, options: OverlapOptions) -> list[int]:
    """Return the indices of the classes that count."""
    if options.classes is not None:
        return list(options.classes)
    return list(range(0 if options.include_background else 1, classes))


def class_weights(m: Masks, options: OverlapOptions) -> Tensor:
    """Return the weights `[C]` of the classes that count."""
    return _class_weights(m.p, counted(m.p.shape[-1], options), options)


def _class_weights(like: Tensor, indices: Sequence[int], options: OverlapOptions) -> Tensor:
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
    blocks: tuple[Any, ...]
    blocks, axis = ((batch, n, rows), 2) if classes == 1 else ((batch, rows, n * classes), 1)
    # Rows of many pixels are too long as well, since some processors add them one by one.
    m = _divisor(rows) or 1 if known and rows >= 2 * _BLOCKS else 1
    if m > 1:
        blocks = (batch, n, m, rows // m) if classes == 1 else (batch, m, rows // m, n * classes)
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
            x = ops.sum(x, axis=3 if classes == 1 else 2)
            x = x + 0 * ops.stop_gradient(x[:, :1])  # as below
        x = ops.reshape(ops.sum(x, axis=axis), (batch, n, classes))
        # A term of 0 that XLA does not see through: it would make one long sum of the two.
        x = ops.sum(x + 0 * ops.stop_gradient(x[:, :1]), axis=1)
        sums.append(x + ops.sum(_multiply([tails[id(factor)] for factor in product]), axis=1) if tails else x)
    return sums


def _divisor(size: int) -> int | None:
    return next((n for n in range(_BLOCKS, _BLOCKS // 2, -1) if size % n == 0), None)


def _multiply(factors: Sequence[Tensor]) -> Tensor:
    return functools.reduce(operator.mul, factors)


# --- ratios, and their means -----------------------------------------------------------------------------------------


def tversky_loss(c: Counts, alpha: float, beta: float, options: OverlapOptions) -> Tensor:
    """`1 - (tp + s / 2) / (tp + alpha fp + beta fn + s / 2)` of each ratio, or by `empty` where it has no truth."""
    above, below = (part / 2 for part in options.smoothing)
    wrong = alpha * c.fp + beta * c.fn
    whole = c.tp + wrong + below
    return where_empty(ratio(wrong + (below - above), whole, least=below), c, options)


def where_empty(losses: Tensor, c: Counts, options: OverlapOptions) -> Tensor:
    """Losses of ratios, replaced by what `empty` says where there is no truth, and by 0 where there are no pixels."""
    if options.empty == "penalize":
        losses = ops.where(c.absent, ratio(c.tp + c.fp, c.pixels), losses)
    elif options.empty != "formula":
        losses = ops.where(c.absent, ops.full_like(losses, 1.0 if options.empty == "zero" else 0.0), losses)
    return ops.where(ops.equal(c.pixels, 0), ops.zeros_like(losses), losses) if c.masked else losses


def mean(losses: Tensor, c: Counts, m: Masks, options: OverlapOptions) -> Tensor:
    """Mean over the classes of each ratio, weighted: `[R, C]` -> `[B]`, or a scalar if it is of the whole batch."""
    skip = c.absent if options.empty == "skip" else None
    if losses.shape[1] == 1:
        losses = losses if skip is None else ops.where(skip, ops.zeros_like(losses), losses)
        losses = losses[:, 0]
    else:
        weights = ops.broadcast_to(class_weights(m, options), ops.shape(losses))
        weights = weights if skip is None else ops.where(skip, ops.zeros_like(weights), weights)
        losses = ratio(ops.sum(losses * weights, axis=1), ops.sum(weights, axis=1))
    return losses[0] if options.whole_batch else losses


def ratio(above: Tensor, below: Tensor, *, least: float = 0.0, nothing: float = 0.0) -> Tensor:
    """Divide, and return `nothing`, with a gradient of 0, where the denominator is 0 or nearly so.

    There is no need to look if the denominator is never less than a `least` of some size.
    """
    if least > _SMALL:
        return above / below
    empty = ops.abs(below) < _TINY
    below = ops.where(empty, ops.ones_like(below), below)
    # Small ones in another unit: the square of the denominator, by which a gradient divides, may be 0 in float32.
    unit = ops.where(ops.abs(below) < _SMALL, 2.0**64 * ops.ones_like(below), ops.ones_like(below))
    return ops.where(empty, ops.full_like(above, nothing), (above * unit) / (below * unit))


def power(x: Tensor, exponent: float) -> Tensor:
    """`x ** exponent` for x >= 0, with a gradient of 0 at 0 or nearly there, where it may be infinite."""
    if exponent == 1:
        return x
    zero = x < _TINY  # which NaN is not
    return ops.where(zero, ops.zeros_like(x), ops.where(zero, ops.ones_like(x), x) ** exponent)
