"""The base class of the overlap losses: a subclass defines the loss of a ratio as a formula of its counts."""

from collections.abc import Sequence
from typing import Any, TypedDict

from keras import ops

from multiloss import _arguments, distribution
from multiloss._arguments import Tensor
from multiloss._base import Loss, divided_by_replicas, keras_mask
from multiloss.overlap._engine import inputs, ranges, ratios
from multiloss.overlap._engine.inputs import Masks
from multiloss.overlap._engine.options import Average, DataFormat, Empty, Mode, Options
from multiloss.overlap._engine.sums import Counts, class_weights


class RatioOptions(TypedDict, total=False):
    """The options of every overlap function; see `OverlapLoss`."""

    mode: Mode | None
    from_logits: bool
    batch: bool
    average: Average | None
    classes: Sequence[int] | None
    include_background: bool
    class_weight: Sequence[float] | None
    ignore_index: int | None
    smooth: float | tuple[float, float]
    squared: bool
    soft_label: bool
    empty: Empty
    label_smoothing: float
    thresh: float | None
    data_format: DataFormat | None
    validate: bool


class OverlapOptions(RatioOptions, total=False):
    """The options of every overlap loss; see `OverlapLoss`."""

    across_replicas: bool | str
    reduction: str | None
    name: str | None
    dtype: Any


