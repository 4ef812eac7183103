"""Dice coefficient and Jaccard index of all that was seen, for `compile(metrics=...)`."""

from collections.abc import Sequence
from typing import Any, Literal, final

import keras
from keras import ops

from multiloss import _arguments
from multiloss._arguments import Tensor
from multiloss._base import keras_mask, snake_case
from multiloss.overlap._engine import inputs, ranges, ratios
from multiloss.overlap._engine.options import DataFormat, Mode, Options
from multiloss.overlap._engine.sums import Counts

__all__ = ["DiceCoefficient", "JaccardIndex"]


class _StreamingIndex(keras.metrics.Metric, Options):  # type: ignore[misc]  # Keras has no types
    """An index of true positives, false positives and false negatives, added up from batch to batch."""

    batch = True
    _wrong: float  # weight of the wrong ones beside that of the true positives
    _options = (
        *("thresh", "average", "mode", "from_logits", "classes", "include_background", "class_weight"),
        *("ignore_index", "data_format", "validate"),
    )

    def __init__(
        self,
        thresh: float | None = 0.5,
        *,
        average: Literal["macro"] | None = "macro",
        mode: Mode | None = None,
        from_logits: bool = False,
        classes: Sequence[int] | None = None,
        include_background: bool = True,
        class_weight: Sequence[float] | None = None,
        ignore_index: int | None = None,
        data_format: DataFormat | None = None,
        validate: bool = True,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(name=name or snake_case(type(self).__name__), dtype=dtype)
        self._set_options(
            thresh=thresh,
            average=_arguments.one_of("average", average, ("macro", None)),
            mode=mode,
            from_logits=from_logits,
            classes=classes,
            include_background=include_background,
            class_weight=class_weight,
            ignore_index=ignore_index,
            data_format=data_format,
            validate=validate,
        )
        self._counts: Any = None

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add the counts of a batch. A `sample_weight` weights samples, or pixels, as the `mask` of a loss does.

        So does the mask that Keras attached to predictions.
        """
        given = {"sample_weight": sample_weight, "mask": keras_mask(y_pred)}
        weights = {name: weight for name, weight in given.items() if weight is not None}
        m = inputs.masks(y_true, y_pred, weights, self, read=ranges.read(y_true, y_pred, self, tensors=True))
        c = Counts(m, self)
        counts = ops.cast(ops.concatenate([c.tp, c.fp, c.fn], axis=0), "float32")
        counts = ranges.marked(counts, m.outside, self)
        shape = tuple(counts.shape)
        if self._counts is not None and tuple(self._counts.shape) != shape:
            raise ValueError(
                f"`y_pred` must have the {self._counts.shape[1]} classes of the batches before. Received: {shape[1]}"
            )
        if self._counts is None:
            self._counts = self.add_variable(shape, initializer="zeros", dtype="float32", name="counts")
            self._lost = self.add_variable(shape, initializer="zeros", dtype="float32", name="lost")
        # Compensated (Kahan): from 2^24 pixels on, float32 would lose single ones.
        before = _value(self._counts)
        counts = counts - _value(self._lost)
        total = before + counts
        self._lost.assign((total - before) - counts)
        self._counts.assign(total)

    def result(self) -> Tensor:
        """Return the index of everything added: a scalar, or `[C]` for `average=None`."""
        if self._counts is None:
            return ops.zeros((), dtype=self.dtype)
        tp, fp, fn = ops.unstack(_value(self._counts) - _value(self._lost))
        wrong = self._wrong * (fp + fn)
        seen = ops.logical_not(tp + wrong <= 0)  # nor is NaN
        index = ratios.ratio(tp, tp + wrong, default=1.0)
        if self.average is None:
            return ops.cast(ops.where(seen, index, ops.full_like(index, float("nan"))), self.dtype)
        weights = ops.cast(seen, index.dtype)
        if self.class_weight is not None:
            chosen = [self.class_weight[c] for c in self._counted(len(self.class_weight))]
            weights = weights * ops.convert_to_tensor(chosen, dtype=weights.dtype)
        return ops.cast(ratios.ratio(ops.sum(weights * index), ops.sum(weights), default=1.0), self.dtype)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {**super().get_config(), **{name: getattr(self, name) for name in self._options}}


def _value(variable: Any) -> Tensor:
    # Twice: Keras before 3.12, on torch, leaves a variable's value on the device that it last tried to trace on, which
    # only the second moves.
    return ops.convert_to_tensor(ops.convert_to_tensor(variable))


@final
@keras.saving.register_keras_serializable(package="multiloss")
class DiceCoefficient(_StreamingIndex):
    """Dice coefficient of everything seen, from counts added up over batches, of whatever sizes.

        2 tp / (2 tp + fp + fn) of each class, in the mean over the classes that were seen, in truth or prediction

    Unlike the mean of the coefficients of batches, which is what Keras makes of a function as a metric, it does not
    depend on how the data are divided into batches. 1 if nothing was seen in truth or prediction, 0 before any update.

    Args:
        thresh: a number in (0, 1) above which a prediction counts as 1, or None to count predictions as they are.
        average: "macro" for the mean over classes, weighted by `class_weight`, or None for each class, `[C]`, NaN for
            those not seen.
        name: name of the metric.
        dtype: dtype of the result. Counts of whole numbers are exact while one batch has at most 2^24 pixels a class,
            up to 2^47 in all.
        mode: as in `OverlapLoss`, and so are the other options.

    Raises:
        TypeError, ValueError: as `DiceLoss`.

    Example:
        >>> from multiloss.metrics import DiceCoefficient
        >>> metric = DiceCoefficient(thresh=0.5)
        >>> metric.update_state([[1, 1, 0, 0]], [[0.9, 0.4, 0.2, 0.1]])  # tp 1, fn 1
        >>> metric.update_state([[0, 0], [1, 0]], [[0.9, 0.4], [0.6, 0.1]])  # tp 1, fp 1
        >>> round(float(metric.result()), 4)  # 4 / 6
        0.6667
    """

    _wrong = 0.5


@final
@keras.saving.register_keras_serializable(package="multiloss")
class JaccardIndex(_StreamingIndex):
    """Jaccard index (intersection over union) of everything seen, from counts added up over batches.

        tp / (tp + fp + fn) of each class, in the mean over the classes that were seen, in truth or prediction

    Else as `DiceCoefficient`, with the same arguments.

    Example:
        >>> from multiloss.metrics import JaccardIndex
        >>> metric = JaccardIndex(mode="multiclass", average=None, thresh=None)
        >>> metric.update_state([[0, 1, 1]], [[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]])
        >>> [float(index) for index in metric.result()]
        [0.5, 0.5]
    """

    _wrong = 1.0
