"""Confusion matrix of all that was seen, for `compile(metrics=...)`."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, final

import keras
import numpy as np
from keras import ops

from multiloss import _arguments
from multiloss._arguments import Tensor
from multiloss.overlap._engine import ranges, ratios
from multiloss.overlap._engine.inputs import Masks
from multiloss.overlap._engine.options import DataFormat, Mode
from multiloss.overlap._engine.sums import Counts
from multiloss.overlap._metric import StreamingMetric

__all__ = ["ConfusionMatrix"]

# Pixels are added up in blocks, since sums of float32 one by one are off by up to 5e-4 after some million.
_BLOCKS = 512
_MOST_SUMS = 2**20
# Of more classes, the numbers would not be legible.
_MOST_NUMBERS = 24
# The width of a cell of `plot`'s own figure, in widths of a letter of 1 point.
_CELL = 60


@final
@keras.saving.register_keras_serializable(package="multiloss")
class ConfusionMatrix(StreamingMetric):
    """How many pixels of each class were predicted as each class, of everything seen.

    Rows are truth, columns are predictions, as in scikit-learn, Keras and torchmetrics: `[C, C]` for classes that
    exclude each other, `[[tn, fp], [fn, tp]]` in binary mode, and `[C, 2, 2]` of those in multilabel mode. Predictions
    and truth count as hard labels: the most probable class (of equal ones the first), or what is above `thresh`.
    Fawcett 2006, doi:10.1016/j.patrec.2005.10.010, section 2, whose matrix is the transpose.

    Args:
        thresh: a number in (0, 1) above which a prediction counts as 1, in modes "binary" and "multilabel".
        normalize: None for counts, "true" for shares of the pixels that are of a class (of each row), "pred" of those
            that are predicted so (of each column), or "all" of all pixels. 0 / 0 is 0.
        class_names: a name for each class, for `plot`; in binary mode one of what is in the mask, or two.
        mode: as in `DiceCoefficient`, and so are `from_logits`, `sparse_y_pred`, `num_classes`, `ignore_index`,
            `data_format`, `validate` and `name`.
        dtype: dtype of the result; counts are as exact as those of `DiceCoefficient`, in the result above 2^24 only for
            "float64" (as in `state()`).

    Raises:
        TypeError, ValueError: as `DiceCoefficient`, and for a `sample_weight` of classes.

    Examples:
        >>> from multiloss.metrics import ConfusionMatrix
        >>> metric = ConfusionMatrix(num_classes=3, sparse_y_pred=True)
        >>> metric.update_state([0, 1, 1, 2], [0, 1, 2, 2])
        >>> [[int(count) for count in row] for row in metric.result()]
        [[1, 0, 0], [0, 1, 1], [0, 0, 1]]
    """

    def __init__(
        self,
        thresh: float = 0.5,
        *,
        normalize: Literal["true", "pred", "all"] | None = None,
        mode: Mode | None = None,
        from_logits: bool = False,
        sparse_y_pred: bool = False,
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        ignore_index: int | None = None,
        data_format: DataFormat | None = None,
        validate: bool = True,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(
            name,
            dtype,
            thresh=thresh,
            normalize=normalize,
            mode=mode,
            from_logits=from_logits,
            sparse_y_pred=sparse_y_pred,
            num_classes=num_classes,
            class_names=class_names,
            ignore_index=ignore_index,
            data_format=data_format,
            validate=validate,
        )

    @classmethod
    def _checks(cls) -> dict[str, Callable[[str, Any], Any]]:
        return {
            **super()._checks(),
            "thresh": lambda name, value: _arguments.number(name, value, "a number in (0, 1)", lambda v: 0 < v < 1),
            "normalize": lambda name, value: _arguments.one_of(name, value, ("true", "pred", "all", None)),
        }

    def _number_of_classes(self) -> int | None:
        # Two names may be of what is not in a mask, and what is.
        if len(self.class_names or ()) != 2 or self.mode not in ("binary", None) or self.num_classes is not None:
            return super()._number_of_classes()
        return 1 if self.mode == "binary" else None

    def _shape(self, classes: int | None) -> tuple[int, ...] | None:
        if classes is None:
            return None
        if self.mode == "multilabel":
            return (classes, 2, 2)
        return (2, 2) if classes == 1 else (classes, classes)

    def _is_of_sums(self, shape: tuple[int, ...]) -> bool:
        return len(shape) == 2 + (self.mode == "multilabel") and shape[-1] == shape[-2]

    def _of_batch(self, m: Masks, sample_weight: Any) -> Tensor:
        names = self.class_names
        if names is not None and m.mode != "binary" and len(names) != m.p.shape[-1]:
            raise ValueError(
                f"`y_pred` must have {len(names)} classes, as many as `class_names`. Received: {m.p.shape[-1]}"
            )
        if m.mode == "multiclass":
            matrix = self._of_classes(m)
        else:
            c = Counts(m, self._counting)
            cells = ops.stack([self._negatives(c)[0], c.fp[0], c.fn[0], c.tp[0]], axis=-1)
            matrix = ops.reshape(cells, (2, 2) if m.mode == "binary" else (-1, 2, 2))
        return ranges.marked(matrix, m.outside, self)

    def _of_classes(self, m: Masks) -> Tensor:
        """Return the sums of weights of pixels of each class of truth and of predictions, `[C, C]`."""
        classes = m.p.shape[-1]
        # A pixel may be of no class, and so may a class index that was not checked.
        known = ops.logical_and(ops.any(m.t > 0, axis=-1), ops.any(m.p > 0, axis=-1))
        weight = ops.cast(known, m.p.dtype)
        if m.weight is not None:
            if m.weight.shape[-1] != 1:
                raise ValueError("`sample_weight` must be of pixels for a confusion matrix. Received one of classes")
            weight = weight * m.weight[..., 0]
        weight = ops.where(ops.any(ops.isnan(m.p), axis=-1), float("nan"), weight)
        cell = ops.argmax(m.t, axis=-1) * classes + ops.argmax(m.p, axis=-1)
        cell, weight = (ops.reshape(x, (-1,)) for x in (ops.cast(cell, "int32"), weight))
        blocks = max(1, min(_BLOCKS, _MOST_SUMS // classes**2))
        block = ops.arange(ops.shape(cell)[0], dtype="int32") % blocks
        added = ops.segment_sum(weight, block * classes**2 + cell, num_segments=blocks * classes**2)
        return ops.reshape(ops.sum(ops.reshape(added, (blocks, -1)), axis=0), (classes, classes))

    def result(self) -> Tensor:
        """Return the matrix of everything added. Before the first update, this needs `num_classes`."""
        if self._sums is None:
            raise ValueError("`num_classes` must be given for a result before the first update")
        counts = self._totals()
        axes = {"true": -1, "pred": -2, "all": (-2, -1)}
        if self.normalize is not None:
            counts = ratios.ratio(counts, ops.sum(counts, axis=axes[self.normalize], keepdims=True))
        return ops.cast(counts, self.dtype)

    def plot(self, ax: Any = None) -> Any:
        """Draw the matrix, with its numbers, and return the axes of matplotlib, which is needed for it.

        Args:
            ax: axes to draw on, None for those of a new figure, which `pyplot.close` closes. In multilabel mode a
                sequence of them, one a class.
        """
        try:
            from matplotlib import pyplot
        except ImportError as error:
            raise ImportError("`ConfusionMatrix.plot` needs matplotlib: pip install matplotlib") from error
        matrix = np.asarray(ops.convert_to_numpy(self.result()), np.float64)
        several = len(matrix.shape) == 3
        matrices = matrix if several else matrix[None]
        size = matrix.shape[-1]
        if ax is None:
            side = 2.0 + min(0.6 * size, 12)
            _, ax = pyplot.subplots(
                1, len(matrices), squeeze=False, figsize=(side * len(matrices), side), layout="constrained"
            )
            ax = list(ax[0]) if several else ax[0, 0]
        for c, (each, numbers) in enumerate(zip(ax if several else [ax], matrices, strict=True)):
            names = self.class_names or range(len(matrix))
            labels = [str(name) for name in names]
            if several or len(labels) < size:
                labels = [f"not {labels[c]}", labels[c]]
            _draw(each, numbers, labels, "{:.0f}" if self.normalize is None else "{:.2f}")
        return ax


def _draw(ax: Any, matrix: np.ndarray, labels: list[str], number: str) -> None:
    ax.imshow(matrix, cmap="Blues", vmin=0)
    long = any(len(label) > 4 for label in labels)
    turned = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if long else {}
    ax.set_xticks(range(len(labels)), labels, **turned)
    ax.set_yticks(range(len(labels)), labels)
    ax.set_xlabel("prediction")
    ax.set_ylabel("truth")
    if len(labels) > _MOST_NUMBERS:
        return
    for (row, column), value in np.ndenumerate(matrix):
        whole = float(value).is_integer() or number != "{:.0f}"
        text = (number if whole else "{:.3g}").format(value)
        color = "white" if value > matrix.max() / 2 else "black"
        ax.text(column, row, text, ha="center", va="center", color=color, fontsize=min(10, _CELL / len(text)))