class OverlapLoss(Loss, Options):
    """A loss of overlapping masks: a formula of true positives, false positives and false negatives.

    The base class of the overlap losses, and of your own (`docs/write_your_own.md`). A subclass defines

    - `losses(counts)`: the loss `[R, C]` of each ratio, from `counts.tp`, `counts.fp`, `counts.fn`, `counts.tn` and
      `counts.pixels`, all `[R, C]`. R is the batch size, or 1 with `batch=True`; C is the number of classes that count,
      or 1 with `average="micro"`. Two helpers: `self.tversky(counts, alpha, beta)`, the smoothed ratio that most of the
      family shares, and `self.ratio(a, b)`, a quotient that is 0, with a gradient of 0, where b is 0;
    - `transform(losses)`, optional: an elementwise function of these losses, applied after `empty` has set those of
      classes without truth;
    - `__init__`, if there are parameters, which sets each as an attribute of the same name and passes `**options` to
      `super().__init__`.

    Modes, logits, weights, masks, ignored labels, empty truth, averages, config and saving are inherited.

    Args:
        mode: the meaning of the axes. "binary": predictions `[B, ...]` of one class, every axis but the first is an
            axis of pixels; `y_true` has the same shape. "multilabel": predictions `[B, ..., C]` of classes that may
            overlap; `y_true` has the same shape. "multiclass": predictions `[B, ..., C]` of exclusive classes; `y_true`
            is one-hot or soft and has the same shape, or class indices `[B, ...]` or `[B, ..., 1]` from 0 to C - 1,
            integers or whole floats. By default, `y_true` `[B, ...]`, or integers `[B, ..., 1]`, with predictions of
            more than one class is multiclass, and everything else binary. **One-hot truth has the shape of a volume:
            pass the mode.** If `y_true` of three or more axes is one-hot along the class axis, the first call of a loss
            warns, outside of compiled code; functions warn for arrays of NumPy and lists.
        from_logits: whether predictions are logits, which go through a sigmoid (in multiclass mode, through a softmax
            over classes), or probabilities. Probabilities passed as logits give a wrong loss, since a sigmoid maps them
            to 0.5 ... 0.73; that cannot be seen from values.
        batch: whether one ratio is computed over the whole batch, or over each sample. True gives one number.
        average: "macro" for the mean of the losses of classes, "micro" to pool classes in one ratio, None for one value
            per class, `[B, C]`, or `[C]` with `batch=True`.
        classes: None for all, or the indices of the classes that count.
        include_background: False excludes class 0. Cannot be combined with `classes`.
        class_weight: None, or C numbers >= 0, one per class whether it counts or not. With "macro" they weight the mean
            over classes, with "micro" the pixels.
        ignore_index: None, or the integer that marks ignored pixels; for one-hot truth, the ignored class. `y_true`
            must have class indices, or an integer or boolean dtype: other floats may be soft labels, for which there is
            `mask`.
        smooth: a number >= 0, in pixels, or a pair for the numerator and the denominator. It is added to twice the true
            positives, as in `(2 tp + smooth) / (2 tp + fp + fn + smooth)`, and half of it in formulas with a single
            `tp`, so that identities among losses hold for any single `smooth`.
        squared: whether the denominator has sums of squares (Milletari et al. 2016, V-Net, arXiv:1606.04797). With soft
            labels, p = t is the minimum only if `squared=True` and the smoothing terms are equal, or `soft_label=True`.
            Tversky losses support it for equal weights only.
        soft_label: whether tp is `sum(t + p - |t - p|) / 2` instead of `sum(t p)`, so that p = t is the minimum for
            soft labels too (Wang et al. 2023, arXiv:2303.16296). Hard labels give the same loss either way. Cannot be
            combined with `squared`.
        empty: the loss of a class that is absent from `y_true`. "penalize": the mean predicted probability (the mean of
            its square, with `squared=True`). "formula": the result of the formula. "perfect": 0. "worst": 1. "skip": 0,
            excluded from the mean over classes, and a sample without any class also from the mean over samples. Only
            the default is 0 for an empty prediction, grows with the prediction, and has a gradient that does not
            vanish: the formula, with a smooth of a millionth of the pixels, is 1 for the smallest prediction, with
            almost no slope.
        label_smoothing: a number s in [0, 1): truth `t` becomes `t (1 - s) + s / C`, with C = 2 for binary and
            multilabel. Whether a class is absent is decided before.
        thresh: None, or a number in (0, 1): predictions above it count as 1, others as 0, with the straight-through
            gradient of `dice_coef`.
        data_format: "channels_last" `[B, ..., C]` or "channels_first" `[B, C, ...]`; None for Keras's setting. It also
            applies to the class axis of truth and mask.
        validate: whether values are checked: masks outside [0, 1], such as 0 and 255, class indices outside 0..C-1, and
            probabilities outside [0, 1] (by more than 2^-7, the rounding of bfloat16). Arrays of NumPy and lists raise
            ValueError in each call, tensors in the first call of a loss (if all predictions are one number, the first
            four). In compiled code, in later calls, and with `across_replicas`, the value of such a sample is NaN and
            its gradient 0. What has weight 0 and classes that do not count are not checked.
        across_replicas: with `batch=True`, whether counts are summed over all replicas, if the batch is distributed by
            a strategy of `tf.distribute` or over processes of `torch.distributed`: parameters then move as on one
            device. Otherwise each replica has the loss of its own samples, and the result is their mean. Arrays of JAX
            are always global, but within a hand-written `jax.shard_map` or `jax.pmap`: there, the name of the axis of
            the batch. All replicas must take part in each call.
        reduction: as in `keras.losses.Loss`: `"sum_over_batch_size"` (the mean over samples), `"sum"`, `"mean"`,
            `"mean_with_sample_weight"`, or None for the values of samples.
        name: name of the loss; by default the name of the class, such as `dice_loss` for `DiceLoss`.
        dtype: dtype of the computation, Keras's `floatx` by default; half precision is raised to float32.

    **Data.** A loss is called as `loss(y_true, y_pred, sample_weight)`; `call(y_true, y_pred, mask)` and the functions
    return the values of samples without weights or reduction. `y_true` has 0 and 1, soft labels in [0, 1], or class
    indices; `y_pred` has probabilities or logits. An axis of one class may be missing from either. Half precision is
    computed in float32. Values are `[B]`, in float32, or in float64 for a loss with `dtype="float64"` and for a
    function of float64 predictions. The value is 0 for a ratio whose pixels are all masked or ignored.

    **Weights and masks.** A `sample_weight` or Keras mask with one number per sample weights the values of samples, as
    in any Keras loss. With axes of pixels, or with `batch=True`, it weights pixels in the sums, where a scalar cancels
    but for `smooth`; so does the `mask` of `call` and of the functions: numbers >= 0 `[B, ...]` for pixels or for
    leading axes only, `[B, ..., 1]` or `[B, ..., C]`. An axis of pixels may have size 1, to broadcast. What has weight
    0 may be NaN; so may multiclass logits whose classes all have weight 0, since a softmax depends on all of them.

    **Cost**: linear in the number of pixels, in time and in memory.

    Raises:
        TypeError, ValueError: in the constructor for invalid arguments; at a call for data of a wrong kind, for shapes
            that do not match (only weights are broadcast), for values out of range (see `validate`); in `call` and the
            functions, for predictions with a Keras mask.

    Examples:
        >>> from multiloss.losses import OverlapLoss
        >>> class ErrorRate(OverlapLoss):
        ...     def losses(self, counts):
        ...         return self.ratio(counts.fp + counts.fn, counts.pixels)
        >>> round(float(ErrorRate()([[1, 1, 0, 0]], [[0.9, 0.4, 0.2, 0.1]])), 3)  # (0.1 + 0.6 + 0.2 + 0.1) / 4
        0.25
    """

    def __init__(
        self,
        *,
        mode: Mode | None = None,
        from_logits: bool = False,
        batch: bool = False,
        average: Average | None = "macro",
        classes: Sequence[int] | None = None,
        include_background: bool = True,
        class_weight: Sequence[float] | None = None,
        ignore_index: int | None = None,
        smooth: float | tuple[float, float] = 1e-5,
        squared: bool = False,
        soft_label: bool = False,
        empty: Empty = "penalize",
        label_smoothing: float = 0.0,
        thresh: float | None = None,
        data_format: DataFormat | None = None,
        validate: bool = True,
        across_replicas: bool | str = False,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(reduction=reduction, name=name, dtype=dtype)
        self._set_options(
            mode=mode,
            from_logits=from_logits,
            batch=batch,
            average=average,
            classes=classes,
            include_background=include_background,
            class_weight=class_weight,
            ignore_index=ignore_index,
            smooth=smooth,
            squared=squared,
            soft_label=soft_label,
            empty=empty,
            label_smoothing=label_smoothing,
            thresh=thresh,
            data_format=data_format,
            validate=validate,
            across_replicas=across_replicas,
        )

    @property
    def straight_through(self) -> bool:
        """Whether the gradient is not that of the values, on purpose: an attribute that `multiloss check` reads."""
        return self.thresh is not None

    def losses(self, counts: Counts) -> Tensor:
        """Return the loss `[R, C]` of each ratio, from its counts; a subclass defines this."""
        raise NotImplementedError(f"{type(self).__name__} must define `losses(counts)`")

    def transform(self, losses: Tensor) -> Tensor:
        """Return a function of the losses of ratios, elementwise; by default the losses as they are."""
        return losses

    def tversky(self, counts: Counts, alpha: float, beta: float) -> Tensor:
        """Return `1 - (tp + s / 2) / (tp + alpha fp + beta fn + s / 2)`, where s is `smooth`, to the last digit."""
        return ratios.tversky_loss(counts, alpha, beta, self)

    def _weights_of_false(self, alpha: float, beta: float) -> tuple[float, float]:
        """Return the weights of false positives and false negatives, checked."""
        if self.squared and alpha != beta:
            raise ValueError(f"`squared=True` needs `alpha` equal to `beta`. Received: alpha={alpha}, beta={beta}")
        return _arguments.non_negative("alpha", alpha), _arguments.non_negative("beta", beta)

    @staticmethod
    def ratio(above: Tensor, below: Tensor) -> Tensor:
        """Return `above / below`, and 0, with a gradient of 0, where the denominator is 0 or nearly so."""
        return ratios.ratio(above, below)

    def call(self, y_true: Any, y_pred: Any, mask: Any = None) -> Tensor:
        """Return the values of samples, or of the whole batch, neither weighted nor reduced."""
        if mask is None and keras_mask(y_pred) is not None:
            raise ValueError(
                f"`y_pred` has a Keras mask, which only an object can use: in `compile`, `{type(self).__name__}()` as "
                "a loss, `DiceCoefficient()` or `JaccardIndex()` as a metric. Elsewhere pass `mask`"
            )
        weights = {} if mask is None else {"mask": mask}
        m = inputs.masks(y_true, y_pred, weights, self, read=ranges.read(y_true, y_pred, self, tensors=False))
        return self._of_batch(ranges.marked(self._values(m)[0], m.outside, self))

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Tensor:
        """Return the reduced loss, or its values if `reduction` is None. The class describes the arguments."""
        read = ranges.read(y_true, y_pred, self, tensors=True)
        y_pred, weights = self._cast("y_pred", y_pred, sample_weight)
        inside, outside, left_out = {}, {}, None
        for name, weight in weights.items():
            if self.batch or any(size != 1 for size in tuple(weight.shape)[1:]):
                inside[name] = weight
                continue
            weight = ops.reshape(weight, (-1,)) if len(weight.shape) > len(y_pred.shape) else weight
            outside[name] = _arguments.weights(name, weight, y_pred, axes=1)
            zero = ops.equal(ops.reshape(weight, (-1,)), 0)
            left_out = zero if left_out is None else ops.logical_or(left_out, zero)
        y_true = distribution.unaveraged(y_true)
        m = inputs.masks(y_true, y_pred, inside, self, left_out=left_out, read=read)
        values, kept = self._values(m)
        values = self._of_batch(ranges.marked(values, m.outside, self))
        # One loss of the whole batch on every replica is to be divided whatever its reduction; Keras divides means.
        divided = not self.averaged and self.batch and self.across_replicas
        if not len(values.shape):
            return divided_by_replicas(values) if self.averaged or divided else values
        if kept is not None:
            kept, mask = ops.cast(self._of_batch(kept), values.dtype), outside.get("mask")
            fitted = mask if mask is None else ops.reshape(mask, (-1, 1)[: len(kept.shape)])
            outside["mask"] = kept if fitted is None else kept * fitted
        value = self._reduced(values, outside)
        return divided_by_replicas(value) if divided else value

    def _values(self, m: Masks) -> tuple[Tensor, Tensor | None]:
        """Return the values `[R]` or `[R, C]`, and which of them count in a mean; None if all do."""
        counts = self._pooled(Counts(m, self), m)
        losses = self._checked("losses", self._losses(m, counts), counts)
        losses = self._checked("transform", self.transform(ratios.where_empty(losses, counts, self)), counts)
        kept = None
        if self.empty == "skip":
            kept = ops.logical_not(counts.absent)
            if self.average == "macro" and kept.shape[1] > 1:
                kept = ops.logical_and(kept, class_weights(m, self) > 0)
            kept = kept if self.average is None else ops.any(kept, axis=1)
        return ratios.mean(losses, counts, m, self), kept

    def _checked(self, method: str, losses: Any, counts: Counts) -> Tensor:
        if not _arguments.has_shape(losses, counts.tp):
            raise ValueError(
                f"`{type(self).__name__}.{method}` must return a tensor of the shape of the counts, "
                f"{tuple(counts.tp.shape)}. Received {_arguments.described(losses)}"
            )
        return losses

    def _pooled(self, counts: Counts, m: Masks) -> Counts:
        """Return the counts of the ratios that are made of those of classes; by default one each."""
        return counts

    def _losses(self, m: Masks, counts: Counts) -> Tensor:
        """Return the losses of ratios, for those that take more than their counts."""
        return self.losses(counts)

    def _of_batch(self, values: Tensor) -> Tensor:
        return values[0] if self.batch else values


def of_function(options: RatioOptions) -> RatioOptions:
    """Return the options of a function, which has none about what is made of the values of samples."""
    for name in OverlapOptions.__annotations__.keys() - RatioOptions.__annotations__.keys():
        if name in options:
            raise TypeError(f"`{name}` is an argument of the class: the function returns values that are not reduced")
    return options
