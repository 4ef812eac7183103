"""The share of rows that a pairwise loss finds no positive for, for `compile(metrics=...)`."""

from typing import Any, final

import keras
from keras import backend, ops

from multiloss import _arguments
from multiloss._arguments import Tensor
from multiloss._base import keras_mask

__all__ = ["RowsWithoutPositives"]


@final
@keras.saving.register_keras_serializable(package="multiloss")
class RowsWithoutPositives(keras.metrics.Mean):  # type: ignore[misc]  # Keras has no types
    """Share of the rows whose label no other row of their batch has, of all rows seen.

    `SupConLoss` is 0 for such a row, and no loss draws it to any other: near 1, batches are too small for the number of
    labels, or do not have several rows of a label. Labels are compared as by the losses, exactly. It takes time
    O(B log B) and memory O(B).

    A `sample_weight` or a mask weights rows as in the losses: one of weight 0 is not counted, and still is a positive
    of others. (In `fit` on JAX, Keras hands no metric a mask.) On several devices, a batch is what one replica sees. 0
    before any update.

    Args:
        name: name of the metric.
        dtype: dtype of the sums, Keras's `floatx` by default; half precision is raised to float32, which counts 2^24
            rows exactly.
        ignore_label: None, or the label of rows that are not counted; for labels `[B, K]` a tuple of K integers.

    Raises:
        TypeError, ValueError: as the losses, for labels `[B]` or `[B, K]` and embeddings `[B, D]`.

    Examples:
        >>> from multiloss.metrics import RowsWithoutPositives
        >>> metric = RowsWithoutPositives()
        >>> metric.update_state([7, 7, 9], [[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]])
        >>> metric.update_state([9], [[0.0, 1.0]])
        >>> float(metric.result())
        0.5
    """

    batch_dependent = True  # for `multiloss check`: a row's positives are in its batch

    def __init__(
        self,
        name: str | None = "rows_without_positives",
        dtype: Any = None,
        *,
        ignore_label: int | tuple[int, ...] | None = None,
    ):
        self.ignore_label = _arguments.ignore_label(ignore_label)
        super().__init__(name=name, dtype=_arguments.at_least_float32(backend.standardize_dtype(dtype)))

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count the rows of a batch: labels, embeddings and the weights of rows."""
        x = _arguments.embeddings("embeddings", y_pred)
        labels = _arguments.labels("labels", y_true, "embeddings", x, split=True)
        counted = ops.ones_like(x[:, 0])
        for name, weight in (("sample_weight", sample_weight), ("mask", keras_mask(y_pred))):
            if weight is not None:
                weight = _arguments.weights(name, weight, x, 1, "embeddings")
                counted = counted * ops.cast(ops.reshape(weight, (-1,)[: len(weight.shape)]), counted.dtype)
        if self.ignore_label is not None:
            counted = counted * ops.cast(_arguments.labels_other_than(self.ignore_label, labels), counted.dtype)
        order = _order(labels)
        super().update_state(_alone(ops.take(labels, order, axis=0)), ops.take(counted, order, axis=0))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {**super().get_config(), "ignore_label": self.ignore_label}


def _order(labels: Tensor) -> Tensor:
    """Return the lexicographic order of labels `[B, K]`, by one stable sort for each column, the last one first."""
    order = ops.argsort(labels[:, -1])
    for k in range(labels.shape[1] - 2, -1, -1):
        order = ops.take(order, ops.argsort(ops.take(labels[:, k], order, axis=0)), axis=0)
    return order


def _alone(labels: Tensor) -> Tensor:
    """Return a mask `[B]` of the sorted labels that differ from the one before and the one after."""
    differs = ops.any(ops.not_equal(labels[1:], labels[:-1]), axis=1)
    end = ops.ones_like(labels[:1, 0], dtype="bool")
    return ops.logical_and(ops.concatenate([end, differs], axis=0), ops.concatenate([differs, end], axis=0))
