"""What the metrics share: hard labels, sums added up from batch to batch, indices of counts, names of classes."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import keras
import numpy as np
from keras import ops

from multiloss import _arguments
from multiloss._arguments import Tensor
from multiloss._base import keras_mask, snake_case
from multiloss.overlap._engine import inputs, ranges, ratios, sums
from multiloss.overlap._engine.inputs import Masks
from multiloss.overlap._engine.options import DataFormat, Mode, Options
from multiloss.overlap._engine.sums import Counts

Average = Literal["macro", "micro", "weighted"]
Empty = Literal["skip_unseen", "skip", "formula", "worst"]

# How far indices may leave their range: truth and predictions may by rounding, and products of them more.
_ROUNDING = 4 * ranges.ROUNDING


class StreamingMetric(keras.metrics.Metric, Options):  # type: ignore[misc]  # Keras has no types
    """Sums of every batch, of which a result is made at any time."""

    batch = True
    thresh: float | None = 0.5
    _needs_negatives = True  # whether the result depends on how many true negatives there are

    def __init__(self, name: str | None, dtype: Any, **given: Any):
        super().__init__(name=name or snake_case(type(self).__name__), dtype=dtype)
        self._takes = tuple(given)
        if given["sparse_y_pred"] and given["mode"] is None:
            given["mode"] = "multiclass"
        self._set_options(**given)
        self._classes = self._number_of_classes()
        self._check_options()
        # How pixels are counted: by class, whatever `average` is, and labels are those of this class.
        self._counting = Options()
        self._counting.classes, self._counting.include_background = self.classes, self.include_background
        self._counting.batch = self.batch
        self._sums: Any = None
        shape = self._shape(self._classes)
        if shape is not None:
            self._build(shape)

    def _number_of_classes(self) -> int | None:
        """Return how many classes there must be, if an option tells it."""
        told = {"num_classes": self.num_classes}
        told |= {name: len(getattr(self, name) or ()) or None for name in ("class_names", "class_weight")}
        sizes = {name: size for name, size in told.items() if size}
        if len({*sizes.values()}) > 1:
            found = ", ".join(f"{size} of `{name}`" for name, size in sizes.items())
            raise ValueError(f"`num_classes` must be as many as are named or weighted. Received: {found}")
        if self.mode == "binary" and max(sizes.values(), default=1) > 1:
            raise ValueError(f"`{min(sizes)}` of {max(sizes.values())} classes needs a class axis. Received: 'binary'")
        return next(iter(sizes.values()), 1 if self.mode == "binary" else None)

    def _check_options(self) -> None:
        """Refuse options that exclude each other."""
        if self.sparse_y_pred:
            if self._classes is None:
                raise ValueError("`num_classes` must be given for `sparse_y_pred=True`. Received: None")
            if self.mode != "multiclass" or self.from_logits:
                what = "from_logits=True" if self.mode == "multiclass" else f"mode={self.mode!r}"
                raise ValueError(f"`sparse_y_pred=True` is for class indices, of mode='multiclass'. Received: {what}")
        if self.mode == "multiclass":
            self._check_thresh()
        if self._classes is not None:
            if self.classes is not None and max(self.classes) >= self._classes:
                raise ValueError(f"`classes` must be less than {self._classes} classes. Received: {self.classes}")
            if self._classes == 1 and not self.include_background:
                raise ValueError("`include_background=False` leaves no class of 1")

    def _check_thresh(self) -> None:
        if self.thresh not in (None, type(self).thresh):
            raise ValueError(
                "`thresh` must be left at its default, or be None for soft counts, for classes that exclude each "
                f"other: the most probable one is the label. Received: {self.thresh}"
            )

    def _shape(self, classes: int | None) -> tuple[int, ...] | None:
        """Return the shape of the sums of so many classes; None if it depends on classes, which are not known."""
        raise NotImplementedError

    def _is_of_sums(self, shape: tuple[int, ...]) -> bool:
        """Return whether sums can have a shape, of whatever number of classes."""
        raise NotImplementedError

    def _of_batch(self, m: Masks, sample_weight: Any) -> Tensor:
        """Return the sums of a batch of hard labels `m.p`."""
        raise NotImplementedError

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch, of B = 0 samples or more.

        The mask that Keras attached to predictions weights them too. (In `fit` on JAX, Keras hands no metric a mask.)

        Args:
            y_true: class indices `[B, ...]`, or labels in [0, 1] of the shape of `y_pred`; integers, booleans, floats.
            y_pred: probabilities, or logits, `[B, ..., C]` or of a mask `[B, ...]`, of any float dtype; class indices
                `[B, ...]` with `sparse_y_pred`. An axis of one class may be missing in either.
            sample_weight: None, or weights of samples, `[B]`, or of pixels, `[B, ...]`. What has weight 0 may be
                anything.

        Raises:
            TypeError, ValueError: for shapes, dtypes, values where they are read, and numbers of classes that do not
                fit, or not to the batches before. Nothing is added then.
        """
        given = {"sample_weight": sample_weight, "mask": keras_mask(y_pred)}
        weights = {name: weight for name, weight in given.items() if weight is not None}
        m = inputs.masks(y_true, y_pred, weights, self, read=ranges.read(y_true, y_pred, self, tensors=True))
        added = ops.cast(self._of_batch(m._replace(p=self._labels(m)), sample_weight), "float32")
        shape = tuple(added.shape)
        if self._sums is None:
            self._build(shape)
        if tuple(self._sums.shape) != shape:
            raise ValueError(
                f"`y_pred` must have the classes of the batches before, for sums of shape {tuple(self._sums.shape)}. "
                f"Received: {m.p.shape[-1]} classes, for sums of shape {shape}"
            )
        # Compensated (Kahan): from 2^24 pixels on, float32 would lose single ones.
        before = _value(self._sums)
        added = added - _value(self._lost)
        total = before + added
        self._lost.assign((total - before) - added)
        self._sums.assign(total)

    def _build(self, shape: tuple[int, ...]) -> None:
        self._sums = self.add_variable(shape, initializer="zeros", dtype="float32", name="sums")
        self._lost = self.add_variable(shape, initializer="zeros", dtype="float32", name="lost")

    def _labels(self, m: Masks) -> Tensor:
        """Return predictions as labels of 0 and 1, NaN where they are, or as they are without `thresh`."""
        if self.sparse_y_pred:
            return ops.where(ops.logical_or(m.p < 0, m.p > 1), ops.zeros_like(m.p), m.p)
        if m.mode != "multiclass":
            return sums.thresholded(m.p, self.thresh)
        self._check_thresh()
        if self.thresh is None:
            return m.p
        scores = m.p if m.logits is None else m.logits  # of which a softmax may make equal probabilities
        labels = ops.one_hot(ops.argmax(scores, axis=-1), scores.shape[-1], dtype=scores.dtype)
        # All of the pixel: which class is the most probable one beside NaN differs by backend.
        return ops.where(ops.any(ops.isnan(scores), axis=-1, keepdims=True), float("nan"), labels)

    def _negatives(self, c: Counts) -> Tensor:
        """Return true negatives, as a difference where it is exact, or where there need only be some number of them."""
        whole = self.thresh is not None and not c.weighted
        return c.pixels - c.tp - c.fp - c.fn if whole or not self._needs_negatives else c.tn

    def _totals(self) -> Tensor:
        dtype = _arguments.at_least_float32(self.dtype)
        return ops.cast(_value(self._sums), dtype) - ops.cast(_value(self._lost), dtype)

    def state(self) -> np.ndarray:
        """Return what was added up, for `merge_state` in another process.

        Returns:
            a NumPy array of float64: counts of each class, `[4, C]` (true positives, false positives, false negatives,
            true negatives: exact only where the metric needs them), sums over samples, `[3, ...]`, or the counts of a
            confusion matrix. Of shape `[0]` if there was no update, and nothing told the number of classes.
        """
        if self._sums is None:
            return np.zeros(0)
        total, lost = (np.asarray(ops.convert_to_numpy(part), np.float64) for part in (self._sums, self._lost))
        return np.asarray(total - lost)

    def merge_state(self, *states: Any) -> None:
        """Add what `state()` returned of metrics with the same options, those of shape `[0]` included.

        Raises:
            TypeError: for what is no state.
            ValueError: for states of different shapes. Nothing is added then.
        """
        arrays = [array for array in map(self._checked_state, states) if array.shape != (0,)]
        shapes = [*({tuple(self._sums.shape)} if self._sums is not None else ()), *(array.shape for array in arrays)]
        if len({*shapes}) > 1:
            raise ValueError(f"`states` must be of the same options and classes. Received shapes: {shapes}")
        if not arrays:
            return
        if self._sums is None:
            self._build(shapes[0])
        total = self.state() + sum(arrays)
        rounded = total.astype(np.float32)
        self._sums.assign(rounded)
        self._lost.assign((rounded - total).astype(np.float32))

    def _checked_state(self, state: Any) -> np.ndarray:
        try:
            array = np.asarray(state, np.float64)
        except (TypeError, ValueError):
            received = type(state).__name__
        else:
            if array.shape == (0,) or self._is_of_sums(array.shape):
                return array
            received = f"shape {array.shape}"
        raise TypeError(f"`states` must be arrays that `state()` returned. Received: {received}")

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {**super().get_config(), **{name: getattr(self, name) for name in self._takes}}


def _value(variable: Any) -> Tensor:
    # Twice: Keras before 3.12, on torch, leaves a variable's value on the device that it last tried to trace on, which
    # only the second moves.
    return ops.convert_to_tensor(ops.convert_to_tensor(variable))


class IndexMetric(StreamingMetric):
    """An index of true and false positives and negatives. `DiceCoefficient` says what its arguments are."""

    samplewise: bool
    _least = 0.0  # the least index
    _unseen = 1.0  # that of what is in neither truth nor prediction
    _unweighted: tuple[str, ...] = ("weighted",)  # for which there is no `class_weight`

    def __init__(
        self,
        thresh: float | None = 0.5,
        *,
        average: Average | None = "macro",
        samplewise: bool = False,
        empty: Empty = "skip_unseen",
        mode: Mode | None = None,
        from_logits: bool = False,
        sparse_y_pred: bool = False,
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        classes: Sequence[int] | None = None,
        include_background: bool = True,
        class_weight: Sequence[float] | None = None,
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
            average=average,
            samplewise=samplewise,
            empty=empty,
            mode=mode,
            from_logits=from_logits,
            sparse_y_pred=sparse_y_pred,
            num_classes=num_classes,
            class_names=class_names,
            classes=classes,
            include_background=include_background,
            class_weight=class_weight,
            ignore_index=ignore_index,
            data_format=data_format,
            validate=validate,
        )

    @classmethod
    def _checks(cls) -> dict[str, Callable[[str, Any], Any]]:
        return {
            **super()._checks(),
            "average": lambda name, value: _arguments.one_of(name, value, (*get_args(Average), None)),
            "empty": lambda name, value: _arguments.one_of(name, value, get_args(Empty)),
        }

    def _check_options(self) -> None:
        super()._check_options()
        self.batch = not self.samplewise
        if self.class_weight is not None and self.average in self._unweighted:
            raise ValueError(f"`class_weight` must be None for average={self.average!r} of {type(self).__name__}")

    def _index(self, tp: Tensor, fp: Tensor, fn: Tensor, tn: Tensor) -> Tensor:
        """Return the index of each count, 0 for 0 / 0."""
        raise NotImplementedError

    def _micro(self, counts: Tensor, among: Tensor) -> Tensor:
        """Return the index `[R, 1]` of all classes, of counts `[4, R, C]`, and of those weighted and not ignored."""
        return self._index(*ops.unstack(ops.sum(among, axis=-1, keepdims=True)))

    def _shape(self, classes: int | None) -> tuple[int, ...] | None:
        if self.samplewise and self.average is not None and self.class_names is None:
            return (3, 1)
        if classes is None:
            return None
        counted = len(self._counted(classes))
        return (3, counted + (self.average is not None)) if self.samplewise else (4, counted)

    def _is_of_sums(self, shape: tuple[int, ...]) -> bool:
        return len(shape) == 2 and shape[0] == (3 if self.samplewise else 4)

    def _of_batch(self, m: Masks, sample_weight: Any) -> Tensor:
        c = Counts(m, self._counting)
        counts = ops.stack([c.tp, c.fp, c.fn, self._negatives(c)])
        counts = ranges.marked(counts, m.outside, self)  # [4, R, C]
        if not self.samplewise:
            return counts[:, 0]
        values, kept = self._columns(counts)
        weight = ops.cast(_of_samples(sample_weight, values), values.dtype)
        seen = ops.broadcast_to(_seen(counts), ops.shape(values))
        parts = (ops.where(kept, values, ops.zeros_like(values)), *(ops.cast(x, values.dtype) for x in (kept, seen)))
        return ops.stack([ops.sum(part * weight, axis=0) for part in parts])

    def _columns(self, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is reported of counts `[4, R, C]`: indices `[R, K]`, and which of them count.

        These are those of the classes, if they are asked for, and then that of all classes, if it is.
        """
        columns, first = counts.shape[-1], 0 if self.include_background else 1
        chosen = self.classes or range(first, first + columns)
        # A class that is ignored has no truth, but may be predicted where there is truth of others.
        ignored = self.ignore_index if self._exclusive(columns) else None
        named = ops.convert_to_tensor([[c != ignored for c in chosen]], dtype="bool")
        among = ops.where(named, counts, ops.zeros_like(counts))
        values, kept = self._with_empty(self._index(*ops.unstack(among)), among)
        if self.average is None:
            return values, kept
        if self.class_weight is not None:
            weights = ops.convert_to_tensor([[self.class_weight[c] for c in chosen]], dtype=counts.dtype)
            among = among * weights
        else:
            weights = ops.ones_like(counts[0, :1])
        if self.average == "micro":
            one, some = self._with_empty(self._micro(counts, among), ops.sum(among, axis=-1, keepdims=True))
        else:
            weights = among[0] + among[2] if self.average == "weighted" else weights
            weights = ops.where(kept, weights, ops.zeros_like(weights))
            total = ops.sum(weights, axis=-1, keepdims=True)
            values_kept = ops.where(kept, values, ops.zeros_like(values))
            one = ratios.ratio(ops.sum(values_kept * weights, axis=-1, keepdims=True), total)
            some = ops.any(kept, axis=-1, keepdims=True)
            if self.average == "macro":  # classes of weight 0 do not count
                some = ops.logical_not(total <= 0)
        if self.class_names is None:
            return one, some
        return ops.concatenate([values, one], axis=-1), ops.concatenate([kept, some], axis=-1)

    def _exclusive(self, columns: int) -> bool:
        """Return whether classes exclude each other, so that labels are their indices, and not 0 and 1."""
        if self.mode is None:  # then the shapes tell, and so do options that a mask does not take
            return columns > 1 or self.classes is not None or not self.include_background
        return self.mode == "multiclass"

    def _with_empty(self, values: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Return indices `[R, C]` with what `empty` says, and which of them count, which is not the same as NaN."""
        beyond = ops.logical_or(values < self._least - _ROUNDING, values > 1 + _ROUNDING)
        values = ops.where(beyond, ops.full_like(values, float("nan")), ops.clip(values, self._least, 1.0))
        tp, fp, fn, _ = ops.unstack(counts)
        # Not `<= 0`, as soft counts of masks of 255 are, which are not empty.
        absent, unseen = ops.equal(tp + fn, 0), ops.equal(tp + fp + fn, 0)
        if self.empty == "formula":
            values = ops.where(unseen, ops.full_like(values, self._unseen), values)
        elif self.empty == "worst":
            values = ops.where(absent, ops.zeros_like(values), values)
        else:
            return values, ops.logical_not(absent if self.empty == "skip" else unseen)
        return values, ops.logical_not(ops.sum(counts, axis=0) <= 0)

    def result(self) -> Any:
        """Return the index of everything added: a scalar, `[C]` for `average=None`, or a dictionary with `class_names`.

        0 if nothing was added.
        """
        if self._sums is None:
            if self.average is None:
                raise ValueError("`num_classes` must be given for a result before the first update, of average=None")
            return ops.zeros((), dtype=self.dtype)
        totals = self._totals()
        if self.samplewise:
            total, number, seen = ops.unstack(totals)
            values, kept, seen = ratios.ratio(total, number), ops.logical_not(number <= 0), ops.logical_not(seen <= 0)
        else:
            counts = totals[:, None]
            columns, seen = self._columns(counts), _seen(counts)[0]
            values, kept = columns[0][0], columns[1][0]
        missing = [float("nan")] * values.shape[0]
        if self.average is not None and self.empty == "skip_unseen":
            missing[-1] = self._unseen
        values = ops.where(kept, values, ops.convert_to_tensor(missing, dtype=values.dtype))
        values = ops.cast(ops.where(seen, values, ops.zeros_like(values)), self.dtype)
        if self.class_names is None:
            return values if self.average is None else values[0]
        names = [f"{self.name}_{self.class_names[c]}" for c in self._counted(len(self.class_names))]
        return dict(zip([*names, self.name], ops.unstack(values), strict=self.average is not None))


def _seen(counts: Tensor) -> Tensor:
    """Return which rows of counts `[4, R, C]` have pixels, `[R, 1]`."""
    return ops.logical_not(ops.sum(counts, axis=(0, -1))[:, None] <= 0)


def _of_samples(sample_weight: Any, values: Tensor) -> Tensor:
    """Return the weights of samples, `[B, 1]` or a scalar: 1 where pixels have weights of their own."""
    weight = ops.ones(()) if sample_weight is None else _arguments.floats("sample_weight", sample_weight)
    if any(size != 1 for size in weight.shape[1:]):
        return ops.ones(())
    return ops.reshape(weight, (-1, 1)) if len(weight.shape) else weight
